//! From bytes to a [`Request`], with the place of what is wrong.

use serde::Deserialize;
use serde_path_to_error::Segment as PathSegment;

use super::locate::locate;
use super::{Place, ProcSpec, Request, Segment, SpecError, SpecErrors, Validated};

/// So many errors get their line and column. Each is searched for from the start of the text, so that a text of
/// a hundred thousand errors would take hours; the others still have their place.
const LOCATED: usize = 50;

/// Reads and validates a whole request from JSON.
///
/// # Errors
/// Everything that is wrong with the request, the first ones with line and column; if the text is no JSON, or a value is of
/// the wrong kind, the first such error alone.
pub fn from_json(text: &[u8]) -> Result<Validated, SpecErrors> {
    parse(text)?.validate().map_err(|mut errors| {
        for error in errors.0.iter_mut().take(LOCATED) {
            error.position = locate(text, error.place.segments());
        }
        errors
    })
}

/// Reads a whole request from JSON.
///
/// # Errors
/// The first value that does not fit.
pub(super) fn parse(text: &[u8]) -> Result<Request, SpecError> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let mut track = serde_path_to_error::Track::new();
    <Request as Deserialize>::deserialize(serde_path_to_error::Deserializer::new(
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
    /// Gives the value under `specs` the same shape and checks as the whole request.
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Specs(#[serde(deserialize_with = "super::types::unique_keys")] SpecMap);
    type SpecMap = indexmap::IndexMap<super::ProcId, ProcSpec>;

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
    Request { specs, all_or_nothing, idempotent }.validate()
}

/// serde_json's message, less the position at its end, which is given apart.
fn json_message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text.get(..at).unwrap_or(&text).to_owned(),
        None => text,
    }
}

fn place(path: &serde_path_to_error::Path) -> Place {
    path.iter()
        .filter_map(|segment| match segment {
            PathSegment::Seq { index } => Some(Segment::Index(*index)),
            PathSegment::Map { key } => Some(Segment::Key(key.clone())),
            PathSegment::Enum { variant } => Some(Segment::Key(variant.clone())),
            PathSegment::Unknown => None,
        })
        .collect()
}
