//! Validation of a whole request before any of its processes starts.

mod attributes;
mod sandbox;

use std::collections::{HashMap, HashSet};

use sha2::{Digest as _, Sha256};

use super::{
    CaptureSpec, DataSpec, Digest, EnvSpec, FdEntry, FdName, FdSpec, Fds, Inherit, MAX_FD,
    OpenFlags, PipeEnd, ProcId, ProcSpec, SpecError, SpecErrors, SpecPath, StartRequest, Validated,
    ValidatedFd, ValidatedProc, VarSpec,
};

impl StartRequest {
    /// Checks everything that does not depend on the state of the system.
    ///
    /// # Errors
    /// All errors, in the order of the request.
    pub fn validate(self) -> Result<Validated, SpecErrors> {
        let mut check = Check { errors: Vec::new(), pipes: Pipes::of(&self) };
        let specs = SpecPath::root().key("specs");
        let procs = self
            .specs
            .into_iter()
            .map(|(id, spec)| {
                let place = specs.key(id.as_str());
                check.id(&place, id.as_str());
                let proc = check.proc(&place, &id, spec);
                (id, proc)
            })
            .collect();
        if check.errors.is_empty() {
            let StartRequest { all_or_nothing, idempotent, .. } = self;
            Ok(Validated { procs, pipes: check.pipes.count, all_or_nothing, idempotent })
        } else {
            Err(SpecErrors(check.errors))
        }
    }
}

/// The pipe ends that a request names, collected before its processes are checked one by one.
struct Pipes {
    /// Index of each pipe by its writing end.
    by_writer: HashMap<(ProcId, FdName), usize>,
    /// The writing ends that are named by a `pipe-read`.
    read: HashSet<(ProcId, FdName)>,
    /// The writing ends that are named by a `pipe-read` of a process already checked.
    taken: HashSet<(ProcId, FdName)>,
    count: usize,
}

