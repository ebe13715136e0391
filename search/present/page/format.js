// Figures as words and elements: how a number is printed, how far it is from the base, how text becomes a node.
// Text from a run reaches the page as text nodes only, and Plotly only through plain().

export const missing = (value) => value === null || value === undefined || !Number.isFinite(value);

export const printed = (figure, value) => (missing(value) ? "–" : value.toFixed(figure.digits));
export const withUnit = (figure, value) => (missing(value) ? "–" : printed(figure, value) + (figure.unit ? ` ${figure.unit}` : ""));
export const axisTitle = (figure) => (figure.unit ? `${figure.title} (${figure.unit})` : figure.title);

/** The difference to the base: points for accuracy, "×" for time (above 1 is faster), per cent for the rest. */
export function difference(figure, value, base) {
  if (missing(value) || missing(base)) return null;
  if (figure.direction === "max") return signed((value - base) * 100, 1, " pt", value - base);
  if (base <= 0 || value <= 0) return null;
  if (figure.name.startsWith("latency")) return { text: `${(base / value).toFixed(2)}×`, good: value === base ? 0 : base - value };
  return signed((value / base - 1) * 100, 0, " %", base - value);
}

function signed(value, digits, suffix, good) {
  const text = Math.abs(value).toFixed(digits), zero = Number(text) === 0;
  return { text: (zero ? "±" : value > 0 ? "+" : "−") + text + suffix, good: zero ? 0 : good };
}

/** Green is better, red is worse; the sign says it too, so that colour is never alone. */
export const tone = (diff) => (!diff || diff.good === 0 ? "" : diff.good > 0 ? "up" : "down");

export function duration(seconds) {
  if (missing(seconds)) return "–";
  if (seconds < 90) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

export function bytes(count) {
  if (count < 1e3) return `${count} B`;
  return count < 1e6 ? `${(count / 1e3).toFixed(0)} kB` : `${(count / 1e6).toFixed(1)} MB`;
}

/** 3012798 -> "3,012,798": exact counts are read digit by digit. */
export const whole = (number) => String(Math.round(number)).replace(/\B(?=(\d{3})+$)/g, ",");

/** Names made harmless for Plotly's text, which understands a few tags. */
export const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

/** For a POSIX shell: quoted when it holds anything but harmless characters. */
export const shell = (text) => (/^[A-Za-z0-9_.,:=+\/-]+$/.test(text) ? text : `'${String(text).replace(/'/g, "'\\''")}'`);

/** An input size in words: 640, or 384x640 of two sides (height, width); and its pixels, by which sizes are sorted. */
export const sizeText = (imgsz) => (Array.isArray(imgsz) ? imgsz.join("x") : imgsz);
export const areaOf = (imgsz) => { const sides = String(sizeText(imgsz) ?? "").split("x").map(Number); return sides[0] * sides[sides.length - 1] || null; };

export const byId = (id) => document.getElementById(id);

/** An element with attributes and children; strings become text nodes, never markup; functions become listeners. */
export function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (typeof value === "function") made.addEventListener(key, value);
    else if (key.startsWith("--")) made.style.setProperty(key, value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined && value !== "") made.setAttribute(key, value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}

export const button = (text, onclick, more) => element("button", { type: "button", click: onclick, ...more }, text);

export const fill = (target, ...children) => { target.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined)); return target; };

/** The options of a select box, [value, text] each; only touched when they changed, so that an open box stays open. */
export function choices(select, options, chosen) {
  const key = JSON.stringify(options);
  if (select.dataset.options !== key) {
    fill(select, options.map(([value, text]) => { const made = element("option", null, text); made.value = value; return made; }));
    select.dataset.options = key;
  }
  if (chosen !== undefined) select.value = chosen;
  return select.value;
}

/** Said to a screen reader, once. */
export function say(text) { byId("said").textContent = text; }
