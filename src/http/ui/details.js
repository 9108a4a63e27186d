// A result for people, and as it is.

import { button, h, toast } from "./dom.js";
import { bytes, count, duration, fdName, moment, percent } from "./format.js";

function table(title, rows) {
  const shown = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  if (!shown.length) return null;
  return h("section", { class: "block" }, h("h2", {}, title),
    h("dl", { class: "table" }, ...shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))));
}

/** As a shell would take it, for reading. */
function quoted(argument) {
  return /^[\w@%+=:,./-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
}

function capture(report, fd, described) {
  const parts = [bytes(report.length)];
  if (report.dropped) parts.push(`${bytes(report.dropped)} dropped between its first and last bytes`);
  if (report.reason) parts.push(`incomplete: ${report.reason}`);
  if (report.compression) parts.push(`kept as ${report.compression}, ${bytes(report.stored)}`);
  if (report.path) parts.push(`in ${report.path}`);
  if (described?.encoding) parts.push(described.encoding);
  return parts.join(", ");
}

/** Descendants that outlive it; null for none. The service has null where it cannot know them all. */
function leftBehind({ times, survivors, survivor_count: known }) {
  if (!times.stop) return null;
  if (known !== null) return known ? `${count(known)} descendants` : null;
  return survivors ? `${count(survivors.length)} descendants, and there may be others` : "not known: an orphan may come from this process or from another";
}

/** What a sandbox takes away, in the words of a spec. */
export function restrictions(sandbox) {
  const { capabilities, network } = sandbox;
  const paths = (what, list) => (list.length ? `${what}: ${list.join(" ")}` : null);
  return [
    sandbox.no_new_privs && "no_new_privs",
    capabilities && `capabilities: ${capabilities.length ? capabilities.join(" ") : "none"}`,
    sandbox.private_tmp && "private_tmp",
    paths("read-only", sandbox.read_only_paths), paths("writable", sandbox.writable_paths), paths("hidden", sandbox.hidden_paths),
    network !== "host" && `network: ${network}`,
  ].filter(Boolean).join("; ");
}

/** A process's command, outcome and resource usage. */
export function details(id, result) {
  const { times, usage, io, peak, status } = result;
  const command = result.argv && h("code", {}, result.argv.map(quoted).join(" "));
  const fds = Object.entries(result.fds).map(([fd, described]) => [fdName(fd), result.captures[fd] ? capture(result.captures[fd], fd, described) : "not captured"]);
  const env = result.env && Object.entries(result.env).map(([name, value]) => [name, h("code", {}, value)]);
  const survivors = result.survivors?.map((one) => [String(one.pid), `${one.comm}, session ${one.session}, relation: ${one.relation}`]);
  const group = result.cgroup_accounting;
  return h("div", { class: "details" },
    table("What it is", [
      ["ID", h("code", {}, id)], ["Command", command], ["Executable", result.exe && h("code", {}, result.exe)],
      ["Directory", result.cwd ? h("code", {}, result.cwd) : "procstar's own"],
      ["Labels", Object.keys(result.labels).length ? h("span", { class: "labels" }, ...Object.entries(result.labels).map(([key, value]) => h("span", { class: "label" }, `${key}=${value}`))) : null],
      ["Sandbox", result.sandbox && restrictions(result.sandbox)],
      ["Group", result.group_id], ["Agent", `${result.agent.user}@${result.agent.host}, version ${result.agent.version}`],
    ]),
    table("Outcome", [
      ["Started", moment(times.start)], ["Ended", times.stop && moment(times.stop)], ["For", times.stop && duration(times.elapsed)],
      ["Reason", result.reason?.replaceAll("_", " ")], ["Exit code", status?.exit_code ?? null], ["Signal", status?.signal],
      ["Core dump", status?.core_dump ? "yes" : null], ["Left behind", leftBehind(result)],
    ]),
    table("What it used", [
      ["CPU time", usage && `${duration(usage.cpu)} (own: user ${duration(usage.utime)}, kernel ${duration(usage.stime)})`],
      ["CPU share", usage && times.elapsed > 0 ? `${percent((usage.cpu / times.elapsed) * 100)} of one CPU on average` : null],
      ["Most memory", usage?.maxrss && bytes(usage.maxrss)], ["Most threads", peak?.threads],
      ["Page faults", usage && `${count(usage.minflt)}, ${count(usage.majflt)} from disk`],
      ["Disk", io && `${bytes(io.read_bytes)} read, ${bytes(io.write_bytes)} written`],
      ["Read and written", io && `${bytes(io.rchar)} in ${count(io.syscr)} calls, ${bytes(io.wchar)} in ${count(io.syscw)} calls`],
      ["Control group", group?.memory && `memory ${bytes(group.memory.current)}, at most ${bytes(group.memory.peak)}`],
    ]),
    table("Descriptors", fds),
    survivors?.length > 0 && table("Descendants that live on", survivors),
    env ? table("Environment", env) : h("p", { class: "note" }, "The environment is shown where the spec asks for it: ", h("code", {}, "\"env\": {\"report\": true}"), "."));
}

/** The result as the service has it. */
export function resultText(id, result) {
  // Histories and pieces are long, and shown elsewhere.
  const short = (key, value) => (key === "chunk_times" && value?.length > 20 ? [...value.slice(0, 20), `… ${value.length - 20} more`] : value);
  const text = JSON.stringify(result, short, 2);
  const copy = button("Copy", async () => {
    try {
      await navigator.clipboard.writeText(JSON.stringify(result, null, 2));
      toast("Copied");
    } catch {
      toast("The browser does not let this page copy: select the text", "bad");
    }
  });
  return h("div", { class: "raw" }, h("div", { class: "under" }, h("p", { class: "note" }, "Without output, as of its last change."), copy), h("pre", { tabindex: "0", "aria-label": "Result as JSON" }, text));
}
