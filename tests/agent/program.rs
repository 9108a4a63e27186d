//! The binary as an agent, connected to a mock scheduler over real TLS.

mod message_limits;
mod roots;
mod rotation;
mod sealed;
mod sparse_output;

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::message::Message;
use crate::mock_server::{Behaviour, Identity, MockServer, RawServer, Say, Seen, Session};
use crate::support::process::kill_instance;
use crate::support::wait::{eventually_async, soon};
use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The token that no log may show.
const TOKEN: &str = "open-sesame";

/// A running agent; dropping it kills it.
struct Agent {
    child: Child,
    log: NamedTempFile,
    cert: NamedTempFile,
}

impl Agent {
    /// Starts an agent that connects to `host`, with only the token and the trusted certificate in
    /// its environment.
    fn start(host: &str, port: u16, identity: &Identity, args: &[&str]) -> Agent {
        Agent::with_cert(identity.pem_file(), host, port, args, |command| {
            command.env("PROCSTAR_AGENT_TOKEN", TOKEN);
        })
    }

    /// Starts an agent that trusts the certificates of a file. `more` changes its command.
    fn with_cert(
        cert: NamedTempFile,
        host: &str,
        port: u16,
        args: &[&str],
        more: impl FnOnce(&mut Command),
    ) -> Agent {
        let log = NamedTempFile::new().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_procstar"));
        command
            .args(["--agent", "--agent-host", host, "--agent-port", &port.to_string()])
            .args(["--log-level", "info", "--connect-interval-start", "0.05"])
            .args(args)
            .env_clear()
            .env("PROCSTAR_AGENT_CERT", cert.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.reopen().unwrap());
        more(&mut command);
        Agent { child: command.spawn().unwrap(), log, cert }
    }

    fn of(addr: SocketAddr, identity: &Identity) -> Agent {
        Agent::start("localhost", addr.port(), identity, &["--group-id", "g"])
    }

    /// Waits until the log contains this text.
    async fn logged(&self, text: &str) {
        eventually_async(&format!("{text:?} in the log"), || self.log().contains(text)).await;
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for its end.
    async fn ended(&mut self) -> ExitStatus {
        eventually_async("the agent's end", || self.child.try_wait().unwrap()).await
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log());
        }
        kill_instance(self.child.id().cast_signed());
        let _ = self.child.wait();
    }
}

/// The next message of the agent.
async fn message(session: &mut Session) -> Message {
    loop {
        match session.seen().await {
            Seen::Message { data, .. } => return rmp_serde::from_slice(&data).unwrap(),
            Seen::Ping(_) | Seen::Pong(_) => {}
            other => panic!("no message: {other:?}"),
        }
    }
}

async fn brief(session: &mut Session) -> String {
    message(session).await.brief()
}

fn pack(message: &Value) -> Bytes {
    rmp_serde::to_vec(message).unwrap().into()
}

fn say(session: &Session, message: Value) {
    session.say(Say::Binary(pack(&message)));
}

fn start(session: &Session, id: &str, script: &str) {
    let fds = json!([["stdout", {"capture": {"encoding": "utf-8"}}]]);
    let proc = json!({"argv": ["/bin/sh", "-c", script], "fds": fds});
    say(session, json!({"type": "ProcStartRequest", "specs": {id: proc}}));
}

fn ask(session: &Session, kind: &str, id: &str) {
    say(session, json!({"type": kind, "proc_id": id}));
}

/// The next connection, with its registration accepted.
async fn welcome(server: &mut MockServer) -> (Session, Message) {
    let mut session = server.accept().await;
    let register = message(&mut session).await;
    say(&session, json!({"type": "Registered"}));
    (session, register)
}

/// Expects `ShutDown done`, a Close with code 1000, and exit status 0.
async fn farewell(session: &mut Session, agent: &mut Agent) {
    assert_eq!(brief(session).await, "ShutDown done");
    loop {
        match session.seen().await {
            Seen::Close(code) => break assert_eq!(code, Some(1000)),
            Seen::Ping(_) | Seen::Pong(_) => {}
            other => panic!("not a close: {other:?}"),
        }
    }
    assert_eq!(agent.ended().await.code(), Some(0), "{}", agent.log());
}

