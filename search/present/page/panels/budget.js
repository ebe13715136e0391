// The budget bar: one quantity, a slider and a number, named budgets, and what fits.

import { boundsOf, boundsText, choose, chosen } from "../state/address.js";
import { button, byId, choices, difference, element, fill, missing, printed, withUnit } from "../format.js";
import { accuracy, baseValue, best, candidates, costs, describe, study, trialOf, valueOf, within } from "../state/study.js";

const STEPS = 1000;
let range = [0, 1];

/** The limits in force: what the reader set, else the study's first budget, else what the base costs. */
export function limits() {
  const said = boundsOf(chosen.budget), known = Object.keys(said).filter((name) => study.figures.some((figure) => figure.name === name));
  if (known.length) return said;
  const named = Object.values(study.head.budgets || {})[0];
  if (named) return named;
  const cost = costs()[0];
  return cost && !missing(baseValue(cost.name)) ? { [cost.name]: roundedUp(cost, baseValue(cost.name)) } : {};
}

const roundedUp = (figure, value) => { const step = 10 ** -figure.digits; return Number((Math.ceil(value / step - 1e-9) * step).toFixed(figure.digits)); };

export const fitting = () => candidates().filter(within(limits()));
export const picked = () => best(fitting());

export function drawBudget() {
  const options = costs().map((figure) => [figure.name, figure.title]), bounds = limits(), by = Object.keys(bounds)[0];
  byId("budget").hidden = !options.length;
  if (!options.length || !by) return;
  choices(byId("budget-by"), options, by);
  const figure = describe(by);
  range = reach(by);
  byId("budget-slider").value = Math.round((STEPS * (bounds[by] - range[0])) / (range[1] - range[0]));
  byId("budget-slider").setAttribute("aria-valuetext", withUnit(figure, bounds[by]));
  if (document.activeElement !== byId("budget-number")) byId("budget-number").value = String(Number(bounds[by].toFixed(figure.digits + 1)));
  fill(byId("budget-unit"), figure.unit);
  names(bounds);
  sentence(bounds);
}

/** From the cheapest trial to a little above the base. */
function reach(name) {
  const values = [...candidates().map((row) => valueOf(row, name)), baseValue(name)].filter((value) => !missing(value));
  const low = Math.min(...values), high = Math.max(...values), spare = (high - low || high || 1) * 0.04;
  return values.length ? [Math.max(0, low - spare), high + spare] : [0, 1];
}

function names(bounds) {
  const entries = Object.entries(study.head.budgets || {});
  fill(byId("budget-names"), entries.map(([name, limit]) => button(name, () => choose({ budget: boundsText(limit) }), { "aria-pressed": String(boundsText(limit) === boundsText(bounds)), title: boundsText(limit) })));
}

/** "23 of 118 fit; best 0.391 mAP50-95 at 4.8 ms, −1.2 points, 2.3 times faster than the base". */
export function budgetSentence(bounds = limits()) {
  const all = candidates(), rows = all.filter(within(bounds)), found = best(rows);
  if (!all.length) return ["No trial has been measured yet.", null];
  if (!found) return [`None of ${all.length} fits; ${closest(all, bounds)}`, null];
  const goal = accuracy(), by = describe(Object.keys(bounds)[0]);
  const parts = [`${rows.length} of ${all.length} fit; best ${printed(goal, valueOf(found, goal.name))} ${goal.title} at ${withUnit(by, valueOf(found, by.name))}`];
  const lost = difference(goal, valueOf(found, goal.name), baseValue(goal.name));
  if (lost) parts.push(lost.text.replace(" pt", " points"));
  parts.push(gain(by, found));
  return [`${parts.filter(Boolean).join(", ")}.`, found];
}

function gain(figure, row) {
  const before = baseValue(figure.name), after = valueOf(row, figure.name);
  if (missing(before) || missing(after) || after <= 0) return "";
  if (figure.name.startsWith("latency")) return `${(before / after).toFixed(1)} times ${after <= before ? "faster" : "as slow"} than the base`.replace("as slow than", "as slow as").replace(/^0\.\d times as slow as/, "slower than");
  return `${difference(figure, after, before).text} ${figure.title} against the base`;
}

function closest(rows, bounds) {
  const by = Object.keys(bounds)[0], figure = describe(by);
  const row = rows.reduce((found, one) => (valueOf(one, by) < valueOf(found, by) ? one : found), rows[0]);
  return `the closest is trial ${row.id} with ${withUnit(figure, valueOf(row, by))}.`;
}

function sentence(bounds) {
  const [text, found] = budgetSentence(bounds), line = byId("budget-text");
  const open = found ? button(`open trial ${found.id}`, () => choose({ trial: found.id })) : null;
  if (line.dataset.said === text + (found ? found.id : "")) return;
  line.dataset.said = text + (found ? found.id : "");
  fill(line, text, open);
}

export function listenToBudget() {
  const set = (value) => { const by = byId("budget-by").value; if (Number.isFinite(value) && value >= 0) choose({ budget: boundsText({ [by]: value }) }); };
  byId("budget-by").addEventListener("change", () => {
    const by = byId("budget-by").value, row = trialOf(chosen.trial), start = valueOf(row, by) ?? baseValue(by) ?? 1;
    choose({ budget: boundsText({ [by]: roundedUp(describe(by), start) }) });
  });
  byId("budget-slider").addEventListener("input", (event) => {
    const digits = describe(byId("budget-by").value).digits + 1;
    set(Number((range[0] + (Number(event.target.value) / STEPS) * (range[1] - range[0])).toFixed(digits)));
  });
  byId("budget-number").addEventListener("input", (event) => { if (event.target.value !== "") set(Number(event.target.value)); });
}
