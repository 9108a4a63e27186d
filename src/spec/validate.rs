//! Validation of a whole request before anything of it starts.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;

use super::{
    CaptureSpec, EnvSpec, FdEntry, FdName, FdSpec, Inherit, OpenFlags, Place, ProcId, ProcSpec,
    Request, SpecError, SpecErrors, SystemdProperties,
};

/// The highest fd number that a spec may name: the kernel's default for `fs.nr_open`, less one.
pub const MAX_FD: i32 = 1_048_575;

/// A request in which nothing is left to object to; what remains can fail only at the system.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Validated {
    /// The processes, in the order given.
    pub procs: IndexMap<ProcId, ValidatedProc>,
    /// How many pipes join them; each has exactly one [`PipeEnd::Write`] and one [`PipeEnd::Read`] among the fds.
    pub pipes: usize,
}

/// One process of a validated request.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ValidatedProc {
    /// The arguments; may be empty where `exe` was given.
    pub argv: Vec<String>,
    /// The path to execute.
    pub exe: String,
    /// The environment.
    pub env: EnvSpec,
    /// The fds in their order; no fd is twice among them.
    pub fds: Vec<(FdName, ValidatedFd)>,
    /// Resource control by systemd.
    pub systemd: SystemdProperties,
}

/// What an fd shall be, defaults filled in.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum ValidatedFd {
    /// As the agent has it.
    Inherit,
    /// Closed.
    Close,
    /// A file to open in the process; the flags are never [`OpenFlags::Default`].
    Open {
        /// The path.
        path: String,
        /// How.
        flags: OpenFlags,
        /// Permission bits of a new file, less the umask.
        mode: u32,
    },
    /// A duplicate of fd number `0` as it then stands.
    Dup(i32),
    /// Captured.
    Capture(CaptureSpec),
    /// One end of a pipe.
    Pipe(PipeEnd),
}

/// An end of one of the request's pipes, by the pipe's index below [`Validated::pipes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum PipeEnd {
    /// The writing end.
    Write(usize),
    /// The reading end.
    Read(usize),
}

impl Request {
    /// Checks everything that can be known before starting anything.
    ///
    /// # Errors
    /// All that is wrong, in the order of the request.
    pub fn validate(self) -> Result<Validated, SpecErrors> {
        let mut check = Check { errors: Vec::new(), pipes: Pipes::of(&self) };
        let specs = Place::root().key("specs");
        let procs = self
            .specs
            .into_iter()
            .map(|(id, spec)| {
                let place = specs.key(id.as_str());
                check.no_nul(&place, "the process ID", id.as_str());
                let proc = check.proc(&place, &id, spec);
                (id, proc)
            })
            .collect();
        if check.errors.is_empty() {
            Ok(Validated { procs, pipes: check.pipes.count })
        } else {
            Err(SpecErrors(check.errors))
        }
    }
}

/// The pipe ends that a request names, gathered before its processes are checked one by one.
struct Pipes {
    /// Index of each pipe by its writing end.
    by_writer: HashMap<(ProcId, FdName), usize>,
    /// The writing ends that some process reads.
    read: HashSet<(ProcId, FdName)>,
    /// The writing ends that a checked process already reads.
    taken: HashSet<(ProcId, FdName)>,
    count: usize,
}

impl Pipes {
    fn of(request: &Request) -> Self {
        let mut pipes = Pipes {
            by_writer: HashMap::new(),
            read: HashSet::new(),
            taken: HashSet::new(),
            count: 0,
        };
        for (id, proc) in &request.specs {
            for FdEntry(fd, spec) in &proc.fds {
                match spec {
                    FdSpec::PipeWrite => {
                        let index = pipes.count;
                        pipes.count += 1;
                        pipes.by_writer.entry((id.clone(), *fd)).or_insert(index);
                    }
                    FdSpec::PipeRead(from) => {
                        pipes.read.insert((from.proc_id.clone(), from.fd));
                    }
                    _ => {}
                }
            }
        }
        pipes
    }
}

/// The errors found so far, and what they are found by.
struct Check {
    errors: Vec<SpecError>,
    pipes: Pipes,
}

impl Check {
    fn error(&mut self, place: &Place, message: impl Into<String>) {
        self.errors.push(SpecError::new(place.clone(), message));
    }

    fn no_nul(&mut self, place: &Place, what: &str, text: &str) {
        if text.contains('\0') {
            self.error(place, format!("{what} contains a NUL character"));
        }
    }

    fn proc(&mut self, place: &Place, id: &ProcId, spec: ProcSpec) -> ValidatedProc {
        for (i, arg) in spec.argv.iter().enumerate() {
            self.no_nul(&place.key("argv").index(i), "the argument", arg);
        }
        if let Some(exe) = &spec.exe {
            self.no_nul(&place.key("exe"), "the path", exe);
        }
        let exe = spec.exe.or_else(|| spec.argv.first().cloned()).unwrap_or_else(|| {
            self.error(&place.key("argv"), "empty, and no exe is given: nothing to execute");
            String::new()
        });
        self.env(&place.key("env"), &spec.env);
        let fds = self.fds(&place.key("fds"), id, spec.fds);
        ValidatedProc { argv: spec.argv, exe, env: spec.env, fds, systemd: spec.systemd_properties }
    }

