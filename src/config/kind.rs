//! The kinds of values: one check for files, variables and flags.

use std::ffi::OsStr;
use std::fmt;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use toml::de::{DeInteger, DeValue};

use crate::config::{host, strength};
use crate::quantity::{ByteSize, Seconds};

/// The shortest interval: a shorter one would only keep a processor busy.
const MIN_PERIOD: f64 = 0.001;

/// The kinds of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One of the names of [`super::LogLevel`].
    Level,
    /// One of the names of [`super::LogFormat`].
    Format,
    /// True or false.
    Switch,
    /// Any string.
    Text,
    /// A string that is not empty and holds no control character.
    Name,
    /// The name or address of a host to connect to.
    Host,
    /// A path that is not empty and holds no NUL.
    Path,
    /// One or several paths or globs: in a file also an array, in a variable joined by colons.
    Globs,
    /// One or several absolute paths, given like [`Kind::Globs`].
    Directories,
    /// One or several names of environment variables, given like [`Kind::Globs`].
    Variables,
    /// A duration, zero included: a number of seconds or a text such as `1h30m`.
    Seconds,
    /// The duration of an interval or of silence: not zero.
    Period,
    /// A factor, finite and at least 1.
    Factor,
    /// An integer, at least 1.
    Count,
    /// A size: a number of bytes or a text such as `64M`.
    Bytes,
    /// A size of at least one byte.
    Size,
    /// A TCP port to connect to: not 0.
    Port,
    /// A TCP port to listen on: 0 lets the kernel choose.
    ListenPort,
    /// An IP address.
    Address,
    /// The agent's secret, which may be empty.
    AgentToken,
    /// The HTTP service's secret: a weak one would admit everybody.
    HttpToken,
}

/// A value that its [`Kind`] has admitted. It has no `Debug`: it may be a secret.
#[derive(Clone, PartialEq)]
pub enum Scalar {
    /// Of [`Kind::Switch`].
    Switch(bool),
    /// Of counts and ports.
    Integer(u64),
    /// Of times, in seconds, and factors.
    Number(f64),
    /// Of names, texts and tokens.
    Text(String),
    /// Of paths; need not be UTF-8.
    Path(PathBuf),
    /// Of [`Kind::Globs`], [`Kind::Directories`] and [`Kind::Variables`]; not empty.
    Paths(Vec<PathBuf>),
}

/// A value as a file or a text gives it.
#[derive(Clone, Copy)]
enum Raw<'a> {
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(&'a str),
    Other(&'static str),
}

impl fmt::Display for Raw<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Raw::Bool(value) => write!(f, "{value}"),
            Raw::Integer(value) => write!(f, "{value}"),
            Raw::Float(value) => write!(f, "{value:?}"),
            Raw::Text(value) => write!(f, "{value:?}"),
            Raw::Other(what) => f.write_str(what),
        }
    }
}

impl Raw<'_> {
    /// The type alone, for secret values.
    fn type_name(&self) -> &'static str {
        match self {
            Raw::Bool(_) => "a boolean",
            Raw::Integer(_) => "an integer",
            Raw::Float(_) => "a number",
            Raw::Text("") => "an empty string",
            Raw::Text(_) => "another string",
            Raw::Other(what) => what,
        }
    }
}

