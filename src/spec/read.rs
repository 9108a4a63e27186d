//! Reads and validates a request in JSON or MessagePack. The errors of an invalid request come from
//! [`diagnose_within`] and [`diagnose_msgpack`].

use super::diagnose::{BUDGET, UNLIMITED, diagnose_msgpack, diagnose_within};
use super::locate::locate;
use super::parse::{parse, parse_msgpack, utf8};
use super::{SpecError, SpecErrors, SpecPath, StartRequest, Validated};

/// Maximum number of errors with line and column. Each search begins at the start of the text, so a
/// text with a hundred thousand errors would take hours. Further errors have only their path.
const LOCATED: usize = 50;

/// Reads and validates a whole request from JSON.
///
/// # Errors
/// All errors of the request, in the order of the text, each with its line and column: up to 100, and
/// then one that reports the limit. If the text is not JSON, the syntax error with its position.
pub fn diagnose(text: &[u8]) -> Result<Validated, SpecErrors> {
    let text = utf8(text)?;
    from_valid_json(text).map_err(|first| diagnose_within(text, first, UNLIMITED))
}

/// Reads and validates a whole request from JSON.
///
/// # Errors
/// Those of [`diagnose`], but with bounded time: for a large text, or one with very many errors, the
/// search stops early, and the last error reports this.
pub fn from_json(text: &[u8]) -> Result<Validated, SpecErrors> {
    let text = utf8(text)?;
    from_valid_json(text).map_err(|first| diagnose_within(text, first, BUDGET))
}

/// Reads and validates a whole request from JSON, without searching for all errors: it takes no longer
/// than reading a valid request.
///
/// # Errors
/// The first value of a wrong type; or all invalid values, the first ones with line and column.
pub fn from_valid_json(text: &[u8]) -> Result<Validated, SpecErrors> {
    let text = utf8(text)?;
    check_values(text)?;
    parse(text)?.validate().map_err(|mut errors| {
        for error in errors.0.iter_mut().take(LOCATED) {
            error.position = locate(text, error.place.segments());
        }
        errors
    })
}

/// Checks the number of values in a text before any of them takes memory. A text that is not JSON may
/// pass.
///
/// # Errors
/// There are more values than a request may have.
fn check_values(text: &[u8]) -> Result<(), SpecError> {
    let mut values = 1;
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => loop {
                match bytes.next() {
                    Some(b'\\') => drop(bytes.next()),
                    Some(b'"') | None => break,
                    Some(_) => {}
                }
            },
            b',' | b':' | b'[' | b'{' => values += 1,
            _ => {}
        }
        if values > StartRequest::MAX_VALUES {
            let most = StartRequest::MAX_VALUES;
            let message = format!(
                "more than {most} values and keys in one request: split it into several requests"
            );
            return Err(SpecError::new(SpecPath::default(), message));
        }
    }
    Ok(())
}

/// Reads and validates the value of the key `specs` from MessagePack. The other keys of a request are
/// arguments.
///
/// # Errors
/// As [`from_json`], without positions.
pub fn from_msgpack(
    specs: &[u8],
    all_or_nothing: bool,
    idempotent: bool,
) -> Result<Validated, SpecErrors> {
    let request = parse_msgpack(specs).map_err(SpecErrors::from);
    let valid =
        request.and_then(|specs| StartRequest { specs, all_or_nothing, idempotent }.validate());
    valid.map_err(|first| diagnose_msgpack(specs, first))
}
