//! The scheduler's messages, parsed from their raw bytes.

use std::{borrow::Cow, fmt};

use super::scan::{ScanError, Scanner, Token};

/// The most characters of the scheduler's text that an error repeats.
const QUOTE: usize = 64;

/// The most values and keys that the specs of a request may have, as over HTTP: the smallest value
/// takes a hundred times its message size in memory.
const MAX_VALUES: usize = 1_000_000;

/// MessagePack's `true`.
const TRUE: u8 = 0xc3;

/// A parsed message.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed<'a> {
    /// Not one MessagePack map, or a map without a `type`: it gets no answer. The reason is for the
    /// log.
    NotAMessage(&'static str),
    /// The scheduler accepted the registration.
    Registered,
    /// A valid request.
    Request(Request<'a>),
    /// A message of an unknown type, or an invalid request:
    /// [`request_error`](super::outgoing::request_error) answers it, with the original message.
    Bad {
        /// The error, which names the key.
        err: String,
    },
}

/// A request of the scheduler. Unknown keys are ignored; a duplicate key is an error.
#[derive(Clone, Debug, PartialEq)]
pub enum Request<'a> {
    /// Start processes.
    Start {
        /// The value of `specs`, as MessagePack of which only the end was determined.
        specs: &'a [u8],
        /// How to start them.
        options: StartOptions,
    },
    /// List the proc IDs.
    ProcidList,
    /// Send a process's result.
    Result {
        /// The process.
        proc_id: String,
    },
    /// Send a process a signal.
    Signal {
        /// The process.
        proc_id: String,
        /// The signal's number; any number.
        signum: i32,
    },
    /// Send a range of a captured fd.
    FdData {
        /// The process.
        proc_id: String,
        /// The fd, as in the request.
        fd: Fd,
        /// Offset of the first byte; 0 by default.
        start: u64,
        /// Offset behind the last byte; `None` means the end, for null or a missing key.
        stop: Option<u64>,
    },
    /// Delete a process.
    Delete {
        /// The process.
        proc_id: String,
    },
}

/// How to start the processes of one request. Each field is false by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartOptions {
    /// Whether all are stopped if one cannot be started.
    pub all_or_nothing: bool,
    /// Whether a process that exists already with the same spec counts as started.
    pub idempotent: bool,
}

/// An fd as a request names it. The answer repeats it in the same form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fd {
    /// `stdout`, or a number as a string.
    Name(String),
    /// A number.
    Number(u64),
}

impl Fd {
    /// The name as a string: the key in results, except for the numbers of the standard fds.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Name(name) => Cow::Borrowed(name),
            Self::Number(number) => Cow::Owned(number.to_string()),
        }
    }
}

impl fmt::Display for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

/// Parses a message. Takes time in proportion to its length, and memory only for the few strings of
/// the request.
#[must_use]
pub fn parse(msg: &[u8]) -> Parsed<'_> {
    let fields = match Fields::collect(msg) {
        Ok(fields) => fields,
        Err(reason) => return Parsed::NotAMessage(reason),
    };
    if fields.kind == Field::Missing {
        return Parsed::NotAMessage("message has no type");
    }
    match fields.message() {
        Ok(parsed) => parsed,
        Err(err) => Parsed::Bad { err },
    }
}

/// Rejects binary data in specs, which serde would accept as text.
fn texts(specs: &[u8]) -> Result<&[u8], String> {
    let mut scanner = Scanner::new(specs);
    let mut values = 0;
    while !scanner.at_end() {
        values += 1;
        if values > MAX_VALUES {
            return Err(format!(
                "specs: more than {MAX_VALUES} values and keys in one request: split it into several requests"
            ));
        }
        // The scanner has already read it once, so it contains no error.
        if let Ok(token @ (Token::Bin | Token::Ext)) = scanner.token() {
            return Err(format!("specs: {} where text is expected", token.kind()));
        }
    }
    Ok(specs)
}

/// The value of a known key.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Field<'a> {
    #[default]
    Missing,
    Once(&'a [u8]),
    Twice,
}

/// The values of all known keys of a message, whatever its type.
#[derive(Debug, Default)]
struct Fields<'a> {
    kind: Field<'a>,
    specs: Field<'a>,
    all_or_nothing: Field<'a>,
    idempotent: Field<'a>,
    proc_id: Field<'a>,
    signum: Field<'a>,
    fd: Field<'a>,
    start: Field<'a>,
    stop: Field<'a>,
}

