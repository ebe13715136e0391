// Two trials layer by layer, or two studies front against front.

import { choose, chosen } from "../state/address.js";
import { skyline } from "../charts/bars.js";
import { axisNamed, draw, forgetDrawn, layoutOf, theme } from "../charts/charts.js";
import { axes, staircase } from "./front.js";
import { axisTitle, byId, choices, difference, element, fill, missing, plain, printed, tone, withUnit } from "../format.js";
import { api, live } from "../state/server.js";
import { baseValue, costs, inOrder, isMeasured, groupsOf, keptOf, placeOf, study, trialOf, valueOf } from "../state/study.js";
import { hypervolume } from "../charts/hypervolume.js";

const others = new Map();

export function drawCompare() {
  const by = (costs()[0] || study.figures[0] || {}).name, rows = study.rows.filter((row) => row.widths && isMeasured(row)).sort((a, b) => b.on_front - a.on_front || (valueOf(a, by) ?? Infinity) - (valueOf(b, by) ?? Infinity) || inOrder(a, b));
  const options = rows.slice(0, 500).map((row) => [row.id, label(row)]), front = rows.filter((row) => row.on_front);
  const a = chosen.a || chosen.trial || ((front[0] || rows[0] || {}).id ?? ""), b = chosen.b || ((front.at(-1) || rows.at(-1) || {}).id ?? "");
  choices(byId("compare-a"), options, a);
  choices(byId("compare-b"), options, b);
  byId("compare-run-label").hidden = !live.on || live.runs.length < 2;
  choices(byId("compare-run"), [["", "none"], ...live.runs.filter((run) => run.id !== live.run).map((run) => [run.id, String(run.name)])], chosen.other);
  if (chosen.other) return twoStudies(chosen.other);
  forgetDrawn("compare-figure");
  const pair = [trialOf(a), trialOf(b)];
  fill(byId("compare-body"), pair.every(Boolean) ? twoTrials(...pair) : element("p", { class: "empty" }, "Two measured trials are needed."));
}

const label = (row) => `trial ${row.id}${row.on_front ? " (front)" : ""}: ${study.figures.slice(0, 2).map((figure) => withUnit(figure, valueOf(row, figure.name))).join(", ")}`;

function twoTrials(a, b) {
  if (placeOf(a) !== placeOf(b)) return [element("h3", null, "Figures"), figuresTable(a, b), element("p", { class: "muted" }, "They were pruned from different bases, whose layers are not compared.")];
  const groups = groupsOf(a), left = keptOf(a), right = keptOf(b), changed = groups.map((group, at) => ({ group, was: left[at], is: right[at] })).filter(({ group, was, is }) => !group.frozen && was !== is);
  const legend = element("p", { class: "legend" }, element("span", { "--key": "var(--kept)" }, `trial ${a.id}`), element("span", { "--key": "var(--other)" }, `trial ${b.id}`), element("span", { "--key": "var(--cut)" }, "base"));
  const sky = skyline(groups, left, { other: right, tall: 150, label: `in trial ${a.id}` });
  const most = [...changed].sort((x, y) => Math.abs(y.is - y.was) / y.group.size - Math.abs(x.is - x.was) / x.group.size).slice(0, 20);
  const table = element("table", { class: "plain" }, element("thead", null, row(["layer", `trial ${a.id}`, `trial ${b.id}`, "difference"], "th")), element("tbody", null, most.map(({ group, was, is }) => row([group.name, String(was), String(is), `${is > was ? "+" : "−"}${Math.abs(is - was)} channels`]))));
  return [element("h3", null, "Figures"), figuresTable(a, b), element("h3", null, `Channels: ${changed.length} of ${groups.filter((group) => !group.frozen).length} layers differ`), legend, sky.root, most.length ? element("div", null, element("h3", null, "The largest differences"), table) : null];
}

const row = (cells, tag = "td") => element("tr", null, cells.map((cell, at) => element(tag, { class: at ? "" : "text" }, cell)));

function figuresTable(a, b) {
  const lines = study.figures.filter((figure) => !missing(valueOf(a, figure.name)) && !missing(valueOf(b, figure.name))).map((figure) => {
    const diff = difference(figure, valueOf(b, figure.name), valueOf(a, figure.name));
    return row([axisTitle(figure), printed(figure, valueOf(a, figure.name)), printed(figure, valueOf(b, figure.name)), printed(figure, baseValue(figure.name)), diff ? element("span", { class: tone(diff) }, diff.text) : ""]);
  });
  return element("table", { class: "plain" }, element("thead", null, row(["figure", `trial ${a.id}`, `trial ${b.id}`, "base", "second against first"], "th")), element("tbody", null, lines));
}

