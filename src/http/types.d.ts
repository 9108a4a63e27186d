// The bodies of the API, as TypeScript reads them from the page's JSDoc comments. Generated from the
// API's description: `PROCSTAR_PUBLISH=1 cargo nextest run --test http page_types`.

/** A good answer. */
export interface CodeAnswer {
  /** What is answered. */
  data: {
    /** How long the code can be traded for a session, in seconds. It can be traded once. */
    expires_in: number;
    /** Of the page; a code stands behind the `#`, which no request shows. */
    url: string;
  };
}

/** The connection to the scheduler. */
export interface ConnectionInfo {
  /** The connection's ID. */
  conn_id: string;
  /** Failed attempts in a row. */
  failures: number;
  /** The group that the agent joins. */
  group_id: string;
  /** Why it was lost last, or could not be made. */
  last_error: string | null;
  /** How often it was registered. */
  registrations: number;
  /** How long the last ping took to be answered, in seconds. */
  round_trip: number | null;
  /** `HOST:PORT`. */
  server: string;
  /** When it came to that. */
  since: Time | null;
  /** `waiting`, `connecting`, `registering`, `registered` or `closed`. */
  state: string;
}

/** How many processes there are. */
export interface Counts {
  /** Those that were not started as specified. */
  error: number;
  /** All of these. */
  present: number;
  /** Those that run. */
  running: number;
  /** Those that were started as specified and have ended. */
  terminated: number;
}

/** A good answer. */
export interface EmptyAnswer {
  /** What is answered. */
  data: Record<string, never>;
}

/** One entry of `errors`. */
export interface ErrorEntry {
  /** What is wrong. */
  detail: string;
  /** The answer's status again, as text. */
  status: string;
}

/** What is wrong, as the older endpoints report it. */
export interface Errors {
  /** One or more. */
  errors: Array<ErrorEntry>;
}

/** One event. */
export interface EventBody {
  /** The connection to the scheduler, as in `/status`: of `stats`; null except in agent mode. */
  connection?: ConnectionInfo | null;
  /** How many processes there are: of `stats`. */
  counts?: Counts | null;
  /** To go on after this event; null within a snapshot, for `reset` and for `stats`. */
  cursor: string | null;
  /** `snapshot`, `reset`, `started`, `ended`, `updated`, `deleted`, `shutdown` or `stats`. */
  event: string;
  /** Which process: of `started`, `ended`, `updated` and `deleted`. */
  id?: string | null;
  /** Whether more parts of the snapshot follow: of `snapshot`. */
  more?: boolean | null;
  /** By ID, results without output, or summaries: of `snapshot`; what is used: of `stats`. */
  procs?: Record<string, ProcResult | ResultSummary | ResultStats> | null;
  /** Its result without output, or its summary: of `started`, `ended` and `updated`. */
  result?: ProcResult | ResultSummary | null;
  /** `active`, `idling` or `done`: of `snapshot` and `shutdown`. */
  shutdown_state?: string | null;
  /** The number of changes before this one that are not sent, if any. */
  skipped?: number;
}

/** The level of the log. */
export interface Levels {
  /** The one of the settings, which counts at the next start. */
  configured: string;
  /** The least severe level that is logged now: `trace`, `debug`, `info`, `warn` or `error`. */
  level: string;
}

/** An address that the service is to listen on. */
export interface ListenerState {
  /** `ADDRESS:PORT`, or the path of a Unix socket. */
  address: string;
  /** Why nobody can connect there, while it is tried again; null where it listens. */
  error: string | null;
}

/** A good answer. */
export interface LogLevelAnswer {
  /** What is answered. */
  data: {
    /** The level. */
    log_level: Levels;
  };
}

/** A good answer. */
export interface NamedAnswer {
  /** What is answered. */
  data: {
    /** Their IDs. */
    proc_ids: Array<string>;
  };
}

/** How much of the captures results show. */
export type OutputShown = "inline" | "none" | "tail";

/** What is wrong, as RFC 9457 has it: of the newer endpoints. */
export interface Problem {
  /** What is wrong, on one line. */
  detail: string;
  /** The same as the older endpoints report it. */
  errors: Array<ErrorEntry>;
  /** The status. */
  status: number;
  /** The status in words. */
  title: string;
  /** `about:blank`: the status says which kind it is. */
  type: string;
}

