//! The actor that knows every process's current result, and tells of each change once, in order.
//!
//! A subscriber gets a snapshot and then every change after it, through the one mailbox that also brings the answers to its
//! questions: nothing falls between two of them, and nothing overtakes. What goes out are [`ProcessRecord`], small and shared;
//! whoever sends a result to somebody makes it then.

mod log;
mod queries;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use actix::{Actor, Context, Handler, MessageResult, Recipient, ResponseFuture};
use tokio::sync::oneshot;

use super::messages::{
    Announce, Answer, Ask, ChangeKind, Changed, GetAll, GetOne, Question, Removed, ShutdownChanged,
    ShutdownState, Subscribe, SubscriberId, Unsubscribe, Update,
};
use crate::mem::shrink::Shrink;
use crate::report::ProcessRecord;
use crate::spec::ProcId;
use queries::ChangeFeed;

/// The actor.
pub struct Results {
    processes: ResultTable,
    subscribers: HashMap<SubscriberId, Subscriber>,
    shutdown: ShutdownState,
    feed: ChangeFeed,
}

/// The processes in the order of acceptance. Taking one out costs the same however many there are.
#[derive(Default)]
struct ResultTable {
    serials: HashMap<ProcId, u64>,
    entries: BTreeMap<u64, (ProcId, ResultEntry)>,
    next: u64,
}

impl ResultTable {
    fn get(&self, id: &ProcId) -> Option<&ResultEntry> {
        self.entries.get(self.serials.get(id)?).map(|(_, entry)| entry)
    }

    fn get_mut(&mut self, id: &ProcId) -> Option<&mut ResultEntry> {
        self.entries.get_mut(self.serials.get(id)?).map(|(_, entry)| entry)
    }

    /// The entry of `id`, made at the end if there is none.
    fn entry(&mut self, id: &ProcId) -> &mut ResultEntry {
        let next = &mut self.next;
        let serial = *self.serials.entry(id.clone()).or_insert_with(|| {
            *next += 1;
            *next
        });
        &mut self.entries.entry(serial).or_insert_with(|| (id.clone(), ResultEntry::default())).1
    }

    fn remove(&mut self, id: &ProcId) -> Option<ResultEntry> {
        let serial = self.serials.remove(id)?;
        self.serials.shrink_if_sparse();
        self.entries.remove(&serial).map(|(_, entry)| entry)
    }

    /// Those accepted after `serial`, each with its own.
    fn after(&self, serial: u64) -> impl Iterator<Item = (&u64, &(ProcId, ResultEntry))> {
        self.entries.range((Bound::Excluded(serial), Bound::Unbounded))
    }

    fn iter(&self) -> impl Iterator<Item = &(ProcId, ResultEntry)> {
        self.entries.values()
    }
}

/// A process that has been accepted and not deleted.
#[derive(Default)]
struct ResultEntry {
    /// its latest record; none until it has started.
    record: Option<Arc<ProcessRecord>>,
    /// Who wants its record as soon as there is one.
    waiting: Vec<oneshot::Sender<Option<Arc<ProcessRecord>>>>,
    /// Who wants its last record as soon as it has ended.
    ending: Vec<oneshot::Sender<Option<Arc<ProcessRecord>>>>,
}

struct Subscriber {
    to: Recipient<Update>,
    /// Questions not answered: the first is about a process that has not started, the others are behind it.
    held: VecDeque<Question>,
}

impl Default for Results {
    fn default() -> Self {
        Results {
            processes: ResultTable::default(),
            subscribers: HashMap::new(),
            shutdown: ShutdownState::Active,
            feed: ChangeFeed::default(),
        }
    }
}

impl Actor for Results {
    type Context = Context<Self>;
}

impl Results {
    fn publish(&mut self, update: &Update) {
        self.subscribers.retain(|_, subscriber| {
            subscriber.to.do_send(update.clone());
            subscriber.to.connected()
        });
    }

    fn ids(&self) -> Vec<ProcId> {
        self.processes.iter().map(|(id, _)| id.clone()).collect()
    }

