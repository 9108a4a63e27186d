//! `procstar events`: every change, once and in order.

use indexmap::IndexMap;
use serde::de::IgnoredAny;
use tokio::time::sleep;

use super::api::Api;
use super::error::ClientError;
use super::format::to_the_second;
use super::options::{EventsArgs, ListFormat};
use super::out::{Out, Style, unread};
use super::persist::{AGAIN, PATIENCE};
use super::proc::Proc;
use super::sse::Events;
use crate::api;
use crate::cli::printable::{printable, printable_json};
use crate::report::times::Rfc3339;

/// An event with its results. Of a snapshot only the number of results is read.
type Event = api::Event<'static, Proc, IgnoredAny>;

/// Whether it is an instance's last event.
fn is_end(event: &Event) -> bool {
    event.event == "shutdown" && event.shutdown_state.as_deref() == Some("done")
}

/// Prints events until the instance ends, or nobody reads them.
///
/// # Errors
/// No response, or the connection is lost for good.
pub async fn events(args: &EventsArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    let mut unread = std::pin::pin!(unread());
    let mut after = args.after.clone();
    let mut stream = Events::new(api.events(after.as_deref()).await?);
    loop {
        let next = tokio::select! {
            next = stream.next() => next,
            error = &mut unread => return Err(error),
        };
        let Ok(Some(data)) = next else {
            // The worker has gone. Its keeper starts another, which has the later events.
            sleep(AGAIN).await;
            stream = Events::new(api.events(after.as_deref()).await.map_err(lost)?);
            continue;
        };
        let event: Event =
            serde_json::from_str(&data).map_err(|error| api.nonsense(error.to_string()))?;
        after = event.cursor.clone().or(after);
        if is_selected(args, &event) {
            match args.format {
                ListFormat::Json | ListFormat::Jsonl => {
                    out.write(printable_json(&format!("{data}\n")))?
                }
                ListFormat::Table | ListFormat::Wide => out.write(line(&event, out))?,
            }
        }
        if is_end(&event) {
            return Ok(0);
        }
    }
}

/// The error if no worker has come back: the events are incomplete.
fn lost(error: ClientError) -> ClientError {
    match error {
        ClientError::Unreachable { place, reason } => {
            let reason = format!("{reason} ({} s after it broke off)", PATIENCE.as_secs());
            ClientError::Lost { place, reason }
        }
        error => error,
    }
}

fn is_selected(args: &EventsArgs, event: &Event) -> bool {
    match &event.id {
        Some(id) => args.ids.is_empty() || args.ids.iter().any(|one| one == id),
        None => args.ids.is_empty(),
    }
}

/// A line for people: time, change and process.
fn line(event: &Event, out: &Out) -> String {
    let times = event.result.as_ref().map(|proc| &proc.times);
    let time = match &*event.event {
        "started" => times.map(|times| times.start),
        "ended" => times.and_then(|times| times.stop),
        _ => times.map(|times| times.now),
    };
    let time = to_the_second(time.unwrap_or_else(Rfc3339::now));
    let style = match (&*event.event, &event.result) {
        ("started", _) => Style::Green,
        ("ended", Some(proc)) if proc.ending() != "exit 0" => Style::Yellow,
        ("reset" | "shutdown", _) => Style::Red,
        _ => Style::Plain,
    };
    let kind = out.paint(style, &printable(&format!("{:<8}", event.event)));
    let skipped = Some(event.skipped).filter(|skipped| *skipped > 0);
    let skipped = skipped.map_or(String::new(), |skipped| format!("  ({skipped} events skipped)"));
    format!("{}  {kind}  {}{skipped}\n", out.paint(Style::Dim, &time), printable(&detail(event)))
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
        (Some(id), None) => id.to_string(),
        (None, _) => match (&*event.event, &event.shutdown_state) {
            ("snapshot", _) => match event.procs.as_ref().map_or(0, IndexMap::len) {
                1 => "1 process".into(),
                count => format!("{count} processes"),
            },
            (_, Some(state)) => state.to_string(),
            ("reset", None) => "what came before is not known any more".into(),
            (_, None) => String::new(),
        },
    }
}
