//! The level of the log, as clients see and change it.

use crate::api::Levels;
use crate::config::LogLevel;

/// The control of the log level.
pub trait LogControl: Send + Sync {
    /// The present level, and the configured one.
    fn levels(&self) -> (LogLevel, LogLevel);
    /// Sets the level until the program ends; `None` restores the configured one.
    fn set(&self, level: Option<LogLevel>);
}

/// The levels, as clients see them.
pub(super) fn levels(control: &dyn LogControl) -> Levels {
    let (level, configured) = control.levels();
    Levels { level: level.as_str().into(), configured: configured.as_str().into() }
}
