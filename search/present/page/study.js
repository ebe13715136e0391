// The study as the page holds it: what the server or the file told, unpacked, and what follows from it.

import { missing } from "./plain.js";

const KNOWN = {
  map50_95: { title: "mAP50-95", unit: "", direction: "max" }, map50: { title: "mAP50", unit: "", direction: "max" },
  precision: { title: "precision", unit: "", direction: "max" }, recall: { title: "recall", unit: "", direction: "max" },
  latency_ms: { title: "latency", unit: "ms", direction: "min" }, params_m: { title: "parameters", unit: "M", direction: "min" },
  macs_g: { title: "MACs", unit: "G", direction: "min" }, size_mb: { title: "file size", unit: "MB", direction: "min" },
};
const RECORDED = ["latency_ms", "params_m", "macs_g", "size_mb", "map50"];

/** `head` is everything but the trials; `rows` are the trials by number, `front` the numbers on the front. */
export const study = { head: null, rows: [], byNumber: new Map(), front: new Set(), base: null, figures: [], details: new Map() };

export function absorbRows(rows) {
  for (const row of rows) study.byNumber.set(row.number, { ...row, candidate: row.candidate || {} });
}

export function absorbHead(head) {
  study.head = head;
  study.front = new Set(head.front || []);
  study.base = head.base ? { ...head.base, number: null, source: "unpruned", candidate: {} } : null;
  study.rows = [...study.byNumber.values()].sort((a, b) => a.number - b.number);
  for (const row of study.rows) row.on_front = study.front.has(row.number);
  study.figures = figuresOf(head);
}

export function forget() { Object.assign(study, { head: null, rows: [], byNumber: new Map(), front: new Set(), base: null, details: new Map() }); }

export const valueOf = (row, name) => { const found = row && row.figures && row.figures[name]; return found ? found[0] : null; };
export const spreadOf = (row, name) => { const found = row.figures[name]; return found && found.length > 2 ? [found[1], found[2]] : null; };
export const trialOf = (number) => study.byNumber.get(number) || null;
export const baseValue = (name) => valueOf(study.base, name);
export const marksOf = (number) => (study.head.marks || {})[number] || { note: "", pinned: false };
export const baselines = () => (study.head.baselines || []).filter((row) => row && row.figures).map((row) => ({ ...row, figures: Object.fromEntries(Object.entries(row.figures).map(([name, f]) => [name, Array.isArray(f) ? f : [f.value, f.low ?? f.value, f.high ?? f.value]])) }));

/** The figures a study is about: its objectives first, then what was recorded besides. */
function figuresOf(head) {
  const said = (head.objectives || []).map((objective) => objective.name);
  const rows = [study.base, ...study.rows].filter(Boolean);
  const seen = RECORDED.filter((name) => rows.some((row) => !missing(valueOf(row, name))));
  return [...new Set([...said, ...seen])].map((name) => describe(name, head));
}

/** The figure's name, unit, direction and digits: what the study says, else what is known, else the bare name. */
export function describe(name, head = study.head) {
  const said = (head.objectives || []).find((objective) => objective.name === name) || {}, known = KNOWN[name] || { title: name, unit: "", direction: "min" };
  const unit = said.unit && said.unit !== "fraction" ? said.unit : known.unit, direction = said.direction || known.direction;
  const digits = direction === "max" ? 3 : digitsOf(baseValue(name));
  const title = KNOWN[name] ? known.title : said.title || name;
  return { name, digits, unit, title, direction };
}

/** Costs get the digits that show the base to three places, so that a column has one number of digits. */
const digitsOf = (base) => (missing(base) || base <= 0 ? 2 : Math.max(1, Math.min(6, 2 - Math.floor(Math.log10(base)))));

export const costs = () => study.figures.filter((figure) => figure.direction === "min");
export const accuracy = () => study.figures.find((figure) => figure.direction === "max") || study.figures[0];
export const isMeasured = (row) => row.state === "complete" && Object.keys(row.figures || {}).length > 0;
export const isFeasible = (row) => isMeasured(row) && row.feasible !== false;
export const isEstimated = (row) => Boolean(row.estimated);

/** Trials that can be picked: measured in full, within the constraints, each network once, with every objective. */
export function candidates() {
  const names = (study.head.objectives || []).map((objective) => objective.name);
  return study.rows.filter((row) => isFeasible(row) && !isEstimated(row) && missing(row.same_as) && names.every((name) => !missing(valueOf(row, name))));
}

export const within = (row, bounds) => Object.entries(bounds).every(([name, limit]) => !missing(valueOf(row, name)) && (describe(name).direction === "max" ? valueOf(row, name) >= limit : valueOf(row, name) <= limit));

/** The most accurate of some trials; equal accuracy: less latency, then fewer parameters (as `paretoprune pick`). */
export function best(rows) {
  const goal = accuracy(), sign = goal.direction === "max" ? -1 : 1;
  const key = (row) => [sign * valueOf(row, goal.name), valueOf(row, "latency_ms") ?? 0, valueOf(row, "params_m") ?? 0, row.number];
  return rows.reduce((found, row) => (!found || isLess(key(row), key(found)) ? row : found), null);
}

function isLess(a, b) {
  const at = a.findIndex((value, i) => value !== b[i]);
  return at >= 0 && a[at] < b[at];
}

export function secondsOf(row) {
  const spent = Object.values(row.seconds || {});
  return spent.length ? spent.reduce((sum, value) => sum + (value || 0), 0) : null;
}

/** Channels kept per group, along head.groups; what lies in a removed block is gone. */
export function keptOf(row) {
  return (study.head.groups || []).map((group, at) => {
    if ((row.removed || []).some((block) => group.name.startsWith(`${block}.`))) return 0;
    return row.widths && !missing(row.widths[at]) ? row.widths[at] : group.size;
  });
}

export const namedPicks = (number) => Object.entries(study.head.picks || {}).filter(([, pick]) => pick.trial === number).map(([name]) => name);
export const runRef = (number) => `${study.head.run}:${number}`;