#[actix::test]
async fn an_agent_runs_processes_and_exits_after_sigusr1() {
    let mut server = MockServer::start(Behaviour::default());
    let mut agent = Agent::of(server.addr, &server.identity);
    let (mut session, register) = welcome(&mut server).await;
    assert_eq!(register.brief(), "Register  active");
    assert_eq!(register.access_token, TOKEN);
    assert_eq!(register.proc["pid"], agent.child.id());
    assert_eq!(register.proc["ppid"], std::process::id());
    assert_eq!(register.proc.as_object().unwrap().len(), 9);
    let conn = register.conn.as_object().unwrap();
    assert_eq!(conn.len(), 3);
    assert_eq!((&conn["group_id"], &conn["restricted_exe"]), (&json!("g"), &Value::Null));
    assert_eq!(conn["conn_id"].as_str().unwrap().len(), 36);

    start(&session, "a", "printf 0123456789; exit 3");
    let first = message(&mut session).await;
    assert_eq!(first.brief(), "ProcResult a running");
    let last = message(&mut session).await;
    assert_eq!(last.brief(), "ProcResult a terminated");
    assert_eq!(first.res["pid"], last.res["pid"]);
    assert_eq!(last.res["status"]["exit_code"], 3);
    assert_eq!(last.res["fds"]["stdout"]["text"], "0123456789");

    say(
        &session,
        json!({"type": "ProcFdDataRequest", "proc_id": "a", "fd": "stdout", "start": 3, "stop": 6}),
    );
    assert_eq!(brief(&mut session).await, "ProcFdData a \"stdout\" 3-6 345");
    say(&session, json!({"type": "ProcidListRequest"}));
    assert_eq!(brief(&mut session).await, "ProcidList a");

    let specs = json!({"no": {"argv": ["/no/such"]}});
    say(&session, json!({"type": "ProcStartRequest", "specs": specs}));
    for _ in 0..2 {
        let result = message(&mut session).await;
        assert_eq!(result.brief(), "ProcResult no error");
        assert_eq!(result.res["status"]["exit_code"], 127);
    }
    let specs = json!({"bad": {"argv": ["/bin/true"], "shell": true}});
    say(&session, json!({"type": "ProcStartRequest", "specs": specs}));
    let refused = message(&mut session).await;
    assert!(refused.brief().starts_with("RequestError \"ProcStartRequest\": specs.bad"));
    assert_eq!(refused.msg["specs"], specs);

    start(&session, "b", "exec sleep 1000");
    assert_eq!(brief(&mut session).await, "ProcResult b running");
    say(&session, json!({"type": "ProcSignalRequest", "proc_id": "b", "signum": 9}));
    let last = message(&mut session).await;
    assert_eq!(last.res["status"]["signal"], "SIGKILL");

    agent.signal(Signal::SIGUSR1);
    assert_eq!(brief(&mut session).await, "ShutDown idling");
    start(&session, "late", "true");
    let refused = "RequestError \"ProcStartRequest\": agent shutting down: idling";
    assert_eq!(brief(&mut session).await, refused);
    for id in ["a", "no", "b"] {
        ask(&session, "ProcDeleteRequest", id);
        assert_eq!(brief(&mut session).await, format!("ProcDelete {id}"));
    }
    farewell(&mut session, &mut agent).await;
    assert!(!agent.log().contains(TOKEN));
}

#[actix::test]
async fn sigusr1_and_sigterm_without_processes_end_at_once() {
    for signal in [Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGQUIT] {
        let mut server = MockServer::start(Behaviour::default());
        let mut agent = Agent::of(server.addr, &server.identity);
        let (mut session, _) = welcome(&mut server).await;
        // An answer shows that the agent's signal handlers are installed.
        say(&session, json!({"type": "ProcidListRequest"}));
        assert_eq!(brief(&mut session).await, "ProcidList ");
        let begin = Instant::now();
        agent.signal(signal);
        assert_eq!(brief(&mut session).await, "ShutDown idling");
        farewell(&mut session, &mut agent).await;
        assert!(begin.elapsed() < Duration::from_secs(4), "{signal}");
    }
}

