//! This program's settings for its own process: signals, and the adoption of orphans.

use std::io;

use crate::engine::sys;

/// Ignores a signal in this process from now on.
///
/// # Errors
/// The OS error, for a signal that cannot be ignored.
pub fn ignore(signum: i32) -> io::Result<()> {
    sys::ignore(signum)
}

/// Makes this process the new parent of orphaned descendants: its engine then reaps them, and
/// reports those that survive its processes. It notices their ends soon if SIGCHLD is blocked in
/// the main thread.
///
/// # Errors
/// The OS error, which does not occur.
pub fn become_subreaper() -> io::Result<()> {
    sys::become_subreaper()
}

/// Whether this process was started with a signal ignored.
pub fn is_ignored(signum: i32) -> bool {
    sys::is_ignored(signum)
}

/// Whether a signal has its default action in this process.
pub fn has_default_action(signum: i32) -> bool {
    sys::is_default(signum)
}

/// The signals that this process ignores, signal N by bit N - 1, except those that every program of
/// this kind ignores.
pub fn ignored_signals() -> u64 {
    const OURS: [i32; 4] = [libc::SIGPIPE, libc::SIGXFSZ, 32, 33];
    let ignored = (1..=64).filter(|signum| !OURS.contains(signum) && sys::is_ignored(*signum));
    ignored.fold(0, |mask, signum| mask | 1 << (signum - 1))
}

/// Resets signals that this process ignores to their default, except those of the `ignored` mask,
/// signal N by bit N - 1, and those that every program of this kind ignores.
pub fn restore_ignored(ignored: u64) {
    let extra = ignored_signals() & !ignored;
    (1..=64).filter(|signum| extra >> (signum - 1) & 1 == 1).for_each(sys::make_default);
}

/// Ends this process by a signal, without a core dump; returns if the signal does not end it.
pub fn die_of(signum: i32) {
    sys::die_of(signum);
}
