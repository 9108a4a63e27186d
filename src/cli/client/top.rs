//! `procstar top`: running processes by resource usage, live on a terminal.

mod screen;

use std::collections::HashMap;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use self::screen::{Key, Screen};
use super::api::{Api, Results};
use super::error::ClientError;
use super::humanize;
use super::options::{ListFormat, Selector, TopArgs};
use super::out::{Out, Style};
use super::persist::PATIENCE;
use super::proc::Proc;
use super::table::{Cell, Head, TextTable, cut};
use crate::api::ServiceStatus;
use crate::cli::printable::{printable, printable_json};

/// A process in one update.
struct Row {
    id: String,
    proc: Proc,
    /// The share of one processor: 1.0 is all of it.
    cpu: f64,
}

/// The status of the instance.
struct Status {
    known: ServiceStatus<'static>,
    /// The same with all keys of the response.
    raw: Box<RawValue>,
}

impl Status {
    fn of(raw: Box<RawValue>) -> serde_json::Result<Status> {
        Ok(Status { known: serde_json::from_str(raw.get())?, raw })
    }
}

/// The output with `-o json`.
#[derive(Serialize)]
struct TopJson<'a> {
    agent: &'a RawValue,
    processes: Vec<Value>,
}

/// CPU time and elapsed time at the last update, by ID and pid.
type Before = HashMap<(String, Option<i32>), (f64, f64)>;

/// Shows running processes, until the user quits or once.
///
/// # Errors
/// No response, or the connection is lost for good.
pub async fn top(args: &TopArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    let live =
        out.terminal && !args.once && matches!(args.format, ListFormat::Table | ListFormat::Wide);
    if live { watch(args, api, out).await } else { once(args, api, out).await }
}

async fn once(args: &TopArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    let (status, rows) = fetch(args, api, &mut Before::new()).await?;
    match args.format {
        ListFormat::Table | ListFormat::Wide => {
            let mut lines = heading(&status.known);
            lines.push(String::new());
            lines.extend(table(&rows, args.format).lines(out));
            out.write(lines.join("\n") + "\n")?;
        }
        ListFormat::Json => {
            let text = all_as_json(&status, &rows).map_err(|e| api.nonsense(e.to_string()))?;
            out.write(printable_json(&(text + "\n")))?;
        }
        ListFormat::Jsonl => {
            for row in &rows {
                out.write(printable_json(&format!("{}\n", as_json(row))))?;
            }
        }
    }
    Ok(0)
}

async fn watch(args: &TopArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    let mut screen = Screen::open(out)?;
    let mut before = Before::new();
    // The loop must keep reading keys while no worker responds.
    api.fail_at_once();
    let mut last: Option<(Status, Vec<Row>)> = None;
    let mut gone = None;
    let mut ticks = interval_at(Instant::now() + args.interval, args.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // A key works while a response is pending, too: it may never come.
        let key = tokio::select! {
            looked = fetch(args, api, &mut before) => {
                let note = match (looked, &last) {
                    (Ok(found), _) => {
                        gone = None;
                        last = Some(found);
                        "q: quit"
                    }
                    // The worker is being replaced.
                    (Err(ClientError::Unreachable { .. } | ClientError::Lost { .. }), Some(_))
                        if gone.get_or_insert_with(Instant::now).elapsed() < PATIENCE =>
                    {
                        "q: quit; no worker answers, trying again"
                    }
                    (Err(error), _) => return Err(error),
                };
                if let Some((status, rows)) = &last {
                    screen.draw(&page(&status.known, rows, args.format, note, screen.out()))?;
                }
                tokio::select! {
                    _ = ticks.tick() => Key::Other,
                    key = screen.key() => key,
                }
            }
            key = screen.key() => key,
        };
        match key {
            Key::Quit => return Ok(0),
            Key::Signal(signum) => return Ok(128_u8.saturating_add(signum)),
            Key::Suspend => screen.suspend()?,
            Key::Resumed => screen.resume()?,
            Key::Resized | Key::Other => {}
        }
    }
}

/// The content of the terminal.
fn page(
    status: &ServiceStatus<'_>,
    rows: &[Row],
    format: ListFormat,
    note: &str,
    out: &Out,
) -> Vec<String> {
    let (width, height) = out.size().unwrap_or((80, 24));
    let mut lines: Vec<String> = heading(status).iter().map(|line| cut(line, width)).collect();
    lines.push(String::new());
    lines.extend(table(rows, format).lines(out));
    lines.truncate(height.saturating_sub(1));
    lines.push(out.paint(Style::Dim, note));
    lines
}

/// Requests all running processes; the busiest first.
async fn fetch(
    args: &TopArgs,
    api: &Api,
    before: &mut Before,
) -> Result<(Status, Vec<Row>), ClientError> {
    let running = Selector { state: vec!["running".into()], ..Selector::default() };
    let (raw, results) = (api.status().await?, api.list(&running).await?);
    let status = Status::of(raw).map_err(|error| api.nonsense(error.to_string()))?;
    let mut rows = rows(results, before).map_err(|reason| api.nonsense(reason))?;
    rows.truncate(args.limit.unwrap_or(usize::MAX));
    Ok((status, rows))
}

