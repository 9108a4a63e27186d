//! Random events in random order: the messages on one connection stay consistent.

use std::collections::HashMap;

use procstar::actors::messages::Delete;
use proptest::prelude::*;
use tokio::time::timeout;

use super::harness::*;
use super::mock_scheduler::*;

const IDS: [&str; 3] = ["a", "b", "c"];

/// One step of a scenario. The number is an index into [`IDS`].
#[derive(Clone, Copy, Debug)]
enum Act {
    /// The scheduler requests a start, which fails while the process exists.
    Start(usize),
    /// Another client requests a start.
    StartElsewhere(usize),
    /// The engine sends the next event of the process, if any.
    Next(usize),
    /// The engine reports a failed start.
    Fail(usize),
    /// The scheduler requests a deletion.
    Delete(usize),
    /// Another client requests a deletion.
    DeleteElsewhere(usize),
    /// The scheduler requests the result.
    Ask(usize),
    /// The scheduler sends a signal to the process.
    Signal(usize),
    /// The scheduler reads all its messages.
    Listen,
    /// All actors run until they are idle.
    Settle,
    /// The connection breaks.
    Lose,
}

fn act() -> impl Strategy<Value = Act> {
    let id = 0..IDS.len();
    prop_oneof![
        3 => id.clone().prop_map(Act::Start),
        1 => id.clone().prop_map(Act::StartElsewhere),
        6 => id.clone().prop_map(Act::Next),
        1 => id.clone().prop_map(Act::Fail),
        3 => id.clone().prop_map(Act::Delete),
        1 => id.clone().prop_map(Act::DeleteElsewhere),
        3 => id.clone().prop_map(Act::Ask),
        1 => id.prop_map(Act::Signal),
        2 => Just(Act::Listen),
        4 => Just(Act::Settle),
        1 => Just(Act::Lose),
    ]
}

/// The scheduler's view of the processes, built from the messages it receives.
#[derive(Default)]
struct Ledger {
    known: HashMap<String, Known>,
    /// Result requests that may still be answered. Requests for a missing process may never be.
    asked: HashMap<String, usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Running,
    Ended,
    /// Its start failed, and the first of the two results has been received.
    Failing,
    Gone,
}

impl Ledger {
    /// The view after a registration, which must list exactly the existing processes.
    fn of(register: &str, truths: &[Truth]) -> Ledger {
        let mut ids: Vec<&str> = register.split_whitespace().collect();
        let mut known = HashMap::new();
        for (id, truth) in IDS.iter().zip(truths) {
            let there = ids.iter().position(|registered| registered == id).map(|i| ids.remove(i));
            assert_eq!(
                there.is_some(),
                *truth != Truth::Absent,
                "{register} where it is {truth:?}"
            );
            match truth {
                // The start of a launched process is reported after the registration.
                Truth::Absent | Truth::Launched => {}
                Truth::Running => drop(known.insert((*id).to_owned(), Known::Running)),
                Truth::Ended => drop(known.insert((*id).to_owned(), Known::Ended)),
            }
        }
        assert_eq!(ids, ["Register", "active"]);
        Ledger { known, asked: HashMap::new() }
    }

    /// Applies a message. Returns an error if it contradicts the messages before it.
    fn take(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [kind, id, rest @ ..] = words.as_slice() else { return Ok(()) };
        if *kind == "RequestError" {
            return Ok(());
        }
        let before = self.known.get(*id).copied();
        let asked = self.asked.entry((*id).to_owned()).or_default();
        let after = match (*kind, before, rest.first().copied()) {
            ("ProcResult", None | Some(Known::Gone), Some("running")) => Known::Running,
            ("ProcResult", None | Some(Known::Gone), Some("error")) => Known::Failing,
            ("ProcResult", Some(Known::Failing), Some("error")) => Known::Ended,
            ("ProcResult", Some(Known::Running), Some("terminated")) => Known::Ended,
            ("ProcResult", Some(same @ Known::Running), Some("running"))
            | ("ProcResult", Some(same @ Known::Ended), Some("terminated" | "error"))
                if *asked > 0 =>
            {
                *asked -= 1;
                same
            }
            ("ProcUnknown", None, _) => Known::Gone,
            ("ProcDelete", Some(Known::Ended), _) => Known::Gone,
            _ => return Err(format!("{line}, known as {before:?}, {asked} times asked")),
        };
        self.known.insert((*id).to_owned(), after);
        Ok(())
    }
}

/// The true state of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    Absent,
    /// Launched, with no event from the engine yet.
    Launched,
    Running,
    Ended,
}

struct Scenario {
    agent: Agent,
    scheduler: Scheduler,
    ledger: Ledger,
}

impl Scenario {
    /// Sends the engine's next event for the process. `fail` makes a launched one fail.
    fn next(&self, truth: &mut Truth, id: &str, fail: bool) {
        match (*truth, fail) {
            (Truth::Launched, true) => {
                self.agent.tell(failed(id));
                *truth = Truth::Ended;
            }
            (Truth::Launched, false) => {
                self.agent.tell(started(id));
                *truth = Truth::Running;
            }
            (Truth::Running, false) => {
                self.agent.tell(ended(id, 0));
                *truth = Truth::Ended;
            }
            _ => {}
        }
    }

