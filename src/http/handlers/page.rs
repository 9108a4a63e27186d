//! The files of the web UI.

use actix_web::HttpResponse;
use actix_web::body::BodySize;
use actix_web::dev::Payload;
use actix_web::http::header;

use crate::http::body_stream::HeadBody;
use crate::http::content_encoding::ContentEncoding;
use crate::http::error::ApiError;
use crate::http::openapi::{Errors, Problem};
use crate::http::request_context::RequestContext;
use crate::http::ui::{Asset, INDEX, POLICY, find};

/// Returns the web UI.
#[utoipa::path(
    get, path = "/", tag = "page",
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier answer")),
    responses(
        (status = 200, description = "The HTML page", body = String, content_type = "text/html; charset=utf-8"),
        (status = 304, description = "The file still has the ETag of `If-None-Match`"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 406, description = "No available coding is acceptable", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "`If-Match` names another `ETag`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn page(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    file(ctx, INDEX)
}

/// Returns a file of the web UI.
#[utoipa::path(
    get, path = "/ui/{file}", tag = "page",
    params(
        ("file" = String, Path, description = "The file's name"),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier answer"),
    ),
    responses(
        (status = 200, description = "The file", content(
            (String = "text/html; charset=utf-8"), (String = "text/css; charset=utf-8"), (String = "text/javascript; charset=utf-8"),
            (String = "image/svg+xml"))),
        (status = 304, description = "The file still has the ETag of `If-None-Match`"),
        (status = 400, description = "Invalid percent-encoding in the name", body = Errors, content_type = "application/json"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 404, description = "Unknown file", content(
            (Errors = "application/json"), (Problem = "application/problem+json"))),
        (status = 406, description = "No available coding is acceptable", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "`If-Match` names another `ETag`", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn asset(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    file(ctx, ctx.params.get("file"))
}

fn file(ctx: &RequestContext<'_>, name: &str) -> Result<HttpResponse, ApiError> {
    let Some(asset) = find(name) else { return Err(ApiError::NoAsset(name.to_owned())) };
    let packed = ctx.choose(&[ContentEncoding::Gzip])?.coding == ContentEncoding::Gzip;
    let Asset { hash, plain, gzip, .. } = asset;
    let tag = if packed { format!("\"{hash}-gz\"") } else { format!("\"{hash}\"") };
    let wanted = ctx.wants(Some(&tag))?;
    let mut answer = if wanted { HttpResponse::Ok() } else { HttpResponse::NotModified() };
    answer
        .insert_header((header::ETAG, tag))
        .insert_header((header::VARY, "Accept-Encoding"))
        // Browsers revalidate each time, so an upgrade of the program also upgrades the web UI.
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY));
    if !wanted {
        return Ok(answer.finish());
    }
    answer.insert_header((header::CONTENT_TYPE, asset.content_type()));
    let body = if packed { gzip } else { plain };
    if packed {
        answer.insert_header((header::CONTENT_ENCODING, ContentEncoding::Gzip.name()));
    }
    Ok(match ctx.head {
        true => answer.body(HeadBody(BodySize::Sized(body.len() as u64))),
        false => answer.body(body.clone()),
    })
}
