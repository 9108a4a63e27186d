// Sizes, times and states for people.

const UNITS = ["B", "KB", "MB", "GB", "TB", "PB"];

/** Bytes, in powers of 1000, three digits. */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  let unit = 0;
  let value = count;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

/** A length of time, two units at most. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 0) seconds = 0;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds);
  /** @type {[number, string][]} */
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => whole >= size);
  const [size, name] = parts[first];
  const text = `${Math.floor(whole / size)} ${name}`;
  const next = parts[first + 1];
  const rest = next ? Math.floor((whole % size) / next[0]) : 0;
  return rest ? `${text} ${rest} ${next[1]}` : text;
}

/** A share of one CPU. */
export function percent(share) {
  if (share === null || share === undefined) return "–";
  return share < 9.95 ? `${share.toFixed(1)} %` : `${Math.round(share)} %`;
}

/** A time of the result, by this clock and zone. */
export function moment(when) {
  if (!when) return "–";
  const time = new Date(when);
  return Number.isNaN(time.getTime()) ? String(when) : time.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** So many processes. */
export function processes(number) {
  return `${count(number)} ${number === 1 ? "process" : "processes"}`;
}

/** Thousands apart. */
export function count(number) {
  return number.toLocaleString("en");
}

/** How a process is, in a word or two, and the kind that gives it its colour. */
export function state(record) {
  if (record.state === "running") {
    // Of a whole result, or of the stats of a running process.
    const kernel = record.live?.kernel ?? record.proc_stat?.state;
    if (kernel === "T") return { kind: "off", text: "suspended" };
    if (kernel === "t") return { kind: "off", text: "traced" };
    return { kind: "run", text: "running" };
  }
  if (record.state === "error") return { kind: "bad", text: record.reason === "lost" ? "lost" : "not started" };
  const status = record.status ?? {};
  const how = status.signal ?? `exit ${status.exit_code}`;
  switch (record.reason) {
    case "timeout": return { kind: "bad", text: `timeout, ${how}` };
    case "out_of_memory": return { kind: "bad", text: "out of memory" };
    case "stopped": return { kind: "off", text: `stopped, ${how}` };
    default: return { kind: status.exit_code === 0 ? "ok" : "bad", text: how };
  }
}

/** What a fd is called. */
export function fdName(fd) {
  return /^\d+$/.test(fd) ? `fd ${fd}` : fd;
}
