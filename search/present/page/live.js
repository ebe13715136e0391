// The live page: one stream per run, which goes on where it was cut. The browser sends back the id of the last event.

import { takeJobs } from "./panels/actions.js";
import { chosen } from "./state/address.js";
import { running } from "./panels/header.js";
import { byId, choices, fill } from "./format.js";
import { api, live } from "./state/server.js";
import { absorbHead, absorbRows, forget } from "./state/study.js";

let source = null, waitingRows = [];

/** Follows the run of the address; `redraw(what)` is called with "all", "running" or "jobs". */
export async function follow(redraw) {
  live.on = true;
  live.runs = await api("");
  choices(byId("runs"), live.runs.map((run) => [run.id, String(run.name)]));
  byId("runs-label").hidden = live.runs.length < 2;
  connect(redraw);
}

export function connect(redraw) {
  if (source) source.close();
  live.run = live.runs.some((run) => run.id === chosen.run) ? chosen.run : live.runs[0].id;
  byId("runs").value = live.run;
  forget();
  waitingRows = [];
  source = new EventSource(`/api/runs/${live.run}/events`);
  source.addEventListener("open", () => linked(true));
  source.addEventListener("error", () => linked(false));
  source.addEventListener("rows", (event) => waitingRows.push(...JSON.parse(event.data)));
  source.addEventListener("head", (event) => { absorbRows(waitingRows); waitingRows = []; absorbHead(JSON.parse(event.data)); redraw("all"); });
  source.addEventListener("running", (event) => { running.trials = JSON.parse(event.data); redraw("running"); });
  source.addEventListener("jobs", (event) => redraw(takeJobs(JSON.parse(event.data)) ? "details" : "jobs"));
}

function linked(on) {
  const line = byId("link");
  line.className = `link ${on ? "on" : "off"}`;
  fill(line, on ? "live" : "connection lost, trying again");
}
