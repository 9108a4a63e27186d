//! The order of changes, as pure data: recent ones one by one, earlier ones coalesced by process.
//!
//! The log begins with the first cursor: without a cursor nobody can ask for later changes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::actors::messages::{Change, ChangeKind, Cursor, ShutdownState};
use crate::mem::shrink::Shrink;
use crate::report::ProcessRecord;
use crate::spec::ProcId;

/// The number of recent changes that are kept one by one.
const RECENT: usize = 1024;
/// The number of recent deletions that are kept. A reader that has missed more begins with a
/// snapshot.
const DELETIONS: usize = 4096;

/// The changes of one run. Its size is bounded by the number of processes.
pub(super) struct ChangeLog {
    run: u64,
    /// The number of the last change; 0 before the first.
    last: u64,
    /// Whether a reader has a cursor.
    kept: bool,
    /// The recent changes, without a gap, up to `last`.
    recent: VecDeque<Change>,
    /// The last change of every process, by number.
    latest: BTreeMap<u64, ChangeKind>,
    /// The number of that change, by process.
    of: HashMap<ProcId, u64>,
    /// The recent deletions.
    deleted: VecDeque<(u64, ProcId)>,
    /// The number of the last deletion that is not kept any more.
    forgotten: u64,
    shutdown: Option<(u64, ShutdownState)>,
    recent_max: usize,
    deletions_max: usize,
}

impl Default for ChangeLog {
    fn default() -> Self {
        ChangeLog::with_bounds(fastrand::u64(..), RECENT, DELETIONS)
    }
}

impl ChangeLog {
    fn with_bounds(run: u64, recent_max: usize, deletions_max: usize) -> Self {
        ChangeLog {
            run,
            last: 0,
            kept: false,
            recent: VecDeque::new(),
            latest: BTreeMap::new(),
            of: HashMap::new(),
            deleted: VecDeque::new(),
            forgotten: 0,
            shutdown: None,
            recent_max,
            deletions_max,
        }
    }

    /// The run's number.
    pub(super) fn run(&self) -> u64 {
        self.run
    }

    /// The cursor of the last change.
    pub(super) fn cursor(&mut self) -> Cursor {
        if !std::mem::replace(&mut self.kept, true) {
            self.forgotten = self.last;
        }
        Cursor { run: self.run, at: self.last }
    }

    /// Appends a change.
    pub(super) fn record(&mut self, what: ChangeKind) {
        self.last += 1;
        if !self.kept {
            return;
        }
        let seq = self.last;
        match &what {
            ChangeKind::Started(record)
            | ChangeKind::Failed(record)
            | ChangeKind::Ended(record)
            | ChangeKind::Updated(record) => {
                let id = record.id.clone();
                self.supersede(&id);
                self.of.insert(id, seq);
                self.latest.insert(seq, what.clone());
            }
            ChangeKind::Deleted(id) => {
                self.supersede(id);
                self.deleted.push_back((seq, id.clone()));
                if self.deleted.len() > self.deletions_max {
                    self.forgotten = self.deleted.pop_front().map_or(0, |(seq, _)| seq);
                }
            }
            ChangeKind::Shutdown(state) => self.shutdown = Some((seq, *state)),
        }
        self.recent.push_back(Change { seq, what });
        if self.recent.len() > self.recent_max {
            self.recent.pop_front();
        }
    }

    fn supersede(&mut self, id: &ProcId) {
        if let Some(seq) = self.of.remove(id) {
            self.of.shrink_if_sparse();
            self.latest.remove(&seq);
        }
    }

    /// The number of the last change.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// At most `max` changes after a cursor; none if the log does not reach back to it.
    pub(super) fn since(&self, after: Cursor, max: usize) -> Option<Vec<Change>> {
        let first = self.recent.front().map_or(self.last + 1, |change| change.seq);
        let singly = after.at.saturating_add(1) >= first;
        if after.run != self.run || after.at > self.last || (!singly && after.at < self.forgotten) {
            return None;
        }
        let mut changes = if singly { Vec::new() } else { self.coalesced(after.at, first, max) };
        // Every recent change comes after the coalesced ones.
        let skip = (after.at + 1).saturating_sub(first) as usize;
        let room = max.saturating_sub(changes.len());
        changes.extend(self.recent.iter().skip(skip).take(room).cloned());
        Some(changes)
    }

    /// The last change of each process between `after` and `before`, both excluded.
    fn coalesced(&self, after: u64, before: u64, max: usize) -> Vec<Change> {
        let between = after + 1..before;
        let latest = self.latest.range(between.clone()).map(|(seq, what)| (*seq, what.clone()));
        let from = self.deleted.partition_point(|(seq, _)| *seq <= after);
        let deleted = self.deleted.iter().skip(from).take_while(|(seq, _)| *seq < before);
        let deleted = deleted.map(|(seq, id)| (*seq, ChangeKind::Deleted(id.clone())));
        let shutdown = self.shutdown.filter(|(seq, _)| between.contains(seq));
        let shutdown = shutdown.map(|(seq, state)| (seq, ChangeKind::Shutdown(state)));
        // At most `max` of each kind, so that the cost of merging is bounded by the answer.
        let mut all: Vec<(u64, ChangeKind)> =
            latest.take(max).chain(deleted.take(max)).chain(shutdown).collect();
        all.sort_by_key(|(seq, _)| *seq);
        all.truncate(max);
        all.into_iter().map(|(seq, what)| Change { seq, what }).collect()
    }
}

