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

/** How much captured output results contain. */
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
  /** The arguments. They and the next keys are null if they are no longer known. */
  argv: Array<string> | null;
  /** How complete the captures are, by fd. */
  captures: Record<string, ResultCaptureReport>;
  /** Resource usage of its control group; null if it has none of its own. */
  cgroup_accounting: ResultCgroupAccounting | null;
  /** The chunks of output in the order in which they were read: seconds since the start, the fd, the offset of the chunk in the output of that fd, and its length in bytes; null unless a capture asks for `chunk_times`. */
  chunk_times: Array<[number, string, number, number]> | null;
  /** The working directory. */
  cwd: string | null;
  /** The environment, secrets masked; null unless asked for. */
  env: Record<string, string> | null;
  /** Errors, for people. */
  errors: Array<string>;
  /** The executable. */
  exe: string | null;
  /** Why it was not started as specified, in types; empty if it was. */
  failures: Array<ResultFailureReport>;
  /** Every fd of its spec; null for one that is not captured. */
  fds: Record<string, ResultFd | null>;
  /** The group of the agent that reports this result. */
  group_id: string;
  /** Bytes that it has read and written; null if the kernel does not report them. */
  io: ResultIoReport | null;
  /** Labels, as given. */
  labels: Record<string, string>;
  /** For each fd, the offset of the output shown here in its capture; only present for `output=tail` over HTTP. */
  offsets?: Record<string, number> | null;
  /** Maxima of its resource usage; null if no process ever existed. */
  peak: ResultPeak | null;
  /** The process ID; null if no process ever existed. */
  pid: number | null;
  /** The kernel's view of the process: current while it runs, as of its end afterwards. */
  proc_stat: ResultProcStat | null;
  /** Its memory; null once it has ended. */
  proc_statm: ResultProcStatm | null;
  /** The reason why it no longer runs; null while it runs. */
  reason: ResultReason | null;
  /** Resource usage of the process and of the children that it has waited for; null while it runs. */
  rusage: ResultRusage | null;
  /** Its history, oldest first; null if it is not sampled. */
  samples: Array<ResultSample> | null;
  /** The sandbox, with the values of its profile; null without one. */
  sandbox: ResultSandbox | null;
  /** Its state. */
  state: ResultProcState;
  /** The exit status; null while it runs. */
  status: ResultStatus | null;
  /** Processes of its tree that could not be signaled when it was stopped; empty if all were. */
  stop_failures: Array<ResultStopFailureReport>;
  /** The number of these descendants, unlisted ones included; null while it runs, and if there may be others, or more than are counted. */
  survivor_count: number | null;
  /** Descendants that outlive it; null while it runs, and if it is unknown whether any exist. */
  survivors: Array<ResultSurvivor> | null;
  /** The times of its start, its end and this result. */
  times: ResultTimes;
  /** Its resource usage so far; null if no process ever existed. */
  usage: ResultUsage | null;
  /** Requests of its spec that were not fulfilled although it was started; and output that is too large for this result. */
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

/** The key `agent` of a result: the instance that reports the result. Another instance may have started the process. */
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

/** A capability's name, with or without CAP_, or its number. */
export type ResultCapability = string | number;

/** Why a capture ended before its end. */
export type ResultCaptureReason = "held_open" | "not_started" | "error" | "truncated" | "overwritten" | "gone" | "changed";

/** One captured fd, in the key `captures` of a result. It is separate from `fds`, whose entries clients compare as a whole. */
export interface ResultCaptureReport {
  /** Whether these are all bytes that were written to the fd; false while the process runs. */
  complete: boolean;
  /** Bytes after compression. */
  compressed_bytes?: number | null;
  /** The compression. This key and the next are only present if the spec asks for one. */
  compression?: ResultCompression | null;
  /** Bytes dropped to stay within `keep`; `length` and `dropped` add up to all bytes read. */
  dropped: number;
  /** Bytes captured so far, before any encoding and uncompressed. */
  length: number;
  /** The file named in the spec; only present if the spec names one. */
  path?: string | null;
  /** The reason for missing bytes, in a final result; null if none are missing, and while the process runs. */
  reason: ResultCaptureReason | null;
  /** The SHA-256 of the stored bytes, as they were at the end; null while the process runs, and if it is unknown. */
  sha256: string | null;
}

/** From the files of the process's scope in cgroup v2; each part is null if its controller is not enabled. */
export interface ResultCgroupAccounting {
  /** CPU time. */
  cpu_stat: ResultCgroupCpuStat | null;
  /** Memory. */
  memory: ResultCgroupMemory | null;
  /** Tasks. */
  pids: ResultCgroupPids | null;
}

