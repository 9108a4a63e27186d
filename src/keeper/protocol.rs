//! What keeper and agent say to each other, and how it is framed.
//!
//! A frame is the length of its body, four bytes with the highest first, and the body: MessagePack. Both ends are of the same program
//! but for the moment of an upgrade, so the first message bears [`VERSION`], and an end that does not know the other's says so.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::ser::SerializeStruct as _;
use serde::{Deserialize, Serialize, Serializer};

use super::listeners::{Address, FileId, MissingListener};
use super::meaning::Mode;
use super::process_table::ProcessEntry;
use crate::config::{LogLevel, LogSettings};
use crate::engine::{Allowlist, Ended, Restriction, Started, StopFailure, StopOrder, TimePoint};
use crate::page_key::PageKey;
use crate::path_bytes;
use crate::spec::{LimitSpec, ProcId, Validated};

/// The version of these messages. It changes with every change of their meaning or form.
pub const VERSION: u32 = 4;

/// The largest frame: 1 GiB, as of a message from the server.
pub const MAX_FRAME: usize = 1 << 30;

/// What the keeper has to know of the settings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeeperSettings {
    /// The lasting directory of the instance; none for one that goes with it.
    #[serde(with = "path_bytes::optional")]
    pub state_dir: Option<PathBuf>,
    /// Where directories of instances are made otherwise.
    #[serde(with = "path_bytes")]
    pub base_dir: PathBuf,
    /// Names the instance, where the user has given one.
    pub conn_id: Option<String>,
    /// How long after a process's end a survivor may still hold its captures.
    pub drain_grace: Duration,
    /// How long a child's set-up may take before the process is reported as running.
    pub setup_patience: Duration,
    /// What specs are restricted to.
    #[serde(with = "allowed")]
    pub restrict_exe: Allowed,
    /// How to log.
    pub log: LogSettings,
    /// What every process is limited to.
    #[serde(default, skip_serializing_if = "ProcessLimits::is_none", rename = "limit")]
    pub limits: ProcessLimits,
}

/// What every process is limited to, sizes in bytes; none: not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessLimits {
    /// How many of the first bytes are kept of captures whose spec sets no limit.
    pub head: Option<u64>,
    /// How many of the last.
    pub tail: Option<u64>,
    /// The largest file that a process may make.
    pub max_file_size: Option<u64>,
    /// Whether processes of other users may gain privileges by executing.
    pub gain_privileges: bool,
}

impl ProcessLimits {
    fn is_none(&self) -> bool {
        *self == ProcessLimits::default()
    }

    /// Of captures whose spec sets none.
    pub(super) fn of_captures(&self) -> LimitSpec {
        LimitSpec { head: self.head, tail: self.tail }
    }
}

/// What specs are restricted to, as it crosses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// The executables that may be started, paths and globs; none: any, and then the rest does not matter.
    pub executables: Vec<String>,
    /// Variables that are passed on all the same.
    pub variables: Vec<String>,
    /// Directories below which specs may name files.
    #[serde(with = "path_bytes::list")]
    pub directories: Vec<PathBuf>,
}

impl Allowed {
    /// The restriction; none where every executable may be started.
    ///
    /// # Errors
    /// What is wrong with a glob, for the user.
    pub fn restriction(&self) -> Result<Option<Restriction>, String> {
        if self.executables.is_empty() {
            return Ok(None);
        }
        let restriction = Restriction::new(Allowlist::new(self.executables.clone())?)
            .allow_variables(self.variables.clone())
            .allow_directories(self.directories.clone());
        Ok(Some(restriction))
    }
}

/// What the keeper has to know only to open the instance's directories, of the first agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Where the registry may be, the best place first.
    #[serde(with = "path_bytes::list")]
    pub places: Vec<PathBuf>,
    /// Whether [`KeeperSettings::base_dir`] was chosen, so that no other will do.
    pub captures_chosen: bool,
    /// Whether the agent will have a socket that commands can ask at.
    pub serves: bool,
}

/// [`Allowed`] in the form that held one executable at most: nothing, a text, several, or all of it.
mod allowed {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Allowed;

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum AllowedForm {
        One(String),
        More(Vec<String>),
        All(Allowed),
    }