    /// Updates the true states from the commands that the engine received.
    fn look(&self, truths: &mut [Truth]) {
        for call in self.agent.supervised.engine.calls() {
            let (ids, truth) = match call {
                Call::Launch(ids) => (ids, Truth::Launched),
                Call::Forget(id) => (vec![id], Truth::Absent),
                Call::Signal(..) | Call::Stop(..) => continue,
            };
            for id in ids {
                truths[IDS.iter().position(|known| *known == id).unwrap()] = truth;
            }
        }
    }

    /// Makes room in the agent's request queue, which is full while the agent waits for a start or
    /// for the scheduler to read.
    async fn make_room(&mut self, truths: &mut [Truth]) -> Result<(), TestCaseError> {
        while self.scheduler.to_agent.capacity() == 0 {
            self.listen().await?;
            self.look(truths);
            for (id, truth) in IDS.iter().zip(truths.iter_mut()) {
                if *truth == Truth::Launched {
                    self.next(truth, id, false);
                }
            }
            settle().await;
        }
        Ok(())
    }

    async fn listen(&mut self) -> Result<(), TestCaseError> {
        for line in self.scheduler.heard().await {
            self.ledger.take(&line).map_err(TestCaseError::fail)?;
        }
        Ok(())
    }

    async fn reconnect(self, truths: &mut [Truth]) -> Scenario {
        let Scenario { mut agent, scheduler, .. } = self;
        scheduler.lose().await;
        let mut scheduler = agent.scheduler().await;
        let register = scheduler.welcome().await;
        let mut scenario = Scenario { agent, scheduler, ledger: Ledger::default() };
        scenario.look(truths);
        scenario.ledger = Ledger::of(&register, truths);
        scenario
    }

    async fn ask(&mut self, id: &str) {
        *self.ledger.asked.entry(id.to_owned()).or_default() += 1;
        self.scheduler.ask("ProcResultRequest", id).await;
    }
}

async fn play(acts: Vec<Act>) -> Result<(), TestCaseError> {
    let mut agent = Agent::with_manual_starts(options());
    let mut scheduler = agent.scheduler().await;
    scheduler.welcome().await;
    let mut scenario = Scenario { agent, scheduler, ledger: Ledger::default() };
    let mut truths = [Truth::Absent; IDS.len()];
    for act in acts {
        scenario.look(&mut truths);
        scenario.make_room(&mut truths).await?;
        match act {
            Act::Start(i) => scenario.scheduler.start(&[IDS[i]]).await,
            Act::StartElsewhere(i) => {
                scenario.agent.supervised.supervisor.do_send(request(&[IDS[i]]));
            }
            Act::Next(i) => scenario.next(&mut truths[i], IDS[i], false),
            Act::Fail(i) => scenario.next(&mut truths[i], IDS[i], true),
            Act::Delete(i) => scenario.scheduler.ask("ProcDeleteRequest", IDS[i]).await,
            Act::DeleteElsewhere(i) => {
                scenario.agent.supervised.supervisor.do_send(Delete(IDS[i].into()));
            }
            Act::Ask(i) => scenario.ask(IDS[i]).await,
            Act::Signal(i) => {
                let signal = serde_json::json!({"type": "ProcSignalRequest", "proc_id": IDS[i], "signum": 1});
                scenario.scheduler.say(signal).await;
            }
            Act::Listen => scenario.listen().await?,
            Act::Settle => settle().await,
            Act::Lose => scenario = scenario.reconnect(&mut truths).await,
        }
    }
    finish(scenario, truths).await
}

/// Ends every process, and compares the scheduler's view with the truth.
async fn finish(
    mut scenario: Scenario,
    mut truths: [Truth; IDS.len()],
) -> Result<(), TestCaseError> {
    for _ in 0..4 {
        scenario.listen().await?;
        settle().await;
        scenario.look(&mut truths);
        for (i, id) in IDS.iter().enumerate() {
            scenario.next(&mut truths[i], id, false);
        }
    }
    scenario.listen().await?;
    for (id, truth) in IDS.iter().zip(truths) {
        let known = scenario.ledger.known.get(*id).copied();
        let right = match truth {
            Truth::Absent => matches!(known, None | Some(Known::Gone)),
            Truth::Ended => matches!(known, Some(Known::Ended)),
            Truth::Launched | Truth::Running => false,
        };
        prop_assert!(right, "{} is {:?}, known as {:?}", id, truth, known);
        if truth == Truth::Ended {
            let before = scenario.ledger.asked.get(*id).copied().unwrap_or_default();
            scenario.ask(id).await;
            scenario.listen().await?;
            prop_assert_eq!(scenario.ledger.asked[*id], before, "an answer is missing");
        }
    }
    prop_assert!(
        timeout(secs(1), scenario.scheduler.from_agent.next()).await.is_err(),
        "nothing more is said"
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// For each process, one connection receives at most one unrequested start and one end, in that
    /// order, and nothing after its deletion. In the end its view is correct, and every request is
    /// answered.
    #[test]
    fn messages_on_one_connection_are_consistent(
        acts in prop::collection::vec(act(), 1..60),
    ) {
        actix::System::new().block_on(play(acts))?;
    }
}
