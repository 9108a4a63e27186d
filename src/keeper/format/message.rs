//! What keeper and worker say to each other.
//!
//! Both ends are of the same program but for the moment of an upgrade, so the first message bears
//! [`VERSION`], and an end that does not know the other's says so.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{KeeperSettings, Opening, ProcessEntry, ShutdownCommand, WorkerState};
use crate::clock::TimePoint;
use crate::engine::{Ended, ProcessCommand, Started, StopFailure, StopOrder};
use crate::keeper::listeners::{Address, FileId, MissingListener};
use crate::keeper::meaning::Mode;
use crate::path_bytes;
use crate::spec::{ProcId, Validated};

/// The version of these messages. It changes with every change of their meaning or form.
pub const VERSION: u32 = 5;

/// Whether a keeper understands workers of this version. What came since version 4 is sent only to
/// workers that ask for it.
pub(in crate::keeper) fn is_understood(version: u32) -> bool {
    (4..=VERSION).contains(&version)
}

/// From the worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToKeeper {
    /// The kind of run, which decides what signals mean. It may come before [`ToKeeper::Hello`]: the worker may wait long for INPUT.
    Mode(Mode),
    /// The introduction.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// Taken from the first worker alone.
        settings: Box<KeeperSettings>,
        /// As well.
        opening: Box<Opening>,
        /// INPUT's processes, started for the first worker alone.
        input: Option<Validated>,
    },
    /// Start processes. See [`Engine::launch`](crate::engine::Engine::launch).
    Launch(Validated),
    /// Send a signal. See [`ProcessCommand::Signal`].
    Signal {
        /// The process.
        id: ProcId,
        /// The signal's number.
        signum: i32,
        /// Comes back.
        ticket: u64,
    },
    /// Drop an ended process. See [`Engine::forget`](crate::engine::Engine::forget).
    Forget(ProcId),
    /// Keep this for the next worker; it replaces what was kept before.
    Remember(WorkerState),
    /// The end: everything is done.
    Bye {
        /// The program's exit code.
        code: u8,
        /// The signal that the program is to end by instead.
        #[serde(default)]
        signal: Option<i32>,
    },
    /// Stop a process. See [`ProcessCommand::Stop`].
    Stop {
        /// The process.
        id: ProcId,
        /// How.
        order: StopOrder,
        /// Comes back, as that of a signal.
        ticket: u64,
    },
    /// The worker is ready: its services listen.
    Ready,
    /// The worker is about to end, for it cannot start.
    Failed {
        /// Why, for the user.
        message: String,
    },
    /// What the worker has read of a descriptor that can be read only once, for later workers. It comes before [`ToKeeper::Hello`].
    ReadUp {
        /// The descriptor, of those that the program was started with.
        fd: i32,
        /// All that there was.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Hold this listener, for later workers. See [`listeners`](crate::keeper::listeners).
    Hold {
        /// What it listens on.
        address: Address,
        /// The file of a Unix socket.
        file: Option<FileId>,
        /// The socket itself, which does not cross in the frame but beside it.
        #[serde(skip)]
        descriptor: Option<OwnedFd>,
    },
    /// What the worker listens on: of the listeners that the keeper holds, it closes the others.
    Listening {
        /// The addresses.
        on: Vec<Address>,
        /// What it should listen on, and does not.
        missing: Vec<MissingListener>,
    },
    /// Start processes as at [`ToKeeper::Launch`], and answer with [`ToWorker::Accepted`]; since
    /// version 5.
    LaunchAcknowledged {
        /// The processes.
        request: Validated,
        /// Comes back.
        ticket: u64,
    },
}

impl ToKeeper {
    /// The message that carries a verb on one process. With [`sort`](Self::sort), this function is
    /// the only place that maps verbs to messages: a new verb gets its variant here, at the end.
    pub fn process(id: ProcId, command: ProcessCommand, ticket: u64) -> ToKeeper {
        match command {
            ProcessCommand::Signal(signum) => ToKeeper::Signal { id, signum, ticket },
            ProcessCommand::Stop(order) => ToKeeper::Stop { id, order, ticket },
        }
    }

