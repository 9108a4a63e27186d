//! Capabilities of the kernel, by name or number.

use std::fmt;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The names by number, as in capabilities(7), without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// A capability, by name (`"CAP_NET_RAW"`, `"net_raw"`) or by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

impl Capability {
    /// The highest number that the kernel's sets have room for.
    pub const MAX: u8 = 63;

    /// The capability of this number, or `None` if the number is above [`MAX`](Self::MAX).
    pub fn from_number(number: u64) -> Option<Capability> {
        u8::try_from(number).ok().filter(|number| *number <= Self::MAX).map(Capability)
    }

    /// The capability of this name, with or without `CAP_`, in upper or lower case.
    pub fn from_name(name: &str) -> Option<Capability> {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let number = NAMES.iter().position(|known| *known == bare)?;
        Capability::from_number(number as u64)
    }

    /// Its bit in a set of capabilities.
    pub fn bit(self) -> u64 {
        1 << self.0
    }
}

impl fmt::Display for Capability {
    /// The name, or the number of a capability without a known name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0)) {
            Some(name) => write!(f, "CAP_{name}"),
            None => self.0.fmt(f),
        }
    }
}

impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if usize::from(self.0) < NAMES.len() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u8(self.0)
        }
    }
}

/// The error of an unknown capability.
fn unknown(given: impl fmt::Display) -> String {
    format!(
        "unknown capability {given}: expected a name such as CAP_NET_RAW, or a number from 0 to {}",
        Capability::MAX
    )
}

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CapabilityVisitor;
        impl Visitor<'_> for CapabilityVisitor {
            type Value = Capability;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an integer")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Capability, E> {
                Capability::from_number(number).ok_or_else(|| E::custom(unknown(number)))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Capability, E> {
                u64::try_from(number)
                    .map_err(|_| E::custom(unknown(number)))
                    .and_then(|number| self.visit_u64(number))
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Capability, E> {
                Capability::from_name(name).ok_or_else(|| E::custom(unknown(format!("{name:?}"))))
            }
        }
        deserializer.deserialize_any(CapabilityVisitor)
    }
}
