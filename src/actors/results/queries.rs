//! The answers to questions about the results: one process, all, a page, their numbers.

use std::sync::Arc;

use actix::{Handler, MessageResult, ResponseFuture};
use tokio::sync::oneshot;

use super::{ResultEntry, Results};
use crate::actors::messages::{
    AwaitEnd, Cursor, Dated, GetAll, GetOne, GetPage, GetProcessCounts, Page, ProcessCounts, Query,
    Question, Reply,
};
use crate::report::ProcessRecord;

impl Handler<Query> for Results {
    type Result = MessageResult<Query>;

    fn handle(&mut self, Query(question): Query, _: &mut Self::Context) -> Self::Result {
        let value = match question {
            Question::Ids => Reply::Ids(self.ids()),
            Question::Running => Reply::Running(
                self.records().filter(|record| record.is_running()).cloned().collect(),
            ),
            Question::Now => Reply::Now,
            Question::Record(id) => {
                Reply::Record(self.processes.get(&id).and_then(|entry| entry.record.clone()))
            }
        };
        MessageResult(Dated { seq: self.feed.last(), value })
    }
}

impl Handler<GetOne> for Results {
    type Result = ResponseFuture<Option<Arc<ProcessRecord>>>;

    fn handle(&mut self, GetOne(id): GetOne, _: &mut Self::Context) -> Self::Result {
        match self.processes.get_mut(&id) {
            Some(ResultEntry { record: None, waiting, .. }) => {
                waiting.retain(|answer| !answer.is_closed());
                let (answer, started) = oneshot::channel();
                waiting.push(answer);
                Box::pin(async { started.await.unwrap_or(None) })
            }
            entry => {
                let record = entry.and_then(|entry| entry.record.clone());
                Box::pin(std::future::ready(record))
            }
        }
    }
}

impl Handler<GetAll> for Results {
    type Result = MessageResult<GetAll>;

    fn handle(&mut self, _: GetAll, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.records().cloned().collect())
    }
}

impl Handler<GetPage> for Results {
    type Result = Option<Page>;

    fn handle(&mut self, GetPage { after, max }: GetPage, _: &mut Self::Context) -> Self::Result {
        let run = self.feed.run();
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
        entry.ending.retain(|answer| !answer.is_closed());
        let (answer, ended) = oneshot::channel();
        entry.ending.push(answer);
        // It is dropped with the entry.
        Box::pin(async { ended.await.unwrap_or(None) })
    }
}

impl Handler<GetProcessCounts> for Results {
    type Result = MessageResult<GetProcessCounts>;

    fn handle(&mut self, _: GetProcessCounts, _: &mut Self::Context) -> Self::Result {
        MessageResult(ProcessCounts { shutdown: Some(self.shutdown), ..self.feed.counts().clone() })
    }
}
