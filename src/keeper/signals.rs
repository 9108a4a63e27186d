//! The signals of this process: which are received, and by which it ends.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::meaning::{ALL, Receipt, Terminal, receipt};
use super::terminal::Controlling;
use crate::engine::{has_default_action, ignore, is_ignored};
use crate::signal::signal_name;

/// The end of the launched process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramExit {
    /// With this exit code.
    Code(u8),
    /// By this signal, as a program without a handler does.
    Signal(i32),
}

impl ProgramExit {
    /// The exit code. Ends this process by the signal if there is one, and then returns only if
    /// that fails.
    pub fn code(self) -> u8 {
        match self {
            ProgramExit::Code(code) => code,
            ProgramExit::Signal(signum) => {
                crate::engine::die_of(signum);
                u8::try_from(128 + signum).unwrap_or(u8::MAX)
            }
        }
    }
}

/// A received signal.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Its number.
    pub signum: i32,
    /// The sending process; `None` if the kernel sent it.
    pub sender: Option<u32>,
    /// The state of the controlling terminal.
    pub terminal: Terminal,
}

impl Received {
    /// Its name.
    pub fn name(&self) -> &'static str {
        signal_name(self.signum).unwrap_or("an unknown signal")
    }
}

/// The signals that the launched process reads.
pub struct Signals {
    fd: SignalFd,
    terminal: Controlling,
}

impl Signals {
    /// Starts to receive signals in this thread, which must be the first one; SIGHUP only if it is
    /// not ignored (`nohup`).
    ///
    /// # Errors
    /// The OS error.
    pub fn new() -> io::Result<Signals> {
        discard()?;
        let set = wanted(!is_ignored(libc::SIGHUP));
        set.thread_block()?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Signals { fd, terminal: Controlling::new() })
    }

    /// Readable when a signal is pending.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether there was a controlling terminal at the start.
    pub fn had_terminal(&self) -> bool {
        self.terminal.at_start()
    }

    /// Records whether the previous program in this process had a controlling terminal at its
    /// start.
    pub fn note_terminal(&mut self, before: bool) {
        self.terminal.note(before);
    }

    /// The next pending signal.
    pub fn read(&self) -> Option<Received> {
        let info = self.fd.read_signal().ok().flatten()?;
        let kernel = info.ssi_code == libc::SI_KERNEL;
        let signum = info.ssi_signo as i32;
        let terminal = match signum {
            libc::SIGHUP => self.terminal.now(kernel),
            // For other signals, the terminal does not matter.
            _ => Terminal::None,
        };
        Some(Received { signum, sender: (!kernel).then_some(info.ssi_pid), terminal })
    }
}

/// Makes the kernel discard the signals that are not received. Children get the default actions.
fn discard() -> io::Result<()> {
    let discarded = ALL.filter(|signum| receipt(*signum) == Receipt::Discarded);
    // The C library needs the signals that it handles.
    discarded.filter(|signum| has_default_action(*signum)).try_for_each(ignore)
}

/// The signals that are read.
fn wanted(hangup: bool) -> SigSet {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the set is emptied, and then valid signal numbers are added to it.
    let set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signum in ALL.filter(|signum| receipt(*signum) == Receipt::Read) {
            if hangup || signum != libc::SIGHUP {
                libc::sigaddset(set.as_mut_ptr(), signum);
            }
        }
        set.assume_init()
    };
    // SAFETY: the set contains valid signals; the type has no names for the real-time ones.
    unsafe { SigSet::from_sigset_t_unchecked(set) }
}

/// Prepares a worker, or another command in a worker's process, below a keeper: only a shutdown
/// signal may end it. SIGUSR1 stays pending until the worker handles it, so that it does not end a
/// worker that still reads INPUT.
///
/// # Errors
/// The OS error, which does not occur.
pub fn prepare_worker() -> io::Result<()> {
    for signum in ALL.filter(|signum| *signum == libc::SIGHUP || is_stray(*signum)) {
        if has_default_action(signum) {
            ignore(signum)?;
        }
    }
    let mut waiting = SigSet::empty();
    waiting.add(Signal::SIGUSR1);
    waiting.thread_set_mask()?;
    Ok(())
}

/// Whether a signal would end a program by mistake: it is neither a shutdown command, nor a fault,
/// nor a request for a core dump.
fn is_stray(signum: i32) -> bool {
    const MEANT: [i32; 8] = [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGUSR1,
        libc::SIGABRT,
        libc::SIGTRAP,
        libc::SIGWINCH,
    ];
    receipt(signum) != Receipt::Default && !MEANT.contains(&signum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_received_signals_are_read() {
        for hangup in [true, false] {
            let set = wanted(hangup);
            for signum in ALL {
                // SAFETY: only reads the set.
                let there = unsafe { libc::sigismember(set.as_ref(), signum) } == 1;
                let read = receipt(signum) == Receipt::Read;
                assert_eq!(there, read && (hangup || signum != libc::SIGHUP), "{signum}");
            }
        }
    }

    #[test]
    fn no_order_is_a_stray_signal_and_real_time_signals_are() {
        for signum in [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGSEGV, libc::SIGCHLD] {
            assert!(!is_stray(signum), "{signum}");
        }
        for signum in [libc::SIGUSR2, libc::SIGALRM, libc::SIGXFSZ, libc::SIGSYS, 33, 34, 64] {
            assert!(is_stray(signum), "{signum}");
        }
    }
}
