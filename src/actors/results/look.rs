//! The results for those who look on: the answers to the messages of [`changes`](super::super::messages).

use std::sync::Arc;

use actix::{Handler, MessageResult, ResponseFuture};
use tokio::sync::oneshot;

use super::log::{ChangeLog, what};
use super::{Entry, Results};
use crate::actors::messages::{
    AwaitEnd, GetChanges, GetPage, GetPosition, GetSnapshot, GetTally, Page, Position, Since,
    Snapshot, Tally, What,
};
use crate::report::Facts;
use crate::report::status::ProcState;

/// The changes, who waits for the next one, and how many there are of what.
#[derive(Default)]
pub(super) struct Look {
    log: ChangeLog,
    waiting: Vec<(GetChanges, oneshot::Sender<Since>)>,
    tally: Tally,
}

impl Look {
    /// Notes the facts of a process, and those that were known before.
    pub(super) fn changed(&mut self, facts: &Arc<Facts>, before: Option<&Arc<Facts>>) {
        if let Some(before) = before {
            *self.count(before.state) -= 1;
        } else {
            self.tally.started += 1;
        }
        *self.count(facts.state) += 1;
        let what = what(facts, before);
        if let What::Ended(facts) = &what {
            *self.tally.ended.entry(facts.reason().unwrap_or_default()).or_default() += 1;
            let well = facts.status().is_some_and(|status| status.exit_code == Some(0));
            self.tally.failed += u64::from(!well);
            let captures = facts.captures.iter().filter_map(|(_, capture)| capture);
            self.tally.captured_bytes += captures.map(|capture| capture.len()).sum::<u64>();
        }
        self.record(what);
    }

    /// Notes a deletion.
    pub(super) fn removed(&mut self, entry: &Entry, id: crate::spec::ProcId) {
        if let Some(facts) = &entry.facts {
            *self.count(facts.state) -= 1;
            self.record(What::Deleted(id));
        }
    }

    /// Adds a change, and tells those who wait for it.
    pub(super) fn record(&mut self, what: What) {
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
    type Result = ResponseFuture<Since>;

    fn handle(&mut self, question: GetChanges, _: &mut Self::Context) -> Self::Result {
        match self.look.log.since(question.after, question.max) {
            Since::Changes(changes) if changes.is_empty() && question.max > 0 => {
                // Those who have gone: otherwise they would be here until the next change.
                self.look.waiting.retain(|(_, tell)| !tell.is_closed());
                let (tell, told) = oneshot::channel();
                self.look.waiting.push((question, tell));
                Box::pin(async { told.await.unwrap_or(Since::Reset) })
            }
            since => Box::pin(std::future::ready(since)),
        }
    }
}

impl Handler<GetSnapshot> for Results {
    type Result = MessageResult<GetSnapshot>;

    fn handle(&mut self, _: GetSnapshot, _: &mut Self::Context) -> Self::Result {
        MessageResult(Snapshot {
            position: self.look.log.position(),
            procs: self.processes.iter().filter_map(|(_, entry)| entry.facts.clone()).collect(),
            shutdown: self.shutdown,
        })
    }
}

impl Handler<GetPage> for Results {
    type Result = Option<Page>;

    fn handle(&mut self, GetPage { after, max }: GetPage, _: &mut Self::Context) -> Self::Result {
        let run = self.look.log.run();
        if after.is_some_and(|after| after.run != run) {
            return None;
        }
        let mut entries = self.processes.after(after.map_or(0, |after| after.at));
        let mut procs = Vec::new();
        let mut seen = None;
        for (serial, (_, entry)) in entries.by_ref().take(max) {
            let position = Position { run, at: *serial };
            seen = Some(position);
            procs.extend(entry.facts.clone().map(|facts| (position, facts)));
        }
        let more = entries.next().is_some();
        Some(Page { procs, next: seen.filter(|_| more) })
    }
}

impl Handler<AwaitEnd> for Results {
    type Result = ResponseFuture<Option<Arc<Facts>>>;

    fn handle(&mut self, AwaitEnd(id): AwaitEnd, _: &mut Self::Context) -> Self::Result {
        let entry = self.processes.get_mut(&id);
        let ended = entry.as_ref().and_then(|entry| entry.facts.as_ref());
        if let Some(facts) = ended.filter(|facts| !facts.is_running()) {
            return Box::pin(std::future::ready(Some(Arc::clone(facts))));
        }
        let Some(entry) = entry else { return Box::pin(std::future::ready(None)) };
        entry.ending.retain(|tell| !tell.is_closed());
        let (tell, told) = oneshot::channel();
        entry.ending.push(tell);
        // It is dropped with the entry.
        Box::pin(async { told.await.unwrap_or(None) })
    }
}

impl Handler<GetTally> for Results {
    type Result = MessageResult<GetTally>;

    fn handle(&mut self, _: GetTally, _: &mut Self::Context) -> Self::Result {
        MessageResult(Tally { shutdown: Some(self.shutdown), ..self.look.tally.clone() })
    }
}

impl Handler<GetPosition> for Results {
    type Result = MessageResult<GetPosition>;

    fn handle(&mut self, _: GetPosition, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.look.log.position())
    }
}
