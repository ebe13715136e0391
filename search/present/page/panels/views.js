// Heat map, sensitivity curves and history: figures that follow from the study and compute little.

import { choose, chosen } from "../state/address.js";
import { limits } from "./budget.js";
import { SERIES, axisNamed, draw, layoutOf, theme } from "../charts/charts.js";
import { freeGroups } from "../charts/bars.js";
import { axisTitle, byId, element, fill, missing, plain, printed, withUnit } from "../format.js";
import { accuracy, best, candidates, costs, isFeasible, isExport, isMeasured, isOfFirst, keptOf, study, trialOf, valueOf, within } from "../state/study.js";

const HEAT = { front: (row) => row.on_front, feasible: isFeasible, all: isMeasured };

/** Rows are layers from the input down, columns are trials, fastest first; of several bases those of the first. */
function heatFigure() {
  const by = (costs()[0] || accuracy()).name, groups = freeGroups(study.head.groups || []);
  const rows = study.rows.filter((row) => row.widths && isMeasured(row) && isOfFirst(row) && (HEAT[chosen.heat] || HEAT.front)(row) && !missing(valueOf(row, by))).sort((a, b) => valueOf(a, by) - valueOf(b, by));
  if (!rows.length || !groups.length) return null;
  const kept = rows.map(keptOf), colours = theme(), few = rows.length <= 40;
  const every = Math.max(1, Math.ceil(rows.length / 24)), ticks = rows.map((_, at) => at).filter((at) => at % every === 0);
  const stages = groups.map((group, at) => [group.stage, at]).filter(([stage, at]) => at > 0 && stage !== groups[at - 1].stage);
  const figure = study.figures.find((one) => one.name === by);
  const trace = { type: "heatmap", z: groups.map((group) => kept.map((widths) => widths[group.at] / group.size)), zmin: 0, zmax: 1, colorscale: [[0, colours["heat-0"]], [1, colours["heat-1"]]], hoverinfo: "none", xgap: few ? 1 : 0, ygap: 0.5, colorbar: { title: { text: "share kept", side: "right", font: { size: 12, color: colours.muted } }, thickness: 9, outlinewidth: 0, tickformat: ".0%", tickfont: { size: 11, color: colours.muted } } };
  return {
    rows, groups, kept, data: [trace], layout: layoutOf({
      margin: { l: 150, r: 10, t: 8, b: 58 }, xaxis: axisNamed(`trial, by ${axisTitle(figure)}`, { tickvals: ticks, ticktext: ticks.map((at) => (few ? `${plain(rows[at].id)}<br>${printed(figure, valueOf(rows[at], by))}` : printed(figure, valueOf(rows[at], by)))), tickangle: 0, showgrid: false, tickfont: { size: 11 } }),
      yaxis: { autorange: "reversed", tickvals: groups.map((_, at) => at), ticktext: groups.map((group) => plain(group.name.replace(/^model\./, ""))), tickfont: { size: groups.length > 70 ? 7 : 9 }, showgrid: false },
      shapes: stages.map(([, at]) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: at - 0.5, y1: at - 0.5, line: { color: colours.panel, width: 2.5 } })),
    }),
  };
}

let heat = null;
export function drawHeat() {
  byId("heat-show").value = chosen.heat;
  heat = heatFigure();
  draw("heat-figure", heat, "No measured trial has widths yet.", { hover: heatTip, click: (point) => choose({ trial: heat.rows[point.x].id }) });
}

function heatTip(point) {
  const row = heat.rows[point.x], group = heat.groups[point.y], kept = heat.kept[point.x][group.at];
  return [element("b", null, group.name), element("div", null, `trial ${row.id}: ${kept} of ${group.size} channels (${((100 * kept) / group.size).toFixed(0)} %)`), element("div", { class: "muted" }, `stage ${group.stage}`)];
}

/** From so many curves on, only the most sensitive are named. */
const NAMED_CURVES = 18, NAMED_MOST = 8;

