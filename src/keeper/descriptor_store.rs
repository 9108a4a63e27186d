//! The service manager's descriptor store, as a further holder of the descriptors of processes.
//!
//! The worker holds duplicates for the case that the keeper dies. If both die, systemd still has
//! those in the store of the unit (`FileDescriptorStoreMax=`), and passes them to the next start:
//! no pipe is without a reader meanwhile, and the pidfds show the exit statuses. The keeper stores
//! each [holding](crate::engine::Holding) that it shares with its worker, and removes it once the
//! worker can release it. The locks of the instance are not stored, because the next start has to
//! be able to take them.
//!
//! systemd answers no message. Whether it keeps descriptors, and has room for more, is found out
//! by a probe: the store gets the writing end of a pipe, whose reading end reports a hangup if the
//! descriptor was not kept.

use std::collections::HashMap;
use std::io::{self, PipeReader};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::activation;
use super::format::{CaptureFrame, HoldingFrame};
use super::service_manager::Notifier;
use super::stored_name::{ProcessKey, Role, StoredName};
use crate::config::Env;
use crate::engine::{HeldCapture, HeldWriter, Holding};
use crate::spec::ProcId;

/// The name of the probe.
const PROBE: &str = "ps-probe";
/// How long the service manager may take for its answer to a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// The least time between two probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How long messages may delay an upgrade.
const SEND_TIMEOUT: Duration = Duration::from_secs(2);
/// The most bytes that all names may take. The next start receives them in one variable, which the
/// kernel limits to 128 KiB; a start with a longer one fails.
const MAX_NAMES: usize = 120 * 1024;

/// How many of the descriptors below the open-file limit are left for others than the stored ones.
const SPARE: u64 = 64;

/// The descriptors that the service manager has stored, and returned to this start.
#[derive(Default)]
pub struct StoredDescriptors {
    descriptors: HashMap<ProcessKey, Vec<(Role, OwnedFd)>>,
    names: Vec<StoredName>,
}

impl StoredDescriptors {
    /// Takes the stored descriptors from `inherited`, those that the process with this pid was
    /// started with. Returns the others separately.
    pub fn take(env: &Env, pid: u32, inherited: Vec<RawFd>) -> (StoredDescriptors, Vec<RawFd>) {
        StoredDescriptors::take_named(activation::passed(env, pid), inherited)
    }

    fn take_named(
        named: Vec<(RawFd, String)>,
        mut others: Vec<RawFd>,
    ) -> (StoredDescriptors, Vec<RawFd>) {
        let mut stored = StoredDescriptors::default();
        for (fd, name) in named {
            let Some(name) = StoredName::parse(&name) else { continue };
            let Some(position) = others.iter().position(|other| *other == fd) else { continue };
            others.remove(position);
            // SAFETY: this process was started with it for this purpose, and no value owns it.
            let fd = unsafe { OwnedFd::from_raw_fd(fd) };
            stored.descriptors.entry(name.process).or_default().push((name.role, fd));
            stored.names.push(name);
        }
        (stored, others)
    }

    /// The names of all, whether they are still here or not.
    pub(super) fn names(&self) -> Vec<String> {
        self.names.iter().map(ToString::to_string).collect()
    }

    /// Takes the descriptors of a process out.
    pub(super) fn remove(&mut self, id: &ProcId) -> Option<Holding> {
        let mut fds = self.descriptors.remove(&ProcessKey::of(id))?;
        let mut take = |wanted: &dyn Fn(Role) -> bool| {
            let position = fds.iter().position(|(role, _)| wanted(*role))?;
            Some(fds.swap_remove(position))
        };
        let pidfd = take(&|role| role == Role::Pidfd).map(|(_, fd)| fd);
        let mut captures = Vec::new();
        while let Some((Role::Reader(index), reader)) =
            take(&|role| matches!(role, Role::Reader(_)))
        {
            let writer = match take(&|role| matches!(role, Role::Writer(of, _) if of == index)) {
                Some((Role::Writer(_, pid), pidfd)) => Some(HeldWriter { pid, pidfd }),
                _ => None,
            };
            let file = take(&|role| role == Role::File(index)).map(|(_, fd)| fd);
            captures.push(HeldCapture { index, reader, writer, file });
        }
        Some(Holding { id: id.clone(), pidfd, captures })
    }
}

/// The descriptors of one process in the store.
struct Stored {
    id: ProcId,
    roles: Vec<Role>,
}

/// A probe whose answer is awaited.
struct Probe {
    /// Reports a hangup if the store does not have the writing end.
    kept: PipeReader,
    /// Reports a hangup once the service manager has handled the message before.
    answered: PipeReader,
    until: Instant,
    /// The number of descriptors in the store at that time.
    count: usize,
}

/// What a probe has found.
enum Finding {
    Kept,
    NotKept,
    NoAnswer,
}

