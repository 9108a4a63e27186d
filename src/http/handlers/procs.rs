//! Processes: lists, results, start, stop, signals, deletion.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::dev::Payload;
use actix_web::http::header;
use futures_util::{StreamExt, stream};

use crate::actors::messages::{Cursor, Page};
use crate::api::{Named, Nothing, SignalName, StopBody};
use crate::clock::TimePoint;
use crate::engine::{ProcessCommand, StopOrder};
use crate::http::error::ApiError;
use crate::http::openapi::{
    EmptyAnswer, Errors, NamedAnswer, OutputShown, Problem, ProcsAnswer, ResultProcState, SpecsBody,
};
use crate::http::query::{ListQuery, ProcFilter, Query, ResultQuery};
use crate::http::request_context::RequestContext;
use crate::http::results_body::ResultsBody;
use crate::http::{disconnect, guard, openapi, preconditions, request_body};
use crate::report::ProcessRecord;
use crate::signal::signal_number;
use crate::spec::ProcId;

/// Maximum number of processes that are examined for a page, or deleted, at once.
const BATCH: usize = 1024;
/// Maximum length of the body of a stop, in bytes.
pub(in crate::http) const STOP_BODY: u64 = 4096;
/// Maximum number of concurrent deletions.
const DELETIONS: usize = 16;

/// Returns the results of all processes, or of those that match the filters.
#[utoipa::path(
    get, path = "/procs", tag = "processes",
    params(
        ("state" = Option<Vec<ResultProcState>>, Query, explode, description = "Only processes in one of these states: `running`, `terminated`, \
            `error`; repeat it, or separate several by commas"),
        ("label" = Option<Vec<String>>, Query, explode, description = "Only processes with this label: `KEY=VALUE`, or `KEY` with any \
            value; if repeated, processes with all of them"),
        ("older_than" = Option<f64>, Query, description = "Only processes that ended at least this many seconds ago"),
        ("output" = Option<OutputShown>, Query, description = "How much captured output the results contain; `inline` by default"),
        ("tail" = Option<u64>, Query, description = "Maximum number of bytes of each capture with `output=tail`; 4096 by default"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 10000, description = "Maximum number of results; if more follow, the answer has `next`"),
        ("Accept-Encoding" = Option<String>, Header, description = "Available codings: gzip, br, zstd"),
        ("cursor" = Option<String>, Query, description = "The `next` of the previous page"),
    ),
    responses(
        (status = 200, description = "The results, in the order of the requests", body = ProcsAnswer),
        (status = 400, description = "Invalid query", body = Errors, content_type = "application/json"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 503, description = "The instance is ending", body = Errors, content_type = "application/json"),
        (status = 406, description = "No available coding is acceptable", body = Errors, content_type = "application/json"),
    ),
)]
pub(in crate::http) async fn list(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    let listing = ListQuery::of(ctx.query())?;
    let now = TimePoint::now();
    let context = Arc::clone(&ctx.service().context);
    let results = match listing.limit {
        None => {
            let mut procs = ctx.service().actors.get_all().await?;
            procs.retain(|record| listing.filter.admits(record, now));
            ResultsBody::new(procs, context, listing.output)
        }
        Some(limit) => {
            let (procs, next) = page(ctx, &listing, limit).await?;
            ResultsBody::new(procs, context, listing.output).page(next)
        }
    };
    ctx.send_results(HttpResponse::Ok(), results)
}

/// Up to `limit` selected processes, and the position of the next page.
async fn page(
    ctx: &RequestContext<'_>,
    listing: &ListQuery,
    limit: usize,
) -> Result<(Vec<Arc<ProcessRecord>>, Option<Cursor>), ApiError> {
    let now = TimePoint::now();
    let mut found: Vec<(Cursor, Arc<ProcessRecord>)> = Vec::new();
    let mut after = listing.cursor;
    loop {
        let page = ctx.service().actors.get_page(after, BATCH).await?;
        let Page { procs, next } = page.ok_or(ApiError::OldCursor)?;
        found.extend(procs.into_iter().filter(|(_, record)| listing.filter.admits(record, now)));
        if found.len() > limit {
            // At least one more follows, so this page is not the last.
            found.truncate(limit);
            let last = found.last().map(|(position, _)| *position);
            return Ok((found.into_iter().map(|(_, record)| record).collect(), last));
        }
        match next {
            Some(next) => after = Some(next),
            None => return Ok((found.into_iter().map(|(_, record)| record).collect(), None)),
        }
    }
}

