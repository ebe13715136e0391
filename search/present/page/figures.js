"use strict";
// Figures from plain rows: each function returns {data, layout} for Plotly and touches no element.

function theme() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const names = ["panel", "ink", "muted", "line", "grid", "accent", "faint", "kept", "cut", "front", "pick", "base", "bad"];
  const scale = [0, 1, 2, 3, 4].map((step) => [step / 4, colour(`scale-${step}`)]);
  return { ...Object.fromEntries(names.map((name) => [name, colour(name)])), scale };
}

function layoutOf(colours, more) {
  const axis = { gridcolor: colours.grid, linecolor: colours.line, zeroline: false, ticks: "outside", tickcolor: colours.line, automargin: true };
  return {
    paper_bgcolor: colours.panel, plot_bgcolor: colours.panel, hovermode: "closest", margin: { l: 60, r: 20, t: 36, b: 50 },
    font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", size: 13, color: colours.ink },
    hoverlabel: { align: "left", bgcolor: colours.panel, bordercolor: colours.muted, font: { color: colours.ink, size: 12.5 } },
    legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom", font: { size: 12, color: colours.muted }, itemsizing: "constant" },
    ...more, xaxis: { ...axis, ...(more.xaxis || {}) }, yaxis: { ...axis, ...(more.yaxis || {}) },
  };
}

/** The lines of a hover label: every figure with its interval and its difference to the base. */
function hoverText(snapshot, row, figures) {
  const label = row.number === null ? "<b>base</b> (unpruned)" : `<b>trial ${row.number}</b> ${plain(row.source || "")}`;
  const lines = figures.filter((figure) => !missing(valueOf(row, figure.name))).map((figure) => {
    const { value, low, high } = row.figures[figure.name];
    const spread = high > low ? ` <i>[${printed(figure, low)}, ${printed(figure, high)}]</i>` : "";
    const diff = row.number === null ? null : difference(figure, value, valueOf(snapshot.base, figure.name));
    return `${plain(bare(figure))} ${plain(withUnit(figure, value))}${spread}${diff ? `  ${diff.text}` : ""}`;
  });
  const candidate = row.candidate || {};
  const shape = candidate.imgsz ? [`${candidate.imgsz} px, ${plain(candidate.precision || "fp32")}`] : [];
  const broken = (row.breaks || []).map(plain);
  const note = row.feasible === false ? (broken.length ? broken : ["breaks a constraint"]) : [];
  return [label, ...lines, ...shape, ...note].join("<br>");
}

function errorBars(rows, name, colour) {
  const spread = (side) => rows.map((row) => Math.abs(row.figures[name][side] - row.figures[name].value) || 0);
  return { type: "data", symmetric: false, array: spread("high"), arrayminus: spread("low"), color: colour, thickness: 1, width: 3 };
}

function cloud(snapshot, rows, axes, figures, name, more) {
  return {
    type: "scatter", mode: "markers", name, hovertemplate: "%{text}<extra></extra>",
    x: rows.map((row) => valueOf(row, axes.x.name)), y: rows.map((row) => valueOf(row, axes.y.name)),
    text: rows.map((row) => hoverText(snapshot, row, figures)), customdata: rows.map((row) => row.number), ...more,
  };
}

/** The staircase under the front in this view; a front of three objectives has members behind it. */
function staircase(rows, axes) {
  const better = (a, b) => (axes.y.direction === "max" ? a > b : a < b);
  const sorted = [...rows].sort((a, b) => valueOf(a, axes.x.name) - valueOf(b, axes.x.name));
  const steps = [];
  for (const row of sorted) if (!steps.length || better(valueOf(row, axes.y.name), valueOf(steps.at(-1), axes.y.name))) steps.push(row);
  return steps;
}

function span(values, share) {
  const low = Math.min(...values), high = Math.max(...values), margin = (high - low || Math.abs(high) || 1) * share;
  return [low - margin, high + margin];
}

/** The range that shows the front and the base; other trials may lie outside it. */
function nearRange(rows, name) {
  const values = rows.flatMap((row) => { const f = row.figures[name]; return [f.value, f.low ?? f.value, f.high ?? f.value]; });
  const [low, high] = span(values, 0.12);
  return [Math.min(...values) >= 0 ? Math.max(low, 0) : low, high];
}

function markers(rows, colour, colours, bounds, more) {
  const values = rows.map((row) => valueOf(row, colour.name));
  return { color: values, colorscale: colours.scale, cmin: bounds[0], cmax: bounds[1], ...more };
}

