//! What is done for each request: a message to an actor, and its reply as an answer.

pub(super) mod events;
pub(super) mod output;
pub(super) mod page;
pub(super) mod procs;
pub(super) mod session;
pub(super) mod state;

use std::io;
use std::sync::Arc;

use actix_web::body::BodySize;
use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, ResponseError as _, web};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use serde::Serialize;

use super::body_stream::{BodySource, BodyStream, HeadBody};
use super::content_encoding::{AcceptedEncoding, COMPRESSED, ContentEncoding, EncodedBody};
use super::error::{ApiError, JSON};
use super::preconditions::{self, Precondition};
use super::query::Query;
use super::response::{admit, finish, refusal, settled, takes};
use super::results_body::ResultsBody;
use super::route::{Endpoint, Route};
use super::server::{AppState, Service};
use super::{disconnect, guard};
use crate::report::ProcessRecord;
use crate::spec::ProcId;

/// The longest body of a stop, in bytes.
const STOP_BODY: u64 = 4096;

/// So much of a body that nobody wants is taken for the connection's sake, in bytes.
const DRAINED: usize = 64 << 10;

/// A request, and what is known of it.
struct RequestContext<'a> {
    state: &'a web::Data<AppState>,
    request: &'a HttpRequest,
    /// Whether the body is not wanted: what GET answers, HEAD answers without it.
    head: bool,
}

impl RequestContext<'_> {
    fn service(&self) -> &Service {
        &self.state.service
    }

    fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    fn query(&self) -> Option<&str> {
        self.request.uri().query()
    }

    /// Checks that a place that takes no query is given none.
    fn no_query(&self) -> Result<(), ApiError> {
        Query::parse(self.query(), &[])?;
        Ok(())
    }

    /// The coding to answer in, where besides the bytes as they are these are there.
    fn choose(&self, codings: &[ContentEncoding]) -> Result<AcceptedEncoding, ApiError> {
        let accepted = self.headers().get_all(header::ACCEPT_ENCODING);
        AcceptedEncoding::of(codings, accepted.map(|value| value.as_bytes()))
            .ok_or(ApiError::NotAcceptable)
    }

    /// Whether the client's conditions let an answer with this tag through; not where it has that answer already.
    fn wants(&self, tag: Option<&str>) -> Result<bool, ApiError> {
        match preconditions::weigh(self.headers(), tag) {
            Precondition::Holds => Ok(true),
            Precondition::NotModified => Ok(false),
            Precondition::Failed => Err(ApiError::Precondition),
        }
    }

    async fn find(&self, id: &ProcId) -> Result<Arc<ProcessRecord>, ApiError> {
        let found = self.service().actors.get(id.clone()).await?;
        found.ok_or_else(|| ApiError::UnknownProc(id.clone()))
    }

    /// A body that is there as a whole.
    fn send(&self, mut answer: HttpResponseBuilder, body: Bytes) -> Result<HttpResponse, ApiError> {
        let (coding, body) = self.choose(COMPRESSED)?.encode(body)?;
        answer.insert_header((header::VARY, "Accept-Encoding"));
        if coding != ContentEncoding::Identity {
            answer.insert_header((header::CONTENT_ENCODING, coding.name()));
        }
        Ok(match self.head {
            true => answer.body(HeadBody(BodySize::Sized(body.len() as u64))),
            false => answer.body(body),
        })
    }

    /// ResultsBody: as a whole where they are small, else made while they are sent.
    fn send_results(
        &self,
        mut answer: HttpResponseBuilder,
        mut results: ResultsBody,
    ) -> Result<HttpResponse, ApiError> {
        answer.insert_header((header::CONTENT_TYPE, JSON));
        let first = results.next_block()?.unwrap_or_default();
        if results.is_over() {
            return self.send(answer, first);
        }
        answer.insert_header((header::VARY, "Accept-Encoding"));
        let (coding, blocks) = (self.choose(COMPRESSED)?.coding, After { first, rest: results });
        if coding != ContentEncoding::Identity {
            answer.insert_header((header::CONTENT_ENCODING, coding.name()));
        }
        Ok(match (self.head, coding) {
            (true, _) => answer.body(unsent()),
            (false, ContentEncoding::Identity) => answer.streaming(BodyStream::new(blocks)),
            (false, coding) => answer.streaming(BodyStream::new(EncodedBody::new(blocks, coding)?)),
        })
    }
}

/// A body whose first block is made already; that one is empty once it has been sent.
struct After<B> {
    first: Bytes,
    rest: B,
}

impl<B: BodySource> BodySource for After<B> {
    fn next_block(&mut self) -> io::Result<Option<Bytes>> {
        match std::mem::take(&mut self.first) {
            first if first.is_empty() => self.rest.next_block(),
            first => Ok(Some(first)),
        }
    }
}

/// The longest body that a request to a place may have; none where its body is not read.
pub(super) fn body_limit(service: &Service, endpoint: Endpoint, method: &Method) -> Option<u64> {
    match (endpoint, method) {
        (Endpoint::Procs, &Method::POST) => Some(service.limits.body),
        (Endpoint::Stop, &Method::POST) => Some(STOP_BODY),
        (Endpoint::LogLevel, &Method::PUT) => Some(state::LEVEL_BODY),
        (Endpoint::Sessions, &Method::POST) => Some(session::TRADE_BODY),
        _ => None,
    }
}