    fn env(&mut self, place: &Place, env: &EnvSpec) {
        if let Inherit::Names(names) = &env.inherit {
            for (i, name) in names.iter().enumerate() {
                self.variable_name(&place.key("inherit").index(i), name);
            }
        }
        for (name, value) in &env.vars {
            let place = place.key("vars").key(name.as_str());
            self.variable_name(&place, name);
            if let Some(value) = value {
                self.no_nul(&place, "the value", value);
            }
        }
    }

    fn variable_name(&mut self, place: &Place, name: &str) {
        self.no_nul(place, "the variable's name", name);
        if name.contains('=') {
            self.error(place, "the variable's name contains '='");
        }
        if name.is_empty() {
            self.error(place, "the variable's name is empty");
        }
    }

    fn fds(
        &mut self,
        place: &Place,
        id: &ProcId,
        entries: Vec<FdEntry>,
    ) -> Vec<(FdName, ValidatedFd)> {
        let mut seen = HashSet::new();
        let mut fds = Vec::with_capacity(entries.len());
        for (i, FdEntry(fd, spec)) in entries.into_iter().enumerate() {
            let place = place.index(i);
            if fd.number() > MAX_FD {
                self.error(&place, format!("fd {fd} is out of range: the highest is {MAX_FD}"));
            }
            if !seen.insert(fd) {
                self.error(&place, format!("fd {fd} given twice"));
                continue;
            }
            if let Some(valid) = self.fd(&place, id, fd, spec) {
                fds.push((fd, valid));
            }
        }
        fds
    }

    fn fd(&mut self, place: &Place, id: &ProcId, fd: FdName, spec: FdSpec) -> Option<ValidatedFd> {
        Some(match spec {
            FdSpec::Inherit => ValidatedFd::Inherit,
            FdSpec::Close => ValidatedFd::Close,
            FdSpec::Null(null) => ValidatedFd::Open {
                path: "/dev/null".to_owned(),
                flags: resolve_flags(null.flags, fd),
                mode: 0o666,
            },
            FdSpec::File(file) => {
                self.no_nul(place, "the file's path", &file.path);
                if file.mode > 0o7777 {
                    self.error(
                        place,
                        format!("mode {:#o} is out of range: the highest is 0o7777", file.mode),
                    );
                }
                ValidatedFd::Open {
                    path: file.path,
                    flags: resolve_flags(file.flags, fd),
                    mode: file.mode,
                }
            }
            FdSpec::Dup(dup) => match i32::try_from(dup.fd) {
                Ok(number @ 0..=MAX_FD) => ValidatedFd::Dup(number),
                _ => {
                    self.error(
                        place,
                        format!("fd {} to duplicate is out of range: 0 to {MAX_FD}", dup.fd),
                    );
                    return None;
                }
            },
            FdSpec::Capture(capture) => ValidatedFd::Capture(capture),
            FdSpec::PipeWrite => {
                let end = (id.clone(), fd);
                if !self.pipes.read.contains(&end) {
                    self.error(place, "pipe-write that no process of this request reads");
                }
                let pipe = self.pipes.by_writer.get(&end).copied()?;
                ValidatedFd::Pipe(PipeEnd::Write(pipe))
            }
            FdSpec::PipeRead(from) => {
                let end = (from.proc_id, from.fd);
                let (writer, writer_fd) = (&end.0, end.1);
                if writer == id {
                    self.error(
                        place,
                        "pipe-read from the process itself: it would wait for its own end",
                    );
                    return None;
                }
                let Some(&pipe) = self.pipes.by_writer.get(&end) else {
                    self.error(
                        place,
                        format!("pipe-read without its pipe-write: fd {writer_fd} of process {writer:?} of this request"),
                    );
                    return None;
                };
                if self.pipes.taken.contains(&end) {
                    self.error(
                        place,
                        format!("a second pipe-read of fd {writer_fd} of process {writer:?}"),
                    );
                    return None;
                }
                self.pipes.taken.insert(end);
                ValidatedFd::Pipe(PipeEnd::Read(pipe))
            }
        })
    }
}

fn resolve_flags(flags: OpenFlags, fd: FdName) -> OpenFlags {
    match (flags, fd.number()) {
        (OpenFlags::Default, 0) => OpenFlags::Read,
        (OpenFlags::Default, 1 | 2) => OpenFlags::Write,
        (OpenFlags::Default, _) => OpenFlags::ReadWrite,
        (explicit, _) => explicit,
    }
}
