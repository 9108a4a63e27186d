//! The results for those who look on: the answers to the messages of [`changes`](super::super::messages).

use std::sync::Arc;

use actix::{Handler, MessageResult, ResponseFuture};
use tokio::sync::oneshot;

use super::log::{ChangeLog, what};
use super::{ResultEntry, Results};
use crate::actors::messages::{
    AwaitEnd, ChangeKind, ChangesSince, Cursor, GetChanges, GetCursor, GetPage, GetProcessCounts,
    GetSnapshot, Page, ProcessCounts, Snapshot,
};
use crate::report::ProcessRecord;
use crate::report::status::ProcState;

/// The changes, who waits for the next one, and how many there are of what.
#[derive(Default)]
pub(super) struct ChangeFeed {
    log: ChangeLog,
    waiting: Vec<(GetChanges, oneshot::Sender<ChangesSince>)>,
    tally: ProcessCounts,
}

impl ChangeFeed {
    /// Notes the record of a process, and the one that was known before.
    pub(super) fn changed(
        &mut self,
        record: &Arc<ProcessRecord>,
        before: Option<&Arc<ProcessRecord>>,
    ) {
        if let Some(before) = before {
            *self.count(before.state) -= 1;
        } else {
            self.tally.started += 1;
        }
        *self.count(record.state) += 1;
        let what = what(record, before);
        if let ChangeKind::Ended(record) = &what {
            *self.tally.ended.entry(record.reason().unwrap_or_default()).or_default() += 1;
            let well = record.status().is_some_and(|status| status.exit_code == Some(0));
            self.tally.failed += u64::from(!well);
            let captures = record.captures.iter().filter_map(|(_, capture)| capture);
            self.tally.captured_bytes += captures.map(|capture| capture.len()).sum::<u64>();
        }
        self.record(what);
    }

    /// Notes a deletion.
    pub(super) fn removed(&mut self, entry: &ResultEntry, id: crate::spec::ProcId) {
        if let Some(record) = &entry.record {
            *self.count(record.state) -= 1;
            self.record(ChangeKind::Deleted(id));
        }
    }

    /// Adds a change, and tells those who wait for it.
    pub(super) fn record(&mut self, what: ChangeKind) {
        self.log.record(what);
        for (question, tell) in self.waiting.drain(..) {
            // Whoever asked may have gone.
            let _ = tell.send(self.log.since(question.after, question.max));
        }
    }

    fn count(&mut self, state: ProcState) -> &mut u64 {
        match state {
            ProcState::Running => &mut self.tally.running,
            ProcState::Terminated => &mut self.tally.terminated,
            ProcState::Error => &mut self.tally.error,
        }
    }
}

impl Handler<GetChanges> for Results {
    type Result = ResponseFuture<ChangesSince>;

    fn handle(&mut self, question: GetChanges, _: &mut Self::Context) -> Self::Result {
        match self.feed.log.since(question.after, question.max) {
            ChangesSince::Changes(changes) if changes.is_empty() && question.max > 0 => {
                // Those who have gone: otherwise they would be here until the next change.
                self.feed.waiting.retain(|(_, tell)| !tell.is_closed());
                let (tell, told) = oneshot::channel();
                self.feed.waiting.push((question, tell));
                Box::pin(async { told.await.unwrap_or(ChangesSince::Reset) })
            }
            since => Box::pin(std::future::ready(since)),
        }
    }
}

impl Handler<GetSnapshot> for Results {
    type Result = MessageResult<GetSnapshot>;

    fn handle(&mut self, _: GetSnapshot, _: &mut Self::Context) -> Self::Result {
        MessageResult(Snapshot {
            cursor: self.feed.log.cursor(),
            procs: self.processes.iter().filter_map(|(_, entry)| entry.record.clone()).collect(),
            shutdown: self.shutdown,
        })
    }
}

impl Handler<GetPage> for Results {
    type Result = Option<Page>;

    fn handle(&mut self, GetPage { after, max }: GetPage, _: &mut Self::Context) -> Self::Result {
        let run = self.feed.log.run();
        if after.is_some_and(|after| after.run != run) {
            return None;
        }
        let mut entries = self.processes.after(after.map_or(0, |after| after.at));
        let mut procs = Vec::new();
        let mut seen = None;
        for (serial, (_, entry)) in entries.by_ref().take(max) {
            let cursor = Cursor { run, at: *serial };
            seen = Some(cursor);
            procs.extend(entry.record.clone().map(|record| (cursor, record)));
        }
        let more = entries.next().is_some();
        Some(Page { procs, next: seen.filter(|_| more) })
    }
}

impl Handler<AwaitEnd> for Results {
    type Result = ResponseFuture<Option<Arc<ProcessRecord>>>;

    fn handle(&mut self, AwaitEnd(id): AwaitEnd, _: &mut Self::Context) -> Self::Result {
        let entry = self.processes.get_mut(&id);
        let ended = entry.as_ref().and_then(|entry| entry.record.as_ref());
        if let Some(record) = ended.filter(|record| !record.is_running()) {
            return Box::pin(std::future::ready(Some(Arc::clone(record))));
        }
        let Some(entry) = entry else { return Box::pin(std::future::ready(None)) };
        entry.ending.retain(|tell| !tell.is_closed());
        let (tell, told) = oneshot::channel();
        entry.ending.push(tell);
        // It is dropped with the entry.
        Box::pin(async { told.await.unwrap_or(None) })
    }
}

impl Handler<GetProcessCounts> for Results {
    type Result = MessageResult<GetProcessCounts>;

    fn handle(&mut self, _: GetProcessCounts, _: &mut Self::Context) -> Self::Result {
        MessageResult(ProcessCounts { shutdown: Some(self.shutdown), ..self.feed.tally.clone() })
    }
}

impl Handler<GetCursor> for Results {
    type Result = MessageResult<GetCursor>;

    fn handle(&mut self, _: GetCursor, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.feed.log.cursor())
    }
}
