//! The level of the log: `/log-level`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::config::LogLevel;

/// The level of the log. A client takes levels that it does not know, so they are text.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(description = "The level of the log.")]
pub struct Levels {
    /// The least severe level that is logged now: `trace`, `debug`, `info`, `warn` or `error`.
    pub level: Cow<'static, str>,
    /// The one of the settings, which counts at the next start.
    pub configured: Cow<'static, str>,
}

/// What answers `/log-level`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct LogLevelBody {
    /// The level.
    pub log_level: Levels,
}

/// A level to be set.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetLevel {
    /// A level, or null for the one of the settings.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schemars(schema_with = "text_or_null")]
    pub level: Option<LogLevel>,
}

/// The key must be there, though it may be null, which schemars cannot say of an `Option`.
fn text_or_null(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": ["string", "null"]})
}
