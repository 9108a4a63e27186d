//! The agent of a one-shot, with the test as its keeper: who has printed, and how often.

use crate::support::wait::DEADLINE;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use procstar::clock::TimePoint;
use procstar::engine::{Captures, Ended, Started, StopPolicy};
use procstar::keeper::format::ProcessEntry;
use procstar::keeper::format::{AgentState, Decoder, Printing, ToAgent, ToKeeper, encode};
use procstar::keeper::meaning::Mode;
use procstar::keeper::{AGAIN, KEEPER_FD};

/// A later agent of `procstar --print`, welcomed.
struct Agent {
    child: Child,
    socket: UnixStream,
    decoder: Decoder,
}

impl Agent {
    fn start(printing: Printing, record: ProcessEntry) -> Agent {
        let (ours, theirs) = UnixStream::pair().unwrap();
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_procstar"))
            .args(["--print", "/nonexistent"])
            .env_clear()
            .env(KEEPER_FD, theirs.as_raw_fd().to_string())
            .env(AGAIN, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        ours.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut agent = Agent { child, socket: ours, decoder: Decoder::default() };
        assert!(matches!(agent.heard(), ToKeeper::Mode(Mode::OneShot)));
        assert!(matches!(agent.heard(), ToKeeper::Hello { input: None, .. }));
        let memory = AgentState { any: true, printing, ..AgentState::default() };
        let (pid, ppid, start) = (7, 6, TimePoint::now());
        let records = vec![record];
        let mut bytes = Vec::new();
        let welcome =
            ToAgent::Welcome { pid, ppid, start, first: false, memory, records, dir: None };
        encode(&welcome, &mut bytes).unwrap();
        agent.socket.write_all(&bytes).unwrap();
        agent
    }

    fn heard(&mut self) -> ToKeeper {
        let mut buf = [0; 4096];
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return message;
            }
            let n = self.socket.read(&mut buf).unwrap();
            assert_ne!(n, 0, "the agent has ended");
            self.decoder.push(&buf[..n]);
        }
    }

    /// What it has remembered of printing until its goodbye, each once, and the code of that.
    fn until_bye(&mut self) -> (Vec<Printing>, u8) {
        let mut noted = Vec::new();
        loop {
            match self.heard() {
                ToKeeper::Remember(AgentState { printing, .. }) => noted.push(printing),
                ToKeeper::Bye { code, .. } => {
                    noted.dedup();
                    return (noted, code);
                }
                _ => {}
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that has ended.
fn ended(id: &str) -> ProcessEntry {
    let captures = Captures::none();
    let start = TimePoint::now();
    let started = Started {
        id: id.into(),
        pid: 41,
        start,
        stat: None,
        statm: None,
        captures,
        policy: StopPolicy::default(),
        resolved: Default::default(),
    };
    let ended = Ended { lost: false, ..Ended::lost(started.clone()) };
    ProcessEntry {
        started: Some(started),
        ended: Some(Box::new(ended)),
        ..ProcessEntry::new(id.into())
    }
}

fn printed(agent: &mut Agent) -> String {
    let mut text = String::new();
    agent.child.stdout.as_mut().unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn printing_is_told_before_and_after() {
    // It does not fit into the pipe, which nobody reads yet: the agent stands in the middle of printing.
    let id = "x".repeat(300_000);
    let mut agent = Agent::start(Printing::NotBegun, ended(&id));
    let begun = loop {
        if let ToKeeper::Remember(memory) = agent.heard()
            && memory.printing != Printing::NotBegun
        {
            break memory.printing;
        }
    };
    assert_eq!(begun, Printing::Begun);
    agent.socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(agent.socket.read(&mut [0]).is_err(), "it is not done");
    agent.socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let text = printed_beside(&mut agent);
    assert_eq!(agent.until_bye(), (vec![Printing::Done], 0));
    assert!(text.join().unwrap().starts_with(&format!("{{\"{id}\":")));
}

/// Reads what is printed on a thread of its own: the agent waits for both.
fn printed_beside(agent: &mut Agent) -> std::thread::JoinHandle<String> {
    let mut stdout = agent.child.stdout.take().unwrap();
    std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        text
    })
}

#[test]
fn what_was_begun_is_printed_again() {
    let mut agent = Agent::start(Printing::Begun, ended("p"));
    assert_eq!(agent.until_bye(), (vec![Printing::Begun, Printing::Done], 0));
    assert!(printed(&mut agent).starts_with("{\"p\":"));
}

#[test]
fn what_was_printed_is_not_printed_again() {
    let mut agent = Agent::start(Printing::Done, ended("p"));
    assert_eq!(agent.until_bye(), (vec![Printing::Done], 0));
    assert_eq!(printed(&mut agent), "");
}
