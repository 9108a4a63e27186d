//! The progress of a one-shot: one line on a terminal, which is redrawn while processes run and
//! erased at the end.
//!
//! The cursor stays at the beginning of the line, where the next writer to the terminal begins: our
//! log erases the rest of the line.

use std::cell::RefCell;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::time::Duration;

use actix_rt::task::JoinHandle;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::actors::Handle;
use crate::actors::messages::ProcessCounts;
use crate::cli::invocation::Run;
use crate::clock::TimePoint;
use crate::logging;

/// A run that ends sooner shows no progress.
const DELAY: Duration = Duration::from_millis(300);
/// Time between two updates.
const PACE: Duration = Duration::from_millis(100);
/// Assumed width of a terminal that does not report one.
const WIDTH: usize = 80;

/// The progress display, until this is dropped.
pub(super) struct Progress(Option<(JoinHandle<()>, Rc<RefCell<Line>>)>);

impl Progress {
    /// Shows the progress of `count` processes, if enabled and visible; otherwise has no cost.
    pub(super) fn of(run: &Run, count: usize, start: TimePoint, actors: Handle) -> Progress {
        let unwanted = std::env::var_os("NO_PROGRESS").is_some_and(|value| !value.is_empty());
        let wanted = run.progress && run.exit && run.foreground.is_none() && !unwanted;
        if !wanted || count < 2 || !logging::shares_terminal(&run.settings.log) {
            return Progress(None);
        }
        let line = Rc::new(RefCell::new(Line::default()));
        let shared = Rc::clone(&line);
        let task = actix_rt::spawn(async move {
            let mut ticks = interval_at(Instant::now() + DELAY, PACE);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // The results actor has ended with the worker.
                let Ok(tally) = actors.counts().await else { return };
                let elapsed = TimePoint::now().seconds_since(start);
                shared.borrow_mut().draw(&text(&tally, count, elapsed));
            }
        });
        Progress(Some((task, line)))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((task, line)) = self.0.take() {
            task.abort();
            line.borrow_mut().draw("");
        }
    }
}

/// The present line.
#[derive(Default)]
struct Line(String);

impl Line {
    /// Draws the line, if it has changed. Skips a terminal that its user has stopped and that
    /// accepts no bytes now.
    fn draw(&mut self, text: &str) {
        if self.0 == text || !takes(&io::stderr()) {
            return;
        }
        let shown: String = text.chars().take(width(&io::stderr()).saturating_sub(1)).collect();
        // In one write, which returns the cursor to the beginning. A closed terminal does not
        // matter.
        let _ = io::stderr().write_all(format!("\r\x1b[K{shown}\r").as_bytes());
        text.clone_into(&mut self.0);
    }
}

/// Whether a write would not block.
fn takes(terminal: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(terminal.as_fd(), PollFlags::POLLOUT)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// The number of columns of a terminal.
fn width(terminal: &impl AsRawFd) -> usize {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel fills the structure, which belongs to us and outlives the call.
    let known = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) } == 0;
    if known && size.ws_col > 0 { usize::from(size.ws_col) } else { WIDTH }
}

/// The line's text, for `count` requested processes.
fn text(tally: &ProcessCounts, count: usize, elapsed: f64) -> String {
    let ended = tally.terminated + tally.error;
    let (running, failed, done) = (tally.running, tally.failed, ended.saturating_sub(tally.failed));
    let waiting = (count as u64).saturating_sub(running + ended);
    let mut text = format!("{running} running, {done} done, {failed} failed");
    if waiting > 0 {
        text.push_str(&format!(", {waiting} waiting"));
    }
    text + &format!(" of {count}; {}", duration(elapsed as u64))
}

/// Seconds for people.
fn duration(seconds: u64) -> String {
    let (hours, minutes, left) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{left}s"),
        (0, _) => format!("{minutes}m{left:02}s"),
        _ => format!("{hours}h{minutes:02}m{left:02}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let tally = |running, terminated, error, failed| ProcessCounts {
            running,
            terminated,
            error,
            failed,
            ..ProcessCounts::default()
        };
        for (tally, count, elapsed, wanted) in [
            (tally(0, 0, 0, 0), 3, 0.4, "0 running, 0 done, 0 failed, 3 waiting of 3; 0s"),
            (tally(2, 1, 0, 0), 3, 59.9, "2 running, 1 done, 0 failed of 3; 59s"),
            (tally(1, 5, 2, 3), 10, 61.0, "1 running, 4 done, 3 failed, 2 waiting of 10; 1m01s"),
            (tally(0, 10, 0, 0), 10, 3725.0, "0 running, 10 done, 0 failed of 10; 1h02m05s"),
        ] {
            assert_eq!(text(&tally, count, elapsed), wanted);
        }
    }
}
