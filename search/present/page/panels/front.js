// The front: any two figures, a third as colour; what does not count is greyed, not hidden.

import { choose, chosen } from "../state/address.js";
import { limits, picked } from "./budget.js";
import { axisNamed, draw, layoutOf, redrawOver, theme } from "../charts/charts.js";
import { CROWD, crowdImage, shadesOf } from "../charts/density.js";
import { axisTitle, byId, choices, difference, element, fill, missing, plain, printed, sizeText, tone, withUnit } from "../format.js";
import { OWN, accuracy, baseName, baseValue, baselines, bases, changesOn, costs, describe, devices, isDrawn, isEstimated, isExport, isFeasible, isGuess, marksOf, placeOf, namedPicks, spreadOf, study, trialOf, valueOf } from "../state/study.js";

/** Marks of the trials by their base, in the order of the study; those of the first are as in a study of one. */
const BASES = ["circle", "square", "triangle-up", "cross", "pentagon", "star", "hexagon", "hourglass"];
const BASELINES = ["square", "triangle-up", "hexagon", "triangle-down", "pentagon", "star-square"];

export function axes() {
  const named = (name, fallback) => study.figures.find((figure) => figure.name === name) || fallback;
  const x = named(chosen.x, costs()[0] || study.figures[0]), y = named(chosen.y, accuracy());
  const other = ["params_m", "macs_g", "latency_ms"].map((name) => named(name)).find((figure) => figure && figure !== x && figure !== y);
  return { x, y, colour: named(chosen.colour, other || x) };
}

/** What a point means, as nodes for the tip. */
export function tipOf(row, name) {
  const title = row.id === null ? name || "base (unpruned)" : row.id === undefined ? row.name : `trial ${row.id}`;
  const lines = study.figures.filter((figure) => !missing(valueOf(row, figure.name))).map((figure) => {
    const spread = spreadOf(row, figure.name), diff = row.id === null ? null : difference(figure, valueOf(row, figure.name), baseValue(figure.name));
    const range = spread ? ` [${printed(figure, spread[0])}, ${printed(figure, spread[1])}]` : "";
    return element("div", null, `${figure.title} ${isGuess(row, figure.name) ? "≈ " : ""}${withUnit(figure, valueOf(row, figure.name))}${range} `, diff ? element("small", { class: tone(diff) }, diff.text) : null);
  });
  return [element("div", null, element("b", null, title), " ", element("small", { class: "muted" }, [baseName(row), row.source, shape(row)].filter(Boolean).join(", "))), ...lines, ...remarks(row)];
}

/** Input size and precision, where they are not the study's own. */
function shape(row) {
  const { imgsz, precision } = row.candidate || {}, own = sizeText((study.head.study || {}).imgsz);
  return [imgsz && own && imgsz !== own ? `${imgsz} px` : "", precision && precision !== "fp32" ? precision : ""].filter(Boolean).join(", ");
}

function remarks(row) {
  const said = [];
  if (row.feasible === false && row.state === "complete") said.push(...((row.breaks || []).length ? row.breaks.map(String) : ["breaks a constraint"]));
  if (isEstimated(row)) said.push(`estimated${row.rung ? ` at ${row.rung}` : " from its outputs before the fine-tune"}, not measured in full`);
  if (row.untimed) said.push(`not timed on ${study.device}`);
  if (row.id && marksOf(row.id).note) said.push(marksOf(row.id).note);
  if (row.note) said.push(row.note);
  return said.map((text) => element("div", { class: "muted" }, text));
}

/** The staircase under the front in this view; a front of three objectives has members behind it. */
export function staircase(rows, { x, y }) {
  const better = (a, b) => (y.direction === "max" ? a > b : a < b), steps = [];
  const sorted = [...rows].sort((a, b) => valueOf(a, x.name) - valueOf(b, x.name));
  for (const row of sorted) if (!steps.length || better(valueOf(row, y.name), valueOf(steps.at(-1), y.name))) steps.push(row);
  return steps;
}

/** Every trial that has both figures, by what it counts as. */
function parts(view) {
  const whole = (row) => row && !missing(valueOf(row, view.x.name)) && !missing(valueOf(row, view.y.name));
  const sets = { rows: study.rows.filter((row) => isDrawn(row) && !row.untimed && whole(row)), front: [], frontExports: [], exports: [], others: [], infeasible: [], estimated: [], base: [study.base].filter(whole), baselines: baselines().filter(whole) };
  for (const row of sets.rows) sets[kindOf(row)].push(row);
  return sets;
}