/// The store of our unit.
pub(super) struct DescriptorStore {
    notifier: Notifier,
    stored: HashMap<ProcessKey, Stored>,
    /// The number of descriptors in the store, and of the bytes of their names.
    count: usize,
    name_bytes: usize,
    /// The most descriptors that the next start can receive.
    max_count: usize,
    probe: Option<Probe>,
    /// When the next probe may be made.
    probe_at: Instant,
    /// The number of descriptors up to which nothing needs to be probed.
    proven: usize,
    /// Whether the store has ever kept a descriptor.
    exists: bool,
    /// Whether the service manager keeps nothing, so that nothing is stored.
    missing: bool,
    /// Whether the lack of room was logged.
    full: bool,
}

impl DescriptorStore {
    /// The store of our unit. It has the descriptors with these `names`, and keeps those of
    /// `processes`; it removes the others. `open_files` is the soft limit with which the unit is
    /// started: systemd cannot start it with more descriptors.
    pub(super) fn new<'a>(
        notifier: Notifier,
        open_files: u64,
        names: &[String],
        processes: impl Iterator<Item = &'a ProcId>,
    ) -> DescriptorStore {
        let mut store = DescriptorStore {
            notifier,
            stored: HashMap::new(),
            count: 0,
            name_bytes: 0,
            max_count: usize::try_from(open_files.saturating_sub(SPARE)).unwrap_or(usize::MAX),
            probe: None,
            probe_at: Instant::now(),
            proven: 0,
            exists: !names.is_empty(),
            missing: false,
            full: false,
        };
        if !names.is_empty() {
            let stored = |id: &ProcId| Stored { id: id.clone(), roles: Vec::new() };
            store.stored = processes.map(|id| (ProcessKey::of(id), stored(id))).collect();
        }
        for text in names {
            let known = StoredName::parse(text)
                .and_then(|name| Some((store.stored.get_mut(&name.process)?, name.role)));
            match known {
                Some((stored, role)) => {
                    stored.roles.push(role);
                    store.count += 1;
                    store.name_bytes += text.len() + 1;
                }
                None => store.notifier.queue(removal(text), Vec::new()),
            }
        }
        store.stored.retain(|_, stored| !stored.roles.is_empty());
        store
    }

    /// Stores the descriptors of a process, in place of those that the store has of it.
    pub(super) fn hold(&mut self, holding: &HoldingFrame<Arc<OwnedFd>>) {
        let process = ProcessKey::of(&holding.id);
        let roles = roles(holding);
        let mut before = match self.stored.remove(&process) {
            Some(Stored { id, roles }) if id == holding.id => roles,
            Some(other) => {
                // Two IDs with the same key: the first one is stored.
                self.stored.insert(process, other);
                return;
            }
            None => Vec::new(),
        };
        let name = |role| StoredName { process, role }.to_string();
        before.retain(|role| {
            let still = roles.iter().any(|(wanted, _)| wanted == role);
            if !still {
                self.remove(&name(*role));
            }
            still
        });
        for (role, fd) in roles {
            if !before.contains(&role) && self.store(name(role), fd) {
                before.push(role);
            }
        }
        self.stored.insert(process, Stored { id: holding.id.clone(), roles: before });
    }

    /// Removes the descriptors of a process.
    pub(super) fn release(&mut self, id: &ProcId) {
        let process = ProcessKey::of(id);
        if self.stored.get(&process).is_none_or(|stored| stored.id != *id) {
            return;
        }
        let roles = self.stored.remove(&process).map(|stored| stored.roles).unwrap_or_default();
        for role in roles {
            self.remove(&StoredName { process, role }.to_string());
        }
    }

    /// Queues the message that stores a descriptor; returns whether a start can receive it.
    fn store(&mut self, name: String, fd: &Arc<OwnedFd>) -> bool {
        if self.missing {
            return false;
        }
        if self.count >= self.max_count || self.name_bytes + name.len() >= MAX_NAMES {
            self.report_full();
            return false;
        }
        self.count += 1;
        self.name_bytes += name.len() + 1;
        self.notifier.queue(storing(&name), vec![Arc::clone(fd)]);
        true
    }

    fn remove(&mut self, name: &str) {
        self.count = self.count.saturating_sub(1);
        self.name_bytes = self.name_bytes.saturating_sub(name.len() + 1);
        self.notifier.queue(removal(name), Vec::new());
    }

    /// Whether messages wait for room.
    pub(super) fn is_waiting(&self) -> bool {
        self.notifier.is_waiting()
    }

    /// Sends messages, and reads the answer to a probe. The journal must have all events by now.
    pub(super) fn progress(&mut self) {
        let now = Instant::now();
        if self.probe.is_none() && self.wants_probe() && self.probe_at <= now {
            self.probe_at = now + PROBE_INTERVAL;
            match self.begin_probe(now) {
                Ok(probe) => self.probe = Some(probe),
                Err(error) => tracing::warn!(%error, "cannot probe the descriptor store"),
            }
        }
        self.notifier.send();
        let Some(finding) = self.probe.as_ref().and_then(|probe| probe.finding(now)) else {
            return;
        };
        let Some(probe) = self.probe.take() else { return };
        self.notifier.queue(removal(PROBE), Vec::new());
        self.notifier.send();
        match finding {
            Finding::Kept => {
                self.exists = true;
                self.full = false;
                self.proven = self.proven.max(probe.count);
            }
            Finding::NotKept if self.exists => {
                // The next one when the store has, or would have, twice as many.
                self.proven = probe.count.saturating_mul(2);
                self.report_full();
            }
            Finding::NotKept | Finding::NoAnswer => {
                self.missing = true;
                log_missing();
            }
        }
    }

    /// Whether the store has grown beyond what it was proven to have room for.
    fn wants_probe(&self) -> bool {
        !self.missing && (!self.exists || self.count > self.proven)
    }

    fn begin_probe(&mut self, now: Instant) -> io::Result<Probe> {
        let (kept, canary) = io::pipe()?;
        let (answered, barrier) = io::pipe()?;
        self.notifier.queue(storing(PROBE), vec![Arc::new(canary.into())]);
        self.notifier.queue("BARRIER=1".to_owned(), vec![Arc::new(barrier.into())]);
        Ok(Probe { kept, answered, until: now + PROBE_TIMEOUT, count: self.count })
    }

    fn report_full(&mut self) {
        if !std::mem::replace(&mut self.full, true) {
            tracing::warn!(
                descriptors = self.count,
                "the unit's descriptor store is full: if the keeper and its worker are killed, output \
                 of further processes is cut off, and their exit statuses may be lost; raise \
                 FileDescriptorStoreMax= and LimitNOFILE= in the unit"
            );
        }
    }

    /// The names of the stored descriptors, for the next program. Queued messages are sent before.
    pub(super) fn hand_over(&mut self) -> Vec<String> {
        self.notifier.send_all(SEND_TIMEOUT);
        let names = |(process, stored): (&ProcessKey, &Stored)| {
            let process = *process;
            stored.roles.clone().into_iter().map(move |role| StoredName { process, role })
        };
        self.stored.iter().flat_map(names).map(|name| name.to_string()).collect()
    }

    /// The sources that may need [`progress`](Self::progress): our socket, and the answer to a
    /// probe.
    pub(super) fn sources(&self) -> [Option<(BorrowedFd<'_>, PollFlags)>; 2] {
        let socket = (self.notifier.fd(), PollFlags::POLLOUT);
        let answer = self.probe.as_ref().map(|probe| (probe.answered.as_fd(), PollFlags::POLLIN));
        [Some(socket).filter(|_| self.notifier.is_waiting()), answer]
    }

    /// When to call [`progress`](Self::progress) at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.probe {
            Some(probe) => Some(probe.until),
            None => self.wants_probe().then_some(self.probe_at),
        }
    }
}

