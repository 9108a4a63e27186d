//! The driver's part in an upgrade: what it holds, told so that another program in this same process can go on with it.
//!
//! The processes remain our children, for exec keeps the pid; a pidfd is opened anew from the pid, which nobody can have taken
//! while we have not reaped it. The reading ends of pipes cross as descriptors.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc;

use serde::{Deserialize, Serialize};

use super::super::capture::{Captures, Maker, Store};
use super::super::spawn::Child;
use super::super::state::{Input, State};
use super::super::stop::{Stop, Terms};
use super::super::{CutShort, Moment, Resolved, StartFailure, sys};
use super::{Driver, Exit, Live, OpenCapture, Pipe, Process, Source};
use crate::spec::{FdName, ProcId};

/// One process as it is handed over.
#[derive(Clone, Serialize, Deserialize)]
pub struct Carried {
    /// Its ID.
    pub id: ProcId,
    start: Moment,
    captures: Captures,
    told: bool,
    failures: Vec<StartFailure>,
    cut_short: Vec<(FdName, CutShort)>,
    open: Vec<CarriedCapture>,
    phase: CarriedPhase,
    #[serde(default)]
    killed: bool,
    #[serde(default)]
    terms: Terms,
    #[serde(default)]
    stop: Stop,
    #[serde(default)]
    starttime: Option<u64>,
    #[serde(default)]
    resolved: Resolved,
    /// Who belongs to its tree, where it is being stopped.
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    tree: HashMap<i32, u64>,
}

/// A capture that has not reached its end.
#[derive(Clone, Serialize, Deserialize)]
struct CarriedCapture {
    /// The fd's index in the spec.
    index: usize,
    /// The reading end of its pipe, if it has one.
    pipe: Option<RawFd>,
    /// The filter that reads it, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filter: Option<i32>,
}

#[derive(Clone, Serialize, Deserialize)]
enum CarriedPhase {
    Alive { pid: i32, adopted: bool },
    Draining(Box<Exit>),
    Ended,
}

impl Carried {
    /// The descriptors that must stay open.
    pub fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        self.open.iter().filter_map(|open| open.pipe)
    }
}

/// A request to stand still.
pub(crate) struct Pause {
    /// Gets what is handed over, once no process is being made.
    pub(crate) tell: mpsc::Sender<Vec<Carried>>,
    /// The driver goes on when the other end of this is dropped.
    pub(crate) resume: mpsc::Receiver<()>,
}

impl Driver {
    /// Stands still if that is asked for and nothing is being made; goes on when it is released.
    pub(super) fn stand_still(&mut self) {
        let making = !self.waiting.is_empty()
            || self.processes.values().any(|p| matches!(p.state, State::Launching));
        if making {
            return;
        }
        let Some(Pause { tell, resume }) = self.pause.take() else { return };
        self.pool.end_proxies();
        let carried = self.processes.values().filter_map(carry).collect();
        if tell.send(carried).is_ok() {
            // Ends by an error, always: nothing is ever sent.
            let _ = resume.recv();
        }
    }

