//! The environment of a process, as serde reads and writes it.

use std::fmt;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::unique_keys::unique_keys;

/// The environment of a process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct EnvSpec {
    /// Variables to inherit from procstar's environment; its secrets are never inherited. Null means
    /// all variables; for a process of another user, only those that reveal nothing about procstar's
    /// user: `LANG`, `LC_*`, `PATH` and `TZ`.
    pub inherit: Option<Inherit>,
    /// Variables to set, or, with null, to remove. They override inherited ones.
    #[serde(deserialize_with = "unique_keys")]
    pub vars: IndexMap<String, VarSpec>,
    /// Whether results contain the whole environment of the process's start, with secret values
    /// masked.
    pub in_result: bool,
}

/// A change to a variable.
#[derive(Clone, Debug, PartialEq)]
pub enum VarSpec {
    /// `null`: it is removed.
    Unset,
    /// A string: its value.
    Text(String),
    /// An object: a value or a file, with options.
    Detailed(VarValue),
}

/// A variable's value with options; exactly one of `value` and `file` is given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct VarValue {
    /// The value.
    pub value: Option<String>,
    /// The file with the value; one newline at its end is removed. Read when the process is started.
    pub file: Option<String>,
    /// Whether the value is masked in all results and messages.
    pub secret: bool,
}

impl Serialize for VarSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            VarSpec::Unset => serializer.serialize_none(),
            VarSpec::Text(text) => serializer.serialize_str(text),
            VarSpec::Detailed(value) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for VarSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Whether structs are written as arrays.
        struct VarVisitor(bool);
        impl<'de> Visitor<'de> for VarVisitor {
            type Value = VarSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, null, or an object with value or file")
            }

            fn visit_unit<E: de::Error>(self) -> Result<VarSpec, E> {
                Ok(VarSpec::Unset)
            }

            fn visit_none<E: de::Error>(self) -> Result<VarSpec, E> {
                Ok(VarSpec::Unset)
            }

            fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<VarSpec, D::Error> {
                VarSpec::deserialize(value)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<VarSpec, E> {
                Ok(VarSpec::Text(text.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, seq: A) -> Result<VarSpec, A::Error> {
                if !self.0 {
                    return Err(de::Error::invalid_type(de::Unexpected::Seq, &self));
                }
                // Messages between our processes omit the names of fields: a struct is an array.
                VarValue::deserialize(de::value::SeqAccessDeserializer::new(seq))
                    .map(VarSpec::Detailed)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<VarSpec, A::Error> {
                VarValue::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(VarSpec::Detailed)
            }
        }
        let compact = !deserializer.is_human_readable();
        deserializer.deserialize_any(VarVisitor(compact))
    }
}

/// Which of procstar's variables a process inherits: `true`, `false` or names.
#[derive(Clone, Debug, PartialEq)]
pub enum Inherit {
    /// All, except procstar's secrets.
    All,
    /// None.
    None,
    /// The named ones, if they exist.
    Names(Vec<String>),
}

/// The variables that a process of another user inherits by default, in addition to all that begin
/// with `LC_`: see locale(7).
pub const INHERITED_BY_OTHERS: [&str; 16] = [
    "LANG",
    "LC_ADDRESS",
    "LC_ALL",
    "LC_COLLATE",
    "LC_CTYPE",
    "LC_IDENTIFICATION",
    "LC_MEASUREMENT",
    "LC_MESSAGES",
    "LC_MONETARY",
    "LC_NAME",
    "LC_NUMERIC",
    "LC_PAPER",
    "LC_TELEPHONE",
    "LC_TIME",
    "PATH",
    "TZ",
];
const LOCALE: &[u8] = b"LC_";

/// Whether a process of another user inherits this variable by default, because it reveals nothing
/// about our own user.
pub fn is_inherited_by_others(name: &[u8]) -> bool {
    name.starts_with(LOCALE) || INHERITED_BY_OTHERS.iter().any(|other| other.as_bytes() == name)
}

impl Serialize for Inherit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Inherit::All => serializer.serialize_bool(true),
            Inherit::None => serializer.serialize_bool(false),
            Inherit::Names(names) => names.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Inherit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InheritVisitor;
        impl<'de> Visitor<'de> for InheritVisitor {
            type Value = Inherit;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or an array of variable names")
            }

            fn visit_bool<E: de::Error>(self, all: bool) -> Result<Inherit, E> {
                Ok(if all { Inherit::All } else { Inherit::None })
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Inherit, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = seq.next_element()? {
                    names.push(name);
                }
                Ok(Inherit::Names(names))
            }
        }
        deserializer.deserialize_any(InheritVisitor)
    }
}

super::object::only_objects!(EnvSpec, VarValue);
