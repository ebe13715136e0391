// What if: move a layer, see exact parameters and MACs at once, and ask the search to try it.

import { choose, chosen } from "../state/address.js";
import { openDialog, closeDialog, tell } from "./actions.js";
import { skyline } from "../charts/bars.js";
import { picked } from "./budget.js";
import { costOf, latencyOf, widthsOf } from "../cost.js";
import { button, byId, choices, element, fill, missing, tone, whole, withUnit, difference } from "../format.js";
import { api, live } from "../state/server.js";
import { baseValue, describe, isExport, isOfFirst, keptOf, study, trialOf, valueOf } from "../state/study.js";

let bench = null;
/** From so many ratios on the bars are the way to them, and their sliders are folded. */
const FOLDED = 24;

/** The vector in the address: "128|0.1,0.2|model.4.m.0", "384x640|..." or "trial:17" to start from one. */
function vectorOf(text) {
  const table = study.head.whatif, [size, ratios, blocks] = text.split("|"), row = text.startsWith("trial:") ? trialOf(text.slice(6)) : null;
  const said = row ? row.ratios : ratios ? ratios.split(",").map(Number) : [];
  const clipped = table.dimensions.map((dimension, at) => Math.min(dimension.high, Math.max(dimension.low, Number.isFinite(said[at]) ? said[at] : dimension.low)));
  const removed = row ? row.removed || [] : (blocks || "").split(",").filter((path) => table.blocks.some((block) => block.path === path));
  const imgsz = row ? row.candidate.imgsz : table.sizes.find((one) => String(one) === size);
  return { ratios: Object.fromEntries(table.dimensions.map((dimension, at) => [dimension.name, clipped[at]])), removed: [...removed], imgsz: table.sizes.includes(imgsz) ? imgsz : table.sizes[0], alone: {} };
}

const textOf = (vector) => [vector.imgsz, Object.values(vector.ratios).map((ratio) => Number(ratio.toFixed(4))).join(","), vector.removed.join(",")].join("|");

export function drawWhatIf() {
  const table = study.head.whatif, body = byId("whatif-body");
  if (!table || !table.cost || !(study.head.groups || []).length) { bench = null; fill(body, nothing()); return; }
  const key = JSON.stringify([chosen.run, table.dimensions.length, study.head.groups.length]);
  if (!bench || bench.key !== key) build(body, table, key);
  if (chosen.w !== bench.said) { bench.vector = vectorOf(chosen.w); bench.said = chosen.w; refresh(); }
  starts();
  permission();
  drawNearest();
}

function nothing() {
  const words = element("p", null, "This run has no cost table yet: it was made by an older version, or the search has not begun.");
  const make = live.on ? button("make it (traces the model, draws sample images)", () => tell(() => api(`/${live.run}/fill`, {}), "it has begun")) : element("pre", null, `paretoprune report ${study.head.run} --fill`);
  return element("div", { class: "empty" }, words, make, element("div", { id: "jobs", role: "status" }));
}

function build(body, table, key) {
  const { groups } = study.head, at = new Map(groups.map((group, i) => [group.name, i])), dimensionOf = new Map(table.dimensions.flatMap((dimension) => dimension.groups.map((name) => [at.get(name), dimension])));
  const sky = skyline(groups, groups.map((group) => group.size), { tall: 190, edit: (where, share) => moveBar(where, 1 - share, dimensionOf), linked: (where) => (dimensionOf.get(where) ? dimensionOf.get(where).groups.map((name) => at.get(name)) : []) });
  bench = { key, said: null, vector: null, table, sky, dimensionOf, parts: controls(table), sizes: Object.fromEntries(groups.map((group) => [group.name, group.size])) };
  const { start, size, alone, gauges, sliders, blocks, ask, nearest } = bench.parts;
  fill(body, element("p", { class: "muted" }, "Drag a bar, or move along the bars with the arrow keys left and right and change them with up and down. Layers that share one ratio in this study move together."),
    element("div", { class: "whatif" }, element("div", { class: "controls" }, element("label", null, "start from ", start), table.sizes.length > 1 ? element("label", null, "input ", size) : null, element("label", null, alone, " one layer alone")), gauges, sky.root, table.dimensions.length > FOLDED ? element("details", null, element("summary", null, `a slider for each of the ${table.dimensions.length} ratios`), sliders) : sliders, blocks, element("div", { class: "controls" }, ask.button, ask.why), nearest));
}

