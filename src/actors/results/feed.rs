//! The way of changes: each is numbered, counted, logged for readers that come back, and pushed
//! into every subscription.

use std::sync::Arc;

use super::Results;
use super::log::{ChangeLog, what};
use actix::{Handler, MessageResult};

use crate::actors::messages::{
    Change, ChangeKind, Cursor, GetCursor, ProcessCounts, Snapshot, Subscribe, Subscribed,
};
use crate::actors::subscription::{Delivery, Publisher, Subscription, subscription};
use crate::report::ProcessRecord;
use crate::report::status::ProcState;
use crate::spec::ProcId;

/// The log, the subscriptions, and the numbers of processes by state.
#[derive(Default)]
pub(super) struct ChangeFeed {
    log: ChangeLog,
    subscriptions: Vec<Publisher>,
    counts: ProcessCounts,
}

impl ChangeFeed {
    /// Publishes a new record of a process.
    pub(super) fn changed(
        &mut self,
        record: &Arc<ProcessRecord>,
        before: Option<&Arc<ProcessRecord>>,
    ) {
        if let Some(before) = before {
            *self.count(before.state) -= 1;
        } else {
            self.counts.started += 1;
        }
        *self.count(record.state) += 1;
        let what = what(record, before);
        if let ChangeKind::Ended(record) | ChangeKind::Failed(record) = &what {
            *self.counts.ended.entry(record.outcome().unwrap_or_default()).or_default() += 1;
            let well = record.status().is_some_and(|status| status.exit_code == Some(0));
            self.counts.failed += u64::from(!well);
            let captures = record.captures.iter().filter_map(|(_, capture)| capture);
            self.counts.captured_bytes += captures.map(|capture| capture.len()).sum::<u64>();
        }
        self.publish(what);
    }

    /// Publishes a deletion.
    pub(super) fn removed(&mut self, record: &ProcessRecord, id: ProcId) {
        *self.count(record.state) -= 1;
        self.publish(ChangeKind::Deleted(id));
    }

    /// Appends a change for all readers.
    pub(super) fn publish(&mut self, what: ChangeKind) {
        self.log.record(what.clone());
        let change = Change { seq: self.log.last(), what };
        self.subscriptions.retain(|subscription| subscription.push(change.clone()));
    }

    /// The number of the last change.
    pub(super) fn last(&self) -> u64 {
        self.log.last()
    }

    /// The run's number.
    pub(super) fn run(&self) -> u64 {
        self.log.run()
    }

    /// The numbers of processes.
    pub(super) fn counts(&self) -> &ProcessCounts {
        &self.counts
    }

    fn count(&mut self, state: ProcState) -> &mut u64 {
        match state {
            ProcState::Running => &mut self.counts.running,
            ProcState::Terminated => &mut self.counts.terminated,
            ProcState::Error => &mut self.counts.error,
        }
    }

    /// A new subscription that begins with these changes.
    fn subscribe(&mut self, delivery: Delivery, waiting: Vec<Change>) -> Subscription {
        // Subscriptions without readers would stay until the next change.
        self.subscriptions.retain(Publisher::is_read);
        let (publisher, subscription) = subscription(delivery);
        for change in waiting {
            publisher.push(change);
        }
        self.subscriptions.push(publisher);
        subscription
    }
}

impl Handler<Subscribe> for Results {
    type Result = MessageResult<Subscribe>;

    fn handle(&mut self, message: Subscribe, _: &mut Self::Context) -> Self::Result {
        let Subscribe { after, delivery } = message;
        let Some(after) = after else {
            // Only readers of the latest changes come back with a cursor, which the log is for.
            let cursor = match delivery {
                Delivery::Latest => self.feed.log.cursor(),
                Delivery::Each => Cursor { run: self.feed.log.run(), at: self.feed.log.last() },
            };
            let snapshot = Snapshot {
                cursor,
                ids: self.ids(),
                procs: self.records().cloned().collect(),
                shutdown: self.shutdown,
            };
            return MessageResult(Subscribed::From(
                snapshot,
                self.feed.subscribe(delivery, Vec::new()),
            ));
        };
        MessageResult(match self.feed.log.since(after, usize::MAX) {
            Some(waiting) => Subscribed::After(self.feed.subscribe(delivery, waiting)),
            None => Subscribed::Reset,
        })
    }
}

impl Handler<GetCursor> for Results {
    type Result = MessageResult<GetCursor>;

    fn handle(&mut self, _: GetCursor, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.feed.log.cursor())
    }
}
