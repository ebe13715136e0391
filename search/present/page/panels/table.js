// The table: the keyboard's way to every trial. Only the rows in sight are in the document, so thousands stay fluid.

import { choose, chosen } from "../state/address.js";
import { limits } from "./budget.js";
import { openTrial } from "./drawer.js";
import { pickTags } from "./front.js";
import { areaOf, axisTitle, byId, choices, difference, duration, element, fill, missing, printed, tone } from "../format.js";
import { baseName, baseValue, baselines, bases, candidates, inOrder, isEstimated, isExport, isFeasible, isGuess, isMeasured, marksOf, secondsOf, study, valueOf, within } from "../state/study.js";

const HEIGHT = 30, SPARE = 12;
const SHOWN = {
  all: ["all trials", () => true], front: ["the front", (row) => row.on_front], fits: ["within the budget", (row) => fits.has(row.id)],
  feasible: ["feasible", isFeasible], pinned: ["pinned or noted", (row) => marksOf(row.id).pinned || marksOf(row.id).note], estimated: ["estimated", isEstimated], exported: ["exported", isExport], failed: ["failed or stopped", (row) => !isMeasured(row) && !isEstimated(row)],
};
let fits = new Set(), rows = [], focusOn = null, window_ = "", anchored = false;

function columns() {
  const figures = study.figures.map((figure) => ({ key: figure.name, title: axisTitle(figure), figure, value: (row) => valueOf(row, figure.name) }));
  const text = (key, value) => ({ key, title: key, text: true, value });
  const places = study.device ? [{ key: "rank", title: "rank", value: (row) => (study.places.get(row.id) || {}).now, cell: placeCell }, { key: "own_rank", title: "own rank", value: (row) => (study.places.get(row.id) || {}).was }] : [];
  const several = bases().length ? [text("base", baseName)] : [];
  const precisions = study.rows.some((row) => (row.candidate.precision || "fp32") !== "fp32") ? [text("precision", (row) => (row.candidate && row.candidate.precision) || "")] : [];
  return [{ key: "trial", title: "trial", value: (row) => (isExport(row) ? row.number + 0.1 : row.number), csv: (row) => row.id ?? row.name ?? "base", cell: nameCell }, ...several, ...figures, ...places, text("state", (row) => stateOf(row)), text("source", (row) => row.source || ""), { key: "px", title: "px", value: (row) => areaOf(row.candidate && row.candidate.imgsz), csv: pixels, cell: (row) => [String(pixels(row) ?? "–")] }, ...precisions, { key: "time", title: "time", value: secondsOf, cell: (row) => [duration(secondsOf(row))] }, text("note", (row) => (row.id ? marksOf(row.id).note : row.note || ""))];
}

const pixels = (row) => row.candidate && row.candidate.imgsz;

function stateOf(row) {
  if (isEstimated(row)) return "estimated";
  if (row.untimed) return `not timed on ${study.device}`;
  if (row.state !== "complete") return String(row.error || "").trim().split("\n")[0] || row.state || "";
  return isFeasible(row) ? (missing(row.same_as) ? "" : `as trial ${row.same_as}`) : (row.breaks || []).join("; ") || "breaks a constraint";
}

function nameCell(row) {
  if (row.id === null) return [bases().length ? `unpruned ${bases()[0].name}` : "base"];
  if (row.id === undefined) return [String(row.name)];
  return [row.id, isExport(row) ? element("span", { class: "tag soft" }, "exported") : null, row.on_front ? element("span", { class: "tag" }, "front") : null, ...pickTags(row.id), marksOf(row.id).pinned ? element("span", { class: "tag pin" }, "pinned") : null];
}

/** The place by the device's times, and how many places that is up or down from the study's own. */
function placeCell(row) {
  const place = study.places.get(row.id), steps = place ? place.was - place.now : 0;
  if (!place) return ["–"];
  return [String(place.now), element("small", { class: steps > 0 ? "up" : steps < 0 ? "down" : "" }, steps ? `${steps > 0 ? "▲" : "▼"} ${Math.abs(steps)}` : "=")];
}

/** Chooses and sorts the rows, then draws those in sight. */
export function drawTable() {
  choices(byId("table-show"), Object.entries(SHOWN).map(([key, [title]]) => [key, title]), chosen.show);
  if (document.activeElement !== byId("table-search")) byId("table-search").value = chosen.search;
  fits = new Set(chosen.show === "fits" ? candidates().filter(within(limits())).map((row) => row.id) : []);
  const shown = columns(), sorted = shown.find((column) => column.key === chosen.sort.replace(/^-/, "")), words = chosen.search.toLowerCase().split(/\s+/).filter(Boolean);
  rows = study.rows.filter((SHOWN[chosen.show] || SHOWN.all)[1]).filter((row) => matches(row, words));
  if (sorted) rows.sort(order(sorted, chosen.sort.startsWith("-")));
  fill(byId("table-count"), `${rows.length} of ${study.rows.length} trials; differences are to the base`);
  byId("table").setAttribute("aria-rowcount", String(rows.length + 1));
  fill(byId("table").tHead, element("tr", null, shown.map(heading)));
  window_ = "";
  drawWindow();
}

