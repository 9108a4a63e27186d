//! The driver's part in relations between the processes of one request: processes joined by pipes,
//! and processes that start all together or not at all.

use std::collections::{HashMap, VecDeque};

use super::Driver;
use super::budget::{child_needs, making};
use super::launch::{PipeTable, QueuedLaunch};
use crate::engine::command::ProcessCommand;
use crate::engine::failure::{Stage, StartFailure};
use crate::engine::process::{Input, Process};
use crate::engine::spawn::Spawned;
use crate::engine::stop::{StopOrder, StopPolicy};
use crate::spec::{ProcId, Validated, ValidatedFd, ValidatedProc};

/// Processes that are admitted together.
pub(super) struct PipeGroup {
    launches: VecDeque<QueuedLaunch>,
    let_in: bool,
}

/// Processes that are all stopped if one of them cannot be started.
pub(super) struct AtomicGroup {
    members: Vec<u64>,
    /// The number of processes whose start is not resolved.
    starting: usize,
}

impl Driver {
    /// Queues the processes of a request.
    pub(super) fn request(&mut self, request: Validated) {
        let pipes = PipeTable::new(request.pipes);
        let together = request.all_or_nothing.then_some(self.next_serial);
        let mut members = Vec::new();
        let mut units: Vec<PipeGroup> = Vec::new();
        let units_of = units_by_pipes(request.procs.values(), request.pipes);
        for ((id, proc), unit) in request.procs.into_iter().zip(units_of) {
            let policy = StopPolicy { deadline: None, stopping: proc.stopping };
            let serial = self.insert_process(Process::new(id, policy, together));
            members.push(serial);
            let launch = QueuedLaunch { serial, proc, pipes: pipes.clone() };
            match units.get_mut(unit) {
                Some(unit) => unit.launches.push_back(launch),
                None => units.push(PipeGroup { launches: VecDeque::from([launch]), let_in: false }),
            }
        }
        if let Some(number) = together {
            let starting = members.len();
            self.atomic_groups.insert(number, AtomicGroup { members, starting });
        }
        self.waiting.extend(units);
    }

    /// The next process to be made; `None` if the queue is empty, or there is no room.
    pub(super) fn next_launch(&mut self) -> Option<QueuedLaunch> {
        let unit = self.waiting.front_mut()?;
        if !unit.let_in {
            let procs = || unit.launches.iter().map(|launch| &launch.proc);
            let cost = procs().map(making).sum::<usize>();
            let need = cost + procs().map(child_needs).max().unwrap_or(0);
            if !self.budget.has_room(need) {
                return None;
            }
            unit.let_in = true;
            for launch in &unit.launches {
                self.budget.set(launch.serial, making(&launch.proc), true);
            }
        }
        let launch = unit.launches.pop_front();
        if unit.launches.is_empty() {
            self.waiting.pop_front();
        }
        launch
    }

    /// Notes whether a process of a group has started. If it has not, ends the processes that start
    /// with it.
    pub(super) fn start_resolved(&mut self, serial: u64, group: u64, failed: bool) {
        let Some(atomic) = self.atomic_groups.get_mut(&group) else { return };
        atomic.starting = atomic.starting.saturating_sub(1);
        if !failed && atomic.starting > 0 {
            return;
        }
        let members = self.atomic_groups.remove(&group).map(|atomic| atomic.members);
        let Some(id) = self.processes.get(&serial).map(|process| process.id.clone()) else {
            return;
        };
        if failed {
            for member in members.into_iter().flatten().filter(|member| *member != serial) {
                self.fail_with_sibling(member, &id);
            }
        }
    }

    /// Ends a process because `peer` could not be started: prevents its start, or stops it.
    fn fail_with_sibling(&mut self, serial: u64, peer: &ProcId) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        process.leave_group();
        let failure = StartFailure::new(Stage::Sibling, 0, Some(peer.as_str().to_owned()));
        if let Some(launch) = self.take_waiting(serial) {
            self.refuse(launch, failure);
        } else if self.pool.withdraw(serial) {
            self.spawned(Spawned::failed(serial, failure));
        } else {
            let command = ProcessCommand::Stop(StopOrder::default());
            self.on(serial, Input::Command { command, ticket: None });
        }
    }

    fn take_waiting(&mut self, serial: u64) -> Option<QueuedLaunch> {
        let found = self.waiting.iter_mut().enumerate().find_map(|(at, unit)| {
            let inner = unit.launches.iter().position(|launch| launch.serial == serial)?;
            Some((at, unit.launches.remove(inner), unit.launches.is_empty()))
        });
        let (at, launch, empty) = found?;
        if empty {
            self.waiting.remove(at);
        }
        launch
    }
}

/// For each process, the number of its unit; processes joined by pipes share one. Units are
/// numbered in the order of their first processes.
fn units_by_pipes<'a>(
    procs: impl Iterator<Item = &'a ValidatedProc> + Clone,
    pipes: usize,
) -> Vec<usize> {
    let ends = |proc: &'a ValidatedProc| {
        proc.fds.iter().filter_map(|(_, fd)| match fd {
            ValidatedFd::Pipe(end) => Some(end.pipe()),
            _ => None,
        })
    };
    // Each process's representative: one with a lower number, or itself.
    let mut lower: Vec<usize> = (0..procs.clone().count()).collect();
    fn root(lower: &mut [usize], of: usize) -> usize {
        let mut at = of;
        while let Some(next) = lower.get(at).copied().filter(|next| *next != at) {
            at = next;
        }
        if let Some(short) = lower.get_mut(of) {
            *short = at;
        }
        at
    }
    let mut first_end: HashMap<usize, usize> = HashMap::with_capacity(pipes.min(1024));
    for (number, proc) in procs.enumerate() {
        for pipe in ends(proc) {
            let other = *first_end.entry(pipe).or_insert(number);
            let (a, b) = (root(&mut lower, number), root(&mut lower, other));
            if let Some(joined) = lower.get_mut(a.max(b)) {
                *joined = a.min(b);
            }
        }
    }
    let mut numbers = HashMap::new();
    (0..lower.len())
        .map(|number| {
            let root = root(&mut lower, number);
            let next = numbers.len();
            *numbers.entry(root).or_insert(next)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_joined_by_pipes_are_one_unit() {
        let text = r#"{"specs": {
            "r1": {"argv": ["x"], "fds": [["0", {"pipe-read": {"proc_id": "w1", "fd": "1"}}]]},
            "alone": {"argv": ["x"]},
            "r2": {"argv": ["x"], "fds": [["0", {"pipe-read": {"proc_id": "w2", "fd": "1"}}]]},
            "w2": {"argv": ["x"], "fds": [["1", "pipe-write"], ["0", {"pipe-read": {"proc_id": "w3", "fd": "1"}}]]},
            "w1": {"argv": ["x"], "fds": [["1", "pipe-write"]]},
            "w3": {"argv": ["x"], "fds": [["1", "pipe-write"]]}}}"#;
        let request = crate::spec::from_json(text.as_bytes()).unwrap();
        let units = units_by_pipes(request.procs.values(), request.pipes);
        assert_eq!(units, [0, 1, 2, 2, 0, 2]);
    }
}