    pub(super) fn serialize<S: Serializer>(allowed: &Allowed, to: S) -> Result<S::Ok, S::Error> {
        let Allowed { executables, variables, directories } = allowed;
        match executables.as_slice() {
            _ if !(variables.is_empty() && directories.is_empty()) => allowed.serialize(to),
            [] => to.serialize_none(),
            [one] => to.serialize_some(one),
            more => more.serialize(to),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Allowed, D::Error> {
        let only = |executables| Allowed { executables, ..Allowed::default() };
        Ok(match Option::<AllowedForm>::deserialize(from)? {
            None => Allowed::default(),
            Some(AllowedForm::One(one)) => only(vec![one]),
            Some(AllowedForm::More(more)) => only(more),
            Some(AllowedForm::All(all)) => all,
        })
    }
}

/// From the agent.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToKeeper {
    /// The kind of run, which decides what signals mean. It may come before [`ToKeeper::Hello`]: the agent may wait long for INPUT.
    Mode(Mode),
    /// The introduction.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// Taken from the first agent alone.
        settings: Box<KeeperSettings>,
        /// As well.
        opening: Box<Opening>,
        /// INPUT's processes, started for the first agent alone.
        input: Option<Validated>,
    },
    /// Start processes. See [`Engine::launch`](crate::engine::Engine::launch).
    Launch(Validated),
    /// Send a signal. See [`Engine::signal`](crate::engine::Engine::signal).
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
    /// Keep this for the next agent; it replaces what was kept before.
    Remember(AgentState),
    /// The end: everything is done.
    Bye {
        /// The program's exit code.
        code: u8,
        /// The signal that the program is to end by instead.
        #[serde(default)]
        signal: Option<i32>,
    },
    /// Stop a process. See [`Engine::stop`](crate::engine::Engine::stop).
    Stop {
        /// The process.
        id: ProcId,
        /// How.
        order: StopOrder,
        /// Comes back, as that of a signal.
        ticket: u64,
    },
    /// The agent is ready: its services listen.
    Ready,
    /// The agent is about to end, for it cannot start.
    Failed {
        /// Why, for the user.
        message: String,
    },
    /// What the agent has read of a descriptor that can be read only once, for later agents. It comes before [`ToKeeper::Hello`].
    ReadUp {
        /// The descriptor, of those that the program was started with.
        fd: i32,
        /// All that there was.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// Hold this listener, for later agents. See [`listeners`](super::listeners).
    Hold {
        /// What it listens on.
        address: Address,
        /// The file of a Unix socket.
        file: Option<FileId>,
        /// The socket itself, which does not cross in the frame but beside it.
        #[serde(skip)]
        descriptor: Option<OwnedFd>,
    },
    /// What the agent listens on: of the listeners that the keeper holds, it closes the others.
    Listening {
        /// The addresses.
        on: Vec<Address>,
        /// What it should listen on, and does not.
        missing: Vec<MissingListener>,
    },
}

impl ToKeeper {
    /// Whether it may come before the introduction.
    pub(super) fn may_come_first(&self) -> bool {
        matches!(
            self,
            ToKeeper::Mode(_)
                | ToKeeper::ReadUp { .. }
                | ToKeeper::Hello { .. }
                | ToKeeper::Failed { .. }
                | ToKeeper::Bye { .. }
        )
    }
}

/// What an agent leaves to the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct AgentState {
    /// The connection ID.
    pub conn_id: Option<String>,
    /// The orders of shutdown given so far, in their order.
    pub orders: Vec<ShutdownCommand>,
    /// Whether there ever was a process.
    pub any: bool,
    /// When each of `orders` was given: nanoseconds of the monotonic clock. Shorter where an older program noted some.
    #[serde(default)]
    pub given: Vec<u64>,
    /// How far the printing of results has come.
    #[serde(default)]
    pub printing: Printing,
    /// The level of the log that was set while the program ran; none: as configured.
    #[serde(default)]
    pub log_level: Option<LogLevel>,
    /// The key of the page's sessions. It is not kept over a keeper's end: meanwhile anybody can have the service's port.
    #[serde(default)]
    pub page_key: Option<PageKey>,
}

