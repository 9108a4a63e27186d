//! A terminal under our control, which is restored afterwards.

use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;

use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, Signal as StopSignal, raise, sigaction,
};
use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::client::error::ClientError;
use crate::cli::client::out::Out;

/// Switches to the alternate screen, and hides the cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// A request of the user, or of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Quit.
    Quit,
    /// Quit because of this signal.
    Signal(u8),
    /// Stop the process, by Ctrl-Z.
    Suspend,
    /// The process was stopped and continues: another program may have drawn meanwhile.
    Resumed,
    /// The terminal has another size.
    Resized,
    /// Any other key: update.
    Other,
}

/// A terminal that shows one page. Dropping it restores the earlier content.
pub(super) struct Screen<'o> {
    out: &'o mut Out,
    /// The earlier modes of standard input; `None` if it is not a terminal.
    before: Option<Termios>,
    keys: Option<AsyncFd<io::Stdin>>,
    signals: Vec<(Key, Signal)>,
}

impl<'o> Screen<'o> {
    /// Takes control of the terminal.
    ///
    /// # Errors
    /// A failure to write to it.
    pub(super) fn open(out: &'o mut Out) -> Result<Screen<'o>, ClientError> {
        let end = |kind: SignalKind| {
            (kind, Key::Signal(u8::try_from(kind.as_raw_value()).unwrap_or_default()))
        };
        let wanted = [
            end(SignalKind::interrupt()),
            end(SignalKind::terminate()),
            end(SignalKind::hangup()),
            end(SignalKind::quit()),
            (SignalKind::from_raw(libc::SIGTSTP), Key::Suspend),
            (SignalKind::from_raw(libc::SIGCONT), Key::Resumed),
            (SignalKind::window_change(), Key::Resized),
        ];
        // A process without job control ignores the signal of Ctrl-Z, and must not be stopped.
        let stops = !crate::engine::is_ignored(libc::SIGTSTP);
        let signals = wanted
            .into_iter()
            .filter(|(_, key)| stops || *key != Key::Suspend)
            .map(|(kind, key)| signal(kind).map(|signal| (key, signal)))
            .collect::<io::Result<_>>()
            .map_err(ClientError::Write)?;
        let mut screen = Screen { out, before: None, keys: None, signals };
        screen.out.write(ENTER)?;
        screen.read_keys();
        Ok(screen)
    }

    /// Restores the terminal, stops as by that signal's default, and takes control again when
    /// continued.
    ///
    /// # Errors
    /// A failure to write to it.
    pub(super) fn suspend(&mut self) -> Result<(), ClientError> {
        self.leave();
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default action runs no code of ours, and the earlier handler is restored
        // below.
        let handled = unsafe { sigaction(StopSignal::SIGTSTP, &default) };
        if let Ok(handled) = handled {
            let _ = raise(StopSignal::SIGTSTP);
            // SAFETY: the handler was set by the same library, and is still valid.
            let _ = unsafe { sigaction(StopSignal::SIGTSTP, &handled) };
        }
        self.resume()
    }

    /// Takes control of the terminal again.
    ///
    /// # Errors
    /// A failure to write to it.
    pub(super) fn resume(&mut self) -> Result<(), ClientError> {
        self.out.write(ENTER)?;
        if let Some(before) = &self.before {
            // The next read reports a terminal that is gone.
            let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &single_keys(before));
        }
        Ok(())
    }

    /// Restores the earlier content.
    fn leave(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = self.out.write(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, before);
        }
    }

    /// Switches a terminal to reading key by key.
    fn read_keys(&mut self) {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return;
        }
        let Ok(before) = tcgetattr(stdin.as_fd()) else { return };
        if tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &single_keys(&before)).is_ok() {
            self.before = Some(before);
            // SAFETY: standard input keeps its descriptor for the lifetime of the process, and
            // nobody closes it.
            self.keys = unsafe { AsyncFd::register_with_interest(stdin, Interest::READABLE) }.ok();
        }
    }

    /// The output to draw on.
    pub(super) fn out(&self) -> &Out {
        self.out
    }

    /// Shows these lines, and nothing else.
    ///
    /// # Errors
    /// A failure to write.
    pub(super) fn draw(&mut self, lines: &[String]) -> Result<(), ClientError> {
        // Drawing each line over the earlier one avoids flicker.
        let page: Vec<String> = lines.iter().map(|line| format!("{line}\x1b[K")).collect();
        self.out.write(format!("\x1b[H{}\x1b[J", page.join("\r\n")))
    }

    /// The next request.
    pub(super) async fn key(&mut self) -> Key {
        let signalled = self.signals.iter_mut().map(|(key, signal)| {
            Box::pin(async move {
                signal.recv().await;
                *key
            })
        });
        let signalled = futures_util::future::select_all(signalled);
        tokio::select! {
            (key, ..) = signalled => key,
            key = pressed(self.keys.as_ref()) => key,
        }
    }
}

/// Terminal modes that deliver keys one by one, without echo.
fn single_keys(before: &Termios) -> Termios {
    let mut single = before.clone();
    single.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
    for (index, value) in [(SpecialCharacterIndices::VMIN, 0), (SpecialCharacterIndices::VTIME, 0)]
    {
        if let Some(place) = single.control_chars.get_mut(index as usize) {
            *place = value;
        }
    }
    single
}

async fn pressed(keys: Option<&AsyncFd<io::Stdin>>) -> Key {
    let Some(keys) = keys else { return std::future::pending().await };
    let Ok(mut ready) = keys.readable().await else { return Key::Quit };
    ready.clear_ready();
    let mut bytes = [0; 64];
    match keys.get_ref().lock().read(&mut bytes) {
        Ok(count) => match bytes.get(..count) {
            // In these modes, a read of a terminal without input returns 0 bytes.
            Some(pressed) if pressed.iter().any(|key| b"qQ\x03\x04".contains(key)) => Key::Quit,
            _ => Key::Other,
        },
        Err(_) => Key::Quit,
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}
