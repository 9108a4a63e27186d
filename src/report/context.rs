//! The input of a result besides the process's own record.

use super::agent::AgentInfo;
use crate::sampler::ProcReader;

/// Maximum number of captured bytes in one result, by default.
const MAX_INLINE: u64 = 1 << 30;

/// The context of results: a reader of /proc for running processes, and the agent that reports.
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
    /// A context without an agent.
    pub fn new(reader: ProcReader) -> ResultContext {
        let (agent, group_id) = (AgentInfo::default(), String::new());
        ResultContext { reader, agent, group_id, max_inline: MAX_INLINE }
    }

    /// Sets the maximum number of captured bytes in one result.
    pub fn with_max_inline(self, max_inline: u64) -> ResultContext {
        ResultContext { max_inline, ..self }
    }

    /// Sets the agent that reports, and its group `group_id`.
    pub fn with_agent(self, agent: AgentInfo, group_id: String) -> ResultContext {
        ResultContext { agent, group_id, ..self }
    }

    /// Maximum number of captured bytes in one result or response.
    pub fn max_inline(&self) -> u64 {
        self.max_inline
    }
}