/** One curve per part of the network; the chosen trial is a ring on each. */
export function drawCurves() {
  const most = ([, curve]) => Math.max(...curve.divergences), curves = Object.entries(study.head.sensitivity || {}).sort((a, b) => most(b) - most(a)), open = trialOf(chosen.trial), colours = theme();
  const named = curves.length > NAMED_CURVES ? NAMED_MOST : curves.length; // of sixty curves the legend names those that matter most, the pointer all
  const data = curves.map(([name, curve], at) => ({ type: "scatter", mode: "lines+markers", name: at < named ? plain(name) : `${curves.length - named} others`, showlegend: at <= named, x: curve.ratios, y: curve.divergences, customdata: curve.ratios.map(() => name), hoverinfo: "none", ...(at < named ? { line: { color: colours[SERIES.colours[at % 6]], dash: SERIES.dashes[Math.floor(at / 6) % 3], width: 2 }, marker: { symbol: SERIES.symbols[at % 6], size: 7 } } : { line: { color: colours.faint, width: 1 }, marker: { color: colours.faint, symbol: "circle", size: 4 } }) })).reverse();
  const rings = open && open.ratios ? curves.map(([name, curve]) => [open.ratios[(study.head.dimensions || []).indexOf(name)], curve]).filter(([ratio]) => !missing(ratio)) : [];
  if (rings.length) data.push({ type: "scatter", mode: "markers", name: `trial ${plain(open.id)}`, hoverinfo: "skip", x: rings.map(([ratio]) => ratio), y: rings.map(([ratio, curve]) => along(curve, ratio)), marker: { symbol: "circle-open", size: 14, color: colours.pick, line: { width: 2.5 } } });
  const layout = layoutOf({ margin: { l: 60, r: 16, t: 74, b: 48 }, legend: { orientation: "h", x: 0, y: 1.01, yanchor: "bottom", font: { size: 12, color: colours.muted }, itemsizing: "constant", traceorder: "reversed" }, xaxis: axisNamed("share of channels removed"), yaxis: axisNamed("divergence of the outputs", { rangemode: "tozero" }) });
  draw("curves-figure", data.length ? { data, layout } : null, "Sensitivity was not measured in this study (search.sampler: auto measures it).", { hover: (point) => [element("b", null, String(point.customdata || "")), element("div", null, `${(100 * point.x).toFixed(0)} % removed: divergence ${point.y.toPrecision(3)}`)] });
}

/** The curve between its points. */
function along({ ratios, divergences }, ratio) {
  const after = ratios.findIndex((one) => one >= ratio);
  if (after <= 0) return divergences[after < 0 ? divergences.length - 1 : 0];
  const share = (ratio - ratios[after - 1]) / (ratios[after] - ratios[after - 1]);
  return divergences[after - 1] + share * (divergences[after] - divergences[after - 1]);
}

export function drawHistory() {
  const points = (study.head.hypervolume || []).filter((point) => !missing(point.value));
  stairs("volume-figure", points.map((point) => [point.trial, point.value]), "hypervolume", "It is known after the first measured trials.");
  const goal = accuracy(), bounds = limits(), rows = candidates().filter((row) => !isExport(row)), fits = within(bounds), found = [];
  for (let at = 0, now = null; at < rows.length; at += 1) {
    if (fits(rows[at])) now = best([now, rows[at]].filter(Boolean));
    if (now) found.push([rows[at].number, valueOf(now, goal.name)]);
  }
  stairs("best-figure", found, goal ? axisTitle(goal) : "", "No trial fits the budget yet.");
  drawRungs();
}

function stairs(id, points, title, nothing) {
  const values = points.map(([, value]) => value), flat = values.length > 0 && Math.max(...values) === Math.min(...values) && values[0] !== 0;
  const trace = { type: "scatter", mode: points.length > 1 ? "lines" : "markers", x: points.map(([trial]) => trial), y: points.map(([, value]) => value), line: { shape: "hv", color: theme().kept, width: 2 }, hoverinfo: "none" };
  const figure = points.length ? { data: [trace], layout: layoutOf({ showlegend: false, margin: { l: 60, r: 16, t: 10, b: 48 }, xaxis: axisNamed("trial"), yaxis: axisNamed(title, flat ? { range: [0.9 * values[0], 1.1 * values[0]] } : {}) }) } : null;
  draw(id, figure, nothing, { hover: (point) => [element("div", null, `after trial ${point.x}`), element("b", null, point.y.toPrecision(4))] });
}

/** How well each cheap rung ranks what the full measurement ranks. */
function drawRungs() {
  const rungs = study.head.rungs || [];
  const line = (rung) => [element("span", { class: "name" }, String(rung.name)), element("span", { class: "track" }, barOf(Math.max(0, rung.correlation || 0))), element("span", null, missing(rung.correlation) ? "–" : `${rung.correlation.toFixed(2)}${rung.trials ? ` over ${rung.trials} trials` : ""}`)];
  fill(byId("rungs"), element("h3", null, "Rank correlation of the rungs with the full measurement"), rungs.length ? element("div", { class: "classes" }, rungs.flatMap(line)) : element("p", { class: "muted" }, "This study measures every trial in full: there are no cheap rungs to trust or distrust."));
}

function barOf(share) {
  const made = element("i");
  made.style.width = `${100 * share}%`;
  return made;
}

export const budgetWords = (bounds) => Object.entries(bounds).map(([name, limit]) => { const figure = study.figures.find((one) => one.name === name); return figure ? `${figure.title} ≤ ${withUnit(figure, limit)}` : ""; }).filter(Boolean).join(", ");

export function listenToViews() { byId("heat-show").addEventListener("change", (event) => choose({ heat: event.target.value })); }
