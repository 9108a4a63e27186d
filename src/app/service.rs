//! The worker's HTTP service: its start, the retries of missing addresses, and its end.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::actors::keeper_link::KeeperLink;
use crate::actors::status::LinkStatus;
use crate::app::error::RunError;
use crate::app::http_access;
use crate::app::listening::{self, Listening, UnixSocket, hold_tcp, hold_unix, lead_to, states};
use crate::app::own_process::proc_info;
use crate::app::worker::Worker;
use crate::cli::invocation::Run;
use crate::config::{LogLevel, Settings};
use crate::http::{self, Listener, Serving};
use crate::keeper::listeners::{Address, MissingListener};
use crate::keeper::registry::SOCKET;
use crate::logging;
use crate::wire::ProcInfo;

/// The first and the longest wait before a missing address is tried again; each wait is twice the
/// one before.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The running service.
pub(super) struct Service {
    serving: Serving,
    link: Arc<KeeperLink>,
    trying_again: JoinHandle<()>,
}

impl Service {
    /// Ends it; pending requests have one more second.
    pub(super) async fn stop(self) {
        self.trying_again.abort();
        // Otherwise clients that connect from now on would wait until the keeper ends.
        self.link.listening(Vec::new(), Vec::new());
        self.serving.stop().await;
    }
}

impl Worker {
    /// Serves on the network and on the Unix socket; one-shot runs have neither.
    ///
    /// # Errors
    /// As [`Listening::on_unix`].
    pub(super) fn serve(
        &self,
        mut listening: Listening,
        run: &Run,
        status: Option<Arc<LinkStatus>>,
    ) -> Result<Option<Service>, RunError> {
        let settings = &run.settings;
        if !settings.http.enabled && !settings.agent.enabled {
            return Ok(None);
        }
        listening.on_unix(settings, self.dir.as_deref(), self.first)?;
        listening.hold_unix(&self.link);
        let on = listening.addresses();
        on.iter().for_each(log_address);
        let Listening { listeners, sockets, missing, .. } = listening;
        let socket = sockets.first().map(|socket| socket.path.clone());
        let status = Arc::new(self.status(settings, status, socket.clone()));
        let service = http::Service {
            actors: self.actors.clone(),
            context: Arc::clone(&self.context),
            policy: http_access::policy(
                &settings.http,
                run.token_files.http.as_deref(),
                listeners.tls.as_ref(),
                socket,
            )
            .with_page_key(&self.page_key),
            status: Arc::clone(&status),
            log: Arc::new(LogSwitch(Arc::clone(&self.link))),
            limits: http_access::limits(&settings.http),
        };
        let serving = Serving::start(listeners, service, None);
        for UnixSocket { path, listener, is_passed, .. } in sockets {
            serving.add(Listener::Unix(listener), (!is_passed).then_some(path));
        }
        let link = Arc::clone(&self.link);
        let dir = self.dir.clone();
        let state = status.listeners.clone();
        let again = ListenRetry { serving: serving.clone(), link, state, on, missing, dir };
        again.report();
        let trying_again = actix_rt::spawn(again.run());
        Ok(Some(Service { serving, link: Arc::clone(&self.link), trying_again }))
    }

    fn status(
        &self,
        settings: &Settings,
        status: Option<Arc<LinkStatus>>,
        socket: Option<PathBuf>,
    ) -> http::AgentStatus {
        let ProcInfo { hostname, username, euid, .. } = proc_info();
        let agent = &settings.agent;
        http::AgentStatus {
            pid: self.launched.0,
            start: self.start,
            hostname,
            username,
            uid: euid,
            keeper_up: self.link.is_up(),
            server: status.map(|status| http::ServerLink {
                server: format!("{}:{}", agent.host.as_deref().unwrap_or_default(), agent.port),
                group_id: agent.group_id.clone(),
                conn_id: self.conn_id.clone(),
                status,
            }),
            socket,
            listeners: Arc::default(),
        }
    }
}

fn log_address(address: &Address) {
    match address {
        Address::Tcp(address) => {
            tracing::info!(port = address.port(), "http service listening on {}", address.ip());
        }
        Address::Unix(path) => tracing::info!(path = %path.display(), "http service listening"),
    }
}

/// Sets the log level, here and in the keeper, which passes it to later workers.
struct LogSwitch(Arc<KeeperLink>);

impl http::LogControl for LogSwitch {
    fn levels(&self) -> (LogLevel, LogLevel) {
        logging::levels()
    }

    fn set(&self, level: Option<LogLevel>) {
        logging::set_level(level);
        self.0.remember(|memory| memory.log_level = level);
    }
}

/// Retries the missing addresses until none is left.
struct ListenRetry {
    serving: Serving,
    link: Arc<KeeperLink>,
    /// The listeners as clients see them.
    state: Arc<http::ListenerStates>,
    on: Vec<Address>,
    missing: Vec<MissingListener>,
    /// The instance's directory.
    dir: Option<PathBuf>,
}

impl ListenRetry {
    fn report(&self) {
        self.state.set(states(&self.on, &self.missing));
        self.link.listening(self.on.clone(), self.missing.clone());
    }

    async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        while !self.missing.is_empty() {
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
            let before = self.missing.clone();
            self.missing.retain_mut(|missing| match open(missing) {
                Ok(opened) => {
                    let address = opened.serve(&self.serving, &self.link, self.dir.as_deref());
                    tracing::warn!("http service now listening on {address}");
                    self.on.push(address);
                    false
                }
                Err(error) => {
                    missing.error = error.to_string();
                    true
                }
            });
            if self.missing != before {
                self.report();
            }
        }
    }
}

/// A listener that was missing before.
enum Opened {
    Tcp(TcpListener, Address),
    Unix(UnixSocket),
}

fn open(missing: &MissingListener) -> std::io::Result<Opened> {
    match &missing.address {
        Address::Tcp(address) => {
            let listener = http::bind(*address)?;
            let address = Address::Tcp(listener.local_addr()?);
            Ok(Opened::Tcp(listener, address))
        }
        Address::Unix(path) => listening::open(path, &mut Vec::new()).map(Opened::Unix),
    }
}

impl Opened {
    /// Serves there too, and passes the listener to the keeper; returns the address.
    fn serve(self, serving: &Serving, link: &KeeperLink, dir: Option<&std::path::Path>) -> Address {
        match self {
            Opened::Tcp(listener, address) => {
                hold_tcp(link, &listener);
                serving.add(Listener::Tcp(vec![listener]), None);
                address
            }
            Opened::Unix(socket) => {
                hold_unix(link, &socket);
                if let Some(dir) = dir.filter(|dir| dir.join(SOCKET) != socket.path) {
                    lead_to(&socket.path, dir);
                }
                let UnixSocket { path, listener, .. } = socket;
                serving.add(Listener::Unix(listener), Some(path.clone()));
                Address::Unix(path)
            }
        }
    }
}