/// Its last values are left out where there are none, as programs wrote it that knew fewer.
impl Serialize for AgentState {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let AgentState { conn_id, orders, any, given, printing, log_level, page_key } = self;
        let more = match (log_level, page_key) {
            (_, Some(_)) => 2,
            (Some(_), None) => 1,
            (None, None) => 0,
        };
        let mut written = to.serialize_struct("Memory", 5 + more)?;
        written.serialize_field("conn_id", conn_id)?;
        written.serialize_field("orders", orders)?;
        written.serialize_field("any", any)?;
        written.serialize_field("given", given)?;
        written.serialize_field("printing", printing)?;
        if more > 0 {
            written.serialize_field("log_level", log_level)?;
        }
        if more > 1 {
            written.serialize_field("page_key", page_key)?;
        }
        written.end()
    }
}

impl AgentState {
    /// Notes an order that is given now; one that was given before stays as it is.
    pub fn note(&mut self, order: ShutdownCommand) {
        if !self.orders.contains(&order) {
            self.orders.push(order);
            // An order without a time, of an older program, has none after it either.
            if self.given.len() + 1 == self.orders.len() {
                self.given.push(TimePoint::now().monotonic_nanos);
            }
        }
    }

    /// The orders, each with how long ago it was given.
    pub fn orders_by_age(&self) -> impl Iterator<Item = (ShutdownCommand, Duration)> {
        let now = TimePoint::now().monotonic_nanos;
        let times = self.given.iter().copied().chain(std::iter::repeat(now));
        let age = move |given| Duration::from_nanos(now.saturating_sub(given));
        self.orders.iter().copied().zip(times).map(move |(order, given)| (order, age(given)))
    }
}

/// How far the printing of results to standard output has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Printing {
    /// Nothing has been printed.
    #[default]
    NotBegun,
    /// Some of it may have been.
    Begun,
    /// All of it has been.
    Done,
}

/// An order that a signal gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShutdownCommand {
    /// SIGTERM, and what means the same; see [`meaning`](super::meaning).
    Terminate,
    /// SIGQUIT.
    Kill,
    /// SIGUSR1.
    Idle,
    /// The server is given up.
    GiveUp,
    /// SIGINT. It orders what [`ShutdownCommand::Terminate`] does, and is kept as that; whoever runs one process in the foreground passes the signal
    /// itself on.
    Interrupt,
}

impl ShutdownCommand {
    /// The order as it is kept: older programs know no other.
    pub fn kept(self) -> ShutdownCommand {
        if self == ShutdownCommand::Interrupt { ShutdownCommand::Terminate } else { self }
    }
}

/// From the keeper.
#[derive(Serialize, Deserialize)]
pub enum ToAgent {
    /// The answer to [`ToKeeper::Hello`].
    Welcome {
        /// The keeper's pid, and its parent's.
        pid: u32,
        /// The pid of whoever launched it.
        ppid: u32,
        /// When it started.
        start: TimePoint,
        /// Whether this agent is the first.
        first: bool,
        /// What the last agent has left.
        memory: AgentState,
        /// Every process that has not been forgotten, in the order of launch.
        records: Vec<ProcessEntry>,
        /// The instance's directory, where the agent's socket is made; none from a keeper that does not tell.
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
    /// A process that was to be forgotten is: no later agent hears of it, nor a later keeper.
    Forgotten(ProcId),
    /// Of a process that is being stopped, some could not be signaled.
    StopFailed {
        /// The process.
        id: ProcId,
        /// Those that were not reported before.
        failures: Vec<StopFailure>,
    },
}

/// What the engine tells, borrowed: as the [`ToAgent`] of the same name when encoded, and as the journal's
/// [`JournalEntry`](super::journal::JournalEntry) of it.
#[derive(Serialize)]
#[expect(missing_docs, reason = "as in ToAgent")]
pub enum EventRef<'a> {
    Started(&'a Started),
    Ended(&'a Ended),
    Signaled { id: &'a ProcId, ticket: u64, errno: Option<i32> },
    StopFailed { id: &'a ProcId, failures: &'a [StopFailure] },
}

/// A frame that is none.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It is larger than [`MAX_FRAME`].
    #[error("frame of {0} bytes is too large")]
    TooLarge(usize),
    /// Its body is no such message.
    #[error("frame is no message: {0}")]
    Body(#[from] rmp_serde::decode::Error),
}

/// Appends a message as a frame.
///
/// # Errors
/// Where it cannot be encoded or is too large; nothing is appended then.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> std::io::Result<()> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    let written = rmp_serde::encode::write(out, message).map_err(std::io::Error::other);
    let length = out.len() - at - 4;
    let header = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME);
    match (written, header, out.get_mut(at..at + 4)) {
        (Ok(()), Some(header), Some(place)) => {
            place.copy_from_slice(&header.to_be_bytes());
            Ok(())
        }
        (written, _, _) => {
            out.truncate(at);
            Err(written
                .err()
                .unwrap_or_else(|| std::io::Error::other(FrameError::TooLarge(length))))
        }
    }
}

/// How much room a decoder keeps.
const KEPT: usize = 64 * 1024;

/// Takes messages from bytes as they come.
#[derive(Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// How much of `bytes` has been taken.
    taken: usize,
}