#[actix::test]
async fn sigterm_ends_processes_and_waits_for_their_deletion() {
    let mut server = MockServer::start(Behaviour::default());
    let mut agent = Agent::of(server.addr, &server.identity);
    let (mut session, _) = welcome(&mut server).await;
    start(&session, "a", "trap 'printf bye; exit 7' TERM; printf x; while :; do sleep 0.05; done");
    assert_eq!(brief(&mut session).await, "ProcResult a running");
    // The script writes after it has set its trap.
    loop {
        say(&session, json!({"type": "ProcFdDataRequest", "proc_id": "a", "fd": "stdout"}));
        if message(&mut session).await.stop == 1 {
            break;
        }
    }
    agent.signal(Signal::SIGTERM);
    assert_eq!(brief(&mut session).await, "ShutDown idling");
    let result = message(&mut session).await;
    assert_eq!(result.res["status"]["exit_code"], 7);
    assert_eq!(result.res["fds"]["stdout"]["text"], "xbye");
    ask(&session, "ProcDeleteRequest", "a");
    assert_eq!(brief(&mut session).await, "ProcDelete a");
    farewell(&mut session, &mut agent).await;
}

#[actix::test]
async fn the_agent_reconnects_with_its_processes_after_a_close() {
    let mut server = MockServer::start(Behaviour::default());
    let agent = Agent::of(server.addr, &server.identity);
    let (mut session, first) = welcome(&mut server).await;
    start(&session, "a", "exec sleep 1000");
    let pid = message(&mut session).await.res["pid"].clone();
    session.say(Say::Close(1001, "going away".into()));
    let (session2, again) = welcome(&mut server).await;
    assert_eq!(again.conn, first.conn);
    assert_eq!(again.proc_ids, ["a"]);
    // After a hangup without a Close, and after a restart of the scheduler on the same port.
    session2.say(Say::Hangup);
    let (_session3, again) = welcome(&mut server).await;
    assert_eq!(again.conn, first.conn);
    let (addr, identity) = (server.addr, server.identity.clone());
    server.stop().await;
    let mut server = MockServer::start_on(addr, identity, Behaviour::default());
    let (mut session, again) = welcome(&mut server).await;
    assert_eq!((again.conn, again.proc_ids), (first.conn, vec!["a".to_owned()]));
    ask(&session, "ProcResultRequest", "a");
    let result = message(&mut session).await;
    assert_eq!((&result.res["pid"], result.brief().as_str()), (&pid, "ProcResult a running"));
    say(&session, json!({"type": "ProcSignalRequest", "proc_id": "a", "signum": 15}));
    assert_eq!(message(&mut session).await.res["status"]["signal"], "SIGTERM");
    assert!(
        agent.log().contains(
            "connection lost, reconnecting: scheduler closed the connection with code 1001: going away"
        ),
        "{}",
        agent.log()
    );
}

/// Reads the client's next message from a raw stream.
async fn frame(stream: &mut (impl AsyncReadExt + Unpin)) -> Message {
    let head = stream.read_u16().await.unwrap();
    assert_eq!(head & 0xff80, 0x8280, "one masked binary frame");
    let len = match head & 0x7f {
        126 => stream.read_u16().await.unwrap().into(),
        127 => stream.read_u64().await.unwrap(),
        len => len.into(),
    };
    let mut mask = [0; 4];
    stream.read_exact(&mut mask).await.unwrap();
    let mut data = vec![0; len.try_into().unwrap()];
    stream.read_exact(&mut data).await.unwrap();
    data.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    rmp_serde::from_slice(&data).unwrap()
}

#[actix::test]
async fn the_agent_reconnects_after_a_tcp_reset() {
    let server = RawServer::start().await;
    let agent = Agent::of(server.addr, &server.identity);
    let mut conn = None;
    for _ in 0..3 {
        let mut stream = server.websocket().await;
        let register = soon(frame(&mut stream)).await;
        let conn = conn.get_or_insert_with(|| register.conn.clone());
        assert_eq!(*conn, register.conn);
        let registered = pack(&json!({"type": "Registered"}));
        stream.write_all(&[0x82, u8::try_from(registered.len()).unwrap()]).await.unwrap();
        stream.write_all(&registered).await.unwrap();
        stream.flush().await.unwrap();
        // An answer shows that the agent has handled `Registered`.
        let list = pack(&json!({"type": "ProcidListRequest"}));
        stream.write_all(&[0x82, u8::try_from(list.len()).unwrap()]).await.unwrap();
        stream.write_all(&list).await.unwrap();
        stream.flush().await.unwrap();
        assert_eq!(soon(frame(&mut stream)).await.brief(), "ProcidList ");
        // A TCP reset, which the kernel sends when a process dies with unread data.
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let tcp = stream.get_ref().0.as_fd();
        nix::sys::socket::setsockopt(&tcp, nix::sys::socket::sockopt::Linger, &linger).unwrap();
        drop(stream);
    }
    let mut stream = server.websocket().await;
    assert_eq!(soon(frame(&mut stream)).await.r#type, "Register");
    assert_eq!(agent.log().matches("connection lost, reconnecting").count(), 3, "{}", agent.log());
}

/// Waits until the agent gives up connecting. Returns the log lines of its failed attempts.
async fn failures(mut agent: Agent) -> Vec<String> {
    let status = agent.ended().await;
    let log = agent.log();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("gave up connecting to the scheduler"), "{log}");
    assert!(!log.contains(TOKEN), "{log}");
    let attempts: Vec<_> =
        log.lines().filter(|line| line.contains("attempt=")).map(ToOwned::to_owned).collect();
    assert_eq!(attempts.len(), 2, "{log}");
    attempts
}

