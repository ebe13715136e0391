// What a reader can do with a trial on the live page: pin, note, export, compare, try. Jobs report back here.

import { choose, chosen } from "../state/address.js";
import { button, byId, bytes, difference, duration, element, fill, missing, say } from "../format.js";
import { api, forgetDetails, live } from "../state/server.js";
import { describe, isExport, marksOf, study } from "../state/study.js";

let jobs = [];

export function actions(row) {
  const measured = row.state === "complete", own = !isExport(row), mark = marksOf(row.id);
  const here = [button("compare", () => choose({ tab: "compare", a: row.id })), study.head.whatif && row.ratios ? button("what if…", () => choose({ tab: "whatif", w: `trial:${row.id}` })) : null];
  const far = live.on ? [measured && own ? button("export…", () => askExport(row), { class: "first" }) : null, !own ? null : button(mark.pinned ? "unpin" : "pin", () => save(row, { ...mark, pinned: !mark.pinned }), { "aria-pressed": String(mark.pinned), title: "a pinned trial keeps its weights" })] : [];
  return element("div", null, element("div", { class: "actions" }, far, here), note(row, mark), element("div", { id: "jobs", role: "status" }));
}

function note(row, mark) {
  if (!live.on) return mark.note ? element("p", null, `Note: ${mark.note}`) : null;
  const text = element("textarea", { rows: "1", maxlength: "2000", placeholder: "a note on this trial", "aria-label": "note" });
  text.value = mark.note;
  const keep = button("save the note", () => { text.blur(); save(row, { ...mark, note: text.value }); }, { hidden: true });
  text.addEventListener("input", () => { keep.hidden = text.value === mark.note; });
  return element("div", { class: "actions" }, text, keep);
}

async function save(row, mark) {
  await tell(() => api(`/${live.run}/trials/${row.id}/mark`, mark), `trial ${row.id} is saved`);
}

/** Does something on the server and says how it ended, also to a screen reader. */
export async function tell(work, done) {
  try {
    await work();
    say(done);
    return true;
  } catch (fault) {
    showFault(fault.message);
    return false;
  }
}

function showFault(text) {
  say(text);
  openDialog("That did not work", [element("p", null, text)], [button("close", closeDialog)]);
}

export function openDialog(title, body, buttons) {
  const dialog = fill(byId("dialog"), element("h2", { id: "dialog-title" }, title), ...body, element("div", { class: "actions" }, buttons));
  if (!dialog.open) dialog.showModal();
}

export function closeDialog() { byId("dialog").close(); }

function askExport(row) {
  const formats = study.head.formats || ["onnx"];
  const boxes = formats.map((name) => { const box = element("input", { type: "checkbox", name, checked: name === "onnx" }); return [name, box, element("label", null, box, ` ${name}`)]; });
  const precision = element("select", { "aria-label": "precision" }, [["", "as it is"], ["16", "16 bits"], ["8", "8 bits"]].map(([value, text]) => { const made = element("option", null, text); made.value = value; return made; }));
  const go = async () => {
    const wanted = boxes.filter(([, box]) => box.checked).map(([name]) => name);
    if (!wanted.length) return;
    closeDialog();
    await tell(() => api(`/${live.run}/trials/${row.id}/export`, { formats: wanted, quantize: precision.value ? Number(precision.value) : null, confirmed: true }), `the export of trial ${row.id} has begun`);
  };
  openDialog(`Export trial ${row.id}`, [element("p", { class: "muted" }, "The model is exported, read again, compared with the original and validated once more. That takes minutes and uses this machine; a search that runs here will wait or be slowed down."), element("fieldset", null, element("legend", { class: "muted" }, "formats"), boxes.map(([, , label]) => label)), element("label", null, "precision ", precision)], [button("cancel", closeDialog), button("export", go, { class: "first" })]);
}

export function takeJobs(list) {
  const ended = list.filter((job) => job.state !== "running" && jobs.some((before) => before.number === job.number && before.state === "running"));
  jobs = list;
  for (const job of ended) say(`${job.kind} ${job.state}`);
  if (ended.length) forgetDetails();
  drawJobs();
  return ended.length > 0;
}

/** The jobs of the trial that is open, and those of the run. */
export function drawJobs() {
  const place = byId("jobs");
  if (!place) return;
  fill(place, jobs.filter((job) => job.trial === null || String(job.trial) === chosen.trial).slice(-2).map(jobBox));
}

function jobBox(job) {
  const last = job.lines.filter((line) => line.trim()).slice(job.state === "failed" ? -6 : -1).join("\n");
  const head = element("p", null, element("b", null, `${job.kind} ${job.state}`), ` ${duration(job.seconds)}`);
  const made = ((job.result && job.result.artefacts) || []).map((artefact) => element("p", null, `${artefact.path}: ${bytes(artefact.size_bytes || 0)}${missing(artefact.drop) ? "" : `, ${describe(job.result.metric).title} ${difference({ direction: "max" }, -artefact.drop, 0).text.replace(" pt", " points")}`}, ${(artefact.faults || []).length ? artefact.faults.join("; ") : "all checks passed"}`));
  return element("div", { class: "job" }, head, job.state === "running" ? element("progress", { "aria-label": `${job.kind} is running` }) : null, made, last ? element("p", { class: "muted" }, last) : null, element("p", { class: "muted" }, job.command.replace(/ \S*\/([^\/ ]+:\d+)/, " …/$1")));
}
