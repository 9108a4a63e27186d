//! From a request to its answer: admitted by its head, answered by the handler of its route.

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, ResponseError as _, web};
use futures_util::{FutureExt, StreamExt};

use super::app_state::AppState;
use super::content_encoding::COMPRESSED;
use super::error::ApiError;
use super::guard::Peer;
use super::request_context::RequestContext;
use super::response::{admit, finish, refusal, settled};
use super::routes::{self, Route};

/// Maximum number of bytes of an unwanted body that are read to keep the connection.
const DRAINED: usize = 64 << 10;

/// Answers any request.
pub(super) async fn dispatch(
    state: web::Data<AppState>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let mut payload = payload.into_inner();
    let peer = request.conn_data::<Peer>();
    let answer = match admit(&state, request.head(), peer) {
        Err(failure) => settled(&state, peer, failure).await.error_response(),
        Ok(route) => {
            let method = request.method();
            let ctx = RequestContext {
                state: &state,
                request: &request,
                params: &route.params,
                head: method == Method::HEAD,
                description: routes::description,
            };
            let answer = answer(&ctx, &route, &mut payload);
            // A change is completed even if its client does not wait; a read is then pointless.
            let answer = match method.is_safe() {
                true => ctx.unless_gone(answer).await,
                false => answer.await,
            };
            match answer {
                Ok(answer) => answer,
                Err(failure) => refusal(&settled(&state, peer, failure).await, &route, method),
            }
        }
    };
    drain(&mut payload).await;
    finish(&state, request.version(), answer, payload)
}

/// Reads the rest of an unwanted body, up to a limit: if it ends there, the connection can be kept.
async fn drain(payload: &mut Payload) {
    if matches!(payload, Payload::None) {
        return;
    }
    // The part that arrived together with the head becomes available after this.
    tokio::task::yield_now().await;
    let mut left = DRAINED;
    while let Some(Some(Ok(piece))) = payload.next().now_or_never() {
        match left.checked_sub(piece.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

async fn answer(
    ctx: &RequestContext<'_>,
    route: &Route,
    payload: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    route.takes(ctx.request.method())?;
    // Checked before a change whose answer the client would not accept.
    ctx.choose(COMPRESSED)?;
    route.answer(ctx, payload).await
}
