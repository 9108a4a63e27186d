//! Follows one capture up to its end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;

use super::BLOCK;
use super::reader::{OutputFollower, ProcessEnd, end_unknown};
use super::watcher::Watch;
use crate::engine::{Capture, Captures, Held, Loss};
use crate::report::utf8::boundary;
use crate::spec::FdName;

/// The interval of checks with a watch by the kernel, in case an event is lost.
const CHECK: Duration = Duration::from_secs(1);
/// The interval of checks without a watch.
const BLIND: Duration = Duration::from_millis(25);

/// Resolves when the client has closed its end.
pub(crate) type Closed = Pin<Box<dyn Future<Output = ()>>>;

/// A follower of one capture.
pub(crate) struct Follower {
    /// Keeps the file open that was there at first.
    _held: Option<Arc<Held>>,
    captures: Arc<Captures>,
    fd: FdName,
    at: u64,
    /// Whether blocks end between characters only.
    chars: bool,
    watch: Option<Watch>,
    end: ProcessEnd,
    /// The final length, after the end of the process.
    length: Option<u64>,
    /// Needed while there is nothing to send: no write fails then.
    closed: Closed,
}

/// What to follow.
pub(crate) struct FollowOptions {
    pub(crate) fd: FdName,
    /// The offset of the first byte.
    pub(crate) from: u64,
    pub(crate) chars: bool,
}

impl OutputFollower {
    /// Follows one fd; `closed` resolves when the client has gone.
    pub(crate) fn follow(self, options: FollowOptions, closed: Closed) -> Follower {
        Follower::new(self, options, closed)
    }
}

impl Follower {
    /// Follows a capture; `closed` resolves when the client has gone.
    fn new(output: OutputFollower, options: FollowOptions, closed: Closed) -> Follower {
        let FollowOptions { fd, from, chars } = options;
        let OutputFollower { reader, end, watcher } = output;
        let record = reader.record();
        let capture = record.captures.get(fd);
        let length = capture.filter(|_| !record.is_running()).map(|capture| capture.len());
        let growing = length.is_none();
        let held = capture.and_then(|capture| capture.hold().ok());
        // Watched before the first read, so that no write is missed.
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
                tracing::error!(%error, fd = %self.fd, "cannot read followed output, cutting it off");
            })?;
            if !block.is_empty() {
                self.at += block.len() as u64;
                // A process that writes fast must not occupy the thread.
                tokio::task::yield_now().await;
                return Ok(Some(block));
            }
            if self.length.is_some() {
                return Ok(None);
            }
            self.wait().await?;
        }
    }

    /// The bytes from here on, at most a block; after the end all remaining ones count.
    fn read(&self) -> io::Result<Bytes> {
        let capture = self.captures.get(self.fd);
        let room = self.length.map_or(BLOCK as u64, |length| length.saturating_sub(self.at));
        let mut block = BytesMut::zeroed(room.min(BLOCK as u64) as usize);
        let mut read = match capture {
            Some(capture) => capture.read_at(self.at, &mut block)?,
            None => 0,
        };
        if read == 0 && self.length.is_some() {
            // As in `OutputRange`: bytes that the process has truncated read as zeros.
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

    /// Waits for more bytes, or for the end of the process.
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
                    // The file as of the end, or an error.
                    let capture = record.captures.get(self.fd);
                    self._held = capture.map(Capture::hold).and_then(Result::ok);
                    self.captures = Arc::clone(&record.captures);
                }
                self.watch = None;
            }
            watching = written => {
                if !watching {
                    self.watch = None;
                }
            }
            () = &mut self.closed => return Err(io::ErrorKind::BrokenPipe.into()),
            () = tokio::time::sleep(patience) => {}
        }
        Ok(())
    }
}
