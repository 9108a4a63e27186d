//! The conversation with one scheduler: changes and answers become messages. Pure.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::call::CallAnswer;
use super::outbox::{OutMessage, Outbox};
use crate::actors::messages::ChangeKind;
use crate::report::{AsOf, ProcessRecord};
use crate::spec::ProcId;
use crate::wire::outgoing as message;

/// The number of IDs remembered as reported gone. A scheduler that asks for more unknown processes
/// gets some reports twice.
const MAX_GONE: usize = 100_000;

/// The conversation with one scheduler, from its registration on.
#[derive(Default)]
pub struct Conversation {
    /// The hashes of IDs that were reported gone. Strings that outlive their processes would keep
    /// pages of memory.
    gone: HashSet<u64>,
    hasher: RandomState,
    /// During an idempotent start: its processes, with the number of results of each that were
    /// queued since the request came.
    repeated: HashMap<ProcId, usize>,
}

impl Conversation {
    /// Turns a change into messages: two for each process, one for a deletion, one for the
    /// shutdown.
    pub fn change(&mut self, what: ChangeKind, out: &mut Outbox) {
        match what {
            ChangeKind::Started(record) => self.started(record, out),
            ChangeKind::Failed(record) => {
                self.started(Arc::clone(&record), out);
                self.ended(record, out);
            }
            ChangeKind::Ended(record) => self.ended(record, out),
            // Clients take the second result of a process for the final one.
            ChangeKind::Updated(_) => {}
            ChangeKind::Deleted(id) => {
                if self.report_missing(&id) {
                    out.push(message::proc_delete(id.as_str()));
                }
            }
            ChangeKind::Shutdown(state) => out.push(message::shut_down(state.as_str())),
        }
    }

    fn started(&mut self, record: Arc<ProcessRecord>, out: &mut Outbox) {
        self.gone.remove(&self.hasher.hash_one(&record.id));
        self.count(&record.id);
        out.push(OutMessage::Result(record, AsOf::AtStart));
    }

    fn ended(&mut self, record: Arc<ProcessRecord>, out: &mut Outbox) {
        self.count(&record.id);
        out.push(OutMessage::Result(record, AsOf::Now));
    }

    /// Turns the answer to a request into messages.
    pub fn answer(&mut self, answer: CallAnswer, out: &mut Outbox) {
        match answer {
            CallAnswer::Ids(ids) => out.push(message::procid_list(&ids)),
            CallAnswer::Results(records) => {
                for record in records {
                    out.push(OutMessage::Result(record, AsOf::Now));
                }
            }
            CallAnswer::Present(record) => {
                for _ in 0..self.repeats_due(&record.id, record.is_running()) {
                    out.push(OutMessage::Result(Arc::clone(&record), AsOf::Now));
                }
            }
            CallAnswer::Output(data) => out.push(data),
            CallAnswer::Unknown(id) => {
                if self.report_missing(&id) {
                    out.push(message::proc_unknown(id.as_str()));
                }
            }
            CallAnswer::Refused { request, error } => {
                out.push(message::request_error(&request, &error));
            }
            CallAnswer::Done => {}
        }
    }

    /// Begins an idempotent start of these processes.
    pub fn begin_repeat(&mut self, ids: impl IntoIterator<Item = ProcId>) {
        self.repeated = ids.into_iter().map(|id| (id, 0)).collect();
    }

    /// Counts a queued result of a start or an end.
    fn count(&mut self, id: &ProcId) {
        if let Some(queued) = self.repeated.get_mut(id) {
            *queued += 1;
        }
    }

    /// The number of results that answer an idempotent start of a process. A start has two; the
    /// second one of a running process comes at its end. Results queued since the request came
    /// count.
    fn repeats_due(&mut self, id: &ProcId, running: bool) -> usize {
        let queued = self.repeated.remove(id).unwrap_or(0);
        if running { 1usize.saturating_sub(queued) } else { 2usize.saturating_sub(queued) }
    }

    /// Records that an ID is reported gone; false if it was reported before.
    fn report_missing(&mut self, id: &ProcId) -> bool {
        if self.gone.len() >= MAX_GONE {
            self.gone.clear();
        }
        self.gone.insert(self.hasher.hash_one(id))
    }
}

#[cfg(test)]
#[path = "conversation_tests.rs"]
mod tests;
