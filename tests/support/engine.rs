//! An engine in a test, and the events that it sends.
#![allow(dead_code, reason = "each test uses a part")]

use crate::support::wait::DEADLINE;
use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use procstar::engine::{
    CaptureDirs, Captures, Ended, Engine, EngineOptions, Event, Handover, Inherited, Started,
    StopFailure,
};
use procstar::spec::{self, FdName};

/// Default options of tests: short timeouts, no inherited variable except PATH.
pub fn options() -> EngineOptions {
    let path = ("PATH".into(), "/usr/bin:/bin".into());
    EngineOptions {
        capture_dirs: CaptureDirs { files: "".into(), memory: "".into() },
        epoch: 0,
        drain_timeout: Duration::from_millis(300),
        setup_timeout: Duration::from_millis(100),
        restriction: None,
        inherited: Arc::new(Inherited::new([path], &[], [], None)),
        capture_writer: env!("CARGO_BIN_EXE_procstar").into(),
        limit: spec::KeepSpec::default(),
        max_file_size: None,
        gain_privileges: false,
        restore: None,
        share_holdings: false,
        groups: None,
    }
}

/// Restores an engine from the encoded form of a handover.
pub fn resume(options: EngineOptions, handover: &Handover, tell: mpsc::Sender<Event>) -> Engine {
    let bytes = rmp_serde::to_vec_named(handover).unwrap();
    let handover = rmp_serde::from_slice(&bytes).unwrap();
    Engine::resume(options, handover, move |events| {
        // The test may have dropped its receiver.
        events.drain(..).for_each(|event| drop(tell.send(event)));
    })
    .unwrap()
}

/// An engine and the events received so far.
pub struct EngineHarness {
    pub engine: Engine,
    events: mpsc::Receiver<Event>,
    pub started: HashMap<String, Started>,
    pub ended: HashMap<String, Ended>,
    pub signaled: HashMap<u64, std::io::Result<()>>,
    pub stop_failures: Vec<StopFailure>,
    capture_dirs: CaptureDirs,
    /// Directory of the captures, unless the options name another one.
    _dir: tempfile::TempDir,
}

impl EngineHarness {
    pub fn new(mut options: EngineOptions) -> EngineHarness {
        let dir = tempfile::tempdir().unwrap();
        if options.capture_dirs.files.as_os_str().is_empty() {
            options.capture_dirs =
                CaptureDirs { files: dir.path().into(), memory: dir.path().into() };
        }
        let capture_dirs = options.capture_dirs.clone();
        let (tx, events) = mpsc::channel();
        let engine = Engine::start(options, move |event| drop(tx.send(event))).unwrap();
        EngineHarness {
            engine,
            events,
            started: HashMap::new(),
            ended: HashMap::new(),
            signaled: HashMap::new(),
            stop_failures: Vec::new(),
            capture_dirs,
            _dir: dir,
        }
    }

    /// Options of an engine that continues with the captures of this one.
    pub fn options(&self) -> EngineOptions {
        EngineOptions { capture_dirs: self.capture_dirs.clone(), epoch: 1, ..options() }
    }

    /// Restores an engine from the handover of this one, as an upgrade does, and returns it with
    /// its events. This engine stays paused, as if it had been replaced.
    pub fn successor(&self) -> (Engine, mpsc::Receiver<Event>) {
        let (handover, standstill) = self.engine.quiesce(DEADLINE).unwrap();
        std::mem::forget(standstill);
        let (tx, events) = mpsc::channel();
        (resume(self.options(), &handover, tx), events)
    }

    /// This harness with the engine that continues the work of the present one.
    pub fn continued(mut self, engine: Engine, events: mpsc::Receiver<Event>) -> EngineHarness {
        // The present engine stays paused.
        std::mem::forget(std::mem::replace(&mut self.engine, engine));
        self.events = events;
        self
    }

    /// Launches the processes of `{ID: PROC}`.
    pub fn launch(&self, specs: serde_json::Value) {
        let text = serde_json::json!({ "specs": specs }).to_string();
        self.engine.launch(spec::from_json(text.as_bytes()).unwrap());
    }

    /// Receives events until `done` returns true.
    pub fn until(&mut self, what: &str, done: impl Fn(&EngineHarness) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !done(self) {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.events.recv_timeout(left);
            match event.unwrap_or_else(|_| panic!("still waiting for {what}")) {
                Event::Started(started) => {
                    let id = started.id.to_string();
                    assert!(!self.ended.contains_key(&id), "{id} started after its end");
                    assert!(self.started.insert(id, *started).is_none(), "started twice");
                }
                Event::Ended(ended) => {
                    let id = ended.id.to_string();
                    assert!(self.ended.insert(id, *ended).is_none(), "ended twice");
                }
                Event::Signaled { ticket, result, .. } => {
                    self.signaled.insert(ticket, result);
                }
                Event::Suspended { .. } | Event::Held(_) | Event::Released(_) => {}
                Event::StopFailed { failures, .. } => self.stop_failures.extend(failures),
            }
        }
    }

    /// Waits for the end of one process.
    pub fn end(&mut self, id: &str) -> &Ended {
        self.until(&format!("the end of {id}"), |harness| harness.ended.contains_key(id));
        &self.ended[id]
    }

    /// Waits until the engine has processed all requests.
    #[allow(dead_code)]
    pub fn settle(&self) {
        drop(self.engine.quiesce(DEADLINE).ok());
    }

    /// Directories of the captures.
    #[allow(dead_code)]
    pub fn capture_dirs(&self) -> CaptureDirs {
        CaptureDirs { files: self._dir.path().into(), memory: self._dir.path().into() }
    }

    /// Number of files in the capture directory.
    #[allow(dead_code)]
    pub fn files(&self) -> usize {
        std::fs::read_dir(self._dir.path()).unwrap().count()
    }

    pub fn pid(&mut self, id: &str) -> i32 {
        self.until(&format!("the start of {id}"), |harness| harness.started.contains_key(id));
        self.started[id].pid
    }
}

/// Runs one process to its end in a new engine.
pub fn run(proc: serde_json::Value) -> (Ended, EngineHarness) {
    let mut harness = EngineHarness::new(options());
    harness.launch(serde_json::json!({ "a": proc }));
    harness.end("a");
    (harness.ended.remove("a").unwrap(), harness)
}

/// A spec that runs a shell script with these fds.
pub fn sh(script: &str, fds: serde_json::Value) -> serde_json::Value {
    serde_json::json!({"argv": ["/bin/bash", "-c", script], "fds": fds})
}

/// Reads a whole capture.
pub fn output(captures: &Captures, fd: &str) -> Vec<u8> {
    let capture = captures.get(fd.parse::<FdName>().unwrap()).expect("captured");
    let mut bytes = Vec::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match capture.read_at(bytes.len() as u64, &mut piece).unwrap() {
            0 => return bytes,
            n => bytes.extend_from_slice(&piece[..n]),
        }
    }
}

/// Reads a whole capture as text.
pub fn text(ended: &Ended, fd: &str) -> String {
    String::from_utf8(output(&ended.captures, fd)).unwrap()
}

/// Number of open descriptors of this process.
#[allow(dead_code)]
pub fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}
