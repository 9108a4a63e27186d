//! A keeper in a process of its own, whose workers the test plays.
//!
//! Keeper and workers are this test program, run again with [`run_as_child`] as its only test. A fake
//! worker passes bytes between the keeper and the test, and ends when and how the test says: so the
//! test is the worker, and a real process lives and dies for it.

use crate::support::wait::{DEADLINE, eventually};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use procstar::clock::TimePoint;
use procstar::config::LogSettings;
use procstar::engine::Captures;
use procstar::engine::death_points::{self, DeathPoint};
use procstar::keeper::format::ProcessEntry;
use procstar::keeper::format::{
    Decoder, KeeperSettings, Opening, PassedState, SuccessionState, ToKeeper, ToWorker,
    UpgradeState, VERSION, WorkerState, encode,
};
use procstar::keeper::succession::Holder;
use procstar::keeper::{self, LaunchEnvironment, WorkerCommand, descriptors, variables};
use procstar::spec::{FdName, Validated};

/// The variable that names the directory of keeper, fake workers and test.
const DIR_VARIABLE: &str = "PROCSTAR_TEST_DIR";
/// A file in that directory that says how a fake worker ends: `close`, or an exit code.
const WORKER_EXIT: &str = "ending";
/// A socket in that directory, which each fake worker connects to.
const WORKER_SOCKET: &str = "workers.sock";
/// A file in that directory: fake workers become the keeper when that is killed.
const SUCCESSOR: &str = "successor";
/// A shell script in that directory, which is run in the middle of an upgrade or a succession.
const UPGRADE_SCRIPT: &str = "between";

/// Not a test, but the programs that the tests start.
#[test]
fn run_as_child() {
    let Some(dir) = std::env::var_os(DIR_VARIABLE).map(PathBuf::from) else { return };
    if let Ok(fd) = std::env::var(variables::KEEPER_FD) {
        // SAFETY: the keeper has left it open for us.
        let keeper = unsafe { OwnedFd::from_raw_fd(fd.parse().unwrap()) };
        fake_worker(&dir, UnixStream::from(keeper));
    }
    if let Ok(nonce) = std::env::var(variables::NONCE) {
        let state = descriptors::state_file(variables::CHECK_FD, "0").unwrap();
        let state = descriptors::read_state(&state).unwrap();
        // After what the test harness has printed.
        println!("\n{}", keeper::check::answer(&nonce, &state, Ok(())).trim_end());
        std::process::exit(0);
    }
    let workers = || WorkerCommand { exe: this_program(), args: role().map(Into::into).into() };
    if let Ok(number) = std::env::var(variables::SUCCESSION_FD) {
        let between = Command::new("/bin/sh").arg(dir.join(UPGRADE_SCRIPT)).status().unwrap();
        assert!(between.success());
        let mut state = SuccessionState::inherit(&number, &inherited()).unwrap();
        let holdings = state.take_holdings();
        let ended = keeper::succeed(state, holdings, workers()).unwrap();
        std::process::exit(i32::from(ended.code()));
    }
    if let Ok(number) = std::env::var(variables::STATE_FD) {
        // The moment that a test chooses: the keeper before has handed over, and the next one knows of nothing yet.
        let between = Command::new("/bin/sh").arg(dir.join(UPGRADE_SCRIPT)).status().unwrap();
        assert!(between.success());
        let state = UpgradeState::inherit(&number, &[number.parse().unwrap()]).unwrap();
        std::process::exit(i32::from(keeper::resume(state, workers()).unwrap().code()));
    }
    let workers = workers();
    let environment = LaunchEnvironment { start: TimePoint::now(), fds: Vec::new(), nofile: None };
    std::process::exit(i32::from(keeper::keep(environment, workers).unwrap().code()));
}

fn this_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

fn role() -> [&'static str; 3] {
    ["harness::run_as_child", "--exact", "--nocapture"]
}

fn fake_worker(dir: &Path, mut keeper: UnixStream) -> ! {
    let mut test = UnixStream::connect(dir.join(WORKER_SOCKET)).unwrap();
    let again = u8::from(std::env::var_os(variables::AGAIN).is_some());
    test.write_all(&std::process::id().to_be_bytes()).unwrap();
    test.write_all(&[again]).unwrap();
    let (from_keeper, to_test) = (keeper.try_clone().unwrap(), test.try_clone().unwrap());
    let succeeds = dir.join(SUCCESSOR);
    std::thread::spawn(move || hold(&from_keeper, to_test, &succeeds));
    let _ = std::io::copy(&mut test, &mut keeper);
    let ending = dir.join(WORKER_EXIT);
    let what = std::fs::read_to_string(&ending);
    // The next one ends in its own way.
    let _ = std::fs::remove_file(ending);
    match what.as_deref() {
        Ok("close") => {
            keeper.shutdown(std::net::Shutdown::Both).unwrap();
            loop {
                std::thread::park();
            }
        }
        Ok(code) => std::process::exit(code.parse().unwrap()),
        Err(_) => std::process::exit(0),
    }
}

