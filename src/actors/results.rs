//! The actor that knows every process's current result, and tells of each change once, in order.
//!
//! A subscriber gets a snapshot and then every change after it, through the one mailbox that also brings the answers to its
//! questions: nothing falls between two of them, and nothing overtakes. What goes out are [`Facts`], small and shared;
//! whoever sends a result to somebody makes it then.

mod log;
mod look;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use actix::{Actor, Context, Handler, MessageResult, Recipient, ResponseFuture};
use tokio::sync::oneshot;

use super::messages::{
    Announce, Answer, Ask, Changed, GetAll, GetOne, Question, Removed, ShutdownChanged,
    ShutdownState, Subscribe, SubscriberId, Unsubscribe, Update, What,
};
use crate::mem::shrink::Shrink;
use crate::report::Facts;
use crate::spec::ProcId;
use look::Look;

/// The actor.
pub struct Results {
    processes: Table,
    subscribers: HashMap<SubscriberId, Subscriber>,
    shutdown: ShutdownState,
    look: Look,
}

/// The processes in the order of acceptance. Taking one out costs the same however many there are.
#[derive(Default)]
struct Table {
    serials: HashMap<ProcId, u64>,
    entries: BTreeMap<u64, (ProcId, Entry)>,
    next: u64,
}

impl Table {
    fn get(&self, id: &ProcId) -> Option<&Entry> {
        self.entries.get(self.serials.get(id)?).map(|(_, entry)| entry)
    }

    fn get_mut(&mut self, id: &ProcId) -> Option<&mut Entry> {
        self.entries.get_mut(self.serials.get(id)?).map(|(_, entry)| entry)
    }

    /// The entry of `id`, made at the end if there is none.
    fn entry(&mut self, id: &ProcId) -> &mut Entry {
        let next = &mut self.next;
        let serial = *self.serials.entry(id.clone()).or_insert_with(|| {
            *next += 1;
            *next
        });
        &mut self.entries.entry(serial).or_insert_with(|| (id.clone(), Entry::default())).1
    }

    fn remove(&mut self, id: &ProcId) -> Option<Entry> {
        let serial = self.serials.remove(id)?;
        self.serials.shrink_if_sparse();
        self.entries.remove(&serial).map(|(_, entry)| entry)
    }

    /// Those accepted after `serial`, each with its own.
    fn after(&self, serial: u64) -> impl Iterator<Item = (&u64, &(ProcId, Entry))> {
        self.entries.range((Bound::Excluded(serial), Bound::Unbounded))
    }

    fn iter(&self) -> impl Iterator<Item = &(ProcId, Entry)> {
        self.entries.values()
    }
}

/// A process that has been accepted and not deleted.
#[derive(Default)]
struct Entry {
    /// Its latest facts; none until it has started.
    facts: Option<Arc<Facts>>,
    /// Who wants its facts as soon as there are some.
    waiting: Vec<oneshot::Sender<Option<Arc<Facts>>>>,
    /// Who wants its last facts as soon as it has ended.
    ending: Vec<oneshot::Sender<Option<Arc<Facts>>>>,
}

struct Subscriber {
    to: Recipient<Update>,
    /// Questions not answered: the first is about a process that has not started, the others are behind it.
    held: VecDeque<Question>,
}

impl Default for Results {
    fn default() -> Self {
        Results {
            processes: Table::default(),
            subscribers: HashMap::new(),
            shutdown: ShutdownState::Active,
            look: Look::default(),
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
                let facts = self.processes.iter().filter_map(|(_, entry)| entry.facts.as_ref());
                Some(Answer::Running(facts.filter(|f| f.is_running()).cloned().collect()))
            }
            Question::Barrier => Some(Answer::Barrier),
            Question::Present(id) => {
                Some(Answer::Facts(self.processes.get(id).and_then(|entry| entry.facts.clone())))
            }
            Question::Facts(id) => match self.processes.get(id) {
                None => Some(Answer::Facts(None)),
                Some(Entry { facts: Some(facts), .. }) => {
                    Some(Answer::Facts(Some(Arc::clone(facts))))
                }
                Some(Entry { facts: None, .. }) => None,
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

    fn handle(&mut self, Changed(facts): Changed, _: &mut Self::Context) {
        let entry = self.processes.entry(&facts.id);
        let before = entry.facts.replace(Arc::clone(&facts));
        let ending =
            if facts.is_running() { Vec::new() } else { std::mem::take(&mut entry.ending) };
        for waiting in entry.waiting.drain(..).chain(ending) {
            // Whoever asked may have gone.
            let _ = waiting.send(Some(Arc::clone(&facts)));
        }
        self.look.changed(&facts, before.as_ref());
        let first = before.is_none();
        if first {
            self.publish(&Update::Started(Arc::clone(&facts)));
        }
        // A process that could not be started has ended as well, and both are told.
        if !facts.is_running() {
            self.publish(&Update::Ended(facts));
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
            self.look.removed(&entry, id.clone());
            self.publish(&Update::Removed(id));
        }
    }
}

impl Handler<ShutdownChanged> for Results {
    type Result = ();

    fn handle(&mut self, ShutdownChanged(state): ShutdownChanged, _: &mut Self::Context) {
        self.shutdown = state;
        self.look.record(What::Shutdown(state));
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
    type Result = ResponseFuture<Option<Arc<Facts>>>;

    fn handle(&mut self, GetOne(id): GetOne, _: &mut Self::Context) -> Self::Result {
        match self.processes.get_mut(&id) {
            Some(Entry { facts: None, waiting, .. }) => {
                let (tell, told) = oneshot::channel();
                waiting.push(tell);
                Box::pin(async { told.await.unwrap_or(None) })
            }
            entry => {
                let facts = entry.and_then(|entry| entry.facts.clone());
                Box::pin(std::future::ready(facts))
            }
        }
    }
}

impl Handler<GetAll> for Results {
    type Result = MessageResult<GetAll>;

    fn handle(&mut self, _: GetAll, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.processes.iter().filter_map(|(_, entry)| entry.facts.clone()).collect())
    }
}
