// The page: what is above every view, which view is shown, and the connection.

import { data, mayChange, problem, takeSession, token } from "./api.js";
import { button, h, say, setText, toast } from "./dom.js";
import { duration } from "./format.js";
import { listen, showHelp } from "./keys.js";
import { List } from "./list.js";
import { Live } from "./live.js";
import { ProcView } from "./proc.js";
import { StartView } from "./start.js";
import { Store } from "./store.js";

const find = (id) => document.getElementById(id);
const live = new Live();
const store = new Store();
const app = { live, store };
let view = null;

// -- Which view

/** What stands after the `#`: `/`, `/start`, or `/procs/ID` and maybe `/TAB`. */
function route() {
  const parts = location.hash.replace(/^#\/?/, "").split("/");
  if (parts[0] === "start") return { kind: "start" };
  if (parts[0] === "procs" && parts.length > 1) {
    try {
      return { kind: "proc", id: decodeURIComponent(parts[1]), tab: parts[2] ?? "" };
    } catch {
      return { kind: "list" };
    }
  }
  return { kind: "list" };
}

function show() {
  const to = route();
  if (to.kind === "proc" && view instanceof ProcView && view.id === to.id) return view.show(to.tab);
  const before = view;
  view?.unmount();
  view = to.kind === "start" ? new StartView(app) : to.kind === "proc" ? new ProcView(app, to.id) : new List(app);
  const main = find("main");
  main.replaceChildren(view.element);
  main.dataset.view = to.kind;
  document.title = to.kind === "proc" ? `${to.id} – procstar` : to.kind === "start" ? "Start – procstar" : "procstar";
  view.mount(to.tab);
  // Not at the first: then the focus is where the browser has it.
  if (before) (view.focusTarget ?? main).focus({ preventScroll: true });
}

window.addEventListener("hashchange", show);

// -- Colours

const THEMES = ["", "light", "dark"];
const THEME_NAMES = { "": "as the system", light: "light", dark: "dark" };

function nextTheme() {
  const { dataset } = document.documentElement;
  const theme = THEMES[(THEMES.indexOf(dataset.theme ?? "") + 1) % THEMES.length];
  if (theme) dataset.theme = theme;
  else delete dataset.theme;
  try {
    if (theme) localStorage.setItem("procstar-theme", theme);
    else localStorage.removeItem("procstar-theme");
  } catch {
    // Then it holds for as long as the page does.
  }
  nameTheme();
  say(`Colours: ${THEME_NAMES[theme]}`);
}

function nameTheme() {
  const theme = document.documentElement.dataset.theme ?? "";
  find("theme").setAttribute("aria-label", `Colours: ${THEME_NAMES[theme]}`);
  find("theme").title = `Colours: ${THEME_NAMES[theme]} (t)`;
  find("theme").firstElementChild.textContent = { "": "◐", light: "☀", dark: "☾" }[theme];
}

// -- The connection of the page to the service, and of the agent to its server

const LIVE_TEXTS = { wait: "connecting", open: "live", lost: "no connection", refused: "access denied" };
let lostOnce = false;

live.addEventListener("state", (/** @type {CustomEvent} */ { detail: { state, why } }) => {
  find("live").dataset.state = state;
  setText(find("live-text"), LIVE_TEXTS[state]);
  find("live").title = why;
  find("readonly").hidden = mayChange();
  const banner = find("banner");
  banner.hidden = state === "open" || state === "wait";
  if (state === "lost") {
    if (!lostOnce) banner.replaceChildren(h("span", {}, "No connection to the service. What is shown is as it was; the page goes on by itself as soon as it answers. "), button("Try now", () => live.retry()));
    lostOnce = true;
  } else if (state === "open") {
    if (lostOnce) say("Connected again");
    lostOnce = false;
    about();
  } else if (state === "refused") {
    refused(why);
  }
});

function refused(why) {
  // Where the service is not known to be the one that sent this page, no secret is asked for: another program may have had this address.
  if (location.protocol === "https:" || location.hostname.endsWith(".localhost")) return askToken(why);
  banner("The service does not let this page in.", `${why}. To use the HTTP token in a browser, run \`procstar ui\`, and enter the token on the page that opens.`);
}

function banner(what, why) {
  find("banner").replaceChildren(h("span", {}, h("strong", {}, what), ` ${why}`));
}

function askToken(why) {
  const input = h("input", { type: "password", class: "field", autocomplete: "off", "aria-label": "Token" });
  const text = token.get() ? "The service does not take this token." : "The service asks for its HTTP token.";
  find("banner").replaceChildren(h("form", {
    class: "token",
    on: {
      submit: (event) => {
        event.preventDefault();
        token.set(input.value.trim());
        live.retry();
      },
    },
  }, h("span", {}, h("strong", {}, text), " It is kept until this tab is closed, and nowhere else."), input, h("button", { type: "submit", class: "button primary" }, "Use it"), h("small", {}, why)));
  input.focus();
}

async function about() {
  try {
    const { status: agent } = await data("GET", "/status");
    setText(find("host"), agent.username ? `${agent.username}@${agent.hostname}` : agent.hostname);
    find("host").title = `procstar ${agent.version}, pid ${agent.pid}, up ${duration(agent.uptime)}`;
  } catch (error) {
    find("host").title = problem(error);
  }
}

const LINK_TEXTS = { waiting: "waiting to reconnect", connecting: "connecting", registering: "registering", registered: "registered", closed: "closed" };

function showLink(link) {
  const pill = find("server");
  pill.hidden = !link;
  if (!link) return;
  pill.dataset.state = link.state === "registered" ? "open" : link.state === "waiting" || link.state === "closed" ? "lost" : "wait";
  setText(pill, `${link.server} ${LINK_TEXTS[link.state] ?? link.state}`);
  const facts = [`group ${link.group_id}`];
  if (link.round_trip !== null) facts.push(`round trip ${duration(link.round_trip)}`);
  if (link.failures) facts.push(`${link.failures} failed attempts in a row`);
  if (link.last_error) facts.push(`last error: ${link.last_error}`);
  pill.title = facts.join(", ");
  pill.setAttribute("aria-label", `Agent's server ${pill.textContent}, ${facts.join(", ")}`);
}

store.addEventListener("agent", (/** @type {CustomEvent} */ { detail }) => showLink(detail));
store.addEventListener("change", () => {
  const idle = store.shutdown !== "active";
  find("go-start").toggleAttribute("data-off", idle);
  find("go-start").title = idle ? `The instance is ending (${store.shutdown}): nothing new is started` : "Start a process (c)";
});

// -- Keys

function key(pressed) {
  if (view?.key(pressed)) return true;
  switch (pressed) {
    case "?": showHelp(); return true;
    case "c": location.hash = "#/start"; return true;
    case "t": nextTheme(); return true;
    case "Escape":
      if (view instanceof List) return false;
      location.hash = "#/";
      return true;
    default: return false;
  }
}

window.addEventListener("sessionend", () => { find("readonly").hidden = mayChange(); });
find("readonly").addEventListener("click", () => toast("To start and stop processes, run `procstar ui` in a terminal: it opens this page with a session"));
find("theme").addEventListener("click", nextTheme);
document.querySelector(".skip").addEventListener("click", (event) => {
  // What stands after the `#` says which view is shown.
  event.preventDefault();
  find("main").focus();
});
find("help").addEventListener("click", showHelp);
nameTheme();
listen(key);
store.listen(live);
try {
  await takeSession();
} catch (error) {
  toast(problem(error), "bad");
}
show();
live.start();
