// The cost model of pruning/cost.py and the width rule of pruning/plan.py, from the same table (pruning/cost_table.py).
// A test holds both against Python on random ratios: nothing here may be rounded.

/** Channels kept of n at a ratio, as plan.realised_width. */
export function realisedWidth(n, ratio, step, minimum) {
  const wanted = Math.ceil((1 - ratio) * n - 1e-9);
  return Math.min(n, Math.max(minimum, Math.ceil(wanted / step) * step));
}

/** {group: width} for {dimension: ratio}: rounding, ties, minimums. Groups without a ratio stay whole. */
export function widthsOf(table, sizes, ratios) {
  const asked = new Map(table.dimensions.flatMap((dimension) => dimension.groups.map((group) => [group, ratios[dimension.name] ?? 0])));
  const widths = { ...sizes };
  for (const tie of table.rule) {
    const ratio = tie.groups.map((group) => asked.get(group)).find((found) => found !== undefined);
    if (ratio === undefined) continue;
    tie.groups.forEach((group, at) => { widths[group] = tie.steps[at] * realisedWidth(tie.n, ratio, tie.step, tie.minimum); });
  }
  return widths;
}

/** How many channels every column holds; column 0 is the constant 1. */
export function countsOf(cost, widths, removed) {
  const along = cost.groups.map((group) => widths[group]), sum = (form) => form.reduce((total, [at, weight]) => total + weight * along[at], 0);
  return cost.columns.map((column, at) => (at === 0 ? 1 : sum(column.of) - removed.reduce((total, block) => total + sum((column.less || {})[block] || []), 0)));
}

/** Exact {params, macs} of widths without some blocks, at an input size. */
export function costOf(cost, widths, removed, imgsz) {
  const counts = countsOf(cost, widths, removed), gone = new Set(removed.map((block) => cost.blocks.indexOf(block)));
  const total = (terms) => terms.reduce((sum, [factor, i, j, ...blocks]) => (blocks.some((block) => gone.has(block)) ? sum : sum + factor * counts[i] * counts[j]), 0);
  return { params: Math.round(total(cost.params)), macs: Math.round(total(cost.macs[String(imgsz)] || Object.values(cost.macs)[0])), counts };
}

/** Milliseconds by a linear model over layers: constant + a in out + b in + c out each, with widths rounded up to whole
 * tiles, as kernels see them. Null where there is no model. */
export function latencyOf(model, cost, widths, removed, imgsz) {
  if (!model || (model.imgsz && model.imgsz !== imgsz)) return null;
  const tile = model.tile || 1, tiled = Object.fromEntries(Object.entries(widths).map(([group, width]) => [group, Math.ceil(width / tile) * tile]));
  const counts = countsOf(cost, tiled, removed);
  const withLevels = (name) => (cost.gone || {})[name] && cost.gone[name].every((level) => removed.includes(level));
  const there = Object.entries(model.layers || {}).filter(([name]) => !withLevels(name) && !removed.some((block) => name.startsWith(`${block}.`)));
  return there.reduce((sum, [name, { per_product: a = 0, per_input: b = 0, per_output: c = 0, constant = 0 }]) => {
    const [out, into] = (cost.layers[name] || [0, 0]).map((column) => counts[column]);
    return sum + a * into * out + b * into + c * out + constant;
  }, model.constant_ms || 0);
}
