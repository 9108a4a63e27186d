//! The bodies of answers that refuse or fail.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One entry of `errors`.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct ErrorEntry {
    /// The answer's status again, as text.
    pub status: String,
    /// What is wrong.
    pub detail: String,
}

/// What is wrong, as the older endpoints report it.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Errors {
    /// One or more.
    pub errors: Vec<ErrorEntry>,
}

/// What is wrong, as RFC 9457 has it: of the newer endpoints.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// `about:blank`: the status says which kind it is.
    pub r#type: Cow<'static, str>,
    /// The status in words.
    pub title: Cow<'static, str>,
    /// The status.
    pub status: u16,
    /// What is wrong, on one line.
    pub detail: String,
    /// The same as the older endpoints report it.
    pub errors: Vec<ErrorEntry>,
}
