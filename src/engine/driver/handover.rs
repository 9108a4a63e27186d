//! The driver's part in an upgrade: its state, in a format from which another program in this same
//! process can continue.
//!
//! The processes remain our children, because exec keeps the pid. Pidfds and the reading ends of
//! pipes cross as descriptors. A process that ends meanwhile stays a zombie until the next engine
//! reaps it. That engine restores all its processes before it looks at any child: it treats every
//! unknown child as an orphan, and reaps it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use super::Driver;
use crate::engine::capture::{HandoverFile, Store, Truncation, WrittenBy};
use crate::engine::command::Quiesce;
use crate::engine::containment::HandoverContainment;
use crate::engine::handover::{Handover, HandoverCaptureWriter, HandoverShared};
use crate::engine::owned_child::OwnedChild;
use crate::engine::process::child::ChildExit;
use crate::engine::process::handover::{HandoverCapture, HandoverProcess, Restored, RestoredChild};
use crate::engine::process::output::OpenCapture;
use crate::engine::process::{Input, Process};
use crate::engine::{permitted, sys};

impl Driver {
    /// Pauses on request while no process is being made; resumes when it is released.
    pub(super) fn quiesce(&mut self) {
        let making = !self.waiting.is_empty() || self.processes.values().any(Process::is_launching);
        if making {
            return;
        }
        let Some(Quiesce { reply, resume }) = self.quiesce.take() else { return };
        self.pool.end_helpers();
        self.sealer.pause();
        if reply.send(self.hand_over()).is_ok() {
            // Always returns an error: nothing is ever sent, the sender is only dropped.
            let _ = resume.recv();
        }
        self.sealer.go_on();
    }

    /// Takes a descriptor of a process that the previous program has left open.
    ///
    /// # Errors
    /// The descriptor is not open.
    pub(super) fn inherit(&mut self, fd: RawFd) -> io::Result<OwnedFd> {
        inherit(fd).inspect(|_| self.budget.count_restored())
    }

    /// The state for the next program.
    fn hand_over(&self) -> Handover {
        let id_of = |serial| self.processes.get(&serial).map(|process| process.id.clone());
        let HandoverContainment { orphans, kills } = self.containment.hand_over(&id_of);
        Handover {
            processes: self
                .processes
                .iter()
                .filter_map(|(serial, process)| {
                    let members = self.containment.hand_over_members(*serial);
                    process.hand_over(members, |pid| self.io.capture_writers.pidfd(pid))
                })
                .collect(),
            shared: HandoverShared {
                orphans,
                capture_writers: self.io.capture_writers.of_deleted(&self.processes),
                kills,
                files: HandoverFile::of_all(),
            },
        }
    }

    /// Restores the state of the previous program. Call it first: see the module.
    pub(super) fn restore(&mut self, handover: Handover) {
        let Handover { processes, shared } = handover;
        for file in shared.files {
            if let Err(error) = file.restore(inherit) {
                tracing::error!(%error, "cannot restore an open capture file");
            }
        }
        self.restore_capture_writers_of_deleted(shared.capture_writers);
        // Before any end can be noticed: the processes identify the owners of the orphans that an
        // ended process has left.
        let mut serials = HashMap::new();
        let mut children = Vec::new();
        for handed in processes {
            let id = handed.id.clone();
            let (serial, child) = self.restore_process(handed);
            serials.insert(id, serial);
            children.push((serial, child));
        }
        let containment = HandoverContainment { orphans: shared.orphans, kills: shared.kills };
        self.containment.restore(containment, &|id| serials.get(id).copied());
        for (serial, child) in children {
            match child {
                Some(child) => self.watch_again(serial, child),
                None => self.resume_draining(serial),
            }
        }
        self.flush_events();
    }

    /// Restores one process with its captures; returns its child, which is to be watched.
    fn restore_process(&mut self, handed: HandoverProcess) -> (u64, Option<RestoredChild>) {
        let Restored { mut process, members, open, child, kept_pidfd } = Process::restored(handed);
        let serial = self.next_serial;
        self.containment.restore_members(serial, members);
        let named = process.output.captures().named_descriptors();
        (0..named).for_each(|_| self.budget.count_restored());
        if let Some(Ok(pidfd)) = kept_pidfd.map(|fd| self.inherit(fd)) {
            process.restore_kept_pidfd(pidfd);
        }
        for open in open {
            let index = open.index;
            if let Err(error) = self.restore_capture(serial, &mut process, open) {
                tracing::error!(proc_id = %process.id, %error, "cannot resume reading a capture");
                process.output.truncate(index, Truncation::Error);
            }
        }
        if let Some(RestoredChild { pid, adopted: false, .. }) = child {
            self.containment.child_made(serial, pid);
        }
        (self.insert_process(process), child)
    }