/** A result. */
export interface ProcResult {
  /** That agent. */
  agent: ResultAgentInfo;
  /** The arguments; null where they are not known any more, as what follows. */
  argv: Array<string> | null;
  /** How complete the captures are, by fd. */
  captures: Record<string, ResultCaptureReport>;
  /** What its control group has used; null where it has none of its own. */
  cgroup_accounting: ResultCgroupAccounting | null;
  /** The chunks of output in the order in which they were read: seconds since the start, the fd, the offset of the chunk in the output of that fd, and its length in bytes; null unless a capture asks for `chunk_times`. */
  chunk_times: Array<[number, string, number, number]> | null;
  /** The working directory. */
  cwd: string | null;
  /** The environment, secrets masked; null unless asked for. */
  env: Record<string, string> | null;
  /** What went wrong, for people. */
  errors: Array<string>;
  /** The executable. */
  exe: string | null;
  /** Why it was not started as specified, in types; empty where it was. */
  failures: Array<ResultFailureReport>;
  /** Every fd of its spec; null for one that is not captured. */
  fds: Record<string, ResultFd | null>;
  /** The group of the agent that tells this. */
  group_id: string;
  /** What it has read and written; null where the kernel does not tell. */
  io: ResultIoReport | null;
  /** Labels, as given. */
  labels: Record<string, string>;
  /** Where in its capture what is shown of an fd begins; only there where `output=tail` is asked for over HTTP. */
  offsets?: Record<string, number> | null;
  /** The most it has had at one time; null where there never was a process. */
  peak: ResultPeak | null;
  /** The process ID; null where there never was a process. */
  pid: number | null;
  /** The kernel's view of it: current while it runs, as of its end after. */
  proc_stat: ResultProcStat | null;
  /** Its memory; null once it has ended. */
  proc_statm: ResultProcStatm | null;
  /** Why it no longer runs; null while it does. */
  reason: ResultReason | null;
  /** What it and the children that it has waited for have used; null while it runs. */
  rusage: ResultRusage | null;
  /** Its history, oldest first; null where nothing is sampled. */
  samples: Array<ResultSample> | null;
  /** How far it is. */
  state: ResultProcState;
  /** How it ended; null while it runs. */
  status: ResultStatus | null;
  /** Who of its tree could not be signaled when it was stopped; empty where all were. */
  stop_failures: Array<ResultStopFailureReport>;
  /** How many there are, the unlisted ones too; null while it runs, and where there may be others, or more than are counted. */
  survivor_count: number | null;
  /** Descendants that outlive it; null while it runs, and where it is not known whether there are any. */
  survivors: Array<ResultSurvivor> | null;
  /** When. */
  times: ResultTimes;
  /** What it has used so far; null where there never was a process. */
  usage: ResultUsage | null;
  /** What its spec asks for that was not done, though it was started; and which output this result does not contain, as it is too large. */
  warnings: Array<string>;
}

/** A good answer. */
export interface ProcsAnswer {
  /** What is answered. */
  data: {
    /** Only with `limit`: what to give as `cursor` for the next page; null where this is the last. */
    next?: string | null;
    /** By process ID. */
    procs: Record<string, ProcResult>;
  };
}

/** The agent, in the key `agent` of a result: of the one that tells the result, which need not have started the process. */
export interface ResultAgentInfo {
  /** The host's name. */
  host: string;
  /** The process that the user launched. */
  pid: number;
  /** The name of the user that it runs as; the ID in digits where it has none. */
  user: string;
  /** The program's version. */
  version: string;
}

/** Why a capture ended before its end. */
export type ResultCaptureReason = "held_open" | "not_started" | "error" | "truncated" | "overwritten" | "gone" | "changed";