/// Passes the keeper's bytes to the test, and holds descriptors meanwhile. Once the keeper is gone,
/// becomes the keeper if the file `succeeds` is there.
fn hold(from_keeper: &UnixStream, mut to_test: UnixStream, succeeds: &Path) {
    let (mut holder, mut decoder) = (Holder::default(), Decoder::default());
    let mut buf = vec![0; 1 << 16];
    while let Ok(received) =
        descriptors::receive_with(from_keeper.as_fd(), &mut buf, holder.received())
        && received.bytes > 0
    {
        decoder.push(&buf[..received.bytes]);
        while let Some(message) = decoder.next_message().unwrap() {
            if let Some(ToWorker::Order(order)) = holder.take(message) {
                holder.note_order(order);
            }
        }
        if to_test.write_all(&buf[..received.bytes]).is_err() {
            break;
        }
    }
    if succeeds.exists() {
        eprintln!("no succession: {}", holder.succeed());
    }
    // Whatever ends it: the test sees the end of the stream.
    let _ = to_test.shutdown(std::net::Shutdown::Write);
}

/// The descriptors from 3 up that this process was started with, close-on-exec from now on.
fn inherited() -> Vec<i32> {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let fds: Vec<i32> =
        open.flatten().filter_map(|one| one.file_name().to_str()?.parse().ok()).collect();
    fds.into_iter().filter(|fd| *fd > 2 && descriptors::close_on_exec(*fd)).collect()
}

/// A keeper.
pub struct TestKeeper {
    pub dir: tempfile::TempDir,
    workers: UnixListener,
    keeper: Child,
    /// The worker that has become the keeper.
    successor: Option<Pid>,
    /// Settings that the workers bring.
    pub settings: KeeperSettings,
    pub opening: Opening,
}

impl TestKeeper {
    pub fn new() -> TestKeeper {
        let dir = tempfile::tempdir().unwrap();
        let workers = UnixListener::bind(dir.path().join(WORKER_SOCKET)).unwrap();
        let settings = KeeperSettings {
            state_dir: None,
            base_dir: dir.path().join("tmp"),
            conn_id: None,
            drain_timeout: Duration::from_millis(300),
            setup_timeout: Duration::from_millis(100),
            allowed: Default::default(),
            limits: Default::default(),
            log: LogSettings::default(),
        };
        std::fs::create_dir(&settings.base_dir).unwrap();
        let opening = Opening { registries: vec![dir.path().join("run")], ..Opening::default() };
        let keeper = start_keeper(dir.path());
        TestKeeper { dir, workers, keeper, successor: None, settings, opening }
    }

    /// One whose directory outlasts it.
    pub fn with_state_dir() -> TestKeeper {
        let mut keeper = TestKeeper::new();
        keeper.settings.state_dir = Some(keeper.dir.path().join("state"));
        keeper
    }

    /// Kills the keeper, and starts another; workers of the old one end.
    pub fn restart_keeper(&mut self) {
        self.keeper.kill().unwrap();
        self.keeper.wait().unwrap();
        self.keeper = start_keeper(self.dir.path());
    }

