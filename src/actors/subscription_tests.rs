use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::actors::shutdown::ShutdownState;
use crate::engine::Ended;
use crate::report::ProcessRecord;

fn record(id: u8) -> Arc<ProcessRecord> {
    Arc::new(ProcessRecord::of_end(Ended::unknown(id.to_string().as_str().into())))
}

fn deleted(id: u8) -> ChangeKind {
    ChangeKind::Deleted(id.to_string().as_str().into())
}

/// The waiting changes, as words.
fn drained(queue: &mut Queue) -> Vec<String> {
    let mut all = Vec::new();
    while let Next::Change(Change { seq, what }) = queue.take(u64::MAX) {
        let word = match &what {
            ChangeKind::Started(_) => "started",
            ChangeKind::Failed(_) => "failed",
            ChangeKind::Ended(_) => "ended",
            ChangeKind::Updated(_) => "updated",
            ChangeKind::Deleted(_) => "deleted",
            ChangeKind::Shutdown(state) => state.as_str(),
        };
        let id = what.id().map_or(String::new(), |id| format!(" {id}"));
        all.push(format!("{seq} {word}{id}"));
    }
    all
}

fn queue(delivery: Delivery, singly: usize, deletions: usize, backlog: usize) -> Queue {
    Queue::new(delivery, Bounds { singly, deletions, backlog })
}

fn push(queue: &mut Queue, changes: impl IntoIterator<Item = ChangeKind>) {
    for (seq, what) in (1..).zip(changes) {
        queue.push(Change { seq, what });
    }
}

fn life(id: u8) -> [ChangeKind; 5] {
    [
        ChangeKind::Started(record(id)),
        ChangeKind::Updated(record(id)),
        ChangeKind::Updated(record(id)),
        ChangeKind::Ended(record(id)),
        deleted(id),
    ]
}

#[test]
fn updates_are_superseded_and_nothing_else_is() {
    for delivery in [Delivery::Each, Delivery::Latest] {
        let mut queue = queue(delivery, 100, 100, 100);
        push(&mut queue, life(1));
        assert_eq!(drained(&mut queue), ["1 started 1", "4 ended 1", "5 deleted 1"]);
        assert_eq!((queue.deleted, queue.of.len()), (0, 0));
    }
}

#[test]
fn a_reader_far_behind_gets_the_latest_of_each_process() {
    let mut queue = queue(Delivery::Latest, 2, 100, 0);
    let started = |id| ChangeKind::Started(record(id));
    let changes = [
        started(1),
        started(2),
        ChangeKind::Ended(record(1)),
        started(3),
        ChangeKind::Ended(record(3)),
        deleted(3),
        deleted(1),
        ChangeKind::Shutdown(ShutdownState::Idling),
        ChangeKind::Shutdown(ShutdownState::Done),
    ];
    push(&mut queue, changes);
    assert_eq!(
        drained(&mut queue),
        ["2 started 2", "6 deleted 3", "7 deleted 1", "8 idling", "9 done"]
    );
    assert_eq!((queue.deleted, queue.of.len()), (0, 0));
}

#[test]
fn too_many_changes_of_deleted_processes_are_lag() {
    for (delivery, lives) in [(Delivery::Each, 2), (Delivery::Latest, 4)] {
        let mut queue = queue(delivery, 0, 3, 7);
        push(&mut queue, (0..lives).flat_map(life));
        assert!(!queue.lagged || lives == 4, "{delivery:?}");
        push(&mut queue, (10..20).flat_map(life));
        assert!(matches!(queue.take(u64::MAX), Next::Lagged));
        assert!(queue.waiting.is_empty() && queue.of.is_empty() && queue.is_ready());
    }
}

#[test]
fn changes_are_taken_up_to_a_number() {
    let mut queue = queue(Delivery::Each, 9, 9, 9);
    push(&mut queue, [ChangeKind::Started(record(1)), deleted(1)]);
    assert!(matches!(queue.take(0), Next::Empty));
    assert!(matches!(queue.take(1), Next::Change(Change { seq: 1, .. })));
    assert!(matches!(queue.take(1), Next::Empty));
    queue.closed = true;
    assert!(matches!(queue.take(1), Next::Empty), "another one waits");
    assert!(matches!(queue.take(2), Next::Change(_)));
    assert!(matches!(queue.take(2), Next::Closed));
}

#[test]
fn a_publisher_knows_whether_anybody_reads() {
    let (publisher, subscription) = subscription(Delivery::Each);
    let waiting = subscription.ready();
    assert!(publisher.push(Change { seq: 1, what: deleted(1) }));
    drop(subscription);
    assert!(!publisher.is_read() && !publisher.push(Change { seq: 2, what: deleted(1) }));
    drop(waiting);
}

#[test]
fn bounds_hold_for_a_reader_that_never_reads() {
    let mut queue = queue(Delivery::Each, 9, 9, 50);
    let mut seq = 0;
    for round in 0..100u8 {
        for what in life(round % 7) {
            seq += 1;
            queue.push(Change { seq, what });
        }
        // Three changes of each of 7 processes, and the maximum of deleted ones.
        assert!(queue.waiting.len() <= 7 * 3 + 50 + 3, "{}", queue.waiting.len());
    }
    assert!(queue.lagged);
}

proptest! {
    /// However much is read at a time: the order holds, every start, end and deletion is delivered
    /// where each must be, and the last change of each process always.
    #[test]
    fn a_reader_gets_the_announced_changes(
        acts in proptest::collection::vec((0u8..5, 0usize..4), 1..200),
        latest in any::<bool>(),
    ) {
        let delivery = if latest { Delivery::Latest } else { Delivery::Each };
        let mut queue = queue(delivery, 4, 1000, 1000);
        // The next change of each process.
        let mut next = BTreeMap::<u8, usize>::new();
        let (mut seq, mut before) = (0, 0);
        let (mut truth, mut promised, mut read) =
            (BTreeMap::new(), Vec::new(), Vec::<(u64, ChangeKind)>::new());
        for (id, reads) in acts {
            let at = next.entry(id).or_default();
            let what = life(id)[*at].clone();
            *at = (*at + 1) % 5;
            seq += 1;
            if !matches!(what, ChangeKind::Updated(_)) {
                promised.push(seq);
            }
            truth.insert(id.to_string(), seq);
            queue.push(Change { seq, what });
            for _ in 0..reads {
                if let Next::Change(change) = queue.take(u64::MAX) {
                    read.push((change.seq, change.what));
                }
            }
        }
        while let Next::Change(change) = queue.take(u64::MAX) {
            read.push((change.seq, change.what));
        }
        for (seq, what) in &read {
            prop_assert!(*seq > before);
            before = *seq;
            if truth.get(what.id().unwrap().as_str()) == Some(seq) {
                truth.remove(what.id().unwrap().as_str());
            }
        }
        prop_assert!(truth.is_empty(), "not delivered: {:?}", truth);
        if !latest {
            let got: Vec<u64> = read.iter().map(|(seq, _)| *seq).collect();
            prop_assert!(promised.iter().all(|seq| got.contains(seq)));
        }
        prop_assert_eq!((queue.deleted, queue.of.len()), (0, 0));
    }
}
