//! A terminal that is drawn on, and given back as it was.

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

/// The other screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// What the user, or somebody else, wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// To be done.
    Quit,
    /// The same, by a signal.
    Signal(u8),
    /// To be stopped, by Ctrl-Z.
    Suspend,
    /// It was stopped, and goes on: somebody else may have drawn meanwhile.
    Resumed,
    /// The terminal has another size.
    Resized,
    /// Any other key: to see anew.
    Other,
}

/// A terminal that shows one page. Dropping it shows again what was there before.
pub(super) struct Screen<'o> {
    out: &'o mut Out,
    /// How standard input was; none where that is no terminal.
    before: Option<Termios>,
    keys: Option<AsyncFd<io::Stdin>>,
    signals: Vec<(Key, Signal)>,
}

impl<'o> Screen<'o> {
    /// Takes the terminal.
    ///
    /// # Errors
    /// It cannot be written to.
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
        // Who has no job control ignores the one of Ctrl-Z, and is not to be stopped.
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

    /// Gives the terminal back, stops as by that signal's default, and takes the terminal again when continued.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(super) fn suspend(&mut self) -> Result<(), ClientError> {
        self.leave();
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default is no handler of ours; the one that was there before comes back.
        let handled = unsafe { sigaction(StopSignal::SIGTSTP, &default) };
        if let Ok(handled) = handled {
            let _ = raise(StopSignal::SIGTSTP);
            // SAFETY: as it was, by the same library.
            let _ = unsafe { sigaction(StopSignal::SIGTSTP, &handled) };
        }
        self.resume()
    }

    /// Takes the terminal again.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(super) fn resume(&mut self) -> Result<(), ClientError> {
        self.out.write(ENTER)?;
        if let Some(before) = &self.before {
            // A terminal that is gone shows at the next read.
            let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &single_keys(before));
        }
        Ok(())
    }

    /// Shows again what was there before.
    fn leave(&mut self) {
        // Whoever has gone does not need it.
        let _ = self.out.write(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, before);
        }
    }

    /// Has keys come one by one, where they come from a terminal.
    fn read_keys(&mut self) {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return;
        }
        let Ok(before) = tcgetattr(stdin.as_fd()) else { return };
        if tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &single_keys(&before)).is_ok() {
            self.before = Some(before);
            // SAFETY: standard input has the same descriptor for ever, and nobody closes it.
            self.keys = unsafe { AsyncFd::register_with_interest(stdin, Interest::READABLE) }.ok();
        }
    }

    /// Where it is drawn.
    pub(super) fn out(&self) -> &Out {
        self.out
    }

    /// Shows these lines, and nothing else.
    ///
    /// # Errors
    /// They cannot be written.
    pub(super) fn draw(&mut self, lines: &[String]) -> Result<(), ClientError> {
        // Each line over the one that was there: nothing flickers.
        let page: Vec<String> = lines.iter().map(|line| format!("{line}\x1b[K")).collect();
        self.out.write(format!("\x1b[H{}\x1b[J", page.join("\r\n")))
    }

    /// What is wanted next.
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

/// Modes in which keys come one by one, and are not shown.
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
            // A terminal that has nothing to read, as we have set it, gives nothing.
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
