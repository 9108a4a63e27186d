//! From a validated spec to a plan that the child can carry out without allocating.

use std::collections::BTreeSet;
use std::ffi::{CString, OsString, c_char};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use crate::spec::{EnvSpec, Inherit, OpenFlags, ValidatedFd, ValidatedProc, VarSpec, VarValue};

/// What children can inherit of the agent, taken once at its start.
pub struct Heritage {
    /// The variables, as `NAME=VALUE`; the agent's secrets are not among them.
    variables: Vec<CString>,
    /// The fds from 3 up that the agent itself was started with, sorted.
    fds: Vec<RawFd>,
    /// The open-file limit that the agent was started with, where it has raised its own.
    nofile: Option<libc::rlimit>,
}

impl Heritage {
    /// What children can inherit: `variables` less those named in `secrets`, the fds in `fds`, and the
    /// open-file limit `nofile`, which a child gets back where the agent has raised its own.
    pub fn new(
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        secrets: &[&str],
        fds: impl IntoIterator<Item = RawFd>,
        nofile: Option<(u64, u64)>,
    ) -> Self {
        let variables = variables
            .into_iter()
            .filter(|(name, _)| !secrets.iter().any(|secret| name == secret))
            .filter_map(|(name, value)| {
                CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
            })
            .collect();
        let fds: BTreeSet<RawFd> = fds.into_iter().filter(|fd| *fd > 2).collect();
        Heritage {
            variables,
            fds: fds.into_iter().collect(),
            nofile: nofile.map(|(rlim_cur, rlim_max)| libc::rlimit { rlim_cur, rlim_max }),
        }
    }
}

/// One step of the fd set-up, in the order of the spec.
pub(super) enum Step {
    /// Put source number `source` at `target`.
    Put {
        /// The fd's number in the child.
        target: RawFd,
        /// Index among [`LaunchPlan::sources`].
        source: usize,
    },
    /// Open a file at `target`.
    Open {
        /// The fd's number in the child.
        target: RawFd,
        /// The path.
        path: CString,
        /// Flags of open(2).
        flags: libc::c_int,
        /// Mode of a new file.
        mode: libc::mode_t,
    },
    /// Duplicate `from`, as it then stands, at `target`.
    Dup {
        /// The fd's number in the child.
        target: RawFd,
        /// The fd to duplicate.
        from: RawFd,
    },
    /// Close `target`.
    Close {
        /// The fd's number in the child.
        target: RawFd,
    },
    /// Leave `target` as the agent has it.
    Inherit {
        /// The fd's number in the child.
        target: RawFd,
    },
    /// What this fd needs could not be made; its error is in the report already.
    Failed {
        /// The fd's number in the child.
        target: RawFd,
    },
}

impl Step {
    /// The number in the child of the fd that this step sets up.
    pub(super) fn target(&self) -> RawFd {
        match self {
            Step::Put { target, .. }
            | Step::Open { target, .. }
            | Step::Dup { target, .. }
            | Step::Close { target }
            | Step::Inherit { target }
            | Step::Failed { target } => *target,
        }
    }
}

/// What the child tells of its set-up, in memory that it shares with us until it execs.
pub(super) struct Report {
    /// The child's pid, as soon as it runs.
    pub(super) pid: AtomicI32,
    /// The child's pidfd, written by the kernel before the child runs; -1 before.
    pub(super) pidfd: AtomicI32,
    /// Whether the child came as far as execve.
    pub(super) reached_exec: AtomicBool,
    /// The errno of execve, or 0.
    pub(super) exec_errno: AtomicI32,
    /// Whether the executable does not exist.
    pub(super) exe_missing: AtomicBool,
    /// The errno of each step, or 0.
    pub(super) step_errnos: Box<[AtomicI32]>,
}

impl Report {
    fn new(steps: usize) -> Self {
        Report {
            pid: AtomicI32::new(0),
            pidfd: AtomicI32::new(-1),
            reached_exec: AtomicBool::new(false),
            exec_errno: AtomicI32::new(0),
            exe_missing: AtomicBool::new(false),
            step_errnos: (0..steps).map(|_| AtomicI32::new(0)).collect(),
        }
    }

    /// The pidfd of a child that runs. The kernel writes the number before the descriptor is there, and also
    /// where the clone then fails: only the child itself tells that it can be used.
    pub(super) fn running_pidfd(&self) -> Option<RawFd> {
        (self.pid.load(Ordering::Acquire) != 0).then(|| self.pidfd.load(Ordering::Acquire))
    }
}