    /// Watches a child that lives, or has ended since the pause of the previous program.
    fn watch_again(&mut self, serial: u64, child: RestoredChild) {
        let RestoredChild { pid, adopted, pidfd } = child;
        let pidfd = match pidfd {
            Some(pidfd) => self.inherit(pidfd),
            // A child of ours keeps its pid until we reap it; the pid of an adopted one may have
            // been reused.
            None if adopted && !self.is_same(serial, pid) => {
                Err(io::Error::from_raw_os_error(libc::ESRCH))
            }
            None => permitted::handle(pid),
        };
        match pidfd {
            Ok(pidfd) => {
                let live = self.watch_child(serial, OwnedChild { pid, pidfd }, adopted);
                self.on(serial, Input::Watched(live));
            }
            Err(error) => {
                if !adopted {
                    tracing::error!(pid, %error, "cannot watch a process any more");
                    self.containment.child_reaped(serial);
                }
                self.sweep(serial);
                self.on(serial, Input::Lost(Box::new(ChildExit::lost(pid))));
            }
        }
    }

    /// Whether `pid` still belongs to this adopted process, as far as its start time is known.
    fn is_same(&self, serial: u64, pid: i32) -> bool {
        let then = self.containment.starttime(serial);
        let now = self.procfs.read_stat(pid).ok().map(|stat| stat.starttime);
        now.is_some() && (then.is_none() || then == now)
    }

    /// Continues waiting for the captures of a process, and for its tree if it is being stopped,
    /// with the remaining time of the previous program.
    fn resume_draining(&mut self, serial: u64) {
        let process = self.processes.get(&serial).filter(|process| process.is_draining());
        if let Some(stopping) = process.map(Process::is_stopping) {
            if stopping {
                self.containment.notice_left_now();
                self.await_tree(serial);
            }
            self.sweep(serial);
        }
        self.on(serial, Input::Resumed);
    }

    fn restore_capture(
        &mut self,
        serial: u64,
        process: &mut Process,
        handed: HandoverCapture,
    ) -> io::Result<()> {
        let HandoverCapture { index, pipe, writer, pidfd } = handed;
        let Some(fd) = pipe else {
            process.output.open(OpenCapture::File { index });
            return Ok(());
        };
        let reader = self.inherit(fd)?;
        if let Some(pid) = writer {
            let writer = HandoverCaptureWriter::new(pid, pidfd);
            return self.restore_capture_writer((serial, index), process, writer, reader);
        }
        self.resume_pipe((serial, index), process, reader, None)
    }

    /// Reads on from a pipe of another engine into its capture; `file` is the capture's
    /// [shared file](Store::shared_file).
    ///
    /// # Errors
    /// The OS error of opening the capture's files, or of watching the pipe.
    pub(super) fn resume_pipe(
        &mut self,
        (serial, index): (u64, usize),
        process: &mut Process,
        reader: OwnedFd,
        file: Option<OwnedFd>,
    ) -> io::Result<()> {
        let capture = process.output.at(index).ok_or(io::ErrorKind::NotFound)?;
        let store = match capture.written_by() {
            WrittenBy::Engine if !capture.is_frozen() => capture.reopen(file)?,
            // The capture writer has failed; or the capture is over and its file read-only, and a
            // full pipe must not block a survivor.
            WrittenBy::Engine | WrittenBy::CaptureWriter | WrittenBy::Process => {
                (Store::nothing(), None)
            }
        };
        let open = self.io.open_pipe(serial, index, reader, store)?;
        process.output.open(open);
        Ok(())
    }
}

/// Takes a descriptor that the previous program has left open.
///
/// # Errors
/// The descriptor is not open.
fn inherit(fd: RawFd) -> io::Result<OwnedFd> {
    if fd <= 2 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    sys::set_cloexec_of(fd, true)?;
    // SAFETY: it is open. The previous program has left it open for this, and no other code here
    // owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