/// Returns the result of a process.
#[utoipa::path(
    get, path = "/procs/{id}", tag = "processes",
    params(
        ("id" = String, Path, description = "The process's ID, percent-encoded"),
        ("output" = Option<OutputShown>, Query, description = "How much captured output the results contain; `inline` by default"),
        ("tail" = Option<u64>, Query, description = "Maximum number of bytes of each capture with `output=tail`; 4096 by default"),
        ("wait" = Option<f64>, Query, minimum = 0, maximum = 3600, description = "Wait until the process has ended, but not longer than this \
            many seconds"),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier answer"),
        ("Accept-Encoding" = Option<String>, Header, description = "Available codings: gzip, br, zstd"),
    ),
    responses(
        (status = 200, description = "The result", body = ProcsAnswer, headers(("ETag" = String, description = "Weak: it stays the same \
            while only the elapsed time changes"))),
        (status = 304, description = "The result still has the ETag of `If-None-Match`"),
        (status = 400, description = "Invalid query", body = Errors, content_type = "application/json"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 404, description = "Unknown process", body = Errors, content_type = "application/json"),
        (status = 503, description = "The instance is ending", body = Errors, content_type = "application/json"),
        (status = 406, description = "No available coding is acceptable", body = Errors, content_type = "application/json"),
        (status = 412, description = "`If-Match` names another `ETag`", body = Errors, content_type = "application/json"),
    ),
)]
pub(in crate::http) async fn one(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    let id = &ctx.id();
    let ResultQuery { output, wait } = ResultQuery::of(ctx.query())?;
    let mut record = ctx.find(id).await?;
    if let Some(wait) = wait.filter(|_| record.is_running()) {
        record = ended(ctx, id, wait).await?;
    }
    let context = &ctx.service().context;
    let tag = tag(ctx, &record);
    let wanted = ctx.wants(Some(&tag))?;
    let mut answer = if wanted { HttpResponse::Ok() } else { HttpResponse::NotModified() };
    answer.insert_header((header::ETAG, tag));
    if !wanted {
        return Ok(answer.insert_header((header::VARY, "Accept-Encoding")).finish());
    }
    ctx.send_results(answer, ResultsBody::new(vec![record], Arc::clone(context), output))
}

/// Waits until a process has ended, `wait` has elapsed or the client has disconnected, and returns
/// the record of that moment.
async fn ended(
    ctx: &RequestContext<'_>,
    id: &ProcId,
    wait: Duration,
) -> Result<Arc<ProcessRecord>, ApiError> {
    let closed = async {
        match guard::connection(ctx.request) {
            Some(connection) => disconnect::closed(connection).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = ctx.service().actors.await_end(id.clone()) => {
            ended?.ok_or_else(|| ApiError::UnknownProc(id.clone()))
        }
        () = tokio::time::sleep(wait) => ctx.find(id).await,
        () = closed => ctx.find(id).await,
    }
}

/// The tag of a result. Weak, because a result also contains the elapsed time.
fn tag(ctx: &RequestContext<'_>, record: &ProcessRecord) -> String {
    format!("W/\"{:016x}\"", record.fingerprint(&ctx.service().context))
}

/// Starts all processes of the request, or, if the request is invalid, none.
///
/// Answers once each has started or failed to start; their results are then available.
#[utoipa::path(
    post, path = "/procs", tag = "processes",
    request_body(content = SpecsBody, content_type = "application/json"),
    responses(
        (status = 200, description = "All have started or failed to start; their results report failures", body = NamedAnswer),
        (status = 400, description = "Invalid request; each error names its position", body = Errors, content_type = "application/json"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 408, description = "The body did not arrive in time", body = Errors, content_type = "application/json"),
        (status = 409, description = "An ID is in use", body = Errors, content_type = "application/json"),
        (status = 413, description = "The body is too large", body = Errors, content_type = "application/json"),
        (status = 415, description = "The body is not JSON", body = Errors, content_type = "application/json"),
        (status = 429, description = "The request exceeds the configured number of processes or amount of captured output", body = Errors,
            content_type = "application/json"),
        (status = 503, description = "No new processes are accepted", body = Errors, content_type = "application/json"),
        (status = 406, description = "No available coding is acceptable", body = Errors, content_type = "application/json"),
    ),
)]
pub(in crate::http) async fn start(
    ctx: &RequestContext<'_>,
    payload: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    let service = ctx.service();
    let specs = request_body::read(ctx.headers(), payload, service.limits.body).await?;
    let ids: Vec<ProcId> = specs.procs.keys().cloned().collect();
    service.actors.start(specs).await??;
    // A process that is already unknown again has started, ended, and was deleted.
    ctx.unless_gone(async { Ok(service.actors.await_starts(&ids).await?) }).await?;
    ctx.data(Named { proc_ids: &ids })
}

