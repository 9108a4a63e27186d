// Elements. Whatever a process has written or is called comes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "data") {
      Object.assign(element.dataset, value);
    } else if (name in element && typeof value !== "string") {
      element[name] = value;
    } else {
      element.setAttribute(name, value === true ? "" : String(value));
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An element of HTML: `h("p", {class: "note", on: {click}}, "text", child)`. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** An element of SVG. */
export function svg(tag, props = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** A button. */
export function button(text, click, props = {}) {
  return h("button", { type: "button", class: "button", ...props, on: { click } }, text);
}

/** Sets a text only where it differs, so that nothing is laid out anew for nothing. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Tells those who cannot see the page. */
export function say(text) {
  const place = document.getElementById("said");
  // The same text twice is to be heard twice.
  place.textContent = "";
  requestAnimationFrame(() => { place.textContent = text; });
}

/** Tells everybody, for some seconds. */
export function toast(text, kind = "ok") {
  say(text);
  const note = h("div", { class: "toast", data: { kind } }, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), kind === "bad" ? 9000 : 4000);
}

/** Calls `act` at most once a frame, however often it is asked to. */
export function eachFrame(act) {
  let asked = 0;
  const go = () => { asked = 0; act(); };
  return () => { asked ||= requestAnimationFrame(go); };
}
