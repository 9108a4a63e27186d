//! `procstar events`: every change, once and in order.

use indexmap::IndexMap;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::sleep;

use super::api::Api;
use super::error::ClientError;
use super::options::{EventsArgs, ListFormat};
use super::out::{Out, Style, unread};
use super::persist::{AGAIN, PATIENCE};
use super::proc::Proc;
use super::sse::Events;
use crate::cli::printable::{printable, printable_json};

/// An event, as far as it is looked into.
#[derive(Deserialize)]
struct Event {
    event: String,
    #[serde(default)]
    cursor: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    missed: Option<u64>,
    #[serde(default)]
    result: Option<Proc>,
    #[serde(default)]
    procs: IndexMap<String, serde::de::IgnoredAny>,
    #[serde(default)]
    shutdown_state: Option<String>,
}

impl Event {
    /// Whether it is the last of all.
    fn is_end(&self) -> bool {
        self.event == "shutdown" && self.shutdown_state.as_deref() == Some("done")
    }
}

/// Prints events until the instance ends, or nobody reads them.
///
/// # Errors
/// There is no answer, or none any more.
pub async fn events(args: &EventsArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    let mut unread = std::pin::pin!(unread());
    let mut after = args.after.clone();
    let mut stream = Events::new(api.events(after.as_deref()).await?);
    loop {
        let told = tokio::select! {
            told = stream.next() => told,
            error = &mut unread => return Err(error),
        };
        let Ok(Some(data)) = told else {
            // The agent has gone; its keeper starts another, which knows what came after.
            sleep(AGAIN).await;
            stream = Events::new(api.events(after.as_deref()).await.map_err(lost)?);
            continue;
        };
        let event: Event =
            serde_json::from_str(&data).map_err(|error| api.nonsense(error.to_string()))?;
        after = event.cursor.clone().or(after);
        if is_meant(args, &event) {
            match args.format {
                ListFormat::Json | ListFormat::Jsonl => {
                    out.write(printable_json(&format!("{data}\n")))?
                }
                ListFormat::Table | ListFormat::Wide => out.write(line(&event, out))?,
            }
        }
        if event.is_end() {
            return Ok(0);
        }
    }
}

/// Where no agent has come back, the events have broken off.
fn lost(error: ClientError) -> ClientError {
    match error {
        ClientError::Unreachable { place, reason } => {
            let reason = format!("{reason} ({} s after it broke off)", PATIENCE.as_secs());
            ClientError::Lost { place, reason }
        }
        error => error,
    }
}

fn is_meant(args: &EventsArgs, event: &Event) -> bool {
    match &event.id {
        Some(id) => args.ids.is_empty() || args.ids.contains(id),
        None => args.ids.is_empty(),
    }
}

/// A line for people: when, what, and of which process.
fn line(event: &Event, out: &Out) -> String {
    let times = event.result.as_ref().map(|proc| &proc.times);
    let time = match event.event.as_str() {
        "started" => times.and_then(|times| times.start.clone()),
        "ended" => times.and_then(|times| times.stop.clone()),
        _ => times.and_then(|times| times.now.clone()),
    };
    let time = time.unwrap_or_else(|| Timestamp::now().to_string());
    let time = time.get(..19).map_or_else(|| time.clone(), |time| format!("{time}Z"));
    let style = match (event.event.as_str(), &event.result) {
        ("started", _) => Style::Green,
        ("ended", Some(proc)) if proc.ending() != "exit 0" => Style::Yellow,
        ("reset" | "shutdown", _) => Style::Red,
        _ => Style::Plain,
    };
    let kind = out.paint(style, &printable(&format!("{:<8}", event.event)));
    let missed = event.missed.filter(|missed| *missed > 0);
    let missed = missed.map_or(String::new(), |missed| format!("  ({missed} events missed)"));
    format!("{}  {kind}  {}{missed}\n", out.paint(Style::Dim, &time), printable(&detail(event)))
}

fn detail(event: &Event) -> String {
    match (&event.id, &event.result) {
        (Some(id), Some(proc)) if proc.is_running() => {
            let pid = proc.pid.map_or(String::new(), |pid| format!("pid {pid}  "));
            format!("{id}  {pid}{}", proc.command())
        }
        (Some(id), Some(proc)) => {
            let errors = proc.errors.iter().map(|error| format!("  {error}")).collect::<String>();
            format!("{id}  {}{errors}", proc.ending())
        }
        (Some(id), None) => id.clone(),
        (None, _) => match (event.event.as_str(), &event.shutdown_state) {
            ("snapshot", _) => match event.procs.len() {
                1 => "1 process".into(),
                count => format!("{count} processes"),
            },
            (_, Some(state)) => state.clone(),
            ("reset", None) => "what came before is not known any more".into(),
            (_, None) => String::new(),
        },
    }
}
