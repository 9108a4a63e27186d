//! Sessions of the page: `/session-codes` and `/sessions`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where to open the page with a session.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct CodeBody {
    /// Of the page; a code stands behind the `#`, which no request shows.
    pub url: String,
    /// How long the code can be traded for a session, in seconds. It can be traded once.
    pub expires_in: u64,
}

/// A code.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trade {
    /// What stands behind `#session=` in the URL.
    pub code: String,
}

/// A session.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct SessionBody {
    /// What to send as header `Procstar-Session` with each request.
    pub session: String,
    /// How long it lasts, in seconds; not longer than the program runs.
    pub expires_in: u64,
}
