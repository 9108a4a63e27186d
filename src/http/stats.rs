//! Stats for one reader at an interval: the state of the service, and the present usage of the
//! processes that the reader named.
//!
//! Stats are not changes: they are not resumed. A round reads each named process once, so the
//! number of these is bounded. A slow reader receives fewer rounds.

use std::time::Duration;

use indexmap::IndexMap;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::app_state::Service;
use super::feed::{Data, Event};
use super::query::{Query, QueryError};
use super::status::counts;
use crate::api::EventProc;
use crate::quantity::Seconds;
use crate::spec::ProcId;

/// Maximum number of processes that a reader may name.
pub(super) const NAMED: usize = 200;
/// The shortest interval, in seconds, and the longest one.
const SHORTEST: f64 = 0.2;
const LONGEST: Seconds = Seconds::whole(3600);

/// The requested stats.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StatsQuery {
    every: Duration,
    ids: Vec<ProcId>,
}

impl StatsQuery {
    /// The names that it reads from a query.
    pub(super) const NAMES: [&'static str; 2] = ["stats", "id"];

    /// Parses a query; `None` if it requests no stats.
    ///
    /// # Errors
    /// An invalid interval, processes without an interval, or too many.
    pub(super) fn of(query: &Query) -> Result<Option<StatsQuery>, QueryError> {
        let every = query.duration("stats", LONGEST)?;
        let ids: Vec<ProcId> = query.all("id").map(ProcId::from).collect();
        match every {
            None if ids.is_empty() => Ok(None),
            None => Err(QueryError::new("id: only with `stats`")),
            Some(every) if every.as_secs_f64() < SHORTEST => {
                let text = format!("stats: expected at least {SHORTEST} seconds");
                Err(QueryError::new(text))
            }
            Some(_) if ids.len() > NAMED => {
                Err(QueryError::new(format!("id: given more than {NAMED} times")))
            }
            Some(every) => Ok(Some(StatsQuery { every, ids })),
        }
    }

    /// The times of the rounds: the first one now.
    pub(super) fn rounds(&self) -> Interval {
        let mut rounds = tokio::time::interval_at(Instant::now(), self.every);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        rounds
    }
}

/// The present stats; `None` if the actors have ended.
pub(super) async fn collect(service: &Service, wish: &StatsQuery) -> Option<Event> {
    let tally = service.actors.counts().await.ok()?;
    let mut procs = IndexMap::new();
    for id in &wish.ids {
        let usage = service.actors.usage(id.clone()).await.ok()?;
        if let Some(stats) = usage.and_then(|usage| usage.record.stats(&service.context)) {
            procs.insert(id.as_str().into(), EventProc::Stats(stats));
        }
    }
    let data = Data {
        counts: Some(counts(&tally)),
        connection: Some(service.status.connection()),
        procs: Some(procs),
        ..Data::new("stats")
    };
    // Serialization of plain values cannot fail.
    Event::new("stats", None, data).ok()
}