function limitLines(snapshot, axes, colours) {
  const limits = (snapshot.constraints || []).filter((bound) => bound.name === axes.x.name).map((bound) => ({ at: bound.limit, text: "constraint", dash: "solid", colour: colours.bad }));
  for (const [name, budget] of Object.entries(snapshot.budgets || {}))
    if (!missing(budget[axes.x.name])) limits.push({ at: budget[axes.x.name], text: plain(name), dash: "dot", colour: colours.pick });
  return limits;
}

const boundLine = (limit) => ({ type: "line", xref: "x", yref: "paper", x0: limit.at, x1: limit.at, y0: 0, y1: 1, layer: "below", line: { color: limit.colour, width: 1, dash: limit.dash } });
const boundLabel = (limit) => ({ x: limit.at, xref: "x", y: 0.005, yref: "paper", yanchor: "bottom", xanchor: "left", showarrow: false, text: `${limit.text} ≤ ${limit.at}`, font: { size: 11, color: limit.colour } });

/** Splits the trials that have both figures into what the front's picture shows. */
function partition(snapshot, axes) {
  const whole = (row) => row && row.figures && !missing(valueOf(row, axes.x.name)) && !missing(valueOf(row, axes.y.name));
  const rows = (snapshot.trials || []).filter(whole);
  const picked = new Set(Object.values(snapshot.picks || {}).map((pick) => pick.trial));
  return {
    front: rows.filter((row) => row.on_front), base: [{ ...(snapshot.base || {}), number: null }].filter(whole),
    others: rows.filter((row) => !row.on_front && row.feasible !== false), infeasible: rows.filter((row) => !row.on_front && row.feasible === false),
    picks: rows.filter((row) => picked.has(row.number)), rows,
  };
}

function pickNames(snapshot, number) {
  return Object.entries(snapshot.picks || {}).filter(([, pick]) => pick.trial === number).map(([name]) => plain(name)).join(", ");
}

function pickLabel(snapshot, row, axes, colours) {
  const text = `<b>${pickNames(snapshot, row.number)}</b>`, line = { arrowcolor: colours.pick, arrowwidth: 1.2, arrowhead: 0, standoff: 10 };
  return { x: valueOf(row, axes.x.name), y: valueOf(row, axes.y.name), ax: -46, ay: -46, text, ...line, font: { size: 13, color: colours.pick }, bgcolor: colours.panel, borderpad: 2 };
}

/** Accuracy against one cost: the front, the other trials, the base, the picks. Null when there is nothing to draw. */
function frontFigure(snapshot, axes, figures, colours, view) {
  const parts = partition(snapshot, axes), shown = [...parts.front, ...parts.base];
  if (!parts.rows.length && !parts.base.length) return null;
  const coloured = [...parts.rows, ...parts.base].map((row) => valueOf(row, axes.colour.name)).filter((value) => !missing(value));
  const bounds = coloured.length ? [Math.min(...coloured), Math.max(...coloured)] : [0, 1];
  const paint = (rows, more) => markers(rows, axes.colour, colours, bounds, more);
  const steps = staircase(parts.front, axes), add = (rows, name, more) => cloud(snapshot, rows, axes, figures, name, more);
  const bar = { title: { text: plain(axisTitle(axes.colour)), side: "right", font: { size: 12, color: colours.muted } }, thickness: 10, outlinewidth: 0, tickfont: { size: 11, color: colours.muted } };
  const bars = (rows, colour) => ({ error_x: errorBars(rows, axes.x.name, colour), error_y: errorBars(rows, axes.y.name, colour) });
  const data = [
    add(parts.infeasible, "breaks a constraint", { marker: { color: colours.faint, symbol: "x-thin", size: 6, opacity: 0.8, line: { color: colours.faint, width: 1.2 } } }),
    add(parts.others, "other trials", { marker: paint(parts.others, { size: view.compact ? 6 : 7, opacity: 0.45 }) }),
    { type: "scatter", mode: "lines", hoverinfo: "skip", showlegend: false, x: steps.map((row) => valueOf(row, axes.x.name)), y: steps.map((row) => valueOf(row, axes.y.name)), line: { shape: axes.y.direction === "max" ? "hv" : "vh", color: colours.front, width: 1.4 } },
    add(parts.front, "front", { ...bars(parts.front, colours.muted), marker: paint(parts.front, { size: view.compact ? 9 : 12, line: { color: colours.front, width: 1.4 }, showscale: !view.compact && coloured.length > 0, colorbar: bar }) }),
    add(parts.picks, "pick", { hoverinfo: "skip", hovertemplate: null, marker: { symbol: "circle-open", size: view.compact ? 15 : 20, color: colours.pick, line: { width: 2.4, color: colours.pick } } }),
    add(parts.base, "base (unpruned)", { ...bars(parts.base, colours.base), marker: { symbol: "star-diamond", size: view.compact ? 12 : 16, color: colours.base, line: { color: colours.panel, width: 1 } } }),
  ].filter((trace) => trace.x.length);
  const near = view.range === "near" && parts.front.length > 0;
  const xs = near ? nearRange(shown, axes.x.name) : span([...parts.rows, ...parts.base].map((row) => valueOf(row, axes.x.name)), 0.06);
  const ys = near ? nearRange(shown, axes.y.name) : span([...parts.rows, ...parts.base].map((row) => valueOf(row, axes.y.name)), 0.06);
  const limits = limitLines(snapshot, axes, colours).filter((limit) => limit.at > xs[0] && limit.at < xs[1]);
  const level = parts.base.map((row) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: valueOf(row, axes.y.name), y1: valueOf(row, axes.y.name), layer: "below", line: { color: colours.muted, width: 1, dash: "dot" } }));
  return {
    data, layout: layoutOf(colours, {
      shapes: [...level, ...limits.map(boundLine)], annotations: view.compact ? [] : [...limits.map(boundLabel), ...parts.picks.map((row) => pickLabel(snapshot, row, axes, colours))], showlegend: !view.compact, margin: { l: 60, r: 20, t: view.compact ? 10 : 36, b: 50 },
      xaxis: { title: { text: plain(axisTitle(axes.x)) }, range: xs }, yaxis: { title: { text: plain(axisTitle(axes.y)) }, range: ys },
    }),
  };
}

