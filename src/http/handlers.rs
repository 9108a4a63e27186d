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

use super::answer::{admit, finish, refusal, settled, takes};
use super::blocks::{BlockStream, Blocks, Unsent};
use super::coding::{CODINGS, Choice, Coded, Coding};
use super::failure::{Failure, JSON};
use super::query::Query;
use super::results::Results;
use super::route::{Place, Route};
use super::server::{Service, Site};
use super::{conditions, gone, guard};
use crate::actors::messages::GetOne;
use crate::report::Facts;
use crate::spec::ProcId;

/// The longest body of a stop, in bytes.
const STOP_BODY: u64 = 4096;

/// So much of a body that nobody wants is taken for the connection's sake, in bytes.
const DRAINED: usize = 64 << 10;

/// A request, and what is known of it.
struct Asked<'a> {
    site: &'a web::Data<Site>,
    request: &'a HttpRequest,
    /// Whether the body is not wanted: what GET answers, HEAD answers without it.
    head: bool,
}

impl Asked<'_> {
    fn service(&self) -> &Service {
        &self.site.service
    }

    fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    fn query(&self) -> Option<&str> {
        self.request.uri().query()
    }

    /// Checks that a place that takes no query is given none.
    fn no_query(&self) -> Result<(), Failure> {
        Query::parse(self.query(), &[])?;
        Ok(())
    }

    /// The coding to answer in, where besides the bytes as they are these are there.
    fn choose(&self, codings: &[Coding]) -> Result<Choice, Failure> {
        let accepted = self.headers().get_all(header::ACCEPT_ENCODING);
        Choice::of(codings, accepted.map(|value| value.as_bytes())).ok_or(Failure::Coding)
    }

    /// Whether the client's conditions let an answer with this tag through; not where it has that answer already.
    fn wants(&self, tag: Option<&str>) -> Result<bool, Failure> {
        match conditions::weigh(self.headers(), tag) {
            conditions::Verdict::Go => Ok(true),
            conditions::Verdict::Known => Ok(false),
            conditions::Verdict::Failed => Err(Failure::Precondition),
        }
    }

    async fn find(&self, id: &ProcId) -> Result<Arc<Facts>, Failure> {
        let found = self.service().one.send(GetOne(id.clone())).await?;
        found.ok_or_else(|| Failure::UnknownProc(id.clone()))
    }

    /// A body that is there as a whole.
    fn send(&self, mut answer: HttpResponseBuilder, body: Bytes) -> Result<HttpResponse, Failure> {
        let (coding, body) = self.choose(CODINGS)?.encode(body)?;
        answer.insert_header((header::VARY, "Accept-Encoding"));
        if coding != Coding::Identity {
            answer.insert_header((header::CONTENT_ENCODING, coding.name()));
        }
        Ok(match self.head {
            true => answer.body(Unsent(BodySize::Sized(body.len() as u64))),
            false => answer.body(body),
        })
    }

    /// Results: as a whole where they are small, else made while they are sent.
    fn send_results(
        &self,
        mut answer: HttpResponseBuilder,
        mut results: Results,
    ) -> Result<HttpResponse, Failure> {
        answer.insert_header((header::CONTENT_TYPE, JSON));
        let first = results.next_block()?.unwrap_or_default();
        if results.is_over() {
            return self.send(answer, first);
        }
        answer.insert_header((header::VARY, "Accept-Encoding"));
        let (coding, blocks) = (self.choose(CODINGS)?.coding, After { first, rest: results });
        if coding != Coding::Identity {
            answer.insert_header((header::CONTENT_ENCODING, coding.name()));
        }
        Ok(match (self.head, coding) {
            (true, _) => answer.body(unsent()),
            (false, Coding::Identity) => answer.streaming(BlockStream::new(blocks)),
            (false, coding) => answer.streaming(BlockStream::new(Coded::new(blocks, coding)?)),
        })
    }
}

/// A body whose first block is made already; that one is empty once it has been sent.
struct After<B> {
    first: Bytes,
    rest: B,
}

impl<B: Blocks> Blocks for After<B> {
    fn next_block(&mut self) -> io::Result<Option<Bytes>> {
        match std::mem::take(&mut self.first) {
            first if first.is_empty() => self.rest.next_block(),
            first => Ok(Some(first)),
        }
    }
}