impl Kind {
    /// The description of valid values, for messages: "expected ...".
    pub fn expected(self) -> &'static str {
        match self {
            Kind::Level => "one of trace, debug, info, warn, error",
            Kind::Format => "one of auto, text, json",
            Kind::Switch => "true or false",
            Kind::Text => "a string",
            Kind::Name => "a string that is not empty and has no control characters",
            Kind::Host => "a host name or an IP address",
            Kind::Path => "a path",
            Kind::Globs => "a path or a glob, or an array of them that is not empty",
            Kind::Directories => "an absolute path, or an array of them that is not empty",
            Kind::Variables => "a variable's name, or an array of them that is not empty",
            Kind::Seconds => "a duration from 0 to 1e10 seconds, such as 90, 500ms or 1h30m",
            Kind::Period => "a duration from 0.001 to 1e10 seconds, such as 90, 500ms or 1h30m",
            Kind::Factor => "a number that is at least 1",
            Kind::Count => "an integer that is at least 1",
            Kind::Bytes => "a size, such as 1048576, 64M or 1GiB",
            Kind::Size => "a size of at least 1 byte, such as 1048576, 64M or 1GiB",
            Kind::Port => "a port from 1 to 65535",
            Kind::ListenPort => "a port from 0 to 65535",
            Kind::Address => "an IP address",
            Kind::AgentToken => "a string",
            Kind::HttpToken => {
                "a token of at least 128 random bits, such as `openssl rand -base64 24` prints"
            }
        }
    }

    /// Whether the value must never be shown.
    pub fn is_secret(self) -> bool {
        matches!(self, Kind::AgentToken | Kind::HttpToken)
    }

    /// Whether there can be several values.
    fn is_list(self) -> bool {
        matches!(self, Kind::Globs | Kind::Directories | Kind::Variables)
    }

    /// One of the values of a kind that can have several.
    fn element(self, text: &OsStr) -> Option<PathBuf> {
        match self {
            Kind::Directories => path(text).filter(|path| path.is_absolute()),
            Kind::Variables => {
                path(text).filter(|_| text.to_str().is_some_and(|name| !name.contains('=')))
            }
            _ => glob(text),
        }
    }

    /// Reads a variable's or a flag's text.
    ///
    /// # Errors
    /// A text for the user: the expected value, and the one found unless that is a secret.
    pub fn read_text(self, text: &OsStr) -> Result<Scalar, String> {
        // A path is bytes to the kernel: the only kind that need not be UTF-8.
        let refused = || format!("expected {}, found {text:?}", self.expected());
        match self {
            Kind::Path => return path(text).map(Scalar::Path).ok_or_else(refused),
            Kind::Globs | Kind::Directories | Kind::Variables => {
                let parts = text.as_bytes().split(|b| *b == b':').map(OsStr::from_bytes);
                return parts
                    .map(|part| self.element(part))
                    .collect::<Option<_>>()
                    .map(Scalar::Paths)
                    .ok_or_else(refused);
            }
            _ => {}
        }
        let text = text.to_str().ok_or_else(|| "is not valid UTF-8".to_owned())?;
        // The text in its original spelling: `1e99`, not a hundred digits.
        self.convert(&self.raw(text)).ok_or_else(|| self.refusal(&Raw::Text(text)))
    }

    /// Reads a file's value.
    ///
    /// # Errors
    /// As [`Kind::read_text`].
    pub fn read_toml(self, value: &DeValue<'_>) -> Result<Scalar, String> {
        let raw = match value {
            DeValue::String(text) => Raw::Text(text),
            DeValue::Boolean(value) => Raw::Bool(*value),
            DeValue::Integer(value) => integer(value).map_or(Raw::Other("a number"), Raw::Integer),
            DeValue::Float(value) => {
                value.as_str().parse().map_or(Raw::Other("a number"), Raw::Float)
            }
            DeValue::Datetime(_) => Raw::Other("a date or time"),
            DeValue::Array(parts) if self.is_list() && !parts.is_empty() => {
                let elements = parts.iter().map(|part| match part.get_ref() {
                    DeValue::String(text) => self.element(OsStr::new(text.as_ref())),
                    _ => None,
                });
                let elements = elements.collect::<Option<_>>().map(Scalar::Paths);
                return elements.ok_or_else(|| self.refusal(&Raw::Other("an array")));
            }
            DeValue::Array(_) => Raw::Other("an array"),
            DeValue::Table(_) => Raw::Other("a table"),
        };
        self.convert(&raw).ok_or_else(|| self.refusal(&raw))
    }

    /// Converts a text to the type that this kind needs, or keeps the text if that fails.
    fn raw(self, text: &str) -> Raw<'_> {
        match self {
            Kind::Switch => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" | "1" => Raw::Bool(true),
                "false" | "no" | "off" | "0" => Raw::Bool(false),
                _ => Raw::Text(text),
            },
            Kind::Count | Kind::Bytes | Kind::Size | Kind::Port | Kind::ListenPort => {
                text.parse().map_or(Raw::Text(text), Raw::Integer)
            }
            Kind::Seconds | Kind::Period | Kind::Factor => {
                text.parse().map_or(Raw::Text(text), Raw::Float)
            }
            _ => Raw::Text(text),
        }
    }

    fn refusal(self, found: &Raw<'_>) -> String {
        let expected = self.expected();
        if self.is_secret() {
            let strength = match (self, found) {
                (Kind::HttpToken, Raw::Text(text)) if !text.is_empty() => {
                    format!(" of {} bits at most", strength::bits(text))
                }
                _ => String::new(),
            };
            format!("expected {expected}, found {}{strength}", found.type_name())
        } else {
            let remedy = match (self, found) {
                (Kind::Host, Raw::Text(text)) => host::remedy(text),
                _ => String::new(),
            };
            format!("expected {expected}, found {found}{remedy}")
        }
    }

    fn convert(self, raw: &Raw<'_>) -> Option<Scalar> {
        match self {
            Kind::Level => one_of(raw, &["trace", "debug", "info", "warn", "error"]),
            Kind::Format => one_of(raw, &["auto", "text", "json"]),
            Kind::Switch => match raw {
                Raw::Bool(value) => Some(Scalar::Switch(*value)),
                _ => None,
            },
            Kind::Text | Kind::AgentToken => string(raw, |_| true),
            Kind::Name => string(raw, |s| !s.is_empty() && !s.contains(char::is_control)),
            Kind::HttpToken => string(raw, |s| strength::bits(s) >= strength::LEAST),
            Kind::Host => string(raw, host::is_host),
            Kind::Address => string(raw, |s| s.parse::<IpAddr>().is_ok()),
            Kind::Path => match raw {
                Raw::Text(text) => path(OsStr::new(text)).map(Scalar::Path),
                _ => None,
            },
            Kind::Globs | Kind::Directories | Kind::Variables => match raw {
                // A file's text is one: it has an array for several.
                Raw::Text(text) => {
                    self.element(OsStr::new(text)).map(|one| Scalar::Paths(vec![one]))
                }
                _ => None,
            },
            Kind::Seconds => number(&seconds(raw), 0.0, Seconds::MAX),
            Kind::Period => number(&seconds(raw), MIN_PERIOD, Seconds::MAX),
            Kind::Factor => number(raw, 1.0, f64::MAX),
            Kind::Count => whole(raw, 1, u64::MAX),
            Kind::Bytes => whole(&size(raw), 0, u64::MAX),
            Kind::Size => whole(&size(raw), 1, u64::MAX),
            Kind::Port => whole(raw, 1, u16::MAX.into()),
            Kind::ListenPort => whole(raw, 0, u16::MAX.into()),
        }
    }
}

