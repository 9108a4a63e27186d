//! The headers `If-Match`, `If-None-Match` and `If-Range`, compared with an `ETag` by RFC 9110.

use actix_web::http::header::{self, HeaderMap, HeaderName};

/// The result of a request's conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precondition {
    /// They hold, or are absent.
    Holds,
    /// `If-None-Match` names the present content: the client has it.
    NotModified,
    /// `If-Match` does not name the present content.
    Failed,
}

/// Evaluates the conditions of a request for existing content; content without a tag matches no tag
/// of the client.
pub(super) fn weigh(headers: &HeaderMap, tag: Option<&str>) -> Precondition {
    let named = |name: HeaderName, strongly: bool| -> Option<bool> {
        let mut values = headers.get_all(name).peekable();
        values.peek()?;
        let of = |value: &[u8]| {
            let mut known = tags(value);
            value.trim_ascii() == b"*"
                || tag.is_some_and(|tag| known.any(|known| same(known, tag, strongly)))
        };
        Some(values.any(|value| of(value.as_bytes())))
    };
    if named(header::IF_MATCH, true) == Some(false) {
        return Precondition::Failed;
    }
    match named(header::IF_NONE_MATCH, false) {
        Some(true) => Precondition::NotModified,
        _ => Precondition::Holds,
    }
}

/// Whether a request has a condition that [`weigh`] evaluates.
pub(super) fn any(headers: &HeaderMap) -> bool {
    headers.contains_key(header::IF_MATCH) || headers.contains_key(header::IF_NONE_MATCH)
}

/// Whether a range belongs to the client's version of the content: `If-Range` names the present
/// one, or is absent.
pub(super) fn range_holds(headers: &HeaderMap, tag: Option<&str>) -> bool {
    let Some(known) = headers.get(header::IF_RANGE) else { return true };
    tag.is_some_and(|tag| same(known.as_bytes().trim_ascii(), tag, true))
}

/// Whether two tags are the same; strongly, only if neither is weak.
fn same(known: &[u8], tag: &str, strongly: bool) -> bool {
    let tag = tag.as_bytes();
    let bare = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    let weak = known.starts_with(b"W/") || tag.starts_with(b"W/");
    bare(known) == bare(tag) && !(strongly && weak)
}

/// The tags of a list, with their quotes. A comma within quotes is part of a tag.
fn tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    list.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    })
    .map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name.clone(), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn conditions_hold_by_tag_and_strength() {
        use Precondition::{Failed, Holds, NotModified};
        let (strong, weak) = (Some("\"a\""), Some("W/\"a\""));
        for (name, value, of_strong, of_weak, of_none) in [
            (header::IF_NONE_MATCH, "\"a\"", NotModified, NotModified, Holds),
            (header::IF_NONE_MATCH, "W/\"a\"", NotModified, NotModified, Holds),
            (header::IF_NONE_MATCH, "\"b\", W/\"a\" , \"c\"", NotModified, NotModified, Holds),
            (header::IF_NONE_MATCH, "\"x,\", \"a,b\"", Holds, Holds, Holds),
            (header::IF_NONE_MATCH, "\"x,\",\"a\"", NotModified, NotModified, Holds),
            (header::IF_NONE_MATCH, "*", NotModified, NotModified, NotModified),
            (header::IF_NONE_MATCH, "\"b\"", Holds, Holds, Holds),
            (header::IF_NONE_MATCH, "a", Holds, Holds, Holds),
            (header::IF_NONE_MATCH, "", Holds, Holds, Holds),
            (header::IF_MATCH, "\"a\"", Holds, Failed, Failed),
            (header::IF_MATCH, "W/\"a\"", Failed, Failed, Failed),
            (header::IF_MATCH, "\"b\", \"a\"", Holds, Failed, Failed),
            (header::IF_MATCH, "\"b\"", Failed, Failed, Failed),
            (header::IF_MATCH, "*", Holds, Holds, Holds),
            (header::IF_MODIFIED_SINCE, "x", Holds, Holds, Holds),
        ] {
            let headers = headers(&[(name, value)]);
            let verdicts = [strong, weak, None].map(|tag| weigh(&headers, tag));
            assert_eq!(verdicts, [of_strong, of_weak, of_none], "{headers:?}");
        }
        let both = [(header::IF_MATCH, "\"b\""), (header::IF_NONE_MATCH, "\"a\"")];
        assert_eq!(weigh(&headers(&both), strong), Failed);
        let twice = [(header::IF_NONE_MATCH, "\"b\""), (header::IF_NONE_MATCH, "\"a\"")];
        assert_eq!(weigh(&headers(&twice), strong), NotModified);
        assert_eq!(weigh(&headers(&[]), strong), Holds);
    }

    #[test]
    fn a_range_is_sent_only_for_the_tag_in_if_range() {
        let strong = Some("\"a\"");
        assert!(range_holds(&headers(&[]), None));
        let of = |value| headers(&[(header::IF_RANGE, value)]);
        assert!(range_holds(&of("\"a\""), strong));
        assert!(!range_holds(&of("\"b\""), strong) && !range_holds(&of("\"a\""), None));
        assert!(!range_holds(&of("W/\"a\""), strong));
        assert!(!range_holds(&of("W/\"a\""), Some("W/\"a\"")));
    }
}
