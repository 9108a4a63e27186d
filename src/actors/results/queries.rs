//! The answers to questions about all processes: records, pages, numbers.

use actix::{Handler, MessageResult};

use super::Results;
use crate::actors::messages::{
    Cursor, Dated, GetAll, GetPage, GetProcessCounts, Page, ProcessCounts, Query, Question, Reply,
};

impl Handler<Query> for Results {
    type Result = MessageResult<Query>;

    fn handle(&mut self, Query(question): Query, _: &mut Self::Context) -> Self::Result {
        let value = match question {
            Question::Ids => Reply::Ids(self.ids()),
            Question::Running => Reply::Running(
                self.records().filter(|record| record.is_running()).cloned().collect(),
            ),
            Question::Now => Reply::Now,
            Question::Record(id) => Reply::Record(self.processes.get(&id).cloned()),
        };
        MessageResult(Dated { seq: self.feed.last(), value })
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
            procs.extend(entry.clone().map(|record| (cursor, record)));
        }
        let more = entries.next().is_some();
        Some(Page { procs, next: seen.filter(|_| more) })
    }
}

impl Handler<GetProcessCounts> for Results {
    type Result = MessageResult<GetProcessCounts>;

    fn handle(&mut self, _: GetProcessCounts, _: &mut Self::Context) -> Self::Result {
        MessageResult(ProcessCounts { shutdown: Some(self.shutdown), ..self.feed.counts().clone() })
    }
}
