// One process: its state and what can be done about it above, and below its output, details, charts or whole result.

import { askDelete, askSignal, askStop } from "./actions.js";
import { ApiError, data, problem, procPath } from "./api.js";
import { chart } from "./chart.js";
import { details, resultText } from "./details.js";
import { button, eachFrame, h, say, setText } from "./dom.js";
import { bytes, duration, percent, state } from "./format.js";
import { href } from "./list.js";
import { OutputView } from "./output.js";
import { addPoint, cpuShares } from "./store.js";

const TABS = [["output", "Output"], ["details", "Details"], ["charts", "Charts"], ["result", "Result"]];
const EVERY = 1;

/** Merges two histories in order; where both have samples of about the same time, the first one's are kept. */
function merge(one, other) {
  const all = [...one];
  for (const point of other) if (!one.some(([at]) => Math.abs(at - point[0]) < 0.5)) all.push(point);
  return all.sort(([a], [b]) => a - b);
}

export class ProcView {
  constructor({ store, live }, id) {
    this.store = store;
    this.live = live;
    this.id = id;
    /** @type {import("../types").ProcResult | null} */
    this.result = null;
    this.history = [];
    this.output = null;
    this.render = eachFrame(() => this.#render());
    this.#build();
  }

  get proc() {
    return this.store.procs.get(this.id);
  }

  #build() {
    this.badge = h("span", { class: "badge large" });
    this.facts = h("dl", { class: "facts" });
    this.stop = button("Stop…", () => this.proc && askStop(this.proc), { class: "button danger", title: "Stop (s)" });
    this.signal = button("Signal…", () => this.proc && askSignal(this.proc), { title: "Send a signal (x)" });
    this.delete = button("Delete…", () => this.proc && askDelete(this.proc, () => { location.hash = "#/"; }), { class: "button danger", title: "Delete (d)" });
    this.trouble = h("div", { class: "trouble", role: "alert", hidden: true });
    this.tabs = TABS.map(([name, text]) => h("a", { id: `tab-${name}`, role: "tab", href: `${href(this.id)}/${name}`, "aria-controls": "panel" }, text));
    this.panel = h("div", { class: "panel", id: "panel", role: "tabpanel" });
    this.focusTarget = h("h1", { class: "title", tabindex: "-1", title: this.id }, this.id || "(empty)");
    const tablist = h("div", { class: "tabs", role: "tablist", "aria-label": "About this process" }, ...this.tabs);
    tablist.addEventListener("keydown", (event) => this.#tabKey(event));
    tablist.addEventListener("click", (event) => {
      const n = this.tabs.indexOf(event.target.closest("a"));
      if (n < 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      this.#go(n);
    });
    this.element = h("section", { class: "page proc", "aria-label": `Process ${this.id}` },
      h("div", { class: "heading" }, h("a", { class: "button quiet back", href: "#/", "aria-label": "Back to all processes", title: "All processes (Esc)" }, "←"),
        this.focusTarget, this.badge, h("div", { class: "actions" }, this.stop, this.signal, this.delete)),
      this.facts, this.trouble, tablist, this.panel);
    const times = (title, kind, format, floor) => chart({ title, kind, format, floor });
    this.charts = {
      cpu: times("CPU", "cpu", percent, 10),
      memory: times("Resident memory", "memory", bytes, 1e6),
    };
    this.chartPanel = h("div", { class: "charts" }, this.charts.cpu.element, this.charts.memory.element, this.note = h("p", { class: "note" }));
  }

  mount(tab) {
    this.onProc = ({ detail }) => { if (detail.id === this.id) this.#happened(detail.what); };
    this.onStats = ({ detail }) => { if (detail.id === this.id) this.#stats(detail.now); };
    this.onLoaded = () => this.load();
    this.onRest = () => this.output?.hide();
    this.onWake = () => { if (this.tab === "output") this.output?.shown(); };
    this.live.addEventListener("rest", this.onRest);
    this.live.addEventListener("wake", this.onWake);
    this.store.addEventListener("proc", this.onProc);
    this.store.addEventListener("stats", this.onStats);
    this.store.addEventListener("loaded", this.onLoaded);
    this.store.addEventListener("change", this.render);
    this.clock = setInterval(this.render, 1000);
    this.asked = tab;
    this.live.want([this.id], EVERY);
    this.load();
  }

  unmount() {
    this.gone = true;
    this.live.removeEventListener("rest", this.onRest);
    this.live.removeEventListener("wake", this.onWake);
    this.store.removeEventListener("proc", this.onProc);
    this.store.removeEventListener("stats", this.onStats);
    this.store.removeEventListener("loaded", this.onLoaded);
    this.store.removeEventListener("change", this.render);
    clearInterval(this.clock);
    this.output?.unmount();
  }

  /** Fetches the result; on the first time the view is chosen by what there is. */
  async load() {
    try {
      const { procs } = await data("GET", `${procPath(this.id)}?output=none`);
      if (this.gone) return;
      const result = procs[this.id];
      const other = this.result && this.result.times.start !== result.times.start;
      this.result = result;
      if (other) {
        this.history = [];
        this.output?.unmount();
        this.output = null;
      }
      // Together with what has been seen of it while it was in the list.
      const seen = (result.samples ?? []).map(({ elapsed, utime, stime, cutime, cstime, rss }) => [elapsed, utime + stime + cutime + cstime, rss]);
      this.history = merge(seen, merge(this.history, this.proc?.history ?? []));
      this.trouble.hidden = result.errors.length === 0;
      this.trouble.replaceChildren(...result.errors.map((text) => h("p", {}, text)));
      if (other || !this.tab) this.show(this.asked);
      this.output?.update(result);
      this.#fill();
    } catch (error) {
      if (this.gone) return;
      const unknown = error instanceof ApiError && error.status === 404;
      this.trouble.hidden = false;
      this.trouble.replaceChildren(h("p", {}, unknown ? (this.result ? "This process has been deleted." : "There is no such process. It may have been deleted.") : problem(error)));
      if (unknown) this.deleted = true;
    }
    this.render();
  }

  #happened(what) {
    if (what === "deleted") {
      this.deleted = true;
      this.trouble.hidden = false;
      this.trouble.replaceChildren(h("p", {}, "This process has been deleted."));
      this.render();
      return;
    }
    this.deleted = false;
    this.load();
    if (what === "ended" && this.proc) say(`${this.id}: ${state(this.proc).text}`);
  }

  #stats(now) {
    addPoint(this.history, [now.elapsed, now.cpu, now.rss]);
    this.output?.captured(now.captured);
    if (this.tab === "charts") this.#charts();
  }

  show(tab) {
    const captured = Object.keys(this.result?.captures ?? {}).length > 0;
    const name = TABS.some(([known]) => known === tab) ? tab : captured ? "output" : "details";
    this.asked = tab;
    if (!this.result || name === this.tab) return;
    this.tab = name;
    for (const [n, [known]] of TABS.entries()) {
      const chosen = known === name;
      this.tabs[n].setAttribute("aria-selected", String(chosen));
      this.tabs[n].tabIndex = chosen ? 0 : -1;
    }
    this.panel.setAttribute("aria-labelledby", `tab-${name}`);
    this.panel.dataset.tab = name;
    if (name !== "output") this.output?.hide();
    this.#fill(true);
  }

  #fill(replace = false) {
    switch (this.tab) {
      case "output":
        this.output ??= new OutputView(this.id, this.result);
        if (replace || this.panel.firstChild !== this.output.element) {
          this.panel.replaceChildren(this.output.element);
          this.output.shown();
        }
        break;
      case "details": this.panel.replaceChildren(details(this.id, this.result)); break;
      case "charts":
        if (replace) this.panel.replaceChildren(this.chartPanel);
        this.#charts();
        break;
      case "result":
        this.panel.replaceChildren(resultText(this.id, this.result));
        break;
      default:
    }
  }

  #charts() {
    this.charts.cpu.draw(cpuShares(this.history));
    this.charts.memory.draw(this.history.map(([at, , rss]) => [at, rss]));
    const sampled = this.result.samples !== null;
    setText(this.note, sampled ? "" : "This instance keeps no history (sampling.interval is not set): these curves show only samples since this page was opened.");
  }