    /// Sorts a received message by its recipient. The match names every variant, so the compiler
    /// rejects a message without a recipient.
    pub(in crate::keeper) fn sort(self) -> Sorted {
        match self {
            ToKeeper::Mode(mode) => Sorted::Session(SessionMessage::Mode(mode)),
            ToKeeper::Hello { version, settings, opening, input } => {
                Sorted::Session(SessionMessage::Hello { version, settings, opening, input })
            }
            ToKeeper::ReadUp { fd, bytes } => Sorted::Session(SessionMessage::ReadUp { fd, bytes }),
            ToKeeper::Failed { message } => Sorted::Session(SessionMessage::Failed { message }),
            ToKeeper::Bye { code, signal } => Sorted::Session(SessionMessage::Bye { code, signal }),
            ToKeeper::Launch(request) => {
                Sorted::Request(WorkerRequest::Launch { request, ticket: None })
            }
            ToKeeper::LaunchAcknowledged { request, ticket } => {
                Sorted::Request(WorkerRequest::Launch { request, ticket: Some(ticket) })
            }
            ToKeeper::Forget(id) => Sorted::Request(WorkerRequest::Forget(id)),
            ToKeeper::Remember(state) => Sorted::Request(WorkerRequest::Remember(state)),
            ToKeeper::Ready => Sorted::Request(WorkerRequest::Ready),
            ToKeeper::Hold { address, file, descriptor } => {
                Sorted::Request(WorkerRequest::Hold { address, file, descriptor })
            }
            ToKeeper::Listening { on, missing } => {
                Sorted::Request(WorkerRequest::Listening { on, missing })
            }
            ToKeeper::Signal { id, signum, ticket } => {
                Sorted::Command { id, command: ProcessCommand::Signal(signum), ticket }
            }
            ToKeeper::Stop { id, order, ticket } => {
                Sorted::Command { id, command: ProcessCommand::Stop(order), ticket }
            }
        }
    }
}

/// A message of the worker, by its recipient. Only [`ToKeeper`] crosses the socket.
#[derive(Debug)]
pub(in crate::keeper) enum Sorted {
    /// For the run loop, in any phase.
    Session(SessionMessage),
    /// For the running instance.
    Request(WorkerRequest),
    /// A verb on one process, for the engine.
    Command {
        /// The process.
        id: ProcId,
        /// The verb.
        command: ProcessCommand,
        /// Returned with the outcome.
        ticket: u64,
    },
}

/// What a worker sends about itself and the program. The variants are those of [`ToKeeper`].
#[derive(Debug)]
pub(in crate::keeper) enum SessionMessage {
    Mode(Mode),
    Hello {
        version: u32,
        settings: Box<KeeperSettings>,
        opening: Box<Opening>,
        input: Option<Validated>,
    },
    ReadUp {
        fd: i32,
        bytes: Vec<u8>,
    },
    Failed {
        message: String,
    },
    Bye {
        code: u8,
        signal: Option<i32>,
    },
}

/// What a worker requests of the running instance. The variants are those of [`ToKeeper`].
#[derive(Debug)]
pub(in crate::keeper) enum WorkerRequest {
    /// With a ticket, the keeper answers with [`ToWorker::Accepted`].
    Launch {
        request: Validated,
        ticket: Option<u64>,
    },
    Forget(ProcId),
    Remember(WorkerState),
    Ready,
    Hold {
        address: Address,
        file: Option<FileId>,
        descriptor: Option<OwnedFd>,
    },
    Listening {
        on: Vec<Address>,
        missing: Vec<MissingListener>,
    },
}

