//! From bytes to a [`StartRequest`], with the place of what is wrong.

use serde::Deserialize;
use serde_path_to_error::Segment as PathSegment;

use super::diagnose::{BUDGET, diagnose_msgpack, diagnose_within};
use super::locate::locate;
use super::{ProcSpec, Segment, SpecError, SpecErrors, SpecPath, StartRequest, Validated};

/// So many errors get their line and column. Each is searched for from the start of the text, so that a text of
/// a hundred thousand errors would take hours; the others still have their place.
const LOCATED: usize = 50;

/// Reads and validates a whole request from JSON.
///
/// # Errors
/// As of [`diagnose`](super::diagnose()), but bounded in what it costs: of a large text, or one that is wrong in very many places, the errors that were
/// found by then, the last one of which says so.
pub fn from_json(text: &[u8]) -> Result<Validated, SpecErrors> {
    let text = utf8(text)?;
    from_valid_json(text).map_err(|first| diagnose_within(text, first, BUDGET))
}

/// The same where not all that is wrong is needed: it takes no longer than to read a valid request.
///
/// # Errors
/// The first value that is of the wrong kind; or all that is invalid, the first ones with line and column.
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

/// Whether a text has no more values than a request may have, found out before any of them takes room. A text that is no JSON may pass.
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

/// The text without a byte order mark.
///
/// # Errors
/// That it is in another encoding.
pub(super) fn utf8(text: &[u8]) -> Result<&[u8], SpecError> {
    crate::text::utf8(text).map_err(|message| {
        let mut error = SpecError::new(SpecPath::default(), message);
        error.position = Some((1, 1));
        error
    })
}

/// Reads a whole request from JSON.
///
/// # Errors
/// The first value that does not fit.
pub(super) fn parse(text: &[u8]) -> Result<StartRequest, SpecError> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let mut track = serde_path_to_error::Track::new();
    <StartRequest as Deserialize>::deserialize(serde_path_to_error::Deserializer::new(
        &mut deserializer,
        &mut track,
    ))
    .and_then(|request| deserializer.end().map(|()| request))
    .map_err(|error| {
        let mut found = SpecError::new(place(&track.path()), json_message(&error));
        found.position = (error.line() > 0).then(|| (error.line(), error.column()));
        found
    })
}

/// Reads and validates the value of the key `specs` from MessagePack; what else a request may have at its top comes beside it.
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

fn parse_msgpack(specs: &[u8]) -> Result<SpecMap, SpecError> {
    /// Gives the value under `specs` the same shape and checks as the whole request.
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Specs(#[serde(deserialize_with = "super::types::processes")] SpecMap);

    let mut deserializer = rmp_serde::Deserializer::from_read_ref(specs);
    let mut track = serde_path_to_error::Track::new();
    let Specs(specs) =
        Specs::deserialize(serde_path_to_error::Deserializer::new(&mut deserializer, &mut track))
            .map_err(|error| {
            let inner = place(&track.path());
            let place = std::iter::once(Segment::Key("specs".into()))
                .chain(inner.segments().iter().cloned())
                .collect();
            SpecError::new(place, error.to_string())
        })?;
    Ok(specs)
}

type SpecMap = indexmap::IndexMap<super::ProcId, ProcSpec>;

/// serde_json's message, less the position at its end, which is given apart.
fn json_message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text.get(..at).unwrap_or(&text).to_owned(),
        None => text,
    }
}

fn place(path: &serde_path_to_error::Path) -> SpecPath {
    path.iter()
        .filter_map(|segment| match segment {
            PathSegment::Seq { index } => Some(Segment::Index(*index)),
            PathSegment::Map { key } => Some(Segment::Key(key.clone())),
            PathSegment::Enum { variant } => Some(Segment::Key(variant.clone())),
            PathSegment::Unknown => None,
        })
        .collect()
}
