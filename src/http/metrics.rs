//! `/metrics`: metrics in Prometheus' text form, in base units, without a label for a process.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::app_state::AppState;
use crate::actors::messages::ProcessCounts;
use crate::actors::status::LinkState;
use crate::procfs::is_ours;

/// The type of the body.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One family after another.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
        let labels = match labels.as_slice() {
            [] => String::new(),
            labels => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The metrics as they are now.
pub(super) fn text(state: &AppState, tally: &ProcessCounts) -> String {
    let status = &state.service.status;
    let mut text = Text(String::new());
    text.family("procstar_build_info", "gauge", "The program; always 1.");
    text.sample("procstar_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let start = status.start.unix_nanos as f64 / 1e9;
    text.one(
        "procstar_start_time_seconds",
        "gauge",
        "When the program started, since 1970.",
        start,
    );
    processes(&mut text, tally);
    text.family(
        "procstar_http_requests_total",
        "counter",
        "HTTP requests answered, by class of status.",
    );
    for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(&state.answered) {
        let count = count.load(Ordering::Relaxed) as f64;
        text.sample("procstar_http_requests_total", &[("code", class)], count);
    }
    let help = "HTTP requests refused, by reason; `guess` is a wrong token, session or code.";
    text.family("procstar_http_refusals_total", "counter", help);
    for (reason, count) in state.refusals.counts() {
        text.sample("procstar_http_refusals_total", &[("reason", reason)], count as f64);
    }
    connections(&mut text, state);
    if let Some(server) = &status.server {
        let link = server.status.get();
        let registered = f64::from(u8::from(link.state == LinkState::Registered));
        text.one(
            "procstar_server_registered",
            "gauge",
            "Whether the server knows this agent.",
            registered,
        );
        text.one(
            "procstar_server_reconnects_total",
            "counter",
            "Registrations after the first.",
            link.registrations.saturating_sub(1) as f64,
        );
        if let Some(time) = link.round_trip {
            let help = "How long the last ping to the server took.";
            text.one("procstar_server_round_trip_seconds", "gauge", help, time.as_secs_f64());
        }
    }
    resources(&mut text, &[("keeper", status.pid), ("worker", std::process::id())]);
    text.0
}

/// Listeners, and the connections of peers that have not authenticated.
fn connections(text: &mut Text, state: &AppState) {
    let (listening, missing) = state.service.status.listeners.count();
    text.family("procstar_http_listeners", "gauge", "Addresses to listen on, by state.");
    for (state, count) in [("listening", listening), ("missing", missing)] {
        text.sample("procstar_http_listeners", &[("state", state)], count as f64);
    }
    let connections = &state.unauthenticated;
    text.one(
        "procstar_http_unauthenticated_connections",
        "gauge",
        "TCP connections whose peers have not authenticated.",
        connections.count() as f64,
    );
    let refused = "procstar_http_unauthenticated_refused_total";
    text.family(refused, "counter", "Such connections that were closed at once, by limit.");
    for (limit, count) in connections.refused() {
        text.sample(refused, &[("limit", limit)], count as f64);
    }
    text.one(
        "procstar_http_unauthenticated_expired_total",
        "counter",
        "Such connections that were closed when their time was over.",
        connections.expired() as f64,
    );
}

fn processes(text: &mut Text, tally: &ProcessCounts) {
    text.family("procstar_processes", "gauge", "Processes that are not deleted, by state.");
    for (state, count) in
        [("running", tally.running), ("terminated", tally.terminated), ("error", tally.error)]
    {
        text.sample("procstar_processes", &[("state", state)], count as f64);
    }
    let started = tally.started as f64;
    text.one(
        "procstar_processes_started_total",
        "counter",
        "Processes started, or that could not be.",
        started,
    );
    text.family("procstar_processes_ended_total", "counter", "Processes ended, by reason.");
    for (reason, count) in &tally.ended {
        text.sample("procstar_processes_ended_total", &[("reason", reason)], *count as f64);
    }
    let help = "Bytes in the captures of processes, counted when these end.";
    text.one("procstar_captured_bytes_total", "counter", help, tally.captured_bytes as f64);
}

/// How many descriptors a process has. From Linux 6.2 on the size of the directory says so, also where it cannot be read, as the keeper's
/// cannot without privileges.
fn open_fds(pid: u32) -> Option<u64> {
    let directory = format!("/proc/{pid}/fd");
    let size = std::fs::metadata(&directory).map_or(0, |meta| meta.len());
    if size > 0 {
        return Some(size);
    }
    std::fs::read_dir(directory).ok().map(|entries| entries.count() as u64)
}

/// What our own two processes hold.
fn resources(text: &mut Text, parts: &[(&str, u32)]) {
    // By the numbers of another namespace they would be somebody else's.
    let parts = if is_ours() { parts } else { &[] };
    text.family("procstar_open_fds", "gauge", "Open file descriptors.");
    for (part, pid) in parts {
        if let Some(fds) = open_fds(*pid) {
            text.sample("procstar_open_fds", &[("part", part)], fds as f64);
        }
    }
    text.family("procstar_resident_memory_bytes", "gauge", "Resident memory.");
    let page = procfs::page_size() as f64;
    for (part, pid) in parts {
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
        if let Some(pages) = pages {
            text.sample("procstar_resident_memory_bytes", &[("part", part)], pages * page);
        }
    }
}
