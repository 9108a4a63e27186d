//! The log: tracing's events to standard error, as text or as JSON lines.
//!
//! Only this crate's events follow the configured level. Other crates do not know our secrets, so
//! they log only warnings and errors; at `trace`, they log up to `debug`, since libraries trace the
//! transmitted data.

mod stderr;

use std::io::{self, IsTerminal};
use std::sync::{Mutex, OnceLock, PoisonError};

use thiserror::Error;
use tracing::level_filters::LevelFilter;
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use crate::config::{LogFormat, LogLevel, LogSettings};

/// An error of setting up the log.
#[derive(Debug, Error)]
#[error("cannot set up the log: this process has one already")]
pub struct LogError(#[source] tracing_subscriber::util::TryInitError);

/// Sets up the log of this process. Must be called once, before anything is logged.
///
/// Text is coloured only with [`LogFormat::Auto`], on a terminal, and if `NO_COLOR` is unset or
/// empty. Every event is one line. If standard error is closed or not read, lines are lost without
/// further effect: see `stderr`.
///
/// # Errors
/// [`LogError`], on the second call.
pub fn init(settings: &LogSettings) -> Result<(), LogError> {
    let colour = settings.format == LogFormat::Auto
        && io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let stderr = stderr::Stderr::new(settings.format != LogFormat::Json);
    let stderr = if shares_terminal(settings) { stderr.erasing() } else { stderr };
    let (dispatch, filter) = dispatch(settings, colour, stderr);
    dispatch.try_init().map_err(LogError)?;
    // This is the first call, so the cell is empty.
    let _ = CONTROL.set(Control { filter, configured: settings.level, set: Mutex::new(None) });
    Ok(())
}

/// The process's log, once it is set up.
static CONTROL: OnceLock<Control> = OnceLock::new();

struct Control {
    filter: reload::Handle<Targets, Registry>,
    /// The level of the settings.
    configured: LogLevel,
    /// The level set at run time.
    set: Mutex<Option<LogLevel>>,
}

/// Sets the log level from now on; `None` restores the configured one.
pub fn set_level(level: Option<LogLevel>) {
    let Some(Control { filter, configured, set }) = CONTROL.get() else { return };
    let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
    if std::mem::replace(&mut *set, level) == level {
        return;
    }
    // The filter lives as long as the process.
    let _ = filter.reload(targets(level.unwrap_or(*configured)));
    tracing::info!(level = ?level.unwrap_or(*configured), "the log level was changed");
}

/// The present log level, and the configured one.
pub fn levels() -> (LogLevel, LogLevel) {
    let Some(control) = CONTROL.get() else { return Default::default() };
    let set = *control.set.lock().unwrap_or_else(PoisonError::into_inner);
    (set.unwrap_or(control.configured), control.configured)
}

/// Whether standard error is a terminal that may also show a progress line, with a text log.
pub(super) fn shares_terminal(settings: &LogSettings) -> bool {
    let term = std::env::var_os("TERM").unwrap_or_default();
    settings.format == LogFormat::Auto
        && io::stderr().is_terminal()
        && !term.is_empty()
        && term != "dumb"
}

/// The subscriber that [`init`] installs, with another writer for tests.
fn dispatch<W>(
    settings: &LogSettings,
    colour: bool,
    writer: W,
) -> (Dispatch, reload::Handle<Targets, Registry>)
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(targets(settings.level));
    let registry = tracing_subscriber::registry().with(filter);
    // The crate reports a failed write with eprintln!, which panics if standard error is closed.
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    let dispatch = match settings.format {
        LogFormat::Auto | LogFormat::Text => boxed(registry.with(layer.with_ansi(colour))),
        LogFormat::Json => {
            let layer = layer.with_ansi(false).json();
            boxed(registry.with(layer.flatten_event(true).with_span_list(false)))
        }
    };
    (dispatch, handle)
}

fn boxed(subscriber: impl Subscriber + Send + Sync + 'static) -> Dispatch {
    Dispatch::new(subscriber)
}

