//! An engine in another process is killed, and the engine of the second holder continues.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
#[cfg(debug_assertions)]
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::sys::stat::fstat;
#[cfg(debug_assertions)]
use procstar::engine::death_points::DeathPoint;
use procstar::engine::{
    CaptureDirs, Ended, Engine, EngineOptions, Event, HeldCapture, HeldWriter, Holding, Started,
    death_points,
};
use procstar::spec;
use serde_json::{Value, json};

use crate::support::engine::{options, output, sh};
use crate::support::wait::{DEADLINE, eventually};

/// The variable with the socket of the engine to be killed.
const SOCKET: &str = "PROCSTAR_TEST_SOCKET";
/// The variable with the directory of its captures.
const DIR: &str = "PROCSTAR_TEST_DIR";

fn options_in(dir: &std::path::Path) -> EngineOptions {
    let capture_dirs = CaptureDirs { files: dir.into(), memory: dir.into() };
    EngineOptions { capture_dirs, share_holdings: true, ..options() }
}

/// The program of the engine that is killed: it starts the processes of its first message, and
/// sends their holdings and starts.
#[test]
#[ignore = "a part of other tests"]
fn the_engine_that_is_killed() {
    let Ok(fd) = std::env::var(SOCKET) else { return };
    // SAFETY: the parent has left this descriptor open for this test alone.
    let socket = unsafe { UnixStream::from_raw_fd(fd.parse().unwrap()) };
    set_cloexec(&socket, true);
    let dir = std::env::var_os(DIR).unwrap();
    let mut specs = Vec::new();
    let mut other = socket.try_clone().unwrap();
    other.read_to_end(&mut specs).unwrap();
    let engine = Engine::start(options_in(dir.as_ref()), move |event| match event {
        Event::Held(holding) => send_holding(&socket, &holding),
        Event::Started(started) => send(&socket, &Message::Started(started), &[]),
        Event::Ended(ended) => send(&socket, &Message::Ended(ended.id.to_string()), &[]),
        Event::Released(id) => send(&socket, &Message::Released(id.to_string()), &[]),
        _ => {}
    })
    .unwrap();
    engine.launch(spec::from_json(&specs).unwrap());
    std::thread::sleep(DEADLINE * 2);
}