/// The kind of a change of a process's record, by the record before.
pub(super) fn what(record: &Arc<ProcessRecord>, before: Option<&Arc<ProcessRecord>>) -> ChangeKind {
    let record = Arc::clone(record);
    match before {
        None if record.is_running() => ChangeKind::Started(record),
        None => ChangeKind::Failed(record),
        Some(before) if before.is_running() && !record.is_running() => ChangeKind::Ended(record),
        Some(_) => ChangeKind::Updated(record),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::TimePoint;
    use crate::engine::{Captures, Started};

    const RUN: u64 = 7;

    fn record(id: u8) -> Arc<ProcessRecord> {
        Arc::new(ProcessRecord::of_start(Started {
            id: id.to_string().into(),
            pid: 1,
            start: TimePoint::now(),
            stat: None,
            statm: None,
            captures: Captures::none(),
            policy: crate::engine::StopPolicy::default(),
            resolved: crate::engine::Resolved::default(),
            group: None,
        }))
    }

    /// Applies a change to a reader's set of processes.
    fn apply(there: &mut std::collections::BTreeSet<ProcId>, what: &ChangeKind) {
        match (what.id().cloned(), what) {
            (Some(id), ChangeKind::Deleted(_)) => drop(there.remove(&id)),
            (Some(id), _) => drop(there.insert(id)),
            (None, _) => {}
        }
    }

    #[test]
    fn a_reader_that_keeps_up_gets_each_change_once() {
        let mut log = ChangeLog::with_bounds(RUN, 4, 4);
        let mut at = log.cursor();
        for n in 0..20u8 {
            log.record(ChangeKind::Started(record(n)));
            let got = log.since(at, 10).unwrap();
            assert_eq!(got.iter().map(|change| change.seq).collect::<Vec<_>>(), [u64::from(n) + 1]);
            at.at = got[0].seq;
        }
        assert!(log.since(at, 10).unwrap().is_empty());
    }

    /// A cursor guessed from a time without a log is rejected.
    #[test]
    fn nothing_is_kept_before_a_position_is_known() {
        let mut log = ChangeLog::with_bounds(RUN, 4, 4);
        for n in 0..9 {
            log.record(ChangeKind::Started(record(n)));
        }
        assert!(log.recent.is_empty() && log.latest.is_empty());
        let at = log.cursor();
        assert_eq!(at.at, 9);
        log.record(ChangeKind::Deleted(record(1).id.clone()));
        assert_eq!(log.since(at, 9).unwrap().len(), 1);
        assert!(log.since(Cursor { run: RUN, at: 8 }, 9).is_none());
    }

    #[test]
    fn invalid_cursors_are_reported() {
        let mut log = ChangeLog::with_bounds(RUN, 2, 2);
        log.cursor();
        log.record(ChangeKind::Shutdown(ShutdownState::Idling));
        for (run, at) in [(RUN + 1, 0), (RUN, 2), (RUN, u64::MAX)] {
            assert!(log.since(Cursor { run, at }, 1).is_none(), "{run} {at}");
        }
        for n in 0..3 {
            log.record(ChangeKind::Started(record(n)));
            log.record(ChangeKind::Deleted(record(n).id.clone()));
        }
        // Deletion number 3 is not kept any more.
        assert!(log.since(Cursor { run: RUN, at: 2 }, 9).is_none());
        assert_eq!(log.since(Cursor { run: RUN, at: 3 }, 9).unwrap().len(), 3);
    }

    proptest! {
        /// However late and little a reader reads, the order is kept, no process's last change is
        /// missing, and the reader ends with the existing processes.
        #[test]
        fn late_readers_come_to_the_same_end(
            steps in proptest::collection::vec((0u8..6, any::<bool>()), 1..60),
            max in 1usize..5,
            from in 0u64..60,
        ) {
            let mut log = ChangeLog::with_bounds(RUN, 5, 60);
            log.cursor();
            let (mut truth, mut reader) = (<std::collections::BTreeSet<ProcId>>::new(), None);
            for (n, delete) in steps {
                let what = match delete && truth.contains(record(n).id.as_str()) {
                    true => ChangeKind::Deleted(record(n).id.clone()),
                    false => ChangeKind::Updated(record(n)),
                };
                if log.last == from {
                    reader = Some(truth.clone());
                }
                apply(&mut truth, &what);
                log.record(what);
            }
            let Some(mut reader) = reader else { return Ok(()) };
            let mut at = Cursor { run: RUN, at: from };
            loop {
                let got = log.since(at, max).unwrap();
                prop_assert!(got.len() <= max);
                let Some(last) = got.last() else { break };
                for pair in got.windows(2) {
                    prop_assert!(pair[0].seq < pair[1].seq);
                }
                prop_assert!(got[0].seq > at.at);
                got.iter().for_each(|change| apply(&mut reader, &change.what));
                at.at = last.seq;
            }
            prop_assert_eq!(at.at, log.last);
            prop_assert_eq!(reader, truth);
        }
    }
}
