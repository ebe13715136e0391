// The top: what this run is, how it stands, what a person wants to know in the morning.

import { boundsText, choose } from "../state/address.js";
import { button, byId, difference, duration, element, fill, missing, printed, tone, withUnit } from "../format.js";
import { accuracy, baseValue, best, candidates, describe, isEstimated, study, valueOf, within } from "../state/study.js";

const STATES = ["finished", "running", "interrupted", "preparing"];
export const running = { trials: [] };

export function drawHeader() {
  const { head } = study;
  document.title = `${head.name} · ParetoPrune`;
  fill(byId("name"), String(head.name));
  byId("state").className = `pill ${STATES.includes(head.state) ? head.state : ""}`;
  fill(byId("state"), String(head.state));
  drawSummary(head);
  drawTiles();
}

function drawSummary(head) {
  const lines = (head.summary || []).map(String), verdict = String(head.verdict || "");
  byId("summary").hidden = !lines.length;
  fill(byId("summary-text"), lines.map((line) => element("p", { class: line === verdict ? "verdict" : line.startsWith("Look at:") ? "look" : "" }, line)));
}

function tile(name, value, note, more) {
  return element("div", null, element("dt", { title: name }, name), element("dd", null, value, note ? element("small", null, note) : null, more));
}

export function drawTiles() {
  const { head } = study, progress = head.progress || {}, volumes = head.hypervolume || [];
  const counts = [progress.failed ? `${progress.failed} failed` : "none failed", stopped() ? `${stopped()} stopped` : "", screened() ? `${screened()} screened` : "", progress.running ? `${progress.running} running` : ""];
  const share = progress.total ? ((progress.done || 0) + (progress.failed || 0)) / progress.total : 0;
  const left = head.state === "running" && !missing(progress.eta_s) ? `about ${duration(progress.eta_s)} left` : "spent";
  const volume = volumes.length && !missing(volumes.at(-1).value) ? volumes.at(-1).value.toPrecision(4) : "–";
  fill(byId("tiles"),
    tile("trials", `${progress.done ?? 0} of ${progress.total ?? "?"}`, counts.filter(Boolean).join(", "), progressBar(share)),
    tile("time", duration(progress.seconds), running.trials.length ? running.trials.map(phaseText).join("; ") : left, null),
    tile("on the front", String((head.front || []).length), `hypervolume ${volume}`), ...baseTiles(), ...budgetTiles());
}

const stopped = () => study.rows.filter((row) => row.state === "stopped").length;
const screened = () => study.rows.filter(isEstimated).length;
const phaseText = (one) => `trial ${one.trial} ${one.phase || "starts"}`;

function progressBar(share) {
  const inner = element("i");
  inner.style.width = `${Math.min(100, 100 * share)}%`;
  return element("div", { class: "bar" }, inner);
}

function baseTiles() {
  if (!study.base) return [];
  const shown = study.figures.filter((figure) => !missing(baseValue(figure.name))).slice(0, 2);
  return [tile("base", shown.length ? withUnit(shown[0], baseValue(shown[0].name)) : "–", shown.slice(1).map((figure) => withUnit(figure, baseValue(figure.name))).join(", ") || " ")];
}

/** The best trial of every named budget; a press sets the budget bar. */
function budgetTiles() {
  return Object.entries(study.head.budgets || {}).slice(0, 4).map(([name, bounds]) => {
    const row = best(candidates().filter(within(bounds))), goal = accuracy(), by = describe(Object.keys(bounds)[0]);
    const diff = row ? difference(goal, valueOf(row, goal.name), baseValue(goal.name)) : null;
    const note = row ? [`${withUnit(by, valueOf(row, by.name))}, `, diff ? element("span", { class: tone(diff) }, diff.text) : ""] : ["nothing fits yet"];
    const made = tile(`${name}: ${by.title} ≤ ${bounds[by.name]}${by.unit ? ` ${by.unit}` : ""}`, row ? printed(goal, valueOf(row, goal.name)) : "–");
    made.querySelector("dd").append(element("small", null, ...note, " ", row ? button(`trial ${row.id}`, () => choose({ trial: row.id, budget: boundsText(bounds) }), { class: "quiet" }) : null));
    return made;
  });
}