function kindOf(row) {
  if (row.on_front) return isExport(row) ? "frontExports" : "front";
  if (isEstimated(row)) return "estimated";
  if (!isFeasible(row)) return "infeasible";
  return isExport(row) ? "exports" : "others";
}

const errorBars = (rows, name, color) => {
  const side = (at) => rows.map((row) => { const spread = spreadOf(row, name); return spread ? Math.abs(spread[at] - valueOf(row, name)) : 0; });
  return { type: "data", symmetric: false, array: side(1), arrayminus: side(0), color, thickness: 1, width: 3 };
};

function cloud(rows, view, name, more) {
  const at = (axis) => rows.map((row) => valueOf(row, axis.name));
  return { type: "scatter", mode: "markers", name, hoverinfo: "none", x: at(view.x), y: at(view.y), customdata: rows.map((row) => row.id ?? row.name ?? "base"), ...more };
}

/** The scale of the colours: from the least to the most of the figure. */
function scaleOf(view, sets) {
  const shades = [...sets.rows, ...sets.base].map((row) => valueOf(row, view.colour.name)).filter((value) => !missing(value));
  return shades.length ? { cmin: Math.min(...shades), cmax: Math.max(...shades) } : null;
}

/** Marks of their own while they are few; in a crowd a trace without marks, and one entry of the legend. */
function clouds(sets, view, paint) {
  const colours = theme(), crowded = isCrowd(sets);
  return MANY.flatMap(([kind, name]) => {
    const marker = { infeasible: { color: colours.faint, symbol: "x-thin", size: 6, opacity: 0.8, line: { color: colours.faint, width: 1.2 } }, estimated: { color: colours.faint, symbol: "circle-open", size: 6 } }[kind];
    if (!crowded) return [cloud(sets[kind], view, name, { marker: marker || paint(sets.others, { size: 7, opacity: 0.45, ...symbolsOf(sets.others) }) })];
    const entry = { type: "scatter", mode: "markers", name, hoverinfo: "skip", x: sets[kind].length ? [null] : [], y: [null], marker: marker || { color: colours["scale-2"], size: 7, opacity: 0.45 } };
    return [entry, cloud(sets[kind], view, name, { mode: "none", showlegend: false, meta: marker ? null : paint(sets[kind], {}).color })]; // meta: what the picture's colours follow
  });
}

/** The marks of rows; of one base nothing is said, which is a circle. */
const symbolsOf = (rows) => (bases().length ? { symbol: rows.map((row) => BASES[placeOf(row) % BASES.length]) } : {});

/** One entry of the legend for each base of several: a mark without a point. */
function basesKey(colours) {
  return bases().map((base, at) => ({ type: "scatter", mode: "markers", name: plain(`of ${base.name}`), hoverinfo: "skip", x: [null], y: [null], marker: { symbol: BASES[at % BASES.length], size: 10, color: colours["scale-2"] } }));
}

const MANY = [["infeasible", "breaks a constraint", "cross"], ["estimated", "estimated", "ring"], ["others", "other trials", "dot"]];
const isCrowd = (sets) => MANY.reduce((sum, [kind]) => sum + sets[kind].length, 0) > CROWD;

/** Baselines of one kind, along the axis: seven uniform ratios are one line, and one entry of the legend. */
function families(rows, view) {
  const found = new Map();
  for (const one of rows) found.set(one.kind || one.name, [...(found.get(one.kind || one.name) || []), one]);
  return [...found.values()].map((family) => family.sort((a, b) => valueOf(a, view.x.name) - valueOf(b, view.x.name)));
}

