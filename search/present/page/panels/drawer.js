// Everything about one trial: figures, widths, latency, images, classes, files, commands, and what can be done with it.

import { actions, drawJobs } from "./actions.js";
import { choose, chosen } from "../state/address.js";
import { freeGroups, skyline } from "../charts/bars.js";
import { pickTags } from "./front.js";
import { button, byId, bytes, choices, difference, duration, element, fill, missing, printed, say, shell, tone } from "../format.js";
import { samples } from "./samples.js";
import { baseSamples, detailsOf } from "../state/server.js";
import { accuracy, baseName, baseValue, bases, costs, describe, groupsOf, isEstimated, isExport, isFeasible, isGuess, keptOf, marksOf, runRef, secondsOf, spreadOf, study, trialOf, valueOf } from "../state/study.js";

let shown = "", unit = "share", opener = null;

/** Draws the chosen trial; does nothing while what it shows is what is known. */
export function drawDrawer(force = false) {
  const row = trialOf(chosen.trial), drawer = byId("drawer");
  drawer.hidden = !row;
  byId("stage").classList.toggle("open", Boolean(row));
  const key = row ? JSON.stringify([chosen.run, row, marksOf(row.id), unit, study.head.picks]) : "";
  if (!row || (key === shown && !force)) { shown = row ? shown : ""; return; }
  if (drawer.contains(document.activeElement) && document.activeElement.tagName === "TEXTAREA" && shown !== "") return;
  shown = key;
  const later = element("div", null);
  fill(drawer, top(row), error(row), metrics(row), notes(row), widths(row), later, reproduce(row));
  drawJobs();
  addDetails(row, later);
}

export function openTrial(id, from) {
  opener = from || null;
  choose({ trial: id });
  const title = byId("drawer-title");
  if (from && title) title.focus();
  const row = trialOf(id);
  if (row) say(sentenceOf(row));
}

export function closeDrawer() {
  const row = byId("table").querySelector(`tr[data-id="${CSS.escape(chosen.trial)}"]`) ? chosen.trial : null;
  choose({ trial: "" });
  // The table has drawn its rows again meanwhile: the one that opened the drawer is another element now.
  const back = opener && opener.isConnected ? opener : row === null ? byId("panel") : byId("table").querySelector(`tr[data-id="${row}"]`);
  if (opener && back) back.focus();
  opener = null;
}

export function sentenceOf(row) {
  const figures = study.figures.slice(0, 3).filter((figure) => !missing(valueOf(row, figure.name)));
  return `Trial ${row.id}, ${row.on_front ? "on the front, " : ""}${figures.map((figure) => `${figure.title} ${printed(figure, valueOf(row, figure.name))} ${figure.unit}`).join(", ")}`;
}

function top(row) {
  const facts = [baseName(row) ? `pruned from ${baseName(row)}` : "", isExport(row) ? "" : row.source, row.candidate.imgsz ? `${row.candidate.imgsz} px, ${row.candidate.precision || "fp32"}` : "", missing(secondsOf(row)) ? "" : `took ${duration(secondsOf(row))}`, missing(row.epochs) ? "" : row.epochs ? `${row.epochs} ${row.epochs === 1 ? "epoch" : "epochs"} of fine-tune` : "no fine-tune", missing(row.same_as) ? "" : `same network as trial ${row.same_as}`];
  const tags = [row.on_front ? element("span", { class: "tag" }, "front") : null, ...pickTags(row.id), isExport(row) ? element("span", { class: "tag soft" }, "exported") : null, row.estimated ? element("span", { class: "tag soft" }, "estimated") : null, row.state === "complete" && !row.untimed && !isFeasible(row) ? element("span", { class: "tag soft" }, "breaks a constraint") : null, marksOf(row.id).pinned ? element("span", { class: "tag pin" }, "pinned") : null];
  return element("div", { class: "drawer-top" },
    element("div", { class: "row" }, element("h2", { id: "drawer-title", tabindex: "-1" }, `Trial ${row.id}`, tags), ...neighbours(row), button("✕", closeDrawer, { "aria-label": "close", title: "close (Esc)" })),
    element("p", { class: "muted" }, facts.filter(Boolean).join(" · ")), origin(row), breaches(row), actions(row));
}