fn rows(results: Results, before: &mut Before) -> Result<Vec<Row>, String> {
    let mut now = Before::new();
    let mut rows = Vec::new();
    for (id, result) in results {
        let proc = Proc::of(&result)?;
        let cpu = proc.usage.as_ref().map_or(0.0, |usage| usage.cpu);
        let elapsed = proc.times.elapsed;
        let key = (id.clone(), proc.pid);
        let (cpu_then, then) = before.get(&key).copied().unwrap_or_default();
        let share = if elapsed > then { (cpu - cpu_then).max(0.0) / (elapsed - then) } else { 0.0 };
        now.insert(key, (cpu, elapsed));
        rows.push(Row { id, proc, cpu: share });
    }
    *before = now;
    let memory = |row: &Row| row.proc.memory().unwrap_or_default();
    rows.sort_by(|a, b| {
        b.cpu.total_cmp(&a.cpu).then_with(|| memory(b).cmp(&memory(a))).then(a.id.cmp(&b.id))
    });
    Ok(rows)
}

/// The instance and its totals, in two lines.
fn heading(status: &ServiceStatus<'_>) -> Vec<String> {
    let scheduler = status.connection.as_ref();
    let scheduler = scheduler.map_or(String::new(), |connection| {
        format!(", {} at {}", connection.state, connection.server)
    });
    let counts = &status.counts;
    vec![
        printable(&format!(
            "procstar {} on {}, user {}, pid {}, up {}{scheduler}",
            status.version,
            status.hostname,
            status.username,
            status.pid,
            humanize::span(status.uptime)
        )),
        format!(
            "{} running, {} terminated, {} error; {}",
            counts.running,
            counts.terminated,
            counts.error,
            printable(&status.shutdown_state)
        ),
    ]
}

fn table(rows: &[Row], format: ListFormat) -> TextTable {
    let wide = format == ListFormat::Wide;
    let mut heads = vec![
        Head::Left("ID"),
        Head::Right("PID"),
        Head::Left("STATE"),
        Head::Right("CPU%"),
        Head::Right("RSS"),
        Head::Right("CPU"),
        Head::Right("TIME"),
    ];
    if wide {
        heads.extend([Head::Right("THREADS"), Head::Right("OUTPUT"), Head::Left("LABELS")]);
    }
    heads.push(Head::Left("COMMAND"));
    let mut table = TextTable::new(heads);
    for Row { id, proc, cpu } in rows {
        let dash = || "-".to_owned();
        let mut row = vec![
            Cell::from(id),
            proc.pid.map_or_else(dash, |pid| pid.to_string()).into(),
            proc.state(),
            format!("{:.1}", cpu * 100.0).into(),
            proc.memory().map_or_else(dash, humanize::bytes).into(),
            proc.usage.as_ref().map_or_else(dash, |usage| humanize::span(usage.cpu)).into(),
            humanize::span(proc.times.elapsed).into(),
        ];
        if wide {
            let threads = proc.proc_stat.as_ref().map(|stat| stat.num_threads.to_string());
            row.extend([
                threads.unwrap_or_else(dash).into(),
                proc.captured().into(),
                proc.labels().into(),
            ]);
        }
        row.push(proc.command().into());
        table.push(row);
    }
    table
}

fn all_as_json(status: &Status, rows: &[Row]) -> serde_json::Result<String> {
    let processes = rows.iter().map(as_json).collect();
    serde_json::to_string(&TopJson { agent: &status.raw, processes })
}

fn as_json(row: &Row) -> Value {
    json!({
        "id": row.id,
        "pid": row.proc.pid,
        "state": row.proc.state_name(),
        "cpu_share": row.cpu,
        "cpu": row.proc.usage.map_or(0.0, |usage| usage.cpu),
        "rss": row.proc.memory(),
        "elapsed": row.proc.times.elapsed,
        "threads": row.proc.proc_stat.as_ref().map(|stat| stat.num_threads),
        "argv": row.proc.argv,
        "labels": row.proc.labels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::proc::sample_json;

    fn results(cpu: [f64; 2], elapsed: f64) -> Results {
        let result = |pid: i64, cpu: f64| {
            let result = json!({"state": "running", "pid": pid, "times": {"elapsed": elapsed},
                                "usage": {"cpu": cpu}});
            RawValue::from_string(sample_json(&result).to_string()).unwrap()
        };
        [("a".to_owned(), result(1, cpu[0])), ("b".to_owned(), result(2, cpu[1]))].into()
    }

    #[test]
    fn json_has_the_status_with_keys_of_newer_versions() {
        let status = r#"{"version": "9", "pid": 1, "worker_pid": 2, "hostname": "h",
            "username": "u", "uid": 0, "start": "2026-01-01T00:00:00Z", "uptime": 1.50,
            "socket": null, "listeners": [], "cursor": "c", "shutdown_state": "active",
            "counts": {"running": 0, "terminated": 0, "error": 0, "present": 0, "new": 1},
            "connection": null, "newer": {"key": [1e3]}}"#;
        let read = Status::of(RawValue::from_string(status.to_owned()).unwrap()).unwrap();
        assert_eq!(read.known.version, "9");
        let all = all_as_json(&read, &[]).unwrap();
        assert_eq!(all, format!(r#"{{"agent":{status},"processes":[]}}"#));
    }

    #[test]
    fn cpu_shares_cover_the_time_since_the_last_sample() {
        let mut before = Before::new();
        let shares = |rows: Vec<Row>| -> Vec<(String, f64)> {
            rows.into_iter().map(|row| (row.id, row.cpu)).collect()
        };
        let first = rows(results([9.0, 1.0], 10.0), &mut before).unwrap();
        assert_eq!(shares(first), [("a".into(), 0.9), ("b".into(), 0.1)]);
        let second = rows(results([9.0, 3.0], 12.0), &mut before).unwrap();
        assert_eq!(shares(second), [("b".into(), 1.0), ("a".into(), 0.0)]);
        let same = rows(results([9.0, 3.0], 12.0), &mut before).unwrap();
        assert_eq!(shares(same), [("a".into(), 0.0), ("b".into(), 0.0)]);
    }
}
