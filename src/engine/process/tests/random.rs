//! Random inputs in any order.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Plan(Option<u8>),
    CloneChild,
    Spawn(bool),
    NotSpawned,
    Exit,
    CloseCapture(usize),
    AwaitDescendant,
    DescendantsEnd,
    Progress,
    DrainTimeout(bool, bool),
    Sealed,
    Signal(i32),
    Group,
    Stop(Option<i32>, Option<u64>),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let signum = prop::sample::select(vec![2, 3, 9, 10, 15]);
    let step = prop_oneof![
        prop::option::of(0u8..20).prop_map(Step::Plan),
        Just(Step::CloneChild),
        any::<bool>().prop_map(Step::Spawn),
        Just(Step::NotSpawned),
        Just(Step::Exit),
        (0usize..2).prop_map(Step::CloseCapture),
        Just(Step::AwaitDescendant),
        Just(Step::DescendantsEnd),
        Just(Step::Progress),
        any::<(bool, bool)>().prop_map(|(storing, unseen)| Step::DrainTimeout(storing, unseen)),
        Just(Step::Sealed),
        signum.clone().prop_map(Step::Signal),
        Just(Step::Group),
        (prop::option::of(signum), prop::option::of(0u64..10)).prop_map(|(s, g)| Step::Stop(s, g)),
        (0u64..8).prop_map(|seconds| Step::Wait(seconds * SECOND)),
    ];
    prop::collection::vec(step, 0..60)
}

impl Driver {
    /// Does one step; `ticket` is for a step with a request.
    fn step(&mut self, step: &Step, ticket: u64) {
        match *step {
            Step::Plan(timeout) if self.process.is_launching() => {
                self.plan(timeout.map(f64::from));
            }
            Step::Plan(_) => {}
            Step::CloneChild => self.clone_child(),
            Step::Spawn(ok) => {
                let setup = if ok { Box::default() } else { failed() };
                let facts = facts().filter(|_| ok);
                self.on(Input::Spawned { live: child(), facts, setup });
            }
            Step::NotSpawned => {
                self.on(Input::NotSpawned { exit: exit(), setup: failed() });
            }
            Step::Exit => {
                self.on(Input::Exited(exit()));
            }
            Step::CloseCapture(index) => {
                self.process.output.close(index);
                self.on(Input::Progress);
            }
            // The driver waits for descendants only if the process is stopped.
            Step::AwaitDescendant if self.process.is_stopping() && !self.process.is_ended() => {
                self.await_descendant(ticket);
            }
            Step::AwaitDescendant => {}
            Step::DescendantsEnd => {
                self.process.exiting.clear();
                self.on(Input::Progress);
            }
            Step::Progress => {
                self.on(Input::Progress);
            }
            Step::DrainTimeout(storing, unseen) => {
                let storing = if storing { vec![0] } else { Vec::new() };
                self.on(Input::DrainTimeout(DrainCheck { storing, unseen }));
            }
            Step::Sealed => {
                self.on(Input::Sealed);
            }
            Step::Signal(signum) => {
                self.on(signal(signum, ticket));
            }
            Step::Group => {
                self.on(Input::SignalGroup { signum: 28 });
            }
            Step::Stop(signum, grace) => {
                self.on(stop(signum, grace, ticket));
            }
            Step::Wait(nanos) => self.wait(nanos),
        }
    }

    /// Brings the process to its end, however far it is.
    fn finish(&mut self) {
        self.on(Input::NotSpawned { exit: exit(), setup: failed() });
        self.on(Input::Exited(exit()));
        self.process.exiting.clear();
        self.process.output.close_all();
        self.on(Input::Progress);
        self.on(Input::Sealed);
    }
}

proptest! {
    /// For any inputs in any order, a process ends exactly once and starts at most once, and each
    /// request is answered exactly once. No alarm is left at the end, and no effect follows it.
    #[test]
    fn any_order(captures in 0usize..3, group in any::<bool>(), steps in steps()) {
        let mut driver = Driver::new(captures);
        driver.process.atomic_group = group.then_some(1);
        let mut requested = BTreeSet::new();
        let mut resolved = 0;
        for (ticket, step) in (1u64..).zip(&steps) {
            let was_ended = driver.process.is_ended();
            driver.last.clear();
            driver.step(step, ticket);
            if matches!(step, Step::Signal(_) | Step::Stop(..)) {
                requested.insert(ticket);
            }
            resolved += driver.last.iter().filter(|text| text.starts_with("resolved")).count();
            if was_ended {
                let gone = |text: &String| text.ends_with("gone");
                prop_assert!(driver.last.iter().all(gone), "{:?} after the end", driver.last);
            }
            if driver.process.is_ended() || driver.process.is_sealing() {
                prop_assert_eq!(driver.owned_alarms(), 0);
            }
            prop_assert!(driver.owned_alarms() <= 2);
            prop_assert!(driver.started <= 1);
            prop_assert_eq!(driver.ended, u32::from(driver.process.is_ended()));
        }
        driver.last.clear();
        driver.finish();
        prop_assert_eq!(driver.ended, 1);
        prop_assert_eq!(driver.owned_alarms(), 0);
        prop_assert!(driver.process.pending.is_empty());
        let once: BTreeMap<u64, u32> = requested.into_iter().map(|ticket| (ticket, 1)).collect();
        prop_assert_eq!(&driver.answered, &once);
        prop_assert!(resolved <= usize::from(group));
        driver.wait(1_000 * SECOND);
        prop_assert_eq!(driver.ended, 1);
    }
}
