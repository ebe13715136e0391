"use strict";
// The page: render(snapshot) draws everything again and keeps what the reader has chosen.

const CONFIG = { displaylogo: false, displayModeBar: false, responsive: true, plotlyServerURL: "", showSendToCloud: false, showEditInChartStudio: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
const page = { snapshot: null, sort: { key: null, falling: false }, drawn: new Map() };

function draw(id, figure, nothing, config = CONFIG) {
  const target = byId(id);
  if (!figure) {
    if (page.drawn.delete(id)) Plotly.purge(target);
    fill(target, element("p", { class: "muted empty" }, nothing));
    return;
  }
  if (!page.drawn.has(id)) fill(target);
  page.drawn.set(id, true);
  Plotly.react(target, figure.data, figure.layout, config);
}

/** The figures a study is about: its objectives first, then the exact costs that were recorded. */
function figuresOf(snapshot) {
  const said = (snapshot.objectives || []).map((objective) => objective.name);
  const rows = [snapshot.base, ...(snapshot.trials || [])].filter(Boolean);
  const seen = ["latency_ms", "params_m", "macs_g", "size_mb"].filter((name) => rows.some((row) => !missing(valueOf(row, name))));
  return [...new Set([...said, ...seen])].map((name) => describe(snapshot, name));
}

const costsOf = (figures) => figures.filter((figure) => figure.direction === "min");
const accuracyOf = (figures) => figures.find((figure) => figure.direction === "max") || figures[0];

function axesOf(snapshot, cost) {
  const figures = figuresOf(snapshot), costs = costsOf(figures);
  const across = costs.find((figure) => figure.name === cost) || costs[0] || figures[0];
  const colour = ["params_m", "macs_g", "size_mb", "latency_ms"].map((name) => costs.find((figure) => figure.name === name)).find((figure) => figure && figure !== across) || across;
  return { x: across, y: accuracyOf(figures), colour };
}

// ---- header -------------------------------------------------------------------------------------------------

function tile(name, value, note) {
  return element("div", null, element("dt", null, name), element("dd", null, value, note ? " " : null, note ? element("small", null, note) : null));
}

function header(snapshot) {
  const progress = snapshot.progress || {}, environment = snapshot.environment || {};
  document.title = `${snapshot.name} · ParetoPrune`;
  fill(byId("name"), String(snapshot.name));
  const state = byId("state");
  state.className = `pill ${["finished", "running", "interrupted"].includes(snapshot.state) ? snapshot.state : ""}`;
  fill(state, String(snapshot.state));
  const versions = ["python", "torch", "ultralytics", "onnxruntime"].filter((name) => environment[name]).map((name) => `${name} ${environment[name]}`);
  const line = [environment.machine, environment.cpu, environment.gpu, snapshot.version && `ParetoPrune ${snapshot.version}`, ...versions, snapshot.updated && `as of ${String(snapshot.updated).slice(0, 16).replace("T", " ")}`];
  fill(byId("machine"), line.filter(Boolean).join(" · "));
  const base = figuresOf(snapshot).filter((figure) => !missing(valueOf(snapshot.base, figure.name))).slice(0, 3);
  const left = snapshot.state === "running" && !missing(progress.eta_s) ? `about ${duration(progress.eta_s)} left` : "";
  fill(byId("tiles"), tile("trials", `${progress.done ?? 0}`, `of ${progress.total ?? "?"}${progress.running ? `, ${progress.running} running` : ""}`),
    tile("failed", `${progress.failed ?? 0}`), tile("on the front", `${(snapshot.front || []).length}`), tile("wall time", duration(progress.seconds), left),
    ...base.map((figure) => tile(`base ${bare(figure)}`, printed(figure, valueOf(snapshot.base, figure.name)), figure.unit)));
  fill(byId("verdict"), String(snapshot.verdict || ""));
}

// ---- figures ------------------------------------------------------------------------------------------------

function costOptions(snapshot) { return costsOf(figuresOf(snapshot)).map((figure) => [figure.name, bare(figure)]); }

function front(snapshot) {
  const axes = axesOf(snapshot, choices("front-cost", costOptions(snapshot), "latency_ms"));
  const figure = frontFigure(snapshot, axes, figuresOf(snapshot), theme(), { range: byId("front-range").value, compact: false });
  const hidden = figure ? outside(snapshot, axes, figure.layout) : 0;
  fill(byId("front-caption"), `Up and to the left is better. Bars are 95 % intervals${hidden ? `; ${hidden} trials lie outside this range` : ""}.`);
  draw("front-figure", figure, "No trial has been measured yet.", { ...CONFIG, displayModeBar: true });
  if (!figure) return;
  byId("front-figure").removeAllListeners("plotly_click");
  byId("front-figure").on("plotly_click", chooseTrial);
}

function chooseTrial(event) {
  const number = String(event.points[0].customdata), select = byId("widths-trial");
  if (![...select.options].some((option) => option.value === number)) return;
  select.value = number;
  widths(page.snapshot);
}

function size(snapshot) {
  const axes = axesOf(snapshot, choices("size-cost", costOptions(snapshot), "params_m"));
  draw("size-figure", frontFigure(snapshot, axes, figuresOf(snapshot), theme(), { range: "near", compact: true }), "No trial has been measured yet.");
}

function trialLabel(snapshot, row) {
  const figures = figuresOf(snapshot).slice(0, 2).map((figure) => `${bare(figure)} ${withUnit(figure, valueOf(row, figure.name))}`);
  return `${row.number}: ${figures.join(", ")}`;
}

function widths(snapshot) {
  const cost = axesOf(snapshot).x.name;
  const rows = (snapshot.trials || []).filter((row) => row.on_front && row.widths).sort((a, b) => (valueOf(a, cost) ?? 0) - (valueOf(b, cost) ?? 0));
  const picked = Object.values(snapshot.picks || {}).map((pick) => String(pick.trial));
  const chosen = choices("widths-trial", rows.map((row) => [String(row.number), trialLabel(snapshot, row)]), picked.find((number) => rows.some((row) => String(row.number) === number)));
  const row = rows.find((candidate) => String(candidate.number) === chosen);
  fill(byId("widths-caption"), row ? keptSentence(snapshot, row) : "");
  draw("widths-figure", widthsFigure(snapshot, row, byId("widths-unit").value, theme()), "No trial on the front has widths yet.");
}

function keptSentence(snapshot, row) {
  const free = (snapshot.groups || []).filter((group) => !group.frozen), frozen = (snapshot.groups || []).length - free.length;
  const before = free.reduce((sum, group) => sum + group.size, 0), after = free.reduce((sum, group) => sum + (row.widths[group.name] ?? group.size), 0);
  return `Trial ${row.number} keeps ${after} of ${before} channels (${((100 * after) / before).toFixed(0)} %) in ${free.length} groups, in network order${frozen ? `; ${frozen} frozen ${frozen === 1 ? "group is" : "groups are"} not shown` : ""}.`;
}

// ---- picks --------------------------------------------------------------------------------------------------

function budgetText(snapshot, name) {
  return Object.entries((snapshot.budgets || {})[name] || {}).map(([key, limit]) => { const figure = describe(snapshot, key); return `${bare(figure)} ≤ ${limit}${figure.unit ? ` ${figure.unit}` : ""}`; }).join(", ");
}

function pickCard(snapshot, name, pick) {
  const row = (snapshot.trials || []).find((trial) => trial.number === pick.trial) || {};
  const lines = figuresOf(snapshot).filter((figure) => !missing(valueOf(row, figure.name))).map((figure) => {
    const diff = difference(figure, valueOf(row, figure.name), valueOf(snapshot.base, figure.name));
    return element("li", null, element("span", null, bare(figure)), element("span", null, withUnit(figure, valueOf(row, figure.name)), " ", diff ? element("small", { class: tone(diff) }, diff.text) : null));
  });
  return element("article", { class: "card" }, element("h3", null, name), element("p", { class: "muted" }, budgetText(snapshot, name)),
    element("p", { class: "trial" }, missing(pick.trial) ? "nothing fits" : `trial ${pick.trial}`), element("ul", null, ...lines), element("p", { class: "muted" }, String(pick.sentence || "")));
}

function picks(snapshot) {
  const named = Object.entries(snapshot.picks || {});
  const none = element("p", { class: "muted" }, `No budget has been named. Name one: paretoprune pick ${shell(runOf(snapshot))} --max latency_ms=5`);
  fill(byId("pick-cards"), ...(named.length ? named.map(([name, pick]) => pickCard(snapshot, name, pick)) : [none]));
}

// ---- tables -------------------------------------------------------------------------------------------------

function columns(snapshot) {
  const figures = figuresOf(snapshot).map((figure) => ({ key: figure.name, title: axisTitle(figure), figure, value: (row) => valueOf(row, figure.name) }));
  const text = (key, value) => ({ key, title: key, text: true, value });
  return [
    { key: "trial", title: "trial", value: (row) => row.number, cell: trialCell }, text("state", stateOf), text("source", (row) => row.source), ...figures,
    { key: "px", title: "px", value: (row) => (row.candidate || {}).imgsz }, text("precision", (row) => (row.candidate || {}).precision),
    { key: "time", title: "time", value: secondsOf, cell: (row) => [duration(secondsOf(row))] },
  ];
}

function secondsOf(row) {
  const spent = Object.values(row.seconds || {});
  return spent.length ? spent.reduce((sum, value) => sum + (value || 0), 0) : null;
}

function trialCell(row) {
  if (row.number === null) return ["base"];
  const named = Object.entries(page.snapshot.picks || {}).filter(([, pick]) => pick.trial === row.number).map(([name]) => element("span", { class: "tag pick" }, name));
  return [String(row.number), row.on_front ? element("span", { class: "tag" }, "front") : null, ...named];
}

function cell(column, row) {
  const value = column.value(row), made = element("td", { class: column.text ? "text" : "", title: column.text && value ? String(value) : "" });
  if (column.cell) made.append(...column.cell(row).filter(Boolean));
  else if (!column.figure) made.append(value === null || value === undefined ? "–" : String(value));
  else {
    made.append(printed(column.figure, value));
    const diff = row.number === null ? null : difference(column.figure, value, valueOf(page.snapshot.base, column.figure.name));
    if (diff) made.append(element("small", { class: tone(diff) }, diff.text));
  }
  return made;
}

function compare(column, falling) {
  return (left, right) => {
    const a = column.value(left), b = column.value(right), none = (value) => value === null || value === undefined;
    if (none(a) || none(b)) return none(a) - none(b);
    const order = typeof a === "string" ? a.localeCompare(String(b)) : a - b;
    return falling ? -order : order;
  };
}

function sortBy(key) {
  page.sort = { key, falling: page.sort.key === key && !page.sort.falling };
  trials(page.snapshot);
}

function heading(column) {
  const button = element("button", { type: "button" }, column.title);
  button.addEventListener("click", () => sortBy(column.key));
  const order = page.sort.key === column.key ? (page.sort.falling ? "descending" : "ascending") : "";
  return element("th", { class: column.text ? "text" : "", "aria-sort": order }, button);
}

const stateOf = (row) => (row.state === "complete" && row.feasible === false ? (row.breaks || []).join("; ") || "breaks a constraint" : row.state);
const FILTERS = { all: () => true, front: (row) => row.on_front, feasible: (row) => row.state === "complete" && row.feasible !== false };

function trials(snapshot) {
  const shown = columns(snapshot), sorted = shown.find((column) => column.key === page.sort.key);
  const rows = (snapshot.trials || []).filter(FILTERS[byId("trials-filter").value]);
  if (sorted) rows.sort(compare(sorted, page.sort.falling));
  const base = snapshot.base ? [{ ...snapshot.base, number: null, state: "", source: "unpruned" }] : [];
  const table = byId("trials-table");
  fill(table.tHead, element("tr", null, ...shown.map(heading)));
  const kind = (row) => (row.number === null ? "base" : row.state === "complete" && row.feasible === false ? "grey" : "");
  fill(table.tBodies[0], ...[...base, ...rows].map((row) => element("tr", { class: kind(row) }, ...shown.map((column) => cell(column, row)))));
}

function failures(snapshot) {
  const causes = new Map();
  for (const row of (snapshot.trials || []).filter((trial) => trial.state === "failed" || trial.error)) {
    const cause = String(row.error || "no cause was recorded").trim().split("\n")[0];
    causes.set(cause, [...(causes.get(cause) || []), row]);
  }
  const entries = [...causes].sort((a, b) => b[1].length - a[1].length).map(([cause, rows]) => element("details", null,
    element("summary", null, element("b", null, `${rows.length} × `), cause, element("span", { class: "muted" }, ` trial ${rows.map((row) => row.number).join(", ")}`)),
    element("pre", null, String(rows[0].error || cause))));
  byId("failures").hidden = !entries.length;
  fill(byId("failure-list"), ...entries);
}

// ---- how to reproduce ---------------------------------------------------------------------------------------

const runOf = (snapshot) => `runs/prune/${snapshot.name}`;

function commands(snapshot) {
  const run = shell(runOf(snapshot)), trial = (Object.values(snapshot.picks || {})[0] || {}).trial ?? (snapshot.front || [])[0];
  const reference = missing(trial) ? null : shell(`${runOf(snapshot)}:${trial}`);
  const pick = Object.values(snapshot.budgets || {})[0] || { latency_ms: 5 };
  const bounds = Object.entries(pick).map(([name, limit]) => `--max ${shell(`${name}=${limit}`)}`).join(" ");
  return [["paretoprune search study.yaml", "the same search: save the resolved study below as study.yaml"], [`paretoprune pick ${run} ${bounds}`, "the best trial within a budget"],
    ...(reference ? [[`paretoprune show ${reference}`, "one trial in full"], [`paretoprune finetune ${reference}`, "recover it in full"], [`paretoprune export ${reference} format=onnx`, "verified artefacts and a model card"]] : []),
    ...(snapshot.state === "finished" ? [] : [[`paretoprune resume ${run}`, "go on with this search"]])];
}

function reproduce(snapshot) {
  fill(byId("commands"), commands(snapshot).map(([line, note]) => `# ${note}\n${line}`).join("\n"));
  fill(byId("study"), Object.entries(snapshot.study || {}).map(([key, value]) => `${key}: ${JSON.stringify(value)}`).join("\n"));
  const rows = Object.entries({ ParetoPrune: snapshot.version, created: snapshot.created, updated: snapshot.updated, ...(snapshot.environment || {}) }).filter(([, value]) => value !== undefined && value !== null);
  fill(byId("environment").tBodies[0], ...rows.map(([name, value]) => element("tr", null, element("td", null, name), element("td", null, typeof value === "object" ? JSON.stringify(value) : String(value)))));
}

// ---- the page -----------------------------------------------------------------------------------------------

/** report.html#only=front shows one section as large as the window. */
function only() {
  const found = /^#only=([a-z]+)$/.exec(location.hash), section = found && byId(found[1]);
  document.body.classList.toggle("only", Boolean(section));
  for (const other of document.querySelectorAll("section")) other.classList.toggle("chosen", other === section);
  window.dispatchEvent(new Event("resize"));
}

function render(snapshot) {
  page.snapshot = snapshot;
  for (const part of [header, picks, trials, failures, reproduce, front, size, hypervolume, widths]) part(snapshot);
}

function hypervolume(snapshot) { draw("progress-figure", hypervolumeFigure(snapshot, theme()), "It is known after the first measured trials."); }

function listen() {
  const again = { "front-cost": front, "front-range": front, "size-cost": size, "widths-trial": widths, "widths-unit": widths, "trials-filter": trials };
  for (const [id, part] of Object.entries(again)) byId(id).addEventListener("change", () => part(page.snapshot));
  window.addEventListener("hashchange", only);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page.snapshot && render(page.snapshot));
}

function start() {
  listen();
  only();
  const embedded = byId("snapshot").textContent.trim();
  if (embedded) render(JSON.parse(embedded));
}

window.paretoprune = { render };
start();