/** One captured fd, in the key `captures` of a result: kept apart from `fds`, whose entries clients compare whole. */
export interface ResultCaptureReport {
  /** Whether these are all bytes that were written to the fd; false while the process runs. */
  complete: boolean;
  /** Bytes after compression. */
  compressed_bytes?: number | null;
  /** The compression; this and the next only where the spec asks for one. */
  compression?: ResultCompression | null;
  /** Bytes dropped to stay within `keep`; `length` and `dropped` add up to all bytes read. */
  dropped: number;
  /** Bytes captured so far, before any encoding and uncompressed. */
  length: number;
  /** The file that the spec has named; only there where it has. */
  path?: string | null;
  /** Why they are not, in a final result; null where they are, and while the process runs. */
  reason: ResultCaptureReason | null;
  /** The SHA-256 of the bytes that are stored, as they were at the end; null while the process runs, and where it is not known. */
  sha256: string | null;
}

/** From the files of the process's scope in cgroup v2; each part is null where its controller is not there. */
export interface ResultCgroupAccounting {
  /** CPU time. */
  cpu_stat: ResultCgroupCpuStat | null;
  /** Memory. */
  memory: ResultCgroupMemory | null;
  /** Tasks. */
  pids: ResultCgroupPids | null;
}

/** From `cpu.stat`; times are in microseconds. Only the first three are there without the cpu controller. */
export interface ResultCgroupCpuStat {
  /** Time that it ran beyond its quota, null before Linux 5.15. */
  burst_usec: number | null;
  /** Periods in which it ran beyond its quota, null before Linux 5.15. */
  nr_bursts: number | null;
  /** Periods of bandwidth control that have passed. */
  nr_periods: number | null;
  /** Periods in which the group was throttled. */
  nr_throttled: number | null;
  /** CPU time in the kernel. */
  system_usec: number;
  /** Time for which it was throttled. */
  throttled_usec: number | null;
  /** CPU time. */
  usage_usec: number;
  /** CPU time in user mode. */
  user_usec: number;
}

/** Memory, in bytes. */
export interface ResultCgroupMemory {
  /** Memory at present; from `memory.current`. */
  current: number;
  /** The most at any time, null before Linux 5.19; from `memory.peak`. */
  peak: number | null;
  /** Swap at present, null where the kernel does not account for swap; from `memory.swap.current`. */
  swap_current: number | null;
  /** The most swap at any time, null before Linux 6.5; from `memory.swap.peak`. */
  swap_peak: number | null;
}

/** Numbers of tasks, threads included. */
export interface ResultCgroupPids {
  /** Tasks at present; from `pids.current`. */
  current: number;
  /** The most at any time, null before Linux 6.1; from `pids.peak`. */
  peak: number | null;
}

/** A compression of captured output. */
export type ResultCompression = "zstd" | "gzip" | "brotli";

/** One failure, in the array `failures` of a result; `errors` has its message too. */
export interface ResultFailureReport {
  /** What the system's error leaves out, such as that a script's interpreter is missing; null where there is nothing to add. */
  detail: string | null;
  /** The number of the system's error; null where none is behind it. */
  errno: number | null;
  /** The name of that error, such as `ENOENT`. */
  error: string | null;
  /** The fd concerned, as in `fds`; null for steps that are about none. */
  fd: string | null;
  /** What went wrong, as in `errors`. */
  message: string;
  /** The path concerned, or the name of the user or group; null where there is none. */
  path: string | null;
  /** The step of the start that failed. */
  stage: string;
}

/** What was captured of an fd. */
export type ResultFd = {
  /** `utf-8`. */
  encoding: string;
  /** The text. */
  text: string;
  type: "text";
} | {
  /** What the data is compressed with; only there where the spec asks for it. */
  compression?: ResultCompression | null;
  /** The data, encoded. */
  data: string;
  /** `base64` or `base2048`. */
  encoding: string;
  type: "data";
} | {
  /** How it would be shown: `utf-8`, `base64` or `base2048`. */
  encoding: string;
  /** Bytes captured. */
  length: number;
  type: "detached";
};

/** From `/proc/PID/io`: of the process and of the children that it has waited for. */
export interface ResultIoReport {
  /** Bytes that were to be sent to storage and then were not, as their file was truncated first. */
  cancelled_write_bytes: number;
  /** Bytes that read and the like have given, from whatever source. */
  rchar: number;
  /** Bytes fetched from storage. */
  read_bytes: number;
  /** Read system calls. */
  syscr: number;
  /** Write system calls. */
  syscw: number;
  /** Bytes that write and the like have taken, to whatever end. */
  wchar: number;
  /** Bytes sent to storage, or to be sent. */
  write_bytes: number;
}

