//! `/proc/PID/stat`: one line of 52 fields, the second of which is a name that may hold anything.

use super::{ParseError, number};

const FILE: &str = "stat";

/// The fields of `/proc/PID/stat` under their names in proc(5), in its order and units.
///
/// Those that came after Linux 2.6.0 are `None` on a kernel that does not write them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RawStat {
    /// The process.
    pub pid: i32,
    /// Name of the executable, at most 15 bytes of it for a user's process; bytes that are no UTF-8
    /// are replaced. A newline and a backslash stand as the kernel writes them, `\n` and `\\`.
    pub comm: String,
    /// One letter: R running, S sleeping, D waiting for a disk, Z zombie, T stopped, t traced, I
    /// idle, X dead.
    pub state: char,
    /// Parent.
    pub ppid: i32,
    /// Process group.
    pub pgrp: i32,
    /// Session.
    pub session: i32,
    /// Device number of the controlling terminal, 0 for none.
    pub tty_nr: i32,
    /// Foreground process group of that terminal, -1 for none.
    pub tpgid: i32,
    /// The kernel's PF_ flags.
    pub flags: u32,
    /// Page faults that needed no disk.
    pub minflt: u64,
    /// The same, of reaped children.
    pub cminflt: u64,
    /// Page faults that needed a disk.
    pub majflt: u64,
    /// The same, of reaped children.
    pub cmajflt: u64,
    /// Time in user mode, in ticks.
    pub utime: u64,
    /// Time in the kernel, in ticks.
    pub stime: u64,
    /// Time of reaped children in user mode, in ticks.
    pub cutime: i64,
    /// Time of reaped children in the kernel, in ticks.
    pub cstime: i64,
    /// Priority as the kernel shows it; for real time, minus the priority, minus one.
    pub priority: i64,
    /// Niceness, 19 to -20.
    pub nice: i64,
    /// Threads.
    pub num_threads: i64,
    /// Always 0 since Linux 2.6.17.
    pub itrealvalue: i64,
    /// When it started, in ticks after boot.
    pub starttime: u64,
    /// Mapped memory, in bytes.
    pub vsize: u64,
    /// Resident memory, in pages.
    pub rss: u64,
    /// Soft limit of resident memory, in bytes.
    pub rsslim: u64,
    /// Address of the code, 0 or 1 where we may not know, as in all that are addresses.
    pub startcode: u64,
    /// End of the code.
    pub endcode: u64,
    /// Bottom of the stack.
    pub startstack: u64,
    /// Stack pointer, where the process is exiting.
    pub kstkesp: u64,
    /// Instruction pointer, where the process is exiting.
    pub kstkeip: u64,
    /// Pending signals; the kernel shows the first 31 signals in this and the next three.
    pub signal: u64,
    /// Blocked signals.
    pub blocked: u64,
    /// Ignored signals.
    pub sigignore: u64,
    /// Caught signals.
    pub sigcatch: u64,
    /// Whether it waits in the kernel (1); an address on old kernels.
    pub wchan: u64,
    /// Never maintained.
    pub nswap: u64,
    /// Never maintained.
    pub cnswap: u64,
    /// Signal to the parent at death.
    pub exit_signal: Option<i32>,
    /// CPU it last ran on.
    pub processor: Option<i32>,
    /// Real-time priority 1 to 99, 0 for none.
    pub rt_priority: Option<u32>,
    /// Scheduling policy, `SCHED_*`.
    pub policy: Option<u32>,
    /// Time waiting for block devices, in ticks.
    pub delayacct_blkio_ticks: Option<u64>,
    /// Time spent running a virtual CPU, in ticks.
    pub guest_time: Option<u64>,
    /// The same, of reaped children.
    pub cguest_time: Option<i64>,
    /// Address of the data.
    pub start_data: Option<u64>,
    /// End of the data.
    pub end_data: Option<u64>,
    /// Where the heap may grow from.
    pub start_brk: Option<u64>,
    /// Address of the arguments.
    pub arg_start: Option<u64>,
    /// End of the arguments.
    pub arg_end: Option<u64>,
    /// Address of the environment.
    pub env_start: Option<u64>,
    /// End of the environment.
    pub env_end: Option<u64>,
    /// The raw wait status of a zombie, 0 where we may not know.
    pub exit_code: Option<i32>,
}