fn path(text: &OsStr) -> Option<PathBuf> {
    (!text.is_empty() && !text.as_bytes().contains(&0)).then(|| text.into())
}

/// A path, or a glob that can be one.
fn glob(text: &OsStr) -> Option<PathBuf> {
    path(text).filter(|_| text.to_str().is_none_or(|text| glob::Pattern::new(text).is_ok()))
}

/// The parser hands out digits and radix, so that it need not choose a width.
fn integer(value: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(value.as_str(), value.radix()).ok()
}

fn one_of(raw: &Raw<'_>, names: &[&str]) -> Option<Scalar> {
    let Raw::Text(text) = raw else { return None };
    let name = names.iter().find(|name| name.eq_ignore_ascii_case(text))?;
    Some(Scalar::Text((*name).to_owned()))
}

fn string(raw: &Raw<'_>, allowed: impl Fn(&str) -> bool) -> Option<Scalar> {
    match raw {
        Raw::Text(text) if allowed(text) => Some(Scalar::Text((*text).to_owned())),
        _ => None,
    }
}

/// The number of seconds of a text with units; any other value unchanged.
fn seconds<'a>(raw: &Raw<'a>) -> Raw<'a> {
    match raw {
        Raw::Text(text) => text.parse().map_or(*raw, |seconds: Seconds| Raw::Float(seconds.get())),
        other => *other,
    }
}

/// The number of bytes of a text with a unit; any other value unchanged.
fn size<'a>(raw: &Raw<'a>) -> Raw<'a> {
    match raw {
        Raw::Text(text) => text.parse().map_or(*raw, |ByteSize(bytes)| Raw::Integer(bytes.into())),
        other => *other,
    }
}

/// NaN is in no range, and the ranges' ends are finite.
fn number(raw: &Raw<'_>, min: f64, max: f64) -> Option<Scalar> {
    let number = match raw {
        Raw::Integer(value) => *value as f64,
        Raw::Float(value) => *value,
        _ => return None,
    };
    // Adding zero turns -0, which is in the range, into 0.
    (min..=max).contains(&number).then_some(Scalar::Number(number + 0.0))
}