/// Deletes an ended process and its captures.
#[utoipa::path(
    delete, path = "/procs/{id}", tag = "processes",
    params(("id" = String, Path, description = "The process's ID, percent-encoded")),
    responses(
        (status = 200, description = "The process is deleted", body = EmptyAnswer),
        (status = 400, description = "Invalid query", body = Errors, content_type = "application/json"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 404, description = "Unknown process", body = Errors, content_type = "application/json"),
        (status = 409, description = "The process is running", body = Errors, content_type = "application/json"),
        (status = 503, description = "The instance is ending", body = Errors, content_type = "application/json"),
        (status = 406, description = "No available coding is acceptable", body = Errors, content_type = "application/json"),
        (status = 412, description = "`If-Match` names another `ETag`", body = Errors, content_type = "application/json"),
    ),
)]
pub(in crate::http) async fn delete(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    let id = &ctx.id();
    // Only conditional requests read the record: while a process is starting, reading it would delay
    // the answer.
    if preconditions::any(ctx.headers()) {
        let tag = tag(ctx, &*ctx.find(id).await?);
        if !ctx.wants(Some(&tag))? {
            return Err(ApiError::Precondition);
        }
    }
    let deleted = ctx.service().actors.delete(id.clone()).await?;
    deleted.map_err(|error| ApiError::Delete { id: id.clone(), error })?;
    ctx.data(Nothing {})
}

