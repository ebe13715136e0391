// Failures by cause, the health of the search, and what the run is made of.

import { button, byId, element, fill, shell } from "../format.js";
import { countTab } from "./tabs.js";
import { openTrial } from "./drawer.js";
import { runRef, study } from "../state/study.js";

/** Numbers and paths differ between failures of one cause. */
const causeOf = (text) => text.trim().split("\n")[0].replace(/\d+(\.\d+)?/g, "…");

export function drawFailures() {
  const causes = new Map(), failed = study.rows.filter((row) => row.state === "failed");
  for (const row of failed) {
    const cause = causeOf(String(row.error || "no cause was recorded"));
    causes.set(cause, [...(causes.get(cause) || []), row]);
  }
  countTab("failures", failed.length, failed.length > 0);
  const groups = [...causes].sort((a, b) => b[1].length - a[1].length).map(([cause, rows]) => element("details", null, element("summary", null, element("b", null, `${rows.length} × `), cause), element("p", null, rows.slice(0, 60).map((row) => button(`trial ${row.id}`, (event) => openTrial(row.id, event.target), { class: "quiet" }))), element("pre", { tabindex: "0" }, String(rows[0].error || cause))));
  fill(byId("failure-list"), groups.length ? groups : element("p", { class: "empty" }, "No trial has failed."));
}

export function drawHealth() {
  const found = study.head.health || [], warnings = found.filter((one) => one.level === "warn").length;
  countTab("health", found.length, warnings > 0);
  const cards = found.map((one) => element("article", { class: `finding ${one.level === "warn" ? "warn" : ""}` }, element("h3", null, `${one.level === "warn" ? "⚠ " : "ⓘ "}${one.title}`), element("p", null, one.text), one.hint ? element("p", { class: "muted" }, one.hint) : null));
  const fine = element("article", { class: "finding ok" }, element("h3", null, "✓ Nothing to complain about"), element("p", null, "The space does not end where the good trials are, the front is not flat, latency is quiet, and few trials fail."));
  fill(byId("health-list"), cards.length ? cards : fine);
}

function commandLines() {
  const { head } = study, run = shell(head.run), trial = (Object.values(head.picks || {})[0] || {}).trial ?? (head.front || [])[0];
  const bounds = Object.entries(Object.values(head.budgets || {})[0] || { latency_ms: 5 }).map(([name, limit]) => `--max ${shell(`${name}=${limit}`)}`).join(" ");
  const one = !trial ? [] : [[`paretoprune show ${shell(runRef(trial))}`, "one trial in full"], [`paretoprune finetune ${shell(runRef(trial))}`, "recover it in full"], [`paretoprune export ${shell(runRef(trial))} format=onnx`, "verified artefacts and a model card"]];
  return [["paretoprune search study.yaml", "the same search: save the resolved study below as study.yaml"], [`paretoprune pick ${run}${study.device ? ` --target ${shell(study.device)}` : ""} ${bounds}`, "the best trial within a budget"], ...one, ...(head.state === "finished" ? [] : [[`paretoprune resume ${run}`, "go on with this search"]])];
}

export function drawRun() {
  const { head } = study;
  fill(byId("commands"), commandLines().map(([line, note]) => `# ${note}\n${line}`).join("\n"));
  fill(byId("study"), Object.entries(head.study || {}).map(([key, value]) => `${key}: ${JSON.stringify(value)}`).join("\n"));
  const rows = Object.entries({ ParetoPrune: head.version, created: head.created, updated: head.updated, ...(head.environment || {}) }).filter(([, value]) => value !== undefined && value !== null);
  fill(byId("environment").tBodies[0], rows.map(([name, value]) => element("tr", null, element("td", null, name), element("td", null, typeof value === "object" ? JSON.stringify(value) : String(value)))));
}