fn set_cloexec(socket: &UnixStream, close: bool) {
    let flags = if close { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
    fcntl(socket, FcntlArg::F_SETFD(flags)).unwrap();
}

#[derive(serde::Serialize, serde::Deserialize)]
enum Message {
    /// Each capture: its index, the pid of its writer, and whether its file comes too.
    Held {
        id: String,
        pidfd: bool,
        captures: Vec<(usize, Option<i32>, bool)>,
    },
    Started(Box<Started>),
    Ended(String),
    Released(String),
}

fn send_holding(socket: &UnixStream, holding: &Holding) {
    let mut fds: Vec<RawFd> = holding.pidfd.iter().map(AsRawFd::as_raw_fd).collect();
    let mut captures = Vec::new();
    for HeldCapture { index, reader, writer, file } in &holding.captures {
        fds.push(reader.as_raw_fd());
        fds.extend(writer.iter().map(|writer| writer.pidfd.as_raw_fd()));
        fds.extend(file.iter().map(AsRawFd::as_raw_fd));
        captures.push((*index, writer.as_ref().map(|writer| writer.pid), file.is_some()));
    }
    let (id, pidfd) = (holding.id.to_string(), holding.pidfd.is_some());
    send(socket, &Message::Held { id, pidfd, captures }, &fds);
}

fn send(mut socket: &UnixStream, message: &Message, fds: &[RawFd]) {
    let bytes = rmp_serde::to_vec_named(message).unwrap();
    let length = (bytes.len() as u32).to_le_bytes();
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
    let parts = [IoSlice::new(&length)];
    sendmsg::<()>(socket.as_raw_fd(), &parts, rights, MsgFlags::empty(), None).unwrap();
    socket.write_all(&bytes).unwrap();
}

/// Receives a message; `None` at the end of the stream.
fn receive(mut socket: &UnixStream) -> Option<(Message, Vec<OwnedFd>)> {
    let mut length = [0; 4];
    let mut space = nix::cmsg_space!([RawFd; 64]);
    let mut fds = Vec::new();
    let mut parts = [IoSliceMut::new(&mut length)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let got = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags).ok()?;
    for control in got.cmsgs().unwrap() {
        if let ControlMessageOwned::ScmRights(received) = control {
            // SAFETY: the kernel has just given us these descriptors.
            fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    if got.bytes < 4 {
        return None;
    }
    let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
    socket.read_exact(&mut bytes).ok()?;
    Some((rmp_serde::from_slice(&bytes).unwrap(), fds))
}

/// The second holder of an engine in another process.
struct Holder {
    engine: Child,
    socket: UnixStream,
    dir: tempfile::TempDir,
    /// The directory of [`death_points`].
    deaths: tempfile::TempDir,
    holdings: Vec<Holding>,
    started: Vec<Started>,
    ended: Vec<String>,
    released: Vec<String>,
}

impl Holder {
    /// Launches the processes in an engine that is about to be killed, or to die where
    /// [`die_at`](Self::die_at) says.
    fn launch(specs: &Value) -> Holder {
        let (dir, deaths) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (socket, theirs) = UnixStream::pair().unwrap();
        let fd = theirs.as_raw_fd();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["holdings::the_engine_that_is_killed", "--exact", "--ignored", "--nocapture"])
            .env(SOCKET, fd.to_string())
            .env(DIR, dir.path())
            .env(death_points::VARIABLE, deaths.path())
            .stdout(std::process::Stdio::null());
        set_cloexec(&theirs, false);
        let engine = command.spawn().unwrap();
        drop(theirs);
        let text = json!({ "specs": specs }).to_string();
        (&socket).write_all(text.as_bytes()).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let (holdings, started, ended, released) = Default::default();
        Holder { engine, socket, dir, deaths, holdings, started, ended, released }
    }

    /// Lets the engine die at this point from now on.
    #[cfg(debug_assertions)]
    fn die_at(&self, point: DeathPoint) {
        std::fs::write(self.deaths.path().join(point.name()), "").unwrap();
    }

    /// Waits for the engine's death at this point.
    #[cfg(debug_assertions)]
    fn await_death(&mut self, point: DeathPoint) {
        self.until(|_| false);
        assert_eq!(self.engine.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(!self.deaths.path().join(point.name()).exists());
    }

    /// Receives until `done`, or to the end of the stream.
    fn until(&mut self, done: impl Fn(&Holder) -> bool) {
        while !done(self) {
            let Some((message, fds)) = receive(&self.socket) else { return };
            let mut fds = fds.into_iter();
            match message {
                Message::Held { id, pidfd, captures } => {
                    let pidfd = pidfd.then(|| fds.next().unwrap());
                    let captures = captures.into_iter().map(|(index, writer, file)| HeldCapture {
                        index,
                        reader: fds.next().unwrap(),
                        writer: writer.map(|pid| HeldWriter { pid, pidfd: fds.next().unwrap() }),
                        file: file.then(|| fds.next().unwrap()),
                    });
                    let captures = captures.collect();
                    self.holdings.push(Holding { id: id.as_str().into(), pidfd, captures });
                }
                Message::Started(started) => self.started.push(*started),
                Message::Ended(id) => self.ended.push(id),
                Message::Released(id) => {
                    self.holdings.retain(|holding| holding.id.as_str() != id);
                    self.released.push(id);
                }
            }
        }
    }

    /// Kills the engine, and reaps it.
    fn kill(&mut self) {
        self.engine.kill().unwrap();
        self.engine.wait().unwrap();
        self.until(|_| false);
    }

    /// A new engine, for the captures of the killed one.
    fn successor(&self) -> (Engine, mpsc::Receiver<Event>) {
        let (tell, events) = mpsc::channel();
        let options = EngineOptions { epoch: 1, ..options_in(self.dir.path()) };
        let engine = Engine::start(options, move |event| drop(tell.send(event))).unwrap();
        (engine, events)
    }

    /// Adopts all processes that have not ended, in a new engine.
    fn adopt(&mut self) -> (Engine, mpsc::Receiver<Event>) {
        let (engine, events) = self.successor();
        for started in self.started.drain(..) {
            if self.ended.iter().any(|id| *id == started.id.as_str()) {
                continue;
            }
            let at = self.holdings.iter().position(|holding| holding.id == started.id);
            engine.adopt(started, at.map(|at| self.holdings.swap_remove(at)));
        }
        (engine, events)
    }
}

/// The ends that an engine reports, by ID.
fn ends(events: &mpsc::Receiver<Event>, count: usize) -> Vec<Ended> {
    let mut ends = Vec::new();
    while ends.len() < count {
        if let Event::Ended(ended) = events.recv_timeout(DEADLINE).unwrap() {
            ends.push(*ended);
        }
    }
    ends.sort_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
    ends
}

fn numbers(count: usize) -> Vec<u8> {
    (0..count).flat_map(|i| format!("{i}\n").into_bytes()).collect()
}

/// Asserts that no usage is claimed, that all bytes which the spec keeps are there and the others
/// are counted, and that the hash is that of the output.
fn check(ended: &Ended, whole: &[u8]) {
    use sha2::Digest;
    assert!(ended.is_unmeasured() && !ended.lost, "{}", ended.id);
    assert!(ended.cut_short.is_empty(), "{}: {:?}", ended.id, ended.cut_short);
    let capture = ended.captures.get("stdout".parse().unwrap()).unwrap();
    let (head, tail) = match capture.spec().keep {
        Some(keep) => (keep.head.unwrap_or(0) as usize, keep.tail.unwrap_or(0) as usize),
        None => (whole.len(), 0),
    };
    let kept = [&whole[..head], &whole[whole.len() - tail..]].concat();
    let dropped = (whole.len() - kept.len()) as u64;
    assert_eq!(capture.size().dropped, dropped, "{}", ended.id);
    assert!(output(&ended.captures, "stdout") == kept, "{}: {} bytes", ended.id, capture.len());
    // The hash is that of the stored bytes.
    let packed = capture.spec().compress.map(|_| std::fs::read(capture.path()).unwrap());
    let hash: [u8; 32] = sha2::Sha256::digest(packed.as_deref().unwrap_or(&kept)).into();
    assert_eq!(capture.sha256().unwrap().to_string(), hex(&hash), "{}", ended.id);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The kinds of captures, each in a process that writes at the time of the kill.
#[test]
fn no_output_is_lost_if_the_engine_is_killed() {
    const COUNT: usize = 400_000;
    let kinds = [
        ("direct", json!({"mode": "tempfile"})),
        ("memory", json!({"mode": "memory"})),
        ("timed", json!({"mode": "tempfile", "chunk_times": true})),
        ("packed", json!({"mode": "tempfile", "compress": "gzip"})),
        ("packed in memory", json!({"mode": "memory", "compress": "zstd"})),
        ("head", json!({"mode": "memory", "keep": {"head": 100_000}})),
        ("tail", json!({"mode": "tempfile", "keep": {"tail": 70_001}, "chunk_times": true})),
        ("both", json!({"mode": "memory", "keep": {"head": 1000, "tail": 300_000}})),
    ];
    for millis in [0, 20, 60, 150] {
        let mut specs = serde_json::Map::new();
        for (id, capture) in &kinds {
            let script = format!("sleep 0.05; seq 0 {}; exit 7", COUNT - 1);
            specs.insert((*id).into(), sh(&script, json!([["stdout", {"capture": capture}]])));
        }
        specs.insert(
            "killed".into(),
            sh(
                "sleep 0.2; echo x; kill -9 $$",
                json!([["stdout", {"capture": {"mode": "memory"}}]]),
            ),
        );
        let mut holder = Holder::launch(&specs.into());
        holder.until(|holder| holder.started.len() == kinds.len() + 1);
        std::thread::sleep(Duration::from_millis(millis));
        holder.kill();
        let before = holder.ended.len();
        let (_engine, events) = holder.adopt();
        let whole = numbers(COUNT);
        for ended in ends(&events, kinds.len() + 1 - before) {
            if ended.id.as_str() == "killed" {
                assert_eq!(ended.status, libc::SIGKILL);
                check(&ended, b"x\n");
            } else {
                assert_eq!(ended.status, 7 << 8, "{}", ended.id);
                check(&ended, &whole);
            }
        }
    }
}

/// The kernel has moved output from the pipe to the file, and the engine dies before it counts it:
/// in the head, behind it, and where the ring of the tail begins again.
#[cfg(debug_assertions)]
#[test]
fn output_is_counted_after_a_death_between_move_and_count() {
    const COUNT: usize = 150_000;
    let kinds = [
        json!({"head": 400_000}),
        json!({"head": 100}),
        json!({"tail": 70_001}),
        json!({"head": 1000, "tail": 300_000}),
    ];
    for (keep, before) in kinds.iter().flat_map(|keep| [1, 9000, 60_000].map(|n| (keep, n))) {
        let witness = tempfile::tempdir().unwrap();
        let gate = witness.path().join("gate");
        let script = format!(
            "seq 0 {}; until [ -e {} ]; do sleep 0.01; done; seq {before} {}; exit 7",
            before - 1,
            gate.display(),
            COUNT - 1,
        );
        let capture = json!({"mode": "memory", "keep": keep, "chunk_times": true});
        let mut holder = Holder::launch(&json!({
            "a": sh(&script, json!([["stdout", {"capture": capture}]])),
        }));
        holder.until(|holder| !holder.started.is_empty());
        let first = numbers(before).len() as u64;
        let captures = std::sync::Arc::clone(&holder.started[0].captures);
        eventually("the first part", || {
            let size = captures.get("stdout".parse().unwrap()).unwrap().size();
            size.length + size.dropped == first
        });
        holder.die_at(DeathPoint::OutputMoved);
        std::fs::write(&gate, "").unwrap();
        holder.await_death(DeathPoint::OutputMoved);
        let (_engine, events) = holder.adopt();
        let ended = &ends(&events, 1)[0];
        assert_eq!(ended.status, 7 << 8);
        check(ended, &numbers(COUNT));
    }
}

/// A process that ends, and is reaped by another process, while no engine lives.
#[test]
fn a_status_is_read_after_an_exit_without_an_engine() {
    let mut holder = Holder::launch(&json!({
        "a": sh("echo out; sleep 0.3; exit 9", json!([["stdout", {"capture": {"mode": "memory"}}]])),
    }));
    holder.until(|holder| !holder.started.is_empty());
    let pid = holder.started[0].pid;
    holder.kill();
    eventually("the end", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    let (_engine, events) = holder.adopt();
    let ended = &ends(&events, 1)[0];
    check(ended, b"out\n");
    assert_eq!(ended.status, 9 << 8);
}

/// Before Linux 6.15, the kernel keeps no status of a process that another process has reaped.
#[cfg(debug_assertions)]
#[test]
fn without_a_kept_status_an_exit_without_an_engine_has_no_status() {
    let capture = json!([["stdout", {"capture": {"mode": "memory"}}]]);
    let mut holder = Holder::launch(&json!({
        "gone": sh("echo out; sleep 0.5; exit 9", capture.clone()),
        "runs": sh("sleep 600", capture),
    }));
    holder.until(|holder| holder.started.len() == 2);
    holder.kill();
    let pid = holder.started.iter().find(|started| started.id.as_str() == "gone").unwrap().pid;
    eventually("the end", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    procstar::engine::failpoints::forget_exit_statuses(true);
    let (engine, events) = holder.adopt();
    let gone = &ends(&events, 1)[0];
    assert!(gone.lost && gone.id.as_str() == "gone");
    assert_eq!(output(&gone.captures, "stdout"), b"out\n");
    let kill = procstar::engine::StopOrder {
        signum: Some(libc::SIGKILL),
        ..procstar::engine::StopOrder::default()
    };
    engine.command("runs".into(), procstar::engine::ProcessCommand::Stop(kill), 1);
    assert_eq!(ends(&events, 1)[0].cause, Some(procstar::engine::StopCause::Stopped));
}

/// On a kernel before Linux 6.15, the exit events of the process connector have the statuses. They
/// need root in the initial namespaces.
#[cfg(debug_assertions)]
#[test]
fn without_a_kept_status_a_new_engine_reads_it_from_the_exit_event() {
    use std::os::unix::fs::MetadataExt;
    const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
    const COUNT: usize = 40;
    let namespace = std::fs::metadata("/proc/self/ns/pid").unwrap().ino();
    let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let initial = namespace == INITIAL_PID_NAMESPACE && network("1") == network("self");
    if !nix::unistd::geteuid().is_root() || !initial {
        return;
    }
    let gate = tempfile::NamedTempFile::new().unwrap();
    let script = format!("while [ -e {} ]; do sleep 0.01; done; exit 9", gate.path().display());
    let specs: serde_json::Map<_, _> =
        (0..COUNT).map(|i| (format!("p{i}"), sh(&script, json!([])))).collect();
    let mut holder = Holder::launch(&specs.into());
    holder.until(|holder| holder.started.len() == COUNT);
    holder.kill();
    procstar::engine::failpoints::forget_exit_statuses(true);
    let (engine, events) = holder.adopt();
    // All are adopted before the first one ends.
    drop(engine.quiesce(DEADLINE).unwrap());
    gate.close().unwrap();
    for ended in ends(&events, COUNT) {
        assert!(!ended.lost && ended.is_unmeasured(), "{}", ended.id);
        assert_eq!(ended.status, 9 << 8, "{}", ended.id);
    }
}

/// The next holding that an engine reports.
fn held(events: &mpsc::Receiver<Event>) -> Holding {
    loop {
        if let Event::Held(holding) = events.recv_timeout(DEADLINE).unwrap() {
            return *holding;
        }
    }
}

/// Waits for the release of a process.
fn released(events: &mpsc::Receiver<Event>, id: &str) {
    while !matches!(events.recv_timeout(DEADLINE).unwrap(), Event::Released(of) if of.as_str() == id)
    {
    }
}

/// An engine in this process that shares its holdings, and has started one process.
fn sharing(options: EngineOptions, proc: &Value) -> (Engine, mpsc::Receiver<Event>) {
    let (tell, events) = mpsc::channel();
    let engine = Engine::start(options, move |event| drop(tell.send(event))).unwrap();
    let text = json!({ "specs": { "a": proc } }).to_string();
    engine.launch(spec::from_json(text.as_bytes()).unwrap());
    (engine, events)
}

/// A new holder gets the descriptors of a running process, and none of a released one.
#[test]
fn holdings_are_shared_again_until_the_release() {
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    let script = format!("until [ -e {} ]; do sleep 0.01; done; echo out", gate.display());
    let proc = sh(&script, json!([["stdout", {"capture": {"mode": "memory"}}]]));
    let (engine, events) = sharing(options_in(dir.path()), &proc);
    let first = held(&events);
    drop(first);
    engine.share_holdings();
    let again = held(&events);
    assert!(again.id.as_str() == "a" && again.pidfd.is_some());
    assert_eq!(again.captures.iter().map(|held| held.index).collect::<Vec<_>>(), [0]);
    drop(again);
    std::fs::write(&gate, "").unwrap();
    released(&events, "a");
    engine.share_holdings();
    let settled = engine.quiesce(DEADLINE);
    assert!(settled.is_ok());
    assert!(!events.try_iter().any(|event| matches!(event, Event::Held(_))));
}

/// The holder must know that nothing is missing, although nobody reads that pipe any more.
#[test]
fn a_capture_that_ended_before_its_process_is_shared_as_a_pipe_at_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    let script =
        format!("echo out; exec >&-; until [ -e {} ]; do sleep 0.01; done", gate.display());
    let proc = sh(&script, json!([["stdout", {"capture": {"mode": "memory"}}]]));
    let (engine, events) = sharing(options_in(dir.path()), &proc);
    let pipe = |holding: &Holding| fstat(&holding.captures[0].reader).unwrap().st_ino;
    let first = pipe(&held(&events));
    eventually("the end of the capture", || {
        engine.share_holdings();
        pipe(&held(&events)) != first
    });
    engine.share_holdings();
    let [HeldCapture { reader, .. }] = held(&events).captures.try_into().unwrap();
    assert_eq!(std::fs::File::from(reader).read(&mut [0; 4]).unwrap(), 0);
    std::fs::write(&gate, "").unwrap();
    released(&events, "a");
}

/// A survivor of a process that ended before the kill continues to write, and gets no SIGPIPE.
#[test]
fn a_survivor_of_an_ended_process_continues_to_write() {
    let witness = tempfile::tempdir().unwrap();
    let (gate, done) = (witness.path().join("gate"), witness.path().join("done"));
    let script = format!(
        "echo out; (until [ -e {} ]; do sleep 0.01; done; seq 0 100000 && touch {}) & exit 7",
        gate.display(),
        done.display(),
    );
    let mut holder = Holder::launch(&json!({
        "a": sh(&script, json!([["stdout", {"capture": {"mode": "memory"}}]])),
    }));
    holder.until(|holder| !holder.ended.is_empty());
    holder.kill();
    let (engine, events) = holder.successor();
    let holding = holder.holdings.pop().unwrap();
    assert_eq!(holding.captures.len(), 1);
    let captures = holder.started.pop().unwrap().captures;
    engine.adopt_ended(captures, holding);
    // For a holder after this one.
    assert_eq!(held(&events).captures.len(), 1);
    std::fs::write(&gate, "").unwrap();
    eventually("the survivor's end", || done.exists());
    released(&events, "a");
    assert!(!events.try_iter().any(|event| matches!(event, Event::Ended(_))));
}

/// Named files, written by the process itself and through the engine.
#[test]
fn named_files_are_whole_after_the_kill() {
    const COUNT: usize = 200_000;
    let kinds = [
        ("direct", json!({"mode": "tempfile"})),
        ("timed", json!({"mode": "tempfile", "chunk_times": true})),
        ("memory", json!({"mode": "memory"})),
    ];
    for millis in [20, 60] {
        let files = tempfile::tempdir().unwrap();
        let mut specs = serde_json::Map::new();
        for (id, capture) in &kinds {
            let mut capture = capture.clone();
            capture["file"] = json!({"path": files.path().join(id)});
            let script = format!("sleep 0.05; seq 0 {}; exit 7", COUNT - 1);
            specs.insert((*id).into(), sh(&script, json!([["stdout", {"capture": capture}]])));
        }
        let mut holder = Holder::launch(&specs.into());
        holder.until(|holder| holder.started.len() == kinds.len());
        std::thread::sleep(Duration::from_millis(millis));
        holder.kill();
        let before = holder.ended.len();
        let (_engine, events) = holder.adopt();
        for ended in ends(&events, kinds.len() - before) {
            assert_eq!(ended.status, 7 << 8, "{}", ended.id);
            assert!(ended.cut_short.is_empty(), "{}: {:?}", ended.id, ended.cut_short);
        }
        for (id, _) in &kinds {
            assert!(std::fs::read(files.path().join(id)).unwrap() == numbers(COUNT), "{id}");
        }
    }
}

/// The pidfd of a process that has ended, and whose output is still open, crosses an upgrade: a
/// holder that comes afterwards can read the exit status.
#[test]
fn the_pidfd_of_a_draining_process_crosses_an_upgrade() {
    let dir = tempfile::tempdir().unwrap();
    let gate = dir.path().join("gate");
    let script = format!("(until [ -e {} ]; do sleep 0.01; done) & exit 7", gate.display());
    let proc = sh(&script, json!([["stdout", {"capture": {"mode": "memory"}}]]));
    let patient = || EngineOptions { drain_timeout: DEADLINE, ..options_in(dir.path()) };
    let (engine, events) = sharing(patient(), &proc);
    let started = loop {
        if let Event::Started(started) = events.recv_timeout(DEADLINE).unwrap() {
            break started;
        }
    };
    let of_process = std::path::PathBuf::from(format!("/proc/{}", started.pid));
    eventually("the reaping of the process", || !of_process.exists());
    let (handover, standstill) = engine.quiesce(DEADLINE).unwrap();
    std::mem::forget(standstill);
    let options = EngineOptions { epoch: 1, ..patient() };
    let (tell, events) = mpsc::channel();
    let next = crate::support::engine::resume(options, &handover, tell);
    next.share_holdings();
    let holding = held(&events);
    assert!(holding.pidfd.is_some());
    std::fs::write(&gate, "").unwrap();
    let ended = &ends(&events, 1)[0];
    assert!(ended.status == 7 << 8 && !ended.lost);
    released(&events, "a");
}