/// Deletes ended processes by state, label and age, and answers with their IDs. At least one filter
/// is required.
#[utoipa::path(
    delete, path = "/procs", tag = "processes",
    params(
        ("state" = Option<Vec<ResultProcState>>, Query, explode, description = "Only processes in one of these states: `running`, `terminated`, \
            `error`; repeat it, or separate several by commas"),
        ("label" = Option<Vec<String>>, Query, explode, description = "Only processes with this label: `KEY=VALUE`, or `KEY` with any \
            value; if repeated, processes with all of them"),
        ("older_than" = Option<f64>, Query, description = "Only processes that ended at least this many seconds ago"),
    ),
    responses(
        (status = 200, description = "The deleted processes", body = NamedAnswer),
        (status = 400, description = "Invalid query, or a query without a filter", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The instance is ending", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Access denied", body = Errors, content_type = "application/json"),
        (status = 406, description = "No available coding is acceptable", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn prune(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    let filter = ProcFilter::of(&Query::parse(ctx.query(), &ProcFilter::NAMES)?)?;
    if filter.is_empty() {
        return Err(ApiError::NoFilter);
    }
    let now = TimePoint::now();
    let (mut deleted, mut after) = (Vec::new(), None);
    loop {
        let page = ctx.service().actors.get_page(after, BATCH).await?;
        let Page { procs, next } = page.ok_or(ApiError::OldCursor)?;
        let ended = procs.into_iter().filter(|(_, record)| !record.is_running());
        let meant = ended.filter(|(_, record)| filter.admits(record, now));
        let ids: Vec<ProcId> = meant.map(|(_, record)| record.id.clone()).collect();
        let delete = |id: ProcId| async {
            let outcome = ctx.service().actors.delete(id.clone()).await?;
            // Another client may have deleted it first.
            Ok::<_, ApiError>(outcome.ok().map(|()| id))
        };
        let mut outcomes = stream::iter(ids).map(delete).buffered(DELETIONS);
        while let Some(outcome) = outcomes.next().await {
            deleted.extend(outcome?);
        }
        match next {
            Some(next) => after = Some(next),
            None => return ctx.data(Named { proc_ids: &deleted }),
        }
    }
}

/// Stops a process: sends a signal, and SIGKILL if the process still runs after the grace period.
///
/// Answers once the signal is sent.
#[utoipa::path(
    post, path = "/procs/{id}/stop", tag = "processes",
    params(("id" = String, Path, description = "The process's ID, percent-encoded")),
    request_body(content = Option<openapi::StopBody>, content_type = "application/json"),
    responses(
        (status = 200, description = "The signal is sent", body = EmptyAnswer),
        (status = 400, description = "Invalid body", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "Unknown process", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The process has ended", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The kernel could not send the signal", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The instance is ending", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Access denied, or procstar may not send the signal to this process", content(
            (Errors = "application/json"), (Problem = "application/problem+json"))),
        (status = 406, description = "No available coding is acceptable", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(in crate::http) async fn stop(
    ctx: &RequestContext<'_>,
    payload: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    let id = &ctx.id();
    ctx.no_query()?;
    let has_body = ctx.request.headers().contains_key(header::CONTENT_TYPE)
        || ctx.request.headers().get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    let StopBody { signal, grace } = match has_body {
        true => {
            serde_json::from_slice(&request_body::json(ctx.headers(), payload, STOP_BODY).await?)?
        }
        false => StopBody::default(),
    };
    let signal = signal.map(|signal| match signal {
        SignalName::Number(number) => number.to_string(),
        SignalName::Name(name) => name,
    });
    let number = |name: String| signal_number(&name).ok_or(ApiError::UnknownSignal(name));
    let signal = signal.map(number).transpose()?;
    let seconds = |seconds: f64| {
        let longest = 1e10;
        (0.0..=longest).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
    };
    let grace = grace.map(|grace| seconds(grace).ok_or(ApiError::Grace(grace))).transpose()?;
    let order = StopOrder { signum: signal, grace, shutdown: false };
    command(ctx, id, ProcessCommand::Stop(order)).await
}

/// Sends a signal to a process.
#[utoipa::path(
    post, path = "/procs/{id}/signals/{signal}", tag = "processes",
    params(
        ("id" = String, Path, description = "The process's ID, percent-encoded"),
        ("signal" = String, Path, description = "The signal's name, with or without `SIG`, or its number"),
    ),
    responses(
        (status = 200, description = "The signal is sent", body = EmptyAnswer),
        (status = 400, description = "Unknown signal", body = Errors, content_type = "application/json"),
        (status = 403, description = "Access denied, or procstar may not send the signal to this process", body = Errors, content_type = "application/json"),
        (status = 404, description = "Unknown process", body = Errors, content_type = "application/json"),
        (status = 409, description = "The process has ended", body = Errors, content_type = "application/json"),
        (status = 500, description = "The kernel could not send the signal", body = Errors, content_type = "application/json"),
        (status = 503, description = "The instance is ending", body = Errors, content_type = "application/json"),
        (status = 406, description = "No available coding is acceptable", body = Errors, content_type = "application/json"),
    ),
)]
pub(in crate::http) async fn signal(
    ctx: &RequestContext<'_>,
    _: &mut Payload,
) -> Result<HttpResponse, ApiError> {
    let id = &ctx.id();
    let signal = ctx.params.get("signal");
    let signum = signal_number(signal).ok_or_else(|| ApiError::UnknownSignal(signal.to_owned()))?;
    command(ctx, id, ProcessCommand::Signal(signum)).await
}

/// Sends a command to a process, and answers when the engine has executed it.
async fn command(
    ctx: &RequestContext<'_>,
    id: &ProcId,
    command: ProcessCommand,
) -> Result<HttpResponse, ApiError> {
    let outcome = ctx.service().actors.command(id.clone(), command).await?;
    outcome.map_err(|error| ApiError::Command { id: id.clone(), error })?;
    ctx.data(Nothing {})
}