/** From `cpu.stat`; times are in microseconds. Without the cpu controller, only the first three keys are known. */
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
  /** Swap at present, null if the kernel does not account for swap; from `memory.swap.current`. */
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
  /** A cause that the OS error does not name, such as the missing interpreter of a script; or null. */
  detail: string | null;
  /** The system's error number; null if the cause is no system error. */
  errno: number | null;
  /** The name of that error, such as `ENOENT`. */
  error: string | null;
  /** The fd concerned, as in `fds`; null if the step concerns no fd. */
  fd: string | null;
  /** What went wrong, as in `errors`. */
  message: string;
  /** The path concerned, or the name of the user or group; null if there is none. */
  path: string | null;
  /** The step of the start that failed. */
  stage: string;
}

/** The captured output of an fd. */
export type ResultFd = {
  /** `utf-8`. */
  encoding: string;
  /** The text. */
  text: string;
  type: "text";
} | {
  /** The compression of the data; only present if the spec asks for it. */
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
  /** Bytes that waited to be sent to storage when their file was truncated. */
  cancelled_write_bytes: number;
  /** Bytes returned by read and similar calls, from any source. */
  rchar: number;
  /** Bytes fetched from storage. */
  read_bytes: number;
  /** Read system calls. */
  syscr: number;
  /** Write system calls. */
  syscw: number;
  /** Bytes accepted by write and similar calls, for any destination. */
  wchar: number;
  /** Bytes sent to storage, or waiting to be sent. */
  write_bytes: number;
}

/** The network that a process can reach. */
export type ResultNetworkAccess = "host" | "loopback" | "none";

/** Observed maxima of the process itself. */
export interface ResultPeak {
  /** At the end, the kernel's maximum of resident memory, in bytes, of the process or any child that it has waited for, or null as in `rusage`; null while it runs. */
  maxrss: number | null;
  /** Resident memory, in bytes: the kernel's own maximum while it runs; afterwards the highest sample, null without any. */
  rss: number | null;
  /** Threads: the maximum of all samples, or the present number. */
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
  /** Name of the executable, its first 15 bytes; bytes that are not UTF-8 are replaced. */
  comm: string;
  /** CPU time in the kernel of children that were waited for, in seconds. */
  cstime: number;
  /** CPU time in user mode of children that were waited for, in seconds. */
  cutime: number;
  /** Time waiting for block devices, in clock ticks, as its name says. */
  delayacct_blkio_ticks: number | null;
  /** The raw wait status of a process that has ended; 0 before, or if the kernel hides it from us. */
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
  /** CPU it last ran on. This key and all that follow are null if the kernel is too old to report them. */
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
  /** 1 if the process waits in the kernel, else 0; an address on old kernels. */
  wchan: number;
}

/** The state of a process. */
export type ResultProcState = "running" | "terminated" | "error";

/** From `/proc/PID/statm`, in bytes. */
export interface ResultProcStatm {
  /** Data and stack. */
  data: number;
  /** The part of it that is in memory. */
  resident: number;
  /** The part of that which is backed by files or shared memory. */
  shared: number;
  /** Mapped memory. */
  size: number;
  /** Code. */
  text: number;
}

/** The reason why a process no longer runs. */
export type ResultReason = "exited" | "signaled" | "out_of_memory" | "timeout" | "stopped" | "error" | "lost";

/** The evidence that a survivor comes from a process. */
export type ResultRelation = "group" | "session" | "descendant" | "inferred";

/** Resource usage of a process and of those descendants that were waited for, from `getrusage` or `wait4`. All keys are null if the process was lost. */
export interface ResultRusage {
  /** Reads from block devices, in blocks of 512 bytes. */
  inblock: number | null;
  /** Page faults that needed a disk. */
  majflt: number | null;
  /** Maximum of the resident memory of any one of these processes, in bytes. Null also if the kernel's value is so small that it may be the parent's at the time of the clone. */
  maxrss: number | null;
  /** Page faults that needed no disk. */
  minflt: number | null;
  /** Involuntary context switches: its time slice ended, or something had higher priority. */
  nivcsw: number | null;
  /** Swaps; Linux leaves it 0. */
  nswap: number | null;
  /** Voluntary context switches: the process waited for something. */
  nvcsw: number | null;
  /** Writes to block devices, in blocks of 512 bytes. */
  oublock: number | null;
  /** CPU time in the kernel, in seconds. */
  stime: number | null;
  /** CPU time in user mode, in seconds. */
  utime: number | null;
}

/** A sample of a running process. */
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
  /** The time of the sample. */
  time: ResultTime;
  /** Its own CPU time so far in user mode, in seconds. */
  utime: number;
  /** Mapped memory, in bytes. */
  vsize: number;
}

