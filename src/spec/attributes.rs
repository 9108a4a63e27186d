//! The attributes of a process other than its program, environment and fds, as serde reads and
//! writes them.

use std::fmt;
use std::str::FromStr;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::quantity::{ByteSize, Seconds};
use crate::signal::{self, signal_name, signal_number};

/// A signal, by name (`"SIGTERM"`, `"TERM"`, `"SIGRTMIN+3"`) or by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SignalRef(i32);

impl SignalRef {
    /// Returns the signal of number `signum`, or `None` if that is not in 1 to 64.
    pub fn from_number(signum: i32) -> Option<Self> {
        signal_name(signum).map(|_| SignalRef(signum))
    }

    /// The signal's number, 1 to 64.
    pub fn number(self) -> i32 {
        self.0
    }
}

impl fmt::Display for SignalRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(signal_name(self.0).unwrap_or_default())
    }
}

impl Serialize for SignalRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SignalRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Text(name) => signal_number(&name)
                .map(SignalRef)
                .ok_or_else(|| de::Error::custom(signal::unknown(&name))),
            NumberOrText::Number(number) => i32::try_from(number)
                .ok()
                .and_then(SignalRef::from_number)
                .ok_or_else(|| de::Error::custom(signal::unknown(&number.to_string()))),
        }
    }
}

/// A user or a group, by name or by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// A name in the system's user database.
    Name(String),
    /// A number.
    Id(u32),
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Account::Name(name) => serializer.serialize_str(name),
            Account::Id(id) => serializer.serialize_u32(*id),
        }
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Text(name) => Ok(Account::Name(name)),
            NumberOrText::Number(number) => u32::try_from(number)
                .map(Account::Id)
                .map_err(|_| de::Error::custom(invalid_id(number))),
        }
    }
}

/// The error of a number that no user or group can have.
pub(super) fn invalid_id(number: impl fmt::Display) -> String {
    let most = u32::MAX - 1;
    format!("invalid user or group ID {number}: expected a number from 0 to {most}, or a name")
}

/// The error of a number that no limit can have.
fn invalid_limit(number: i64) -> String {
    format!("invalid limit {number}: expected 0 or more, or \"unlimited\"")
}

/// A limit of a resource, in the resource's own unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// A number in the unit of the resource.
    Value(u64),
    /// `"unlimited"`.
    Unlimited,
}

impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Bound::Value(value) => serializer.serialize_u64(*value),
            Bound::Unlimited => serializer.serialize_str("unlimited"),
        }
    }
}

impl FromStr for Bound {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unlimited" {
            return Ok(Bound::Unlimited);
        }
        text.parse().map(|ByteSize(size)| Bound::Value(size)).map_err(|_| {
            format!(
                "invalid limit {text:?}: expected a number, a size such as 64M, or \"unlimited\""
            )
        })
    }
}

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Text(text) => text.parse().map_err(de::Error::custom),
            NumberOrText::Number(number) => u64::try_from(number)
                .map(Bound::Value)
                .map_err(|_| de::Error::custom(invalid_limit(number))),
        }
    }
}

/// The limits of a resource: one value for both, or a soft and a hard one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitPair {
    /// The limit in effect, which the process can raise up to the hard one.
    pub soft: Bound,
    /// The maximum of the soft limit.
    pub hard: Bound,
}

