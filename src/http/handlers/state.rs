//! The agent itself: who it is, whether it lives and is ready, its metrics, and the description of
//! all this.

use actix_web::HttpResponse;
use actix_web::dev::Payload;
use actix_web::http::header;
use bytes::Bytes;

use crate::actors::messages::ProcessCounts;
use crate::api::{LogLevelBody, SetLevel};
use crate::http::error::{ApiError, JSON};
use crate::http::log_level::levels;
use crate::http::openapi::{self, Errors, LogLevelAnswer, Problem, StatusAnswer};
use crate::http::request_context::RequestContext;
use crate::http::{metrics, request_body};

/// Maximum length of the body that sets a level, in bytes: more than any valid one.
pub(in crate::http) const LEVEL_BODY: u64 = 1024;

async fn tally(ctx: &RequestContext<'_>) -> Result<ProcessCounts, ApiError> {
    ctx.no_query()?;
    Ok(ctx.service().actors.counts().await?)
}

/// Returns the state of the service.
#[utoipa::path(
    get, path = "/status", tag = "service",
    responses(
        (status = 200, description = "The state", body = StatusAnswer),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 400, description = "There are no query parameters here", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "No coding is acceptable", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The instance is ending", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn status(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    // The cursor comes first: a client that continues from it receives all changes in between.
    let cursor = ctx.service().actors.cursor().await?;
    let tally = tally(ctx).await?;
    ctx.data(ctx.service().status.body(&tally, cursor))
}

/// The level of the log, as it is and as the settings have it.
#[utoipa::path(
    get, path = "/log-level", tag = "service",
    responses(
        (status = 200, description = "The level", body = LogLevelAnswer),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 400, description = "There are no query parameters here", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "No coding is acceptable", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn log_level(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    ctx.no_query()?;
    present_level(ctx)
}

fn present_level(ctx: &RequestContext<'_>) -> Result<HttpResponse, ApiError> {
    ctx.data(LogLevelBody { log_level: levels(&*ctx.service().log) })
}

/// Sets the level of the log until the program ends, or back to that of the settings.
#[utoipa::path(
    put, path = "/log-level", tag = "service",
    request_body(content = openapi::SetLevel, content_type = "application/json"),
    responses(
        (status = 200, description = "The level is set", body = LogLevelAnswer),
        (status = 400, description = "The body is not understood", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 408, description = "The body did not come", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "No coding is acceptable", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn set_log_level(
    ctx: &RequestContext<'_>,
    payload: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    ctx.no_query()?;
    let body = request_body::json(ctx.headers(), payload, LEVEL_BODY).await?;
    let SetLevel { level } = serde_json::from_slice(&body)?;
    ctx.service().log.set(level);
    present_level(ctx)
}

fn ok(ctx: &RequestContext<'_>) -> Result<HttpResponse, ApiError> {
    let mut answer = HttpResponse::Ok();
    answer.insert_header((header::CONTENT_TYPE, "text/plain; charset=utf-8"));
    ctx.send(answer, Bytes::from_static(b"ok\n"))
}

/// Whether the process lives.
#[utoipa::path(
    get, path = "/healthz", tag = "service",
    responses(
        (status = 200, description = "It does", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 400, description = "There are no query parameters here", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "No coding is acceptable", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn healthz(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    ctx.no_query()?;
    ok(ctx)
}

/// Whether new processes can be started, by whom the agent is there for.
#[utoipa::path(
    get, path = "/readyz", tag = "service",
    responses(
        (status = 200, description = "They can", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 400, description = "There are no query parameters here", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "No coding is acceptable", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "They cannot: the keeper is gone, the instance is ending, or the server does not know it", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn readyz(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    let tally = tally(ctx).await?;
    match ctx.service().status.not_ready(&tally) {
        None => ok(ctx),
        Some(why) => Err(ApiError::NotReady(why)),
    }
}

/// Figures for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "service",
    responses(
        (status = 200, description = "The metrics", body = String, content_type = "text/plain; version=0.0.4; charset=utf-8"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 400, description = "There are no query parameters here", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "No coding is acceptable", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The instance is ending", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn metrics(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    let tally = tally(ctx).await?;
    let text = metrics::text(ctx.state, &tally);
    let mut answer = HttpResponse::Ok();
    answer.insert_header((header::CONTENT_TYPE, metrics::CONTENT_TYPE));
    ctx.send(answer, text.into())
}

/// This description.
#[utoipa::path(
    get, path = "/openapi.json", tag = "service",
    responses(
        (status = 200, description = "OpenAPI", body = Object, content_type = "application/json"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 400, description = "There are no query parameters here", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "No coding is acceptable", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn openapi(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    ctx.no_query()?;
    let mut answer = HttpResponse::Ok();
    answer.insert_header((header::CONTENT_TYPE, JSON));
    ctx.send(answer, (ctx.description)().into())
}
