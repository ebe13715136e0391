// Tabs as ARIA describes them: arrow keys move, what is hidden is not drawn.

import { choose, chosen } from "../state/address.js";
import { byId, element, fill } from "../format.js";

const TABS = [["table", "Trials"], ["heat", "Heat map"], ["curves", "Sensitivity"], ["history", "History"], ["failures", "Failures"], ["health", "Health"], ["compare", "Compare"], ["whatif", "What if"], ["run", "This run"]];

export function buildTabs() {
  fill(byId("tablist"), TABS.map(([key, title]) => element("button", { type: "button", role: "tab", id: `tabhead-${key}`, "aria-controls": `tab-${key}`, click: () => choose({ tab: key }) }, title)));
  for (const [key] of TABS) byId(`tab-${key}`).setAttribute("aria-labelledby", `tabhead-${key}`);
  byId("tablist").addEventListener("keydown", (event) => {
    const at = TABS.findIndex(([key]) => key === chosen.tab), to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: TABS.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose({ tab: TABS[(to + TABS.length) % TABS.length][0] });
    byId(`tabhead-${chosen.tab}`).focus();
  });
}

export function showTab() {
  if (!TABS.some(([key]) => key === chosen.tab)) chosen.tab = "table";
  for (const [key] of TABS) {
    const on = key === chosen.tab, head = byId(`tabhead-${key}`);
    head.setAttribute("aria-selected", String(on));
    head.tabIndex = on ? 0 : -1;
    byId(`tab-${key}`).hidden = !on;
  }
}

/** A number behind a tab's name: failures, warnings. */
export function countTab(key, count, warn) {
  const title = TABS.find(([name]) => name === key)[1];
  fill(byId(`tabhead-${key}`), title, count ? element("span", { class: `count${warn ? " warn" : ""}` }, String(count)) : null);
}
