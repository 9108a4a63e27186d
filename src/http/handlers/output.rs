//! Captured output: whole or a range, compressed, and followed while it is written.

use std::io;
use std::ops::Range;

use actix_web::body::{BodySize, SizedStream};
use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder};

use crate::engine::Capture;
use crate::http::body_stream::{BodyStream, HeadBody};
use crate::http::content_encoding::{
    AcceptedEncoding, COMPRESSED, ContentEncoding, EncodedBody, WORTH, shrinks,
};
use crate::http::disconnect::closed;
use crate::http::error::ApiError;
use crate::http::guard;
use crate::http::openapi::{Errors, Problem};
use crate::http::preconditions::range_holds;
use crate::http::query::Query;
use crate::http::range::{ByteRange, byte_range};
use crate::http::request_context::{RequestContext, unsent};
use crate::output::follow::{Closed, FollowOptions};
use crate::output::{OutputError, OutputRange, OutputReader};
use crate::spec::{FdName, ProcId};

/// Header with the offset of the first byte that a follower receives.
const OFFSET: HeaderName = HeaderName::from_static("procstar-offset");

/// The captured output of an fd.
fn captured(
    ctx: &RequestContext<'_>,
    reader: &OutputReader,
    id: &ProcId,
    fd: &str,
) -> Result<(FdName, OutputRange), ApiError> {
    let range = match fd.parse() {
        Ok(name) => reader.range(name, &ctx.service().context).map(|range| (name, range)),
        Err(_) => Err(OutputError::NotCaptured),
    };
    range.map_err(|error| {
        let (id, fd) = (id.clone(), fd.to_owned());
        match error {
            OutputError::NotCaptured => ApiError::NotCaptured { id, fd },
            OutputError::Gone => ApiError::CaptureGone { id, fd },
            OutputError::Changed => ApiError::CaptureChanged { id, fd },
        }
    })
}

/// Returns the output that has been captured from a process's fd so far.
#[utoipa::path(
    get, path = "/procs/{id}/output/{fd}/data", tag = "output",
    params(
        ("id" = String, Path, description = "The process's ID, percent-encoded"),
        ("fd" = String, Path, description = "`stdin`, `stdout`, `stderr` or a number"),
        ("utf8" = Option<bool>, Query, description = "Do not split UTF-8 characters at the ends"),
        ("Range" = Option<String>, Header, description = "A single range of bytes"),
        ("If-Range" = Option<String>, Header, description = "The `ETag` of the output that the range belongs to; if it differs, all output is sent"),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier answer"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the output must have"),
        ("Accept-Encoding" = Option<String>, Header, description = "Available codings: gzip, br, zstd; a range is never compressed"),
    ),
    responses(
        (status = 200, description = "All captured output", content(
            (String = "text/plain; charset=utf-8"), (Vec<u8> = "application/octet-stream"))),
        (status = 206, description = "The range", content(
            (String = "text/plain; charset=utf-8"), (Vec<u8> = "application/octet-stream"))),
        (status = 304, description = "The output still has the ETag of `If-None-Match`"),
        (status = 400, description = "Invalid query", body = Errors, content_type = "application/json"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 404, description = "Unknown process, or its fd is not captured", body = Errors, content_type = "application/json"),
        (status = 406, description = "No available coding is acceptable", body = Errors, content_type = "application/json"),
        (status = 412, description = "`If-Match` names another `ETag`", body = Errors, content_type = "application/json"),
        (status = 410, description = "The capture's file was removed, replaced, or changed after the process had ended", body = Errors, content_type = "application/json"),
        (status = 416, description = "The range begins after the end of the captured output", body = Errors, content_type = "application/json"),
        (status = 500, description = "The capture cannot be read", body = Errors, content_type = "application/json"),
        (status = 503, description = "The instance is ending", body = Errors, content_type = "application/json"),
    ),
)]
pub(in crate::http) async fn data(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    let id = &ctx.id();
    let fd = ctx.params.get("fd");
    let query = Query::lenient(ctx.query())?;
    let utf8 = query.switch("utf8")?;
    let reader = ctx.service().actors.read_output(id.clone()).await?;
    let reader = reader.ok_or_else(|| ApiError::UnknownProc(id.clone()))?;
    let (name, output) = captured(ctx, &reader, id, fd)?;
    let record = reader.record();
    let length = output.len();
    // Only the output of an ended process has a tag: reading fails if that output changes.
    let content = record.captures.get(name).filter(|_| !record.is_running()).and_then(Capture::tag);
    let tag = content.map(|content| {
        let ended = record.stop().map_or(0, |stop| stop.unix_nanos);
        format!("\"{ended:x}-{length:x}-{content}\"")
    });
    let choice = ctx.choose(COMPRESSED)?;
    // RFC 9110 defines ranges only for GET. A range refers to the uncompressed bytes.
    let range = ctx.headers().get(header::RANGE).map(HeaderValue::as_bytes);
    let range = range.filter(|_| !ctx.head && choice.identity);
    let range = range.filter(|_| range_holds(ctx.headers(), tag.as_deref()));
    if range.is_some() && !ctx.wants(tag.as_deref())? {
        return Ok(unchanged(tag));
    }
    let part = match byte_range(range, length) {
        ByteRange::Whole => None,
        ByteRange::Part(part) => Some(part),
        ByteRange::Unsatisfiable => return Err(ApiError::RangeNotSatisfiable { length }),
    };
    let cut = match utf8 {
        true => output.whole_chars(part.clone().unwrap_or(0..length), record.is_running())?,
        false => part.clone().unwrap_or(0..length),
    };
    if part.is_some() && cut.is_empty() {
        return Err(ApiError::NoCharacter { length });
    }
    let mut answer = HttpResponse::build(StatusCode::OK);
    answer
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static(output.content_type())))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header((header::VARY, "Accept-Encoding"));
    let coding = match part {
        None => coding_of_whole(choice, &output, &cut)?,
        Some(_) => ContentEncoding::Identity,
    };
    let tag = tag.map(|tag| tag_in(coding, &tag));
    if !ctx.wants(tag.as_deref())? {
        return Ok(unchanged(tag));
    }
    if let Some(tag) = tag {
        answer.insert_header((header::ETAG, tag));
    }
    if part.is_some() {
        let Range { start, end } = cut;
        answer
            .status(StatusCode::PARTIAL_CONTENT)
            .insert_header((header::CONTENT_RANGE, format!("bytes {start}-{}/{length}", end - 1)));
    }
    send(ctx, answer, output, &cut, coding)
}

