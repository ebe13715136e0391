// Hundreds of trials that nobody picks one by one: one picture under the front instead of an SVG element each, which is
// what an update with thousands of trials costs. The pointer still finds them: a trace without marks answers it.

import { theme } from "./charts.js";
import { missing } from "../format.js";
import { valueOf } from "../state/study.js";

/** From so many on they are a picture; fewer stay marks of the figure. */
export const CROWD = 300;
const SHADES = 32, SHARPEST = 1.5;

/** A function of ranges and size of the plot that draws `groups` [{rows, mark, colour}] as one image of the layout. */
export function crowdImage(groups, view, shadeOf) {
  return (xs, ys, { w, h }) => {
    const scale = Math.min(SHARPEST, window.devicePixelRatio || 1), canvas = document.createElement("canvas");
    Object.assign(canvas, { width: Math.max(1, Math.round(w * scale)), height: Math.max(1, Math.round(h * scale)) });
    const pen = canvas.getContext("2d");
    pen.scale(scale, scale);
    const place = (row) => [((valueOf(row, view.x.name) - xs[0]) / (xs[1] - xs[0])) * w, ((ys[1] - valueOf(row, view.y.name)) / (ys[1] - ys[0])) * h];
    for (const { rows, mark } of groups) for (const [colour, points] of byColour(rows, shadeOf)) MARKS[mark](pen, points.map(place).filter(([x, y]) => x > -9 && y > -9 && x < w + 9 && y < h + 9), colour);
    return [{ source: canvas.toDataURL(), xref: "x", yref: "y", x: xs[0], y: ys[1], sizex: xs[1] - xs[0], sizey: ys[1] - ys[0], xanchor: "left", yanchor: "top", sizing: "stretch", layer: "below" }];
  };
}

function byColour(rows, shadeOf) {
  const found = new Map();
  for (const row of rows) { const colour = shadeOf(row); if (found.has(colour)) found.get(colour).push(row); else found.set(colour, [row]); }
  return found;
}

/** The colour of a row on the scale of `bounds`, in as many steps as an eye can tell apart. */
export function shadesOf(figure, { cmin, cmax }) {
  const stops = theme().scale.map(([, colour]) => colour.match(/[\d.]+/g).slice(0, 3).map(Number)), last = stops.length - 1;
  const colours = Array.from({ length: SHADES + 1 }, (_, step) => {
    const at = (last * step) / SHADES, low = Math.min(last - 1, Math.floor(at));
    return `rgb(${stops[low].map((from, i) => Math.round(from + (at - low) * (stops[low + 1][i] - from))).join(", ")})`;
  });
  return (row) => { const value = valueOf(row, figure.name); return missing(value) ? theme().faint : colours[cmax > cmin ? Math.round((SHADES * (value - cmin)) / (cmax - cmin)) : 0]; };
}

const arcs = (pen, points, radius) => { pen.beginPath(); for (const [x, y] of points) { pen.moveTo(x + radius, y); pen.arc(x, y, radius, 0, 2 * Math.PI); } };
/** The marks of the figure, as in the legend; overlapping dots add up. */
const MARKS = {
  dot: (pen, points, colour) => { Object.assign(pen, { fillStyle: colour, globalAlpha: 0.45 }); for (const point of points) { arcs(pen, [point], 3.5); pen.fill(); } },
  ring: (pen, points) => { Object.assign(pen, { strokeStyle: theme().faint, globalAlpha: 1, lineWidth: 1 }); arcs(pen, points, 3); pen.stroke(); },
  cross: (pen, points) => { Object.assign(pen, { strokeStyle: theme().faint, globalAlpha: 0.8, lineWidth: 1.2 }); pen.beginPath(); for (const [x, y] of points) { pen.moveTo(x - 3, y - 3); pen.lineTo(x + 3, y + 3); pen.moveTo(x - 3, y + 3); pen.lineTo(x + 3, y - 3); } pen.stroke(); },
};