/// The levels of events, by crate.
fn targets(level: LogLevel) -> Targets {
    let (ours, others) = match level {
        LogLevel::Trace => (LevelFilter::TRACE, LevelFilter::DEBUG),
        LogLevel::Debug => (LevelFilter::DEBUG, LevelFilter::WARN),
        LogLevel::Info => (LevelFilter::INFO, LevelFilter::WARN),
        LogLevel::Warn => (LevelFilter::WARN, LevelFilter::WARN),
        LogLevel::Error => (LevelFilter::ERROR, LevelFilter::ERROR),
    };
    Targets::new()
        .with_target(env!("CARGO_CRATE_NAME"), ours)
        // It logs an error for every client that disconnects during an answer. We log failed bodies
        // ourselves.
        .with_target("actix_http::h1::dispatcher", LevelFilter::OFF)
        .with_default(others)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `events` logs under these settings.
    fn logged(level: LogLevel, format: LogFormat, events: impl FnOnce()) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let settings = LogSettings { level, format };
        let (dispatch, _) = dispatch(&settings, false, move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, events);
        String::from_utf8(memory.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn text_has_the_message_in_one_piece() {
        let text = logged(LogLevel::Info, LogFormat::Auto, || {
            tracing::info!(proc_id = "p1", "started processes from specs");
            tracing::debug!("too much");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains(" INFO ") && text.contains("started processes from specs"), "{text}");
        assert!(!text.contains('\u{1b}'));
        assert!(text.starts_with("20"), "a timestamp comes first: {text}");
    }

    #[test]
    fn json_is_one_flat_object_a_line() {
        let text = logged(LogLevel::Warn, LogFormat::Json, || {
            tracing::warn!(proc_id = "p\n1", "look");
            tracing::info!("too much");
        });
        let object: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(object["message"], "look");
        assert_eq!(object["proc_id"], "p\n1");
        assert_eq!(object["level"], "WARN");
        assert!(object["timestamp"].is_string() && text.lines().count() == 1);
    }

    #[test]
    fn the_level_can_be_changed_while_it_is_in_use() {
        let memory = Memory::default();
        let writer = memory.clone();
        let settings = LogSettings { level: LogLevel::Warn, format: LogFormat::Text };
        let (dispatch, filter) = dispatch(&settings, false, move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, || {
            for level in [LogLevel::Warn, LogLevel::Debug, LogLevel::Error] {
                filter.reload(targets(level)).unwrap();
                tracing::debug!("debug at {level:?}");
                tracing::warn!("warn at {level:?}");
            }
        });
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        let said: Vec<_> = text.lines().filter_map(|line| line.split_once(": ")).collect();
        let said: Vec<_> = said.into_iter().map(|(_, said)| said).collect();
        assert_eq!(said, ["warn at Warn", "debug at Debug", "warn at Debug"]);
    }

    #[test]
    fn other_crates_are_kept_down() {
        let events = || {
            tracing::warn!(target: "rustls::conn", "their warning");
            tracing::error!(target: "actix_http::h1::dispatcher", "a client that goes");
            tracing::info!(target: "actix_server", "their info");
            tracing::debug!(target: "h2", "their debug");
            tracing::trace!(target: "awc", "their trace");
            tracing::trace!(target: "procstar::agent", "our trace");
        };
        let debug = logged(LogLevel::Debug, LogFormat::Text, events);
        assert!(debug.contains("their warning"));
        assert!(!debug.contains("their info") && !debug.contains("trace"), "{debug}");
        assert!(!debug.contains("a client that goes"), "{debug}");
        let trace = logged(LogLevel::Trace, LogFormat::Text, events);
        assert!(trace.contains("their debug") && trace.contains("our trace"), "{trace}");
        assert!(!trace.contains("their trace"), "{trace}");
        assert_eq!(logged(LogLevel::Error, LogFormat::Text, events), "");
    }
}