/// Answers any request.
pub(super) async fn dispatch(
    state: web::Data<AppState>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let mut payload = payload.into_inner();
    let peer = request.conn_data::<guard::Peer>();
    let answer = match admit(&state, request.head(), peer) {
        Err(failure) => settled(&state, peer, failure).await.error_response(),
        Ok(route) => {
            let (endpoint, method) = (route.endpoint(), request.method());
            let ctx =
                RequestContext { state: &state, request: &request, head: method == Method::HEAD };
            let answer = answer(&ctx, route, &mut payload);
            // What a request changes is done whether or not its client waits; what it only reads is for nobody then.
            let answer = match method.is_safe() {
                true => unless_gone(&request, answer).await,
                false => answer.await,
            };
            match answer {
                Ok(answer) => answer,
                Err(failure) => refusal(&settled(&state, peer, failure).await, endpoint, method),
            }
        }
    };
    drain(&mut payload).await;
    finish(&state, request.version(), answer, payload)
}

/// Takes what has come of a body that nobody wants, up to a limit: if that is all, the connection can be kept.
async fn drain(payload: &mut Payload) {
    if matches!(payload, Payload::None) {
        return;
    }
    // What came together with the head is handed on after this.
    tokio::task::yield_now().await;
    let mut left = DRAINED;
    while let Some(Some(Ok(piece))) = payload.next().now_or_never() {
        match left.checked_sub(piece.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// What `answer` gives, unless the client goes before that.
async fn unless_gone<T>(
    request: &HttpRequest,
    answer: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    match guard::connection(request) {
        Some(connection) => tokio::select! {
            biased;
            answer = answer => answer,
            () = disconnect::gone(connection) => Err(ApiError::Gone),
        },
        None => answer.await,
    }
}

async fn answer(
    ctx: &RequestContext<'_>,
    route: Route,
    payload: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    takes(&route, ctx.request.method())?;
    // Before anything is done of which the client would not take the answer.
    ctx.choose(COMPRESSED)?;
    let method = if ctx.head { &Method::GET } else { ctx.request.method() };
    match (&route, method) {
        (Route::Plain(Endpoint::Procs), &Method::GET) => procs::list(ctx).await,
        (Route::Plain(Endpoint::Procs), &Method::POST) => procs::start(ctx, payload).await,
        (Route::Plain(Endpoint::Procs), &Method::DELETE) => procs::prune(ctx).await,
        (Route::Proc(id), &Method::GET) => procs::one(ctx, id).await,
        (Route::Proc(id), &Method::DELETE) => procs::delete(ctx, id).await,
        (Route::Stop(id), &Method::POST) => procs::stop(ctx, id, payload).await,
        (Route::Signal { id, signal }, &Method::POST) => procs::signal(ctx, id, signal).await,
        (Route::Data { id, fd }, &Method::GET) => output::data(ctx, id, fd).await,
        (Route::Follow { id, fd }, &Method::GET) => output::follow(ctx, id, fd).await,
        (Route::Plain(Endpoint::Events), &Method::GET) => events::stream(ctx),
        (Route::Plain(Endpoint::EventsSocket), &Method::GET) => events::socket(ctx, payload),
        (Route::Plain(Endpoint::Agent), &Method::GET) => state::agent(ctx).await,
        (Route::Plain(Endpoint::LogLevel), &Method::GET) => state::log_level(ctx),
        (Route::Plain(Endpoint::LogLevel), &Method::PUT) => {
            state::set_log_level(ctx, payload).await
        }
        (Route::Plain(Endpoint::Healthz), &Method::GET) => state::healthz(ctx),
        (Route::Plain(Endpoint::Readyz), &Method::GET) => state::readyz(ctx).await,
        (Route::Plain(Endpoint::Metrics), &Method::GET) => state::metrics(ctx).await,
        (Route::Plain(Endpoint::OpenApi), &Method::GET) => state::openapi(ctx),
        (Route::Plain(Endpoint::SessionCodes), &Method::POST) => session::new_code(ctx),
        (Route::Plain(Endpoint::Sessions), &Method::POST) => session::trade(ctx, payload).await,
        (Route::Plain(Endpoint::Page), &Method::GET) => page::page(ctx),
        (Route::Asset(file), &Method::GET) => page::asset(ctx, file),
        _ => Err(ApiError::Method { method: ctx.request.method().to_string(), route }),
    }
}

/// `{"data": ...}`.
#[derive(Serialize)]
struct Data<T> {
    data: T,
}

fn data(ctx: &RequestContext<'_>, data: impl Serialize) -> Result<HttpResponse, ApiError> {
    // No type that is answered with can fail to be written.
    let body = serde_json::to_vec(&Data { data }).unwrap_or_default();
    let mut answer = HttpResponse::Ok();
    answer.insert_header((header::CONTENT_TYPE, JSON));
    ctx.send(answer, body.into())
}

/// The body of an answer to HEAD, where its length is not known before it is made.
fn unsent() -> HeadBody {
    HeadBody(BodySize::Stream)
}