impl<'a> Fields<'a> {
    fn collect(msg: &'a [u8]) -> Result<Self, &'static str> {
        const BROKEN: fn(ScanError) -> &'static str = |err| match err {
            ScanError::Truncated => "message is cut short",
            ScanError::Reserved => "message is no messagepack",
        };
        let mut scanner = Scanner::new(msg);
        let Token::Map(len) = scanner.token().map_err(BROKEN)? else {
            return Err("message is no map");
        };
        let mut fields = Self::default();
        for _ in 0..len {
            let key = scanner.value().map_err(BROKEN)?;
            let value = scanner.value().map_err(BROKEN)?;
            if let Ok(Token::Str(key)) = Scanner::new(key).token()
                && let Some(field) = fields.field(key)
            {
                *field = match field {
                    Field::Missing => Field::Once(value),
                    _ => Field::Twice,
                };
            }
        }
        if scanner.at_end() { Ok(fields) } else { Err("message has bytes behind its map") }
    }

    fn field(&mut self, key: &[u8]) -> Option<&mut Field<'a>> {
        Some(match key {
            b"type" => &mut self.kind,
            b"specs" => &mut self.specs,
            b"all_or_nothing" => &mut self.all_or_nothing,
            b"idempotent" => &mut self.idempotent,
            b"proc_id" => &mut self.proc_id,
            b"signum" => &mut self.signum,
            b"fd" => &mut self.fd,
            b"start" => &mut self.start,
            b"stop" => &mut self.stop,
            _ => return None,
        })
    }

    fn message(&self) -> Result<Parsed<'a>, String> {
        let kind = string("type", self.kind)?;
        let request = match kind {
            "Registered" => return Ok(Parsed::Registered),
            "ProcStartRequest" => Request::Start {
                specs: texts(required("specs", self.specs)?)?,
                options: StartOptions {
                    all_or_nothing: flag("all_or_nothing", self.all_or_nothing)?,
                    idempotent: flag("idempotent", self.idempotent)?,
                },
            },
            "ProcidListRequest" => Request::ProcidList,
            "ProcResultRequest" => Request::Result { proc_id: self.proc_id()? },
            "ProcSignalRequest" => {
                Request::Signal { proc_id: self.proc_id()?, signum: self.signum()? }
            }
            "ProcFdDataRequest" => Request::FdData {
                proc_id: self.proc_id()?,
                fd: fd(self.fd)?,
                start: offset("start", self.start)?.unwrap_or(0),
                stop: offset("stop", self.stop)?,
            },
            "ProcDeleteRequest" => Request::Delete { proc_id: self.proc_id()? },
            unknown => {
                let name: String = unknown.chars().take(QUOTE).collect();
                return Err(format!("unknown message type: {name}"));
            }
        };
        Ok(Parsed::Request(request))
    }

    fn proc_id(&self) -> Result<String, String> {
        string("proc_id", self.proc_id).map(str::to_owned)
    }

    fn signum(&self) -> Result<i32, String> {
        match token("signum", self.signum)? {
            Token::Int(int) => {
                i32::try_from(int).map_err(|_| format!("signum is no signal number: {int}"))
            }
            other => Err(wrong("signum", "an integer", other)),
        }
    }
}

fn wrong(key: &str, expected: &str, found: Token<'_>) -> String {
    format!("{key} must be {expected}, not {}", found.kind())
}

fn required<'a>(key: &str, field: Field<'a>) -> Result<&'a [u8], String> {
    match field {
        Field::Missing => Err(format!("missing key: {key}")),
        Field::Twice => Err(format!("key {key:?} given twice; remove one of them")),
        Field::Once(value) => Ok(value),
    }
}

fn token<'a>(key: &str, field: Field<'a>) -> Result<Token<'a>, String> {
    Scanner::new(required(key, field)?).token().map_err(|err| format!("{key}: {err}"))
}

fn string<'a>(key: &str, field: Field<'a>) -> Result<&'a str, String> {
    match token(key, field)? {
        Token::Str(bytes) => {
            std::str::from_utf8(bytes).map_err(|_| format!("{key} is no valid utf-8"))
        }
        other => Err(wrong(key, "a string", other)),
    }
}

/// A boolean; false if it is missing.
fn flag(key: &str, field: Field<'_>) -> Result<bool, String> {
    if field == Field::Missing {
        return Ok(false);
    }
    match token(key, field)? {
        Token::Bool => Ok(required(key, field)? == [TRUE]),
        other => Err(wrong(key, "a boolean", other)),
    }
}

