// All processes: only the rows in sight are there, so ten thousand cost what thirty do.

import { askDelete, askPrune, askSignal, askStop } from "./actions.js";
import { sparkline } from "./chart.js";
import { button, eachFrame, h, say, setText } from "./dom.js";
import { bytes, count, duration, moment, percent, processes, state } from "./format.js";
import { cpuShares, parseLabels } from "./store.js";

/** Rows beyond each edge, so that a quick scroll shows no blank. */
const SPARE = 6;
/** How much longer nothing is sorted than it took. */
const REST = 8;
/** The interval of stats of running rows, in seconds. */
const EVERY = 2;

/** What was filtered last, so that it is still there on coming back. */
const chosen = { text: "", state: "", labels: "", order: "newest" };
let lastActive = null;
let lastScroll = 0;

export function href(id) {
  return `#/procs/${encodeURIComponent(id)}`;
}

class Row {
  constructor() {
    this.badge = h("span", { class: "badge" });
    this.link = h("a", { class: "id", tabindex: "-1" });
    this.labels = h("span", { class: "labels" });
    this.command = h("span", { class: "command" });
    this.age = h("span");
    this.cpu = h("span", { class: "figure" });
    this.memory = h("span", { class: "figure" });
    this.cpuCurve = sparkline("cpu");
    this.memoryCurve = sparkline("memory");
    const cell = (kind, ...children) => h("div", { role: "gridcell", class: `cell ${kind}` }, ...children);
    this.element = h("div", { role: "row", class: "row" },
      cell("state", this.badge),
      cell("name", this.link, this.labels),
      cell("what", this.command),
      cell("age", this.age),
      cell("use cpu", this.cpuCurve.element, this.cpu),
      cell("use memory", this.memoryCurve.element, this.memory));
  }

  show(proc, index, active) {
    const { element } = this;
    if (this.proc !== proc) {
      this.proc = proc;
      element.dataset.id = proc.id;
      this.link.href = href(proc.id);
      setText(this.link, proc.id || "(empty)");
      this.link.title = proc.id;
      this.shown = null;
    }
    if (this.index !== index) {
      this.index = index;
      element.id = `row-${index}`;
      element.setAttribute("aria-rowindex", index + 2);
      element.style.transform = `translateY(calc(${index} * var(--row)))`;
    }
    element.classList.toggle("active", active);
    element.setAttribute("aria-selected", String(active));
    const shown = `${proc.state} ${proc.reason} ${proc.live?.kernel}`;
    if (this.shown !== shown) {
      this.shown = shown;
      const { kind, text } = state(proc);
      this.badge.dataset.kind = kind;
      setText(this.badge, text);
      element.dataset.kind = kind;
      const errors = proc.errors.join("; ");
      setText(this.command, errors || proc.command || "");
      this.command.title = errors || proc.command || "";
      this.age.title = `started ${moment(proc.startMs)}${proc.stopMs === null ? "" : `, ended ${moment(proc.stopMs)}`}`;
      this.command.classList.toggle("error", Boolean(errors));
      this.labels.replaceChildren(...Object.entries(proc.labels).slice(0, 4).map(([key, value]) => h("span", { class: "label", title: `${key}=${value}` }, `${key}=${value}`)));
    }
    const running = proc.state === "running";
    // A process that was not started only has messages of its setup.
    const never = proc.state === "error" && proc.reason === "error";
    setText(this.age, running ? duration(proc.age()) : never ? "–" : `ran ${duration(proc.age())}`);
    setText(this.cpu, running ? percent(proc.live?.share) : duration(never ? null : proc.cpu));
    setText(this.memory, bytes(running ? proc.live?.rss ?? proc.history.at(-1)?.[2] : never ? null : proc.maxrss));
    this.cpu.title = running ? "share of one CPU" : "CPU time in all";
    this.memory.title = running ? "resident memory" : "the most resident memory";
    this.cpuCurve.draw(cpuShares(proc.history), 10);
    this.memoryCurve.draw(proc.history.map(([at, , rss]) => [at, rss]), 1);
  }
}

