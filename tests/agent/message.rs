//! The agent's messages, as a scheduler decodes them.

use serde::Deserialize;
use serde_json::Value;

/// A message of the agent, with all keys that the protocol defines and no others.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Message {
    pub r#type: String,
    pub conn: Value,
    pub proc: Value,
    pub proc_id: String,
    pub proc_ids: Vec<String>,
    pub access_token: String,
    pub shutdown_state: String,
    pub res: Value,
    pub msg: Value,
    pub err: String,
    pub fd: Value,
    pub start: u64,
    pub stop: u64,
    pub encoding: Value,
    pub data: serde_bytes::ByteBuf,
}

impl Message {
    /// A summary of the message in one line.
    pub fn brief(&self) -> String {
        let kind = &self.r#type;
        match kind.as_str() {
            "Register" => format!("{kind} {} {}", self.proc_ids.join(" "), self.shutdown_state),
            "ProcidList" => format!("{kind} {}", self.proc_ids.join(" ")),
            "ProcResult" => {
                let state = self.res["state"].as_str().unwrap();
                assert_eq!(self.res["status"].is_null(), state == "running");
                format!("{kind} {} {state}", self.proc_id)
            }
            "ProcFdData" => format!(
                "{kind} {} {} {}-{} {}",
                self.proc_id,
                self.fd,
                self.start,
                self.stop,
                String::from_utf8_lossy(&self.data)
            ),
            "ProcDelete" | "ProcUnknown" => format!("{kind} {}", self.proc_id),
            "RequestError" => format!("{kind} {}: {}", self.msg["type"], self.err),
            "ShutDown" => format!("{kind} {}", self.shutdown_state),
            other => panic!("the protocol has no {other}"),
        }
    }
}
