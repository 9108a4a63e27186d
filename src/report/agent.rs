//! The program that reports a result.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The key `agent` of a result: the instance that reports the result. Another instance may have
/// started the process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AgentInfo {
    /// The process that the user launched.
    pub pid: u32,
    /// The host's name.
    pub host: String,
    /// The name of the user that it runs as; the ID in digits where it has none.
    pub user: String,
    /// The program's version.
    pub version: String,
}