fn whole(raw: &Raw<'_>, min: u64, max: u64) -> Option<Scalar> {
    let Raw::Integer(value) = raw else { return None };
    let value = u64::try_from(*value).ok()?;
    (min..=max).contains(&value).then_some(Scalar::Integer(value))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn read(kind: Kind, text: &str) -> Result<Scalar, String> {
        kind.read_text(OsStr::new(text))
    }

    /// One line for each kind: valid values, and invalid ones.
    #[test]
    fn kinds_take_and_refuse() {
        let table: &[(Kind, &[&str], &[&str])] = &[
            (Kind::Level, &["trace", "WARN", "error"], &["", "warning", " warn"]),
            (Kind::Format, &["auto", "text", "json"], &["", "xml"]),
            (Kind::Switch, &["true", "0", "Off", "yes"], &["", "2", "maybe"]),
            (Kind::Text, &["", "é\n"], &[]),
            (Kind::Name, &["é", "a b"], &["", "a\n"]),
            (Kind::Host, &["h", "::1", "*"], &["", "wss://h", "h:1", "a b", "h/"]),
            (Kind::Path, &["/", "a b"], &["", "a\0"]),
            (Kind::Globs, &["/", "/a/*:/b", "/a/[b-d]/**"], &["", ":", "/a:", "/a/["]),
            (Kind::Directories, &["/", "/a:/b"], &["", "a", "/a:b", "/a:"]),
            (Kind::Variables, &["LD_LIBRARY_PATH", "A:B"], &["", "A=b", "A:"]),
            (
                Kind::Seconds,
                &["0", "-0", ".5", "1e10", "1s", "1h30m"],
                &["", "-1", "nan", "inf", "1e11", "5x"],
            ),
            (Kind::Period, &["0.001", "60", "5ms"], &["0", "1e-9", "nan", "-1"]),
            (Kind::Factor, &["1", "2.5"], &["0.99", "nan", "inf"]),
            (Kind::Count, &["1", "18446744073709551615"], &["0", "-1", "1.5", "1e30"]),
            (
                Kind::Bytes,
                &["0", "18446744073709551615", "64M"],
                &["-1", "1.5", "1e30", "5 apples"],
            ),
            (Kind::Size, &["1", "1GiB"], &["0", "0M", "-1"]),
            (Kind::Port, &["1", "65535"], &["0", "65536", "http"]),
            (Kind::ListenPort, &["0", "65535"], &["-1", "65536"]),
            (
                Kind::Address,
                &["127.0.0.1", "::", "2001:db8::1"],
                &["", "localhost", "1.2.3", "[::1]"],
            ),
            (Kind::AgentToken, &["", "x"], &[]),
            (Kind::HttpToken, &["8ePqYiqbZ4AnXB2hWx8WQg"], &["", "x", "correct horse"]),
        ];
        for (kind, good, bad) in table {
            for text in *good {
                assert!(read(*kind, text).is_ok(), "{kind:?} takes {text:?}");
            }
            for text in *bad {
                let error = read(*kind, text).err().unwrap_or_default();
                assert!(error.contains(kind.expected()), "{kind:?} refuses {text:?}: {error}");
                assert!(kind.is_secret() || error.contains(&format!("{text:?}")), "{error}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_admitted_time_is_a_duration(text in "-?[0-9]{0,12}(\\.[0-9]{0,3})?(e-?[0-9]{1,3})?") {
            for kind in [Kind::Seconds, Kind::Period] {
                if let Ok(Scalar::Number(seconds)) = read(kind, &text) {
                    let time = Duration::try_from_secs_f64(seconds).unwrap();
                    prop_assert!(kind == Kind::Seconds || !time.is_zero());
                    prop_assert!(std::time::Instant::now().checked_add(time).is_some());
                }
            }
        }

        #[test]
        fn paths_are_bytes(bytes in proptest::collection::vec(1u8.., 1..20)) {
            let text = OsString::from_vec(bytes);
            let path = Kind::Path.read_text(&text);
            prop_assert!(path == Ok(Scalar::Path(text.clone().into())));
            prop_assert_eq!(Kind::Text.read_text(&text).is_ok(), text.to_str().is_some());
        }
    }
}