/// Everything a child needs, made before it is cloned: it allocates nothing, and reads only this.
pub(super) struct LaunchPlan {
    pub(super) exe: CString,
    /// Null-terminated; points into `strings`.
    pub(super) argv: Vec<*const c_char>,
    /// Null-terminated; points into `strings` and `heritage`.
    pub(super) envp: Vec<*const c_char>,
    pub(super) steps: Vec<Step>,
    /// Our copies of what the child gets: the writing ends of captures, ends of pipes. Closed with the plan.
    pub(super) sources: Vec<OwnedFd>,
    /// Where the child has moved each source to; scratch space of the child's.
    pub(super) moved: Box<[AtomicI32]>,
    /// Numbers at which no source may wait: those that some step sets up or duplicates. Sorted.
    pub(super) reserved: Vec<RawFd>,
    /// Fds from 3 up of the agent's that stay open until the steps have run, sorted.
    pub(super) kept: Vec<RawFd>,
    pub(super) nofile: Option<libc::rlimit>,
    pub(super) report: Arc<Report>,
    /// The paths of files that could not be made for fds, by their index.
    pub(super) not_made: Vec<(usize, String)>,
    /// Keep alive what the pointers above point to.
    _strings: Vec<CString>,
    heritage: Arc<Heritage>,
}

// SAFETY: the raw pointers point into heap buffers of the CStrings that the plan itself owns or shares, which nobody
// changes; moving the plan to another thread moves none of them.
unsafe impl Send for LaunchPlan {}

/// What the parent has made for one fd of a spec.
pub(super) enum Made {
    /// Nothing was needed.
    Nothing,
    /// The child's end.
    Source(OwnedFd),
    /// It is made just before the child is; see [`LaunchPlan::provide`].
    Later,
    /// It could not be made: errno.
    Failed(i32),
}

impl LaunchPlan {
    /// Plans the start of `proc`; `made` gives, for each of its fds in order, what the parent made for it.
    pub(super) fn new(proc: &ValidatedProc, made: Vec<Made>, heritage: &Arc<Heritage>) -> Self {
        let report = Report::new(proc.fds.len());
        let mut sources = Vec::new();
        let mut steps = Vec::with_capacity(proc.fds.len());
        let mut made = made.into_iter();
        for ((name, fd), errno) in proc.fds.iter().zip(&report.step_errnos) {
            let made = made.next().unwrap_or(Made::Nothing);
            steps.push(step(name.number(), fd, made, &mut sources, errno));
        }
        let mut strings = Vec::new();
        let argv_strings: Vec<CString> = proc.argv.iter().map(|arg| c_string(arg)).collect();
        let argv = pointers(argv_strings.iter());
        strings.extend(argv_strings);
        let (envp, env_strings) = environment(&proc.env, heritage);
        strings.extend(env_strings);
        let (reserved, kept) = numbers(&steps, heritage);
        LaunchPlan {
            exe: c_string(&proc.exe),
            argv,
            envp,
            moved: sources.iter().map(|_| AtomicI32::new(-1)).collect(),
            steps,
            sources,
            reserved,
            kept,
            nofile: heritage.nofile,
            report: Arc::new(report),
            not_made: Vec::new(),
            _strings: strings,
            heritage: Arc::clone(heritage),
        }
    }

    /// Gives what is put at the fd with this index, which was to be made later.
    pub(super) fn provide(&mut self, index: usize, source: OwnedFd) {
        if let Some(step) = self.steps.get_mut(index) {
            *step = Step::Put { target: step.target(), source: self.sources.len() };
            self.sources.push(source);
            self.moved = self.sources.iter().map(|_| AtomicI32::new(-1)).collect();
        }
    }

    /// Notes that what the fd with this index needs could not be made.
    pub(super) fn fail(&mut self, index: usize, errno: i32, path: Option<&str>) {
        if let Some(place) = self.report.step_errnos.get(index) {
            place.store(errno, Ordering::Relaxed);
        }
        self.not_made.extend(path.map(|path| (index, path.to_owned())));
    }

    /// Whether the agent itself was started with fd number `fd`.
    pub(super) fn is_inheritable(&self, fd: RawFd) -> bool {
        fd <= 2 || self.heritage.fds.binary_search(&fd).is_ok()
    }
}