    /// The answer to a question; none while it must wait for a process to start.
    fn answer(&self, question: &Question) -> Option<Answer> {
        match question {
            Question::Ids => Some(Answer::Ids(self.ids())),
            Question::Running => {
                let record = self.processes.iter().filter_map(|(_, entry)| entry.record.as_ref());
                Some(Answer::Running(record.filter(|f| f.is_running()).cloned().collect()))
            }
            Question::Barrier => Some(Answer::Barrier),
            Question::Present(id) => {
                Some(Answer::Record(self.processes.get(id).and_then(|entry| entry.record.clone())))
            }
            Question::Record(id) => match self.processes.get(id) {
                None => Some(Answer::Record(None)),
                Some(ResultEntry { record: Some(record), .. }) => {
                    Some(Answer::Record(Some(Arc::clone(record))))
                }
                Some(ResultEntry { record: None, .. }) => None,
            },
        }
    }

    /// Answers what a subscriber has asked, in its order, as far as that can be answered now.
    fn answer_held(&mut self, id: SubscriberId) {
        loop {
            let question = self.subscribers.get(&id).and_then(|s| s.held.front().cloned());
            let Some(answer) = question.and_then(|question| self.answer(&question)) else { return };
            if let Some(subscriber) = self.subscribers.get_mut(&id) {
                subscriber.held.pop_front();
                subscriber.held.shrink_if_sparse();
                subscriber.to.do_send(Update::Answer(answer));
            }
        }
    }

    fn answer_all_held(&mut self) {
        let waiting: Vec<SubscriberId> = self
            .subscribers
            .iter()
            .filter(|(_, subscriber)| !subscriber.held.is_empty())
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.answer_held(id);
        }
    }
}

impl Handler<Announce> for Results {
    type Result = ();

    fn handle(&mut self, Announce(id): Announce, _: &mut Self::Context) {
        self.processes.entry(&id);
    }
}

impl Handler<Changed> for Results {
    type Result = ();

    fn handle(&mut self, Changed(record): Changed, _: &mut Self::Context) {
        let entry = self.processes.entry(&record.id);
        let before = entry.record.replace(Arc::clone(&record));
        let ending =
            if record.is_running() { Vec::new() } else { std::mem::take(&mut entry.ending) };
        for waiting in entry.waiting.drain(..).chain(ending) {
            // Whoever asked may have gone.
            let _ = waiting.send(Some(Arc::clone(&record)));
        }
        self.feed.changed(&record, before.as_ref());
        let first = before.is_none();
        if first {
            self.publish(&Update::Started(Arc::clone(&record)));
        }
        // A process that could not be started has ended as well, and both are told.
        if !record.is_running() {
            self.publish(&Update::Ended(record));
        }
        if first {
            self.answer_all_held();
        }
    }
}

impl Handler<Removed> for Results {
    type Result = ();

    fn handle(&mut self, Removed(id): Removed, _: &mut Self::Context) {
        if let Some(entry) = self.processes.remove(&id) {
            self.feed.removed(&entry, id.clone());
            self.publish(&Update::Removed(id));
        }
    }
}

impl Handler<ShutdownChanged> for Results {
    type Result = ();

    fn handle(&mut self, ShutdownChanged(state): ShutdownChanged, _: &mut Self::Context) {
        self.shutdown = state;
        self.feed.record(ChangeKind::Shutdown(state));
        self.publish(&Update::Shutdown(state));
    }
}

impl Handler<Subscribe> for Results {
    type Result = ();

    fn handle(&mut self, Subscribe { id, to }: Subscribe, _: &mut Self::Context) {
        to.do_send(Update::Snapshot { ids: self.ids(), shutdown: self.shutdown });
        self.subscribers.insert(id, Subscriber { to, held: VecDeque::new() });
    }
}

impl Handler<Unsubscribe> for Results {
    type Result = ();

    fn handle(&mut self, Unsubscribe(id): Unsubscribe, _: &mut Self::Context) {
        self.subscribers.remove(&id);
    }
}

impl Handler<Ask> for Results {
    type Result = ();

    fn handle(&mut self, Ask { id, question }: Ask, _: &mut Self::Context) {
        if let Some(subscriber) = self.subscribers.get_mut(&id) {
            subscriber.held.push_back(question);
            self.answer_held(id);
        }
    }
}

impl Handler<GetOne> for Results {
    type Result = ResponseFuture<Option<Arc<ProcessRecord>>>;

    fn handle(&mut self, GetOne(id): GetOne, _: &mut Self::Context) -> Self::Result {
        match self.processes.get_mut(&id) {
            Some(ResultEntry { record: None, waiting, .. }) => {
                let (tell, told) = oneshot::channel();
                waiting.push(tell);
                Box::pin(async { told.await.unwrap_or(None) })
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
        MessageResult(self.processes.iter().filter_map(|(_, entry)| entry.record.clone()).collect())
    }
}
