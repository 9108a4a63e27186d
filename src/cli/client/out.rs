//! Standard output: text that is safe for a terminal, colours, and a reader that goes away.

use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::poll::PollFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::ClientError;
use crate::cli::printable::printable;
use crate::cli::printing::Patient;
use crate::config::Env;

/// The style of a text, on an output with colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Unstyled.
    #[default]
    Plain,
    /// A heading.
    Bold,
    /// Less important.
    Dim,
    /// Success.
    Green,
    /// Failure.
    Red,
    /// Needs attention.
    Yellow,
}

impl Style {
    fn begin(self) -> &'static str {
        match self {
            Style::Plain => "",
            Style::Bold => "\x1b[1m",
            Style::Dim => "\x1b[2m",
            Style::Green => "\x1b[32m",
            Style::Red => "\x1b[31m",
            Style::Yellow => "\x1b[33m",
        }
    }

    /// The text in this style.
    pub fn paint(self, text: &str) -> String {
        match self {
            Style::Plain => text.to_owned(),
            styled => format!("{}{text}\x1b[0m", styled.begin()),
        }
    }
}

/// Standard output.
pub struct Out {
    file: Patient,
    /// Whether it is a terminal.
    pub terminal: bool,
    /// Whether to use colour.
    pub colour: bool,
}

impl Out {
    /// This process's standard output.
    ///
    /// # Errors
    /// It is not open.
    pub fn stdout(env: &Env) -> Result<Out, ClientError> {
        let terminal = io::stdout().is_terminal();
        let file = Patient::new(&std::io::stdout()).map_err(ClientError::Write)?;
        Ok(Out { file, terminal, colour: coloured(env, terminal) })
    }

    /// Writes text, or bytes, unchanged.
    ///
    /// # Errors
    /// Nobody reads, or the write fails.
    pub fn write(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), ClientError> {
        self.file.write_all(bytes.as_ref()).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => ClientError::Unread,
            _ => ClientError::Write(error),
        })
    }

    /// Writes a line of text that comes from an instance.
    ///
    /// # Errors
    /// As [`write`](Out::write).
    pub fn line(&mut self, text: &str) -> Result<(), ClientError> {
        self.write(format!("{}\n", printable(text)))
    }

    /// Writes an ID on a line: with escapes on a terminal, unchanged otherwise, so that another
    /// command accepts it.
    ///
    /// # Errors
    /// As [`write`](Out::write).
    pub fn id(&mut self, id: &str) -> Result<(), ClientError> {
        if self.terminal { self.line(id) } else { self.write(format!("{id}\n")) }
    }

    /// The columns of the terminal; `None` if it is not one.
    pub fn width(&self) -> Option<usize> {
        self.size().map(|(columns, _)| columns)
    }

    /// The columns and rows of the terminal.
    pub fn size(&self) -> Option<(usize, usize)> {
        if !self.terminal {
            return None;
        }
        let size = terminal_size::terminal_size_of(io::stdout().as_fd());
        size.map(|(width, height)| (usize::from(width.0), usize::from(height.0)))
    }

    /// Applies a style, if the output has colour.
    pub fn paint(&self, style: Style, text: &str) -> String {
        if self.colour { style.paint(text) } else { text.to_owned() }
    }
}

/// Returns when nobody reads standard output any more; never, if the system cannot detect that.
pub async fn unread() -> ClientError {
    if let Ok(stdout) = io::stdout().as_fd().try_clone_to_owned()
        && is_pipe(&stdout)
        && let Ok(stdout) = watched(stdout)
    {
        loop {
            let Ok(mut ready) = stdout.ready(Interest::ERROR).await else { break };
            if broken(&stdout) {
                return ClientError::Unread;
            }
            ready.clear_ready();
        }
    }
    std::future::pending().await
}

fn watched(stdout: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the owner of the descriptor keeps the same one for its lifetime.
    unsafe { AsyncFd::register_with_interest(stdout, Interest::ERROR) }.map_err(io::Error::from)
}

fn is_pipe(fd: &impl AsFd) -> bool {
    nix::sys::stat::fstat(fd).is_ok_and(|meta| meta.st_mode & libc::S_IFMT == libc::S_IFIFO)
}

fn broken(fd: &AsyncFd<OwnedFd>) -> bool {
    let mut fds = [nix::poll::PollFd::new(fd.get_ref().as_fd(), PollFlags::empty())];
    nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// Whether to use colour: `NO_COLOR` disables it, `CLICOLOR_FORCE` enables it; else a terminal has
/// it unless it is a dumb one.
fn coloured(env: &Env, terminal: bool) -> bool {
    let value = |name: &str| {
        env.get(std::ffi::OsStr::new(name)).filter(|value| !value.is_empty()).map(|v| v.as_os_str())
    };
    if value("NO_COLOR").is_some() {
        return false;
    }
    if value("CLICOLOR_FORCE").is_some_and(|value| value != "0") {
        return true;
    }
    terminal && value("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_where_it_is_wanted() {
        let env = |pairs: &[(&str, &str)]| -> Env {
            pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
        };
        for (pairs, terminal, wanted) in [
            (&[][..], true, true),
            (&[], false, false),
            (&[("NO_COLOR", "1")], true, false),
            (&[("NO_COLOR", "")], true, true),
            (&[("TERM", "dumb")], true, false),
            (&[("CLICOLOR_FORCE", "1")], false, true),
            (&[("CLICOLOR_FORCE", "0")], false, false),
            (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], true, false),
        ] {
            assert_eq!(coloured(&env(pairs), terminal), wanted, "{pairs:?}");
        }
    }
}