async function twoStudies(id) {
  const body = byId("compare-body");
  if (study.device) { forgetDrawn("compare-figure"); fill(body, element("p", { class: "empty" }, "Two studies are compared by their own times: choose this study's latency above the front.")); return; }
  if (!byId("compare-figure")) fill(body, element("p", { id: "compare-words", role: "status" }, "reading the other study…"), element("div", { id: "compare-figure", class: "figure tall", role: "figure", "aria-label": "two fronts" }));
  try {
    if (!others.has(id)) others.set(id, api(`/${id}/front`));
    const other = await others.get(id);
    if (chosen.other === id && chosen.tab === "compare") overlay(other);
  } catch (fault) {
    others.delete(id);
    fill(byId("compare-words"), `The other study cannot be read: ${fault.message}`);
  }
}

function overlay(other) {
  const view = axes(), colours = theme(), ours = study.rows.filter((one) => one.on_front);
  const trace = (rows, name, colour, symbol) => { const steps = staircase(rows.filter((one) => !missing(valueOf(one, view.x.name)) && !missing(valueOf(one, view.y.name))), view); return { type: "scatter", mode: "lines+markers", name: plain(name), x: steps.map((one) => valueOf(one, view.x.name)), y: steps.map((one) => valueOf(one, view.y.name)), customdata: steps.map((one) => `${name}: trial ${one.id}`), hoverinfo: "none", line: { shape: "hv", color: colour, width: 2 }, marker: { symbol, size: 9, color: colour } }; };
  const data = [trace(ours, `this study: ${study.head.name}`, colours.kept, "circle"), trace(other.front, `the other: ${other.name}`, colours.other, "square")];
  draw("compare-figure", { data, layout: layoutOf({ xaxis: axisNamed(axisTitle(view.x)), yaxis: axisNamed(axisTitle(view.y)) }) }, "", { hover: (point) => [element("b", null, point.customdata), element("div", null, `${view.x.title} ${withUnit(view.x, point.x)}, ${view.y.title} ${withUnit(view.y, point.y)}`)] });
  fill(byId("compare-words"), verdict(ours, other));
}

/** Milliseconds of two machines, or of a quiet and a busy one, cannot be held against each other: the bases tell. */
function otherMachine(other) {
  const ours = baseValue("latency_ms"), theirs = valueOf(other.base, "latency_ms");
  if (missing(ours) || missing(theirs) || Math.abs(theirs / ours - 1) < 0.1) return "";
  return ` Their bases take ${ours.toPrecision(3)} and ${theirs.toPrecision(3)} ms: they are other models, or were timed under other conditions, and then so were the trials.`;
}

/** Both volumes against one reference: this study's base, its costs and five per cent. */
function verdict(ours, other) {
  const figures = (study.head.objectives || []).map((one) => study.figures.find((figure) => figure.name === one.name)).filter(Boolean);
  if (!study.base || figures.some((figure) => missing(baseValue(figure.name)))) return "The base of this study has not been measured, so the two cannot be weighed.";
  if (figures.some((figure) => !other.objectives.includes(figure.name))) return "The two studies have different objectives: only the picture compares them.";
  const point = (one) => figures.map((figure) => (figure.direction === "max" ? -valueOf(one, figure.name) : valueOf(one, figure.name)));
  const worst = figures.map((figure) => (figure.direction === "max" ? 0 : 1.05 * baseValue(figure.name))), [a, b] = [ours, other.front].map((rows) => hypervolume(rows.map(point).filter((one) => one.every(Number.isFinite)), worst));
  const share = a ? (100 * (b - a)) / a : 0;
  return `Hypervolume ${a.toPrecision(4)} here, ${b.toPrecision(4)} in ${other.name}: ${share >= 0 ? "+" : "−"}${Math.abs(share).toFixed(1)} %. Both count what is better than this study's base plus five per cent.${otherMachine(other)}`;
}

export function listenToCompare() {
  byId("compare-a").addEventListener("change", (event) => choose({ a: event.target.value, other: "" }));
  byId("compare-b").addEventListener("change", (event) => choose({ b: event.target.value, other: "" }));
  byId("compare-run").addEventListener("change", (event) => choose({ other: event.target.value }));
}
