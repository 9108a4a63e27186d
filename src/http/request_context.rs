//! A request in its handler, and the answers that handlers share.

use std::io;
use std::sync::Arc;

use actix_web::body::BodySize;
use actix_web::http::header::{self, HeaderMap};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::Bytes;
use serde::Serialize;

use super::app_state::{AppState, Service};
use super::body_stream::{BodySource, BodyStream, HeadBody};
use super::content_encoding::{AcceptedEncoding, COMPRESSED, ContentEncoding, EncodedBody};
use super::error::{ApiError, JSON};
use super::path::PathParams;
use super::preconditions::{self, Precondition};
use super::query::Query;
use super::results_body::ResultsBody;
use super::{disconnect, guard};
use crate::report::ProcessRecord;
use crate::spec::ProcId;

/// A request, with its connection and route.
pub(super) struct RequestContext<'a> {
    pub(super) state: &'a web::Data<AppState>,
    pub(super) request: &'a HttpRequest,
    /// The values of the placeholders of its route.
    pub(super) params: &'a PathParams,
    /// Whether to omit the body: HEAD is answered like GET, without the body.
    pub(super) head: bool,
    /// The description of the API, which lists the routes and so is above the handlers.
    pub(super) description: fn() -> String,
}

impl RequestContext<'_> {
    pub(super) fn service(&self) -> &Service {
        &self.state.service
    }

    /// The process that the path names.
    pub(super) fn id(&self) -> ProcId {
        self.params.get("id").into()
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        self.request.headers()
    }

    pub(super) fn query(&self) -> Option<&str> {
        self.request.uri().query()
    }

    /// Rejects a query, for an endpoint without one.
    pub(super) fn no_query(&self) -> Result<(), ApiError> {
        Query::parse(self.query(), &[])?;
        Ok(())
    }

    /// Chooses the coding of the answer, between the uncompressed bytes and these codings.
    pub(super) fn choose(&self, codings: &[ContentEncoding]) -> Result<AcceptedEncoding, ApiError> {
        let accepted = self.headers().get_all(header::ACCEPT_ENCODING);
        AcceptedEncoding::of(codings, accepted.map(|value| value.as_bytes()))
            .ok_or(ApiError::NotAcceptable)
    }

    /// Whether the client's conditions admit an answer with this tag; false if it already has that
    /// answer.
    pub(super) fn wants(&self, tag: Option<&str>) -> Result<bool, ApiError> {
        match preconditions::weigh(self.headers(), tag) {
            Precondition::Holds => Ok(true),
            Precondition::NotModified => Ok(false),
            Precondition::Failed => Err(ApiError::Precondition),
        }
    }

    pub(super) async fn find(&self, id: &ProcId) -> Result<Arc<ProcessRecord>, ApiError> {
        let found = self.service().actors.await_start(id.clone()).await?;
        found.ok_or_else(|| ApiError::UnknownProc(id.clone()))
    }

    /// Returns the result of `answer`, unless the client closes its connection first.
    pub(super) async fn unless_gone<T>(
        &self,
        answer: impl Future<Output = Result<T, ApiError>>,
    ) -> Result<T, ApiError> {
        match guard::connection(self.request) {
            Some(connection) => tokio::select! {
                biased;
                answer = answer => answer,
                () = disconnect::gone(connection) => Err(ApiError::Gone),
            },
            None => answer.await,
        }
    }

    /// `{"data": ...}`.
    pub(super) fn data(&self, data: impl Serialize) -> Result<HttpResponse, ApiError> {
        // Serialization of our answers cannot fail.
        let body = serde_json::to_vec(&Data { data }).unwrap_or_default();
        let mut answer = HttpResponse::Ok();
        answer.insert_header((header::CONTENT_TYPE, JSON));
        self.send(answer, body.into())
    }

    /// Sends a complete body.
    pub(super) fn send(
        &self,
        mut answer: HttpResponseBuilder,
        body: Bytes,
    ) -> Result<HttpResponse, ApiError> {
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

    /// Sends results: as a whole if they are small, otherwise created while they are sent.
    pub(super) fn send_results(
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

/// A body whose first block exists already; the block is empty once it has been sent.
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

/// `{"data": ...}`.
#[derive(Serialize)]
struct Data<T> {
    data: T,
}

/// The body of an answer to HEAD whose length is unknown.
pub(super) fn unsent() -> HeadBody {
    HeadBody(BodySize::Stream)
}