/** How many trials lie outside the range around the front. */
function outside(snapshot, axes, layout) {
  const within = (value, range) => value >= range[0] && value <= range[1];
  return partition(snapshot, axes).rows.filter((row) => !within(valueOf(row, axes.x.name), layout.xaxis.range) || !within(valueOf(row, axes.y.name), layout.yaxis.range)).length;
}

/** Bars per group in network order: what there was, and what one trial kept. */
function widthsFigure(snapshot, row, unit, colours) {
  const groups = (snapshot.groups || []).filter((group) => !group.frozen);
  if (!groups.length || !row || !row.widths) return null;
  const kept = groups.map((group) => row.widths[group.name] ?? group.size), share = (value, at) => (unit === "share" ? (100 * value) / groups[at].size : value);
  const x = groups.map((_, at) => at);
  const text = groups.map((group, at) => `<b>${plain(group.name)}</b><br>${kept[at]} of ${group.size} channels kept (${((100 * kept[at]) / group.size).toFixed(0)} %)<br>stage ${plain(group.stage || "")}`);
  const bar = (name, y, color) => ({ type: "bar", name, x, y, text, textposition: "none", hovertemplate: "%{text}<extra></extra>", marker: { color } });
  const starts = groups.map((group, at) => [group.stage, at]).filter(([stage, at]) => at === 0 || stage !== groups[at - 1].stage);
  return {
    data: [bar("base", groups.map((group, at) => share(group.size, at)), colours.cut), bar("kept", kept.map(share), colours.kept)],
    layout: layoutOf(colours, {
      barmode: "overlay", bargap: 0.22, margin: { l: 60, r: 16, t: 48, b: 30 }, hovermode: "x", legend: { ...layoutOf(colours, {}).legend, x: 1, xanchor: "right", y: 1.09 },
      xaxis: { tickvals: x, ticktext: groups.map((group) => plain(group.name.replace(/^model\./, ""))), tickangle: -55, tickfont: { size: groups.length > 45 ? 9 : 11 }, showgrid: false, range: [-0.6, groups.length - 0.4] },
      yaxis: { title: { text: unit === "share" ? "share kept (%)" : "channels" }, rangemode: "tozero" },
      shapes: starts.slice(1).map(([, at]) => ({ type: "line", xref: "x", yref: "paper", x0: at - 0.5, x1: at - 0.5, y0: 0, y1: 1.05, line: { color: colours.line, width: 1 } })),
      annotations: starts.map(([stage, at]) => ({ x: at - 0.45, xref: "x", y: 1.005, yref: "paper", xanchor: "left", yanchor: "bottom", showarrow: false, text: plain(stage || ""), font: { size: 11, color: colours.muted } })),
    }),
  };
}

function hypervolumeFigure(snapshot, colours) {
  const points = snapshot.hypervolume || [];
  if (!points.length) return null;
  const trace = { type: "scatter", mode: points.length > 1 ? "lines" : "markers", x: points.map((point) => point.trial), y: points.map((point) => point.value), line: { shape: "hv", color: colours.kept, width: 2 }, hovertemplate: "after trial %{x}<br>%{y:.4g}<extra></extra>" };
  return { data: [trace], layout: layoutOf(colours, { showlegend: false, margin: { l: 60, r: 20, t: 10, b: 50 }, xaxis: { title: { text: "trial" } }, yaxis: { title: { text: "hypervolume" } } }) };
}
