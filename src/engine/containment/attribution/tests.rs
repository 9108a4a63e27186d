//! Attribution over a written `/proc`: no process is made.

use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;
use crate::engine::containment::group_table::GroupTable;
use crate::procfs::ProcFs;

/// The pid and the session of this program in the written `/proc`.
const OURS: i32 = 100;
/// Pids from here on are larger than any of the kernel's: only the written `/proc` has them.
const BASE: i32 = 5_000_000;
/// The children of the processes 1 and 2.
const FIRST: i32 = BASE + 1;
const SECOND: i32 = BASE + 2;
/// An orphan.
const ORPHAN: i32 = BASE + 50;

/// A line of `/proc/PID/stat`.
#[derive(Clone, Copy)]
struct Line {
    pid: i32,
    comm: &'static str,
    state: char,
    ppid: i32,
    pgrp: i32,
    session: i32,
    starttime: u64,
}

/// An orphan that leads a session of its own.
const DAEMON: Line = Line {
    pid: ORPHAN,
    comm: "daemon",
    state: 'S',
    ppid: OURS,
    pgrp: ORPHAN,
    session: ORPHAN,
    starttime: 50,
};

/// The containment of an engine that knows processes by a written `/proc`.
struct Fixture {
    trees: ProcessTrees,
    newborns: Arc<Mutex<Vec<(u64, i32)>>>,
    proc: TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        let proc = tempfile::tempdir().unwrap();
        let newborns = Arc::new(Mutex::new(Vec::new()));
        let made = Arc::clone(&newborns);
        let made = Box::new(move || made.lock().unwrap().clone());
        let mut trees = ProcessTrees::new(ProcFs::new(proc.path()), made, GroupTable::new(None));
        (trees.orphans.pid, trees.orphans.session) = (OURS, OURS);
        Fixture { trees, newborns, proc }
    }

    /// With these children, whose processes have the numbers from 1 on and start at these times.
    fn with_children(starts: &[u64]) -> Fixture {
        let mut fixture = Fixture::new();
        for (serial, starttime) in (1..).zip(starts) {
            fixture.trees.child_made(serial, BASE + serial as i32);
            fixture.trees.child_seen(serial, Some(*starttime));
        }
        fixture
    }

    fn write(&self, line: Line) {
        let Line { pid, comm, state, ppid, pgrp, session, starttime } = line;
        let dir = self.proc.path().join(pid.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        let text = format!(
            "{pid} ({comm}) {state} {ppid} {pgrp} {session} {} {starttime} {}\n",
            ["0"; 15].join(" "),
            ["0"; 30].join(" "),
        );
        std::fs::write(dir.join("stat"), text).unwrap();
    }

    fn classify(&self, line: Line) -> Option<Child> {
        self.write(line);
        self.trees.classify(line.pid)
    }

    /// The process of an orphan and how it was attributed.
    fn owner(&self, line: Line) -> Option<(u64, Relation)> {
        match self.classify(line) {
            Some(Child::Orphan { owner, logged, .. }) => {
                assert_eq!(logged, owner.is_some(), "only an unattributed orphan is to be logged");
                owner
            }
            _ => panic!("not an orphan"),
        }
    }

    /// Enters an orphan as known.
    fn know(&mut self, line: Line) {
        let child = self.classify(line).unwrap();
        self.trees.orphans.known.insert(line.pid, child);
    }
}

#[test]
fn the_group_and_the_session_of_a_child_decide() {
    let fixture = Fixture::with_children(&[10, 20]);
    let in_group = Line { pgrp: SECOND, session: SECOND, ..DAEMON };
    assert_eq!(fixture.owner(in_group), Some((2, Relation::Group)));
    let in_session = Line { session: SECOND, ..DAEMON };
    assert_eq!(fixture.owner(in_session), Some((2, Relation::Session)));
}

#[test]
fn a_child_that_the_driver_has_yet_to_hear_of_owns_its_session() {
    let fixture = Fixture::with_children(&[10]);
    fixture.newborns.lock().unwrap().push((7, BASE + 7));
    let orphan = Line { session: BASE + 7, ..DAEMON };
    assert_eq!(fixture.owner(orphan), Some((7, Relation::Session)));
    // The child itself is no orphan.
    assert!(fixture.classify(Line { pid: BASE + 7, ..DAEMON }).is_none());
}

#[test]
fn the_session_of_a_known_orphan_has_the_same_owner() {
    let mut fixture = Fixture::with_children(&[10]);
    fixture.know(DAEMON);
    fixture.trees.child_made(2, SECOND);
    fixture.trees.child_seen(2, Some(20));
    let orphan = Line { pid: ORPHAN + 1, starttime: 60, ..DAEMON };
    assert_eq!(fixture.owner(orphan), Some((1, Relation::Session)));
}

