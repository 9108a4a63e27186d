//! Errors of requests, and the answers that report them.
//!
//! Every such answer has the body `{"errors": [{"status": "409", "detail": "..."}]}`, with one
//! entry for each error. A detail may quote the client's input; it never holds a secret, because
//! these types contain none.

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};

use super::access::Refusal;
use super::path::PathError;
use super::query::QueryError;
use crate::actors::WorkerEnding;
use crate::actors::messages::{CommandError, DeleteError, StartError};
use crate::actors::quota::QuotaExceeded;
use crate::api::{ErrorEntry, Errors, Problem};
use crate::spec::{ProcId, SpecErrors};

/// The type of JSON answers: clients compare it as a whole, so it has no charset.
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The peer is not authorized.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The peer has guessed at secrets too often.
    #[error(
        "too many wrong tokens, sessions or codes from this address: wait {seconds} s before the next attempt"
    )]
    TooManyGuesses {
        /// How long it should wait.
        seconds: u64,
    },
    /// No browser can reach the page.
    #[error("{0}")]
    NoPage(&'static str),
    /// A code needs random bytes.
    #[error("the kernel returned no random bytes: try again, or run `procstar upgrade`")]
    NoRandomness,
    /// The path names no endpoint.
    #[error(transparent)]
    Path(#[from] PathError),
    /// The endpoint does not accept this method.
    #[error("method not allowed here: {method}; allowed: {}", .allow)]
    Method {
        /// The request's method.
        method: String,
        /// The methods that the route accepts, as in the header `Allow`.
        allow: String,
    },
    /// The body's type is not JSON.
    #[error("unsupported content type {0}: send `Content-Type: application/json`")]
    ContentType(String),
    /// The body is compressed.
    #[error("unsupported content encoding: send the body as it is")]
    ContentEncoding,
    /// The body is too large.
    #[error("request body larger than {0} bytes (http.max_body)")]
    TooLarge(u64),
    /// The body did not arrive.
    #[error("failed to read request body: {0}")]
    Body(#[from] actix_web::error::PayloadError),
    /// The body stalled.
    #[error("failed to read request body: nothing came for {0} s")]
    BodyStalled(u64),
    /// The body is not a valid request.
    #[error(transparent)]
    Spec(#[from] SpecErrors),
    /// The request exceeds a limit; nothing was started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Unknown process.
    #[error("{}", unknown_process(.0))]
    UnknownProc(ProcId),
    /// Unknown signal.
    #[error("{}", crate::signal::unknown(.0))]
    UnknownSignal(String),
    /// The signal was not sent.
    #[error("{}", command_error(error, id))]
    Command {
        /// The process.
        id: ProcId,
        /// The reason.
        #[source]
        error: CommandError,
    },
    /// The process was not deleted.
    #[error("{}", delete_error(error, id))]
    Delete {
        /// The process.
        id: ProcId,
        /// The reason.
        #[source]
        error: DeleteError,
    },
    /// The page has no such file.
    #[error("the page has no file {0:?}")]
    NoAsset(String),
    /// The process has no capture of this fd.
    #[error("fd not captured: {fd} of {id}")]
    NotCaptured {
        /// The process.
        id: ProcId,
        /// The fd, as requested.
        fd: String,
    },
    /// The file of a capture no longer exists.
    #[error("captured output is gone: {fd} of {id}: its file was removed or replaced")]
    CaptureGone {
        /// The process.
        id: ProcId,
        /// The fd, as requested.
        fd: String,
    },
    /// The file of a capture was changed.
    #[error(
        "captured output was changed: {fd} of {id}: its file is not what it was when the process ended"
    )]
    CaptureChanged {
        /// The process.
        id: ProcId,
        /// The fd, as requested.
        fd: String,
    },
    /// Invalid query.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A position in a list is of another run of the worker.
    #[error("cursor of an earlier run of the worker: restart the list without a cursor")]
    OldCursor,
    /// No filter given for a deletion.
    #[error("name what to delete: by state, label or older_than")]
    NoFilter,
    /// The endpoint does not accept this body.
    #[error("malformed request body: {0}")]
    Json(#[from] serde_json::Error),
    /// Invalid grace period.
    #[error("grace: expected a number of seconds from 0 to 1e10, found {0}")]
    Grace(f64),
    /// The requested bytes do not exist.
    #[error("range beyond the {length} bytes that are captured")]
    RangeNotSatisfiable {
        /// The number of captured bytes.
        length: u64,
    },
    /// No character lies wholly within the range.
    #[error("no whole character within the range")]
    NoCharacter {
        /// The number of captured bytes.
        length: u64,
    },
    /// The client accepts no available coding.
    #[error("no acceptable content coding: there are gzip, br, zstd and identity")]
    NotAcceptable,
    /// A condition of the request does not hold.
    #[error("precondition failed: what is there has another ETag than the request names")]
    Precondition,
    /// The client has closed its connection; this error reaches no client.
    #[error("the client has closed the connection")]
    Gone,
    /// A capture cannot be read.
    #[error("failed to read capture: {0}")]
    Capture(#[from] std::io::Error),
    /// The worker is not ready.
    #[error("{0}")]
    NotReady(String),
    /// Invalid request for a WebSocket.
    #[error("no websocket: {0}")]
    Handshake(String),
    /// The actors have ended.
    #[error(transparent)]
    Closed(#[from] WorkerEnding),
}

/// The format of an error's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorForm {
    /// `{"errors": [...]}`, for older clients.
    Older,
    /// `application/problem+json`.
    Problem,
}

/// The content type of such an answer.
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");

impl ApiError {
    fn details(&self) -> Vec<String> {
        match self {
            ApiError::Spec(errors) => errors.0.iter().map(ToString::to_string).collect(),
            _ => vec![self.to_string()],
        }
    }

    fn entries(&self) -> Vec<ErrorEntry> {
        let status = self.status_code();
        let entry = |detail| ErrorEntry { status: status.as_str().to_owned(), detail };
        self.details().into_iter().map(entry).collect()
    }

    /// The answer's head.
    fn head(&self) -> actix_web::HttpResponseBuilder {
        let mut answer = HttpResponse::build(self.status_code());
        match self {
            ApiError::Method { allow, .. } => {
                answer.insert_header((header::ALLOW, allow.as_str()));
            }
            ApiError::RangeNotSatisfiable { length } | ApiError::NoCharacter { length } => {
                answer.insert_header((header::CONTENT_RANGE, format!("bytes */{length}")));
            }
            // The connection serves no purpose any more, and an unauthorized peer must not occupy
            // it.
            ApiError::Refused(_) | ApiError::Gone => {
                answer.force_close();
            }
            ApiError::TooManyGuesses { seconds } => {
                answer.insert_header((header::RETRY_AFTER, *seconds)).force_close();
            }
            _ => {}
        }
        answer
    }

    /// The answer as a problem, for the newer endpoints.
    pub(super) fn problem(&self) -> HttpResponse {
        let status = self.status_code();
        let errors = self.entries();
        let details: Vec<&str> = errors.iter().map(|entry| entry.detail.as_str()).collect();
        let problem = Problem {
            r#type: "about:blank".into(),
            title: status.canonical_reason().unwrap_or_default().into(),
            status: status.as_u16(),
            detail: details.join("; "),
            errors,
        };
        // Serialization of a struct of strings cannot fail.
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        self.head().insert_header((header::CONTENT_TYPE, PROBLEM)).body(body)
    }
}

/// The text for a command that was not carried out; the agent protocol has a fixed one for an ended
/// process.
fn command_error(error: &CommandError, id: &ProcId) -> String {
    match error {
        CommandError::Unknown => unknown_process(id),
        CommandError::Gone => format!("process has ended: {id}"),
        other => format!("{other}: {id}"),
    }
}

fn delete_error(error: &DeleteError, id: &ProcId) -> String {
    match error {
        DeleteError::Unknown => unknown_process(id),
        DeleteError::Running => {
            format!(
                "process is running: {id}; stop it first (POST /procs/ID/stop), and delete it after its end"
            )
        }
    }
}

fn unknown_process(id: &ProcId) -> String {
    format!("unknown process: {id}; list processes with 'procstar ps'")
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            ApiError::Refused(_) => StatusCode::FORBIDDEN,
            ApiError::TooManyGuesses { .. } => StatusCode::TOO_MANY_REQUESTS,
            ApiError::NoPage(_) => StatusCode::CONFLICT,
            ApiError::Path(PathError::Unknown) => StatusCode::NOT_FOUND,
            ApiError::Path(PathError::Percent | PathError::NotUtf8) => StatusCode::BAD_REQUEST,
            ApiError::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
            ApiError::ContentType(_) | ApiError::ContentEncoding => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            ApiError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            ApiError::BodyStalled(_) => StatusCode::REQUEST_TIMEOUT,
            ApiError::Body(_)
            | ApiError::Spec(_)
            | ApiError::UnknownSignal(_)
            | ApiError::Query(_)
            | ApiError::OldCursor
            | ApiError::NoFilter
            | ApiError::Json(_)
            | ApiError::Grace(_)
            | ApiError::Handshake(_) => StatusCode::BAD_REQUEST,
            ApiError::RangeNotSatisfiable { .. } | ApiError::NoCharacter { .. } => {
                StatusCode::RANGE_NOT_SATISFIABLE
            }
            ApiError::NotAcceptable => StatusCode::NOT_ACCEPTABLE,
            ApiError::Precondition => StatusCode::PRECONDITION_FAILED,
            // nginx's code for this case: HTTP itself has none.
            ApiError::Gone => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            ApiError::CaptureGone { .. } | ApiError::CaptureChanged { .. } => StatusCode::GONE,
            ApiError::Capture(_) => StatusCode::INTERNAL_SERVER_ERROR,
            ApiError::Start(
                StartError::InUse(_) | StartError::OtherSpec(_) | StartError::PipeToPresent(_),
            ) => StatusCode::CONFLICT,
            ApiError::Start(StartError::Quota(QuotaExceeded::Limit { .. })) => {
                StatusCode::BAD_REQUEST
            }
            ApiError::Start(StartError::Quota(_)) => StatusCode::TOO_MANY_REQUESTS,
            ApiError::Start(StartError::ShuttingDown(_))
            | ApiError::NotReady(_)
            | ApiError::NoRandomness
            | ApiError::Closed(_) => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::UnknownProc(_) | ApiError::NotCaptured { .. } | ApiError::NoAsset(_) => {
                StatusCode::NOT_FOUND
            }
            ApiError::Command { error, .. } => match error {
                CommandError::Unknown => StatusCode::NOT_FOUND,
                CommandError::Gone => StatusCode::CONFLICT,
                CommandError::Os(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                    StatusCode::FORBIDDEN
                }
                CommandError::Os(_) => StatusCode::INTERNAL_SERVER_ERROR,
            },
            ApiError::Delete { error, .. } => match error {
                DeleteError::Unknown => StatusCode::NOT_FOUND,
                DeleteError::Running => StatusCode::CONFLICT,
            },
        }
    }

    fn error_response(&self) -> HttpResponse {
        let errors = Errors { errors: self.entries() };
        // Serialization of a struct of strings cannot fail.
        let body = serde_json::to_vec(&errors).unwrap_or_default();
        self.head().insert_header((header::CONTENT_TYPE, JSON)).body(body)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::actors::WorkerEnding;
    use crate::actors::messages::ShutdownState;

    fn body(failure: &ApiError) -> serde_json::Value {
        let answer = failure.error_response();
        assert_eq!(answer.status(), failure.status_code());
        assert_eq!(answer.headers().get("content-type").unwrap(), "application/json");
        let body = actix_web::body::MessageBody::try_into_bytes(answer.into_body()).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn each_error_has_its_status_and_text() {
        let id = || ProcId::from("a/b");
        let signal = |error| ApiError::Command { id: id(), error };
        let delete = |error| ApiError::Delete { id: id(), error };
        let os = |errno| CommandError::Os(io::Error::from_raw_os_error(errno));
        let unknown = "unknown process: a/b; list processes with 'procstar ps'";
        for (failure, status, detail) in [
            (ApiError::UnknownProc(id()), "404", unknown),
            (
                ApiError::UnknownSignal("X".into()),
                "400",
                "unknown signal \"X\": expected a name such as TERM or SIGTERM ('kill -l' lists them), or a number from 1 to 64",
            ),
            (signal(CommandError::Unknown), "404", unknown),
            (signal(CommandError::Gone), "409", "process has ended: a/b"),
            (
                signal(os(libc::EPERM)),
                "403",
                "failed to send signal: Operation not permitted (os error 1): a/b",
            ),
            (
                signal(os(libc::EINVAL)),
                "500",
                "failed to send signal: Invalid argument (os error 22): a/b",
            ),
            (delete(DeleteError::Unknown), "404", unknown),
            (
                delete(DeleteError::Running),
                "409",
                "process is running: a/b; stop it first (POST /procs/ID/stop), and delete it after its end",
            ),
            (
                ApiError::NotCaptured { id: id(), fd: "3".into() },
                "404",
                "fd not captured: 3 of a/b",
            ),
            (
                StartError::InUse(vec!["a".into(), "b".into()]).into(),
                "409",
                "process ID already in use: a, b; delete the process first, or choose another ID",
            ),
            (
                StartError::ShuttingDown(ShutdownState::Idling).into(),
                "503",
                "agent shutting down: idling",
            ),
            (
                WorkerEnding.into(),
                "503",
                "agent shutting down: it may or may not have carried out the request; check when the instance runs again",
            ),
            (ApiError::BodyStalled(3), "408", "failed to read request body: nothing came for 3 s"),
            (ApiError::TooLarge(7), "413", "request body larger than 7 bytes (http.max_body)"),
        ] {
            let expected = serde_json::json!({"errors": [{"status": status, "detail": detail}]});
            assert_eq!(body(&failure), expected);
        }
    }

    #[test]
    fn every_spec_error_has_its_entry() {
        let text = br#"{"specs": {"a": {"argv": []}, "b": {"argv": ["x\u0000"]}}}"#;
        let failure = ApiError::from(crate::spec::from_json(text).unwrap_err());
        let body = body(&failure);
        let errors = body["errors"].as_array().unwrap();
        assert_eq!(errors.len(), 2, "{body}");
        for (error, id) in errors.iter().zip(["a", "b"]) {
            assert_eq!(error["status"], "400");
            let detail = error["detail"].as_str().unwrap();
            assert!(detail.contains(&format!(": specs.{id}.argv")), "{detail}");
            assert!(detail.starts_with("1:"), "{detail}");
        }
    }

    #[test]
    fn the_error_of_a_wrong_method_lists_the_allowed_methods() {
        let failure =
            ApiError::Method { method: "PUT".into(), allow: "GET, HEAD, POST, DELETE".into() };
        let answer = failure.error_response();
        assert_eq!(answer.headers().get("allow").unwrap(), "GET, HEAD, POST, DELETE");
        assert_eq!(body(&failure)["errors"][0]["status"], "405");
    }
}
