// The page: what is drawn when. Everything is drawn from the study and the address; nothing else is remembered.

import { choose, chosen, listenToAddress, onChange, readAddress } from "./state/address.js";
import { drawBudget, listenToBudget } from "./panels/budget.js";
import { forgetTheme, hideTip } from "./charts/charts.js";
import { drawCompare, listenToCompare } from "./panels/compare.js";
import { costOf, latencyOf, realisedWidth, widthsOf } from "./cost.js";
import { closeDrawer, drawDrawer, sentenceOf } from "./panels/drawer.js";
import { drawFront, drawOver, listenToFront } from "./panels/front.js";
import { drawHeader, drawTiles } from "./panels/header.js";
import { drawFailures, drawHealth, drawRun } from "./panels/lists.js";
import { connect, follow } from "./live.js";
import { byId, fill, say } from "./format.js";
import { live } from "./state/server.js";
import { OWN, absorbHead, absorbRows, lookBy, study, trialOf } from "./state/study.js";
import { drawTable, listenToTable, tableCsv } from "./panels/table.js";
import { buildTabs, showTab } from "./panels/tabs.js";
import { drawCurves, drawHeat, drawHistory, listenToViews } from "./panels/views.js";
import { hypervolume } from "./charts/hypervolume.js";
import { drawWhatIf } from "./panels/whatif.js";

const TABS = { table: drawTable, heat: drawHeat, curves: drawCurves, history: drawHistory, failures: () => {}, health: () => {}, compare: drawCompare, whatif: drawWhatIf, run: drawRun };
const THEMES = ["auto", "light", "dark"];
const timing = { updates: [], parts: {} };
const PARTS = { look, header: drawHeader, budget: drawBudget, failures: drawFailures, health: drawHealth, tab: drawTab, drawer: () => drawDrawer(), front: drawFront };

function drawTab() { showTab(); if (study.head) TABS[chosen.tab](); }

/** By whose times: what the reader chose, else what a report was written for, else the study's own. */
function look() { if (study.told) lookBy(chosen.on || study.told.shown_on || OWN); }

/** Everything, after data have arrived. What is in a hidden tab waits until it is shown. */
function drawAll() {
  const begin = performance.now();
  for (const [name, part] of Object.entries(PARTS)) {
    const before = performance.now();
    part();
    timing.parts[name] = performance.now() - before;
  }
  timing.updates.push(performance.now() - begin);
  document.body.dataset.drawn = String(timing.updates.length);
}

const AFTER = [
  [["trial", "run"], () => drawDrawer()], [["trial", "budget"], drawOver], [["budget"], drawBudget], [["x", "y", "colour", "range"], drawFront],
  [["tab", "sort", "show", "search", "heat", "a", "b", "other", "w"], drawTab],
];

function changed(keys) {
  if (keys.has("run") && live.on && study.head) { connect(redraw); return; }
  if (!study.head) return;
  if (keys.has("on")) { drawAll(); return; }
  if (keys.has("trial") && trialOf(chosen.trial)) say(sentenceOf(trialOf(chosen.trial)));
  for (const [names, part] of AFTER) if (names.some((name) => keys.has(name))) part();
  const uses = { table: keys.has("budget") && chosen.show === "fits", heat: false, curves: keys.has("trial"), history: keys.has("budget"), compare: keys.has("trial") && !chosen.a, whatif: keys.has("trial") };
  if (chosen.tab === "table" && keys.has("trial")) drawTable();
  else if (uses[chosen.tab]) drawTab();
}

function redraw(what) {
  if (what === "details") drawDrawer(true);
  if (what === "running" && study.head) drawTiles();
  if (what === "all") drawAll();
}

function applyTheme(name) {
  document.documentElement.dataset.theme = name;
  fill(byId("theme"), `theme: ${name}`);
  forgetTheme();
  if (study.head) { drawFront(); drawTab(); }
}

function stored(key, value) {
  try {
    if (value !== undefined) localStorage.setItem(key, value);
    return localStorage.getItem(key);
  } catch { return null; } // a file may not remember anything
}

function listenToPage() {
  byId("theme").addEventListener("click", () => { const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]; stored("theme", next); applyTheme(next); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => applyTheme(document.documentElement.dataset.theme));
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && !byId("dialog").open && chosen.trial !== "") closeDrawer(); });
  document.addEventListener("scroll", hideTip, { passive: true, capture: true });
  byId("runs").addEventListener("change", (event) => choose({ run: event.target.value, trial: "", a: "", b: "", other: "", on: "", w: "" }));
}

/** Draws one snapshot's data; what a file does with its own, and what a test may do. */
function render(data) {
  const { trials, ...head } = data;
  absorbRows(trials || []);
  absorbHead(head);
  drawAll();
}

function start() {
  readAddress();
  buildTabs();
  for (const listen of [listenToAddress, listenToBudget, listenToFront, listenToTable, listenToViews, listenToCompare, listenToPage]) listen();
  onChange(changed);
  applyTheme(THEMES.includes(stored("theme")) ? stored("theme") : "auto");
  const embedded = byId("data").textContent.trim();
  if (embedded) render(JSON.parse(embedded));
  else follow(redraw).catch((fault) => fill(byId("link"), `the server cannot be reached: ${fault.message}`));
  // Figures need plotly, whose script comes after this one: tables and sentences do not wait for it.
  document.addEventListener("DOMContentLoaded", () => { if (study.head) drawAll(); });
}

window.paretoprune = { render, study, chosen, choose, timing, costOf, latencyOf, realisedWidth, widthsOf, hypervolume, tableCsv };
start();
