//! Logs what an ending worker waits for, immediately and repeatedly.

use std::time::Duration;

use actix::{AsyncContext, Context, SpawnHandle};
use tokio::time::Instant;

use super::Supervisor;
use crate::actors::lifecycle::WaitReason;

/// The time from the first report to the second; each later one is twice as long.
const FIRST: Duration = Duration::from_secs(10);
/// The maximum time between two reports.
const LONGEST: Duration = Duration::from_secs(300);
/// The maximum number of running processes in a report, and of ended ones.
const NAMED: usize = 10;
/// The maximum number of characters of an ID in a report.
const ID: usize = 64;

/// The present wait.
pub(super) struct Progress {
    waiting: WaitReason,
    since: Instant,
    /// The time to the next report.
    pause: Duration,
    timer: SpawnHandle,
}

impl Supervisor {
    /// Begins to report when the worker waits for something new, and ends when it waits for
    /// nothing. The wait began at `since`.
    pub(super) fn follow_progress(&mut self, since: Instant, ctx: &mut Context<Self>) {
        let waiting = self.lifecycle.waiting().filter(|_| !self.processes.is_empty());
        if self.progress.as_ref().map(|progress| progress.waiting) == waiting {
            return;
        }
        if let Some(Progress { timer, .. }) = self.progress.take() {
            ctx.cancel_future(timer);
        }
        if let Some(waiting) = waiting {
            let timer = ctx.run_later(FIRST, Self::report_again);
            self.progress = Some(Progress { waiting, since, pause: FIRST, timer });
            let text = self.report(waiting);
            tracing::info!(elapsed = ?Instant::now().saturating_duration_since(since), "{text}");
        }
    }

    fn report_again(&mut self, ctx: &mut Context<Self>) {
        let Some(Progress { waiting, since, pause, .. }) = self.progress else { return };
        let text = self.report(waiting);
        let elapsed =
            Duration::from_secs(Instant::now().saturating_duration_since(since).as_secs());
        // A worker with --wait runs as long as it has processes, which is not a problem.
        if waiting == WaitReason::Work {
            tracing::info!(?elapsed, "{text}");
        } else {
            tracing::warn!(?elapsed, "{text}");
        }
        let pause = (pause * 2).min(LONGEST);
        let timer = ctx.run_later(pause, Self::report_again);
        self.progress = Some(Progress { waiting, since, pause, timer });
    }

    /// The condition, with numbers and names of processes.
    fn report(&self, waiting: WaitReason) -> String {
        let what = match waiting {
            WaitReason::Work => "waiting for all processes to be deleted (--wait)".to_owned(),
            WaitReason::Drain => "draining: no new processes are accepted".to_owned(),
            WaitReason::Ends { until } => {
                let left = until.saturating_duration_since(Instant::now()).as_secs();
                format!("shutting down: running processes are killed in {left} s")
            }
            WaitReason::Deletions { until } => {
                let left = until.saturating_duration_since(Instant::now()).as_secs();
                format!("shutting down: the program ends in {left} s")
            }
        };
        let ids = |ended: bool| {
            let found = self.processes.iter().filter(move |(_, owned)| owned.ended == ended);
            found.map(|(id, _)| id.as_str()).collect::<Vec<_>>()
        };
        let left = [("running", ids(false)), ("ended and not deleted", ids(true))];
        let left: Vec<String> = left
            .into_iter()
            .filter(|(_, ids)| !ids.is_empty())
            .map(|(how, ids)| format!("{} {how}: {}", ids.len(), names(ids)))
            .collect();
        format!("{what}; {} left, {}", self.processes.len(), left.join("; "))
    }

    /// Names the processes that did not end in time.
    pub(super) fn report_overdue(&self) {
        let overdue = self.processes.iter().filter(|(_, owned)| !owned.ended);
        let ids: Vec<_> = overdue.map(|(id, _)| id.as_str()).collect();
        if !ids.is_empty() {
            let count = ids.len();
            tracing::warn!("{count} processes did not end in time, killing them: {}", names(ids));
        }
    }
}

/// The first IDs in alphabetical order, and the number of the others.
fn names(mut ids: Vec<&str>) -> String {
    let count = ids.len();
    if count > NAMED {
        ids.select_nth_unstable(NAMED);
        ids.truncate(NAMED);
    }
    ids.sort_unstable();
    let mut names: Vec<String> = ids.into_iter().map(short).collect();
    if count > NAMED {
        names.push(format!("and {} more", count - NAMED));
    }
    names.join(", ")
}

fn short(id: &str) -> String {
    let shown: String = id.chars().take(ID).collect();
    let cut = if shown.len() < id.len() { "..." } else { "" };
    format!("{}{cut}", shown.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_few_and_short() {
        assert_eq!(names(vec!["b", "a\n"]), "a\\n, b");
        let long = "x".repeat(1000);
        assert_eq!(names(vec![&long]).len(), ID + 3);
        let many: Vec<String> = (0..50).map(|n| format!("p{n:02}")).collect();
        let text = names(many.iter().rev().map(String::as_str).collect());
        assert!(text.starts_with("p00, p01, ") && text.ends_with("p09, and 40 more"), "{text}");
    }
}