/** Where an exported point comes from. */
function origin(row) {
  if (!isExport(row)) return null;
  const from = String(row.number);
  return element("p", { class: "muted" }, `Exported as ${row.candidate.precision} from `, trialOf(from) ? button(`trial ${from}`, () => openTrial(from, opener || document.body), { class: "quiet" }) : `trial ${from}`, ", measured as a file, not searched.");
}

/** Which constraints it breaks, and by how much. */
function breaches(row) {
  const said = row.feasible === false ? row.breaks || [] : [];
  return said.length ? element("p", { class: "breach" }, `Breaks a constraint: ${said.join("; ")}.`) : null;
}

/** The next trials along the front, cheapest first. */
function neighbours(row) {
  const by = (costs()[0] || accuracy()).name, line = study.rows.filter((one) => one.on_front || one === row).sort((a, b) => (valueOf(a, by) ?? 0) - (valueOf(b, by) ?? 0));
  const at = line.indexOf(row), step = (to, text, label) => button(text, () => openTrial(line[to].id, opener || document.body), { disabled: !line[to], "aria-label": label, title: label });
  return [step(at - 1, "‹", "the next cheaper on the front"), step(at + 1, "›", "the next dearer on the front")];
}

function error(row) {
  if (row.state === "complete") return null;
  if (isEstimated(row)) return element("p", { class: "muted" }, "Screened: its outputs promised too little for a fine-tune. Figures marked ≈ are estimates.");
  return element("div", null, element("h3", null, `State: ${row.state}`), row.error ? element("pre", { tabindex: "0" }, String(row.error)) : null);
}

function notes(row) {
  const said = row.notes || [];
  return said.length ? element("div", null, element("h3", null, "Notes of the measurement"), element("ul", { class: "notes" }, said.map((note) => element("li", null, String(note))))) : null;
}

function metrics(row) {
  const extra = Object.keys(row.figures || {}).filter((name) => !study.figures.some((figure) => figure.name === name)).map((name) => describe(name));
  const figures = [...study.figures, ...extra].filter((figure) => !missing(valueOf(row, figure.name)));
  if (!figures.length) return null;
  const head = element("tr", null, ["figure", "value", "95 % interval", "base", "difference"].map((text) => element("th", { class: text === "figure" ? "text" : "", scope: "col" }, text)));
  return element("div", null, element("h3", null, "Figures"), element("table", { class: "plain" }, element("thead", null, head), element("tbody", null, figures.map((figure) => metric(row, figure)), targets(row))), rank(row));
}

function metric(row, figure) {
  const value = valueOf(row, figure.name), spread = spreadOf(row, figure.name), diff = difference(figure, value, baseValue(figure.name));
  const name = figure.unit ? `${figure.title} ${figure.unit}` : figure.title;
  return element("tr", null, element("td", null, name), element("td", null, element("b", null, `${isGuess(row, figure.name) ? "≈ " : ""}${printed(figure, value)}`)), element("td", { class: "muted" }, spread ? `${printed(figure, spread[0])} – ${printed(figure, spread[1])}` : isGuess(row, figure.name) ? "a guess" : "exact"), element("td", { class: "muted" }, printed(figure, baseValue(figure.name))), element("td", null, diff ? element("span", { class: tone(diff) }, diff.text) : ""));
}

/** Where it stands by the device's times, and where by the study's own. */
function rank(row) {
  const place = study.places.get(row.id);
  return place ? element("p", { class: "muted" }, `Rank by latency: ${place.now} on ${study.device}, ${place.was} by the study's own times, of ${study.places.size}.`) : null;
}

