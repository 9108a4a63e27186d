//! The changes for one reader, as JSON: a snapshot, and then each change once, in order.
//!
//! A reader takes the changes of its subscription when it has room. The subscription is bounded:
//! changes that do not fit in are coalesced by process, and the next event contains the number of
//! skipped changes. So a reader costs a bounded amount of memory, and does not delay others.

use std::borrow::Cow;
use std::io;

use super::app_state::Service;
use crate::actors::messages::{Change, ChangeKind, Cursor, ShutdownState, Snapshot, Subscribed};
use crate::actors::subscription::{Delivery, Next, Subscription};
use crate::api::{self, EventProc, EventResult};
use crate::report::{ProcessRecord, ResultContext};

/// Maximum number of processes in one event of a snapshot.
const PART: usize = 100;

/// An event: its kind, the cursor after it, and its data.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) kind: &'static str,
    /// `None` within a snapshot: a reader of a part of it must begin again.
    pub(super) cursor: Option<Cursor>,
    /// One JSON object, without a newline.
    pub(super) json: String,
}

/// The data of an event.
pub(super) type Data<'a> = api::Event<'a, EventResult<'a>, EventProc<'a>>;

impl Event {
    /// An event with this data, and the `cursor` after it.
    pub(super) fn new(
        kind: &'static str,
        cursor: Option<Cursor>,
        data: Data<'_>,
    ) -> io::Result<Event> {
        let data = Data { cursor: cursor.map(|cursor| cursor.to_string()), ..data };
        Ok(Event { kind, cursor, json: serde_json::to_string(&data)? })
    }
}

/// The part of a result that an event contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ResultDetail {
    /// The result, without output.
    #[default]
    Full,
    /// The parts that a list shows.
    Summary,
}

/// The changes for one reader.
pub(super) struct Feed {
    service: Service,
    detail: ResultDetail,
    /// The last event sent; `None` before the snapshot.
    cursor: Option<Cursor>,
    /// The rest of a snapshot.
    snapshot: Option<(Snapshot, usize)>,
    /// The changes; `None` before the first event.
    changes: Option<Subscription>,
    over: bool,
}

impl Feed {
    /// The changes after a cursor; without one, from a snapshot on.
    pub(super) fn new(service: Service, after: Option<Cursor>, detail: ResultDetail) -> Feed {
        Feed { service, detail, cursor: after, snapshot: None, changes: None, over: false }
    }

    /// Whether the reader knows the processes: it has received the whole snapshot, or continues
    /// after a cursor.
    pub(super) fn has_begun(&self) -> bool {
        self.cursor.is_some()
    }

    /// The service that it reads from.
    pub(super) fn service(&self) -> &Service {
        &self.service
    }

    /// The next event, as soon as one happens; `None` after the worker's last. May be dropped at
    /// any time without losing an event.
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
                    // The results actor has ended.
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
        let skipped = change.seq.saturating_sub(last.at + 1);
        let cursor = Cursor { at: change.seq, ..last };
        self.cursor = Some(cursor);
        self.over = matches!(change.what, ChangeKind::Shutdown(ShutdownState::Done));
        event(&change.what, cursor, skipped, self.detail, &self.service.context)
    }

    /// The reader's cursor is no longer valid: it begins again with a snapshot.
    fn reset(&mut self) -> io::Result<Event> {
        self.cursor = None;
        self.changes = None;
        Event::new("reset", None, Data::new("reset"))
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
    let shown = procs.iter().map(|record| {
        (Cow::from(record.id.as_str()), EventProc::Result(result(record, detail, context)))
    });
    let data = Data {
        shutdown_state: Some(snapshot.shutdown.as_str().into()),
        more: Some(more),
        procs: Some(shown.collect()),
        ..Data::new("snapshot")
    };
    Ok((Event::new("snapshot", cursor, data)?, !more))
}

/// A change as an event.
fn event(
    what: &ChangeKind,
    cursor: Cursor,
    skipped: u64,
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
    let data = Data {
        skipped,
        id: id.map(|id| id.as_str().into()),
        shutdown_state: shutdown.map(Cow::from),
        result: record.map(|record| result(record, detail, context)),
        ..Data::new(kind)
    };
    Event::new(kind, Some(cursor), data)
}

/// A result without output.
fn result<'a>(
    record: &'a ProcessRecord,
    detail: ResultDetail,
    context: &'a ResultContext,
) -> EventResult<'a> {
    match detail {
        ResultDetail::Summary => EventResult::Summary(record.summary(context)),
        ResultDetail::Full => EventResult::Full(Box::new(record.without_output(context))),
    }
}
