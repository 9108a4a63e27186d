//! What a process writes from now on.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SelectAll, Stream, StreamExt, try_unfold};
use tokio::time::sleep;

use super::Logs;
use super::lines::Lines;
use super::plan::{Piece, Subject};
use crate::cli::client::api::Api;
use crate::cli::client::error::ClientError;
use crate::cli::client::out::unread;
use crate::cli::client::persist::{PATIENCE, Persistence, Repeat};
use crate::cli::client::transport::Answer;

/// How often times are asked for while something is written.
const TIMES: Duration = Duration::from_millis(100);
/// Prints what comes, until all captures have ended.
pub(super) async fn follow(logs: &Logs<'_>, lines: &mut Lines<'_>) -> Result<(), ClientError> {
    let plan = &logs.plan;
    let mut streams = SelectAll::new();
    for (at, (fd, end)) in plan.fds.iter().zip(&plan.ends).enumerate() {
        // A capture that has ended has nothing more, but may have had between our two looks at it.
        let cursor = Cursor { api: logs.api, id: &logs.args.id, fd, at: *end, answer: None };
        streams.push(cursor.stream(at).boxed_local());
    }
    let mut gone = pin!(unread());
    let mut held = Held::new(&plan.ends);
    let mut again = pin!(sleep(TIMES));
    loop {
        tokio::select! {
            next = streams.next() => match next {
                Some(Ok((fd, bytes))) if logs.args.timestamps => held.push(fd, bytes),
                Some(Ok((fd, bytes))) => lines.put(fd, None, &bytes)?,
                Some(Err(error)) => return Err(error),
                None => break,
            },
            () = &mut again, if !held.is_empty() => {
                let subject = Subject::ask(logs.api, &logs.args.id).await?;
                held.print(&subject.pieces_of(&plan.fds), lines)?;
                again.set(sleep(TIMES));
            }
            error = &mut gone => return Err(error),
        }
    }
    if !held.is_empty() {
        let subject = Subject::ask(logs.api, &logs.args.id).await?;
        held.print(&subject.pieces_of(&plan.fds), lines)?;
        held.print_rest(lines)?;
    }
    Ok(())
}

/// Where somebody is who follows a capture.
struct Cursor<'a> {
    api: &'a Api,
    id: &'a str,
    fd: &'a str,
    at: u64,
    answer: Option<Answer>,
}

impl<'a> Cursor<'a> {
    /// The bytes, with the fd's place in the plan.
    fn stream(
        self,
        place: usize,
    ) -> impl Stream<Item = Result<(usize, Bytes), ClientError>> + use<'a> {
        try_unfold(self, move |mut cursor| async move {
            let next = cursor.next().await?;
            Ok(next.map(|bytes| ((place, bytes), cursor)))
        })
    }

    /// The next bytes. Where the agent has gone, its keeper starts another: it is asked for what follows.
    async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        let mut attempts = Persistence::new(Repeat::Safe, PATIENCE);
        loop {
            match self.more().await {
                Err(error @ ClientError::Lost { .. }) => attempts.pause(error, true).await?,
                told => return told,
            }
        }
    }

    /// The next bytes of one answer; none once all is captured and told.
    async fn more(&mut self) -> Result<Option<Bytes>, ClientError> {
        let mut answer = match self.answer.take() {
            Some(answer) => answer,
            None => self.api.follow(self.id, self.fd, self.at).await?,
        };
        if let Some(bytes) = answer.chunk().await? {
            self.at += bytes.len() as u64;
            self.answer = Some(answer);
            return Ok(Some(bytes));
        }
        // The body has no length: that it has ended says nothing.
        let lost = || ClientError::Lost {
            place: self.api.place().to_owned(),
            reason: "the answer is cut short".into(),
        };
        match Subject::ask(self.api, self.id).await {
            Ok(subject) if subject.has_all(self.fd, self.at) => Ok(None),
            // Somebody has deleted it meanwhile: more there is not.
            Err(ClientError::Refused { status: 404, .. }) => Ok(None),
            Ok(_) => Err(lost()),
            Err(error) => Err(error),
        }
    }
}

/// Bytes whose times are not known yet.
struct Held {
    /// For each fd: where what is held begins, and what.
    each: Vec<(u64, VecDeque<u8>)>,
}

impl Held {
    fn new(ends: &[u64]) -> Held {
        Held { each: ends.iter().map(|end| (*end, VecDeque::new())).collect() }
    }

    fn is_empty(&self) -> bool {
        self.each.iter().all(|(_, bytes)| bytes.is_empty())
    }

    fn push(&mut self, fd: usize, bytes: Bytes) {
        if let Some((_, held)) = self.each.get_mut(fd) {
            held.extend(bytes);
        }
    }

    /// Prints what `pieces` cover, in their order, up to the first whose bytes have not come yet.
    fn print(&mut self, pieces: &[Piece], lines: &mut Lines<'_>) -> Result<(), ClientError> {
        for piece in pieces {
            let Some((at, held)) = self.each.get_mut(piece.fd) else { continue };
            let wanted = (piece.offset + piece.length).saturating_sub((*at).max(piece.offset));
            let count = usize::try_from(wanted).unwrap_or(usize::MAX).min(held.len());
            let bytes: Vec<u8> = held.drain(..count).collect();
            *at += count as u64;
            lines.put(piece.fd, piece.time, &bytes)?;
            if (count as u64) < wanted {
                break;
            }
        }
        Ok(())
    }

    /// Prints what no piece covers.
    fn print_rest(&mut self, lines: &mut Lines<'_>) -> Result<(), ClientError> {
        for (fd, (at, held)) in self.each.iter_mut().enumerate() {
            let bytes: Vec<u8> = held.drain(..).collect();
            *at += bytes.len() as u64;
            lines.put(fd, None, &bytes)?;
        }
        Ok(())
    }
}
