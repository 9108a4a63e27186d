// What changes something, always in two steps: what will happen is said, and then it is confirmed.

import { ApiError, data, problem, procPath, send } from "./api.js";
import { button, h, toast } from "./dom.js";
import { processes } from "./format.js";

const SIGNALS = ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGSTOP", "SIGCONT", "SIGTSTP", "SIGWINCH"];

/** Asks in a dialog; `act` does it, with the dialog's fields, and what it throws is shown there. */
export function confirm({ title, text, fields = [], does, danger = false, act }) {
  const trouble = h("p", { class: "trouble", role: "alert", hidden: true });
  const yes = h("button", { type: "submit", class: `button ${danger ? "danger" : "primary"}` }, does);
  const form = h("form", { method: "dialog" },
    h("h2", { id: "asked" }, title), text && h("p", { class: "note" }, text), ...fields, trouble,
    h("div", { class: "row-of-buttons" }, button("Cancel", () => dialog.close()), yes));
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "asked", on: { close: () => dialog.remove() } }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    yes.disabled = true;
    trouble.hidden = true;
    try {
      const done = await act(form.elements);
      dialog.close();
      if (done) toast(done);
    } catch (error) {
      trouble.textContent = problem(error);
      trouble.hidden = false;
      yes.disabled = false;
    }
  });
  document.body.append(dialog);
  dialog.showModal();
  (form.querySelector("input, select") ?? yes).focus();
  return dialog;
}

function field(name, text, input) {
  input.setAttribute("name", name);
  return h("label", { class: "labelled" }, h("span", {}, text), input);
}

function signals(first) {
  const options = [first, ...SIGNALS.filter((name) => name !== first)];
  const list = h("datalist", { id: "signals" }, ...options.map((value) => h("option", { value })));
  return [h("input", { class: "field", list: "signals", placeholder: first, autocomplete: "off", spellcheck: "false", autocapitalize: "characters" }), list];
}

function name(proc) {
  return proc.id === "" ? "(empty)" : proc.id;
}

function ended(proc) {
  toast(`${name(proc)} has ended already`, "bad");
}

/** Stop: a signal, and SIGKILL after a grace. */
export function askStop(proc) {
  if (proc.state !== "running") return ended(proc);
  const [input, list] = signals("SIGTERM");
  const grace = h("input", { class: "field", type: "number", min: "0", step: "any", inputmode: "decimal", placeholder: "10" });
  confirm({
    title: `Stop ${name(proc)}?`,
    text: "It gets the signal, and its whole tree SIGKILL when the grace is over. What is left empty is as its spec says.",
    fields: [field("signal", "Signal", input), list, field("grace", "Grace, in seconds", grace)],
    does: "Stop",
    danger: true,
    act: async (fields) => {
      const body = {};
      if (fields.signal.value.trim()) body.signal = fields.signal.value.trim();
      if (fields.grace.value !== "") body.grace = Number(fields.grace.value);
      await send("POST", `${procPath(proc.id)}/stop`, body);
      return `${name(proc)} is asked to stop`;
    },
  });
}

/** Any signal. */
export function askSignal(proc) {
  if (proc.state !== "running") return ended(proc);
  const [input, list] = signals("SIGHUP");
  input.required = true;
  confirm({
    title: `Send ${name(proc)} a signal`,
    text: "By name or number, to the process alone.",
    fields: [field("signal", "Signal", input), list],
    does: "Send",
    act: async (fields) => {
      const signal = fields.signal.value.trim();
      await data("POST", `${procPath(proc.id)}/signals/${encodeURIComponent(signal)}`);
      return `${signal} sent to ${name(proc)}`;
    },
  });
}

/** Asks whether to delete an ended process, and deletes it. */
export function askDelete(proc, then) {
  if (proc.state === "running") return toast(`${name(proc)} is running: stop it first`, "bad");
  confirm({
    title: `Delete ${name(proc)}?`,
    text: "Its result and its captured output are deleted. This cannot be undone.",
    does: "Delete",
    danger: true,
    act: async () => {
      try {
        await data("DELETE", procPath(proc.id));
      } catch (error) {
        // Somebody else was faster: it is gone all the same.
        if (!(error instanceof ApiError && error.status === 404)) throw error;
      }
      then?.();
      return `${name(proc)} is deleted`;
    },
  });
}

/** Asks whether to delete all ended processes of a state and with labels, and deletes them. */
export function askPrune({ state, labels }) {
  const age = h("input", { class: "field", type: "number", min: "0", step: "any", inputmode: "decimal", value: "0", required: true });
  const query = new URLSearchParams();
  if (state && state !== "running") query.set("state", state);
  for (const [key, value] of labels) query.append("label", value === null ? key : `${key}=${value}`);
  const which = [state && state !== "running" && `in state ${state}`, ...labels.map(([key, value]) => `with label ${value === null ? key : `${key}=${value}`}`)].filter(Boolean);
  confirm({
    title: "Clear ended processes?",
    text: `Every ended process ${which.length ? `${which.join(", ")} ` : ""}is deleted with its output, even if the search does not match it. Running processes stay. This cannot be undone.`,
    fields: [field("age", "Ended at least so many seconds ago", age)],
    does: "Clear",
    danger: true,
    act: async (fields) => {
      query.set("older_than", fields.age.value);
      const { proc_ids: ids } = await data("DELETE", `/procs?${query}`);
      return `${processes(ids.length)} deleted`;
    },
  });
}
