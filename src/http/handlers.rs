//! What is done for each request: a message to an actor, and its reply as an answer.

pub(super) mod events;
pub(super) mod output;
pub(super) mod page;
pub(super) mod procs;
pub(super) mod state;

use std::sync::Arc;

use actix_web::body::BodySize;
use actix_web::http::Method;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use serde::Serialize;

use super::blocks::Unsent;
use super::failure::{Failure, JSON};
use super::query::Query;
use super::route::{Place, Route};
use super::server::{Service, Site};
use crate::actors::messages::GetOne;
use crate::report::Facts;
use crate::spec::ProcId;

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

    fn query(&self) -> Option<&str> {
        self.request.uri().query()
    }

    /// Checks that a place that takes no query is given none.
    fn no_query(&self) -> Result<(), Failure> {
        Query::parse(self.query(), &[])?;
        Ok(())
    }

    async fn find(&self, id: &ProcId) -> Result<Arc<Facts>, Failure> {
        let found = self.service().one.send(GetOne(id.clone())).await?;
        found.ok_or_else(|| Failure::UnknownProc(id.clone()))
    }
}

/// Answers any request that is let in.
pub(super) async fn dispatch(
    site: web::Data<Site>,
    request: HttpRequest,
    payload: web::Payload,
) -> HttpResponse {
    let route = match Route::parse(request.uri().path()) {
        Ok(route) => route,
        Err(error) => return Failure::from(error).error_response(),
    };
    let head = *request.method() == Method::HEAD;
    let place = route.place();
    let asked = Asked { site: &site, request: &request, head };
    match answer(&asked, route, payload).await {
        Ok(answer) => answer,
        Err(failure) if is_of_the_contract(place, request.method()) => failure.error_response(),
        Err(failure) => failure.problem(),
    }
}

/// Whether existing clients know a place, and so the form of its errors.
fn is_of_the_contract(place: Place, method: &Method) -> bool {
    match place {
        Place::Procs => method != Method::DELETE,
        Place::Proc | Place::Signal | Place::Data => true,
        _ => false,
    }
}

async fn answer(
    asked: &Asked<'_>,
    route: Route,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
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
        (Route::Plain(Place::EventsSocket), &Method::GET) if !asked.head => {
            events::socket(asked, payload)
        }
        (Route::Plain(Place::Agent), &Method::GET) => state::agent(asked).await,
        (Route::Plain(Place::LogLevel), &Method::GET) => state::log_level(asked),
        (Route::Plain(Place::LogLevel), &Method::PUT) => state::set_log_level(asked, payload).await,
        (Route::Plain(Place::Healthz), &Method::GET) => state::healthz(asked),
        (Route::Plain(Place::Readyz), &Method::GET) => state::readyz(asked).await,
        (Route::Plain(Place::Metrics), &Method::GET) => state::metrics(asked).await,
        (Route::Plain(Place::OpenApi), &Method::GET) => state::openapi(asked),
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

fn data(data: impl Serialize) -> HttpResponse {
    // No type that is answered with can fail to be written.
    let body = serde_json::to_vec(&Data { data }).unwrap_or_default();
    HttpResponse::Ok().insert_header((header::CONTENT_TYPE, JSON)).body(body)
}

/// The body of an answer to HEAD, where its length is not known before it is made.
fn unsent() -> Unsent {
    Unsent(BodySize::Stream)
}
