//! The level of the log, as clients see and change it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::config::LogLevel;

/// Who knows the level of the log, and changes it.
pub trait LogControl: Send + Sync {
    /// The level now, and the one of the settings.
    fn levels(&self) -> (LogLevel, LogLevel);
    /// Sets it until the program ends; none: as the settings have it.
    fn set(&self, level: Option<LogLevel>);
}

/// The level of the log.
#[derive(Serialize, ToSchema)]
pub(super) struct Levels {
    /// The least severe level that is logged now: `trace`, `debug`, `info`, `warn` or `error`.
    #[schema(value_type = String)]
    level: LogLevel,
    /// The one of the settings, which counts at the next start.
    #[schema(value_type = String)]
    configured: LogLevel,
}

impl Levels {
    pub(super) fn of(control: &dyn LogControl) -> Levels {
        let (level, configured) = control.levels();
        Levels { level, configured }
    }
}

/// What answers `/log-level`.
#[derive(Serialize, ToSchema)]
pub(super) struct LogLevelBody {
    /// The level.
    pub(super) log_level: Levels,
}

/// What is asked for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetLevel {
    /// A level, or null for the one of the settings.
    #[schema(value_type = Option<String>)]
    #[serde(deserialize_with = "Option::deserialize")]
    pub(super) level: Option<LogLevel>,
}