/// The answer to a client that already has the content.
fn unchanged(tag: Option<String>) -> HttpResponse {
    let mut answer = HttpResponse::NotModified();
    answer.insert_header((header::VARY, "Accept-Encoding"));
    if let Some(tag) = tag {
        answer.insert_header((header::ETAG, tag));
    }
    answer.finish()
}

/// Longer output is compressed only for clients that accept nothing else. A sparse file of terabytes
/// compresses to almost nothing for the client, but would occupy the worker for days.
const CODED: u64 = 1 << 30;

/// The coding of a whole capture: the client's preferred one, if the gain is worth it or the client
/// accepts nothing else.
fn coding_of_whole(
    choice: AcceptedEncoding,
    output: &OutputRange,
    cut: &Range<u64>,
) -> io::Result<ContentEncoding> {
    let length = cut.end - cut.start;
    let worth =
        || Ok::<_, io::Error>((WORTH..=CODED).contains(&length) && shrinks(&output.sample()?));
    let encoded = choice.coding != ContentEncoding::Identity && (!choice.identity || worth()?);
    Ok(if encoded { choice.coding } else { ContentEncoding::Identity })
}

/// The tag of output in a coding. Each coding has its own tag, because the bytes differ.
fn tag_in(coding: ContentEncoding, tag: &str) -> String {
    match coding {
        ContentEncoding::Identity => tag.to_owned(),
        coding => format!("{}-{}\"", tag.trim_end_matches('"'), coding.name()),
    }
}

/// Sends a part of the output in a coding.
fn send(
    ctx: &RequestContext<'_>,
    mut answer: HttpResponseBuilder,
    mut output: OutputRange,
    part: &Range<u64>,
    coding: ContentEncoding,
) -> Result<HttpResponse, ApiError> {
    output.cut(part);
    let length = output.len();
    if coding != ContentEncoding::Identity {
        answer.insert_header((header::CONTENT_ENCODING, coding.name()));
    }
    Ok(match (coding, ctx.head) {
        (ContentEncoding::Identity, true) => answer.body(HeadBody(BodySize::Sized(length))),
        (ContentEncoding::Identity, false) => {
            answer.body(SizedStream::new(length, BodyStream::new(output)))
        }
        (_, true) => answer.body(unsent()),
        (_, false) => answer.streaming(BodyStream::new(EncodedBody::new(output, coding)?)),
    })
}

/// Sends the captured output of a process's fd while it is written, until the capture ends.
#[utoipa::path(
    get, path = "/procs/{id}/output/{fd}/follow", tag = "output",
    params(
        ("id" = String, Path, description = "The process's ID, percent-encoded"),
        ("fd" = String, Path, description = "`stdin`, `stdout`, `stderr` or a number"),
        ("from" = Option<i64>, Query, description = "Offset of the first byte; a negative number counts back from the present end"),
        ("utf8" = Option<bool>, Query, description = "Do not split UTF-8 characters at the ends"),
    ),
    responses(
        (status = 200, description = "The output; if the connection closes before the body is complete, more output follows", content(
            (String = "text/plain; charset=utf-8"), (Vec<u8> = "application/octet-stream")),
            headers(("Procstar-Offset" = u64, description = "Offset of the first byte of the body in the capture"))),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 400, description = "Invalid query", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown process, or its fd is not captured", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "Only the identity coding is available, and the client does not accept it", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "The capture's file was removed, replaced, or changed after the process had ended", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The capture cannot be read", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The instance is ending", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn follow(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    let id = &ctx.id();
    let fd = ctx.params.get("fd");
    let query = Query::parse(ctx.query(), &["from", "utf8"])?;
    ctx.choose(&[])?;
    let utf8 = query.switch("utf8")?;
    let from = query.parsed::<i128>("from", "a number of bytes, negative from the end")?;
    let follower = ctx.service().actors.follow_output(id.clone()).await?;
    let follower = follower.ok_or_else(|| ApiError::UnknownProc(id.clone()))?;
    let (fd, output) = captured(ctx, follower.reader(), id, fd)?;
    let running = follower.reader().record().is_running();
    let length = output.len();
    let from = match from.unwrap_or(0) {
        from @ 0.. => u64::try_from(from).unwrap_or(u64::MAX),
        back => length.saturating_sub(u64::try_from(-back).unwrap_or(u64::MAX)),
    };
    let from = match utf8 && 0 < from && from < length {
        true => output.whole_chars(from..length, running)?.start,
        false => from,
    };
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((header::CONTENT_TYPE, HeaderValue::from_static(output.content_type())))
        .insert_header((OFFSET, from));
    if ctx.head {
        return Ok(answer.body(unsent()));
    }
    let options = FollowOptions { fd, from, chars: utf8 };
    let closed: Closed = match guard::connection(ctx.request) {
        Some(connection) => Box::pin(closed(connection)),
        None => Box::pin(std::future::pending()),
    };
    Ok(answer.streaming(follower.follow(options, closed).stream()))
}