#[actix::test]
async fn each_connect_problem_has_its_own_message_and_exit_status_1() {
    const TWICE: [&str; 2] = ["--connect-count-max", "2"];
    let mut server = MockServer::start(Behaviour::default());
    let port = server.addr.port();
    let refused = failures(Agent::start("localhost", port, &server.identity, &TWICE));
    let server_part = async {
        for _ in 0..2 {
            let mut session = server.accept().await;
            assert_eq!(message(&mut session).await.r#type, "Register");
            session.say(Say::Close(1000, String::new()));
        }
    };
    let (refused, ()) = tokio::join!(refused, server_part);

    let stranger = Identity::loopback();
    let certificate = failures(Agent::start("localhost", port, &stranger, &TWICE)).await;
    let name = failures(Agent::start("name.invalid", port, &server.identity, &TWICE)).await;
    // Bound but not listening, so that no other process can take the port.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let free = socket.local_addr().unwrap();
    let closed = failures(Agent::start("127.0.0.1", free.port(), &server.identity, &TWICE)).await;
    for (lines, text) in [
        (refused, "registration refused: scheduler closed the connection with code 1000; is the access token (PROCSTAR_AGENT_TOKEN) the scheduler's?".to_owned()),
        (certificate, format!("server certificate of localhost:{port} refused: ")),
        (name, "cannot resolve host name \"name.invalid\": ".to_owned()),
        (closed, format!("cannot connect to {free}: {free}: connection refused")),
    ] {
        for line in lines {
            assert!(line.contains(&text), "{line}\n{text}");
        }
    }
}

#[actix::test]
async fn large_messages_are_sent_and_received() {
    let mut server = MockServer::start(Behaviour::default());
    let agent = Agent::of(server.addr, &server.identity);
    let (mut session, _) = welcome(&mut server).await;
    // Removing a variable with a long name makes a large message, but a small environment.
    let specs = |id: &str| {
        let env = json!({"vars": {"x".repeat(10_000_000): null}});
        json!({"type": "ProcStartRequest", "specs": {id: {"argv": ["/bin/true"], "env": env}}})
    };
    say(&session, specs("whole"));
    assert_eq!(brief(&mut session).await, "ProcResult whole running");
    assert_eq!(brief(&mut session).await, "ProcResult whole terminated");
    let bytes = pack(&specs("pieces"));
    let pieces = bytes.chunks(1 << 20).map(Bytes::copy_from_slice).collect();
    session.say(Say::Fragments(pieces));
    assert_eq!(brief(&mut session).await, "ProcResult pieces running");
    assert_eq!(brief(&mut session).await, "ProcResult pieces terminated");

    start(&session, "a", "head -c 50000000 /dev/zero | tr '\\0' x; printf end");
    assert_eq!(brief(&mut session).await, "ProcResult a running");
    let result = message(&mut session).await;
    let text = result.res["fds"]["stdout"]["text"].as_str().unwrap();
    assert_eq!(text.len(), 50_000_003);
    assert!(text.ends_with("xend") && text[..50_000_000].bytes().all(|byte| byte == b'x'));
    // The next answer is not affected by the large message.
    say(
        &session,
        json!({"type": "ProcFdDataRequest", "proc_id": "a", "fd": 1, "start": 50_000_000, "stop": 99_999_999}),
    );
    assert_eq!(brief(&mut session).await, "ProcFdData a 1 50000000-50000003 end");
    drop(agent);
}
