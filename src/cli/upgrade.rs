//! `procstar upgrade`: asks a running instance to replace itself with the program now on disk, and
//! reports the outcome.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::instances::{InstanceError, Search};
use crate::config::{Env, Settings};
use crate::engine::permitted;
use crate::engine::permitted::pidfd_open;
use crate::keeper::instance;
use crate::keeper::registry::Running;

/// Maximum time to wait for the answer. Before it answers, the instance checks the new program,
/// finishes starts of processes that are in progress, and starts the new worker.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why nothing was upgraded.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// No instance was found.
    #[error("{0}")]
    None(InstanceError),
    /// Several instances were found, with these pids, and the user named none of them.
    #[error("multiple instances of this user are running; give a pid: {0}")]
    Several(String),
    /// The instance refused for this reason, and continues unchanged.
    #[error("{0}")]
    Refused(String),
    /// The instance with this pid did not answer in time.
    #[error("no answer from the instance with pid {0} within 30 s; see its log")]
    Silent(i32),
    /// The instance with this pid ended before it answered.
    #[error("the instance with pid {0} has ended; see its log")]
    Ended(i32),
    /// The request cannot be delivered.
    #[error(
        "cannot ask the instance with pid {pid} to upgrade: {source}; 'procstar ps' lists instances"
    )]
    Ask {
        /// The pid of the instance.
        pid: i32,
        /// The error of the file, the watch or the signal.
        source: io::Error,
    },
}

/// Upgrades the instance with `pid`, or the only running one, and returns a line for the user.
///
/// # Errors
/// If not exactly one instance is found, or if it was not upgraded.
pub fn upgrade(settings: &Settings, env: &Env, pid: Option<i32>) -> Result<String, UpgradeError> {
    match Search::new(pid, settings, env).one() {
        Ok(running) => ask(&running),
        Err(InstanceError::Several(found)) => {
            let pids: Vec<String> = found.iter().map(|one| one.pid.to_string()).collect();
            Err(UpgradeError::Several(pids.join(", ")))
        }
        Err(none) => Err(UpgradeError::None(none)),
    }
}

fn ask(running: &Running) -> Result<String, UpgradeError> {
    let pid = running.pid;
    let failed = |source: io::Error| UpgradeError::Ask { pid, source };
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
        .and_then(|watch| {
            watch.add_watch(&running.dir, AddWatchFlags::IN_MOVED_TO)?;
            Ok(watch)
        })
        .map_err(|errno| failed(errno.into()))?;
    // Opened before the request: the pid may be reused once the instance has ended.
    let pidfd = pidfd_open(pid).map_err(permitted::explain).map_err(failed)?;
    let answer = running.dir.join(instance::UPGRADED);
    let before = read(&answer);
    running.request_upgrade().map_err(failed)?;
    let asked = kill(Pid::from_raw(pid), signal_for(pid))
        .map_err(|errno| failed(errno.into()))
        .and_then(|()| await_answer(&watch, &pidfd, &answer, before.as_deref(), pid));
    running.withdraw_request();
    asked
}

/// The signal on which the keeper reads the request: SIGUSR2, which it never ignores, or SIGHUP for
/// an older program, which SIGUSR2 would kill. A keeper that handles SIGUSR2 blocks it.
fn signal_for(pid: i32) -> Signal {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let blocked = blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let waits = blocked.is_some_and(|mask| mask >> (Signal::SIGUSR2 as i32 - 1) & 1 == 1);
    if waits { Signal::SIGUSR2 } else { Signal::SIGHUP }
}

/// Waits until the keeper writes an answer that differs from `before`, and returns it.
fn await_answer(
    watch: &Inotify,
    pidfd: &OwnedFd,
    answer: &PathBuf,
    before: Option<&str>,
    pid: i32,
) -> Result<String, UpgradeError> {
    let failed = |source: io::Error| UpgradeError::Ask { pid, source };
    let deadline = Instant::now() + ANSWER_TIMEOUT;
    let mut ended = false;
    loop {
        match read(answer) {
            now if now.as_deref() == before || now.is_none() => {}
            Some(text) => {
                // The first line is a number, so that equal answers differ.
                let text = text.lines().skip(1).collect::<Vec<_>>().join("\n");
                return match text.strip_prefix("error: ") {
                    Some(error) => Err(UpgradeError::Refused(error.to_owned())),
                    None => Ok(format!("pid {pid}: {text}\n")),
                };
            }
            None => {}
        }
        if ended {
            return Err(UpgradeError::Ended(pid));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(UpgradeError::Silent(pid));
        }
        let mut fds = [
            PollFd::new(watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
        ];
        let limit = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        poll(&mut fds, limit).map_err(|errno| failed(errno.into()))?;
        // The keeper may have answered just before its end, so the answer is read once more.
        ended = fds.last().and_then(PollFd::any).unwrap_or(false);
        // Only clears the events: the answer is read after any of them.
        let _ = watch.read_events();
    }
}

fn read(path: &PathBuf) -> Option<String> {
    std::fs::read_to_string(path).ok()
}
