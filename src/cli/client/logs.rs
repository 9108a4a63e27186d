//! `procstar logs`: what a process wrote, and writes.
//!
//! What there is at the beginning is told by a [`plan`](plan::Plan): pieces of the chosen captures in the order in which they are to be written. Where
//! the order is not known, each capture is one piece. They are read by range, as a stream ([`source`]); for the last lines, from the
//! end on backwards ([`tail`]). What is written later is followed from there ([`live`]). [`lines`] puts times before lines.

mod lines;
mod live;
mod plan;
mod source;
mod tail;

use self::lines::Lines;
use self::plan::{Piece, Plan, Subject};
use self::source::Sources;
use super::api::Api;
use super::error::ClientError;
use super::options::LogsArgs;
use super::out::Out;

/// What belongs to one run of the command.
struct Logs<'a> {
    api: &'a Api,
    args: &'a LogsArgs,
    plan: Plan,
}

/// Prints the output that is meant, and follows it where that is asked for.
///
/// # Errors
/// There is no such process or capture, times are asked for that are not known, the answer breaks off.
pub async fn logs(args: &LogsArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    let subject = Subject::ask(api, &args.id).await?;
    let plan = Plan::new(args, &subject)?;
    for fd in plan.fds.iter().filter(|fd| subject.length(fd) == 0) {
        // Nothing is read of it, and that its file is gone would not show.
        api.check_output(&args.id, fd).await?;
    }
    let logs = Logs { api, args, plan };
    let names: Vec<String> = if logs.plan.fds.len() > 1 { logs.plan.fds.clone() } else { vec![] };
    let count = logs.plan.fds.len();
    let mut lines = Lines::plain(out, count, args.raw);
    if args.timestamps {
        lines = lines.stamped(count, names);
    }
    for sequence in logs.plan.sequences.clone() {
        logs.history(sequence, &mut lines).await?;
    }
    if args.follow {
        live::follow(&logs, &mut lines).await?;
    }
    lines.end()?;
    Ok(0)
}

impl Logs<'_> {
    /// Prints pieces that are there, or the last lines of them.
    async fn history(&self, pieces: Vec<Piece>, lines: &mut Lines<'_>) -> Result<(), ClientError> {
        let pieces = match self.args.tail {
            None => pieces,
            Some(count) => {
                let (pieces, surplus) = tail::last_lines(self, pieces, count).await?;
                lines.skip(surplus);
                pieces
            }
        };
        self.each(&pieces, |piece, bytes| lines.put(piece.fd, piece.time, bytes)).await
    }

    /// Reads pieces in their order, a part at a time.
    async fn each(
        &self,
        pieces: &[Piece],
        mut take: impl FnMut(&Piece, &[u8]) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let mut sources = Sources::new(self.api, &self.args.id, &self.plan.fds, pieces);
        for piece in pieces {
            let mut left = piece.length;
            while left > 0 {
                let bytes = sources.next(piece.fd, left).await?;
                if bytes.is_empty() {
                    break;
                }
                left -= bytes.len() as u64;
                take(piece, &bytes)?;
            }
        }
        Ok(())
    }
}
