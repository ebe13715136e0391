// The only door to Plotly: colours, axes, drawing, the tip that follows the pointer.

import { byId, element, fill, plain } from "../format.js";

const NAMES = ["panel", "ink", "muted", "line", "grid", "accent", "faint", "kept", "cut", "front", "pick", "base", "bad", "other", "baseline", "good", "scale-0", "scale-1", "scale-2", "scale-3", "scale-4", "heat-0", "heat-1"];
const CONFIG = { doubleClick: false, displaylogo: false, displayModeBar: false, responsive: true, plotlyServerURL: "", showSendToCloud: false, showEditInChartStudio: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
/** Twelve marks that differ in colour, dash and symbol, so that no pair needs colour alone. */
export const SERIES = { colours: ["kept", "other", "good", "scale-2", "baseline", "scale-3"], dashes: ["solid", "dash", "dot"], symbols: ["circle", "square", "diamond", "triangle-up", "x", "cross"] };
const drawn = new Map(), zoomed = new Map(), keys = new Map();
let palette = null;

/** The page's colours as Plotly needs them: computed, because it cannot read light-dark(). */
export function theme() {
  if (palette) return palette;
  const probe = element("i", { hidden: true });
  document.body.append(probe);
  const colour = (name) => { probe.style.color = `var(--${name})`; return getComputedStyle(probe).color; };
  palette = Object.fromEntries(NAMES.map((name) => [name, colour(name)]));
  probe.remove();
  palette.scale = [0, 1, 2, 3, 4].map((step) => [step / 4, palette[`scale-${step}`]]);
  return palette;
}

export function forgetTheme() { palette = null; }

export function layoutOf(more) {
  const colours = theme();
  const axis = { gridcolor: colours.grid, linecolor: colours.line, zeroline: false, ticks: "outside", tickcolor: colours.line, automargin: true };
  const legend = { orientation: "h", x: 0, y: 1.01, yanchor: "bottom", font: { size: 12, color: colours.muted }, itemsizing: "constant" };
  return {
    paper_bgcolor: colours.panel, plot_bgcolor: colours.panel, hovermode: "closest", margin: { l: 60, r: 16, t: 34, b: 48 }, dragmode: "zoom",
    font: { family: "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif", size: 12.5, color: colours.ink }, legend,
    ...more, xaxis: { ...axis, ...(more.xaxis || {}) }, yaxis: { ...axis, ...(more.yaxis || {}) },
  };
}

export const axisNamed = (title, more) => ({ title: { text: plain(title), font: { size: 13 }, standoff: 8 }, ...more });

/** Draws {data, layout} into an element, or says why there is nothing to draw. `hover(point)` gives the tip's nodes. */
export function draw(id, figure, nothing, { hover, click, tools } = {}) {
  const target = byId(id);
  if (!figure || !window.Plotly) {
    keys.delete(id);
    if (drawn.delete(id)) window.Plotly.purge(target);
    fill(target, figure ? null : element("p", { class: "empty" }, nothing));
    return;
  }
  const first = !drawn.has(id), key = JSON.stringify([figure.data, figure.layout]);
  drawn.set(id, figure);
  if (!first && keys.get(id) === key) return; // a note, a job, a trial that failed: nothing in the picture has changed
  keys.set(id, key);
  if (first) fill(target);
  window.Plotly.react(target, figure.data, pictured(target, figure, kept(id, target, figure.layout)), { ...CONFIG, displayModeBar: Boolean(tools) && "hover" });
  if (first) follow(target, hover, click);
}

/** What the reader has zoomed stays while data arrive: Plotly's uirevision gives way to a range that has changed. */
function kept(id, target, layout) {
  if (zoomed.get(id) !== layout.uirevision || layout.uirevision === undefined) return layout;
  const { xaxis, yaxis } = target.layout;
  return { ...layout, xaxis: { ...layout.xaxis, range: [...xaxis.range] }, yaxis: { ...layout.yaxis, range: [...yaxis.range] } };
}

/** A copy of the layout, because Plotly writes the reader's zoom into its own; with the picture of the crowd (`crowd.js`). */
function pictured(target, figure, layout) {
  const axis = (one) => (one.range ? { ...one, range: [...one.range] } : { ...one }), own = { ...layout, xaxis: axis(layout.xaxis), yaxis: axis(layout.yaxis) };
  const { w, h } = (target._fullLayout && target._fullLayout._size) || { w: target.clientWidth - 150, h: target.clientHeight - 82 };
  return figure.crowd ? { ...own, images: figure.crowd(layout.xaxis.range, layout.yaxis.range, { w, h }) } : own;
}

function watchZoom(target) {
  target.on("plotly_relayout", (event) => {
    if (!Object.keys(event).some((key) => /^[xy]axis\.range/.test(key))) return;
    const figure = drawn.get(target.id);
    zoomed.set(target.id, target.layout.uirevision);
    if (figure.crowd) window.Plotly.relayout(target, { images: pictured(target, figure, target.layout).images });
  });
  target.on("plotly_doubleclick", () => {
    const { layout } = drawn.get(target.id), back = (name) => (layout[name].range ? [`${name}.range`, [...layout[name].range]] : [`${name}.autorange`, layout[name].autorange ?? true]);
    // A relayout, because `react` with the same uirevision keeps what the reader has zoomed.
    window.Plotly.relayout(target, Object.fromEntries(["xaxis", "yaxis"].map(back))).then(() => zoomed.delete(target.id));
  });
}

/** Changes only what lies over the points: rings and lines. Cheap, also with thousands of points. */
export function redrawOver(id, layout) {
  if (drawn.has(id)) window.Plotly.relayout(byId(id), { shapes: layout.shapes, annotations: layout.annotations });
}

export function forgetDrawn(id) { keys.delete(id); if (drawn.delete(id)) window.Plotly.purge(byId(id)); }

/** The figure follows the size of its box: the drawer opens beside it, tabs appear. */
const watcher = new ResizeObserver((entries) => {
  for (const { target } of entries) if (drawn.has(target.id) && target.clientWidth) window.Plotly.Plots.resize(target);
});

function follow(target, hover, click) {
  watcher.observe(target);
  watchZoom(target);
  if (hover) {
    target.on("plotly_hover", (event) => { const nodes = hover(event.points[0]); if (nodes) tip(nodes, event.event); });
    target.on("plotly_unhover", hideTip);
  }
  if (click) target.on("plotly_click", (event) => { hideTip(); click(event.points[0]); });
}

/** A tip of real nodes at the pointer, inside the window. */
export function tip(nodes, event) {
  const box = fill(byId("tip"), ...nodes);
  box.hidden = false;
  const right = event.clientX + 16 + box.offsetWidth > innerWidth, below = event.clientY + 16 + box.offsetHeight > innerHeight;
  box.style.left = `${Math.max(4, right ? event.clientX - box.offsetWidth - 14 : event.clientX + 16)}px`;
  box.style.top = `${Math.max(4, below ? event.clientY - box.offsetHeight - 14 : event.clientY + 16)}px`;
}

export function hideTip() { byId("tip").hidden = true; }
