//! Browser sessions: issues a code, and exchanges it for a session.

use actix_web::HttpResponse;
use actix_web::dev::Payload;
use actix_web::http::header;

use crate::api::{CodeBody, SessionBody, Trade};
use crate::http::access::session::{CODE_LIFETIME, NewCode, SESSION_LIFETIME};
use crate::http::error::ApiError;
use crate::http::guard;
use crate::http::openapi::{self, CodeAnswer, Errors, Problem, SessionAnswer};
use crate::http::query::Query;
use crate::http::request_body;
use crate::http::request_context::RequestContext;

/// Maximum length of the body that exchanges a code, in bytes.
pub(in crate::http) const TRADE_BODY: u64 = 1024;

/// Returns a URL of the web UI that contains a code for a session. Browsers need a session to change
/// anything.
#[utoipa::path(
    post, path = "/session-codes", tag = "page",
    params(("host" = Option<String>, Query, description = "Over TLS: the host name for the URL; the service's certificate must cover it")),
    responses(
        (status = 200, description = "The URL with the code", body = CodeAnswer),
        (status = 400, description = "Invalid query", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 406, description = "No available coding is acceptable", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "No browser can reach the web UI: there is no TCP listener", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The kernel returned no random bytes", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn new_code(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    let query = Query::parse(ctx.query(), &["host"])?;
    let policy = &ctx.service().policy;
    let (tls, by_tcp) = peer(ctx);
    let host = if by_tcp { host(ctx) } else { "" };
    let address =
        ctx.state.page_at().address(host, query.one("host")?, |name| policy.serves_as(name))?;
    let code = policy.new_code(tls || address.tls).ok_or(ApiError::NoRandomness)?;
    let NewCode { text, host } = code;
    let origin = match host {
        Some(name) => format!("http://{name}:{}", address.port),
        None => format!("https://{}", address.authority),
    };
    let url = format!("{origin}/#session={text}");
    ctx.data(CodeBody { url, expires_in: CODE_LIFETIME.as_secs() })
}

/// Exchanges a code for a session.
#[utoipa::path(
    post, path = "/sessions", tag = "page",
    request_body(content = openapi::Trade, content_type = "application/json"),
    responses(
        (status = 200, description = "The session", body = SessionAnswer),
        (status = 400, description = "Invalid body", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Access denied, or the code is invalid", content(
            (Errors = "application/json"), (Problem = "application/problem+json"))),
        (status = 406, description = "No available coding is acceptable", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "Too many invalid codes; retry later", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn trade(
    ctx: &RequestContext<'_>,
    payload: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    ctx.no_query()?;
    let body = request_body::json(ctx.headers(), payload, TRADE_BODY).await?;
    let Trade { code } = serde_json::from_slice(&body)?;
    let (tls, _) = peer(ctx);
    let session = ctx.service().policy.trade(&code, host(ctx).as_bytes(), tls)?;
    ctx.data(SessionBody { session, expires_in: SESSION_LIFETIME.as_secs() })
}

/// Whether the request came over TLS, and whether by TCP.
fn peer(ctx: &RequestContext<'_>) -> (bool, bool) {
    ctx.request.conn_data::<guard::Peer>().map_or((false, false), guard::Peer::tls_and_tcp)
}

/// The request's `Host` header, which access control has already checked.
fn host<'a>(ctx: &RequestContext<'a>) -> &'a str {
    let host = ctx.request.headers().get(header::HOST);
    host.and_then(|host| host.to_str().ok()).unwrap_or_default()
}
