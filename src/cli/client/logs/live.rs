//! The output of a process from now on.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::select_all;
use futures_util::stream::{LocalBoxStream, Stream, StreamExt, try_unfold};
use tokio::time::sleep;

use super::Logs;
use super::lines::Lines;
use super::plan::{Chunk, Subject};
use crate::cli::client::api::Api;
use crate::cli::client::error::ClientError;
use crate::cli::client::out::unread;
use crate::cli::client::persist::{PATIENCE, Persistence, Repeat};
use crate::cli::client::transport::Answer;

/// Minimum time between two requests for order and times while the process writes.
const TIMES: Duration = Duration::from_millis(100);
/// Additional time for each existing chunk, because the response lists all of them.
const FOR_EACH: Duration = Duration::from_micros(20);
/// Number of bytes held of one fd before reading pauses.
const ROOM: usize = 1024 * 1024;
/// Number of requests for the order of held bytes before they are printed without: the engine could
/// not record it.
const LOOKS: u32 = 5;
/// Prints output as it comes, until all captures have ended; in the order of the writes, if it is
/// known.
pub(super) async fn follow(logs: &Logs<'_>, lines: &mut Lines<'_>) -> Result<(), ClientError> {
    let plan = &logs.plan;
    // A single stream needs no order.
    let ordered = plan.timed && (plan.fds.len() > 1 || logs.args.timestamps);
    let mut streams = Streams::new(logs);
    let mut gone = pin!(unread());
    let mut held = Held::new(&plan.ends);
    let mut again = pin!(sleep(Duration::ZERO));
    while !streams.have_ended() {
        tokio::select! {
            next = streams.next(&held) => match next {
                (fd, bytes) if ordered => held.push(fd, bytes?),
                (fd, bytes) => lines.put(fd, None, &bytes?)?,
            },
            () = &mut again, if !held.is_empty() => {
                let wait = held.ask(logs, lines).await?;
                again.set(sleep(wait));
            }
            error = &mut gone => return Err(error),
        }
    }
    while !held.is_empty() {
        let wait = held.ask(logs, lines).await?;
        if !held.is_empty() {
            sleep(wait).await;
        }
    }
    Ok(())
}

/// The followed captures, which have not ended.
struct Streams<'a>(Vec<Option<LocalBoxStream<'a, Result<Bytes, ClientError>>>>);

impl<'a> Streams<'a> {
    fn new(logs: &Logs<'a>) -> Streams<'a> {
        let plan = &logs.plan;
        let streams = plan.fds.iter().zip(&plan.ends).map(|(fd, end)| {
            // A capture that has ended gets no more bytes, but may have got some between the two
            // requests.
            let (api, id, fd) = (logs.api, logs.args.id.as_str(), fd.clone());
            Some(Cursor { api, id, fd, at: *end, answer: None }.stream().boxed_local())
        });
        Streams(streams.collect())
    }

    fn have_ended(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The next bytes of a stream with room to hold more; empty once a stream has ended.
    async fn next(&mut self, held: &Held) -> (usize, Result<Bytes, ClientError>) {
        loop {
            let streams = self.0.iter_mut().enumerate().filter(|(fd, _)| held.has_room(*fd));
            let open = streams.filter_map(|(fd, stream)| Some((fd, stream.as_mut()?)));
            let waiting: Vec<_> = open
                .map(|(fd, stream)| Box::pin(async move { (fd, stream.next().await) }))
                .collect();
            if waiting.is_empty() {
                return std::future::pending().await;
            }
            match select_all(waiting).await.0 {
                (fd, Some(bytes)) => return (fd, bytes),
                (fd, None) => {
                    if let Some(stream) = self.0.get_mut(fd) {
                        *stream = None;
                    }
                    if self.have_ended() {
                        return (fd, Ok(Bytes::new()));
                    }
                }
            }
        }
    }
}

/// The position of a reader that follows a capture.
struct Cursor<'a> {
    api: &'a Api,
    id: &'a str,
    fd: String,
    at: u64,
    answer: Option<Answer>,
}

impl<'a> Cursor<'a> {
    fn stream(self) -> impl Stream<Item = Result<Bytes, ClientError>> + use<'a> {
        try_unfold(self, move |mut cursor| async move {
            Ok(cursor.next().await?.map(|bytes| (bytes, cursor)))
        })
    }