    /// Kills the keeper; its worker becomes the keeper. In the middle, a shell script is run.
    pub fn succeed(&mut self, worker: &Worker, between: &str) {
        if let Some(before) = self.successor.replace(worker.pid) {
            kill(before, Signal::SIGKILL).unwrap();
        }
        std::fs::write(self.dir.path().join(UPGRADE_SCRIPT), between).unwrap();
        self.let_worker_succeed();
        // It has ended long since, after the second time.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }

    /// Lets the worker become the keeper when that has died.
    pub fn let_worker_succeed(&self) {
        std::fs::write(self.dir.path().join(SUCCESSOR), "").unwrap();
    }

    /// Lets the process that reaches this point die there; returns the file that is then removed.
    pub fn arm(&self, point: DeathPoint) -> PathBuf {
        let file = self.dir.path().join(point.name());
        std::fs::write(&file, "").unwrap();
        file
    }

    pub fn pid(&self) -> u32 {
        self.keeper.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    /// Has the keeper upgrade itself to this same program. In the middle, a shell script is run.
    pub fn upgrade(&self, between: &str) {
        std::fs::write(self.dir.path().join(UPGRADE_SCRIPT), between).unwrap();
        self.signal(Signal::SIGHUP);
    }

    /// The next worker that the keeper starts.
    pub fn worker(&self) -> Worker {
        let mut fds = [PollFd::new(self.workers.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::try_from(DEADLINE).unwrap()).unwrap();
        assert_eq!(ready, 1, "no worker is started; {}", self.log());
        let (mut socket, _) = self.workers.accept().unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut pid = [0; 4];
        let mut again = [0];
        socket.read_exact(&mut pid).unwrap();
        socket.read_exact(&mut again).unwrap();
        Worker {
            pid: Pid::from_raw(u32::from_be_bytes(pid) as i32),
            again: again == [1],
            socket,
            decoder: Decoder::default(),
            settings: self.settings.clone(),
            opening: self.opening.clone(),
            ending: self.dir.path().join(WORKER_EXIT),
        }
    }

    /// The next worker, introduced.
    pub fn welcomed(&self) -> (Worker, Welcome) {
        let mut worker = self.worker();
        let welcome = worker.hello(None);
        (worker, welcome)
    }

    /// The keeper's exit code.
    pub fn ended(&mut self) -> Option<i32> {
        eventually("the keeper's end", || self.keeper.try_wait().unwrap()).code()
    }

    /// The number of entries left in the parents of instances' directories.
    pub fn remains(&self) -> usize {
        let uid = nix::unistd::geteuid();
        let user = self.settings.base_dir.join(format!("procstar-{uid}"));
        std::fs::read_dir(user).map_or(0, Iterator::count)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

fn start_keeper(dir: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
    // The harness's other thread is not to die of the keeper's signals: the mask is inherited.
    let mask = SigSet::thread_get_mask().unwrap();
    SigSet::all().thread_block().unwrap();
    let keeper = Command::new(this_program())
        .args(role())
        .env(DIR_VARIABLE, dir)
        .env(death_points::VARIABLE, dir)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn();
    mask.thread_set_mask().unwrap();
    keeper.unwrap()
}

impl Drop for TestKeeper {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the keeper's log:\n{}", self.log());
        }
        // They may have ended.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        let _ = self.successor.map(|pid| kill(pid, Signal::SIGKILL));
        // A killed one leaves this to a sweep of a directory that is about to go.
        let memory = format!("/dev/shm/procstar-{}", nix::unistd::geteuid());
        for dir in std::fs::read_dir(memory).into_iter().flatten().flatten() {
            if dir.file_name().to_string_lossy().starts_with(&format!("{}-", self.pid())) {
                let _ = std::fs::remove_dir_all(dir.path());
            }
        }
    }
}

/// What the keeper says to a worker that introduces itself.
pub struct Welcome {
    pub pid: u32,
    pub ppid: u32,
    pub first: bool,
    pub memory: WorkerState,
    pub records: Vec<ProcessEntry>,
    pub dir: Option<PathBuf>,
}

impl Welcome {
    /// `id: launched`, `id: running` or `id: ended STATUS` of each record.
    pub fn brief(&self) -> Vec<String> {
        self.records
            .iter()
            .map(|record| match (&record.started, &record.ended) {
                (_, Some(ended)) if ended.lost => format!("{}: lost", record.id),
                (_, Some(ended)) => format!("{}: ended {}", record.id, ended.status),
                (Some(_), None) => format!("{}: running", record.id),
                (None, None) => format!("{}: launched", record.id),
            })
            .collect()
    }
}

/// A worker that the keeper has started.
pub struct Worker {
    pub pid: Pid,
    /// Whether it was told that it is not the first.
    pub again: bool,
    socket: UnixStream,
    decoder: Decoder,
    settings: KeeperSettings,
    opening: Opening,
    ending: PathBuf,
}

impl Worker {
    pub fn raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    pub fn tell(&mut self, message: &ToKeeper) {
        self.raw(&frame(message));
    }

    pub fn greeting(&self, version: u32, input: Option<Validated>) -> ToKeeper {
        ToKeeper::Hello {
            version,
            settings: Box::new(self.settings.clone()),
            opening: Box::new(self.opening.clone()),
            input,
        }
    }

    /// Introduces itself.
    pub fn hello(&mut self, input: Option<Validated>) -> Welcome {
        self.tell(&self.greeting(VERSION, input));
        match self.next() {
            ToWorker::Welcome { pid, ppid, first, memory, records, start: _, dir } => {
                Welcome { pid, ppid, first, memory, records, dir }
            }
            other => panic!("no welcome but {}", brief(&other)),
        }
    }

    pub fn launch(&mut self, specs: serde_json::Value) {
        self.tell(&ToKeeper::Launch(request(specs)));
    }

    pub fn launch_acknowledged(&mut self, specs: serde_json::Value, ticket: u64) {
        self.tell(&ToKeeper::LaunchAcknowledged { request: request(specs), ticket });
    }

    /// Waits until the keeper has handled all messages sent so far. No other message may arrive
    /// meanwhile.
    pub fn heard(&mut self) {
        self.tell(&ToKeeper::Signal { id: "nobody".into(), signum: 1, ticket: 0 });
        assert_eq!(brief(&self.next()), format!("signaled nobody 0 {}", libc::ESRCH));
    }

    /// Has an ended process forgotten, and returns when it is.
    pub fn forget(&mut self, id: &str) {
        self.tell(&ToKeeper::Forget(id.into()));
        self.until(&format!("forgotten {id}"));
    }

    /// The next message; `None` at the end of the stream.
    pub fn try_next(&mut self) -> Option<ToWorker> {
        let mut buf = vec![0; 1 << 16];
        loop {
            match self.decoder.next_message().unwrap() {
                // The fake worker has taken these, with their descriptors.
                Some(ToWorker::Estate(_) | ToWorker::Held(_) | ToWorker::Released(_)) => continue,
                Some(message) => return Some(message),
                None => {}
            }
            match self.socket.read(&mut buf) {
                Ok(0) => return None,
                Ok(n) => self.decoder.push(&buf[..n]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("still waiting for a message: {error}"),
            }
        }
    }

    pub fn next(&mut self) -> ToWorker {
        self.try_next().expect("a message, not the end")
    }

    /// The next messages in short, until one is this.
    pub fn until(&mut self, last: &str) -> Vec<String> {
        let mut told = Vec::new();
        while told.last().is_none_or(|message| message != last) {
            told.push(brief(&self.next()));
        }
        told
    }

    /// The captures that come with the next event.
    pub fn next_captures(&mut self) -> std::sync::Arc<Captures> {
        match self.next() {
            ToWorker::Started(started) => started.captures,
            ToWorker::Ended(ended) => ended.captures,
            other => panic!("no event of a process but {}", brief(&other)),
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).unwrap();
    }

    /// Dies without a goodbye.
    pub fn die(self) {
        self.signal(Signal::SIGKILL);
    }

    /// Ends in order, after all its messages.
    pub fn exit(self, code: i32) {
        std::fs::write(&self.ending, code.to_string()).unwrap();
    }

    /// Closes its socket, and lives on.
    pub fn close(self) {
        std::fs::write(&self.ending, "close").unwrap();
    }

    pub fn bye(mut self, code: u8) {
        self.tell(&ToKeeper::Bye { code, signal: None });
        self.exit(0);
    }
}

pub fn frame(message: &ToKeeper) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(message, &mut bytes).unwrap();
    bytes
}

/// A message in short.
pub fn brief(message: &ToWorker) -> String {
    match message {
        ToWorker::Welcome { .. } => "welcome".into(),
        ToWorker::Refused { message } => format!("refused: {message}"),
        ToWorker::Started(started) => format!("started {}", started.id),
        ToWorker::Ended(ended) => format!("ended {} {}", ended.id, ended.status),
        ToWorker::Signaled { id, ticket, errno } => {
            format!("signaled {id} {ticket} {}", errno.unwrap_or(0))
        }
        ToWorker::Order(order) => format!("order {order:?}"),
        ToWorker::Forgotten(id) => format!("forgotten {id}"),
        ToWorker::StopFailed { id, .. } => format!("stop failed {id}"),
        ToWorker::Estate(_) => "estate".into(),
        ToWorker::Held(holding) => format!("held {}", holding.id),
        ToWorker::Released(id) => format!("released {id}"),
        ToWorker::Accepted { ticket, acceptance } => format!("accepted {ticket} {acceptance:?}"),
    }
}

pub fn request(specs: serde_json::Value) -> Validated {
    let text = serde_json::json!({ "specs": specs }).to_string();
    procstar::spec::from_json(text.as_bytes()).unwrap()
}

/// A shell command as a spec, its output captured.
pub fn sh(script: &str) -> serde_json::Value {
    captured(script, "tempfile")
}

pub fn captured(script: &str, mode: &str) -> serde_json::Value {
    serde_json::json!({
        "argv": ["/bin/sh", "-c", script],
        "fds": [["stdin", {"null": {}}], ["stdout", {"capture": {"mode": mode}}]],
    })
}

/// A process that waits until a file is there, or, should the test fail, for half a minute.
pub fn until_exists(path: &Path, then: &str) -> serde_json::Value {
    let path = path.display();
    sh(&format!("for _ in $(seq 3000); do [ -e {path} ] && break; sleep 0.01; done; {then}"))
}

/// The captured standard output.
pub fn stdout(captures: &Captures) -> String {
    let capture = captures.get("stdout".parse::<FdName>().unwrap()).unwrap();
    let mut bytes = vec![0; capture.len() as usize + 1];
    let n = capture.read_at(0, &mut bytes).unwrap();
    String::from_utf8(bytes[..n].to_vec()).unwrap()
}
