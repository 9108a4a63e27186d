//! The messages between keeper and worker.
//!
//! Both ends run the same program, except during an upgrade. So the first message contains
//! [`VERSION`], and the keeper refuses a worker with an unknown version.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{
    Estate, HoldingFrame, KeeperSettings, Opening, ProcessEntry, ShutdownCommand, WorkerState,
};
use crate::clock::TimePoint;
use crate::engine::{Ended, ProcessCommand, Started, StopFailure, StopOrder};
use crate::keeper::listeners::{Address, FileId, MissingListener};
use crate::keeper::meaning::Mode;
use crate::path_bytes;
use crate::spec::{ProcId, Validated};

/// The version of these messages. Every change of their meaning or form increases it.
pub const VERSION: u32 = 7;

/// Whether a worker of this version holds the descriptors of processes, and becomes the keeper if
/// that is killed.
pub(in crate::keeper) fn is_holder(version: u32) -> bool {
    version >= 7
}

/// Whether a keeper understands workers of this version. It sends messages newer than version 4
/// only to workers that ask for them.
pub(in crate::keeper) fn is_understood(version: u32) -> bool {
    (4..=VERSION).contains(&version)
}

/// From the worker.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToKeeper {
    /// The kind of run, which decides the meaning of signals. It may arrive before
    /// [`ToKeeper::Hello`]: the worker may wait long for INPUT.
    Mode(Mode),
    /// The introduction.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// The keeper uses only those of the first worker.
        settings: Box<KeeperSettings>,
        /// The keeper uses only that of the first worker.
        opening: Box<Opening>,
        /// INPUT's processes. The keeper starts only those of the first worker.
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
        /// Returned with the outcome.
        ticket: u64,
    },
    /// Delete an ended process. See [`Engine::forget`](crate::engine::Engine::forget).
    Forget(ProcId),
    /// Keep this state for the next worker, in place of the previous one.
    Remember(WorkerState),
    /// All work is done, and the program ends.
    Bye {
        /// The program's exit code.
        code: u8,
        /// The signal that ends the program instead of the exit code.
        #[serde(default)]
        signal: Option<i32>,
    },
    /// Stop a process. See [`ProcessCommand::Stop`].
    Stop {
        /// The process.
        id: ProcId,
        /// How.
        order: StopOrder,
        /// Returned with the outcome.
        ticket: u64,
    },
    /// The worker is ready, and its services listen.
    Ready,
    /// The worker cannot start, and is about to exit.
    Failed {
        /// Why, for the user.
        message: String,
    },
    /// The contents of a descriptor that can be read only once, for later workers. It arrives
    /// before [`ToKeeper::Hello`].
    ReadUp {
        /// The descriptor, which the program inherited at its launch.
        fd: i32,
        /// Its contents.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Hold this listener, for later workers. See [`listeners`](crate::keeper::listeners).
    Hold {
        /// Its address.
        address: Address,
        /// The file of a Unix socket.
        file: Option<FileId>,
        /// The socket itself, sent beside the frame as ancillary data.
        #[serde(skip)]
        descriptor: Option<OwnedFd>,
    },
    /// The worker listens on these addresses. The keeper closes all other listeners that it holds.
    Listening {
        /// The addresses.
        on: Vec<Address>,
        /// The addresses on which it failed to listen.
        missing: Vec<MissingListener>,
    },
    /// Start processes as with [`ToKeeper::Launch`], and answer with [`ToWorker::Accepted`]; since
    /// version 5.
    LaunchAcknowledged {
        /// The processes.
        request: Validated,
        /// Returned with the answer.
        ticket: u64,
    },
}

impl ToKeeper {
    /// The message that carries a verb on one process. With `sort`, this function is
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
        /// The keeper's pid.
        pid: u32,
        /// The pid of the keeper's parent.
        ppid: u32,
        /// The start time of the keeper.
        start: TimePoint,
        /// Whether this worker is the first.
        first: bool,
        /// The state that the previous worker sent with [`ToKeeper::Remember`].
        memory: WorkerState,
        /// Every process that is not deleted, in the order of launch.
        records: Vec<ProcessEntry>,
        /// The instance's directory, in which the worker creates its socket; `None` from older
        /// keepers.
        #[serde(default, with = "path_bytes::optional")]
        dir: Option<PathBuf>,
    },
    /// The keeper refuses the worker, which reports the reason and exits.
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
        /// The ticket of the signal or stop.
        ticket: u64,
        /// The OS error number, if it failed.
        errno: Option<i32>,
    },
    /// The keeper has received a signal.
    Order(ShutdownCommand),
    /// A process is deleted: no later worker or keeper knows it.
    Forgotten(ProcId),
    /// The stop of a process failed to signal some of its descendants.
    StopFailed {
        /// The process.
        id: ProcId,
        /// The failures that were not reported before.
        failures: Vec<StopFailure>,
    },
    /// The answer to [`ToKeeper::LaunchAcknowledged`], and to nothing else.
    Accepted {
        /// The ticket of the launch.
        ticket: u64,
        /// The outcome.
        acceptance: Acceptance,
    },
    /// What the worker needs to become the keeper, since version 7. The descriptors of the
    /// instance's locks cross beside it.
    Estate(Box<Estate>),
    /// The descriptors of a process, in place of earlier ones, since version 7. They cross beside
    /// it, in their order.
    Held(HoldingFrame),
    /// The descriptors of a process are not needed any more, since version 7.
    Released(ProcId),
}

/// The outcome of a request to start processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Acceptance {
    /// The keeper starts them, and the journal holds them: they survive any crash.
    Journaled,
    /// The keeper starts them, but cannot write the journal: a crash of the keeper loses them.
    NotJournaled,
    /// The keeper starts none, because one of the IDs is in use.
    InUse,
}

/// An event of the engine, borrowed. It encodes as the [`ToWorker`] and the
/// [`JournalEntry`](super::JournalEntry) of the same name.
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
    fn frames_of_a_second_holder_keep_their_bytes() {
        use crate::keeper::format::CaptureFrame;
        let captures =
            vec![CaptureFrame { index: 1, reader: true, writer: Some((7, true)), file: None }];
        let held = HoldingFrame { id: "a".into(), pidfd: Some(true), captures };
        for (message, wanted) in [
            (
                ToWorker::Held(held),
                &b"\x81\xa4Held\x93\xa1a\xc3\x91\x94\x01\xc3\x92\x07\xc3\xc0"[..],
            ),
            (ToWorker::Released("a".into()), b"\x81\xa8Released\xa1a"),
        ] {
            assert_eq!(rmp_serde::to_vec(&message).unwrap(), wanted);
        }
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
