"use strict";
// Figures as words: what a number is called, how it is printed, how far it is from the base.
// Text from the snapshot reaches the page as text nodes only, and Plotly only through plain().

const KNOWN = {
  map50_95: { title: "mAP50-95", unit: "", direction: "max" },
  map50: { title: "mAP50", unit: "", direction: "max" },
  precision: { title: "precision", unit: "", direction: "max" },
  recall: { title: "recall", unit: "", direction: "max" },
  latency_ms: { title: "latency", unit: "ms", direction: "min" },
  params_m: { title: "parameters", unit: "M", direction: "min" },
  macs_g: { title: "MACs", unit: "G", direction: "min" },
  size_mb: { title: "file size", unit: "MB", direction: "min" },
};

const missing = (value) => value === null || value === undefined || !Number.isFinite(value);

/** Costs get the digits that show the base to three places, so that a column has one number of digits. */
const digitsOf = (base) => (missing(base) || base <= 0 ? 2 : Math.max(1, Math.min(6, 2 - Math.floor(Math.log10(base)))));

/** The figure's name, unit, direction and digits: what the study says, else what is known, else the bare name. */
function describe(snapshot, name) {
  const said = (snapshot.objectives || []).find((objective) => objective.name === name) || {};
  const known = KNOWN[name] || { title: name, unit: "", direction: "min" };
  const unit = said.unit && said.unit !== "fraction" ? said.unit : known.unit;
  const direction = said.direction || known.direction;
  const digits = direction === "max" ? 3 : digitsOf(valueOf(snapshot.base, name));
  return { name, digits, unit, title: said.title || known.title, direction };
}

const bare = (figure) => figure.title.replace(new RegExp(`[,\\s]*\\(?${figure.unit || "\u0000"}\\)?$`), "") || figure.title;
const axisTitle = (figure) => (figure.unit ? `${bare(figure)} (${figure.unit})` : figure.title);
const valueOf = (row, name) => { const found = (row && row.figures || {})[name]; return found ? found.value : null; };

const printed = (figure, value) => (missing(value) ? "–" : value.toFixed(figure.digits));
const withUnit = (figure, value) => (missing(value) ? "–" : printed(figure, value) + (figure.unit ? ` ${figure.unit}` : ""));

/** The difference to the base: points for accuracy, "x faster" for time, per cent for the rest. */
function difference(figure, value, base) {
  if (missing(value) || missing(base)) return null;
  if (figure.direction === "max") return signed((value - base) * 100, 1, " pt", value - base);
  if (base <= 0 || value <= 0) return null;
  if (figure.name.startsWith("latency")) return { text: `${(base / value).toFixed(2)}×`, good: value === base ? 0 : base - value };
  return signed((value / base - 1) * 100, 0, " %", base - value);
}

function signed(value, digits, suffix, good) {
  const text = Math.abs(value).toFixed(digits);
  const sign = Number(text) === 0 ? "±" : value > 0 ? "+" : "−";
  return { text: sign + text + suffix, good: Number(text) === 0 ? 0 : good };
}

const tone = (diff) => (!diff || diff.good === 0 ? "" : diff.good > 0 ? "up" : "down");

function duration(seconds) {
  if (missing(seconds)) return "–";
  if (seconds < 90) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

/** Names made harmless for Plotly's text, which understands a few tags. */
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

/** For a POSIX shell: quoted when it holds anything but harmless characters. */
const shell = (text) => (/^[A-Za-z0-9_.,:=+\/-]+$/.test(text) ? text : `'${String(text).replace(/'/g, "'\\''")}'`);

const byId = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text nodes, never markup. */
function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) if (value) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const fill = (target, ...children) => { target.replaceChildren(...children); return target; };

/** The options of a select box, keeping what was chosen if it is still there. */
function choices(id, options, fallback) {
  const select = byId(id), before = select.value;
  fill(select, ...options.map(([value, text]) => { const made = element("option", null, text); made.value = value; return made; }));
  const values = options.map(([value]) => value);
  select.value = values.includes(before) ? before : values.includes(fallback) ? fallback : values[0] || "";
  return select.value;
}
