//! The worker of a one-shot, with the test as its keeper: which worker prints the results, and how
//! often.

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

/// A restarted worker of `procstar --print` that has received `Welcome`.
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
        assert!(matches!(worker.received(), ToKeeper::Mode(Mode::OneShot)));
        assert!(matches!(worker.received(), ToKeeper::Hello { input: None, .. }));
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

    fn received(&mut self) -> ToKeeper {
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

    /// The states of printing that the worker reports until `Bye`, without repetitions, and the
    /// exit code in `Bye`.
    fn until_bye(&mut self) -> (Vec<Printing>, u8) {
        let mut reported = Vec::new();
        loop {
            match self.received() {
                ToKeeper::Remember(WorkerState { printing, .. }) => reported.push(printing),
                ToKeeper::Bye { code, .. } => {
                    reported.dedup();
                    return (reported, code);
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

/// The keeper's entry of an ended process.
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
        group: None,
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
fn the_worker_reports_the_begin_and_the_end_of_printing() {
    // The results do not fit into the pipe, which nobody reads yet: the worker blocks in printing.
    let id = "x".repeat(300_000);
    let mut worker = Worker::start(Printing::NotBegun, ended(&id));
    let begun = loop {
        if let ToKeeper::Remember(memory) = worker.received()
            && memory.printing != Printing::NotBegun
        {
            break memory.printing;
        }
    };
    assert_eq!(begun, Printing::Begun);
    worker.socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(worker.socket.read(&mut [0]).is_err(), "printing is not done yet");
    worker.socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let text = printed_beside(&mut worker);
    assert_eq!(worker.until_bye(), (vec![Printing::Done], 0));
    assert!(text.join().unwrap().starts_with(&format!("{{\"{id}\":")));
}

/// Reads the standard output in a thread: the worker waits for this reader and for its keeper.
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
