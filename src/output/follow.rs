//! A capture's bytes as they are written, until its end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;

use super::BLOCK;
use super::reader::{OutputFollower, ProcessEnd};
use super::watcher::Watch;
use crate::engine::{Capture, Captures, Held, Loss};
use crate::report::utf8::boundary;
use crate::spec::FdName;

/// How often to look at a file that the kernel reports on: a report that is lost costs no more than this.
const CHECK: Duration = Duration::from_secs(1);
/// How often to look at a file that the kernel does not tell of.
const BLIND: Duration = Duration::from_millis(25);

/// The reader's closing of its end.
pub(crate) type Closed = Pin<Box<dyn Future<Output = ()>>>;

/// Someone who follows a capture.
pub(crate) struct Follower {
    /// Keeps the file open, for what was open at first.
    _held: Option<Arc<Held>>,
    captures: Arc<Captures>,
    fd: FdName,
    at: u64,
    /// Whether no block may end within a character.
    chars: bool,
    watch: Option<Watch>,
    end: ProcessEnd,
    /// The final length, once the capture has ended.
    length: Option<u64>,
    /// Nothing else reports it while there is nothing to send.
    closed: Closed,
}

/// What to follow, and how.
pub(crate) struct FollowOptions {
    pub(crate) fd: FdName,
    /// The first byte that is wanted.
    pub(crate) from: u64,
    pub(crate) chars: bool,
}

impl Follower {
    /// Follows a capture of a process; `closed` ends when the reader has gone away.
    pub(super) fn new(output: OutputFollower, options: FollowOptions, closed: Closed) -> Follower {
        let FollowOptions { fd, from, chars } = options;
        let OutputFollower { reader, end, watcher } = output;
        let record = reader.record();
        let capture = record.captures.get(fd);
        let length = capture.filter(|_| !record.is_running()).map(|capture| capture.len());
        let growing = length.is_none();
        let held = capture.and_then(|capture| capture.hold().ok());
        // Watched before it is first read: nothing falls between.
        let watch = held.as_ref().filter(|_| growing);
        let watch = watch.and_then(|held| watcher.watch(&held.path()).ok());
        Follower {
            _held: held,
            captures: Arc::clone(&record.captures),
            fd,
            at: from,
            chars,
            watch,
            end,
            length,
            closed,
        }
    }

    /// The bytes, in blocks, as they come.
    pub(crate) fn stream(self) -> impl Stream<Item = io::Result<Bytes>> {
        futures_util::stream::try_unfold(self, |mut follower| async {
            Ok(follower.next().await?.map(|block| (block, follower)))
        })
    }

    /// The next bytes; none after the last.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let block = self.read().inspect_err(|error| {
                tracing::error!(%error, fd = %self.fd, "cannot read followed output: cutting it off");
            })?;
            if !block.is_empty() {
                self.at += block.len() as u64;
                // A process that writes fast must not keep its thread for itself.
                tokio::task::yield_now().await;
                return Ok(Some(block));
            }
            if self.length.is_some() {
                return Ok(None);
            }
            self.wait().await?;
        }
    }

    /// What there is from here on, up to a block; after the end none is missing.
    fn read(&self) -> io::Result<Bytes> {
        let capture = self.captures.get(self.fd);
        let room = self.length.map_or(BLOCK as u64, |length| length.saturating_sub(self.at));
        let mut block = BytesMut::zeroed(room.min(BLOCK as u64) as usize);
        let mut read = match capture {
            Some(capture) => capture.read_at(self.at, &mut block)?,
            None => 0,
        };
        if read == 0 && self.length.is_some() {
            // As in `Output`: what the process has taken away again reads as zeros.
            read = block.len();
        }
        block.truncate(read);
        if self.chars && self.length.is_none_or(|length| self.at + (read as u64) < length) {
            let before = block.get(read.saturating_sub(3)..).unwrap_or_default();
            let back = boundary(before, &[], true).map_or(0, |(back, _)| back);
            block.truncate(read - back);
        }
        Ok(block.freeze())
    }

    /// Waits until there may be more, or the capture has ended.
    async fn wait(&mut self) -> io::Result<()> {
        let patience = if self.watch.is_some() { CHECK } else { BLIND };
        let written = async {
            match &mut self.watch {
                Some(watch) => watch.written().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            record = &mut self.end => {
                let record = record.map_err(|_| end_unknown())?;
                let ended = record.as_ref().and_then(|record| record.captures.get(self.fd));
                if ended.is_some_and(|capture| capture.loss() == Some(Loss::Gone)) {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "the capture's file is gone"));
                }
                self.length = Some(ended.map_or(self.at, |capture| capture.len()));
                if let Some(record) = record {
                    // What is left is what the file held at the end, or an error.
                    let capture = record.captures.get(self.fd);
                    self._held = capture.map(Capture::hold).and_then(Result::ok);
                    self.captures = Arc::clone(&record.captures);
                }
                self.watch = None;
            }
            told = written => {
                if !told {
                    self.watch = None;
                }
            }
            () = &mut self.closed => return Err(io::ErrorKind::BrokenPipe.into()),
            () = tokio::time::sleep(patience) => {}
        }
        Ok(())
    }
}

/// The error if the process's actor is gone: what follows must not pass for the whole output.
pub(super) fn end_unknown() -> io::Error {
    io::Error::other("cannot follow the output: the worker does not know the process any more")
}
