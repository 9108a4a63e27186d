//! `procstar logs`: the output of a process, past and future.
//!
//! A [`plan`](plan::Plan) describes the output that exists at the beginning: chunks of the chosen
//! captures in the order in which to print them. A capture whose order is not known is one chunk.
//! [`source`] reads the chunks by range, as a stream; [`tail`] reads the last lines from the end
//! backwards. [`live`] follows the later output, and [`lines`] puts times before lines.

mod lines;
mod live;
mod plan;
mod source;
mod tail;

use self::lines::Lines;
use self::plan::{Chunk, Plan, Subject};
use self::source::Sources;
use super::api::Api;
use super::error::ClientError;
use super::options::LogsArgs;
use super::out::Out;

/// The state of one run of the command.
struct Logs<'a> {
    api: &'a Api,
    args: &'a LogsArgs,
    plan: Plan,
}

/// Prints the selected output, and follows it with `--follow`.
///
/// # Errors
/// An unknown process or stream; times that are not known; a response that breaks off.
pub async fn logs(args: &LogsArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    let subject = Subject::ask(api, &args.id).await?;
    let plan = Plan::new(args, &subject)?;
    for fd in plan.fds.iter().filter(|fd| subject.length(fd) == 0) {
        // Nothing of it is read here, so a missing file would go unnoticed.
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
    /// Prints existing chunks, or their last lines.
    async fn history(&self, chunks: Vec<Chunk>, lines: &mut Lines<'_>) -> Result<(), ClientError> {
        let chunks = match self.args.tail {
            None => chunks,
            Some(count) => {
                let (chunks, surplus) = tail::last_lines(self, chunks, count).await?;
                lines.skip(surplus);
                chunks
            }
        };
        self.each(&chunks, |chunk, bytes| lines.put(chunk.fd, chunk.time, bytes)).await
    }

    /// Reads chunks in their order, a part at a time.
    async fn each(
        &self,
        chunks: &[Chunk],
        mut take: impl FnMut(&Chunk, &[u8]) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let mut sources = Sources::new(self.api, &self.args.id, &self.plan.fds, chunks);
        for chunk in chunks {
            let mut left = chunk.length;
            while left > 0 {
                let bytes = sources.next(chunk.fd, left).await?;
                if bytes.is_empty() {
                    break;
                }
                left -= bytes.len() as u64;
                take(chunk, &bytes)?;
            }
        }
        Ok(())
    }
}
