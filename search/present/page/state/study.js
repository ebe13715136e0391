// The study as the page holds it: what the server or the file told, unpacked, and what follows from it.
// `lookBy` shows it by the times of another device: the rows and the head that everything is drawn from change.

import { missing } from "../format.js";

const KNOWN = {
  map50_95: { title: "mAP50-95", unit: "", direction: "max" }, map50: { title: "mAP50", unit: "", direction: "max" },
  precision: { title: "precision", unit: "", direction: "max" }, recall: { title: "recall", unit: "", direction: "max" },
  latency_ms: { title: "latency", unit: "ms", direction: "min" }, params_m: { title: "parameters", unit: "M", direction: "min" },
  macs_g: { title: "MACs", unit: "G", direction: "min" }, size_mb: { title: "file size", unit: "MB", direction: "min" },
  weights_mb: { title: "weights in INT8", unit: "MB", direction: "min" },
  e2e_ms: { title: "end to end", unit: "ms", direction: "min" }, memory_mb: { title: "memory", unit: "MB", direction: "min" }, energy_mj: { title: "energy", unit: "mJ", direction: "min" },
};
const HERE = ["e2e_ms", "memory_mb", "energy_mj"];
const RECORDED = ["latency_ms", "params_m", "macs_g", "size_mb", ...HERE, "map50"];
const EXACT = ["params_m", "macs_g", "size_mb", "weights_mb"];
const LATENCY = "latency_ms";
/** The choice of the study's own runtime; no device can be called so. */
export const OWN = "-";

/**
 * `told` is the head as it came, `known` the trials and exports by id as they came. `head`, `rows`, `base` and `front` are what is
 * drawn; `device` is the device whose times they have, empty for the study's own runtime.
 */
export const study = { told: null, known: new Map(), head: null, rows: [], byPoint: new Map(), front: new Set(), base: null, figures: [], device: "", places: new Map(), details: new Map(), candidates: null };

export function absorbRows(rows) {
  for (const row of rows) study.known.set(row.id, { ...row, figures: withExpected(row), candidate: row.candidate || {} });
}

/** A trial that was not measured in full stands where its score lets expect it. */
function withExpected(row) {
  const expected = Object.entries(row.expected || {}).map(([name, value]) => [name, [value]]);
  return { ...Object.fromEntries(expected), ...(row.figures || {}) };
}

export function absorbHead(head) { study.told = head; }

/** Draws from now on by the times of a device that the run has figures of; by the study's own for any other name. */
export function lookBy(device) {
  const { told } = study, view = (told.on_targets || {})[device];
  study.device = view ? device : "";
  study.head = view ? headOn(told, view) : told;
  study.front = new Set(study.head.front || []);
  study.base = told.base ? { ...told.base, figures: view ? timed(told.base, [view.base_ms]) : told.base.figures, id: null, source: "unpruned", candidate: {} } : null;
  study.rows = [...study.known.values()].sort(inOrder);
  if (view) study.rows = study.rows.map((row) => rowOn(row, view));
  study.byPoint = view ? new Map(study.rows.map((row) => [row.id, row])) : study.known;
  for (const row of study.rows) row.on_front = study.front.has(row.id);
  study.candidates = null;
  study.figures = figuresOf(study.head);
  study.places = view ? placesOn(study.rows) : new Map();
}

/** What was timed here does not count there: baselines, the prediction of what-if, a constraint on latency, costs of this runtime. */
function headOn(told, view) {
  const { front, picks, hypervolume, verdict, summary } = view;
  return { ...told, front, picks, hypervolume, verdict, summary, baselines: [], latency_model: null, objectives: objectivesOn(told.objectives || []), constraints: (told.constraints || []).filter((one) => one.name !== LATENCY && !HERE.includes(one.name)) };
}

