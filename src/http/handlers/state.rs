//! The instance itself: status, health, readiness, metrics, log level, and the description of the
//! API.

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

/// Maximum length of the body that sets a log level, in bytes; longer than any valid body.
pub(in crate::http) const LEVEL_BODY: u64 = 1024;

async fn tally(ctx: &RequestContext<'_>) -> Result<ProcessCounts, ApiError> {
    ctx.no_query()?;
    Ok(ctx.service().actors.counts().await?)
}

/// Returns the status of the instance.
#[utoipa::path(
    get, path = "/status", tag = "service",
    responses(
        (status = 200, description = "The status", body = StatusAnswer),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 400, description = "Invalid query: this path takes no parameters", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "No available coding is acceptable", body = Problem, content_type = "application/problem+json"),
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

/// Returns the log level in effect and the configured one.
#[utoipa::path(
    get, path = "/log-level", tag = "service",
    responses(
        (status = 200, description = "The log level", body = LogLevelAnswer),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 400, description = "Invalid query: this path takes no parameters", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "No available coding is acceptable", body = Problem, content_type = "application/problem+json"),
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

/// Sets the log level until the instance ends, or resets it to the configured level.
#[utoipa::path(
    put, path = "/log-level", tag = "service",
    request_body(content = openapi::SetLevel, content_type = "application/json"),
    responses(
        (status = 200, description = "The log level is set", body = LogLevelAnswer),
        (status = 400, description = "Invalid body", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "No available coding is acceptable", body = Problem, content_type = "application/problem+json"),
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

/// Reports whether the HTTP service works.
#[utoipa::path(
    get, path = "/healthz", tag = "service",
    responses(
        (status = 200, description = "The HTTP service works", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 400, description = "Invalid query: this path takes no parameters", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "No available coding is acceptable", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn healthz(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    ctx.no_query()?;
    ok(ctx)
}

/// Reports whether new processes can be started.
#[utoipa::path(
    get, path = "/readyz", tag = "service",
    responses(
        (status = 200, description = "New processes can be started", body = String, content_type = "text/plain; charset=utf-8"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 400, description = "Invalid query: this path takes no parameters", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "No available coding is acceptable", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "No new processes can be started: the keeper has ended, the instance is ending, or the agent is not registered with the scheduler", body = Problem, content_type = "application/problem+json"),
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

/// Returns metrics in the text format of Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "service",
    responses(
        (status = 200, description = "The metrics", body = String, content_type = "text/plain; version=0.0.4; charset=utf-8"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 400, description = "Invalid query: this path takes no parameters", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "No available coding is acceptable", body = Problem, content_type = "application/problem+json"),
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

/// Returns this description of the API.
#[utoipa::path(
    get, path = "/openapi.json", tag = "service",
    responses(
        (status = 200, description = "An OpenAPI 3.1 document", body = Object, content_type = "application/json"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 400, description = "Invalid query: this path takes no parameters", body = Problem, content_type = "application/problem+json"),
        (status = 406, description = "No available coding is acceptable", body = Problem, content_type = "application/problem+json"),
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
