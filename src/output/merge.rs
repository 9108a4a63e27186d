//! The output of several captures in the order in which it was written, as it comes, until its end.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use futures_util::future::select_all;

use super::BLOCK;
use super::follow::end_unknown;
use super::reader::{OutputFollower, ProcessEnd};
use super::watcher::Watch;
use crate::engine::{Captures, Held, Part, Taken};
use crate::spec::FdName;

/// How often to look at files that the kernel tells of.
const CHECK: Duration = Duration::from_secs(1);
/// How often to look at files that it does not tell of.
const BLIND: Duration = Duration::from_millis(25);

/// Someone who follows all captures of a process.
struct Merge {
    /// Keeps the files open.
    _held: Vec<Arc<Held>>,
    captures: Arc<Captures>,
    watches: Vec<Watch>,
    taken: Taken,
    /// What comes next.
    parts: VecDeque<Part>,
    end: ProcessEnd,
    ended: bool,
    /// Whether what no piece covers has been asked for.
    rest: bool,
}

/// The captured output of a process, all fds together, in blocks, each of one fd. The captures must have pieces.
pub(super) fn merge(
    output: OutputFollower,
) -> impl Stream<Item = io::Result<(FdName, Bytes)>> + use<> {
    let OutputFollower { reader, end, watcher } = output;
    let record = reader.record();
    let captured = || record.captures.iter().filter_map(|(_, capture)| capture);
    let held: Vec<Arc<Held>> = captured().filter_map(|one| one.hold().ok()).collect();
    // Watched before they are first read: nothing falls between.
    let watches = held.iter().filter_map(|held| watcher.watch(&held.path()).ok()).collect();
    let merge = Merge {
        _held: held,
        captures: Arc::clone(&record.captures),
        watches,
        taken: Taken::default(),
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
                    // A process that writes fast must not keep its thread for itself.
                    tokio::task::yield_now().await;
                    return Ok(Some(block));
                }
                continue;
            }
            // What has come by the end is there to take.
            let ended = self.ended;
            self.parts.extend(self.captures.take_pieces(&mut self.taken)?);
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

    /// Reads the beginning of a part, and puts the rest of it back.
    fn read(&mut self, (time, fd, at, length): Part) -> io::Result<Option<(FdName, Bytes)>> {
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

    /// Takes what no piece covers, for it could not be noted.
    fn take_rest(&mut self) {
        for (fd, capture) in self.captures.iter() {
            let taken = self.taken.length(fd);
            let length = capture.map_or(0, |capture| capture.len()).saturating_sub(taken);
            if length > 0 {
                self.parts.push_back((0, fd, taken, length));
            }
        }
    }

    /// Waits until there may be more, or the process has ended.
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
            told = written => {
                if !told {
                    self.watches.clear();
                }
            }
            () = tokio::time::sleep(patience) => {}
        }
        Ok(())
    }
}
