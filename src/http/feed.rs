//! The changes for one reader, as JSON: a snapshot, and then each change once, in order.
//!
//! A reader holds its cursor and asks the results for what comes after it, when it has room. What it has missed meanwhile is coalesced
//! by process, and told as a number. So it costs a bounded amount of memory, and delays nobody.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use serde::Serialize;

use super::app_state::Service;
use crate::actors::messages::{Change, ChangeKind, ChangesSince, Cursor, ShutdownState, Snapshot};
use crate::report::{OutputView, ProcessRecord, ResultContext, ResultStream};
use crate::spec::ProcId;

/// The most changes that are taken at once.
const BATCH: usize = 64;
/// The most processes in one event of a snapshot.
const PART: usize = 100;

/// An event: its kind, where to go on after it, and its data.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) kind: &'static str,
    /// None within a snapshot: whoever has only a part of it must begin anew.
    pub(super) cursor: Option<Cursor>,
    /// One JSON object, without a newline.
    pub(super) json: String,
}

/// What an event's data begins with.
#[derive(Default, Serialize)]
struct EventHead<'a> {
    event: &'static str,
    /// To be given as `after`, or as `Last-Event-ID`, to go on after this event.
    cursor: Option<String>,
    /// How many changes before this one this reader has missed, if any.
    #[serde(skip_serializing_if = "is_zero")]
    missed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a ProcId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shutdown_state: Option<&'static str>,
    /// Whether more parts of the snapshot follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How much of a result an event tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ResultDetail {
    /// The result, without output.
    #[default]
    Full,
    /// What a list shows.
    Summary,
}

/// The changes for one reader.
pub(super) struct Feed {
    service: Service,
    detail: ResultDetail,
    /// The last event told; none before the snapshot.
    cursor: Option<Cursor>,
    /// What is left of a snapshot.
    snapshot: Option<(Snapshot, usize)>,
    changes: VecDeque<Change>,
    over: bool,
}

impl Feed {
    /// The changes after a cursor; without one, from a snapshot on.
    pub(super) fn new(service: Service, after: Option<Cursor>, detail: ResultDetail) -> Feed {
        let changes = VecDeque::new();
        Feed { service, detail, cursor: after, snapshot: None, changes, over: false }
    }

    /// Whether the reader knows the processes: it has got the whole snapshot, or goes on after a cursor.
    pub(super) fn has_begun(&self) -> bool {
        self.cursor.is_some()
    }

    /// What stands behind it.
    pub(super) fn service(&self) -> &Service {
        &self.service
    }

    /// The next event, as soon as there is one; none after the agent's last word. May be dropped at any time, without an
    /// event being lost.
    pub(super) async fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some((snapshot, from)) = &mut self.snapshot {
                let (event, done) = part(snapshot, from, self.detail, &self.service.context)?;
                if done {
                    self.cursor = Some(snapshot.cursor);
                    self.snapshot = None;
                }
                return Ok(Some(event));
            }
            if let (Some(change), Some(last)) = (self.changes.front(), &mut self.cursor) {
                let missed = change.seq.saturating_sub(last.at + 1);
                let cursor = Cursor { at: change.seq, ..*last };
                let event =
                    event(&change.what, cursor, missed, self.detail, &self.service.context)?;
                self.over = matches!(change.what, ChangeKind::Shutdown(ShutdownState::Done));
                *last = cursor;
                self.changes.pop_front();
                return Ok(Some(event));
            }
            if self.over {
                return Ok(None);
            }
            let Some(after) = self.cursor else {
                let snapshot = self.service.actors.snapshot().await;
                let Ok(snapshot) = snapshot else { return Ok(None) };
                self.snapshot = Some((snapshot, 0));
                continue;
            };
            match self.service.actors.changes_since(after, BATCH).await {
                Ok(ChangesSince::Changes(changes)) => self.changes.extend(changes),
                Ok(ChangesSince::Reset) => {
                    self.cursor = None;
                    let head = EventHead { event: "reset", ..EventHead::default() };
                    return Ok(Some(Event {
                        kind: head.event,
                        cursor: None,
                        json: serde_json::to_string(&head)?,
                    }));
                }
                // Nobody is left to tell.
                Err(_) => return Ok(None),
            }
        }
    }
}

/// The next part of a snapshot, and whether it is the last.
fn part(
    snapshot: &Snapshot,
    from: &mut usize,
    detail: ResultDetail,
    context: &ResultContext,
) -> io::Result<(Event, bool)> {
    let procs = snapshot.procs.get(*from..).unwrap_or_default();
    let procs = procs.get(..PART).unwrap_or(procs);
    *from += procs.len();
    let more = *from < snapshot.procs.len();
    let cursor = (!more).then_some(snapshot.cursor);
    let head = EventHead {
        event: "snapshot",
        cursor: cursor.map(|cursor| cursor.to_string()),
        shutdown_state: Some(snapshot.shutdown.as_str()),
        more: Some(more),
        ..EventHead::default()
    };
    let mut json = serde_json::to_vec(&head)?;
    json.pop();
    json.extend_from_slice(b",\"procs\":{");
    for (i, record) in procs.iter().enumerate() {
        if i > 0 {
            json.push(b',');
        }
        serde_json::to_writer(&mut json, &record.id)?;
        json.push(b':');
        result(record, detail, context, &mut json)?;
    }
    json.extend_from_slice(b"}}");
    Ok((Event { kind: head.event, cursor, json: text(json)? }, !more))
}

/// A change as an event.
fn event(
    what: &ChangeKind,
    cursor: Cursor,
    missed: u64,
    detail: ResultDetail,
    context: &ResultContext,
) -> io::Result<Event> {
    let (kind, id, record, shutdown) = match what {
        ChangeKind::Started(record) => ("started", Some(&record.id), Some(record), None),
        ChangeKind::Ended(record) => ("ended", Some(&record.id), Some(record), None),
        ChangeKind::Updated(record) => ("updated", Some(&record.id), Some(record), None),
        ChangeKind::Deleted(id) => ("deleted", Some(id), None, None),
        ChangeKind::Shutdown(state) => ("shutdown", None, None, Some(state.as_str())),
    };
    let head = EventHead {
        event: kind,
        cursor: Some(cursor.to_string()),
        missed,
        id,
        shutdown_state: shutdown,
        more: None,
    };
    let mut json = serde_json::to_vec(&head)?;
    if let Some(record) = record {
        json.pop();
        json.extend_from_slice(b",\"result\":");
        result(record, detail, context, &mut json)?;
        json.push(b'}');
    }
    Ok(Event { kind, cursor: Some(cursor), json: text(json)? })
}

/// A result without output.
fn result(
    record: &Arc<ProcessRecord>,
    detail: ResultDetail,
    context: &ResultContext,
    out: &mut Vec<u8>,
) -> io::Result<()> {
    if detail == ResultDetail::Summary {
        return Ok(serde_json::to_writer(out, &record.summary(context))?);
    }
    let mut stream = ResultStream::json(record, context, OutputView::None)?;
    while stream.fill(out)? {}
    Ok(())
}

fn text(json: Vec<u8>) -> io::Result<String> {
    String::from_utf8(json).map_err(io::Error::other)
}