  #render() {
    const proc = this.proc;
    const from = proc ?? this.result;
    if (!from) return;
    const running = from.state === "running" && !this.deleted;
    const { kind, text } = state(from);
    this.badge.dataset.kind = this.deleted ? "off" : kind;
    setText(this.badge, this.deleted ? "deleted" : text);
    this.stop.hidden = this.signal.hidden = !running;
    this.delete.hidden = running || this.deleted || !proc;
    const age = proc ? proc.age() : this.result.times.elapsed;
    const facts = [["pid", from.pid ?? "–"], [running ? "runs for" : "ran for", duration(age)]];
    if (running) {
      facts.push(["CPU", percent(proc?.live?.share)], ["memory", bytes(proc?.live?.rss)], ["threads", proc?.live?.threads ?? "–"]);
    } else if (this.result) {
      facts.push(["CPU time", duration(this.result.usage?.cpu)], ["most memory", bytes(this.result.usage?.maxrss)]);
    }
    while (this.facts.children.length > facts.length) this.facts.lastChild.remove();
    for (const [n, [name, value]] of facts.entries()) {
      let item = this.facts.children[n];
      if (!item) this.facts.append(item = h("div", {}, h("dt"), h("dd")));
      setText(item.firstChild, name);
      setText(item.lastChild, String(value));
    }
  }

  #tabKey(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = TABS.findIndex(([name]) => name === this.tab);
    const to = step === -Infinity ? 0 : step === Infinity ? TABS.length - 1 : (at + step + TABS.length) % TABS.length;
    this.#go(to);
    this.tabs[to].focus();
  }

  #go(n) {
    // So that going back leads to the list, and not through all tabs.
    history.replaceState(null, "", `${href(this.id)}/${TABS[n][0]}`);
    this.show(TABS[n][0]);
  }

  key(key) {
    if (/^[1-4]$/.test(key)) {
      this.#go(Number(key) - 1);
      return true;
    }
    const { proc } = this;
    if (key === "s" && proc) askStop(proc);
    else if (key === "x" && proc) askSignal(proc);
    else if (key === "d" && proc) askDelete(proc, () => { location.hash = "#/"; });
    else return this.tab === "output" && Boolean(this.output?.key(key));
    return true;
  }
}
