//! Parses a request up to the first error, with the place of that error.

use serde::Deserialize;
use serde_path_to_error::Segment as PathSegment;

use super::{ProcSpec, Segment, SpecError, SpecPath, StartRequest};

/// The beginning of each error of syntax.
pub(super) const INVALID_JSON: &str = "invalid JSON: ";
/// The error of a text in another language, such as YAML or TOML, or without any.
pub(super) const NO_OBJECT: &str = "invalid JSON: expected an object";

/// The text without a byte order mark.
///
/// # Errors
/// The text is not UTF-8.
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
/// The first invalid value.
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

/// The error of a text that is not JSON, with its position.
pub(super) fn syntax_error(text: &[u8]) -> Option<SpecError> {
    let error = serde_json::from_slice::<serde::de::IgnoredAny>(text).err()?;
    let mut found = SpecError::new(SpecPath::root(), json_message(&error));
    found.position = Some((error.line(), error.column().max(1)));
    if !text.trim_ascii_start().starts_with(b"{") {
        found.message = NO_OBJECT.to_owned();
    }
    Some(found)
}

/// Whether an error is about the syntax of JSON.
pub(super) fn is_syntax_error(error: &SpecError) -> bool {
    error.message.starts_with(INVALID_JSON)
}

/// Reads the value of the key `specs` from MessagePack.
///
/// # Errors
/// The first invalid value.
pub(super) fn parse_msgpack(specs: &[u8]) -> Result<SpecMap, SpecError> {
    /// Wraps the value of `specs`, so that paths and checks are those of a whole request.
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

/// Processes by ID, in their order.
type SpecMap = indexmap::IndexMap<super::ProcId, ProcSpec>;

/// serde_json's message, without the position at its end, which is kept separately.
fn json_message(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let message = text.rfind(" at line ").and_then(|at| text.get(..at)).unwrap_or(&text);
    if error.is_data() { message.to_owned() } else { format!("{INVALID_JSON}{message}") }
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
