// What the reader has chosen, and the same in the address, so that a view can be sent to somebody.

const DEFAULTS = { run: "", on: "", trial: "", tab: "table", x: "", y: "", colour: "", range: "near", budget: "", sort: "", show: "all", search: "", heat: "front", a: "", b: "", other: "", w: "" };

export const chosen = { ...DEFAULTS };
const listeners = [];

/** Calls `listener(keys)` with the names of what changed. */
export function onChange(listener) { listeners.push(listener); }

export function choose(patch) {
  const keys = Object.keys(patch).filter((key) => chosen[key] !== String(patch[key] ?? ""));
  if (!keys.length) return;
  for (const key of keys) chosen[key] = String(patch[key] ?? "");
  write();
  for (const listener of listeners) listener(new Set(keys));
}

function write() {
  const said = Object.entries(chosen).filter(([key, value]) => value !== DEFAULTS[key]);
  const text = new URLSearchParams(said).toString();
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}

/** What the address says; anything it does not know is ignored. */
export function readAddress() {
  const said = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(DEFAULTS)) chosen[key] = (said.get(key) ?? DEFAULTS[key]).slice(0, 300);
}

/** Back, forward and links: what has changed is drawn again. A jump to a part of the page is no state, and keeps it. */
export function listenToAddress() {
  window.addEventListener("hashchange", () => {
    if (document.getElementById(location.hash.slice(1))) { write(); return; }
    const before = { ...chosen };
    readAddress();
    const keys = Object.keys(DEFAULTS).filter((key) => chosen[key] !== before[key]);
    for (const listener of listeners) listener(new Set(keys));
  });
}

/** "latency_ms:5,params_m:2" <-> {latency_ms: 5, params_m: 2}. */
export function boundsOf(text) {
  const pairs = text.split(",").map((part) => part.split(":")).filter(([name, limit]) => name && limit !== "" && Number.isFinite(Number(limit)));
  return Object.fromEntries(pairs.map(([name, limit]) => [name, Number(limit)]));
}

export const boundsText = (bounds) => Object.entries(bounds).map(([name, limit]) => `${name}:${limit}`).join(",");