impl Pipes {
    fn of(request: &StartRequest) -> Self {
        let mut pipes = Pipes {
            by_writer: HashMap::new(),
            read: HashSet::new(),
            taken: HashSet::new(),
            count: 0,
        };
        for (id, proc) in &request.specs {
            for (fd, spec) in proc.fds.iter() {
                match spec {
                    FdSpec::PipeWrite => {
                        let index = pipes.count;
                        pipes.count += 1;
                        pipes.by_writer.entry((id.clone(), fd)).or_insert(index);
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

/// The error for a cycle of duplicates.
const DUPLICATES_ITSELF: &str = "duplicates itself, by way of others: an object has no order in which fds could be swapped; \
     give fds as an array of [FD_NAME, FD], which are set up in its order";

/// Maximum number of collected errors: one more than are shown, so that the caller knows whether
/// there are more. An error takes many times the memory of the value that it concerns.
const ERRORS: usize = super::diagnose::ERRORS + 1;

/// The errors found so far, and the state of the search.
struct Check {
    errors: Vec<SpecError>,
    pipes: Pipes,
}

impl Check {
    fn error(&mut self, place: &SpecPath, message: impl Into<String>) {
        if self.errors.len() < ERRORS {
            self.errors.push(SpecError::new(place.clone(), message));
        }
    }

    fn no_nul(&mut self, place: &SpecPath, what: &str, text: &str) {
        if text.contains('\0') {
            self.error(place, format!("{what} contains a NUL character; remove it"));
        }
    }

    /// Checks that the path of an HTTP request can contain an ID.
    fn id(&mut self, place: &SpecPath, id: &str) {
        self.no_nul(place, "the process ID", id);
        let (length, most) = (id.len(), ProcId::MAX_LEN);
        if !(1..=most).contains(&length) {
            let message =
                format!("invalid process ID of {length} bytes: expected 1 to {most} bytes");
            self.error(place, message);
        }
    }

    fn proc(&mut self, place: &SpecPath, id: &ProcId, mut spec: ProcSpec) -> ValidatedProc {
        let digest = digest(&mut spec);
        for (i, arg) in spec.argv.iter().enumerate() {
            self.no_nul(&place.key("argv").index(i), "the argument", arg);
        }
        if let Some(exe) = &spec.exe {
            self.no_nul(&place.key("exe"), "the path", exe);
        }
        let exe = spec.exe.clone().or_else(|| spec.argv.first().cloned()).unwrap_or_else(|| {
            self.error(&place.key("argv"), "nothing to execute: argv is empty, and there is no exe; give the program as the first element");
            String::new()
        });
        self.env(&place.key("env"), &spec.env);
        let attributes = self.attributes(place, &spec);
        let stopping = self.stopping(place, &spec);
        for (name, value) in &spec.labels {
            let place = place.key("labels").key(name.as_str());
            if name.is_empty() {
                self.error(&place, "the label's name is empty; give it a name");
            }
            self.no_nul(&place, "the label's name", name);
            self.no_nul(&place, "the label", value);
        }
        let fds = self.fds(&place.key("fds"), id, spec.fds);
        ValidatedProc {
            argv: spec.argv,
            exe,
            env: spec.env,
            fds,
            systemd: spec.systemd_properties,
            lookup_path: spec.lookup_path,
            attributes,
            labels: spec.labels,
            timeout: spec.timeout.map(crate::quantity::Seconds::get),
            stopping,
            digest,
            passed: Vec::new(),
            shares_terminal: false,
        }
    }

    fn env(&mut self, place: &SpecPath, env: &EnvSpec) {
        if let Some(Inherit::Names(names)) = &env.inherit {
            for (i, name) in names.iter().enumerate() {
                self.variable_name(&place.key("inherit").index(i), name);
            }
        }
        for (name, value) in &env.vars {
            let place = place.key("vars").key(name.as_str());
            self.variable_name(&place, name);
            match value {
                VarSpec::Unset => {}
                VarSpec::Text(value) => self.no_nul(&place, "the value", value),
                VarSpec::Detailed(detailed) => match (&detailed.value, &detailed.file) {
                    (Some(value), None) => self.no_nul(&place, "the value", value),
                    (None, Some(file)) => self.no_nul(&place, "the file's path", file),
                    _ => self.error(&place, "expected exactly one of the keys `value` and `file`"),
                },
            }
        }
    }

    fn variable_name(&mut self, place: &SpecPath, name: &str) {
        self.no_nul(place, "the variable's name", name);
        if name.contains('=') {
            self.error(place, "the variable's name contains '='; give the name alone");
        }
        if name.is_empty() {
            self.error(place, "the variable's name is empty; give it a name");
        }
    }

    fn fds(&mut self, place: &SpecPath, id: &ProcId, fds: Fds) -> Vec<(FdName, ValidatedFd)> {
        match fds {
            Fds::InOrder(entries) => self.fds_in_order(place, id, entries),
            Fds::ByName(entries) => {
                let mut fds = Vec::with_capacity(entries.len());
                for (fd, spec) in entries {
                    let place = place.key(fd.to_string());
                    self.fd_number(&place, fd);
                    if let Some(valid) = self.fd(&place, id, fd, spec) {
                        fds.push((fd, valid));
                    }
                }
                self.put_duplicates_last(place, fds)
            }
        }
    }

    fn fds_in_order(
        &mut self,
        place: &SpecPath,
        id: &ProcId,
        entries: Vec<FdEntry>,
    ) -> Vec<(FdName, ValidatedFd)> {
        let mut seen = HashSet::new();
        let mut fds = Vec::with_capacity(entries.len());
        for (i, FdEntry(fd, spec)) in entries.into_iter().enumerate() {
            let place = place.index(i);
            self.fd_number(&place, fd);
            if !seen.insert(fd) {
                self.error(&place, format!("fd {fd} given twice; remove one of the entries"));
                continue;
            }
            if let Some(valid) = self.fd(&place, id, fd, spec) {
                fds.push((fd, valid));
            }
        }
        fds
    }

    fn fd_number(&mut self, place: &SpecPath, fd: FdName) {
        if fd.number() > MAX_FD {
            self.error(place, format!("fd {fd} is out of range: expected 0 to {MAX_FD}"));
        }
    }

    /// Sorts fds that were given as an object, so that each duplicate follows the fd that it
    /// duplicates.
    fn put_duplicates_last(
        &mut self,
        place: &SpecPath,
        fds: Vec<(FdName, ValidatedFd)>,
    ) -> Vec<(FdName, ValidatedFd)> {
        let (mut waiting, mut ordered): (Vec<_>, Vec<_>) =
            fds.into_iter().partition(|(_, fd)| matches!(fd, ValidatedFd::Dup(_)));
        loop {
            let open: HashSet<i32> = waiting.iter().map(|(fd, _)| fd.number()).collect();
            let (later, ready): (Vec<_>, Vec<_>) = waiting
                .into_iter()
                .partition(|(_, fd)| matches!(fd, ValidatedFd::Dup(from) if open.contains(from)));
            if ready.is_empty() {
                for (fd, _) in &later {
                    self.error(&place.key(fd.to_string()), DUPLICATES_ITSELF);
                }
                return ordered;
            }
            ordered.extend(ready);
            waiting = later;
        }
    }

    fn fd(
        &mut self,
        place: &SpecPath,
        id: &ProcId,
        fd: FdName,
        spec: FdSpec,
    ) -> Option<ValidatedFd> {
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
                self.mode(place, file.mode);
                ValidatedFd::Open {
                    path: file.path,
                    flags: resolve_flags(file.flags, fd),
                    mode: file.mode,
                }
            }
            FdSpec::Dup(dup) => ValidatedFd::Dup(self.dup(place, dup.fd)?),
            FdSpec::Capture(capture) => {
                self.capture(place, &capture);
                ValidatedFd::Capture(capture)
            }
            FdSpec::Data(data) => ValidatedFd::Data(self.data(place, data)),
            FdSpec::PipeWrite => {
                let end = (id.clone(), fd);
                if !self.pipes.read.contains(&end) {
                    self.error(place, "no process of this request reads this pipe; add a pipe-read of this fd to another process");
                }
                let pipe = self.pipes.by_writer.get(&end).copied()?;
                ValidatedFd::Pipe(PipeEnd::Write(pipe))
            }
            FdSpec::PipeRead(from) => {
                let pipe = self.pipe_read(place, id, (from.proc_id, from.fd))?;
                ValidatedFd::Pipe(PipeEnd::Read(pipe))
            }
        })
    }

    /// Checks the number of an fd to duplicate.
    fn dup(&mut self, place: &SpecPath, fd: i64) -> Option<i32> {
        let number = i32::try_from(fd).ok().filter(|number| (0..=MAX_FD).contains(number));
        if number.is_none() {
            self.error(
                place,
                format!("fd {fd} to duplicate is out of range: expected 0 to {MAX_FD}"),
            );
        }
        number
    }

    /// Returns the pipe that process `id` reads, by its writing end. Each pipe has one reader.
    fn pipe_read(&mut self, place: &SpecPath, id: &ProcId, end: (ProcId, FdName)) -> Option<usize> {
        let (writer, writer_fd) = (&end.0, end.1);
        if writer == id {
            self.error(place, "pipe-read from the process itself, which would wait for its own end; read from another process");
            return None;
        }
        let Some(&pipe) = self.pipes.by_writer.get(&end) else {
            self.error(
                place,
                format!("fd {writer_fd} of process {writer:?} of this request is not a pipe; make it \"pipe-write\""),
            );
            return None;
        };
        if self.pipes.taken.contains(&end) {
            self.error(
                place,
                format!("a second pipe-read of fd {writer_fd} of process {writer:?}; remove one, for a pipe has one reader"),
            );
            return None;
        }
        self.pipes.taken.insert(end);
        Some(pipe)
    }

    fn capture(&mut self, place: &SpecPath, capture: &CaptureSpec) {
        let keep = capture.keep.unwrap_or_default();
        if capture.keep.is_some() && keep.head.is_none() && keep.tail.is_none() {
            self.error(
                &place.key("keep"),
                "neither head nor tail is given; give one, such as {\"head\": \"64K\"}",
            );
        }
        if capture.compress.is_some() && keep.tail.is_some() {
            self.error(
                &place.key("keep"),
                "the tail of compressed output cannot be kept, for a compressed stream cannot be shortened at its beginning: \
                 give head alone, or leave out compress",
            );
        }
        if capture.compress.is_some() && capture.chunk_times {
            self.error(
                &place.key("chunk_times"),
                "compressed output has no chunk times; leave out compress or chunk_times",
            );
        }
        if capture.pipe_size == Some(0) {
            self.error(&place.key("pipe_size"), "invalid pipe size 0: expected at least 1 byte");
        }
        if let Some(file) = &capture.file {
            let place = place.key("file");
            self.no_nul(&place, "the path", &file.path);
            if !file.path.starts_with('/') {
                self.error(
                    &place.key("path"),
                    format!("path {:?} is not absolute; write it from / on", file.path),
                );
            }
            self.mode(&place.key("mode"), file.mode);
        }
    }

    fn data(&mut self, place: &SpecPath, data: DataSpec) -> Vec<u8> {
        match data {
            DataSpec { text: Some(text), base64: None } => text.into_bytes(),
            DataSpec { text: None, base64: Some(base64) } => {
                base64_simd::STANDARD.decode_to_vec(base64).unwrap_or_else(|_| {
                    self.error(
                        &place.key("base64"),
                        "invalid base64: expected the standard alphabet, with padding",
                    );
                    Vec::new()
                })
            }
            _ => {
                self.error(place, "expected exactly one of the keys `text` and `base64`");
                Vec::new()
            }
        }
    }

    fn mode(&mut self, place: &SpecPath, mode: u32) {
        if mode > 0o7777 {
            self.error(
                place,
                format!("mode {mode} ({mode:#o}) is out of range: expected 0 to 4095 (0o7777)"),
            );
        }
    }
}

/// Computes the digest that distinguishes a spec from all specs with another meaning. Large values
/// are neither copied nor serialized for it.
fn digest(spec: &mut ProcSpec) -> Digest {
    let argv = std::mem::take(&mut spec.argv);
    let fds = match &mut spec.fds {
        Fds::InOrder(fds) => std::mem::take(fds),
        Fds::ByName(_) => Vec::new(),
    };
    let mut ordered = ProcSpec { argv, ..spec.clone() };
    if let Fds::InOrder(none) = &mut ordered.fds {
        *none = fds;
    }
    in_one_order(&mut ordered);
    let mut hash = Hash(Sha256::new());
    // Cannot fail: the spec is serializable, and the hash accepts any bytes.
    let _ = serde_json::to_writer(&mut hash, &ordered);
    spec.argv = ordered.argv;
    if let (Fds::InOrder(fds), Fds::InOrder(own)) = (ordered.fds, &mut spec.fds) {
        *own = fds;
    }
    Digest(hash.0.finalize().first_chunk().copied().unwrap_or_default())
}

/// A writer that hashes its input.
struct Hash(Sha256);

impl std::io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Sorts the parts of a spec whose order has no meaning.
fn in_one_order(spec: &mut ProcSpec) {
    spec.env.vars.sort_unstable_keys();
    spec.labels.sort_unstable_keys();
    spec.sandbox = spec.sandbox.in_one_form();
    spec.rlimits.sort_unstable_by(|a, _, b, _| a.name().cmp(b.name()));
    if let Fds::ByName(fds) = &mut spec.fds {
        fds.sort_unstable_by(|a, _, b, _| a.number().cmp(&b.number()));
    }
    if spec.user.is_none() {
        // The default of a process of our own user.
        spec.env.inherit.get_or_insert(Inherit::All);
    }
    if let Some(Inherit::Names(names)) = &mut spec.env.inherit {
        names.sort_unstable();
        names.dedup();
    }
    if let Some(cpus) = &mut spec.cpu_affinity {
        cpus.sort_unstable();
        cpus.dedup();
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
