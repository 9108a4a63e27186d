//! Processes: lists, results, start, stop, signals, deletion.

use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::dev::Payload;
use actix_web::http::header;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Asked, STOP_BODY, data, unless_gone};
use crate::actors::messages::{
    AwaitEnd, Delete, GetAll, GetOne, GetPage, Page, Position, Signal, SignalError, Start, Stop,
};
use crate::engine::TimePoint;
use crate::http::failure::{Errors, Failure, Problem};
use crate::http::openapi::{
    EmptyAnswer, NamedAnswer, OutputShown, ProcState, ProcsAnswer, SpecsBody,
};
use crate::http::query::{Filter, Listing, One, Query};
use crate::http::results::Results;
use crate::http::{body, conditions, gone, guard};
use crate::report::Facts;
use crate::signal::signal_number;
use crate::spec::ProcId;

/// So many processes are looked at for a page, or deleted, at once.
const BATCH: usize = 1024;
/// So many deletions are under way at once.
const DELETIONS: usize = 16;

/// The data of an answer that has nothing to tell.
#[derive(Serialize)]
struct Nothing {}

/// The data of an answer that names processes.
#[derive(Serialize)]
struct Named<'a> {
    proc_ids: &'a [ProcId],
}

/// Every process's result, or those that are asked for.
#[utoipa::path(
    get, path = "/procs", tag = "processes",
    params(
        ("state" = Option<Vec<ProcState>>, Query, explode, description = "Only processes in any of these states: `running`, `terminated`, \
            `error`; may be repeated, or joined by commas"),
        ("label" = Option<Vec<String>>, Query, explode, description = "Only processes with this label: `KEY=VALUE`, or `KEY` for any \
            value; may be repeated, and then all are needed"),
        ("older_than" = Option<f64>, Query, description = "Only processes that ended so many seconds ago, or longer"),
        ("output" = Option<OutputShown>, Query, description = "How much of the captures results show; `inline` by default"),
        ("tail" = Option<u64>, Query, description = "The bytes of each capture that `output=tail` shows; 4096 by default"),
        ("limit" = Option<usize>, Query, minimum = 1, maximum = 10000, description = "The most results; the answer then has `next`"),
        ("Accept-Encoding" = Option<String>, Header, description = "gzip, br and zstd are there"),
        ("cursor" = Option<String>, Query, description = "What an earlier answer gave as `next`, to get those that come after it"),
    ),
    responses(
        (status = 200, description = "The results, in the order in which the processes were accepted", body = ProcsAnswer),
        (status = 400, description = "The query is not understood", body = Errors, content_type = "application/json"),
        (status = 403, description = "Not let in", body = Errors, content_type = "application/json"),
        (status = 503, description = "The agent ends", body = Errors, content_type = "application/json"),
        (status = 406, description = "No coding is acceptable", body = Errors, content_type = "application/json"),
    ),
)]
pub(super) async fn list(asked: &Asked<'_>) -> Result<HttpResponse, Failure> {
    let listing = Listing::of(asked.query())?;
    let now = TimePoint::now();
    let context = Arc::clone(&asked.service().context);
    let results = match listing.limit {
        None => {
            let mut procs = asked.service().all.send(GetAll).await?;
            procs.retain(|facts| listing.filter.admits(facts, now));
            Results::new(procs, context, listing.output)
        }
        Some(limit) => {
            let (procs, next) = page(asked, &listing, limit).await?;
            Results::new(procs, context, listing.output).page(next)
        }
    };
    asked.send_results(HttpResponse::Ok(), results)
}

/// Up to `limit` processes that are wanted, and where the next page begins.
async fn page(
    asked: &Asked<'_>,
    listing: &Listing,
    limit: usize,
) -> Result<(Vec<Arc<Facts>>, Option<Position>), Failure> {
    let now = TimePoint::now();
    let mut found: Vec<(Position, Arc<Facts>)> = Vec::new();
    let mut after = listing.cursor;
    loop {
        let page = asked.service().page.send(GetPage { after, max: BATCH }).await?;
        let Page { procs, next } = page.ok_or(Failure::OldCursor)?;
        found.extend(procs.into_iter().filter(|(_, facts)| listing.filter.admits(facts, now)));
        if found.len() > limit {
            // There is one more, so the last of these is not the last of all.
            found.truncate(limit);
            let last = found.last().map(|(position, _)| *position);
            return Ok((found.into_iter().map(|(_, facts)| facts).collect(), last));
        }
        match next {
            Some(next) => after = Some(next),
            None => return Ok((found.into_iter().map(|(_, facts)| facts).collect(), None)),
        }
    }
}