function controls(table) {
  const start = element("select"), size = element("select"), alone = element("input", { type: "checkbox" });
  start.addEventListener("change", () => choose({ w: start.value }));
  choices(size, table.sizes.map((one) => [String(one), `${one} px`]));
  size.addEventListener("change", () => change((vector) => { vector.imgsz = table.sizes.find((one) => String(one) === size.value); }));
  const sliders = element("div", { class: "sliders", role: "group", "aria-label": "ratio of each part" }, table.dimensions.map(sliderOf));
  const blocks = table.blocks.length ? element("div", { class: "blocks", role: "group", "aria-label": "blocks that stay" }, element("span", { class: "muted" }, "blocks that stay:"), table.blocks.map(blockOf)) : null;
  const ask = { button: button("enqueue as a trial", enqueue, { class: "first" }), why: element("span", { role: "status" }) };
  return { start, size, alone, sliders, blocks, ask, gauges: element("dl", { class: "gauges", "aria-live": "polite" }), nearest: element("p", { class: "muted" }) };
}

function sliderOf(dimension) {
  const slider = element("input", { type: "range", min: String(dimension.low), max: String(dimension.high), step: "0.01", "data-name": dimension.name }), said = element("output");
  slider.addEventListener("input", () => change((vector) => { vector.ratios[dimension.name] = Number(slider.value); for (const group of dimension.groups) delete vector.alone[group]; }));
  return element("label", { title: dimension.name }, dimension.name.replace(/^model\./, ""), slider, said);
}

function blockOf(block) {
  const box = element("input", { type: "checkbox", "data-path": block.path });
  box.addEventListener("change", () => change((vector) => { vector.removed = box.checked ? vector.removed.filter((path) => path !== block.path) : [...vector.removed, block.path]; }));
  return element("label", null, box, ` ${block.path}`);
}

function moveBar(where, ratio, dimensionOf) {
  const dimension = dimensionOf.get(where), group = study.head.groups[where];
  if (!dimension) return;
  const within = Math.min(dimension.high, Math.max(dimension.low, ratio));
  change((vector) => { if (bench.parts.alone.checked) vector.alone[group.name] = within; else vector.ratios[dimension.name] = within; });
}

function change(edit) {
  edit(bench.vector);
  refresh();
  bench.said = textOf(bench.vector);
  choose({ w: bench.said });
}

/** Widths of the vector; layers moved alone follow the same rule, with their ties. */
export function widthsNow() {
  const { table, vector, sizes } = bench, widths = widthsOf(table, sizes, vector.ratios);
  for (const [group, ratio] of Object.entries(vector.alone)) {
    const tie = table.rule.find((one) => one.groups.includes(group));
    if (tie) Object.assign(widths, widthsOf({ rule: [tie], dimensions: [{ name: "one", groups: tie.groups }] }, Object.fromEntries(tie.groups.map((name) => [name, sizes[name]])), { one: ratio }));
  }
  return widths;
}

function refresh() {
  const { table, vector, sky, parts } = bench, widths = widthsNow(), found = costOf(table.cost, widths, vector.removed, vector.imgsz);
  const gone = new Set(table.blocks.filter((block) => vector.removed.includes(block.path)).flatMap((block) => block.groups));
  bench.kept = study.head.groups.map((group) => (gone.has(group.name) ? 0 : widths[group.name]));
  sky.update(bench.kept);
  for (const label of parts.sliders.children) { const slider = label.querySelector("input"), ratio = vector.ratios[slider.dataset.name]; slider.value = String(ratio); fill(label.querySelector("output"), `${Math.round(100 * ratio)} %`); }
  if (parts.blocks) for (const box of parts.blocks.querySelectorAll("input")) box.checked = !vector.removed.includes(box.dataset.path);
  parts.size.value = String(vector.imgsz);
  gauges(found, widths);
  permission();
  drawNearest();
}