/** The most that the process itself has had at one time, as far as anybody has seen it. */
export interface ResultPeak {
  /** At the end, the kernel's mark of resident memory, in bytes, of it or any child that it has waited for, or null as in `rusage`; null while it runs. */
  maxrss: number | null;
  /** Resident memory, in bytes: the kernel's own mark while it runs; after, the highest sample, null without any. */
  rss: number | null;
  /** Threads: the most that a sample saw, or at present. */
  threads: number | null;
  /** Mapped memory, in bytes; as `rss`. */
  vsize: number | null;
}

/** From `/proc/PID/stat`: current while the process runs, as of its termination after. */
export interface ResultProcStat {
  /** Blocked signals, by name. */
  blocked: Array<string>;
  /** The same of children that were waited for, in seconds. */
  cguest_time: number | null;
  /** The same, of children that were waited for. */
  cmajflt: number;
  /** The same, of children that were waited for. */
  cminflt: number;
  /** Name of the executable, its first 15 bytes; what is no UTF-8 is replaced. */
  comm: string;
  /** CPU time in the kernel of children that were waited for, in seconds. */
  cstime: number;
  /** CPU time in user mode of children that were waited for, in seconds. */
  cutime: number;
  /** Time waiting for block devices, in clock ticks, as its name says. */
  delayacct_blkio_ticks: number | null;
  /** The raw wait status of a process that has ended; 0 before, or where the kernel hides it from us. */
  exit_code: number | null;
  /** Name of the signal that its death sends to its parent; null for none. */
  exit_signal: string | null;
  /** The kernel's `PF_*` flags. */
  flags: number;
  /** Time spent running a virtual CPU, in seconds. */
  guest_time: number | null;
  /** Page faults that needed a disk. */
  majflt: number;
  /** Page faults that needed no disk. */
  minflt: number;
  /** Niceness, 19 to -20. */
  nice: number;
  /** Threads. */
  num_threads: number;
  /** Process group. */
  pgrp: number;
  /** The process. */
  pid: number;
  /** Scheduling policy, `SCHED_*`. */
  policy: number | null;
  /** Parent. */
  ppid: number;
  /** Priority as the kernel counts it. */
  priority: number;
  /** CPU it last ran on. This and all that follow are null where the kernel is too old to tell. */
  processor: number | null;
  /** Resident memory, in bytes. */
  rss: number;
  /** Soft limit of resident memory, in bytes; 2^64 - 1 for none. */
  rsslim: number;
  /** Real-time priority 1 to 99, 0 for none. */
  rt_priority: number | null;
  /** Session. */
  session: number;
  /** Caught signals, by name. */
  sigcatch: Array<string>;
  /** Ignored signals, by name. */
  sigignore: Array<string>;
  /** Pending signals, by name; the kernel shows no real-time signals here, nor in the next three. */
  signal: Array<string>;
  /** When the process started; exact to a second, as the time of boot is. */
  starttime: ResultTime;
  /** One letter as proc(5) has it: `R`, `S`, `D`, `Z`, `T`, `t`, `I`, `X`. */
  state: string;
  /** CPU time in the kernel, in seconds. */
  stime: number;
  /** Foreground process group of that terminal; null without one. */
  tpgid: number | null;
  /** Device of the controlling terminal, major and minor number; `[0, 0]` for none. */
  tty_nr: Array<number>;
  /** CPU time in user mode, in seconds. */
  utime: number;
  /** Mapped memory, in bytes. */
  vsize: number;
  /** 1 where the process waits in the kernel, else 0; an address on old kernels. */
  wchan: number;
}

/** How far a process is. */
export type ResultProcState = "running" | "terminated" | "error";

/** From `/proc/PID/statm`, in bytes. */
export interface ResultProcStatm {
  /** Data and stack. */
  data: number;
  /** What of it is in memory. */
  resident: number;
  /** What of that is backed by files or shared memory. */
  shared: number;
  /** Mapped memory. */
  size: number;
  /** Code. */
  text: number;
}

/** Why a process is no longer running. */
export type ResultReason = "exited" | "signaled" | "out_of_memory" | "timeout" | "stopped" | "error" | "lost";

