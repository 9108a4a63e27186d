//! An HTTP service on its own thread, with the mock supervisor.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;

use actix::{Actor, Addr, Arbiter, ArbiterHandle, System};
use procstar::actors::Mailboxes;
use procstar::actors::results::Results;
use procstar::config::LogLevel;
use procstar::engine::{CaptureDirs, EngineOptions};
use procstar::http::access::Policy;
use procstar::http::{AgentStatus, HttpLimits, Listeners, LogControl, Service, Serving, listen};
use procstar::report::ResultContext;
use procstar::sampler::ProcReader;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::client::{Answer, Client};
use super::mock_supervisor::{Die, Mock};
use crate::support::engine::options;
use crate::support::wait::{DEADLINE, eventually};

pub fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// A log that consists only of its level.
struct Log(Mutex<Option<LogLevel>>);

impl LogControl for Log {
    fn levels(&self) -> (LogLevel, LogLevel) {
        (self.0.lock().unwrap().unwrap_or_default(), LogLevel::default())
    }
    fn set(&self, level: Option<LogLevel>) {
        *self.0.lock().unwrap() = level;
    }
}

/// A running service. Dropping it stops it.
pub struct TestServer {
    pub address: SocketAddr,
    /// Dropping it stops the service.
    server: Option<oneshot::Sender<()>>,
    mock: Addr<Mock>,
    results: Addr<Results>,
    arbiter: ArbiterHandle,
    system: System,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    /// A service that authorizes this user.
    pub fn new() -> TestServer {
        TestServer::with(Policy::new(own_uid(), None), 0)
    }

    /// A service on `port` with this access policy.
    pub fn with(policy: Policy, port: u16) -> TestServer {
        let listeners = listen((Ipv4Addr::LOCALHOST, port).into()).unwrap();
        TestServer::at(
            Listeners { tcp: listeners, ..Listeners::default() },
            policy,
            HttpLimits::default(),
        )
    }

    /// A service on these listeners, which must include TCP.
    pub fn at(doors: Listeners, policy: Policy, limits: HttpLimits) -> TestServer {
        let address = doors.tcp[0].local_addr().unwrap();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            System::new().block_on(async move {
                let dir = tempfile::tempdir().unwrap();
                let capture_dirs =
                    CaptureDirs { files: dir.path().into(), memory: dir.path().into() };
                // On its own arbiter, so that a test can end it.
                let arbiter = Arbiter::new();
                let results = Results::start_in_arbiter(&arbiter.handle(), |_| Results::default());
                let options = EngineOptions { capture_dirs, setup_timeout: DEADLINE, ..options() };
                let mock = Mock::start(options, results.clone());
                let service = Service {
                    actors: Mailboxes::of(&mock, &results).into(),
                    context: Arc::new(ResultContext::new(ProcReader::default())),
                    policy,
                    status: Arc::new(AgentStatus::default()),
                    log: Arc::new(Log(Mutex::new(None))),
                    limits,
                };
                let serving = Serving::start(doors, service, None);
                let (server, stopped) = oneshot::channel::<()>();
                tell.send((server, mock, results, arbiter.handle(), System::current())).unwrap();
                // An error: the other end is dropped.
                let _ = stopped.await;
                serving.stop().await;
            });
        });
        let (server, mock, results, arbiter, system) = told.recv_timeout(DEADLINE).unwrap();
        TestServer {
            address,
            server: Some(server),
            mock,
            results,
            arbiter,
            system,
            thread: Some(thread),
        }
    }

    /// Ends the actors behind the service.
    pub fn kill_mock(&self) {
        self.mock.do_send(Die);
        self.arbiter.stop();
        eventually("the end of the actors", || !self.mock.connected() && !self.results.connected());
    }

    /// Stops the service, as the end of a program does.
    pub fn stop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.kill_mock();
            self.server = None;
            thread.join().unwrap();
            self.system.stop();
        }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends a request on a new connection.
    pub fn ask(&self, method: &str, path: &str) -> Answer {
        self.send(method, path, &[], b"")
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut client = self.client();
        client.request(method, path, headers, body);
        let mut answer = client.head();
        if method != "HEAD" {
            client.body(&mut answer);
        }
        answer
    }

    pub fn post(&self, specs: &Value) -> Answer {
        let body = json!({ "specs": specs }).to_string();
        self.send("POST", "/procs", &[("Content-Type", "application/json")], body.as_bytes())
    }

    /// Waits for the end of a process without reading its output.
    pub fn until_ended(&self, path: &str) {
        let wait = DEADLINE.as_secs();
        let data = self.ask("GET", &format!("{path}?output=none&wait={wait}")).data();
        let result = data["procs"].as_object().and_then(|procs| procs.values().next());
        assert_ne!(result.unwrap()["state"], "running", "{path} still runs");
    }

    /// Waits for the end of the process at `path`, and returns its result.
    pub fn ended(&self, path: &str) -> Value {
        eventually(&format!("the end of {path}"), || {
            let mut data = self.ask("GET", path).data();
            let procs = data["procs"].as_object_mut().unwrap();
            assert_eq!(procs.len(), 1);
            let result = procs.values_mut().next().unwrap().take();
            (result["state"] != "running").then_some(result)
        })
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop();
    }
}
