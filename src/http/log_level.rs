//! The level of the log, as clients see and change it.

use crate::api::Levels;
use crate::config::LogLevel;

/// Who knows the level of the log, and changes it.
pub trait LogControl: Send + Sync {
    /// The level now, and the one of the settings.
    fn levels(&self) -> (LogLevel, LogLevel);
    /// Sets it until the program ends; none: as the settings have it.
    fn set(&self, level: Option<LogLevel>);
}

/// The levels, as clients see them.
pub(super) fn levels(control: &dyn LogControl) -> Levels {
    let (level, configured) = control.levels();
    Levels { level: level.as_str().into(), configured: configured.as_str().into() }
}