/** How a survivor is known to come from a process. */
export type ResultRelation = "group" | "session" | "descendant" | "inferred";

/** What a process and those of its descendants that were waited for used up, from `getrusage` or `wait4`. All is null where the process was lost. */
export interface ResultRusage {
  /** Reads from block devices, in blocks of 512 bytes. */
  inblock: number | null;
  /** Page faults that needed a disk. */
  majflt: number | null;
  /** The most memory that any one of these processes had resident, in bytes. Null also where the kernel's figure may be that of the process that has made it: of one that has had little more than that. */
  maxrss: number | null;
  /** Page faults that needed no disk. */
  minflt: number | null;
  /** Switches away as its time was up, or for something of higher priority. */
  nivcsw: number | null;
  /** Swaps; Linux leaves it 0. */
  nswap: number | null;
  /** Switches away as the process waited for something. */
  nvcsw: number | null;
  /** Writes to block devices, in blocks of 512 bytes. */
  oublock: number | null;
  /** CPU time in the kernel, in seconds. */
  stime: number | null;
  /** CPU time in user mode, in seconds. */
  utime: number | null;
}

/** One look at a running process. */
export interface ResultSample {
  /** CPU time so far in the kernel of children that it has waited for, in seconds. */
  cstime: number;
  /** CPU time so far in user mode of children that it has waited for, in seconds. */
  cutime: number;
  /** Seconds since the start, by a monotonic clock. */
  elapsed: number;
  /** Resident memory, in bytes. */
  rss: number;
  /** Its own CPU time so far in the kernel, in seconds. */
  stime: number;
  /** Threads. */
  threads: number;
  /** When. */
  time: ResultTime;
  /** Its own CPU time so far in user mode, in seconds. */
  utime: number;
  /** Mapped memory, in bytes. */
  vsize: number;
}

/** What a running process uses at a moment. */
export interface ResultStats {
  /** By captured fd, the bytes captured so far. */
  captured: Record<string, number>;
  /** CPU time so far, of it and of the children that it has waited for, in seconds. */
  cpu: number;
  /** Seconds since its start. */
  elapsed: number;
  /** Resident memory, in bytes. */
  rss: number;
  /** The kernel's letter, as in `proc_stat`: T where it is suspended. */
  state: string;
  /** Threads. */
  threads: number;
}

/** How a process ended. Clients compare it whole: it has exactly these keys. */
export interface ResultStatus {
  /** Whether the kernel wrote, or tried to write, a core dump; false where it exited. */
  core_dump: boolean;
  /** What it passed to exit(2), 0 to 255; null where a signal ended it. */
  exit_code: number | null;
  /** Name of that signal, as [`signal_name`] has it, or null. */
  signal: string | null;
  /** Number of the signal that ended it, or null. */
  signum: number | null;
  /** The raw wait status, as wait(2) gives it. */
  status: number;
}

/** One process that could not be signaled, in the array `stop_failures` of a result. */
export interface ResultStopFailureReport {
  /** The name of its executable, at most 15 bytes of it. */
  comm: string;
  /** The number of the system's error. */
  errno: number;
  /** The name of that error, such as `EPERM`. */
  error: string | null;
  /** The whole as a sentence. */
  message: string;
  /** Its pid. */
  pid: number;
  /** The name of the signal. */
  signal: string | null;
}

/** A summary of a result: the keys that it shares with a whole result have the same meaning. */
export interface ResultSummary {
  /** The arguments, joined by spaces, and cut at 200 bytes; null where they are not known any more. */
  command: string | null;
  /** What it and the children that it has waited for have used in all, in seconds; null while it runs, and where it is not known. */
  cpu: number | null;
  /** What went wrong, for people. */
  errors: Array<string>;
  /** Up to 30 points of its samples: seconds since the start, CPU seconds so far, resident bytes; null where nothing is sampled. */
  history: Array<[number, number, number]> | null;
  /** Labels, as given. */
  labels: Record<string, string>;
  /** The most that was resident, in bytes; null while it runs, and where it is not known. */
  maxrss: number | null;
  /** The process ID; null where there never was a process. */
  pid: number | null;
  /** Why it no longer runs; null while it does. */
  reason: ResultReason | null;
  /** How far it is. */
  state: ResultProcState;
  /** How it ended; null while it runs. */
  status: ResultStatus | null;
  /** When. */
  times: ResultSummaryTimes;
}