/** Costs that were measured on this runtime only make way for the latency there. */
function objectivesOn(said) {
  const there = said.map((one) => HERE.includes(one.name) ? { name: LATENCY, ...KNOWN[LATENCY] } : one);
  return [...new Map(there.map((one) => [one.name, one])).values()];
}

const elsewhere = (figures) => Object.fromEntries(Object.entries(figures).filter(([name]) => !HERE.includes(name)));
const timed = (row, latency) => ({ ...elsewhere(row.figures), [LATENCY]: latency });

function rowOn(row, view) {
  const latency = view.latency_ms[row.id], { [LATENCY]: own, ...rest } = elsewhere(row.figures);
  if (!latency) return { ...row, figures: rest, timing: null, untimed: isMeasured(row) };
  return { ...row, figures: timed(row, latency), own: own && own[0], timing: null, feasible: (view.feasible || []).includes(row.id), breaks: [], notes: (view.flags || {})[row.id] || [] };
}

/** Place by the device's times and by the study's own, among the trials that both have timed: 1 is the fastest. */
function placesOn(rows) {
  const both = rows.filter((row) => isMeasured(row) && !missing(row.own)), order = (value) => new Map([...both].sort((a, b) => value(a) - value(b) || inOrder(a, b)).map((row, at) => [row.id, at + 1]));
  const now = order((row) => valueOf(row, LATENCY)), was = order((row) => row.own);
  return new Map(both.map((row) => [row.id, { now: now.get(row.id), was: was.get(row.id) }]));
}

/** How the device changes the picture: ranks, and who joins or leaves the front. */
export function changesOn() {
  const places = [...study.places.values()], own = new Set(study.told.front || []), timedThere = (id) => study.places.has(id);
  return { timed: places.length, ranks: places.filter(({ now, was }) => now !== was).length, joined: [...study.front].filter((id) => !own.has(id)).length, left: [...own].filter((id) => timedThere(id) && !study.front.has(id)).length };
}

export function forget() { Object.assign(study, { told: null, known: new Map(), head: null, rows: [], byPoint: new Map(), front: new Set(), base: null, device: "", places: new Map(), details: new Map(), candidates: null }); }

export const devices = () => Object.keys((study.told && study.told.on_targets) || {});
export const valueOf = (row, name) => { const found = row && row.figures && row.figures[name]; return found ? found[0] : null; };
export const spreadOf = (row, name) => { const found = row.figures[name]; return found && found.length > 2 ? [found[1], found[2]] : null; };
export const trialOf = (id) => study.byPoint.get(id) || null;
export const baseValue = (name) => valueOf(study.base, name);
export const marksOf = (id) => (study.head.marks || {})[id] || { note: "", pinned: false };
export const baselines = () => (study.head.baselines || []).filter((row) => row && row.figures).map((row) => ({ ...row, figures: Object.fromEntries(Object.entries(row.figures).map(([name, f]) => [name, Array.isArray(f) ? f : [f.value, f.low ?? f.value, f.high ?? f.value]])) }));

/** Rows have the id that a reader types: "17", or "17-int8" for an export of trial 17, which shares its number. */
export const isExport = (row) => Boolean(row.exported);
/** By number, a trial before its exports. */
export const inOrder = (a, b) => a.number - b.number || (a.id < b.id ? -1 : Number(a.id > b.id));

/** The figures a study is about: its objectives first, then what was recorded besides. */
function figuresOf(head) {
  const said = (head.objectives || []).map((objective) => objective.name);
  const rows = [study.base, ...study.rows].filter(Boolean);
  const seen = RECORDED.filter((name) => rows.some((row) => !missing(valueOf(row, name))));
  return [...new Set([...said, ...seen])].map((name) => describe(name, head));
}

