//! The changes for one reader, as JSON: a snapshot, and then each change once, in order.
//!
//! A reader takes the changes of its subscription when it has room. The subscription is bounded: what
//! does not fit in singly is coalesced by process, and the number of changes that were missed is in
//! the next event. So a reader costs a bounded amount of memory, and delays nobody.

use std::io;
use std::sync::Arc;

use serde::Serialize;

use super::app_state::Service;
use crate::actors::messages::{Change, ChangeKind, Cursor, ShutdownState, Snapshot, Subscribed};
use crate::actors::subscription::{Delivery, Next, Subscription};
use crate::report::{OutputView, ProcessRecord, ResultContext, ResultStream};
use crate::spec::ProcId;

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
    /// The changes; none before the first event.
    changes: Option<Subscription>,
    over: bool,
}

impl Feed {
    /// The changes after a cursor; without one, from a snapshot on.
    pub(super) fn new(service: Service, after: Option<Cursor>, detail: ResultDetail) -> Feed {
        Feed { service, detail, cursor: after, snapshot: None, changes: None, over: false }
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
            if self.over {
                return Ok(None);
            }
            let Some(changes) = &mut self.changes else {
                match self.service.actors.subscribe(self.cursor, Delivery::Latest).await {
                    Ok(Subscribed::From(snapshot, changes)) => {
                        self.snapshot = Some((snapshot, 0));
                        self.changes = Some(changes);
                    }
                    Ok(Subscribed::After(changes)) => self.changes = Some(changes),
                    Ok(Subscribed::Reset) => return self.reset().map(Some),
                    // Nobody is left to tell.
                    Err(_) => return Ok(None),
                }
                continue;
            };
            match changes.take() {
                Next::Change(change) => return self.change(&change).map(Some),
                Next::Empty => changes.ready().await,
                Next::Lagged => return self.reset().map(Some),
                Next::Closed => return Ok(None),
            }
        }
    }

    /// The event of a change.
    fn change(&mut self, change: &Change) -> io::Result<Event> {
        let last = self.cursor.unwrap_or_default();
        let missed = change.seq.saturating_sub(last.at + 1);
        let cursor = Cursor { at: change.seq, ..last };
        self.cursor = Some(cursor);
        self.over = matches!(change.what, ChangeKind::Shutdown(ShutdownState::Done));
        event(&change.what, cursor, missed, self.detail, &self.service.context)
    }

    /// The reader's cursor means nothing any more: it begins anew, with a snapshot.
    fn reset(&mut self) -> io::Result<Event> {
        self.cursor = None;
        self.changes = None;
        let head = EventHead { event: "reset", ..EventHead::default() };
        Ok(Event { kind: head.event, cursor: None, json: serde_json::to_string(&head)? })
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
        ChangeKind::Ended(record) | ChangeKind::Failed(record) => {
            ("ended", Some(&record.id), Some(record), None)
        }
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
