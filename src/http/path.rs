//! A request's path as segments.
//!
//! Paths are parsed here and not by actix-web's router. That one decodes a path partly before
//! matching it, so that neither `%2F` nor `%25` in an ID would be preserved. Here a path is split
//! at its slashes, and then each segment is decoded, once. Nothing is normalised: `..`, an empty
//! segment and a slash at the end are preserved.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// An invalid path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PathError {
    /// Unknown endpoint.
    #[error(
        "unknown path: this service has /procs, /events, /status, and what /openapi.json lists"
    )]
    Unknown,
    /// A `%` without two hexadecimal digits after it.
    #[error(
        "malformed path: a `%` is not followed by two hexadecimal digits (a `%` itself is `%25`)"
    )]
    Percent,
    /// A segment that is not text.
    #[error(
        "malformed path: it is not UTF-8 once decoded; percent-encode the UTF-8 bytes of the ID"
    )]
    NotUtf8,
}

/// The decoded segments of a path in a request line, without its query.
///
/// # Errors
/// It does not begin with a slash, or cannot be decoded.
pub(super) fn segments(path: &str) -> Result<Vec<Cow<'_, str>>, PathError> {
    path.strip_prefix('/').ok_or(PathError::Unknown)?.split('/').map(decode).collect()
}

/// The values of the placeholders of a template, such as `{id}`, in a path; none if the path is
/// another one.
pub(super) fn captures(template: &'static str, path: &[Cow<'_, str>]) -> Option<PathParams> {
    let names = template.strip_prefix('/').unwrap_or(template).split('/');
    if names.clone().count() != path.len() {
        return None;
    }
    let mut params = PathParams::default();
    for (name, segment) in names.zip(path) {
        match name.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
            Some(name) => params.0.push((name, segment.clone().into_owned())),
            None if name == segment => {}
            None => return None,
        }
    }
    Some(params)
}

/// The values of a template's placeholders in a path, as written by the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PathParams(Vec<(&'static str, String)>);

impl PathParams {
    /// The value of a placeholder; empty if the template does not have it.
    pub(super) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map_or("", |(_, value)| value)
    }
}

fn decode(segment: &str) -> Result<Cow<'_, str>, PathError> {
    // The decoder keeps a `%` that encodes nothing; then one ID would have two spellings.
    let mut after_percents = segment.split('%').skip(1);
    if !after_percents.all(|rest| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2) {
        return Err(PathError::Percent);
    }
    percent_decode_str(segment).decode_utf8().map_err(|_| PathError::NotUtf8)
}
