//! The meaning of each signal to the launched process, as pure data: by its number, the kind of
//! run, and the controlling terminal. The sender does not matter. The table is in
//! `docs/reference/operations.md`.

use serde::{Deserialize, Serialize};

use super::format::ShutdownCommand;

/// The kind of run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// `--serve` or `--agent`, without `--exit`.
    #[default]
    Service,
    /// A run that ends by itself: INPUT with `--print`, `--output`, `--exit` or `--wait`, or a
    /// command that starts no process.
    OneShot,
    /// `procstar run`.
    Foreground,
}

impl Mode {
    /// Whether it is a service.
    pub fn is_service(&self) -> bool {
        *self == Mode::Service
    }
}

/// The state of the controlling terminal at the moment of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// There was no terminal at the start.
    None,
    /// The terminal is open.
    Open,
    /// The terminal of the start has been closed.
    HungUp,
}

/// The reception of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Its default action takes place, or the engine receives it.
    Default,
    /// The kernel discards it.
    Discarded,
    /// It stays pending until it is read, and then has the effect that [`meaning`] returns.
    Read,
}

/// The effect of a signal that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// No effect and no log entry, because the default action has no effect either.
    Nothing,
    /// A log entry only: the default action would end this process, and leave all others without a
    /// parent.
    Ignored,
    /// A shutdown command.
    ShutDown(ShutdownCommand),
    /// An upgrade to the program on disk.
    Upgrade,
    /// The process in the foreground receives it.
    PassOn {
        /// Whether its whole group receives it, as with a signal of the terminal.
        group: bool,
    },
}

/// The first and the last signal.
pub const ALL: std::ops::RangeInclusive<i32> = 1..=64;

/// Two signals that glibc keeps for itself: no program can wait for them.
const LIBC: [i32; 2] = [32, 33];

/// The reception of signal `signum`.
pub fn receipt(signum: i32) -> Receipt {
    match signum {
        // Faults of this process, which cannot continue after them.
        libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL => Receipt::Default,
        libc::SIGKILL | libc::SIGSTOP => Receipt::Default,
        // Job control, and signals whose default action has no effect.
        libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU | libc::SIGCONT | libc::SIGURG => {
            Receipt::Default
        }
        // The engine reads it.
        libc::SIGCHLD => Receipt::Default,
        // The error of the failed write is enough.
        libc::SIGPIPE | libc::SIGXFSZ => Receipt::Discarded,
        _ if LIBC.contains(&signum) => Receipt::Discarded,
        _ => Receipt::Read,
    }
}

/// The effect of signal `signum`, if it is read.
pub fn meaning(signum: i32, mode: Mode, terminal: Terminal) -> Meaning {
    match (signum, mode) {
        (libc::SIGTERM, _) => Meaning::ShutDown(ShutdownCommand::Terminate),
        (libc::SIGINT, _) => Meaning::ShutDown(ShutdownCommand::Interrupt),
        (libc::SIGQUIT, _) => Meaning::ShutDown(ShutdownCommand::Kill),
        // SIGHUP upgrades a service, unless its terminal was closed.
        (libc::SIGHUP, Mode::Service) if terminal != Terminal::HungUp => Meaning::Upgrade,
        (libc::SIGHUP, _) => Meaning::ShutDown(ShutdownCommand::Terminate),
        (libc::SIGUSR1, Mode::Service | Mode::OneShot) => Meaning::ShutDown(ShutdownCommand::Idle),
        (libc::SIGUSR2, Mode::Service) => Meaning::Upgrade,
        // A terminal sends it to a whole group.
        (libc::SIGWINCH, Mode::Foreground) => Meaning::PassOn { group: true },
        (libc::SIGWINCH, _) => Meaning::Nothing,
        _ if receipt(signum) != Receipt::Read => Meaning::Nothing,
        // By default all others end a program.
        (_, Mode::Service) => Meaning::Ignored,
        (_, Mode::OneShot) => Meaning::ShutDown(ShutdownCommand::Terminate),
        (_, Mode::Foreground) => Meaning::PassOn { group: false },
    }
}

/// Whether a signal ends the program at once, because nothing has been started. `mode` is `None`
/// before the worker has reported it.
pub fn ends_before_start(signum: i32, mode: Option<Mode>, terminal: Terminal) -> bool {
    match (signum, mode) {
        (libc::SIGTERM | libc::SIGINT | libc::SIGQUIT, _) => true,
        (libc::SIGHUP, None) => terminal == Terminal::HungUp,
        (_, None) => false,
        (_, Some(mode)) => match meaning(signum, mode, terminal) {
            Meaning::ShutDown(order) => order != ShutdownCommand::Idle,
            Meaning::PassOn { group } => !group,
            Meaning::Nothing | Meaning::Ignored | Meaning::Upgrade => false,
        },
    }
}

#[cfg(test)]
mod tests;
