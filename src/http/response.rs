//! The common parts of all answers: refusals by a request's head, and the final headers.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use actix_http::{ConnectionType, Request, Response};
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, RequestHead};
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::http::{Method, Version};
use actix_web::web::{self, Bytes};
use actix_web::{HttpResponse, ResponseError as _};

use super::app_state::AppState;
use super::error::{ApiError, ErrorForm};
use super::guard::{self, Peer};
use super::request_body;
use super::routes::Route;

/// A page of another site that opens ours, or is opened by it, gets no reference to its window.
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// The headers of every answer. Results and output change; and a browser must neither run output as
/// a script or a page nor let another site embed it.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin")),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (OPENER_POLICY, HeaderValue::from_static("same-origin")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// The route of a request, if the peer is authorized.
///
/// # Errors
/// The refusal. Its answer always has the first error format.
pub(super) fn admit(
    state: &AppState,
    head: &RequestHead,
    peer: Option<&Peer>,
) -> Result<Route, ApiError> {
    let route = Route::find(head.uri.path());
    let surface = route.as_ref().ok().map(Route::surface);
    guard::check(&state.service.policy, head, peer, surface)?;
    Ok(route?)
}

/// Handles an error before its answer: counts, logs and possibly delays a refusal.
pub(super) async fn settled(state: &AppState, peer: Option<&Peer>, failure: ApiError) -> ApiError {
    match failure {
        ApiError::Refused(refusal) => match state.refusals.settle(peer, &refusal).await {
            None => ApiError::Refused(refusal),
            Some(seconds) => ApiError::TooManyGuesses { seconds },
        },
        failure => failure,
    }
}

/// The answer to a request that was not carried out, in the error format of its route.
pub(super) fn refusal(failure: &ApiError, route: &Route, method: &Method) -> HttpResponse {
    match route.error_form(method) {
        ErrorForm::Older => failure.error_response(),
        ErrorForm::Problem => failure.problem(),
    }
}

/// Admits a request whose client waits for `100 Continue` before it sends the body, unless its head
/// is enough to refuse it.
///
/// # Errors
/// The answer that refuses it.
pub(super) async fn unless_refused(
    state: web::Data<AppState>,
    mut request: Request,
) -> Result<Request, Response<BoxBody>> {
    let (head, peer) = (request.head(), request.conn_data::<Peer>());
    let refused = match admit(&state, head, peer) {
        Err(failure) => Some(settled(&state, peer, failure).await.error_response()),
        Ok(route) => {
            let method = &head.method;
            let checked = route.takes(method).and_then(|()| {
                let limit = route.body_limit(method, &state.service.limits);
                limit.map_or(Ok(()), |limit| request_body::check(head.headers(), limit))
            });
            checked.err().map(|failure| refusal(&failure, &route, method))
        }
    };
    let Some(answer) = refused else { return Ok(request) };
    let version = head.version;
    Err(finish(&state, version, answer, request.take_payload()).into())
}

/// Completes an answer; `rest` is the remainder of the request's body.
pub(super) fn finish(
    state: &AppState,
    version: Version,
    mut answer: HttpResponse,
    rest: Payload,
) -> HttpResponse {
    let class = usize::from(answer.status().as_u16() / 100);
    if let Some(count) = state.answered.get(class.saturating_sub(1)) {
        count.fetch_add(1, Ordering::Relaxed);
    }
    for (name, value) in HEADERS {
        if !answer.headers().contains_key(&name) {
            answer.headers_mut().insert(name, value);
        }
    }
    if version < Version::HTTP_11 && answer.body().size() == BodySize::Stream {
        // HTTP/1.0 has no chunks: the end of the connection is the end of the body.
        answer.head_mut().no_chunking(true);
        answer.head_mut().set_connection_type(ConnectionType::Close);
    }
    match rest {
        Payload::None => answer,
        rest => answer.map_body(|_, body| BoxBody::new(Holding { body, _rest: rest })),
    }
}

/// An answer's body, and the remainder of the request's.
///
/// Without an owner of the remainder, actix-web would read an unwanted chunked body without end.
/// With one, it closes the connection after the answer, and reads for some seconds before: so the
/// client reads the answer before the end.
struct Holding {
    body: BoxBody,
    _rest: Payload,
}

impl MessageBody for Holding {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