    /// The next bytes. If the worker has gone, its keeper starts another, which serves the rest.
    async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let mut attempts = Persistence::new(Repeat::Safe, PATIENCE);
        loop {
            match self.more().await {
                Err(error @ ClientError::Lost { .. }) => attempts.pause(error, true).await?,
                next => return next,
            }
        }
    }

    /// The next bytes of one response; `None` after all captured bytes.
    async fn more(&mut self) -> Result<Option<Bytes>, ClientError> {
        let mut answer = match self.answer.take() {
            Some(answer) => answer,
            None => self.api.follow(self.id, &self.fd, self.at).await?,
        };
        if let Some(bytes) = answer.chunk().await? {
            self.at += bytes.len() as u64;
            self.answer = Some(answer);
            return Ok(Some(bytes));
        }
        // The body has no length, so its end alone does not prove that it is complete.
        let lost = || ClientError::Lost {
            place: self.api.place().to_owned(),
            reason: "the answer is cut short".into(),
        };
        match Subject::ask(self.api, self.id).await {
            Ok(subject) if subject.has_all(&self.fd, self.at) => Ok(None),
            // Somebody has deleted the process meanwhile, so its output ends here.
            Err(ClientError::Refused { status: 404, .. }) => Ok(None),
            Ok(_) => Err(lost()),
            Err(error) => Err(error),
        }
    }
}

/// Bytes whose order and times are not known yet.
struct Held {
    /// For each fd, the offset of the held bytes, and the bytes.
    each: Vec<(u64, VecDeque<u8>)>,
    /// Number of consecutive requests after which nothing could be printed.
    in_vain: u32,
}

impl Held {
    fn new(ends: &[u64]) -> Held {
        let each = ends.iter().map(|end| (*end, VecDeque::new())).collect();
        Held { each, in_vain: 0 }
    }

    fn is_empty(&self) -> bool {
        self.each.iter().all(|(_, bytes)| bytes.is_empty())
    }

    fn length(&self) -> usize {
        self.each.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    fn has_room(&self, fd: usize) -> bool {
        self.each.get(fd).is_some_and(|(_, bytes)| bytes.len() < ROOM)
    }

    fn push(&mut self, fd: usize, bytes: Bytes) {
        if let Some((_, held)) = self.each.get_mut(fd) {
            held.extend(bytes);
        }
    }

    /// Requests order and times, and prints the bytes that these cover; returns the time until the
    /// next request.
    async fn ask(
        &mut self,
        logs: &Logs<'_>,
        lines: &mut Lines<'_>,
    ) -> Result<Duration, ClientError> {
        let before = self.length();
        let mut wait = TIMES;
        match Subject::ask(logs.api, &logs.args.id).await {
            Ok(subject) => {
                let chunks = subject.chunks_of(&logs.plan.fds);
                wait += FOR_EACH.saturating_mul(u32::try_from(chunks.len()).unwrap_or(u32::MAX));
                self.print(&chunks, lines)?;
            }
            // No other worker has come.
            Err(ClientError::Lost { .. } | ClientError::Unreachable { .. }) => self.in_vain = LOOKS,
            // Somebody has deleted the process meanwhile.
            Err(ClientError::Refused { status: 404, .. }) => self.in_vain = LOOKS,
            Err(error) => return Err(error),
        }
        self.in_vain = if self.length() < before { 0 } else { self.in_vain + 1 };
        if self.in_vain >= LOOKS {
            self.print_rest(lines)?;
        }
        // A full buffer must not wait.
        Ok(if (0..self.each.len()).all(|fd| self.has_room(fd)) { wait } else { Duration::ZERO })
    }

    /// Prints the bytes that `chunk_times` cover, in their order, up to the first chunk whose bytes
    /// have not come yet.
    fn print(&mut self, chunks: &[Chunk], lines: &mut Lines<'_>) -> Result<(), ClientError> {
        for chunk in chunks {
            let Some((at, held)) = self.each.get_mut(chunk.fd) else { continue };
            let wanted = (chunk.offset + chunk.length).saturating_sub((*at).max(chunk.offset));
            let count = usize::try_from(wanted).unwrap_or(usize::MAX).min(held.len());
            let bytes: Vec<u8> = held.drain(..count).collect();
            *at += count as u64;
            lines.put(chunk.fd, chunk.time, &bytes)?;
            if (count as u64) < wanted {
                break;
            }
        }
        Ok(())
    }

    /// Prints the bytes that no chunk covers.
    fn print_rest(&mut self, lines: &mut Lines<'_>) -> Result<(), ClientError> {
        for (fd, (at, held)) in self.each.iter_mut().enumerate() {
            let bytes: Vec<u8> = held.drain(..).collect();
            *at += bytes.len() as u64;
            lines.put(fd, None, &bytes)?;
        }
        Ok(())
    }
}