/// A C string of text that validation has found free of NULs; cut at one all the same, never a panic.
fn c_string(text: &str) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let at = error.nul_position();
        CString::new(text.get(..at).unwrap_or_default()).unwrap_or_default()
    })
}

fn pointers<'a>(strings: impl Iterator<Item = &'a CString>) -> Vec<*const c_char> {
    strings.map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}

fn step(
    target: RawFd,
    fd: &ValidatedFd,
    made: Made,
    sources: &mut Vec<OwnedFd>,
    errno: &AtomicI32,
) -> Step {
    match (fd, made) {
        (_, Made::Failed(failed)) => {
            errno.store(failed, Ordering::Relaxed);
            Step::Failed { target }
        }
        (_, Made::Source(source)) => {
            sources.push(source);
            Step::Put { target, source: sources.len() - 1 }
        }
        (_, Made::Later) => Step::Failed { target },
        (ValidatedFd::Inherit, Made::Nothing) => Step::Inherit { target },
        (ValidatedFd::Close, Made::Nothing) => Step::Close { target },
        (ValidatedFd::Dup(from), Made::Nothing) => Step::Dup { target, from: *from },
        (ValidatedFd::Open { path, flags, mode }, Made::Nothing) => Step::Open {
            target,
            path: c_string(path),
            flags: open_flags(*flags),
            mode: *mode as libc::mode_t,
        },
        // The parent makes a source for each of these, or says why not.
        (ValidatedFd::Capture(_) | ValidatedFd::Pipe(_) | ValidatedFd::Data(_), Made::Nothing) => {
            errno.store(libc::EBADF, Ordering::Relaxed);
            Step::Failed { target }
        }
    }
}

/// The flags of open(2); a terminal that is opened does not become the child's own.
fn open_flags(flags: OpenFlags) -> libc::c_int {
    use libc::{O_APPEND, O_CREAT, O_EXCL, O_NOCTTY, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};
    O_NOCTTY
        | match flags {
            OpenFlags::Read => O_RDONLY,
            OpenFlags::Write => O_WRONLY | O_CREAT | O_TRUNC,
            OpenFlags::Create => O_WRONLY | O_CREAT | O_EXCL,
            OpenFlags::Replace => O_WRONLY | O_TRUNC,
            OpenFlags::Append => O_WRONLY | O_APPEND,
            OpenFlags::CreateAppend => O_WRONLY | O_APPEND | O_CREAT,
            OpenFlags::Default | OpenFlags::ReadWrite => O_RDWR | O_CREAT | O_TRUNC,
        }
}

/// The child's environment, and the strings of it that are not the agent's own.
fn environment(env: &EnvSpec, heritage: &Heritage) -> (Vec<*const c_char>, Vec<CString>) {
    let own: Vec<CString> = env
        .vars
        .iter()
        .filter_map(|(name, value)| match value {
            VarSpec::Text(value) => Some(c_string(&format!("{name}={value}"))),
            VarSpec::Detailed(VarValue { value: Some(value), .. }) => {
                Some(c_string(&format!("{name}={value}")))
            }
            VarSpec::Unset | VarSpec::Detailed(_) => None,
        })
        .collect();
    let inherited = heritage.variables.iter().filter(|variable| {
        let bytes = variable.as_bytes();
        let name = bytes.split(|b| *b == b'=').next().unwrap_or(bytes);
        let asked = match &env.inherit {
            Inherit::All => true,
            Inherit::None => false,
            Inherit::Names(names) => names.iter().any(|wanted| wanted.as_bytes() == name),
        };
        let replaced =
            !env.vars.is_empty() && env.vars.keys().any(|given| given.as_bytes() == name);
        asked && !replaced
    });
    (pointers(inherited.chain(own.iter())), own)
}

/// The numbers that sources must keep clear of, and the agent's fds that must stay open for the steps.
fn numbers(steps: &[Step], heritage: &Heritage) -> (Vec<RawFd>, Vec<RawFd>) {
    let mut reserved = BTreeSet::new();
    let mut kept = BTreeSet::new();
    for step in steps {
        reserved.insert(step.target());
        let needed = match step {
            Step::Inherit { target } => *target,
            Step::Dup { from, .. } => {
                reserved.insert(*from);
                *from
            }
            _ => continue,
        };
        if heritage.fds.binary_search(&needed).is_ok() {
            kept.insert(needed);
        }
    }
    (reserved.into_iter().collect(), kept.into_iter().collect())
}
