//! The driver's part in holdings: it duplicates the descriptors of processes for a second holder,
//! and adopts processes of an engine whose program is gone.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Driver;
use crate::engine::capture::{Captures, Truncation};
use crate::engine::event::{Event, Started};
use crate::engine::holding::{HeldCapture, HeldWriter, Holding};
use crate::engine::owned_child::OwnedChild;
use crate::engine::process::child::ChildExit;
use crate::engine::process::output::{OpenCapture, Pipe};
use crate::engine::process::{Input, Process};
use crate::engine::{permitted, sys};

impl Driver {
    /// Reports the holding of a process, whose child may not be recorded in it yet.
    pub(super) fn share(&mut self, serial: u64, child: Option<&OwnedFd>) {
        if !self.options.share_holdings {
            return;
        }
        let Some(process) = self.processes.get(&serial) else { return };
        match self.holding(process, child) {
            Ok(holding) if holding.pidfd.is_none() && holding.captures.is_empty() => {}
            Ok(holding) => {
                self.budget.lend(holding.descriptors());
                self.pending_events.push(Event::Held(Box::new(holding)));
                if let Some(process) = self.processes.get_mut(&serial) {
                    process.is_held = true;
                }
            }
            Err(error) if !std::mem::replace(&mut self.holding_failed, true) => {
                tracing::error!(proc_id = %process.id, %error,
                    "cannot duplicate the descriptors of a process: if the keeper is killed, the \
                     output of this process and of later ones may be incomplete");
            }
            Err(_) => {}
        }
    }

    /// Reports the holdings of all processes again.
    pub(super) fn share_holdings(&mut self) {
        let serials: Vec<u64> = self.processes.iter().map(|(serial, _)| *serial).collect();
        serials.into_iter().for_each(|serial| self.share(serial, None));
    }

    /// Duplicates the descriptors of a process.
    ///
    /// # Errors
    /// The OS error of duplicating a descriptor.
    fn holding(&self, process: &Process, child: Option<&OwnedFd>) -> io::Result<Holding> {
        let pidfd = child.or_else(|| process.pidfd());
        let mut captures = Vec::new();
        for open in process.output.all_open() {
            let (reader, writer, file) = match open {
                OpenCapture::File { .. } => continue,
                OpenCapture::Pipe(Pipe { reader, store, .. }) => {
                    (reader, None, store.shared_file())
                }
                OpenCapture::CaptureWriter { reader, pid, .. } => {
                    (reader, self.held_writer(*pid)?, None)
                }
            };
            let file = file.map(|file| file.try_clone_to_owned()).transpose()?;
            let (index, reader) = (open.index(), reader.try_clone()?);
            captures.push(HeldCapture { index, reader, writer, file });
        }
        if !process.is_ended() {
            for index in process.output.read_to_the_end() {
                captures.push(HeldCapture {
                    index,
                    reader: pipe_at_its_end()?,
                    writer: None,
                    file: None,
                });
            }
        }
        let pidfd = pidfd.map(OwnedFd::try_clone).transpose()?;
        Ok(Holding { id: process.id.clone(), pidfd, captures })
    }

    /// The process that reads the pipe of a capture.
    fn held_writer(&self, pid: i32) -> io::Result<Option<HeldWriter>> {
        let pidfd = self.io.capture_writers.handle(pid).map(OwnedFd::try_clone).transpose()?;
        Ok(pidfd.map(|pidfd| HeldWriter { pid, pidfd }))
    }

    /// Reports that the second holder can close the descriptors of a process, once that is so.
    pub(super) fn release_if_done(&mut self, serial: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        if process.is_held && process.is_ended() && process.output.open_count() == 0 {
            process.is_held = false;
            self.pending_events.push(Event::Released(process.id.clone()));
        }
    }