impl Serialize for LimitPair {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.soft == self.hard {
            self.soft.serialize(serializer)
        } else {
            (self.soft, self.hard).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for LimitPair {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairVisitor;
        impl<'de> Visitor<'de> for PairVisitor {
            type Value = LimitPair;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, \"unlimited\", or an array of two of these, soft and hard")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<LimitPair, E> {
                Ok(LimitPair { soft: Bound::Value(value), hard: Bound::Value(value) })
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<LimitPair, E> {
                u64::try_from(value)
                    .map_err(|_| E::custom(invalid_limit(value)))
                    .and_then(|value| self.visit_u64(value))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<LimitPair, E> {
                let text = de::value::StrDeserializer::<E>::new(text);
                Bound::deserialize(text).map(|both| LimitPair { soft: both, hard: both })
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<LimitPair, A::Error> {
                let missing = |at| de::Error::invalid_length(at, &self);
                let soft = seq.next_element()?.ok_or_else(|| missing(0))?;
                let hard = seq.next_element()?.ok_or_else(|| missing(1))?;
                match seq.next_element::<de::IgnoredAny>()? {
                    None => Ok(LimitPair { soft, hard }),
                    Some(_) => Err(missing(3)),
                }
            }
        }
        deserializer.deserialize_any(PairVisitor)
    }
}

/// A resource of setrlimit(2), with its unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", try_from = "String")]
#[schemars(!try_from)]
pub enum Resource {
    /// Address space, bytes.
    As,
    /// Core dump, bytes.
    Core,
    /// CPU time, seconds.
    Cpu,
    /// Data segment, bytes.
    Data,
    /// Size of a file that the process writes, bytes.
    Fsize,
    /// File locks.
    Locks,
    /// Locked memory, bytes.
    Memlock,
    /// POSIX message queues, bytes.
    Msgqueue,
    /// 20 minus the lowest nice value.
    Nice,
    /// Open files.
    Nofile,
    /// Processes and threads of the user.
    Nproc,
    /// Resident memory, bytes; Linux ignores it.
    Rss,
    /// Real-time priority.
    Rtprio,
    /// CPU time of a real-time process without a system call, microseconds.
    Rttime,
    /// Queued signals of the user.
    Sigpending,
    /// Stack, bytes.
    Stack,
}

impl Resource {
    /// The names of all resources.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().map(|(name, _)| *name)
    }

    const ALL: [(&str, Resource); 16] = [
        ("as", Resource::As),
        ("core", Resource::Core),
        ("cpu", Resource::Cpu),
        ("data", Resource::Data),
        ("fsize", Resource::Fsize),
        ("locks", Resource::Locks),
        ("memlock", Resource::Memlock),
        ("msgqueue", Resource::Msgqueue),
        ("nice", Resource::Nice),
        ("nofile", Resource::Nofile),
        ("nproc", Resource::Nproc),
        ("rss", Resource::Rss),
        ("rtprio", Resource::Rtprio),
        ("rttime", Resource::Rttime),
        ("sigpending", Resource::Sigpending),
        ("stack", Resource::Stack),
    ];

    /// Its name in specs.
    pub fn name(self) -> &'static str {
        Resource::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.name(), f)
    }
}

/// From a string, so that the paths of errors in the value contain the name.
impl TryFrom<String> for Resource {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let found = Resource::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, resource)| *resource).ok_or_else(|| {
            let names: Vec<&str> = Resource::ALL.iter().map(|(name, _)| *name).collect();
            format!("unknown resource {name:?}: expected one of {}", names.join(", "))
        })
    }
}

/// Limits by resource, in the order of the spec.
pub type ResourceLimits = IndexMap<Resource, LimitPair>;

/// Scheduling of disk access, as with ionice(1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", deny_unknown_fields)]
pub struct IoPriority {
    /// The class.
    pub class: IoClass,
    /// From 0, the highest, to 7; by default 4. The idle class has no level.
    #[serde(default)]
    pub level: Option<u8>,
}

/// A class of disk access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IoClass {
    /// Always before other classes; only for privileged users.
    Realtime,
    /// The default class.
    BestEffort,
    /// Only while no other process uses the disk.
    Idle,
}

/// The dispositions and the mask of signals when the process starts. Signals that are not named have
/// their default disposition and are not blocked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct SignalsSpec {
    /// Signals to ignore.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore: Vec<SignalRef>,
    /// Signals with their default disposition, like all others that are not ignored; for clarity only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub default: Vec<SignalRef>,
    /// Signals to block: they remain pending until the process unblocks them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub block: Vec<SignalRef>,
}

/// How the process is stopped at its timeout, at the shutdown, or when a client requests it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct StopSpec {
    /// The first signal, which is sent to the whole process group.
    pub signal: SignalRef,
    /// The time after the signal after which the whole tree is killed.
    pub grace: Seconds,
}

impl StopSpec {
    /// The default signal.
    pub const SIGNAL: SignalRef = SignalRef(15);
    /// The default grace period.
    pub const GRACE: Seconds = Seconds::whole(10);
}

impl Default for StopSpec {
    fn default() -> Self {
        StopSpec { signal: StopSpec::SIGNAL, grace: StopSpec::GRACE }
    }
}

/// A number or a string.
enum NumberOrText {
    Number(i64),
    Text(String),
}

impl<'de> Deserialize<'de> for NumberOrText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EitherVisitor;
        impl Visitor<'_> for EitherVisitor {
            type Value = NumberOrText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an integer")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<NumberOrText, E> {
                Ok(NumberOrText::Number(number))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<NumberOrText, E> {
                i64::try_from(number).map(NumberOrText::Number).map_err(|_| {
                    E::custom(format!("{number} is too large: the highest is {}", i64::MAX))
                })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<NumberOrText, E> {
                Ok(NumberOrText::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(EitherVisitor)
    }
}

super::object::only_objects!(IoPriority, SignalsSpec, StopSpec);
