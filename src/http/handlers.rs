//! What is done for each request: a message to an actor, and its reply as an answer.

use std::sync::Arc;

use actix_web::body::{BodySize, SizedStream};
use actix_web::http::header::{self, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::blocks::{BlockStream, Unsent};
use super::body;
use super::failure::{Failure, JSON};
use super::output::Output;
use super::results::Results;
use super::route::Route;
use super::server::Service;
use crate::actors::messages::{Delete, GetAll, GetOne, Signal, Start};
use crate::report::Facts;
use crate::signal::signal_number;
use crate::spec::ProcId;

/// Answers any request that is let in.
pub(super) async fn dispatch(
    service: web::Data<Service>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let route = Route::parse(request.uri().path())?;
    let head = *request.method() == Method::HEAD;
    // What GET answers, HEAD answers without the body.
    let method = if head { &Method::GET } else { request.method() };
    match (&route, method) {
        (Route::Procs, &Method::GET) => all(&service, head).await,
        (Route::Procs, &Method::POST) => start(&service, &request, payload).await,
        (Route::Proc(id), &Method::GET) => one(&service, id, head).await,
        (Route::Proc(id), &Method::DELETE) => delete(&service, id).await,
        (Route::Signal { id, signal }, &Method::POST) => send_signal(&service, id, signal).await,
        (Route::Output { id, fd }, &Method::GET) => output(&service, id, fd, head).await,
        _ => Err(Failure::Method { method: request.method().to_string(), route }),
    }
}

/// `{"data": ...}`.
#[derive(Serialize)]
struct Data<T> {
    data: T,
}

/// The data of an answer that has nothing to tell.
#[derive(Serialize)]
struct Nothing {}

/// The data of the answer to `POST /procs`.
#[derive(Serialize)]
struct StartedProcs<'a> {
    /// In the order of the request.
    proc_ids: &'a [ProcId],
}

fn data(data: impl Serialize) -> HttpResponse {
    // Neither of the types above can fail to be written.
    let body = serde_json::to_vec(&Data { data }).unwrap_or_default();
    HttpResponse::Ok().insert_header((header::CONTENT_TYPE, JSON)).body(body)
}

async fn all(service: &Service, head: bool) -> Result<HttpResponse, Failure> {
    let procs = service.all.send(GetAll).await?;
    Ok(results(service, procs, head))
}

async fn one(service: &Service, id: &ProcId, head: bool) -> Result<HttpResponse, Failure> {
    let facts = find(service, id).await?;
    Ok(results(service, vec![facts], head))
}

async fn find(service: &Service, id: &ProcId) -> Result<Arc<Facts>, Failure> {
    let found = service.one.send(GetOne(id.clone())).await?;
    found.ok_or_else(|| Failure::UnknownProc(id.clone()))
}

fn results(service: &Service, procs: Vec<Arc<Facts>>, head: bool) -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    answer.insert_header((header::CONTENT_TYPE, JSON));
    if head {
        return answer.body(Unsent(BodySize::Stream));
    }
    answer.streaming(BlockStream::new(Results::new(procs, Arc::clone(&service.sampler))))
}

/// Answers once every process has started or failed to: whoever reads the answer can read their results.
async fn start(
    service: &Service,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let specs = body::read(request, payload).await?;
    let ids: Vec<ProcId> = specs.procs.keys().cloned().collect();
    service.start.send(Start(specs)).await??;
    for id in &ids {
        // None where it has been deleted already: it has been started before that.
        service.one.send(GetOne(id.clone())).await?;
    }
    Ok(data(StartedProcs { proc_ids: &ids }))
}

async fn delete(service: &Service, id: &ProcId) -> Result<HttpResponse, Failure> {
    let deleted = service.delete.send(Delete(id.clone())).await?;
    deleted.map_err(|error| Failure::Delete { id: id.clone(), error })?;
    Ok(data(Nothing {}))
}

async fn send_signal(
    service: &Service,
    id: &ProcId,
    signal: &str,
) -> Result<HttpResponse, Failure> {
    let signum = signal_number(signal).ok_or_else(|| Failure::UnknownSignal(signal.to_owned()))?;
    let sent = service.signal.send(Signal { id: id.clone(), signum }).await?;
    sent.map_err(|error| Failure::Signal { id: id.clone(), error })?;
    Ok(data(Nothing {}))
}

async fn output(
    service: &Service,
    id: &ProcId,
    fd: &str,
    head: bool,
) -> Result<HttpResponse, Failure> {
    let facts = find(service, id).await?;
    // What is no fd name is not captured either.
    let output = fd.parse().ok().and_then(|fd| Output::new(&facts.captures, fd));
    let output =
        output.ok_or_else(|| Failure::NotCaptured { id: id.clone(), fd: fd.to_owned() })?;
    let (length, content_type) = (output.len(), output.content_type());
    let mut answer = HttpResponse::build(StatusCode::OK);
    answer.insert_header((header::CONTENT_TYPE, HeaderValue::from_static(content_type)));
    if head {
        return Ok(answer.body(Unsent(BodySize::Sized(length))));
    }
    Ok(answer.body(SizedStream::new(length, BlockStream::new(output))))
}