/// From the keeper.
#[derive(Serialize, Deserialize)]
pub enum ToWorker {
    /// The answer to [`ToKeeper::Hello`].
    Welcome {
        /// The keeper's pid, and its parent's.
        pid: u32,
        /// The pid of whoever launched it.
        ppid: u32,
        /// When it started.
        start: TimePoint,
        /// Whether this worker is the first.
        first: bool,
        /// What the last worker has left.
        memory: WorkerState,
        /// Every process that has not been forgotten, in the order of launch.
        records: Vec<ProcessEntry>,
        /// The instance's directory, where the worker's socket is made; none from a keeper that does not tell.
        #[serde(default, with = "path_bytes::optional")]
        dir: Option<PathBuf>,
    },
    /// The other answer: there is no going on.
    Refused {
        /// Why, for the user.
        message: String,
    },
    /// A process has started.
    Started(Box<Started>),
    /// A process has ended.
    Ended(Box<Ended>),
    /// The outcome of a signal.
    Signaled {
        /// The process.
        id: ProcId,
        /// As given.
        ticket: u64,
        /// The OS error number, if it failed.
        errno: Option<i32>,
    },
    /// The keeper has got a signal.
    Order(ShutdownCommand),
    /// A process that was to be forgotten is: no later worker hears of it, nor a later keeper.
    Forgotten(ProcId),
    /// Of a process that is being stopped, some could not be signaled.
    StopFailed {
        /// The process.
        id: ProcId,
        /// Those that were not reported before.
        failures: Vec<StopFailure>,
    },
    /// The answer to [`ToKeeper::LaunchAcknowledged`], and to nothing else.
    Accepted {
        /// As given.
        ticket: u64,
        /// What the keeper has done.
        acceptance: Acceptance,
    },
}

/// What a keeper has done with a request to start processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Acceptance {
    /// It starts them, and the journal holds them: whatever dies now, they are not lost.
    Journaled,
    /// It starts them, and the journal cannot be written: only a keeper that dies loses them.
    NotJournaled,
    /// It starts nothing, because one of the processes is there already.
    InUse,
}

/// What the engine tells, borrowed: as the [`ToWorker`] of the same name when encoded, and as the journal's
/// [`JournalEntry`](super::JournalEntry) of it.
#[derive(Serialize)]
#[expect(missing_docs, reason = "as in ToWorker")]
pub enum EventRef<'a> {
    Started(&'a Started),
    Ended(&'a Ended),
    Signaled { id: &'a ProcId, ticket: u64, errno: Option<i32> },
    StopFailed { id: &'a ProcId, failures: &'a [StopFailure] },
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn verbs_on_a_process_cross_in_frames_of_their_own() {
        let order = StopOrder { signum: Some(2), ..StopOrder::default() };
        for (command, name) in
            [(ProcessCommand::Signal(15), "Signal"), (ProcessCommand::Stop(order), "Stop")]
        {
            let message = ToKeeper::process("a".into(), command, 7);
            assert!(format!("{message:?}").starts_with(name), "{message:?}");
            let Sorted::Command { id, command: sorted, ticket } = message.sort() else {
                panic!("{name} is no command");
            };
            assert_eq!((id, sorted, ticket), ("a".into(), command, 7));
        }
    }

    #[test]
    fn frames_of_verbs_keep_their_bytes() {
        let order = StopOrder { signum: Some(2), grace: Some(Duration::new(1, 5)), shutdown: true };
        for (command, wanted) in [
            (ProcessCommand::Signal(15), &b"\x81\xa6Signal\x93\xa1a\x0f\x07"[..]),
            (ProcessCommand::Stop(order), b"\x81\xa4Stop\x93\xa1a\x93\x02\x92\x01\x05\xc3\x07"),
        ] {
            let message = ToKeeper::process("a".into(), command, 7);
            assert_eq!(rmp_serde::to_vec(&message).unwrap(), wanted);
        }
        assert_eq!(rmp_serde::to_vec(&ToKeeper::Ready).unwrap(), b"\xa5Ready");
    }

    #[test]
    fn a_launch_is_answered_only_if_it_has_a_ticket() {
        let empty = || Validated {
            procs: Default::default(),
            pipes: 0,
            all_or_nothing: false,
            idempotent: false,
        };
        for (message, wanted) in [
            (ToKeeper::Launch(empty()), None),
            (ToKeeper::LaunchAcknowledged { request: empty(), ticket: 3 }, Some(3)),
        ] {
            let sorted = message.sort();
            let Sorted::Request(WorkerRequest::Launch { ticket, .. }) = sorted else {
                panic!("{sorted:?} is no launch");
            };
            assert_eq!(ticket, wanted);
        }
    }
}
