//! The values of options.

use std::str::FromStr;

use crate::signal::{signal_number, unknown};
use crate::spec::{Account, LimitPair, Resource, SignalRef};

/// `NAME=VALUE`, or `NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    /// Set to this value.
    Set(String, String),
    /// Inherited under this name, if it is set.
    Inherit(String),
}

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("", _)) | None if text.starts_with('=') || text.is_empty() => {
                Err(format!("invalid variable {text:?}: expected NAME=VALUE or NAME"))
            }
            Some((name, value)) => Ok(Variable::Set(name.to_owned(), value.to_owned())),
            None => Ok(Variable::Inherit(text.to_owned())),
        }
    }
}

/// `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label(pub(super) String, pub(super) String);

impl FromStr for Label {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Label(name.to_owned(), value.to_owned())),
            _ => Err(format!("invalid label {text:?}: expected KEY=VALUE")),
        }
    }
}

/// `RESOURCE=N`, or `RESOURCE=SOFT:HARD`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bounds(pub(super) Resource, pub(super) LimitPair);

impl FromStr for Bounds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| format!("invalid limit {text:?}: expected RESOURCE=N or RESOURCE=SOFT:HARD; N is a number, a size such as 64M, or `unlimited`"))?;
        let resource = Resource::try_from(name.to_owned())?;
        let (soft, hard) = value.split_once(':').unwrap_or((value, value));
        Ok(Bounds(resource, LimitPair { soft: soft.parse()?, hard: hard.parse()? }))
    }
}

/// A user or a group.
pub(super) fn account(text: &str) -> Result<Account, String> {
    if text.is_empty() {
        return Err("expected a name or a number".to_owned());
    }
    // As in specs: a name is never all digits.
    match text.parse::<u32>() {
        Ok(id) => Ok(Account::Id(id)),
        Err(_) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(format!("invalid user or group number {text}: expected 0 to 4294967294"))
        }
        Err(_) => Ok(Account::Name(text.to_owned())),
    }
}

/// A signal, by name or by number.
pub(super) fn signal(text: &str) -> Result<SignalRef, String> {
    let number = text.parse().ok().or_else(|| signal_number(text));
    number.and_then(SignalRef::from_number).ok_or_else(|| unknown(text))
}
