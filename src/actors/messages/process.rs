//! Questions about one process. The supervisor forwards each to the process's actor, which answers.

use std::sync::Arc;

use actix::Message;

use crate::output::{OutputFollower, OutputReader};
use crate::report::ProcessRecord;
use crate::report::samples::SampleHistory;
use crate::spec::ProcId;

/// A question about one process. Handled by the
/// [`Supervisor`](crate::actors::supervisor::Supervisor), which forwards it to the
/// [`ProcessActor`](crate::actors::process::ProcessActor). The answer is none if the process is
/// unknown. Dropping the request withdraws the question.
pub trait ProcessQuestion: Message<Result = Option<Self::Answer>> + Clone + Send + 'static {
    /// The type of the answer.
    type Answer: Send;

    /// The process.
    fn id(&self) -> &ProcId;
}

macro_rules! questions {
    ($($name:ident -> $answer:ty),* $(,)?) => {$(
        impl Message for $name {
            type Result = Option<$answer>;
        }

        impl ProcessQuestion for $name {
            type Answer = $answer;

            fn id(&self) -> &ProcId {
                &self.0
            }
        }
    )*};
}

questions! {
    AwaitStart -> Arc<ProcessRecord>,
    AwaitEnd -> Arc<ProcessRecord>,
    GetUsage -> Usage,
    ReadOutput -> OutputReader,
    FollowOutput -> OutputFollower,
}

/// The record of a process, once it has started or failed to start.
#[derive(Clone, Debug)]
pub struct AwaitStart(pub ProcId);

/// The last record of a process, once it has ended.
#[derive(Clone, Debug)]
pub struct AwaitEnd(pub ProcId);

/// The resource usage of a process at present. The answer does not wait for the start: until then
/// it is `None`.
#[derive(Clone, Debug)]
pub struct GetUsage(pub ProcId);

/// The answer to [`GetUsage`].
#[derive(Clone)]
pub struct Usage {
    /// The latest record.
    pub record: Arc<ProcessRecord>,
    /// The sampling history with its peaks; none if the process is not sampled.
    pub history: Option<Arc<SampleHistory>>,
}

/// A reader of the output so far, once the process has started.
#[derive(Clone, Debug)]
pub struct ReadOutput(pub ProcId);

/// A follower of the output up to its end, once the process has started.
#[derive(Clone, Debug)]
pub struct FollowOutput(pub ProcId);