/** Its latency on the devices that have timed it; on the page by a device's times, also its own here. */
function targets(row) {
  const line = (where, ms, base) => { const figure = { name: "latency_ms", direction: "min", unit: "ms" }, diff = difference(figure, ms[0], base), near = (value) => value.toPrecision(3); return element("tr", null, element("td", null, `latency ms, ${where}`), element("td", null, near(ms[0])), element("td", { class: "muted" }, ms.length > 2 ? `${near(ms[1])} – ${near(ms[2])}` : ""), element("td", { class: "muted" }, missing(base) ? "" : near(base)), element("td", null, diff ? element("span", { class: tone(diff) }, diff.text) : "")); };
  const others = Object.entries(study.told.on_targets || {}).filter(([name, view]) => name !== study.device && view.latency_ms[row.id]).map(([name, view]) => line(name, view.latency_ms[row.id], view.base_ms));
  const own = missing(row.own) ? [] : [line("this study", [row.own], valueOf(study.told.base, "latency_ms"))];
  return [...own, ...others];
}

function widths(row) {
  const groups = groupsOf(row);
  if (!groups.length || !(row.widths || (row.removed || []).length)) return null;
  const kept = keptOf(row), free = freeGroups(groups), before = free.reduce((sum, group) => sum + group.size, 0), after = free.reduce((sum, group) => sum + kept[group.at], 0);
  const pick = element("select", { "aria-label": "unit of the bars" });
  choices(pick, [["share", "share kept"], ["channels", "channels"]], unit);
  pick.addEventListener("change", () => { unit = pick.value; drawDrawer(true); });
  const legend = element("p", { class: "legend" }, element("span", { "--key": "var(--cut)" }, "base"), element("span", { "--key": "var(--kept)" }, "kept"));
  const gone = (row.removed || []).length ? element("p", { class: "muted" }, `Removed whole: ${row.removed.join(", ")}.`) : null;
  const head = element("div", { class: "head" }, element("h3", null, `Widths: ${after} of ${before} channels (${((100 * after) / before).toFixed(0)} %)`), element("div", { class: "controls" }, pick));
  return element("div", null, head, skyline(groups, kept, { unit }).root, legend, gone);
}

async function addDetails(row, place) {
  const { id } = row;
  try {
    const [found, base] = await Promise.all([detailsOf(id), baseSamples()]);
    if (chosen.trial !== id) return;
    fill(place, latency(row), isExport(row) ? null : samples(base, found.samples, id, (bases()[0] || {}).name), classes(row), files(found.files));
  } catch (fault) {
    fill(place, element("p", { class: "muted" }, `Files and images cannot be read: ${fault.message}`), classes(row));
  }
}

