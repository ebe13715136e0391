// A skyline of widths: one column per group in network order, what there was and what is kept, by zone of the network.

import { element, fill } from "../format.js";

const ZONES = ["stem", "backbone", "neck", "head"];

/** Free groups with their place in head.groups: frozen ones cannot change and only take room. */
export const freeGroups = (groups) => groups.map((group, at) => ({ ...group, at })).filter((group) => !group.frozen);

/**
 * {root, update(kept)}: `kept` are channels along all groups. Arrow keys move along the columns, the readout says what
 * they are. `edit(at, share)` makes the columns sliders; `other` draws a second trial beside the first.
 */
export function skyline(groups, kept, { unit = "share", tall = 96, other = null, edit = null, linked = () => [], label = "kept" } = {}) {
  const free = freeGroups(groups), largest = Math.max(1, ...free.map((group) => group.size)), readout = element("p", { class: "readout", "aria-hidden": "true" }, "\u00a0");
  const height = (group, width) => `${(100 * (unit === "share" ? width / group.size : Math.sqrt(width / largest))).toFixed(1)}%`;
  const columns = new Map(free.map((group) => [group.at, columnOf(group, Boolean(other))]));
  const row = element("div", { class: `sky${edit ? " edit" : ""}`, role: "group", "aria-label": `channels per layer, ${label}`, "--tall": `${tall}px` }, ZONES.map((zone) => zoneOf(zone, free, columns)));
  const state = { kept, other };
  const show = (group) => fill(readout, wordsOf(group, state, label));
  const update = (now, beside = state.other) => {
    Object.assign(state, { kept: now, other: beside });
    for (const group of free) paint(columns.get(group.at), group, state, height, edit);
  };
  update(kept);
  listen({ row, free, columns, show, edit, linked, state });
  return { root: element("div", null, row, readout), update, columns };
}

function columnOf(group, two) {
  return element("div", { class: `col${two ? " two" : ""}`, tabindex: "-1", "data-at": String(group.at) }, element("i", { class: "was" }), element("i", { class: "is" }), two ? element("i", { class: "is other" }) : null);
}

function zoneOf(zone, free, columns) {
  const inside = free.filter((group) => (group.zone || "backbone") === zone);
  if (!inside.length) return null;
  const bars = element("div", { class: "bars" });
  inside.forEach((group, i) => {
    const before = inside[i - 1], after = inside[i + 1], column = columns.get(group.at);
    if (before && before.stage !== group.stage) bars.append(element("span", { class: "turn" }));
    if (group.tie && [before, after].some((one) => one && one.tie === group.tie)) column.classList.add("tied");
    if (!after || after.tie !== group.tie) column.classList.add("last");
    bars.append(column);
  });
  const made = element("div", { class: "zone" }, bars, element("p", null, zone));
  made.style.flexGrow = String(Math.max(inside.length, 2));
  return made;
}

function paint(column, group, { kept, other }, height, edit) {
  const width = kept[group.at], [was, is, beside] = column.children;
  was.style.height = height(group, group.size);
  is.style.height = height(group, width);
  if (beside) beside.style.height = height(group, other[group.at]);
  column.classList.toggle("gone", width === 0);
  column.setAttribute("role", edit ? "slider" : "img");
  column.setAttribute("aria-label", `${group.name}: ${width} of ${group.size} channels${other ? `, ${other[group.at]} in the other` : ""}`);
  if (edit) for (const [key, value] of Object.entries({ valuenow: width, valuemin: 0, valuemax: group.size, valuetext: `${width} of ${group.size} channels`, orientation: "vertical" })) column.setAttribute(`aria-${key}`, String(value));
}

function wordsOf(group, { kept, other }, label) {
  const share = (100 * kept[group.at]) / group.size, tied = group.tie && group.tie !== group.name ? `, tied to ${group.tie}` : group.tie ? ", tied" : "";
  const beside = other ? `; other: ${other[group.at]}` : "";
  return kept[group.at] === 0 ? `${group.name}: removed with its block` : `${group.name}: ${kept[group.at]} of ${group.size} channels ${label} (${share.toFixed(0)} %)${beside}${tied}, stage ${group.stage}`;
}

function listen({ row, free, columns, show, edit, linked, state }) {
  const order = free.map((group) => group.at), groupAt = new Map(free.map((group) => [group.at, group]));
  const light = (at) => { for (const [one, column] of columns) column.classList.toggle("lit", at !== null && (one === at || linked(at).includes(one) || Boolean(groupAt.get(at).tie && groupAt.get(one).tie === groupAt.get(at).tie))); };
  const atOf = (event) => { const column = event.target.closest(".col"); return column ? Number(column.dataset.at) : null; };
  if (order.length) columns.get(order[0]).tabIndex = 0;
  row.addEventListener("pointerover", (event) => { const at = atOf(event); if (at !== null) { show(groupAt.get(at)); light(at); } });
  row.addEventListener("pointerleave", () => light(null));
  row.addEventListener("focusin", (event) => { const at = atOf(event); if (at !== null) { show(groupAt.get(at)); light(at); rove(columns, at); } });
  row.addEventListener("focusout", () => light(null));
  row.addEventListener("keydown", (event) => keys(event, { order, columns, edit, state, groupAt, show, at: atOf(event) }));
  if (edit) drag(row, { atOf, columns, edit, show, groupAt });
}

function rove(columns, at) { for (const [one, column] of columns) column.tabIndex = one === at ? 0 : -1; }

function keys(event, { order, columns, edit, state, groupAt, show, at }) {
  if (at === null) return;
  const i = order.indexOf(at), to = { ArrowRight: i + 1, ArrowLeft: i - 1, Home: 0, End: order.length - 1 }[event.key];
  const group = groupAt.get(at), step = { ArrowUp: 1, ArrowDown: -1, PageUp: 4, PageDown: -4 }[event.key];
  if (to !== undefined && order[to] !== undefined) columns.get(order[to]).focus();
  else if (edit && step) { edit(at, (state.kept[at] + step * Math.max(1, Math.round(group.size / 16))) / group.size); show(group); }
  else return;
  event.preventDefault();
}

function drag(row, { atOf, columns, edit, show, groupAt }) {
  let held = null;
  const move = (event) => {
    if (held === null) return;
    const box = columns.get(held).getBoundingClientRect();
    edit(held, Math.min(1, Math.max(0, (box.bottom - event.clientY) / box.height)));
    show(groupAt.get(held));
  };
  row.addEventListener("pointerdown", (event) => { held = atOf(event); if (held === null) return; row.setPointerCapture(event.pointerId); columns.get(held).focus({ preventScroll: true }); move(event); event.preventDefault(); });
  row.addEventListener("pointermove", move);
  for (const end of ["pointerup", "pointercancel"]) row.addEventListener(end, () => { held = null; });
}