/// One process's result.
#[utoipa::path(
    get, path = "/procs/{id}", tag = "processes",
    params(
        ("id" = String, Path, description = "The process's ID, percent-encoded"),
        ("output" = Option<OutputShown>, Query, description = "How much of the captures results show; `inline` by default"),
        ("tail" = Option<u64>, Query, description = "The bytes of each capture that `output=tail` shows; 4096 by default"),
        ("wait" = Option<f64>, Query, minimum = 0, maximum = 3600, description = "Answer only when the process has ended, or after so \
            many seconds"),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier answer"),
        ("Accept-Encoding" = Option<String>, Header, description = "gzip, br and zstd are there"),
    ),
    responses(
        (status = 200, description = "The result", body = ProcsAnswer, headers(("ETag" = String, description = "Weak: the same while \
            nothing but time has changed"))),
        (status = 304, description = "Nothing but time has changed"),
        (status = 400, description = "The query is not understood", body = Errors, content_type = "application/json"),
        (status = 403, description = "Not let in", body = Errors, content_type = "application/json"),
        (status = 404, description = "No such process", body = Errors, content_type = "application/json"),
        (status = 503, description = "The agent ends", body = Errors, content_type = "application/json"),
        (status = 406, description = "No coding is acceptable", body = Errors, content_type = "application/json"),
        (status = 412, description = "`If-Match` names another `ETag`", body = Errors, content_type = "application/json"),
    ),
)]
pub(super) async fn one(asked: &Asked<'_>, id: &ProcId) -> Result<HttpResponse, Failure> {
    let One { output, wait } = One::of(asked.query())?;
    let mut facts = asked.find(id).await?;
    if let Some(wait) = wait.filter(|_| facts.is_running()) {
        facts = ended(asked, id, wait).await?;
    }
    let context = &asked.service().context;
    let tag = tag(asked, &facts);
    let wanted = asked.wants(Some(&tag))?;
    let mut answer = if wanted { HttpResponse::Ok() } else { HttpResponse::NotModified() };
    answer.insert_header((header::ETAG, tag));
    if !wanted {
        return Ok(answer.insert_header((header::VARY, "Accept-Encoding")).finish());
    }
    asked.send_results(answer, Results::new(vec![facts], Arc::clone(context), output))
}

/// A process's facts when it has ended; or those of now, when the time is over or nobody waits any more.
async fn ended(asked: &Asked<'_>, id: &ProcId, wait: Duration) -> Result<Arc<Facts>, Failure> {
    let closed = async {
        match guard::connection(asked.request) {
            Some(connection) => gone::closed(connection).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = asked.service().end.send(AwaitEnd(id.clone())) => {
            ended?.ok_or_else(|| Failure::UnknownProc(id.clone()))
        }
        () = tokio::time::sleep(wait) => asked.find(id).await,
        () = closed => asked.find(id).await,
    }
}

/// The tag of a result. Weak: the passing of time changes a result as well.
fn tag(asked: &Asked<'_>, facts: &Facts) -> String {
    format!("W/\"{:016x}\"", facts.fingerprint(&asked.service().context))
}

/// Starts processes: every process of the request, or none.
///
/// Answers once each has started or failed to: whoever reads the answer can read their results.
#[utoipa::path(
    post, path = "/procs", tag = "processes",
    request_body(content = SpecsBody, content_type = "application/json"),
    responses(
        (status = 200, description = "All are started, or have failed to, which their results tell", body = NamedAnswer),
        (status = 400, description = "No valid request; each error names its place", body = Errors, content_type = "application/json"),
        (status = 403, description = "Not let in", body = Errors, content_type = "application/json"),
        (status = 408, description = "The body did not come", body = Errors, content_type = "application/json"),
        (status = 409, description = "An ID is in use", body = Errors, content_type = "application/json"),
        (status = 413, description = "The body is too large", body = Errors, content_type = "application/json"),
        (status = 415, description = "The body is not JSON", body = Errors, content_type = "application/json"),
        (status = 429, description = "There would be more processes, or captured output, than the configuration allows", body = Errors,
            content_type = "application/json"),
        (status = 503, description = "No new processes are accepted", body = Errors, content_type = "application/json"),
        (status = 406, description = "No coding is acceptable", body = Errors, content_type = "application/json"),
    ),
)]
pub(super) async fn start(
    asked: &Asked<'_>,
    payload: &mut Payload,
) -> Result<HttpResponse, Failure> {
    let service = asked.service();
    let specs = body::read(asked.headers(), payload, service.limits.body).await?;
    let ids: Vec<ProcId> = specs.procs.keys().cloned().collect();
    service.start.send(Start(specs)).await??;
    let started = async {
        for id in &ids {
            // None where it has been deleted already: it has been started before that.
            service.one.send(GetOne(id.clone())).await?;
        }
        Ok(())
    };
    unless_gone(asked.request, started).await?;
    data(asked, Named { proc_ids: &ids })
}

