//! The output of all captures of a process in the order of writing, up to the end.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use futures_util::future::select_all;

use super::BLOCK;
use super::reader::{OutputFollower, ProcessEnd, end_unknown};
use super::watcher::Watch;
use crate::engine::{Captures, ChunkCursor, ChunkTime, Held};
use crate::spec::FdName;

/// The interval of checks with a watch by the kernel.
const CHECK: Duration = Duration::from_secs(1);
/// The interval of checks without a watch.
const BLIND: Duration = Duration::from_millis(25);

/// A follower of all captures of a process.
struct Merge {
    /// Keeps the files open.
    _held: Vec<Arc<Held>>,
    captures: Arc<Captures>,
    watches: Vec<Watch>,
    taken: ChunkCursor,
    /// The next parts.
    parts: VecDeque<ChunkTime>,
    end: ProcessEnd,
    ended: bool,
    /// Whether the bytes outside of all chunks were requested.
    rest: bool,
}

impl OutputFollower {
    /// The output of all fds together, in blocks of one fd each, in the order of writing. The
    /// captures must have chunks.
    pub fn merge(self) -> impl Stream<Item = io::Result<(FdName, Bytes)>> + use<> {
        merge(self)
    }
}

fn merge(output: OutputFollower) -> impl Stream<Item = io::Result<(FdName, Bytes)>> + use<> {
    let OutputFollower { reader, end, watcher } = output;
    let record = reader.record();
    let captured = || record.captures.iter().filter_map(|(_, capture)| capture);
    let held: Vec<Arc<Held>> = captured().filter_map(|one| one.hold().ok()).collect();
    // Watched before the first read, so that no write is missed.
    let watches = held.iter().filter_map(|held| watcher.watch(&held.path()).ok()).collect();
    let merge = Merge {
        _held: held,
        captures: Arc::clone(&record.captures),
        watches,
        taken: ChunkCursor::default(),
        parts: VecDeque::new(),
        end,
        ended: !record.is_running(),
        rest: false,
    };
    futures_util::stream::try_unfold(merge, |mut merge| async {
        Ok(merge.next().await?.map(|block| (block, merge)))
    })
}

impl Merge {
    /// The next bytes; none after the last.
    async fn next(&mut self) -> io::Result<Option<(FdName, Bytes)>> {
        loop {
            if let Some(part) = self.parts.pop_front() {
                if let Some(block) = self.read(part)? {
                    // A process that writes fast must not occupy the thread.
                    tokio::task::yield_now().await;
                    return Ok(Some(block));
                }
                continue;
            }
            // Chunks written before the end are complete now.
            let ended = self.ended;
            self.parts.extend(self.captures.take_chunks(&mut self.taken)?);
            if !self.parts.is_empty() {
                continue;
            }
            if !ended {
                self.wait().await?;
            } else if self.rest {
                return Ok(None);
            } else {
                self.rest = true;
                self.take_rest();
            }
        }
    }

    /// Reads the beginning of a part, and puts the remainder back.
    fn read(&mut self, (time, fd, at, length): ChunkTime) -> io::Result<Option<(FdName, Bytes)>> {
        let Some(capture) = self.captures.get(fd) else { return Ok(None) };
        let mut block = BytesMut::zeroed(length.min(BLOCK as u64) as usize);
        let count = capture.read_at(at, &mut block)?;
        block.truncate(count);
        let count = count as u64;
        if count == 0 {
            return Ok(None);
        }
        if count < length {
            self.parts.push_front((time, fd, at + count, length - count));
        }
        Ok(Some((fd, block.freeze())))
    }

    /// Takes the bytes outside of all chunks, of which the times could not be recorded.
    fn take_rest(&mut self) {
        for (fd, capture) in self.captures.iter() {
            let taken = self.taken.length(fd);
            let length = capture.map_or(0, |capture| capture.len()).saturating_sub(taken);
            if length > 0 {
                self.parts.push_back((0, fd, taken, length));
            }
        }
    }

    /// Waits for more bytes, or for the end of the process.
    async fn wait(&mut self) -> io::Result<()> {
        let all_watched =
            self.watches.len() == self.captures.iter().filter(|(_, one)| one.is_some()).count();
        let patience = if all_watched { CHECK } else { BLIND };
        let written = async {
            if self.watches.is_empty() {
                return std::future::pending().await;
            }
            select_all(self.watches.iter_mut().map(|watch| Box::pin(watch.written()))).await.0
        };
        tokio::select! {
            record = &mut self.end => {
                if let Some(record) = record.map_err(|_| end_unknown())? {
                    self.captures = Arc::clone(&record.captures);
                }
                self.ended = true;
                self.watches.clear();
            }
            watching = written => {
                if !watching {
                    self.watches.clear();
                }
            }
            () = tokio::time::sleep(patience) => {}
        }
        Ok(())
    }
}
