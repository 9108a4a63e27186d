//! `/metrics`: metrics in Prometheus' text form, in base units, without a label for a process.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use nix::sys::resource::{Resource, getrlimit};

use super::app_state::AppState;
use crate::actors::messages::ProcessCounts;
use crate::actors::status::LinkState;
use crate::procfs::is_ours;

/// The type of the body.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The outcome of a process that failed to start.
const START_ERROR: &str = "start_error";

/// The outcomes of processes. All are always shown, so that rates start from zero.
const OUTCOMES: [&str; 8] =
    ["success", "failure", "signal", "timeout", "stopped", "oom", "lost", START_ERROR];

/// The text, family by family.
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
        "Start time of the keeper, in seconds since 1970.",
        start,
    );
    processes(&mut text, tally);
    text.family(
        "procstar_http_requests_total",
        "counter",
        "Answered HTTP requests, by class of status.",
    );
    for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(&state.answered) {
        let count = count.load(Ordering::Relaxed) as f64;
        text.sample("procstar_http_requests_total", &[("status_class", class)], count);
    }
    let help = "Refused HTTP requests, by reason; `guess` is a wrong token, session or code.";
    text.family("procstar_http_refusals_total", "counter", help);
    for (reason, count) in state.refusals.counts() {
        text.sample("procstar_http_refusals_total", &[("reason", reason)], count as f64);
    }
    connections(&mut text, state);
    if let Some(server) = &status.server {
        let link = server.status.get();
        let registered = f64::from(u8::from(link.state == LinkState::Registered));
        text.one(
            "procstar_scheduler_registered",
            "gauge",
            "1 while the agent is registered with the scheduler, else 0.",
            registered,
        );
        text.one(
            "procstar_scheduler_reconnects_total",
            "counter",
            "Registrations with the scheduler after the first.",
            link.registrations.saturating_sub(1) as f64,
        );
        // The family is always there, so that a dashboard and the reference find it; the value only
        // once a ping has been answered.
        let name = "procstar_scheduler_round_trip_seconds";
        text.family(name, "gauge", "Round-trip time of the last ping to the scheduler.");
        if let Some(time) = link.round_trip {
            text.sample(name, &[], time.as_secs_f64());
        }
    }
    resources(&mut text, &[("keeper", status.pid), ("worker", std::process::id())]);
    worker(&mut text);
    text.0
}

/// Listeners, and the connections of peers that have not authenticated.
fn connections(text: &mut Text, state: &AppState) {
    let (listening, missing) = state.service.status.listeners.count();
    text.family("procstar_http_listeners", "gauge", "Configured listeners, by state.");
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
    text.family(
        refused,
        "counter",
        "Unauthenticated connections closed at once, by exceeded limit.",
    );
    for (limit, count) in connections.refused() {
        text.sample(refused, &[("limit", limit)], count as f64);
    }
    text.one(
        "procstar_http_unauthenticated_expired_total",
        "counter",
        "Unauthenticated connections closed after their time limit.",
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
    let failed = tally.ended.get(START_ERROR).copied().unwrap_or_default();
    text.family(
        "procstar_process_starts_total",
        "counter",
        "Attempts to start a process, by result.",
    );
    for (result, count) in [("success", tally.started.saturating_sub(failed)), ("error", failed)] {
        text.sample("procstar_process_starts_total", &[("result", result)], count as f64);
    }
    text.family("procstar_process_ends_total", "counter", "Ended processes, by outcome.");
    for outcome in OUTCOMES {
        let count = tally.ended.get(outcome).copied().unwrap_or_default();
        text.sample("procstar_process_ends_total", &[("outcome", outcome)], count as f64);
    }
    let help = "Captured bytes of ended processes.";
    text.one("procstar_captured_bytes_total", "counter", help, tally.captured_bytes as f64);
}

/// The number of a process's descriptors. From Linux 6.2 on, it is the size of the directory, even
/// if that cannot be read: an unprivileged worker cannot read the keeper's.
fn open_fds(pid: u32) -> Option<u64> {
    let directory = format!("/proc/{pid}/fd");
    let size = std::fs::metadata(&directory).map_or(0, |meta| meta.len());
    if size > 0 {
        return Some(size);
    }
    std::fs::read_dir(directory).ok().map(|entries| entries.count() as u64)
}

/// The resource usage of our own two processes.
fn resources(text: &mut Text, components: &[(&str, u32)]) {
    // Pids of another namespace would name other processes.
    let components = if is_ours() { components } else { &[] };
    text.family("procstar_open_fds", "gauge", "Open file descriptors.");
    for (component, pid) in components {
        if let Some(fds) = open_fds(*pid) {
            text.sample("procstar_open_fds", &[("component", component)], fds as f64);
        }
    }
    text.family("procstar_resident_memory_bytes", "gauge", "Resident memory.");
    let page = procfs::page_size() as f64;
    for (component, pid) in components {
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<f64>().ok());
        if let Some(pages) = pages {
            text.sample(
                "procstar_resident_memory_bytes",
                &[("component", component)],
                pages * page,
            );
        }
    }
}

/// The standard metrics of a process, for the one that answers: the worker.
fn worker(text: &mut Text) {
    if let Some(fds) = open_fds(std::process::id()) {
        text.one("process_open_fds", "gauge", "Open file descriptors of the worker.", fds as f64);
    }
    if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let help = "Maximum number of open file descriptors.";
        text.one("process_max_fds", "gauge", help, soft as f64);
    }
    let Ok(stat) = procfs::process::Process::myself().and_then(|process| process.stat()) else {
        return;
    };
    let ticks = procfs::ticks_per_second() as f64;
    let cpu = (stat.utime + stat.stime) as f64 / ticks;
    text.one("process_cpu_seconds_total", "counter", "CPU time of the worker, in seconds.", cpu);
    let help = "Resident memory of the worker, in bytes.";
    let resident = (stat.rss * procfs::page_size()) as f64;
    text.one("process_resident_memory_bytes", "gauge", help, resident);
    let help = "Virtual memory of the worker, in bytes.";
    text.one("process_virtual_memory_bytes", "gauge", help, stat.vsize as f64);
    if let Ok(boot) = procfs::boot_time_secs() {
        let help = "Start time of the worker, in seconds since 1970.";
        let start = boot as f64 + stat.starttime as f64 / ticks;
        text.one("process_start_time_seconds", "gauge", help, start);
    }
}