/** The figure's name, unit, direction and digits: what the study says, else what is known, else the bare name. */
export function describe(name, head = study.head) {
  const said = (head.objectives || []).find((objective) => objective.name === name) || {}, known = KNOWN[name] || (head.described || {})[name] || { title: name, unit: "", direction: "min" };
  const unit = said.unit && said.unit !== "fraction" ? said.unit : known.unit, direction = said.direction || known.direction;
  const digits = direction === "max" ? 3 : digitsOf(baseValue(name));
  const title = KNOWN[name] ? known.title : said.title || known.title;
  return { name, digits, unit, title: name === LATENCY && study.device ? `${title} on ${study.device}` : title, direction };
}

/** Costs get the digits that show the base to three places, so that a column has one number of digits. */
const digitsOf = (base) => (missing(base) || base <= 0 ? 2 : Math.max(1, Math.min(6, 2 - Math.floor(Math.log10(base)))));

export const costs = () => study.figures.filter((figure) => figure.direction === "min");
export const accuracy = () => study.figures.find((figure) => figure.direction === "max") || study.figures[0];
export const isMeasured = (row) => row.state === "complete" && Object.keys(row.figures || {}).length > 0;
export const isFeasible = (row) => isMeasured(row) && row.feasible !== false && !row.untimed;
export const isEstimated = (row) => Boolean(row.estimated);
/** Whether it has a place in the front's picture: measured, or estimated. */
export const isDrawn = (row) => isMeasured(row) || (isEstimated(row) && Object.keys(row.figures || {}).length > 0);
/** Whether a figure of an estimated trial is a guess; what follows from the widths is exact. */
export const isGuess = (row, name) => isEstimated(row) && !EXACT.includes(name);

/** Trials that can be picked: measured in full, within the constraints, each network once, with every objective. */
export function candidates() {
  if (study.candidates) return study.candidates;
  const names = (study.head.objectives || []).map((objective) => objective.name);
  study.candidates = study.rows.filter((row) => isFeasible(row) && !isEstimated(row) && missing(row.same_as) && names.every((name) => !missing(valueOf(row, name))));
  return study.candidates;
}

/** A test of rows against bounds; it is asked of thousands. */
export function within(bounds) {
  const checks = Object.entries(bounds).map(([name, limit]) => [name, limit, describe(name).direction === "max"]);
  return (row) => checks.every(([name, limit, most]) => { const value = valueOf(row, name); return !missing(value) && (most ? value >= limit : value <= limit); });
}

/** The most accurate of some trials; equal accuracy: less latency, then fewer parameters (as `paretoprune pick`). */
export function best(rows) {
  const goal = accuracy(), sign = goal.direction === "max" ? -1 : 1;
  const key = (row) => [sign * valueOf(row, goal.name), valueOf(row, LATENCY) ?? 0, valueOf(row, "params_m") ?? 0, row.number, row.id];
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

/** The bases of a study of several, the first of which all differences refer to; none in a study of one. */
export const bases = () => study.head.bases || [];
/** The place in the study of the base that a trial was made of. */
export const placeOf = (row) => (row.candidate || {}).base || 0;
/** The name of the base that a row was made of; empty in a study of one base, and for what is no trial. */
export const baseName = (row) => (row.id && bases().length ? bases()[placeOf(row)].name : "");
/** The groups of the base that a row was made of. */
export const groupsOf = (row) => (placeOf(row) && bases().length ? bases()[placeOf(row)].groups : study.head.groups || []);
export const isOfFirst = (row) => placeOf(row) === 0;

/** Channels kept per group, along `groupsOf(row)`; what lies in a removed block, or goes with detection levels, is gone. */
export function keptOf(row) {
  return groupsOf(row).map((group, at) => {
    const removed = row.removed || [], levels = group.levels || [];
    if (removed.some((block) => group.name.startsWith(`${block}.`)) || (levels.length && levels.every((level) => removed.includes(level)))) return 0;
    return row.widths && !missing(row.widths[at]) ? row.widths[at] : group.size;
  });
}

export const namedPicks = (id) => Object.entries(study.head.picks || {}).filter(([, pick]) => pick.trial === id).map(([name]) => name);
export const runRef = (id) => `${study.head.run}:${id}`;
