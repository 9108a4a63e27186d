//! A terminal that is drawn on, and given back as it was.

use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;

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
    signals: Vec<(u8, Signal)>,
    resized: Signal,
}

impl<'o> Screen<'o> {
    /// Takes the terminal.
    ///
    /// # Errors
    /// It cannot be written to.
    pub(super) fn open(out: &'o mut Out) -> Result<Screen<'o>, ClientError> {
        let ending = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let signals = ending
            .into_iter()
            .map(|kind| {
                let number = u8::try_from(kind.as_raw_value()).unwrap_or_default();
                signal(kind).map(|signal| (number, signal))
            })
            .collect::<io::Result<_>>()
            .map_err(ClientError::Write)?;
        let resized = signal(SignalKind::window_change()).map_err(ClientError::Write)?;
        let mut screen = Screen { out, before: None, keys: None, signals, resized };
        screen.out.write(ENTER)?;
        screen.read_keys();
        Ok(screen)
    }

    /// Has keys come one by one, where they come from a terminal.
    fn read_keys(&mut self) {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return;
        }
        let Ok(before) = tcgetattr(stdin.as_fd()) else { return };
        let mut single = before.clone();
        single.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        for (index, value) in
            [(SpecialCharacterIndices::VMIN, 0), (SpecialCharacterIndices::VTIME, 0)]
        {
            if let Some(place) = single.control_chars.get_mut(index as usize) {
                *place = value;
            }
        }
        if tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &single).is_ok() {
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
        let ended = self.signals.iter_mut().map(|(number, signal)| {
            Box::pin(async move {
                signal.recv().await;
                *number
            })
        });
        let ended = futures_util::future::select_all(ended);
        tokio::select! {
            (number, ..) = ended => Key::Signal(number),
            _ = self.resized.recv() => Key::Resized,
            key = pressed(self.keys.as_ref()) => key,
        }
    }
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
        // Whoever has gone does not need it.
        let _ = self.out.write(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, before);
        }
    }
}
