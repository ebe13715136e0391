// What the page asks of its server. The offline file has none: it holds its data, and what it cannot do is not offered.

import { study } from "./study.js";

export const live = { on: false, run: "", runs: [] };

/** JSON of our own server; an error carries the server's sentence. */
export async function api(path, body) {
  const asked = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(`/api/runs${path}`, { ...asked, credentials: "same-origin" });
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(typeof said.detail === "string" ? said.detail : `the server answered ${answer.status}`);
  return said;
}

/** Files and samples of a trial or an export: asked for once, or read from the file. */
export async function detailsOf(id) {
  if (!live.on) return (study.head.details || {})[id] || { files: [], samples: [] };
  if (!study.details.has(id)) study.details.set(id, api(`/${live.run}/trials/${id}`));
  return study.details.get(id);
}

export async function baseSamples() {
  if (!live.on) return study.head.base_samples || [];
  if (!study.details.has("base")) study.details.set("base", api(`/${live.run}/base`));
  return (await study.details.get("base")).samples;
}

export function forgetDetails() { study.details.clear(); }
