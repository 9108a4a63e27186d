//! The values of `procstar run`'s options.

use std::str::FromStr;

use crate::signal::signal_number;
use crate::spec::{Account, Bound, LimitPair, Resource, SignalRef};

/// `NAME=VALUE`, or `NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    /// Has this value.
    Set(String, String),
    /// Is passed on, where we have it.
    Inherit(String),
}

impl FromStr for Variable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some(("", _)) | None if text.starts_with('=') || text.is_empty() => {
                Err("a variable needs a name: NAME=VALUE, or NAME".to_owned())
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
            _ => Err("a label is NAME=VALUE".to_owned()),
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
            .ok_or("a limit is RESOURCE=N, or RESOURCE=SOFT:HARD; N may be `unlimited`")?;
        let resource = Resource::try_from(name.to_owned())?;
        let (soft, hard) = value.split_once(':').unwrap_or((value, value));
        Ok(Bounds(resource, LimitPair { soft: bound(soft)?, hard: bound(hard)? }))
    }
}

fn bound(text: &str) -> Result<Bound, String> {
    match text {
        "unlimited" => Ok(Bound::Unlimited),
        number => number
            .parse()
            .map(Bound::Value)
            .map_err(|_| format!("{text:?} is no limit: expected a number or `unlimited`")),
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
            Err(format!("{text} is no user or group number"))
        }
        Err(_) => Ok(Account::Name(text.to_owned())),
    }
}

/// A signal, by name or by number.
pub(super) fn signal(text: &str) -> Result<SignalRef, String> {
    let number = text.parse().ok().or_else(|| signal_number(text));
    number.and_then(SignalRef::from_number).ok_or_else(|| {
        format!(
            "{text:?} is no signal: expected a name, such as INT or SIGINT, or a number, 1 to 64"
        )
    })
}