impl Probe {
    fn finding(&self, now: Instant) -> Option<Finding> {
        match (has_hung_up(&self.answered), has_hung_up(&self.kept)) {
            (true, false) => Some(Finding::Kept),
            (true, true) => Some(Finding::NotKept),
            (false, _) => (self.until <= now).then_some(Finding::NoAnswer),
        }
    }
}

/// Logs that the service manager stores no descriptor of ours.
pub(super) fn log_missing() {
    tracing::warn!(
        "the unit has no descriptor store: if the keeper and its worker are killed, output through \
         pipes is cut off, and exit statuses may be lost; set FileDescriptorStoreMax= and \
         NotifyAccess=main in the unit"
    );
}

/// The descriptors of a process with their roles.
fn roles(holding: &HoldingFrame<Arc<OwnedFd>>) -> Vec<(Role, &Arc<OwnedFd>)> {
    let mut roles: Vec<_> = holding.pidfd.iter().map(|fd| (Role::Pidfd, fd)).collect();
    for CaptureFrame { index, reader, writer, file } in &holding.captures {
        roles.push((Role::Reader(*index), reader));
        roles.extend(file.iter().map(|fd| (Role::File(*index), fd)));
        roles.extend(writer.iter().map(|(pid, fd)| (Role::Writer(*index, *pid), fd)));
    }
    roles
}

/// The message that stores a descriptor. It stays there when it becomes readable or hangs up.
fn storing(name: &str) -> String {
    format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}")
}

fn removal(name: &str) -> String {
    format!("FDSTOREREMOVE=1\nFDNAME={name}")
}

/// Whether nobody has the writing end any more.
fn has_hung_up(reader: &PipeReader) -> bool {
    let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    let polled = poll(&mut fds, PollTimeout::ZERO).is_ok();
    let [fd] = fds;
    polled && fd.revents().is_some_and(|found| found.contains(PollFlags::POLLHUP))
}

#[cfg(test)]
mod tests;
