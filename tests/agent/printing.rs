//! The worker of a one-shot, with the test as its keeper: which worker prints, and how often.

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
use procstar::keeper::format::{Decoder, Printing, ToKeeper, ToWorker, WorkerState, encode};
use procstar::keeper::meaning::Mode;
use procstar::keeper::variables::{AGAIN, KEEPER_FD};

/// A later worker of `procstar --print`, welcomed.
struct Worker {
    child: Child,
    socket: UnixStream,
    decoder: Decoder,
}

impl Worker {
    fn start(printing: Printing, record: ProcessEntry) -> Worker {
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
        let mut worker = Worker { child, socket: ours, decoder: Decoder::default() };
        assert!(matches!(worker.heard(), ToKeeper::Mode(Mode::OneShot)));
        assert!(matches!(worker.heard(), ToKeeper::Hello { input: None, .. }));
        let memory = WorkerState { any: true, printing, ..WorkerState::default() };
        let (pid, ppid, start) = (7, 6, TimePoint::now());
        let records = vec![record];
        let mut bytes = Vec::new();
        let welcome =
            ToWorker::Welcome { pid, ppid, start, first: false, memory, records, dir: None };
        encode(&welcome, &mut bytes).unwrap();
        worker.socket.write_all(&bytes).unwrap();
        worker
    }

    fn heard(&mut self) -> ToKeeper {
        let mut buf = [0; 4096];
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return message;
            }
            let n = self.socket.read(&mut buf).unwrap();
            assert_ne!(n, 0, "the worker has ended");
            self.decoder.push(&buf[..n]);
        }
    }

    /// What it has remembered of printing until its goodbye, each once, and the code of that.
    fn until_bye(&mut self) -> (Vec<Printing>, u8) {
        let mut noted = Vec::new();
        loop {
            match self.heard() {
                ToKeeper::Remember(WorkerState { printing, .. }) => noted.push(printing),
                ToKeeper::Bye { code, .. } => {
                    noted.dedup();
                    return (noted, code);
                }
                _ => {}
            }
        }
    }
}

impl Drop for Worker {
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

fn printed(worker: &mut Worker) -> String {
    let mut text = String::new();
    worker.child.stdout.as_mut().unwrap().read_to_string(&mut text).unwrap();
    text
}

#[test]
fn printing_is_reported_before_and_after() {
    // It does not fit into the pipe, which nobody reads yet: the worker stands in the middle of printing.
    let id = "x".repeat(300_000);
    let mut worker = Worker::start(Printing::NotBegun, ended(&id));
    let begun = loop {
        if let ToKeeper::Remember(memory) = worker.heard()
            && memory.printing != Printing::NotBegun
        {
            break memory.printing;
        }
    };
    assert_eq!(begun, Printing::Begun);
    worker.socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(worker.socket.read(&mut [0]).is_err(), "it is not done");
    worker.socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let text = printed_beside(&mut worker);
    assert_eq!(worker.until_bye(), (vec![Printing::Done], 0));
    assert!(text.join().unwrap().starts_with(&format!("{{\"{id}\":")));
}

/// Reads what is printed on a thread of its own: the worker waits for both.
fn printed_beside(worker: &mut Worker) -> std::thread::JoinHandle<String> {
    let mut stdout = worker.child.stdout.take().unwrap();
    std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        text
    })
}

#[test]
fn interrupted_printing_is_repeated() {
    let mut worker = Worker::start(Printing::Begun, ended("p"));
    assert_eq!(worker.until_bye(), (vec![Printing::Begun, Printing::Done], 0));
    assert!(printed(&mut worker).starts_with("{\"p\":"));
}

#[test]
fn printed_results_are_not_printed_again() {
    let mut worker = Worker::start(Printing::Done, ended("p"));
    assert_eq!(worker.until_bye(), (vec![Printing::Done], 0));
    assert_eq!(printed(&mut worker), "");
}
