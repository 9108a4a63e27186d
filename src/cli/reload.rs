//! `procstar upgrade`: asks a running instance to become the program that is now on disk, and tells what came of it.

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

/// How long an instance may take: its check of the new program, the set-up of processes that it waits for, and the start of the new worker.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why nothing was reloaded.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// There is no instance.
    #[error("{0}")]
    None(InstanceError),
    /// There are several.
    #[error("multiple instances of this user are running; give a pid: {0}")]
    Several(String),
    /// The instance has not become the new program, and says why. It goes on as it was.
    #[error("{0}")]
    Refused(String),
    /// Nothing was heard of it.
    #[error("no answer from the procstar with pid {0}; its log may tell more")]
    Silent(i32),
    /// It has ended.
    #[error("the procstar with pid {0} has ended; its log may say why")]
    Ended(i32),
    /// It cannot be asked.
    #[error("cannot ask the procstar with pid {pid}: {source}")]
    Ask {
        /// The instance.
        pid: i32,
        /// Why not.
        source: io::Error,
    },
}

/// Has the instance of `pid`, or the only one there is, reload; gives a line for the user.
///
/// # Errors
/// Where there is no such instance, or it did not become the new program.
pub fn reload(settings: &Settings, env: &Env, pid: Option<i32>) -> Result<String, ReloadError> {
    match Search::new(pid, settings, env).one() {
        Ok(running) => ask(&running),
        Err(InstanceError::Several(found)) => {
            let pids: Vec<String> = found.iter().map(|one| one.pid.to_string()).collect();
            Err(ReloadError::Several(pids.join(", ")))
        }
        Err(none) => Err(ReloadError::None(none)),
    }
}

fn ask(running: &Running) -> Result<String, ReloadError> {
    let pid = running.pid;
    let failed = |source: io::Error| ReloadError::Ask { pid, source };
    let watch = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)
        .and_then(|watch| {
            watch.add_watch(&running.dir, AddWatchFlags::IN_MOVED_TO)?;
            Ok(watch)
        })
        .map_err(|errno| failed(errno.into()))?;
    // Before it is asked: its number may be another's soon.
    let pidfd = pidfd_open(pid).map_err(permitted::explain).map_err(failed)?;
    let answer = running.dir.join(instance::RELOADED);
    let before = read(&answer);
    running.wish_reload().map_err(failed)?;
    let asked = kill(Pid::from_raw(pid), signal_for(pid))
        .map_err(|errno| failed(errno.into()))
        .and_then(|()| await_answer(&watch, &pidfd, &answer, before.as_deref(), pid));
    running.withdraw_wish();
    asked
}

/// The signal that wakes a keeper. One that waits for SIGUSR2 has it, for that is never ignored; an older program would die of it.
fn signal_for(pid: i32) -> Signal {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let blocked = blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let waits = blocked.is_some_and(|mask| mask >> (Signal::SIGUSR2 as i32 - 1) & 1 == 1);
    if waits { Signal::SIGUSR2 } else { Signal::SIGHUP }
}

/// Waits until the keeper has left another answer than the one `before`.
fn await_answer(
    watch: &Inotify,
    pidfd: &OwnedFd,
    answer: &PathBuf,
    before: Option<&str>,
    pid: i32,
) -> Result<String, ReloadError> {
    let failed = |source: io::Error| ReloadError::Ask { pid, source };
    let deadline = Instant::now() + PATIENCE;
    let mut ended = false;
    loop {
        match read(answer) {
            now if now.as_deref() == before || now.is_none() => {}
            Some(text) => {
                // The first line is a number that tells one answer from another.
                let text = text.lines().skip(1).collect::<Vec<_>>().join("\n");
                return match text.strip_prefix("error: ") {
                    Some(error) => Err(ReloadError::Refused(error.to_owned())),
                    None => Ok(format!("pid {pid}: {text}\n")),
                };
            }
            None => {}
        }
        if ended {
            return Err(ReloadError::Ended(pid));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ReloadError::Silent(pid));
        }
        let mut fds = [
            PollFd::new(watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
        ];
        let limit = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        poll(&mut fds, limit).map_err(|errno| failed(errno.into()))?;
        // Its answer may have come just before its end.
        ended = fds.last().and_then(PollFd::any).unwrap_or(false);
        // That something has come is all there is to know.
        let _ = watch.read_events();
    }
}

fn read(path: &PathBuf) -> Option<String> {
    std::fs::read_to_string(path).ok()
}