/** The sandbox of a process, with the keys of its profile.  The worker sends it to the keeper, which writes it to the journal. So new fields are only appended, with a default. */
export interface ResultSandbox {
  /** All capabilities that the process has or can gain, sorted; `None` for no change. */
  capabilities: Array<ResultCapability> | null;
  /** Hidden paths. */
  hidden_paths: Array<string>;
  /** The network. */
  network: ResultNetworkAccess;
  /** Whether no program that the process executes can gain privileges. */
  no_new_privs: boolean;
  /** Whether `/tmp` and `/var/tmp` are empty directories of its own. */
  private_tmp: boolean;
  /** Read-only paths. */
  read_only_paths: Array<string>;
  /** Writable paths below read-only ones. */
  writable_paths: Array<string>;
}

/** The resource usage of a running process at a moment. */
export interface ResultStats {
  /** By fd, the number of bytes captured so far. */
  captured: Record<string, number>;
  /** CPU time of the process so far, and of the children that it has waited for, in seconds. */
  cpu: number;
  /** Seconds since the start. */
  elapsed: number;
  /** Resident memory, in bytes. */
  rss: number;
  /** The kernel's letter for the state, as in `proc_stat`: T if the process is suspended. */
  state: string;
  /** Number of threads. */
  threads: number;
}

/** The exit status of a process. Clients compare it as a whole: it has exactly these keys. */
export interface ResultStatus {
  /** Whether the kernel wrote, or tried to write, a core dump; false if it exited. */
  core_dump: boolean;
  /** The argument of its exit(2), 0 to 255; null if a signal ended it. */
  exit_code: number | null;
  /** Name of that signal, as returned by [`signal_name`], or null. */
  signal: string | null;
  /** Number of the signal that ended it, or null. */
  signum: number | null;
  /** The raw wait status, as returned by wait(2). */
  status: number;
}

/** One process that could not be signaled, in the array `stop_failures` of a result. */
export interface ResultStopFailureReport {
  /** The name of its executable, at most 15 bytes of it. */
  comm: string;
  /** The number of the OS error. */
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

/** A summary of a result. Keys that a complete result also has mean the same. */
export interface ResultSummary {
  /** The arguments, joined by spaces and truncated to 200 bytes; null if they are no longer known. */
  command: string | null;
  /** The total CPU time of the process and of the children that it has waited for, in seconds; null while it runs or if unknown. */
  cpu: number | null;
  /** Error messages. */
  errors: Array<string>;
  /** Up to 30 of the samples: seconds since the start, CPU seconds so far, resident bytes; null if the process is not sampled. */
  history: Array<[number, number, number]> | null;
  /** The labels of the spec. */
  labels: Record<string, string>;
  /** The maximum resident memory, in bytes; null while the process runs or if unknown. */
  maxrss: number | null;
  /** The pid; null if no child was created. */
  pid: number | null;
  /** The reason of the end; null while the process runs. */
  reason: ResultReason | null;
  /** The state of the process. */
  state: ResultProcState;
  /** The exit status; null while the process runs. */
  status: ResultStatus | null;
  /** The times of start and end. */
  times: ResultSummaryTimes;
}

/** Start and end of a process. */
export interface ResultSummaryTimes {
  /** Seconds from `start` to `stop`, or to now while the process runs, by a monotonic clock. */
  elapsed: number;
  /** The time just before the start. */
  start: ResultTime;
  /** The time of the end; null while the process runs. */
  stop: ResultTime | null;
}

/** A descendant that outlives its process. */
export interface ResultSurvivor {
  /** The name of its executable, cut to 15 bytes. */
  comm: string;
  /** Its pid. */
  pid: number;
  /** The evidence that it comes from the process. */
  relation: ResultRelation;
  /** Its session ID: the pid of the session leader. */
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

/** Resource usage so far of the process and of the children that it has waited for. */
export interface ResultUsage {
  /** Page faults that needed a disk, of children that it has waited for. */
  cmajflt: number;
  /** Page faults that needed no disk, of children that it has waited for. */
  cminflt: number;
  /** The sum of the CPU times, in seconds: exact at the end, in clock ticks before. */
  cpu: number;
  /** CPU time in the kernel of children that it has waited for, in seconds. */
  cstime: number;
  /** CPU time in user mode of children that it has waited for, in seconds. */
  cutime: number;
  /** Its own page faults that needed a disk. */
  majflt: number;
  /** Peak resident memory in bytes. After the end it comes from `rusage`: the largest peak of any one process. Null if the kernel does not report it. */
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
