//! Changes of processes, as server-sent events or over a WebSocket.

use actix_web::HttpResponse;
use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderName};

use crate::actors::messages::Cursor;
use crate::http::error::ApiError;
use crate::http::feed::{Feed, ResultDetail};
use crate::http::openapi::{Errors, EventBody, Problem};
use crate::http::query::Query;
use crate::http::request_context::{RequestContext, unsent};
use crate::http::stats::StatsQuery;
use crate::http::{guard, sse, ws};

/// The header with which a browser continues after an interruption.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The requested changes. An invalid cursor is treated like an unknown one: a snapshot is sent.
fn feed(ctx: &RequestContext<'_>, query: &Query) -> Result<Feed, ApiError> {
    let header = ctx.request.headers().get(LAST_EVENT_ID);
    // The header takes precedence: a browser that reconnects repeats its first query.
    let after = match header.and_then(|value| value.to_str().ok()) {
        Some(id) => Some(id),
        None => query.one("after")?,
    };
    let after = after.filter(|text| !text.is_empty());
    let after = after.map(|text| text.parse::<Cursor>().unwrap_or_default());
    let detail = if query.switch("summary")? { ResultDetail::Summary } else { ResultDetail::Full };
    Ok(Feed::new(ctx.service().clone(), after, detail))
}

/// Sends a snapshot and then every change, once and in order, as server-sent events.
#[utoipa::path(
    get, path = "/events", tag = "events",
    params(
        ("after" = Option<String>, Query, description = "The `cursor` of the last event received, to continue after it; without it, a snapshot is sent first"),
        ("summary" = Option<bool>, Query, description = "Send summaries instead of complete results"),
        ("stats" = Option<String>, Query, description = "Interval of `stats` events, 0.2 s to 1 h; without it, none are sent"),
        ("id" = Option<Vec<String>>, Query, explode, description = "With `stats`: a process to report while it runs; may \
            be repeated, up to 200 times"),
        ("Last-Event-ID" = Option<String>, Header, description = "The cursor of the last event received, as browsers send it; takes precedence over `after`"),
    ),
    responses(
        (status = 200, description = "The events; the data of each is one JSON object", body = EventBody, content_type = "text/event-stream"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 400, description = "Invalid query", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "Only the identity coding is available, and the client does not accept it", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn stream(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    let [stats, id] = StatsQuery::NAMES;
    let query = Query::parse(ctx.query(), &["after", "summary", stats, id])?;
    let (feed, stats) = (feed(ctx, &query)?, StatsQuery::of(&query)?);
    ctx.choose(&[])?;
    let mut answer = HttpResponse::Ok();
    answer.insert_header((header::CONTENT_TYPE, "text/event-stream"));
    match ctx.head {
        true => Ok(answer.body(unsent())),
        false => Ok(answer.streaming(sse::stream(feed, stats, guard::connection(ctx.request)))),
    }
}

/// Sends a snapshot and then every change over a WebSocket: each message is the JSON object of one
/// event.
#[utoipa::path(
    get, path = "/events/ws", tag = "events",
    params(
        ("after" = Option<String>, Query, description = "The `cursor` of the last event received, to continue after it; without it, a snapshot is sent first"),
        ("summary" = Option<bool>, Query, description = "Send summaries instead of complete results"),
    ),
    responses(
        (status = 101, description = "The WebSocket is open"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 400, description = "Invalid query, or not a WebSocket handshake", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn socket(
    ctx: &RequestContext<'_>,
    payload: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    let feed = feed(ctx, &Query::parse(ctx.query(), &["after", "summary"])?)?;
    ws::start(feed, ctx.request, payload.take())
}
