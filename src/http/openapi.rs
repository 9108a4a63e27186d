//! The description of the API, made from the code: paths from what answers them, schemas from here where bodies are streamed.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::{OpenApi, ToSchema};

use super::about::AgentBody;
use super::handlers::{events, output, page, procs, state};
use super::log_level::LogLevelBody;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "procstar",
        description = "What runs on one machine: start, watch, stop and clear away processes, and read their output.",
    ),
    paths(
        procs::list,
        procs::start,
        procs::prune,
        procs::one,
        procs::delete,
        procs::stop,
        procs::signal,
        output::data,
        output::follow,
        events::stream,
        events::socket,
        state::agent,
        state::log_level,
        state::set_log_level,
        state::healthz,
        state::readyz,
        state::metrics,
        state::openapi,
        page::page,
        page::asset,
    ),
    components(schemas(OutputShown, State))
)]
struct Description;

/// The description, as JSON.
pub(super) fn json() -> String {
    // It holds nothing that cannot be written.
    Description::openapi().to_json().unwrap_or_default()
}

/// A good answer without anything to tell.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what handlers answer")]
pub(super) struct EmptyAnswer {
    #[schema(value_type = Object)]
    data: Value,
}

/// A good answer that names processes.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what handlers answer")]
pub(super) struct NamedAnswer {
    data: NamedData,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what handlers answer")]
struct NamedData {
    proc_ids: Vec<String>,
}

/// A good answer with results.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is streamed")]
pub(super) struct ProcsAnswer {
    data: ProcsData,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is streamed")]
struct ProcsData {
    /// By process ID.
    procs: BTreeMap<String, ProcResult>,
    /// Only with `limit`: what to give as `cursor` for the next page; null where this is the last.
    #[schema(required = false)]
    next: Option<String>,
}

/// What became of a process; see `docs/results.md`. Keys may be added.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is streamed")]
struct ProcResult {
    state: State,
    errors: Vec<String>,
    pid: Option<i32>,
    #[schema(value_type = Option<Object>)]
    proc_stat: Value,
    #[schema(value_type = Option<Object>)]
    proc_statm: Value,
    #[schema(value_type = Option<Object>)]
    cgroup_accounting: Value,
    times: Times,
    reason: Option<String>,
    status: Option<Status>,
    #[schema(value_type = Option<Object>)]
    rusage: Value,
    /// By fd: how much is captured.
    #[schema(value_type = Object)]
    captures: Value,
    /// By fd: its output, or null.
    #[schema(value_type = Object)]
    fds: BTreeMap<String, Option<FdEntry>>,
    /// Only with `output=tail`: by fd, where in the capture the shown bytes begin.
    #[schema(required = false, nullable = false)]
    offsets: Option<BTreeMap<String, u64>>,
}

#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what is streamed")]
pub(super) enum State {
    Running,
    Terminated,
    Error,
}

/// How much of the captures results show.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what is parsed elsewhere")]
pub(super) enum OutputShown {
    Inline,
    None,
    Tail,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is streamed")]
struct Times {
    #[schema(format = DateTime)]
    start: String,
    #[schema(format = DateTime)]
    now: String,
    #[schema(format = DateTime)]
    stop: Option<String>,
    elapsed: f64,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is streamed")]
struct Status {
    status: i32,
    exit_code: Option<i32>,
    signum: Option<i32>,
    signal: Option<String>,
    core_dump: bool,
}

/// Output, by `type`: `text` has `text`, `data` has `data`, `detached` has `length`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is streamed")]
struct FdEntry {
    r#type: String,
    encoding: String,
    #[schema(required = false, nullable = false)]
    text: Option<String>,
    #[schema(required = false, nullable = false)]
    data: Option<String>,
    #[schema(required = false, nullable = false)]
    length: Option<u64>,
}

/// What to start; see `docs/specs.md`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is parsed elsewhere")]
pub(super) struct SpecsBody {
    /// By process ID.
    #[schema(value_type = BTreeMap<String, Object>)]
    specs: Value,
}

/// One event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is streamed")]
pub(super) struct EventBody {
    /// `snapshot`, `reset`, `started`, `ended`, `updated`, `deleted`, `shutdown` or `figures`.
    event: String,
    /// To go on after this event; null within a snapshot, for `reset` and for `figures`.
    cursor: Option<String>,
    /// How many changes before this one have been missed, if any.
    #[schema(required = false)]
    missed: u64,
    /// Which process: of `started`, `ended`, `updated` and `deleted`.
    #[schema(required = false)]
    id: String,
    /// Its result, without output or in brief: of `started`, `ended` and `updated`.
    #[schema(required = false, value_type = Object)]
    result: Value,
    /// By ID, results, without output or in brief: of `snapshot`; what is used: of `figures`.
    #[schema(required = false, value_type = BTreeMap<String, Object>)]
    procs: Value,
    /// How many processes there are: of `figures`.
    #[schema(required = false, value_type = Object)]
    counts: Value,
    /// The connection to the server, as in `/agent`: of `figures`.
    #[schema(required = false, value_type = Option<Object>)]
    connection: Value,
    /// Whether more parts of the snapshot follow: of `snapshot`.
    #[schema(required = false)]
    more: bool,
    /// `active`, `idling` or `done`: of `snapshot` and `shutdown`.
    #[schema(required = false)]
    shutdown_state: String,
}

/// A good answer of `/log-level`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what a handler answers")]
pub(super) struct LogLevelAnswer {
    #[schema(inline)]
    data: LogLevelBody,
}

/// A good answer of `/agent`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what a handler answers")]
pub(super) struct AgentAnswer {
    #[schema(inline)]
    data: AgentBody<'static>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::route::Place;

    /// Every path with each of its methods, HEAD left out: it goes with GET.
    #[test]
    fn all_places_are_described_and_nothing_else() {
        let description: Value = serde_json::from_str(&json()).unwrap();
        let mut described = BTreeSet::new();
        for (path, operations) in description["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                described.insert((path.clone(), method.to_uppercase()));
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.contains_key("403"), "{method} {path}: who is not let in");
                assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path}");
            }
        }
        let served = Place::ALL.iter().flat_map(|place| {
            let methods = place.allow().split(", ").filter(|method| *method != "HEAD");
            methods.map(|method| (place.template().to_owned(), method.to_owned()))
        });
        assert_eq!(described, served.collect());
    }

    /// Every reference leads somewhere.
    #[test]
    fn all_schemas_are_there() {
        let text = json();
        let description: Value = serde_json::from_str(&text).unwrap();
        let schemas = description["components"]["schemas"].as_object().unwrap();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        assert!(schemas.contains_key("ProcResult") && schemas.contains_key("Problem"));
    }
}
