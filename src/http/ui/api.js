// Requests to the service, with the session, and with the token where one is needed.

/** A secret: kept while the tab is open, and nowhere else. */
const kept = (key) => ({
  get: () => sessionStorage.getItem(key) ?? "",
  set: (text) => sessionStorage.setItem(key, text),
});

export const token = kept("procstar-token");
const session = kept("procstar-session");

/** Whether the service takes changes from this page. */
export function mayChange() {
  return Boolean(session.get() || token.get());
}

/**
 * Trades the code that `procstar ui` has put behind the `#` for a session. What can be read there by then is no code any more. This page is
 * ours: its host name is new, so no service worker answers in the place of the service.
 */
export async function takeSession() {
  const code = location.hash.match(/^#session=([0-9a-f]+)$/)?.[1];
  if (!code) return;
  history.replaceState(null, "", location.pathname + location.search);
  session.set((await send("POST", "/sessions", { code })).session);
}

/** An answer that says what is wrong; `details` has one text for each thing. */
export class ApiError extends Error {
  constructor(status, details) {
    super(details.join("\n"));
    this.status = status;
    this.details = details;
  }
}

async function failure(answer) {
  let details = [];
  try {
    details = (await answer.json()).errors.map((error) => error.detail);
  } catch {
    // No body of ours: the status alone has to do.
  }
  return new ApiError(answer.status, details.length ? details : [`the service answered ${answer.status} ${answer.statusText}`]);
}

/**
 * @typedef {object} Options
 * @property {Record<string, string>} [headers]
 * @property {string} [body]
 * @property {AbortSignal} [signal]
 */

/**
 * Asks; throws an `ApiError` for an answer that is not good, and a `TypeError` where nobody answers.
 * @param {string} method
 * @param {string} path
 * @param {Options} [options]
 */
export async function ask(method, path, { headers = {}, body, signal } = {}) {
  /** @type {Record<string, string>} */
  const all = { ...headers };
  if (session.get()) all["Procstar-Session"] = session.get();
  if (token.get()) all.Authorization = `Bearer ${token.get()}`;
  const answer = await fetch(path, { method, headers: all, body, signal, cache: "no-store", credentials: "omit", redirect: "error" });
  if (!answer.ok) {
    const error = await failure(answer);
    if (error.status === 403 && error.message.startsWith("the session of this page")) {
      session.set("");
      window.dispatchEvent(new Event("sessionend"));
    }
    throw error;
  }
  return answer;
}

/**
 * The data of a JSON answer.
 * @param {string} method
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<any>}
 */
export async function data(method, path, options) {
  return (await (await ask(method, path, options)).json()).data;
}

/** Sends JSON. */
export function send(method, path, value) {
  const body = typeof value === "string" ? value : JSON.stringify(value);
  return data(method, path, { headers: { "Content-Type": "application/json" }, body });
}

/** A process's path. A browser takes `.` and `..` for parts of a path however they are written, so those two cannot be asked for. */
export function procPath(id) {
  return `/procs/${encodeURIComponent(id)}`;
}

/** The path of what a process's fd has captured. */
export function outputPath(id, fd) {
  return `${procPath(id)}/output/${encodeURIComponent(fd)}`;
}

/** What went wrong, for people. */
export function problem(error) {
  if (error instanceof ApiError) return error.message;
  if (error instanceof TypeError) return "the service does not answer";
  return String(error?.message ?? error);
}