impl Decoder {
    /// Adds what has come.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > KEPT || self.taken == self.bytes.len() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
            // The room of a large message is not kept.
            self.bytes.shrink_to(KEPT);
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, if the whole of it has come.
    ///
    /// # Errors
    /// What has come is no frame, or no message; nothing after it can be understood.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, FrameError> {
        let rest = self.bytes.get(self.taken..).unwrap_or_default();
        let Some((header, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*header) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLarge(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = rmp_serde::from_slice(body)?;
        self.taken += 4 + length;
        if self.is_empty() && self.bytes.capacity() > KEPT {
            // Given data may have been in it: that is to stay nowhere.
            *self = Decoder::default();
        }
        Ok(Some(message))
    }

    /// How many bytes have been taken as whole messages since the last [`push`](Self::push) that made room.
    pub fn is_empty(&self) -> bool {
        self.taken == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn messages() -> Vec<ToKeeper> {
        vec![
            ToKeeper::Signal { id: "a".into(), signum: 15, ticket: 7 },
            ToKeeper::Forget("b".into()),
            ToKeeper::Bye { code: 1, signal: Some(2) },
        ]
    }

    /// A restriction without more has the form that older programs know; with more, it comes back from either kind of MessagePack.
    #[test]
    fn restrictions_cross() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Holder(#[serde(with = "allowed")] Allowed, u8);
        let only = |executables: &[&str]| Allowed {
            executables: executables.iter().map(|exe| (*exe).to_owned()).collect(),
            ..Allowed::default()
        };
        let full = Allowed {
            variables: vec!["TMPDIR".into()],
            directories: vec!["/srv".into(), "/\u{e4}".into()],
            ..only(&["/bin/true"])
        };
        for allowed in [only(&[]), only(&["/a"]), only(&["/a", "/b/*"]), full] {
            let holder = Holder(allowed, 7);
            let compact = rmp_serde::to_vec(&holder).unwrap();
            let named = rmp_serde::to_vec_named(&holder).unwrap();
            assert_eq!(rmp_serde::from_slice::<Holder>(&compact).unwrap(), holder);
            assert_eq!(rmp_serde::from_slice::<Holder>(&named).unwrap(), holder);
        }
        let older = rmp_serde::to_vec(&("/a", 7)).unwrap();
        assert_eq!(rmp_serde::to_vec(&Holder(only(&["/a"]), 7)).unwrap(), older);
    }

    proptest! {
        /// However the bytes are cut, the same messages come.
        #[test]
        fn any_cut(sizes in prop::collection::vec(1usize..20, 1..40)) {
            let mut bytes = Vec::new();
            for message in messages() {
                encode(&message, &mut bytes).unwrap();
            }
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            let mut rest = bytes.as_slice();
            for size in sizes.into_iter().chain(std::iter::once(usize::MAX)) {
                let (piece, after) = rest.split_at(size.min(rest.len()));
                decoder.push(piece);
                rest = after;
                while let Some(message) = decoder.next_message::<ToKeeper>().unwrap() {
                    got.push(format!("{message:?}"));
                }
            }
            let wanted: Vec<_> = messages().iter().map(|m| format!("{m:?}")).collect();
            prop_assert_eq!(got, wanted);
            prop_assert!(decoder.is_empty());
        }

        #[test]
        fn any_bytes(bytes: Vec<u8>) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_message::<ToKeeper>() {}
        }
    }
}
