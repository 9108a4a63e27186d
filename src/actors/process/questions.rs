//! The answers to questions about one process: at once, or after its start or its end.

use std::marker::PhantomData;
use std::sync::Arc;

use actix::dev::{MessageResponse, OneshotSender};
use actix::{Actor, Addr, Context, Handler, Message};
use tokio::sync::oneshot;

use super::ProcessActor;
use crate::actors::messages::{
    AwaitEnd, AwaitStart, FollowOutput, GetUsage, ProcessQuestion, ReadOutput, Usage,
};
use crate::output::{OutputFollower, OutputReader, ProcessEnd};
use crate::report::ProcessRecord;

/// Where an answer goes; none is "unknown process". It is closed if the client has gone.
pub type Answer<T> = OneshotSender<Option<T>>;

/// The client of a question, which the supervisor passes to the process's actor.
pub(super) struct QueryClient<Q: ProcessQuestion>(pub(super) Answer<Q::Answer>);

impl<Q: ProcessQuestion> Message for QueryClient<Q> {
    type Result = ();
}

/// The reaction to a question of the owner of the process's actor: it passes the client on, so that
/// the owner keeps nothing of a question, and the actor notices that the client has gone.
pub struct Forward<Q> {
    process: Option<Addr<ProcessActor>>,
    question: PhantomData<Q>,
}

impl<Q> Forward<Q> {
    /// Forwards to this actor; none if the process is unknown.
    pub fn to(process: Option<Addr<ProcessActor>>) -> Forward<Q> {
        Forward { process, question: PhantomData }
    }
}

macro_rules! forwarded {
    ($($question:ty),* $(,)?) => {$(
        impl<A: Actor> MessageResponse<A, $question> for Forward<$question> {
            fn handle(
                self,
                _: &mut A::Context,
                client: Option<Answer<<$question as ProcessQuestion>::Answer>>,
            ) {
                let Some(answer) = client else { return };
                match self.process {
                    Some(process) => process.do_send(QueryClient::<$question>(answer)),
                    // The client may have gone.
                    None => drop(answer.send(None)),
                }
            }
        }
    )*};
}

forwarded!(AwaitStart, AwaitEnd, GetUsage, ReadOutput, FollowOutput);

/// A question that waits for the start of the process.
pub(super) enum Waiting {
    Record(Answer<Arc<ProcessRecord>>),
    Reader(Answer<OutputReader>),
    Follower(Answer<OutputFollower>),
}

impl Waiting {
    /// Answers that the process is unknown.
    pub(super) fn refuse(self) {
        // The client may have gone.
        match self {
            Waiting::Record(answer) => drop(answer.send(None)),
            Waiting::Reader(answer) => drop(answer.send(None)),
            Waiting::Follower(answer) => drop(answer.send(None)),
        }
    }

    fn is_withdrawn(&self) -> bool {
        match self {
            Waiting::Record(answer) => answer.is_closed(),
            Waiting::Reader(answer) => answer.is_closed(),
            Waiting::Follower(answer) => answer.is_closed(),
        }
    }
}

impl ProcessActor {
    /// Answers a question of which the record is known.
    pub(super) fn answer_started(&mut self, waiting: Waiting, record: &Arc<ProcessRecord>) {
        // The client may have gone.
        match waiting {
            Waiting::Record(answer) => drop(answer.send(Some(Arc::clone(record)))),
            Waiting::Reader(answer) => {
                drop(answer.send(Some(OutputReader::new(Arc::clone(record)))));
            }
            Waiting::Follower(answer) => {
                let reader = OutputReader::new(Arc::clone(record));
                let (end, watcher) = (self.end(), Arc::clone(&self.shared.watcher));
                drop(answer.send(Some(OutputFollower::new(reader, end, watcher))));
            }
        }
    }

    /// Answers a question now if the process has started, or else at its start.
    fn when_started(&mut self, waiting: Waiting) {
        if let Some(record) = self.record.clone() {
            self.answer_started(waiting, &record);
        } else {
            self.starting.retain(|waiting| !waiting.is_withdrawn());
            self.starting.push(waiting);
        }
    }

    /// Answers with the last record now if the process has ended, or else at its end.
    fn when_ended(&mut self, answer: Answer<Arc<ProcessRecord>>) {
        if let Some(record) = self.last_record() {
            // The client may have gone.
            drop(answer.send(Some(Arc::clone(record))));
        } else {
            self.ending.retain(|answer| !answer.is_closed());
            self.ending.push(answer);
        }
    }

    /// The end of the process, for a follower of its output.
    fn end(&mut self) -> ProcessEnd {
        let (answer, end) = oneshot::channel();
        self.when_ended(answer);
        end
    }
}

impl Handler<QueryClient<AwaitStart>> for ProcessActor {
    type Result = ();

    fn handle(&mut self, QueryClient(answer): QueryClient<AwaitStart>, _: &mut Context<Self>) {
        self.when_started(Waiting::Record(answer));
    }
}

impl Handler<QueryClient<AwaitEnd>> for ProcessActor {
    type Result = ();

    fn handle(&mut self, QueryClient(answer): QueryClient<AwaitEnd>, _: &mut Context<Self>) {
        self.when_ended(answer);
    }
}

impl Handler<QueryClient<GetUsage>> for ProcessActor {
    type Result = ();

    fn handle(&mut self, QueryClient(answer): QueryClient<GetUsage>, _: &mut Context<Self>) {
        let history = self.history.clone();
        let usage = self.record.clone().map(|record| Usage { record, history });
        // The client may have gone.
        drop(answer.send(usage));
    }
}

impl Handler<QueryClient<ReadOutput>> for ProcessActor {
    type Result = ();

    fn handle(&mut self, QueryClient(answer): QueryClient<ReadOutput>, _: &mut Context<Self>) {
        self.when_started(Waiting::Reader(answer));
    }
}

impl Handler<QueryClient<FollowOutput>> for ProcessActor {
    type Result = ();

    fn handle(&mut self, QueryClient(answer): QueryClient<FollowOutput>, _: &mut Context<Self>) {
        self.when_started(Waiting::Follower(answer));
    }
}