fn fd(field: Field<'_>) -> Result<Fd, String> {
    match token("fd", field)? {
        Token::Int(int) => {
            u64::try_from(int).map(Fd::Number).map_err(|_| format!("fd is negative: {int}"))
        }
        Token::Str(_) => string("fd", field).map(|name| Fd::Name(name.to_owned())),
        other => Err(wrong("fd", "a string or an integer", other)),
    }
}

/// A byte offset; `None` if it is null or missing.
fn offset(key: &str, field: Field<'_>) -> Result<Option<u64>, String> {
    if field == Field::Missing {
        return Ok(None);
    }
    match token(key, field)? {
        Token::Nil => Ok(None),
        Token::Int(int) => {
            u64::try_from(int).map(Some).map_err(|_| format!("{key} is negative: {int}"))
        }
        other => Err(wrong(key, "an integer", other)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn pack(value: &Value) -> Vec<u8> {
        rmp_serde::to_vec(value).unwrap()
    }

    fn bad(value: &Value) -> String {
        match parse(&pack(value)) {
            Parsed::Bad { err } => err,
            other => panic!("{other:?}"),
        }
    }

    fn start(specs: &[u8], all_or_nothing: bool, idempotent: bool) -> Request<'_> {
        Request::Start { specs, options: StartOptions { all_or_nothing, idempotent } }
    }

    #[test]
    fn requests_of_the_python_package_are_parsed() {
        let specs = json!({"a": {"argv": ["/bin/true"]}});
        let msg = pack(&json!({"type": "ProcStartRequest", "specs": specs}));
        assert_eq!(parse(&msg), Parsed::Request(start(&pack(&specs), false, false)));
        let msg = pack(
            &json!({"type": "ProcStartRequest", "specs": specs, "idempotent": true, "all_or_nothing": false}),
        );
        assert_eq!(parse(&msg), Parsed::Request(start(&pack(&specs), false, true)));
        let msg =
            pack(&json!({"type": "ProcStartRequest", "all_or_nothing": true, "specs": specs}));
        assert_eq!(parse(&msg), Parsed::Request(start(&pack(&specs), true, false)));
        let proc_id = || "a".to_owned();
        for (msg, expected) in [
            (json!({"type": "ProcidListRequest"}), Request::ProcidList),
            (
                json!({"type": "ProcResultRequest", "proc_id": "a"}),
                Request::Result { proc_id: proc_id() },
            ),
            (
                json!({"type": "ProcSignalRequest", "proc_id": "a", "signum": 15}),
                Request::Signal { proc_id: proc_id(), signum: 15 },
            ),
            (
                json!({"type": "ProcFdDataRequest", "proc_id": "a", "fd": "stdout", "start": 5_000_000_000u64, "stop": null}),
                Request::FdData {
                    proc_id: proc_id(),
                    fd: Fd::Name("stdout".into()),
                    start: 5_000_000_000,
                    stop: None,
                },
            ),
            (
                json!({"fd": 3, "stop": 9, "proc_id": "a", "new": [1], "type": "ProcFdDataRequest"}),
                Request::FdData { proc_id: proc_id(), fd: Fd::Number(3), start: 0, stop: Some(9) },
            ),
            (
                json!({"type": "ProcDeleteRequest", "proc_id": "a"}),
                Request::Delete { proc_id: proc_id() },
            ),
        ] {
            assert_eq!(parse(&pack(&msg)), Parsed::Request(expected));
        }
        assert_eq!(parse(&pack(&json!({"type": "Registered"}))), Parsed::Registered);
    }

    #[test]
    fn errors_name_their_cause() {
        let signal =
            |signum: Value| json!({"type": "ProcSignalRequest", "proc_id": "a", "signum": signum});
        let data = |key: &str, value: Value| json!({"type": "ProcFdDataRequest", "proc_id": "a", "fd": "stdout", key: value});
        for (msg, err) in [
            (json!({"type": "ProcStartRequest"}), "missing key: specs"),
            (json!({"type": "ProcResultRequest"}), "missing key: proc_id"),
            (
                json!({"type": "ProcResultRequest", "proc_id": 3}),
                "proc_id must be a string, not an integer",
            ),
            (json!({"type": "ProcSignalRequest", "proc_id": "a"}), "missing key: signum"),
            (signal(json!("TERM")), "signum must be an integer, not a string"),
            (signal(json!(1u64 << 40)), "signum is no signal number: 1099511627776"),
            (json!({"type": "ProcFdDataRequest", "proc_id": "a"}), "missing key: fd"),
            (data("fd", json!(-1)), "fd is negative: -1"),
            (data("fd", json!(null)), "fd must be a string or an integer, not null"),
            (data("start", json!(-1)), "start is negative: -1"),
            (data("start", json!(1.5)), "start must be an integer, not a float"),
            (data("stop", json!([])), "stop must be an integer, not an array"),
            (json!({"type": 3}), "type must be a string, not an integer"),
            (json!({"type": "Nonsense"}), "unknown message type: Nonsense"),
        ] {
            assert_eq!(bad(&msg), err);
        }
        let long = bad(&json!({"type": "\u{e9}".repeat(1000)}));
        assert_eq!(long.chars().count(), "unknown message type: ".len() + QUOTE);
    }

    #[test]
    fn a_duplicate_key_is_an_error() {
        let twice = b"\x83\xa4type\xb1ProcDeleteRequest\xa7proc_id\xa1a\xa7proc_id\xa1b";
        assert_eq!(
            parse(twice),
            Parsed::Bad { err: "key \"proc_id\" given twice; remove one of them".into() }
        );
        let twice = b"\x82\xa4type\xaaRegistered\xa4type\xaaRegistered";
        assert_eq!(
            parse(twice),
            Parsed::Bad { err: "key \"type\" given twice; remove one of them".into() }
        );
    }

    #[test]
    fn strings_must_be_utf8() {
        assert_eq!(
            parse(b"\x82\xa4type\xb1ProcDeleteRequest\xa7proc_id\xa1\xff"),
            Parsed::Bad { err: "proc_id is no valid utf-8".into() }
        );
        assert_eq!(
            parse(b"\x81\xa4type\xa1\xff"),
            Parsed::Bad { err: "type is no valid utf-8".into() }
        );
    }

    #[test]
    fn malformed_messages_get_no_answer() {
        let good = pack(&json!({"type": "ProcidListRequest"}));
        let trailing = [&good[..], &[0xc0]].concat();
        let deep = [vec![0x81, 0xa1, b'a'], vec![0x91; 10_000]].concat();
        for msg in [
            &b""[..],
            b"\xc0",
            b"\x93\x01\x02\x03",
            b"hello",
            b"\x80",
            &pack(&json!({"typ": 1})),
            b"\xdf\xff\xff\xff\xff",
            b"\xc1",
            &trailing,
            &deep,
        ] {
            assert!(matches!(parse(msg), Parsed::NotAMessage(_)), "{msg:?}");
        }
        for cut in 0..good.len() {
            assert!(matches!(parse(&good[..cut]), Parsed::NotAMessage(_)));
        }
    }

    #[test]
    fn binary_data_in_specs_is_refused() {
        // {"type": "ProcStartRequest", "specs": {"a": {"argv": [bin "x"]}}}
        let mut msg = vec![0x82, 0xa4];
        msg.extend_from_slice(b"type");
        msg.push(0xb0);
        msg.extend_from_slice(b"ProcStartRequest");
        msg.push(0xa5);
        msg.extend_from_slice(b"specs");
        msg.extend_from_slice(b"\x81\xa1a\x81\xa4argv\x91\xc4\x01x");
        let Parsed::Bad { err } = parse(&msg) else { panic!("{:?}", parse(&msg)) };
        assert_eq!(err, "specs: binary where text is expected");
    }

    #[test]
    fn deeply_nested_specs_are_accepted() {
        let specs = [vec![0x91; 10_000], vec![0xc0]].concat();
        let msg = [&b"\x82\xa4type\xb0ProcStartRequest\xa5specs"[..], &specs].concat();
        assert_eq!(parse(&msg), Parsed::Request(start(&specs, false, false)));
    }

    #[test]
    fn keys_that_are_not_strings_are_ignored() {
        let msg = b"\x84\x01\x02\x91\xc0\x03\xc0\xc0\xa4type\xb1ProcidListRequest";
        assert_eq!(parse(msg), Parsed::Request(Request::ProcidList));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_not_a_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_request_with_any_byte_changed_is_an_answer(at: prop::sample::Index, byte: u8) {
            let mut msg = pack(&json!({
                "type": "ProcFdDataRequest", "proc_id": "a", "fd": "stdout", "start": 70_000, "stop": null,
            }));
            let at = at.index(msg.len());
            msg[at] = byte;
            let _ = parse(&msg);
        }
    }
}