export class List {
  constructor({ store, live }) {
    this.store = store;
    this.live = live;
    this.rows = new Map();
    this.free = [];
    this.found = [];
    this.idleUntil = 0;
    this.active = lastActive;
    this.refresh = eachFrame(() => this.#throttled());
    this.render = eachFrame(() => this.#render());
    this.#build();
  }

  #build() {
    const typed = (key) => (event) => { chosen[key] = event.target.value; this.refresh(); this.#saySoon(); };
    this.search = h("input", { type: "search", class: "field search", placeholder: "Search: ID, command, pid, label", "aria-label": "Search processes", autocomplete: "off", spellcheck: "false", on: { input: typed("text") } });
    this.search.value = chosen.text;
    this.label = h("input", { type: "search", class: "field", placeholder: "Label", title: "KEY or KEY=VALUE, several apart by spaces", "aria-label": "Filter by label", autocomplete: "off", spellcheck: "false", list: "known-labels", on: { input: typed("labels") } });
    this.label.value = chosen.labels;
    this.known = h("datalist", { id: "known-labels" });
    const kinds = [["", "All", "all"], ["running", "Running", "running"], ["terminated", "Ended", "terminated"], ["error", "Not started", "error"]];
    this.kinds = kinds.map(([value, text, key]) => {
      const number = h("span", { class: "number" });
      const input = h("input", { type: "radio", name: "state", value, on: { change: typed("state") } });
      input.checked = chosen.state === value;
      return { key, number, element: h("label", { class: "choice" }, input, h("span", {}, text, " ", number)) };
    });
    const orders = { newest: "Newest first", oldest: "Oldest first", longest: "Longest first", cpu: "Most CPU", memory: "Most memory", id: "By ID" };
    this.order = h("select", { class: "field", "aria-label": "Order", on: { change: typed("order") } },
      ...Object.entries(orders).map(([value, text]) => h("option", { value }, text)));
    this.order.value = chosen.order;
    this.prune = button("Clear ended…", () => askPrune({ state: chosen.state, labels: parseLabels(chosen.labels) }), { class: "button", title: "Delete ended processes" });
    this.tally = h("p", { class: "tally" });
    const heads = ["State", "Process", "Command", "Age", "CPU", "Memory"];
    const kindsOfCells = ["state", "name", "what", "age", "use cpu", "use memory"];
    const head = h("div", { role: "row", class: "row head", "aria-rowindex": "1" },
      ...heads.map((text, n) => h("div", { role: "columnheader", class: `cell ${kindsOfCells[n]}` }, text)));
    this.body = h("div", { class: "rows", role: "rowgroup" });
    this.scroller = h("div", { class: "scroller", tabindex: "-1", role: "presentation" }, this.body);
    this.grid = h("div", { class: "grid", role: "grid", tabindex: "0", "aria-label": "Processes", "aria-colcount": "6" }, h("div", { role: "rowgroup" }, head), this.scroller);
    this.focusTarget = this.grid;
    this.empty = h("div", { class: "nothing" });
    this.element = h("section", { class: "page list", "aria-label": "All processes" },
      h("h1", { class: "unseen" }, "Processes"),
      h("div", { class: "tools", role: "search" }, this.search,
        h("fieldset", { class: "choices" }, h("legend", { class: "unseen" }, "State"), ...this.kinds.map(({ element }) => element)),
        h("div", { class: "pair" }, this.label, this.known, this.order)),
      h("div", { class: "under" }, this.tally, this.prune),
      this.grid, this.empty);
    this.scroller.addEventListener("scroll", () => { lastScroll = this.scroller.scrollTop; this.render(); this.#wantSoon(); }, { passive: true });
    this.grid.addEventListener("keydown", (event) => this.#key(event));
    this.grid.addEventListener("focus", () => { if (this.active === null && this.found.length) this.#activate(0); });
    this.body.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (!row || getSelection()?.toString()) return;
      this.active = lastActive = row.dataset.id;
      // The link does it by itself, in another tab too.
      if (!event.target.closest("a")) location.hash = href(row.dataset.id);
    });
  }

  mount() {
    this.onChange = () => this.refresh();
    this.store.addEventListener("change", this.onChange);
    this.resized = new ResizeObserver(() => this.render());
    this.resized.observe(this.scroller);
    this.clock = setInterval(() => this.render(), 1000);
    this.#refresh();
    this.scroller.scrollTop = lastScroll;
    this.#render();
    this.#want();
  }

  unmount() {
    this.store.removeEventListener("change", this.onChange);
    this.resized.disconnect();
    clearInterval(this.clock);
    for (const timer of [this.saying, this.wanting, this.later]) clearTimeout(timer);
  }

  /** The row height is the style sheet's, and another one on a phone. */
  #height() {
    return parseFloat(getComputedStyle(this.grid).getPropertyValue("--row")) || 40;
  }

  /** Sorts again, and then pauses for a multiple of the time taken: changes may come faster than thousands can be sorted. */
  #throttled() {
    const now = performance.now();
    if (now < this.idleUntil) {
      this.later ||= setTimeout(() => { this.later = 0; this.refresh(); }, this.idleUntil - now);
      return;
    }
    this.#refresh();
    this.idleUntil = performance.now() + REST * (performance.now() - now);
  }

  #refresh() {
    this.found = this.store.filter({ ...chosen, labels: parseLabels(chosen.labels) });
    const counts = this.store.counts();
    for (const { key, number } of this.kinds) setText(number, count(counts[key]));
    const all = counts.all === this.found.length;
    setText(this.tally, !this.store.loaded ? "Loading…" : all ? processes(counts.all) : `${count(this.found.length)} of ${processes(counts.all)}`);
    this.prune.disabled = counts.terminated + counts.error === 0;
    this.grid.setAttribute("aria-rowcount", this.found.length + 1);
    this.body.style.height = `calc(${this.found.length} * var(--row))`;
    const nothing = this.store.loaded && this.found.length === 0;
    this.grid.hidden = nothing;
    this.empty.hidden = !nothing;
    if (nothing && this.emptyOf !== counts.all) {
      this.emptyOf = counts.all;
      this.empty.replaceChildren(...(counts.all
        ? [h("p", {}, "No process is like that."), button("Show all", () => this.#clear())]
        : [h("p", {}, "Nothing runs here yet."), h("a", { class: "button primary", href: "#/start" }, "Start a process…")]));
    }
    if (!nothing) this.emptyOf = null;
    this.#labels();
    this.#render();
    this.#wantSoon();
  }

  #labels() {
    const seen = new Set();
    for (const proc of this.found.slice(0, 500)) for (const [key, value] of Object.entries(proc.labels)) seen.add(`${key}=${value}`);
    const names = [...seen].sort().slice(0, 50);
    if (this.names === names.join("\0")) return;
    this.names = names.join("\0");
    this.known.replaceChildren(...names.map((value) => h("option", { value })));
  }

  #clear() {
    Object.assign(chosen, { text: "", state: "", labels: "" });
    this.search.value = this.label.value = "";
    this.kinds[0].element.firstChild.checked = true;
    this.#refresh();
    this.search.focus();
  }

  #render() {
    const height = this.#height();
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / height) - SPARE);
    const last = Math.min(this.found.length, Math.ceil((this.scroller.scrollTop + this.scroller.clientHeight) / height) + SPARE);
    for (const [index, row] of this.rows) {
      if (index < first || index >= last) {
        this.rows.delete(index);
        row.element.remove();
        this.free.push(row);
      }
    }
    let activeAt = -1;
    for (let index = first; index < last; index += 1) {
      let row = this.rows.get(index);
      if (!row) {
        row = this.free.pop() ?? new Row();
        this.rows.set(index, row);
        this.body.append(row.element);
      }
      const proc = this.found[index];
      const active = proc.id === this.active;
      if (active) activeAt = index;
      row.show(proc, index, active);
    }
    if (activeAt >= 0) this.grid.setAttribute("aria-activedescendant", `row-${activeAt}`);
    else this.grid.removeAttribute("aria-activedescendant");
  }

  #wantSoon() {
    this.wanting ||= setTimeout(() => { this.wanting = 0; this.#want(); }, 250);
  }

  /** Requests the stats of the running rows in sight. */
  #want() {
    const height = this.#height();
    const first = Math.floor(this.scroller.scrollTop / height);
    const last = Math.ceil((this.scroller.scrollTop + this.scroller.clientHeight) / height);
    const running = (procs) => procs.filter((proc) => proc.state === "running").map((proc) => proc.id);
    // Those in sight first; where there is room, others as well, so that an order by use means something.
    this.live.want([...running(this.found.slice(first, last)), ...running(this.found.slice(0, 300))], EVERY);
  }

  #saySoon() {
    clearTimeout(this.saying);
    this.saying = setTimeout(() => say(`${processes(this.found.length)} shown`), 600);
  }

  #activate(index) {
    const proc = this.found[Math.min(this.found.length - 1, Math.max(0, index))];
    if (!proc) return;
    this.active = lastActive = proc.id;
    const height = this.#height();
    const at = this.found.indexOf(proc) * height;
    const { scrollTop, clientHeight } = this.scroller;
    if (at < scrollTop) this.scroller.scrollTop = at;
    else if (at + height > scrollTop + clientHeight) this.scroller.scrollTop = at + height - clientHeight;
    this.#render();
  }

  /** Moves by so many rows, from wherever the focus is. */
  move(step) {
    this.grid.focus({ preventScroll: true });
    const at = this.found.findIndex((proc) => proc.id === this.active);
    this.#activate(at < 0 ? 0 : at + step);
  }

  #key(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.#height()) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) {
      event.preventDefault();
      const step = steps[event.key];
      if (Number.isFinite(step)) this.move(step);
      else this.#activate(step < 0 ? 0 : this.found.length - 1);
    } else if (event.key === "Enter" && this.active !== null) {
      location.hash = href(this.active);
    }
  }

  /** Keys of the page that mean something here. */
  key(key) {
    const proc = this.store.procs.get(this.active);
    switch (key) {
      case "/": this.search.focus(); this.search.select(); return true;
      case "l": this.label.focus(); return true;
      case "j": this.move(1); return true;
      case "k": this.move(-1); return true;
      case "s": if (proc) askStop(proc); return Boolean(proc);
      case "x": if (proc) askSignal(proc); return Boolean(proc);
      case "d": if (proc) askDelete(proc); return Boolean(proc);
      case "Escape":
        if (document.activeElement === this.search || document.activeElement === this.label) {
          this.grid.focus();
          return true;
        }
        return false;
      default: return false;
    }
  }
}
