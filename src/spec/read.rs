//! Reads and validates a request in JSON or MessagePack; the errors of a refused request come from
//! [`diagnose_within`] and [`diagnose_msgpack`].

use super::diagnose::{BUDGET, UNLIMITED, diagnose_msgpack, diagnose_within};
use super::locate::locate;
use super::parse::{parse, parse_msgpack, utf8};
use super::{SpecError, SpecErrors, SpecPath, StartRequest, Validated};

/// So many errors get their line and column. Each is searched for from the start of the text, so
/// that a text of a hundred thousand errors would take hours; the others still have their place.
const LOCATED: usize = 50;

/// Reads and validates a whole request from JSON.
///
/// # Errors
/// Everything that is wrong with the request, in the order of the text, each with its line and column: up to 100 errors, and then one
/// that says so. If the text is not JSON, where it ceases to be.
pub fn diagnose(text: &[u8]) -> Result<Validated, SpecErrors> {
    let text = utf8(text)?;
    from_valid_json(text).map_err(|first| diagnose_within(text, first, UNLIMITED))
}

/// Reads and validates a whole request from JSON.
///
/// # Errors
/// As of [`diagnose`], but bounded in what it costs: of a large text, or one that is wrong in very many places, the errors that were
/// found by then, the last one of which says so.
pub fn from_json(text: &[u8]) -> Result<Validated, SpecErrors> {
    let text = utf8(text)?;
    from_valid_json(text).map_err(|first| diagnose_within(text, first, BUDGET))
}

/// The same where not all that is wrong is needed: it takes no longer than to read a valid request.
///
/// # Errors
/// The first value that is of the wrong kind; or all that is invalid, the first ones with line and
/// column.
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

/// Whether a text has no more values than a request may have, found out before any of them takes
/// room. A text that is no JSON may pass.
///
/// # Errors
/// That there are more.
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
            let message = format!("more than {most} values and keys in one request: split it");
            return Err(SpecError::new(SpecPath::default(), message));
        }
    }
    Ok(())
}

/// Reads and validates the value of the key `specs` from MessagePack; what else a request may have
/// at its top comes beside it.
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