/// Forgets an ended process and its captures.
#[utoipa::path(
    delete, path = "/procs/{id}", tag = "processes",
    params(("id" = String, Path, description = "The process's ID, percent-encoded")),
    responses(
        (status = 200, description = "It is forgotten", body = EmptyAnswer),
        (status = 400, description = "The query is not understood", body = Errors, content_type = "application/json"),
        (status = 403, description = "Not let in", body = Errors, content_type = "application/json"),
        (status = 404, description = "No such process", body = Errors, content_type = "application/json"),
        (status = 409, description = "It is running", body = Errors, content_type = "application/json"),
        (status = 503, description = "The agent ends", body = Errors, content_type = "application/json"),
        (status = 406, description = "No coding is acceptable", body = Errors, content_type = "application/json"),
        (status = 412, description = "`If-Match` names another `ETag`", body = Errors, content_type = "application/json"),
    ),
)]
pub(super) async fn delete(asked: &Asked<'_>, id: &ProcId) -> Result<HttpResponse, Failure> {
    // Looked up only where that is needed: a process that is only just being started would hold up the answer.
    if conditions::any(asked.headers()) {
        let tag = tag(asked, &*asked.find(id).await?);
        if !asked.wants(Some(&tag))? {
            return Err(Failure::Precondition);
        }
    }
    let deleted = asked.service().delete.send(Delete(id.clone())).await?;
    deleted.map_err(|error| Failure::Delete { id: id.clone(), error })?;
    data(asked, Nothing {})
}

