//! The controlling terminal: whether it existed at the start, and whether it is still open.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use super::meaning::Terminal;
use crate::procfs::ProcFs;

/// The controlling terminal of this process.
pub struct Controlling {
    at_start: bool,
}

impl Controlling {
    /// The state at the start.
    pub fn new() -> Controlling {
        Controlling { at_start: is_available() }
    }

    /// Records whether the previous program in this process had one at its start.
    pub fn note(&mut self, before: bool) {
        self.at_start |= before;
    }

    /// Whether there was one at the start.
    pub fn at_start(&self) -> bool {
        self.at_start
    }

    /// The current state. The kernel itself sends SIGHUP only for a hangup, in some cases before it
    /// removes the terminal.
    pub fn now(&self, hangup: bool) -> Terminal {
        match self.at_start {
            false => Terminal::None,
            true if hangup || !is_available() => Terminal::HungUp,
            true => Terminal::Open,
        }
    }
}

/// Whether this process has a controlling terminal that has not been closed.
fn is_available() -> bool {
    let stat = ProcFs::default().read_stat(std::process::id() as i32);
    // Without /proc, only the device shows it.
    if stat.is_ok_and(|stat| stat.tty_nr == 0) {
        return false;
    }
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    answers(&OpenOptions::new().read(true).custom_flags(flags).open("/dev/tty").map(drop))
}

/// Whether the result of opening `/dev/tty` shows a terminal. A shortage of descriptors or a
/// missing device file is no evidence against one, so it counts as open.
fn answers(opened: &io::Result<()>) -> bool {
    let errno = opened.as_ref().err().and_then(io::Error::raw_os_error);
    !matches!(errno, Some(libc::ENXIO | libc::EIO | libc::ENODEV))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_that_was_there_can_hang_up() {
        let never = Controlling { at_start: false };
        assert_eq!([never.now(true), never.now(false)], [Terminal::None; 2]);
        let once = Controlling { at_start: true };
        assert_eq!(once.now(true), Terminal::HungUp);
        let now = if is_available() { Terminal::Open } else { Terminal::HungUp };
        assert_eq!(once.now(false), now);
        let mut now = Controlling::new();
        now.note(true);
        assert!(now.at_start());
    }

    #[test]
    fn a_shortage_is_no_hangup() {
        let failed = |errno| Err(io::Error::from_raw_os_error(errno));
        for (opened, there) in [
            (Ok(()), true),
            (failed(libc::EMFILE), true),
            (failed(libc::ENOENT), true),
            (failed(libc::EACCES), true),
            (failed(libc::ENXIO), false),
            (failed(libc::EIO), false),
        ] {
            assert_eq!(answers(&opened), there, "{opened:?}");
        }
    }
}
