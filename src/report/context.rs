//! What a result needs beside the process's own record.

use super::agent::AgentInfo;
use crate::sampler::ProcReader;

/// How many captured bytes one result contains at most, if nothing else is configured.
const MAX_INLINE: u64 = 1 << 30;

/// What results are made with: a reader of /proc for processes that run, and whose results they are.
pub struct ResultContext {
    pub(super) reader: ProcReader,
    pub(super) agent: AgentInfo,
    pub(super) group_id: String,
    max_inline: u64,
}

impl Default for ResultContext {
    /// A context that reads the system's own /proc.
    fn default() -> Self {
        ResultContext::new(ProcReader::default())
    }
}

impl ResultContext {
    /// The context of no agent in particular.
    pub fn new(reader: ProcReader) -> ResultContext {
        let (agent, group_id) = (AgentInfo::default(), String::new());
        ResultContext { reader, agent, group_id, max_inline: MAX_INLINE }
    }

    /// The same, with this limit of captured bytes in one result.
    pub fn with_max_inline(self, max_inline: u64) -> ResultContext {
        ResultContext { max_inline, ..self }
    }

    /// The same, for the results of `agent`, which is in the group `group_id`.
    pub fn with_agent(self, agent: AgentInfo, group_id: String) -> ResultContext {
        ResultContext { agent, group_id, ..self }
    }

    /// How many captured bytes one result, or one answer, contains at most.
    pub fn max_inline(&self) -> u64 {
        self.max_inline
    }
}
