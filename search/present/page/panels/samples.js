// The same validation image as base and trial see it, one over the other, with an edge that the reader moves.

import { element, fill } from "../format.js";

let edge = 50, image = 0;

export function samples(base, trial, id, name = "base") {
  const count = Math.min(base.length, trial.length);
  if (!count) return element("div", null, element("h3", null, "Sample images"), element("p", { class: "muted" }, "None were drawn for this trial."));
  image = Math.min(image, count - 1);
  const box = element("div", { class: "shots" }), slider = element("input", { type: "range", min: "0", max: "100", class: "wide", "aria-label": "edge between the base (left) and the trial (right)" });
  const move = () => { edge = Number(slider.value); box.style.setProperty("--cut-at", `${edge}%`); };
  const show = (at) => {
    image = at;
    fill(box, picture(base[at], `${name}, image ${at + 1}`), picture(trial[at], `trial ${id}, image ${at + 1}`, "above"), element("i", { class: "edge" }), element("p", { class: "a" }, name), element("p", { class: "b" }, `trial ${id}`));
    for (const [i, thumb] of [...thumbs.children].entries()) thumb.setAttribute("aria-pressed", String(i === at));
  };
  const thumbs = element("div", { class: "thumbs" }, trial.slice(0, count).map((address, at) => element("button", { type: "button", "aria-label": `image ${at + 1}`, click: () => show(at) }, picture(address, ""))));
  slider.value = String(edge);
  slider.addEventListener("input", move);
  box.addEventListener("pointermove", (event) => { if (event.buttons) { const place = box.getBoundingClientRect(); slider.value = String((100 * (event.clientX - place.left)) / place.width); move(); } });
  move();
  show(image);
  return element("div", null, element("h3", null, `What it sees: ${name} | trial`), box, slider, thumbs);
}

function picture(address, alt, kind) {
  const made = element("img", { src: address, class: kind, draggable: "false" });
  made.alt = alt;
  return made;
}