/// The longest body that a request to a place may have; none where its body is not read.
pub(super) fn body_limit(service: &Service, place: Place, method: &Method) -> Option<u64> {
    match (place, method) {
        (Place::Procs, &Method::POST) => Some(service.limits.body),
        (Place::Stop, &Method::POST) => Some(STOP_BODY),
        (Place::LogLevel, &Method::PUT) => Some(state::LEVEL_BODY),
        (Place::Sessions, &Method::POST) => Some(session::TRADE_BODY),
        _ => None,
    }
}

/// Answers any request.
pub(super) async fn dispatch(
    site: web::Data<Site>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let mut payload = payload.into_inner();
    let peer = request.conn_data::<guard::Peer>();
    let answer = match admit(&site, request.head(), peer) {
        Err(failure) => settled(&site, peer, failure).await.error_response(),
        Ok(route) => {
            let (place, method) = (route.place(), request.method());
            let asked = Asked { site: &site, request: &request, head: method == Method::HEAD };
            let answer = answer(&asked, route, &mut payload);
            // What a request changes is done whether or not its client waits; what it only reads is for nobody then.
            let answer = match method.is_safe() {
                true => unless_gone(&request, answer).await,
                false => answer.await,
            };
            match answer {
                Ok(answer) => answer,
                Err(failure) => refusal(&settled(&site, peer, failure).await, place, method),
            }
        }
    };
    drain(&mut payload).await;
    finish(&site, request.version(), answer, payload)
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
    answer: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match guard::connection(request) {
        Some(connection) => tokio::select! {
            biased;
            answer = answer => answer,
            () = gone::gone(connection) => Err(Failure::Gone),
        },
        None => answer.await,
    }
}

async fn answer(
    asked: &Asked<'_>,
    route: Route,
    payload: &mut Payload,
) -> Result<HttpResponse, Failure> {
    takes(&route, asked.request.method())?;
    // Before anything is done of which the client would not take the answer.
    asked.choose(CODINGS)?;
    let method = if asked.head { &Method::GET } else { asked.request.method() };
    match (&route, method) {
        (Route::Plain(Place::Procs), &Method::GET) => procs::list(asked).await,
        (Route::Plain(Place::Procs), &Method::POST) => procs::start(asked, payload).await,
        (Route::Plain(Place::Procs), &Method::DELETE) => procs::prune(asked).await,
        (Route::Proc(id), &Method::GET) => procs::one(asked, id).await,
        (Route::Proc(id), &Method::DELETE) => procs::delete(asked, id).await,
        (Route::Stop(id), &Method::POST) => procs::stop(asked, id, payload).await,
        (Route::Signal { id, signal }, &Method::POST) => procs::signal(asked, id, signal).await,
        (Route::Data { id, fd }, &Method::GET) => output::data(asked, id, fd).await,
        (Route::Follow { id, fd }, &Method::GET) => output::follow(asked, id, fd).await,
        (Route::Plain(Place::Events), &Method::GET) => events::stream(asked),
        (Route::Plain(Place::EventsSocket), &Method::GET) => events::socket(asked, payload),
        (Route::Plain(Place::Agent), &Method::GET) => state::agent(asked).await,
        (Route::Plain(Place::LogLevel), &Method::GET) => state::log_level(asked),
        (Route::Plain(Place::LogLevel), &Method::PUT) => state::set_log_level(asked, payload).await,
        (Route::Plain(Place::Healthz), &Method::GET) => state::healthz(asked),
        (Route::Plain(Place::Readyz), &Method::GET) => state::readyz(asked).await,
        (Route::Plain(Place::Metrics), &Method::GET) => state::metrics(asked).await,
        (Route::Plain(Place::OpenApi), &Method::GET) => state::openapi(asked),
        (Route::Plain(Place::SessionCodes), &Method::POST) => session::new_code(asked),
        (Route::Plain(Place::Sessions), &Method::POST) => session::trade(asked, payload).await,
        (Route::Plain(Place::Page), &Method::GET) => page::page(asked),
        (Route::Asset(file), &Method::GET) => page::asset(asked, file),
        _ => Err(Failure::Method { method: asked.request.method().to_string(), route }),
    }
}

/// `{"data": ...}`.
#[derive(Serialize)]
struct Data<T> {
    data: T,
}

fn data(asked: &Asked<'_>, data: impl Serialize) -> Result<HttpResponse, Failure> {
    // No type that is answered with can fail to be written.
    let body = serde_json::to_vec(&Data { data }).unwrap_or_default();
    let mut answer = HttpResponse::Ok();
    answer.insert_header((header::CONTENT_TYPE, JSON));
    asked.send(answer, body.into())
}

/// The body of an answer to HEAD, where its length is not known before it is made.
fn unsent() -> Unsent {
    Unsent(BodySize::Stream)
}