function traces(view, sets, bounds) {
  const colours = theme();
  const paint = (rows, more) => ({ color: rows.map((row) => valueOf(row, view.colour.name)), colorscale: colours.scale, ...bounds, ...more });
  const bars = (rows, colour) => ({ error_x: errorBars(rows, view.x.name, colour), error_y: errorBars(rows, view.y.name, colour) });
  const steps = staircase([...sets.front, ...sets.frontExports], view), line = { type: "scatter", mode: "lines", hoverinfo: "skip", showlegend: false, x: steps.map((row) => valueOf(row, view.x.name)), y: steps.map((row) => valueOf(row, view.y.name)) };
  const bar = { title: { text: plain(axisTitle(view.colour)), side: "right", font: { size: 12, color: colours.muted } }, thickness: 9, outlinewidth: 0, tickfont: { size: 11, color: colours.muted } };
  const outline = { line: { color: colours.front, width: 1.4 } }, exported = { legendgroup: "exported", name: "exported" };
  return [
    ...clouds(sets, view, paint),
    { ...line, line: { shape: view.y.direction === "max" ? "hv" : "vh", color: colours.front, width: 1.4 } },
    cloud(sets.front, view, "front", { ...bars(sets.front, colours.muted), marker: paint(sets.front, { size: 12, ...symbolsOf(sets.front), ...outline, showscale: Boolean(bounds), colorbar: bar }) }),
    ...basesKey(colours),
    cloud(sets.exports, view, "", { ...exported, showlegend: !sets.frontExports.length, marker: paint(sets.exports, { size: 9, opacity: 0.6, symbol: "diamond" }) }),
    cloud(sets.frontExports, view, "", { ...exported, ...bars(sets.frontExports, colours.muted), marker: paint(sets.frontExports, { size: 13, symbol: "diamond", ...outline }) }),
    ...families(sets.baselines, view).map((rows, at) => cloud(rows, view, plain(rows.length > 1 ? rows[0].kind.replace("_", " ") : rows[0].name), { ...bars(rows, colours.baseline), mode: rows.length > 1 ? "lines+markers" : "markers", line: { color: colours.baseline, width: 1, dash: "dot" }, marker: { symbol: BASELINES[at % BASELINES.length], size: 12, color: colours.panel, line: { color: colours.baseline, width: 2 } } })),
    cloud(sets.base, view, bases().length ? plain(`${bases()[0].name} (unpruned)`) : "base (unpruned)", { ...bars(sets.base, colours.base), marker: { symbol: "star-diamond", size: 16, color: colours.base, line: { color: colours.panel, width: 1 } } }),
  ].filter((trace) => trace.x.length);
}

function span(values, share) {
  const low = Math.min(...values), high = Math.max(...values), margin = (high - low || Math.abs(high) || 1) * share;
  return [low >= 0 ? Math.max(low - margin, 0) : low - margin, high + margin];
}

/** Around the front and the base with their intervals, or around everything. */
function rangeOf(sets, axis) {
  const front = [...sets.front, ...sets.frontExports], near = chosen.range === "near" && front.length > 0, rows = near ? [...front, ...sets.base, ...sets.baselines] : [...sets.rows, ...sets.base, ...sets.baselines];
  return span(rows.flatMap((row) => [valueOf(row, axis.name), ...(near ? spreadOf(row, axis.name) || [] : [])]), near ? 0.12 : 0.06);
}

const ring = (row, view, size, colour, width) => ({ type: "circle", xsizemode: "pixel", ysizemode: "pixel", xanchor: valueOf(row, view.x.name), yanchor: valueOf(row, view.y.name), x0: -size, x1: size, y0: -size, y1: size, line: { color: colour, width } });
// Above, because what refers to the paper lies under the grid otherwise, and a budget on a grid line would not be seen.
const upright = (at, colour, dash) => ({ type: "line", xref: "x", yref: "paper", x0: at, x1: at, y0: 0, y1: 1, layer: "above", line: { color: colour, width: 1.3, dash } });
const labelled = (at, text, colour) => ({ x: at, xref: "x", y: 0.005, yref: "paper", yanchor: "bottom", xanchor: "left", showarrow: false, text: plain(text), font: { size: 11, color: colour } });

/** Everything that moves without the data: the budget, the pick, the chosen trial, the limits. */
function over(view) {
  const colours = theme(), pick = picked(), open = trialOf(chosen.trial), shapes = [], annotations = [], bounds = limits();
  if (!missing(baseValue(view.y.name))) shapes.push({ type: "line", xref: "paper", x0: 0, x1: 1, y0: baseValue(view.y.name), y1: baseValue(view.y.name), layer: "below", line: { color: colours.muted, width: 1, dash: "dot" } });
  for (const bound of (study.head.constraints || []).filter((one) => one.name === view.x.name)) { shapes.push(upright(bound.limit, colours.bad, "solid")); annotations.push(labelled(bound.limit, `constraint ${bound.op} ${bound.limit}`, colours.bad)); }
  if (!missing(bounds[view.x.name])) { shapes.push(upright(bounds[view.x.name], colours.pick, "dash")); annotations.push(labelled(bounds[view.x.name], `budget ≤ ${withUnit(view.x, bounds[view.x.name])}`, colours.pick)); }
  const has = (row) => row && !missing(valueOf(row, view.x.name)) && !missing(valueOf(row, view.y.name));
  if (has(pick)) { shapes.push(ring(pick, view, 11, colours.pick, 3)); annotations.push({ x: valueOf(pick, view.x.name), y: valueOf(pick, view.y.name), ax: -44, ay: -40, text: `<b>pick: trial ${plain(pick.id)}</b>`, arrowcolor: colours.pick, arrowwidth: 1.2, arrowhead: 0, standoff: 12, font: { size: 13, color: colours.pick }, bgcolor: colours.panel, borderpad: 2 }); }
  if (has(open)) shapes.push(ring(open, view, 15, colours.accent, 2.5));
  return { shapes, annotations };
}