/// Parses `/proc/PID/stat`, with its newline. Fields after the 52nd are ignored.
///
/// # Errors
/// The line is cut off, one of the first 37 fields is missing, or a field is invalid.
pub fn parse_stat(text: &[u8]) -> Result<RawStat, ParseError> {
    let line = text.strip_suffix(b"\n").ok_or(ParseError::CutOff { file: FILE })?;
    // The name may hold both parentheses, but no field after it does.
    let open = line.iter().position(|&byte| byte == b'(').ok_or(ParseError::NoName)?;
    let close = line.iter().rposition(|&byte| byte == b')').ok_or(ParseError::NoName)?;
    let (Some(pid), Some(comm), Some(rest)) =
        (line.get(..open), line.get(open + 1..close), line.get(close + 1..))
    else {
        return Err(ParseError::NoName);
    };
    let pid = number(FILE, "pid", pid.strip_suffix(b" ").unwrap_or(pid))?;
    parse_fields(pid, String::from_utf8_lossy(comm).into_owned(), Fields { rest })
}

/// The fields in the order of the line: the expressions of a struct literal run as they are
/// written.
fn parse_fields(pid: i32, comm: String, mut fields: Fields<'_>) -> Result<RawStat, ParseError> {
    let f = &mut fields;
    Ok(RawStat {
        pid,
        comm,
        state: f.letter("state")?,
        ppid: f.next("ppid")?,
        pgrp: f.next("pgrp")?,
        session: f.next("session")?,
        tty_nr: f.next("tty_nr")?,
        tpgid: f.next("tpgid")?,
        flags: f.next("flags")?,
        minflt: f.next("minflt")?,
        cminflt: f.next("cminflt")?,
        majflt: f.next("majflt")?,
        cmajflt: f.next("cmajflt")?,
        utime: f.next("utime")?,
        stime: f.next("stime")?,
        cutime: f.next("cutime")?,
        cstime: f.next("cstime")?,
        priority: f.next("priority")?,
        nice: f.next("nice")?,
        num_threads: f.next("num_threads")?,
        itrealvalue: f.next("itrealvalue")?,
        starttime: f.next("starttime")?,
        vsize: f.next("vsize")?,
        rss: f.next("rss")?,
        rsslim: f.next("rsslim")?,
        startcode: f.next("startcode")?,
        endcode: f.next("endcode")?,
        startstack: f.next("startstack")?,
        kstkesp: f.next("kstkesp")?,
        kstkeip: f.next("kstkeip")?,
        signal: f.next("signal")?,
        blocked: f.next("blocked")?,
        sigignore: f.next("sigignore")?,
        sigcatch: f.next("sigcatch")?,
        wchan: f.next("wchan")?,
        nswap: f.next("nswap")?,
        cnswap: f.next("cnswap")?,
        exit_signal: f.optional("exit_signal")?,
        processor: f.optional("processor")?,
        rt_priority: f.optional("rt_priority")?,
        policy: f.optional("policy")?,
        delayacct_blkio_ticks: f.optional("delayacct_blkio_ticks")?,
        guest_time: f.optional("guest_time")?,
        cguest_time: f.optional("cguest_time")?,
        start_data: f.optional("start_data")?,
        end_data: f.optional("end_data")?,
        start_brk: f.optional("start_brk")?,
        arg_start: f.optional("arg_start")?,
        arg_end: f.optional("arg_end")?,
        env_start: f.optional("env_start")?,
        env_end: f.optional("env_end")?,
        exit_code: f.optional("exit_code")?,
    })
}

/// The rest of the line; every field has one space before it.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn text(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.strip_prefix(b" ")?;
        let end = rest.iter().position(|&byte| byte == b' ').unwrap_or(rest.len());
        let (field, rest) = rest.split_at_checked(end)?;
        self.rest = rest;
        // A space before the newline ends the line; anywhere else an empty field is a bad one.
        (!field.is_empty() || !rest.is_empty()).then_some(field)
    }

    fn optional<T: std::str::FromStr>(
        &mut self,
        field: &'static str,
    ) -> Result<Option<T>, ParseError> {
        self.text().map(|text| number(FILE, field, text)).transpose()
    }

    fn next<T: std::str::FromStr>(&mut self, field: &'static str) -> Result<T, ParseError> {
        self.optional(field)?.ok_or(ParseError::Missing { file: FILE, field })
    }

    fn letter(&mut self, field: &'static str) -> Result<char, ParseError> {
        match self.text() {
            Some([letter]) if letter.is_ascii_alphabetic() => Ok(char::from(*letter)),
            Some(text) => Err(ParseError::invalid(FILE, field, text)),
            None => Err(ParseError::Missing { file: FILE, field }),
        }
    }
}
