// Small curves in the list, and larger ones of a whole life.

import { h, svg } from "./dom.js";
import { duration } from "./format.js";

const WIDTH = 72;
const HEIGHT = 20;

/** A small curve; call `draw` with points of `[x, y]`. `floor` is the least that the top stands for. */
export function sparkline(kind) {
  const area = svg("path", { class: "area" });
  const line = svg("path", { class: "line" });
  const element = svg("svg", { class: `spark ${kind}`, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, area, line);
  let drawn = "";
  const draw = (points, floor) => {
    const path = points.length > 1 ? curve(points, 0, WIDTH, HEIGHT - 1, 1, Math.max(floor, ...points.map(([, y]) => y))) : "";
    if (path === drawn) return;
    drawn = path;
    line.setAttribute("d", path);
    area.setAttribute("d", path && `${path}V${HEIGHT}H0Z`);
  };
  return { element, draw };
}

function curve(points, left, right, bottom, top, max) {
  const first = points[0][0];
  const span = points.at(-1)[0] - first || 1;
  const x = (at) => left + ((at - first) / span) * (right - left);
  const y = (value) => bottom - (value / (max || 1)) * (bottom - top);
  return points.map(([at, value], n) => `${n ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
}

/** A round number that is not less. */
function ceiling(value, floor) {
  const wanted = Math.max(value, floor);
  const power = 10 ** Math.floor(Math.log10(wanted));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= wanted - 1e-9);
}

/** A chart with axes, and a reading under the pointer or by the arrow keys; call `draw` with points of `[seconds, value]`. */
export function chart({ title, kind, format, floor }) {
  const W = 640;
  const H = 180;
  const [left, right, top, bottom] = [4, W - 4, 10, H - 6];
  const grid = svg("g", { class: "rules" });
  const area = svg("path", { class: "area" });
  const line = svg("path", { class: "line" });
  const mark = svg("g", { class: "mark", visibility: "hidden" }, svg("line", { y1: top, y2: bottom }), svg("circle", { r: 4 }));
  const plot = svg("svg", { viewBox: `0 0 ${W} ${H}`, preserveAspectRatio: "none", "aria-hidden": "true" }, grid, area, line, mark);
  const reading = h("output", { class: "reading" });
  const levels = h("div", { class: "levels", "aria-hidden": "true" });
  const from = h("span");
  const to = h("span");
  const box = h("div", { class: "plot", tabindex: "0", role: "img" }, plot, levels);
  const element = h("figure", { class: `chart ${kind}` },
    h("figcaption", {}, h("strong", {}, title), reading), box, h("div", { class: "ends", "aria-hidden": "true" }, from, to));
  let points = [];
  let max = floor;
  let at = null;

  const px = (n) => left + ((points[n][0] - points[0][0]) / (points.at(-1)[0] - points[0][0] || 1)) * (right - left);
  const py = (value) => bottom - (value / max) * (bottom - top);
  const read = () => {
    const n = at === null ? points.length - 1 : Math.min(at, points.length - 1);
    if (n < 0) return;
    const shown = at !== null;
    mark.setAttribute("visibility", shown ? "visible" : "hidden");
    reading.textContent = shown ? `${format(points[n][1])} at ${duration(points[n][0])}` : `${format(points[n][1])}, at most ${format(Math.max(...points.map(([, y]) => y)))}`;
    if (!shown) return;
    mark.firstChild.setAttribute("x1", px(n));
    mark.firstChild.setAttribute("x2", px(n));
    mark.lastChild.setAttribute("cx", px(n));
    mark.lastChild.setAttribute("cy", py(points[n][1]));
  };
  box.addEventListener("pointermove", (event) => {
    if (points.length < 2) return;
    const { left: edge, width } = box.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - edge) / width));
    const wanted = points[0][0] + share * (points.at(-1)[0] - points[0][0]);
    at = points.reduce((best, [x], n) => (Math.abs(x - wanted) < Math.abs(points[best][0] - wanted) ? n : best), 0);
    read();
  });
  const leave = () => { at = null; read(); };
  box.addEventListener("pointerleave", leave);
  box.addEventListener("blur", leave);
  box.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || points.length < 2) return;
    event.preventDefault();
    at = Math.min(points.length - 1, Math.max(0, (at ?? points.length - (step < 0 ? 0 : 1)) + step));
    read();
  });
  const draw = (wanted) => {
    points = wanted;
    element.classList.toggle("empty", points.length < 2);
    if (points.length < 2) {
      reading.textContent = points.length ? format(points[0][1]) : "no samples yet";
      box.setAttribute("aria-label", `${title}: no curve yet`);
      return;
    }
    const most = Math.max(...points.map(([, y]) => y));
    max = ceiling(most * 1.05, floor);
    const path = curve(points, left, right, bottom, top, max);
    line.setAttribute("d", path);
    area.setAttribute("d", `${path}V${bottom}H${left}Z`);
    grid.replaceChildren(...[0, 0.5, 1].map((share) => svg("line", { x1: left, x2: right, y1: py(share * max), y2: py(share * max) })));
    levels.replaceChildren(...[1, 0.5].map((share) => h("span", {}, format(share * max))));
    from.textContent = duration(points[0][0]);
    to.textContent = duration(points.at(-1)[0]);
    box.setAttribute("aria-label", `${title} from ${from.textContent} to ${to.textContent} after the start: ${format(points.at(-1)[1])} last, ${format(most)} at most`);
    read();
  };
  return { element, draw };
}