    /// Adopts a process of an earlier engine.
    pub(super) fn adopt(&mut self, started: Started, holding: Option<Holding>) {
        let pid = started.pid;
        let (pidfd, captures) = match holding {
            Some(Holding { pidfd, captures, .. }) => (pidfd, captures),
            None => (None, Vec::new()),
        };
        let held: Vec<usize> = captures.iter().map(|capture| capture.index).collect();
        let starttime = started.stat.as_ref().map(|stat| stat.starttime);
        self.containment.child_adopted(self.next_serial, pid, starttime);
        if let Some(group) = started.group.clone() {
            self.containment.adopt_group(self.next_serial, group);
        }
        let serial = self.adopt_process(Process::adopted(&started, &held), captures);
        let pidfd = match pidfd {
            Some(pidfd) => Ok(self.take(pidfd)),
            None => self.open_adopted(&started),
        };
        match pidfd {
            Ok(pidfd) => {
                self.share(serial, Some(&pidfd));
                let ended = sys::is_readable(&pidfd);
                let live = self.watch_child(serial, OwnedChild { pid, pidfd }, true);
                self.on(serial, Input::Watched(live));
                if ended {
                    // Before its timeout counts, which may be over by now.
                    self.exited(serial);
                }
            }
            Err(_) => {
                self.share_adopted(serial);
                self.sweep(serial);
                self.on(serial, Input::Lost(Box::new(ChildExit::lost(pid))));
            }
        }
    }

    /// Reads the pipes of a process whose end an earlier engine has reported.
    pub(super) fn adopt_ended(&mut self, captures: Arc<Captures>, holding: Holding) {
        let Holding { id, captures: held, .. } = holding;
        let serial = self.adopt_process(Process::adopted_ended(id, captures), held);
        self.share_adopted(serial);
        self.on(serial, Input::Progress);
    }

    /// Reports the holding of an adopted process without a child, or that nothing of it needs to be
    /// held.
    fn share_adopted(&mut self, serial: u64) {
        self.share(serial, None);
        let Some(process) = self.processes.get(&serial) else { return };
        if self.options.share_holdings && !process.is_held {
            self.pending_events.push(Event::Released(process.id.clone()));
        }
    }

    /// Adds an adopted process, and reads on from the pipes of its captures.
    fn adopt_process(&mut self, mut process: Process, captures: Vec<HeldCapture>) -> u64 {
        let serial = self.next_serial;
        for HeldCapture { index, reader, writer, file } in captures {
            let reader = self.take(reader);
            let file = file.map(|file| self.take(file));
            let resumed = match writer {
                Some(HeldWriter { pid, pidfd }) => {
                    let writer = (pid, Ok(self.take(pidfd)));
                    self.resume_capture_writer((serial, index), &mut process, writer, reader)
                }
                None => self.resume_pipe((serial, index), &mut process, reader, file),
            };
            if let Err(error) = resumed {
                tracing::error!(proc_id = %process.id, %error, "cannot resume reading a capture");
                process.output.truncate(index, Truncation::Error);
            }
        }
        self.insert_process(process)
    }

    /// Moves a descriptor of the second holder, which was open before the engine started, to the
    /// account of its process.
    fn take(&mut self, fd: OwnedFd) -> OwnedFd {
        self.budget.count_restored();
        fd
    }

    /// Opens a pidfd of an adopted process.
    ///
    /// # Errors
    /// `ESRCH` if the process is gone.
    fn open_adopted(&self, started: &Started) -> io::Result<OwnedFd> {
        // The process may end between any two of these calls; the start time detects a reused pid.
        let pidfd = permitted::handle(started.pid)?;
        let now = self.procfs.read_stat(started.pid).map_err(io::Error::other)?;
        let same = started.stat.as_ref().is_some_and(|then| then.starttime == now.starttime);
        same.then_some(pidfd).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// A pipe without a writer, for a capture that has ended before its process: the next engine finds
/// its end again, and so knows that nothing is missing.
fn pipe_at_its_end() -> io::Result<OwnedFd> {
    sys::pipe().map(|(reader, _)| reader)
}