function gauges({ params, macs }, widths) {
  const { table, vector, parts } = bench, model = study.head.latency_model, ms = latencyOf(model, table.cost, widths, vector.removed, vector.imgsz);
  const gauge = (name, value, exact) => { const figure = describe(name), diff = difference(figure, value, baseValue(name)); return element("div", null, element("dt", null, figure.title), element("dd", null, withUnit(figure, value), " ", diff ? element("small", { class: tone(diff) }, diff.text) : null), element("dt", null, exact)); };
  fill(parts.gauges, gauge("params_m", params / 1e6, `exactly ${whole(params)}`), gauge("macs_g", macs / 1e9, `exactly ${whole(macs)}`), missing(ms) ? null : gauge("latency_ms", ms, `predicted${missing(model.error_ms) ? "" : `, ± ${model.error_ms.toPrecision(2)} ms`}`));
  parts.gauges.dataset.params = String(params);
  parts.gauges.dataset.macs = String(macs);
}

/** Why the vector can or cannot become a trial. */
function permission() {
  const { parts, vector } = bench, alone = Object.keys(vector.alone).length > 0, waiting = study.head.waiting || 0;
  parts.ask.button.disabled = !live.on || alone;
  const when = study.head.state === "running" ? "it is measured next" : "it is measured when the search is resumed";
  const why = !live.on ? "The offline page cannot start trials: open paretoprune dashboard." : alone ? "A layer that was moved alone is not a point of this study's space: its stage shares one ratio (space.groups)." : `${when}${waiting ? `; ${waiting} waiting` : ""}.`;
  fill(parts.ask.why, why);
}

async function enqueue() {
  const { vector } = bench, body = { ratios: vector.ratios, removed: vector.removed, imgsz: vector.imgsz };
  if (await tell(() => api(`/${live.run}/enqueue`, body), "the trial is enqueued")) openDialog("Enqueued", [element("p", null, study.head.state === "running" ? "The search takes it before its next candidate." : "The search takes it when it is resumed.")], [button("close", closeDialog, { class: "first" })]);
}

function starts() {
  const pick = picked(), open = trialOf(chosen.trial), from = trialOf(chosen.w.replace("trial:", ""));
  const options = [["", "the unpruned base"], pick && pick.ratios ? [`trial:${pick.id}`, `the pick, trial ${pick.id}`] : null, open && open.ratios && open !== pick ? [`trial:${open.id}`, `trial ${open.id}`] : null, chosen.w.startsWith("trial:") && from && from.ratios && from !== pick && from !== open ? [`trial:${from.id}`, `trial ${from.id}`] : null, ["*", "your own vector"]].filter(Boolean);
  choices(bench.parts.start, options, options.some(([value]) => value === chosen.w) ? chosen.w : "*");
}

/** The measured trial whose widths are closest: the only thing on accuracy that can be said at once. */
function drawNearest() {
  if (!bench || !bench.kept) return;
  const { groups } = study.head, away = (row) => { const kept = keptOf(row); return groups.reduce((sum, group, at) => sum + (group.frozen ? 0 : Math.abs(kept[at] - bench.kept[at]) / group.size), 0) / groups.length; };
  const rows = study.rows.filter((row) => row.widths && row.state === "complete" && !isExport(row) && isOfFirst(row)), best = rows.map((row) => [away(row), row]).reduce((found, one) => (!found || one[0] < found[0] ? one : found), null);
  const figures = best ? study.figures.slice(0, 2).map((figure) => `${figure.title} ${withUnit(figure, valueOf(best[1], figure.name))}`).join(", ") : "";
  fill(bench.parts.nearest, best ? `The nearest measured trial is ${best[1].id}, with layers ${(100 * best[0]).toFixed(1)} % away on average: ${figures}.` : "");
}