/// Forgets ended processes by state, label and age, at least one of which must be given, and answers with those forgotten.
#[utoipa::path(
    delete, path = "/procs", tag = "processes",
    params(
        ("state" = Option<Vec<ProcState>>, Query, explode, description = "Only processes in any of these states: `running`, `terminated`, \
            `error`; may be repeated, or joined by commas"),
        ("label" = Option<Vec<String>>, Query, explode, description = "Only processes with this label: `KEY=VALUE`, or `KEY` for any \
            value; may be repeated, and then all are needed"),
        ("older_than" = Option<f64>, Query, description = "Only processes that ended so many seconds ago, or longer"),
    ),
    responses(
        (status = 200, description = "These are forgotten", body = NamedAnswer),
        (status = 400, description = "The query is not understood, or names nothing", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The agent ends", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Not let in", body = Errors, content_type = "application/json"),
        (status = 406, description = "No coding is acceptable", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn prune(asked: &Asked<'_>) -> Result<HttpResponse, Failure> {
    let filter = Filter::of(&Query::parse(asked.query(), &Filter::NAMES)?)?;
    if filter.is_empty() {
        return Err(Failure::NoFilter);
    }
    let now = TimePoint::now();
    let (mut deleted, mut after) = (Vec::new(), None);
    loop {
        let page = asked.service().page.send(GetPage { after, max: BATCH }).await?;
        let Page { procs, next } = page.ok_or(Failure::OldCursor)?;
        let ended = procs.into_iter().filter(|(_, facts)| !facts.is_running());
        let meant = ended.filter(|(_, facts)| filter.admits(facts, now));
        let ids: Vec<ProcId> = meant.map(|(_, facts)| facts.id.clone()).collect();
        let delete = |id: ProcId| async {
            let outcome = asked.service().delete.send(Delete(id.clone())).await?;
            // Another client may have been faster.
            Ok::<_, Failure>(outcome.ok().map(|()| id))
        };
        let mut outcomes = stream::iter(ids).map(delete).buffered(DELETIONS);
        while let Some(outcome) = outcomes.next().await {
            deleted.extend(outcome?);
        }
        match next {
            Some(next) => after = Some(next),
            None => return data(asked, Named { proc_ids: &deleted }),
        }
    }
}

/// How to stop a process.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct StopBody {
    /// The first signal, by name or number; without one, what its spec says, or SIGTERM.
    signal: Option<SignalName>,
    /// The time that it has to end, in seconds; without one, what its spec says, or 10.
    #[schema(minimum = 0, maximum = 1e10)]
    grace: Option<f64>,
}

/// A signal as a client writes it.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
enum SignalName {
    Number(i32),
    Name(String),
}

/// Stops a process: a signal, and SIGKILL if it has not ended when the grace is over. Answers once the signal is sent.
#[utoipa::path(
    post, path = "/procs/{id}/stop", tag = "processes",
    params(("id" = String, Path, description = "The process's ID, percent-encoded")),
    request_body(content = Option<StopBody>, content_type = "application/json"),
    responses(
        (status = 200, description = "The signal is sent", body = EmptyAnswer),
        (status = 400, description = "The body is not understood", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such process", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not come", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It has ended", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "The body is not JSON", body = Problem, content_type = "application/problem+json"),
        (status = 500, description = "The system refuses the signal", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The agent ends", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "Not let in, or the system does not permit the signal", content(
            (Errors = "application/json"), (Problem = "application/problem+json"))),
        (status = 406, description = "No coding is acceptable", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn stop(
    asked: &Asked<'_>,
    id: &ProcId,
    payload: &mut Payload,
) -> Result<HttpResponse, Failure> {
    asked.no_query()?;
    let has_body = asked.request.headers().contains_key(header::CONTENT_TYPE)
        || asked.request.headers().get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    let StopBody { signal, grace } = match has_body {
        true => serde_json::from_slice(&body::json(asked.headers(), payload, STOP_BODY).await?)?,
        false => StopBody::default(),
    };
    let signal = signal.map(|signal| match signal {
        SignalName::Number(number) => number.to_string(),
        SignalName::Name(name) => name,
    });
    let number = |name: String| signal_number(&name).ok_or(Failure::UnknownSignal(name));
    let signal = signal.map(number).transpose()?;
    let seconds = |seconds: f64| {
        let longest = 1e10;
        (0.0..=longest).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
    };
    let grace = grace.map(|grace| seconds(grace).ok_or(Failure::Grace(grace))).transpose()?;
    let stopped = asked.service().stop.send(Stop { id: id.clone(), signal, grace }).await?;
    sent(asked, id, stopped)
}

/// Sends a process a signal.
#[utoipa::path(
    post, path = "/procs/{id}/signals/{signal}", tag = "processes",
    params(
        ("id" = String, Path, description = "The process's ID, percent-encoded"),
        ("signal" = String, Path, description = "By name, with or without `SIG`, or number"),
    ),
    responses(
        (status = 200, description = "It is sent", body = EmptyAnswer),
        (status = 400, description = "No such signal", body = Errors, content_type = "application/json"),
        (status = 403, description = "Not let in, or the system does not permit it", body = Errors, content_type = "application/json"),
        (status = 404, description = "No such process", body = Errors, content_type = "application/json"),
        (status = 409, description = "It has ended", body = Errors, content_type = "application/json"),
        (status = 500, description = "The system refuses otherwise", body = Errors, content_type = "application/json"),
        (status = 503, description = "The agent ends", body = Errors, content_type = "application/json"),
        (status = 406, description = "No coding is acceptable", body = Errors, content_type = "application/json"),
    ),
)]
pub(super) async fn signal(
    asked: &Asked<'_>,
    id: &ProcId,
    signal: &str,
) -> Result<HttpResponse, Failure> {
    let signum = signal_number(signal).ok_or_else(|| Failure::UnknownSignal(signal.to_owned()))?;
    sent(asked, id, asked.service().signal.send(Signal { id: id.clone(), signum }).await?)
}

fn sent(
    asked: &Asked<'_>,
    id: &ProcId,
    outcome: Result<(), SignalError>,
) -> Result<HttpResponse, Failure> {
    outcome.map_err(|error| Failure::Signal { id: id.clone(), error })?;
    data(asked, Nothing {})
}