#[test]
fn a_member_that_was_met_in_a_stop_is_a_descendant() {
    let mut fixture = Fixture::with_children(&[10, 20]);
    fixture.trees.records.entry(2).or_default().met.insert(ORPHAN, 50);
    assert_eq!(fixture.owner(DAEMON), Some((2, Relation::Descendant)));
    let reused = Line { starttime: 51, ..DAEMON };
    assert_eq!(fixture.owner(reused), None, "a later process of the same pid was not met");
}

#[test]
fn the_only_process_that_can_have_started_a_daemon_owns_it() {
    let fixture = Fixture::with_children(&[10]);
    assert_eq!(fixture.owner(DAEMON), Some((1, Relation::Inferred)));
    // A process that started later cannot have.
    let fixture = Fixture::with_children(&[10, 51]);
    assert_eq!(fixture.owner(DAEMON), Some((1, Relation::Inferred)));
}

#[test]
fn a_daemon_is_not_attributed_if_several_processes_can_have_started_it() {
    assert_eq!(Fixture::with_children(&[10, 20]).owner(DAEMON), None);
    assert_eq!(Fixture::new().owner(DAEMON), None, "there is no process");
    let mut fixture = Fixture::with_children(&[10]);
    fixture.trees.orphans.last_end = 50;
    assert_eq!(fixture.owner(DAEMON), None, "a process that has ended since can have, too");
}

#[test]
fn a_newborn_is_a_suspect_unless_it_is_younger() {
    let fixture = Fixture::with_children(&[10]);
    fixture.newborns.lock().unwrap().push((7, BASE + 7));
    assert_eq!(fixture.owner(DAEMON), None, "its start is not known");
    fixture.write(Line { pid: BASE + 7, starttime: 51, ..DAEMON });
    assert_eq!(fixture.owner(DAEMON), Some((1, Relation::Inferred)));
    fixture.write(Line { pid: BASE + 7, starttime: 49, ..DAEMON });
    assert_eq!(fixture.owner(DAEMON), None);
}

#[test]
fn an_older_orphan_is_a_suspect_by_its_owner() {
    let mut fixture = Fixture::with_children(&[10, 20]);
    fixture.know(Line { pid: ORPHAN + 1, session: FIRST, starttime: 30, ..DAEMON });
    fixture.trees.child_reaped(2);
    fixture.trees.orphans.last_end = 0;
    assert_eq!(fixture.owner(DAEMON), Some((1, Relation::Inferred)));
    let unknown = Child::Orphan { session: 1, starttime: 40, logged: true, owner: None };
    fixture.trees.orphans.known.insert(ORPHAN + 2, unknown);
    assert_eq!(fixture.owner(DAEMON), None, "an orphan of unknown origin can have started it");
}

#[test]
fn only_our_children_are_classified() {
    let fixture = Fixture::with_children(&[10]);
    assert!(fixture.classify(Line { ppid: 1, ..DAEMON }).is_none());
    assert!(fixture.trees.classify(BASE + 99).is_none(), "it is gone");
}

#[test]
fn a_child_in_our_session_is_a_helper() {
    let fixture = Fixture::with_children(&[10]);
    let helper = Line { session: OURS, pgrp: OURS, ..DAEMON };
    assert!(matches!(fixture.classify(helper), Some(Child::Helper)));
}

#[test]
fn in_our_session_a_process_of_our_own_job_owns_its_orphans() {
    let mut fixture = Fixture::with_children(&[10]);
    fixture.trees.shares_our_terminal(1);
    let orphan = Line { session: OURS, ..DAEMON };
    assert_eq!(fixture.owner(orphan), Some((1, Relation::Session)));
    // An older child belongs to the program that executed this one.
    let older = Line { starttime: 9, ..orphan };
    assert!(matches!(fixture.classify(older), Some(Child::Helper)));
    // A zombie has no executable: its name decides.
    let zombie = Line { state: 'Z', comm: "procstar", ..orphan };
    assert!(matches!(fixture.classify(zombie), Some(Child::Helper)));
    fixture.trees.records.entry(1).or_default().met.insert(ORPHAN, 50);
    assert_eq!(fixture.owner(zombie), Some((1, Relation::Session)));
}

#[test]
fn the_orphans_of_a_process_are_its_survivors_with_their_relation() {
    let mut fixture = Fixture::with_children(&[10]);
    fixture.know(Line { pgrp: FIRST, session: FIRST, ..DAEMON });
    fixture.know(Line { pid: ORPHAN + 1, pgrp: 7, session: FIRST, state: 'Z', ..DAEMON });
    let survivors = fixture.trees.survivors(1);
    let found: Vec<_> = survivors.listed.iter().map(|one| (one.pid, one.relation)).collect();
    assert_eq!(found, [(ORPHAN, Relation::Group)], "a zombie does not survive");
    assert!(fixture.trees.survivors(2).listed.is_empty());
}
