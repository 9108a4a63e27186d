//! The body of `POST /procs`.

use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{self, Bytes, BytesMut};
use futures_util::StreamExt;

use super::error::ApiError;
use crate::actors::WorkerEnding;
use crate::spec::{self, Validated};

/// Maximum pause of a client within its body.
const PATIENCE: Duration = Duration::from_secs(30);
/// A longer body is parsed outside of the threads that answer requests: parsing takes some 10 ns a
/// byte.
const LONG: usize = 64 * 1024;

/// Reads the specs of a request.
///
/// # Errors
/// A type other than JSON; a compressed, too large or incomplete body; and all errors in the specs.
pub(super) async fn read(
    headers: &HeaderMap,
    payload: &mut Payload,
    limit: u64,
) -> Result<Validated, ApiError> {
    parse(json(headers, payload, limit).await?).await
}

/// Reads a body of JSON, of at most `limit` bytes.
///
/// # Errors
/// As of [`read`], without those of specs.
pub(super) async fn json(
    headers: &HeaderMap,
    payload: &mut Payload,
    limit: u64,
) -> Result<Bytes, ApiError> {
    check(headers, limit)?;
    gather(payload, limit).await
}

/// Checks the headers of a body, before any of it is read.
///
/// # Errors
/// A type other than JSON, a compressed or too large body.
pub(super) fn check(headers: &HeaderMap, limit: u64) -> Result<(), ApiError> {
    check_type(headers)?;
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    match length {
        Some(length) if length > limit => Err(ApiError::TooLarge(limit)),
        _ => Ok(()),
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Err(ApiError::ContentType("(none)".to_owned()));
    };
    if !is_json(value.as_bytes()) {
        return Err(ApiError::ContentType(format!(
            "{:?}",
            String::from_utf8_lossy(value.as_bytes())
        )));
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            Err(ApiError::ContentEncoding)
        }
        _ => Ok(()),
    }
}

/// Whether a content type is JSON's. Its parameters do not matter: JSON is always UTF-8.
fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

async fn gather(payload: &mut Payload, limit: u64) -> Result<Bytes, ApiError> {
    let mut body = BytesMut::new();
    loop {
        let next = tokio::time::timeout(PATIENCE, payload.next()).await;
        match next.map_err(|_| ApiError::BodyStalled(PATIENCE.as_secs()))? {
            None => return Ok(body.freeze()),
            Some(piece) => {
                let piece = piece?;
                if (body.len() + piece.len()) as u64 > limit {
                    return Err(ApiError::TooLarge(limit));
                }
                body.extend_from_slice(&piece);
            }
        }
    }
}

async fn parse(body: Bytes) -> Result<Validated, ApiError> {
    // Collecting all errors takes many times as long as reading a valid spec.
    if body.len() <= LONG
        && let Ok(valid) = spec::from_valid_json(&body)
    {
        return Ok(valid);
    }
    // It fails only if the runtime ends.
    let parsed = web::block(move || spec::from_json(&body))
        .await
        .map_err(|_| ApiError::Closed(WorkerEnding))?;
    Ok(parsed?)
}

#[cfg(test)]
mod tests {
    use actix_web::error::PayloadError;
    use actix_web::test::TestRequest;

    use super::*;

    const LIMIT: u64 = 64 << 20;

    #[test]
    fn only_the_media_type_json_is_accepted() {
        for json in [
            "application/json",
            "Application/JSON",
            "application/json; charset=utf-8",
            "application/json;charset=UTF-8",
            " application/json ; x=y",
        ] {
            assert!(is_json(json.as_bytes()), "{json}");
        }
        for other in [
            "",
            "application/jsonp",
            "text/json",
            "application/json, x",
            "application/x-www-form-urlencoded",
            "json",
        ] {
            assert!(!is_json(other.as_bytes()), "{other}");
        }
    }

    /// A body of these pieces, which ends if `then` says so.
    async fn sent(
        pieces: Vec<Result<Bytes, PayloadError>>,
        ends: bool,
    ) -> Result<Validated, ApiError> {
        let request = TestRequest::post()
            .insert_header(("content-type", "application/json"))
            .to_http_request();
        let pieces = futures_util::stream::iter(pieces);
        let mut payload = Payload::from(if ends {
            pieces.boxed_local()
        } else {
            pieces.chain(futures_util::stream::pending()).boxed_local()
        });
        read(request.headers(), &mut payload, LIMIT).await
    }

    #[actix::test]
    async fn a_body_in_pieces_is_joined() {
        let pieces = [r#"{"specs": {"a": {"#, r#""argv": ["/bin/"#, r#"true"]}}}"#];
        let pieces =
            pieces.map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).into_iter().collect();
        let request = sent(pieces, true).await.unwrap();
        assert_eq!(request.procs.keys().map(|id| id.as_str()).collect::<Vec<_>>(), ["a"]);
    }

    #[actix::test]
    async fn no_spec_is_no_error() {
        let body = Bytes::from_static(br#"{"specs": {}}"#);
        assert!(sent(vec![Ok(body)], true).await.unwrap().procs.is_empty());
    }

    #[actix::test]
    async fn a_long_body_is_parsed_too() {
        let text =
            format!(r#"{{"specs": {{"a": {{"argv": ["/bin/echo", "{}"]}}}}}}"#, "x".repeat(LONG));
        assert_eq!(sent(vec![Ok(text.into())], true).await.unwrap().procs.len(), 1);
        let text = format!("{}[", " ".repeat(LONG));
        assert!(matches!(sent(vec![Ok(text.into())], true).await, Err(ApiError::Spec(_))));
    }

    #[actix::test]
    async fn a_body_beyond_the_limit_is_refused_at_the_piece_that_goes_beyond() {
        let piece = Bytes::from(vec![b' '; (LIMIT / 4) as usize]);
        let mut pieces: Vec<_> = (0..4).map(|_| Ok(piece.clone())).collect();
        pieces.push(Ok(Bytes::from_static(b" ")));
        // It would never end.
        assert!(matches!(sent(pieces, false).await, Err(ApiError::TooLarge(LIMIT))));
    }

    #[actix::test]
    async fn a_body_that_breaks_off_is_no_request() {
        let body = Bytes::from_static(br#"{"specs": {}}"#);
        let pieces = vec![Ok(body), Err(PayloadError::Incomplete(None))];
        assert!(matches!(sent(pieces, true).await, Err(ApiError::Body(_))));
    }

    #[actix::test]
    async fn a_body_that_stalls_is_given_up() {
        tokio::time::pause();
        let began = tokio::time::Instant::now();
        let outcome = sent(vec![Ok(Bytes::from_static(b"{"))], false).await;
        assert!(matches!(outcome, Err(ApiError::BodyStalled(30))));
        // Timers are exact to the millisecond.
        let waited = began.elapsed();
        assert!(waited >= PATIENCE && waited < PATIENCE + Duration::from_millis(10), "{waited:?}");
    }
}