    /// Takes over a process that was handed over.
    pub(super) fn take_over(&mut self, carried: Carried) {
        let captures = Arc::new(carried.captures);
        let serial = self.enroll(Process {
            start: carried.start,
            captures: Arc::clone(&captures),
            cut_short: carried.cut_short,
            failures: carried.failures,
            resolved: carried.resolved,
            told: carried.told,
            killed: carried.killed,
            terms: carried.terms,
            stop: carried.stop,
            tree: carried.tree,
            starttime: carried.starttime,
            ..Process::new(carried.id)
        });
        for open in carried.open {
            let index = open.index;
            let taken = self.take_over_capture(serial, open, &captures);
            let Some(process) = self.processes.get_mut(&serial) else { return };
            match taken {
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(proc_id = %process.id, %error, "cannot read a capture on");
                    let fd = captures.iter().nth(index).map(|(fd, _)| (fd, CutShort::Error));
                    process.cut_short.extend(fd);
                }
            }
        }
        let Some(process) = self.processes.get_mut(&serial) else { return };
        let phase = match carried.phase {
            CarriedPhase::Alive { pid, adopted } => Some((pid, adopted)),
            CarriedPhase::Draining(exit) => {
                process.state = State::Draining(exit);
                None
            }
            CarriedPhase::Ended => {
                process.state = State::Ended;
                None
            }
        };
        let draining = matches!(process.state, State::Draining(_));
        if draining {
            self.resume_draining(serial);
        }
        let Some((pid, adopted)) = phase else { return };
        let watched = sys::pidfd_open(pid)
            .map(|pidfd| (self.poller.watch(&pidfd, Source::Exit(serial)).ok(), pidfd));
        match watched {
            Ok((token, pidfd)) => {
                if token.is_none() {
                    self.look_later(serial);
                }
                let live = Live { child: Child { pid, pidfd }, token, adopted };
                if !adopted {
                    self.pids.insert(pid, serial);
                }
                self.apply(serial, Input::Spawned(live));
                self.set_alarms(serial);
            }
            // An adopted one that has ended meanwhile.
            Err(_) => {
                self.close_what_has_ended(serial);
                let exit = Exit { pid: Some(pid), lost: true, ..Exit::without_child() };
                self.apply(serial, Input::NotSpawned(Box::new(exit)));
            }
        }
    }

    /// Goes on waiting for the captures of a process, and for its tree where it is being stopped.
    fn resume_draining(&mut self, serial: u64) {
        if self.processes.get(&serial).is_some_and(|process| process.stop.takes_all()) {
            self.look_for_strays();
            self.await_tree(serial);
            self.set_alarms(serial);
            self.cancel_alarms(serial);
        }
        self.close_what_has_ended(serial);
        self.drain(serial);
        self.apply(serial, Input::CapturesClosed);
    }

    fn take_over_capture(
        &mut self,
        serial: u64,
        carried: CarriedCapture,
        captures: &Captures,
    ) -> io::Result<()> {
        let CarriedCapture { index, pipe, filter } = carried;
        let Some(fd) = pipe else {
            if let Some(process) = self.processes.get_mut(&serial) {
                process.open.push(OpenCapture::File { index });
            }
            return Ok(());
        };
        // SAFETY: the program before us has left it open for this, and nobody else here knows of it.
        let reader = unsafe { OwnedFd::from_raw_fd(fd) };
        sys::set_cloexec(&reader, true)?;
        self.budget.taken_over();
        if let Some(pid) = filter {
            return self.take_over_filter(serial, index, pid, reader);
        }
        let capture = captures.at(index).ok_or(io::ErrorKind::NotFound)?;
        let store = match capture.maker() {
            Maker::Engine => capture.reopen()?,
            // Its filter has failed.
            Maker::Filter | Maker::Process => (Store::Nothing, None),
        };
        let open = self.open_pipe(serial, index, reader, store)?;
        if let Some(process) = self.processes.get_mut(&serial) {
            process.open.push(open);
        }
        Ok(())
    }
}

/// What is handed over of a process; nothing of one that has ended and that no survivor's pipe is open of.
fn carry(process: &Process) -> Option<Carried> {
    let phase = match &process.state {
        State::Alive(live) => CarriedPhase::Alive { pid: live.child.pid, adopted: live.adopted },
        State::Draining(exit) => CarriedPhase::Draining(exit.clone()),
        State::Ended if !process.open.is_empty() => CarriedPhase::Ended,
        State::Ended | State::Launching => return None,
    };
    let open = process.open.iter().map(|open| match open {
        OpenCapture::Pipe(Pipe { index, reader, .. }) => {
            CarriedCapture { index: *index, pipe: Some(reader.as_raw_fd()), filter: None }
        }
        OpenCapture::File { index } => CarriedCapture { index: *index, pipe: None, filter: None },
        OpenCapture::Filter { index, reader, pid } => {
            CarriedCapture { index: *index, pipe: Some(reader.as_raw_fd()), filter: Some(*pid) }
        }
    });
    Some(Carried {
        id: process.id.clone(),
        start: process.start,
        captures: (*process.captures).clone(),
        told: process.told,
        failures: process.failures.clone(),
        cut_short: process.cut_short.clone(),
        open: open.collect(),
        phase,
        killed: process.killed,
        terms: process.terms,
        stop: process.stop,
        tree: process.tree.clone(),
        starttime: process.starttime,
        resolved: process.resolved.clone(),
    })
}

#[cfg(test)]
use super::super::stop::StopCause;

#[cfg(test)]
impl Carried {
    /// One of each kind, for the fixtures of states.
    pub(crate) fn samples() -> Vec<Carried> {
        let start =
            Moment { unix_nanos: 1_700_000_000_000_000_000, monotonic_nanos: 5_000_000_000 };
        let one = |id: &str, open, phase| Carried {
            id: id.into(),
            start,
            captures: (*Captures::none()).clone(),
            told: true,
            failures: Vec::new(),
            cut_short: vec![(FdName::from_number(1).unwrap(), CutShort::Survivor)],
            open,
            phase,
            killed: false,
            terms: Terms { deadline: Some(6_000_000_000), ..Terms::default() },
            stop: Stop::Asked { cause: StopCause::Timeout, until: Some(7_000_000_000) },
            starttime: Some(600),
            resolved: Resolved::default(),
            tree: HashMap::new(),
        };
        let exit = Exit { pid: Some(43), status: 256, stop: start, ..Exit::without_child() };
        vec![
            one(
                "alive",
                vec![
                    CarriedCapture { index: 0, pipe: Some(17), filter: None },
                    CarriedCapture { index: 1, pipe: None, filter: None },
                ],
                CarriedPhase::Alive { pid: 42, adopted: false },
            ),
            one("draining", Vec::new(), CarriedPhase::Draining(Box::new(exit))),
            one("ended", Vec::new(), CarriedPhase::Ended),
        ]
    }
}