function matches(row, words) {
  if (!words.length) return true;
  const text = `${row.id} ${baseName(row)} ${row.state} ${row.source} ${row.error || ""} ${marksOf(row.id).note} ${row.on_front ? "front" : ""}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

function order(column, falling) {
  const none = (value) => value === null || value === undefined || value === "";
  return (left, right) => {
    const a = column.value(left), b = column.value(right);
    if (none(a) || none(b)) return none(a) - none(b) || inOrder(left, right);
    const found = typeof a === "string" ? a.localeCompare(String(b)) : a - b;
    return (falling ? -found : found) || inOrder(left, right);
  };
}

function heading(column) {
  const now = chosen.sort.replace(/^-/, "") === column.key ? (chosen.sort.startsWith("-") ? "descending" : "ascending") : "";
  const press = () => { choose({ sort: now === "ascending" ? `-${column.key}` : column.key }); const again = [...byId("table").tHead.querySelectorAll("button")].find((one) => one.textContent === column.title); if (again) again.focus(); };
  return element("th", { class: column.text ? "text" : "", "aria-sort": now, scope: "col" }, element("button", { type: "button", click: press }, column.title));
}

/** The rows that the scroll box shows, with two spacers for the others. The base and the baselines come first. */
export function drawWindow() {
  const box = byId("table-scroll"), from = Math.max(0, Math.floor(box.scrollTop / HEIGHT) - SPARE), until = Math.min(rows.length, from + Math.ceil((box.clientHeight || 520) / HEIGHT) + 2 * SPARE);
  const key = `${from}-${until}-${chosen.trial}`;
  if (key === window_) return;
  window_ = key;
  anchored = rows.some((row) => row.id === chosen.trial);
  const shown = columns(), held = document.activeElement && document.activeElement.dataset && document.activeElement.closest("#table tbody") ? document.activeElement.dataset.id : undefined;
  const gap = (count) => (count ? element("tr", { class: "gap", "aria-hidden": "true" }, spacer(count, shown.length)) : null);
  const fixed = [study.base, ...baselines()].filter(Boolean).map((row) => element("tr", { class: row.id === null ? "base" : "baseline" }, shown.map((column) => cell(column, row))));
  fill(byId("table").tBodies[0], fixed, gap(from), rows.slice(from, until).map((row, i) => tableRow(row, from + i, shown)), gap(rows.length - until));
  const wanted = focusOn ?? held;
  if (wanted !== undefined && wanted !== null) { const again = byId("table").querySelector(`tr[data-id="${wanted}"]`); if (again) again.focus({ preventScroll: focusOn === null }); }
  focusOn = null;
}

function spacer(count, span) {
  const made = element("td", { colspan: String(span) });
  made.style.height = `${count * HEIGHT}px`;
  return made;
}

function tableRow(row, at, shown) {
  const open = row.id === chosen.trial, anchor = anchored ? open : at === 0;
  return element("tr", { "data-id": row.id, tabindex: anchor ? "0" : "-1", "aria-selected": String(open), "aria-rowindex": String(at + 2), class: isEstimated(row) || (isMeasured(row) && !isFeasible(row)) ? "grey" : "" }, shown.map((column) => cell(column, row)));
}

function cell(column, row) {
  const value = column.value(row), made = element("td", { class: column.text ? "text" : "", title: column.text && value ? String(value) : "" });
  if (column.cell) made.append(...column.cell(row).filter(Boolean));
  else if (!column.figure) made.append(value === null || value === undefined ? "–" : String(value));
  else {
    const diff = row.id === null ? null : difference(column.figure, value, baseValue(column.figure.name));
    made.append(isGuess(row, column.figure.name) && !missing(value) ? "≈ " : "", printed(column.figure, value), ...(diff ? [element("small", { class: tone(diff) }, diff.text)] : []));
  }
  return made;
}

function onKey(event) {
  const row = event.target.closest("tr[data-id]");
  if (!row) return;
  const at = rows.findIndex((one) => one.id === row.dataset.id), page = Math.max(1, Math.floor(byId("table-scroll").clientHeight / HEIGHT) - 2);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: rows.length - 1 }[event.key];
  if (event.key === "Enter" || event.key === " ") openTrial(row.dataset.id, row);
  else if (to === undefined) return;
  else moveTo(Math.min(rows.length - 1, Math.max(0, to)));
  event.preventDefault();
}

function moveTo(at) {
  const box = byId("table-scroll"), top = at * HEIGHT, fixed = HEIGHT * (2 + baselines().length), room = box.clientHeight - fixed - HEIGHT;
  focusOn = rows[at].id;
  if (top < box.scrollTop) box.scrollTop = top;
  if (top > box.scrollTop + room) box.scrollTop = top - room;
  window_ = "";
  drawWindow();
}

/** What is shown, as CSV: the columns of the table, intervals and all. */
export function tableCsv() {
  const quoted = (value) => { const text = value === null || value === undefined ? "" : String(value); const safe = /^[=+\-@\t\r]/.test(text) && Number.isNaN(Number(text)) ? `'${text}` : text; return /[",\n\r]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe; };
  const shown = columns(), names = shown.flatMap((column) => (column.figure ? [column.key, `${column.key}_low`, `${column.key}_high`] : [column.key]));
  const line = (row) => shown.flatMap((column) => (column.figure ? [0, 1, 2].map((at) => { const found = row.figures && row.figures[column.key]; return found ? found[at] ?? found[0] : ""; }) : [column.csv ? column.csv(row) : column.value(row)]));
  return [names, ...rows.map(line)].map((cells) => cells.map(quoted).join(",")).join("\n") + "\n";
}

function saveCsv() {
  const address = URL.createObjectURL(new Blob([tableCsv()], { type: "text/csv" }));
  element("a", { href: address, download: `${study.head.name}.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

export function listenToTable() {
  byId("table-scroll").addEventListener("scroll", drawWindow, { passive: true });
  byId("table").tBodies[0].addEventListener("keydown", onKey);
  byId("table").tBodies[0].addEventListener("click", (event) => { const row = event.target.closest("tr[data-id]"); if (row) openTrial(row.dataset.id); });
  byId("table-show").addEventListener("change", (event) => choose({ show: event.target.value }));
  byId("table-search").addEventListener("input", (event) => choose({ search: event.target.value }));
  byId("table-csv").addEventListener("click", saveCsv);
}