/** The interval and the quantiles on one line, with the base; single rounds as dots where they were recorded. */
function latency(row) {
  const value = valueOf(row, "latency_ms"), base = baseValue("latency_ms");
  if (missing(value)) return null;
  const found = row.timing, spread = spreadOf(row, "latency_ms") || [value, value], rounds = ((found && found.ratios) || []).map((ratio) => ratio * (base || found.reference_ms)).filter(Number.isFinite);
  const p90 = found && found.reference_ms ? (found.p90_ms * (base || found.reference_ms)) / found.reference_ms : null;
  const marks = [value, ...spread, base, p90, ...rounds].filter((one) => !missing(one)), low = Math.min(...marks), high = Math.max(...marks), room = high - low || 1;
  const at = (ms) => 12 + (376 * (ms - low)) / room;
  const svg = vector("svg", { class: "strip", viewBox: "0 0 400 66", role: "img", "aria-label": `latency ${value.toFixed(3)} ms, 95 % interval ${spread[0].toFixed(3)} to ${spread[1].toFixed(3)}` });
  svg.append(vector("line", { x1: 12, x2: 388, y1: 34, y2: 34, stroke: "var(--line)" }), ...rounds.map((ms, i) => vector("circle", { cx: at(ms), cy: 24 + ((i * 7) % 20), r: 2.2, fill: "var(--kept)", opacity: 0.45 })), vector("rect", { x: at(spread[0]), y: 29, width: Math.max(2, at(spread[1]) - at(spread[0])), height: 10, rx: 2, fill: "var(--kept)" }), vector("circle", { cx: at(value), cy: 34, r: 4.5, fill: "var(--pick)" }));
  svg.append(...tick(at(value), `${value.toFixed(3)} ms`, 60), ...(missing(base) ? [] : [vector("path", { d: `M${at(base)} 27l6 7-6 7-6-7z`, fill: "var(--base)" }), ...tick(at(base), `base ${base.toFixed(3)}`, 14)]), ...(missing(p90) ? [] : [vector("line", { x1: at(p90), x2: at(p90), y1: 26, y2: 42, stroke: "var(--ink)" })]));
  const more = isEstimated(row) ? "Predicted from its widths; the bar is the 95 % interval of the prediction." : found && found.rounds ? `Median of ${found.rounds} interleaved rounds${rounds.length ? " (dots: single rounds)" : ""}; p90 (line) ${missing(p90) ? "–" : `${p90.toFixed(3)} ms`}.` : `Bar: 95 % interval of the median${study.device ? ` on ${study.device}` : ""}.`;
  return element("div", null, element("h3", null, "Latency"), svg, element("p", { class: "muted" }, more));
}

function tick(x, text, y) {
  const made = vector("text", { x, y, "text-anchor": x < 60 ? "start" : x > 340 ? "end" : "middle" });
  made.append(text);
  return [made];
}

export function vector(tag, attributes) {
  const made = document.createElementNS(document.querySelector(".mark svg").namespaceURI, tag);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function classes(row) {
  const names = study.head.classes || [], base = (study.base && study.base.per_class) || [];
  if (!row.per_class || !names.length) return null;
  const rows = names.map((name, at) => ({ name, value: row.per_class[at], before: base[at] })).filter((one) => !missing(one.value)).sort((a, b) => (a.value - (a.before ?? 0)) - (b.value - (b.before ?? 0)));
  const grid = (some) => element("div", { class: "classes" }, some.flatMap(classLine));
  const rest = rows.length > 12 ? element("details", null, element("summary", null, `${rows.length - 12} more`), grid(rows.slice(12))) : null;
  return element("div", null, element("h3", null, "AP50-95 per class, largest loss first"), grid(rows.slice(0, 12)), rest);
}

function classLine({ name, value, before }) {
  const bar = element("i"), mark = element("b"), diff = difference({ direction: "max" }, value, before);
  bar.style.width = `${100 * value}%`;
  if (!missing(before)) mark.style.left = `${100 * before}%`;
  return [element("span", { class: "name", title: name }, name), element("span", { class: "track" }, bar, missing(before) ? null : mark), element("span", null, value.toFixed(3), " ", diff ? element("small", { class: tone(diff) }, diff.text) : null)];
}

function files(found) {
  if (!found.length) return null;
  const line = (file) => element("li", null, file.address && !file.address.startsWith("data:") ? element("a", { href: file.address, target: "_blank", rel: "noopener" }, file.name) : element("span", null, file.name), element("span", { class: "muted" }, bytes(file.bytes)));
  return element("div", null, element("h3", null, "Files"), element("ul", { class: "files" }, found.map(line)));
}

function reproduce(row) {
  const ref = shell(runRef(row.id)), more = isExport(row) ? [`paretoprune export ${shell(runRef(row.number))} format=onnx quantize=${{ int8: 8, fp16: 16 }[row.candidate.precision] || 32}`] : [`paretoprune export ${ref} format=onnx`, `paretoprune finetune ${ref} epochs=100`];
  const lines = [`paretoprune show ${ref}`, ...more].join("\n");
  return element("div", null, element("h3", null, "The same on the command line"), element("pre", { tabindex: "0" }, lines));
}