/** Start and end of a process. */
export interface ResultSummaryTimes {
  /** Seconds from `start` to `stop`, or to now while it runs, from a monotonic clock. */
  elapsed: number;
  /** Just before it was started. */
  start: ResultTime;
  /** When its end was seen; null while it runs. */
  stop: ResultTime | null;
}

/** One that outlives its process. */
export interface ResultSurvivor {
  /** The name of its executable, at most 15 bytes of it. */
  comm: string;
  /** Its pid. */
  pid: number;
  /** How it was attributed to the process. */
  relation: ResultRelation;
  /** Its session, as the pid of whoever began that. */
  session: number;
}

/** RFC 3339, in UTC, with six digits of fraction. */
export type ResultTime = string;

/** When a process started and ended, by the wall clock, and how long it took, by a clock that nobody sets. */
export interface ResultTimes {
  /** Seconds from `start` to `stop`, or to `now` while it runs, from a monotonic clock. */
  elapsed: number;
  /** When this result was made. */
  now: ResultTime;
  /** Just before it was started. */
  start: ResultTime;
  /** When its end was seen; null while it runs. */
  stop: ResultTime | null;
}

/** What the process and the children that it has waited for have used so far. */
export interface ResultUsage {
  /** The second, of children that it has waited for. */
  cmajflt: number;
  /** The first of these, of children that it has waited for. */
  cminflt: number;
  /** The CPU time of all, in seconds: exact at the end, before in clock ticks. */
  cpu: number;
  /** CPU time in the kernel of children that it has waited for, in seconds. */
  cstime: number;
  /** CPU time in user mode of children that it has waited for, in seconds. */
  cutime: number;
  /** Its own page faults that needed a disk. */
  majflt: number;
  /** The most memory that it has had resident, in bytes; at the end, as `rusage` has it, that of any one of all, or null. Null also where the kernel does not tell. */
  maxrss: number | null;
  /** Its own page faults that needed no disk. */
  minflt: number;
  /** Its own CPU time in the kernel, in seconds. */
  stime: number;
  /** Its own CPU time in user mode, in seconds. */
  utime: number;
}

/** The state of the service. */
export interface ServiceStatus {
  /** The connection to the scheduler; null except in agent mode. */
  connection: ConnectionInfo | null;
  /** How many processes there are. */
  counts: Counts;
  /** The cursor of the last change, to be given to `/events`. */
  cursor: string;
  /** The machine's name. */
  hostname: string;
  /** What the service listens on, or should. */
  listeners: Array<ListenerState>;
  /** The process that the user launched: the keeper. */
  pid: number;
  /** `active`, `idling` (nothing new is started) or `done`. */
  shutdown_state: string;
  /** The path of the Unix socket. */
  socket: string | null;
  /** When the launched process started. */
  start: Time;
  /** The effective user ID. */
  uid: number;
  /** Seconds since then. */
  uptime: number;
  /** The user's name, or number. */
  username: string;
  /** The program's version. */
  version: string;
  /** The process that answers: the keeper's child. */
  worker_pid: number;
}

/** A good answer. */
export interface SessionAnswer {
  /** What is answered. */
  data: {
    /** How long it lasts, in seconds; not longer than the program runs. */
    expires_in: number;
    /** What to send as header `Procstar-Session` with each request. */
    session: string;
  };
}

/** A level to be set. */
export interface SetLevel {
  /** A level, or null for the one of the settings. */
  level: string | null;
}

/** A good answer. */
export interface StatusAnswer {
  /** What is answered. */
  data: {
    /** The state of the service. */
    status: ServiceStatus;
  };
}

/** How to stop a process. */
export interface StopBody {
  /** The time that it has to end, in seconds; without one, what its spec says, or 10. */
  grace?: number | null;
  /** The first signal, by name or number; without one, what its spec says, or SIGTERM. */
  signal?: number | string | null;
}

/** RFC 3339, in UTC, with six digits of fraction. */
export type Time = string;

/** A code. */
export interface Trade {
  /** What stands behind `#session=` in the URL. */
  code: string;
}
