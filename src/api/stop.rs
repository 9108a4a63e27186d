//! How to stop a process: `/procs/{id}/stop`.

use schemars::JsonSchema;
use serde::Deserialize;

/// How to stop a process.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StopBody {
    /// The first signal, by name or number; without one, what its spec says, or SIGTERM.
    pub signal: Option<SignalName>,
    /// The time that it has to end, in seconds; without one, what its spec says, or 10.
    #[schemars(range(min = 0, max = 1e10))]
    pub grace: Option<f64>,
}

/// A signal as a client writes it.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum SignalName {
    /// Its number.
    Number(i32),
    /// Its name.
    Name(String),
}