export function frontFigure(view = axes()) {
  const sets = parts(view), bounds = scaleOf(view, sets);
  if (!sets.rows.length && !sets.base.length) return null;
  const ranges = { x: rangeOf(sets, view.x), y: rangeOf(sets, view.y) };
  // uirevision: what the reader has zoomed is given up when the axes change.
  const crowd = isCrowd(sets) ? crowdImage(MANY.map(([kind, , mark]) => ({ rows: sets[kind], mark })), view, shadesOf(view.colour, bounds || {})) : null;
  return { sets, crowd, data: traces(view, sets, bounds), layout: layoutOf({ uirevision: [view.x.name, view.y.name, chosen.range, chosen.run, study.device].join("|"), ...over(view), xaxis: axisNamed(axisTitle(view.x), { range: ranges.x }), yaxis: axisNamed(axisTitle(view.y), { range: ranges.y }) }) };
}

export function drawFront() {
  const view = axes(), options = study.figures.map((figure) => [figure.name, figure.title]);
  for (const key of ["x", "y", "colour"]) choices(byId(`axis-${key}`), options, (view[key] || {}).name);
  drawDevices();
  byId("range").value = chosen.range;
  const figure = study.figures.length ? frontFigure(view) : null;
  caption(view, figure);
  draw("front-figure", figure, "No trial has been measured yet.", { hover: (point) => tipOf(pointed(point)), click: open, tools: true });
}

export function drawOver() { redrawOver("front-figure", over(axes())); }

function caption(view, figure) {
  const words = deviceWords();
  const better = { max: ["right", "up"], min: ["left", "down"] }, inside = (row, axis, range) => valueOf(row, axis.name) >= range[0] && valueOf(row, axis.name) <= range[1];
  const hidden = figure ? figure.sets.rows.filter((row) => !inside(row, view.x, figure.layout.xaxis.range) || !inside(row, view.y, figure.layout.yaxis.range)).length : 0;
  const text = view.x ? `${better[view.y.direction][1]} and to the ${better[view.x.direction][0]} is better. Bars are 95 % intervals.${hidden ? ` ${hidden} ${hidden === 1 ? "trial lies" : "trials lie"} outside this range.` : ""}` : "";
  fill(byId("front-caption"), text.charAt(0).toUpperCase() + text.slice(1), words ? element("span", { id: "device-words" }, ` ${words}`) : null);
}

/** Whose times the latency is: the study's own runtime, or a device whose figures were imported. */
function drawDevices() {
  const { runtime = "own runtime", device = "" } = (study.told.study || {}).latency || {};
  byId("on-label").hidden = !devices().length;
  choices(byId("on"), [[OWN, `${runtime.replace(/^command:.*/, "own program")} ${device}, this study`], ...devices().map((name) => [name, name])], study.device || OWN);
}

/** "By the times of pi5: 12 trials were timed there, 7 ranks changed, 2 joined the front, 1 left it." */
function deviceWords() {
  if (!study.device) return "";
  const { timed, ranks, joined, left } = changesOn(), { processor, ...other } = (study.told.on_targets[study.device] || {}).machine || {}, machine = [processor || Object.values(other)[0]].filter(Boolean).map(String);
  return `By the times of ${[study.device, ...machine].join(", ")}: ${timed} trials were timed there, ${ranks} ranks changed, ${joined} joined the front, ${left} left it.`;
}

function pointed(point) {
  if (point.customdata === "base") return study.base;
  return trialOf(point.customdata) || baselines().find((row) => row.name === point.customdata);
}

function open(point) { if (trialOf(point.customdata)) choose({ trial: point.customdata }); }

export function listenToFront() {
  for (const key of ["x", "y", "colour"]) byId(`axis-${key}`).addEventListener("change", (event) => choose({ [key]: event.target.value }));
  byId("range").addEventListener("change", (event) => choose({ range: event.target.value }));
  byId("on").addEventListener("change", (event) => choose({ on: event.target.value }));
}

export const pickTags = (id) => namedPicks(id).map((name) => element("span", { class: "tag pick" }, name));
export const quantity = (name, value) => withUnit(describe(name), value);
