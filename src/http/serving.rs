//! The service from the first connection to its end: before the first client connects, listeners
//! exist but no thread.
//!
//! Listeners on the network and the Unix socket have separate threads and limits: a flood of one
//! does not delay the other.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use actix_web::dev::ServerHandle;
use actix_web::web;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::app_state::{AppState, Service};
use super::listeners::{Listener, Listeners};
use super::server::serve;
use crate::net::keep_alive::keep_alive;
use crate::net::tls_server::ServerTls;
use crate::rotating::Rotating;

/// A running service. Cheap to clone; all clones refer to the same one.
#[derive(Clone)]
pub struct Serving(Rc<Shared>);

struct Shared {
    state: web::Data<AppState>,
    tls: Option<Rotating<ServerTls>>,
    /// Files of our Unix sockets, removed at the end.
    files: RefCell<Vec<PathBuf>>,
    /// True once the service has to end.
    stop: watch::Sender<bool>,
    tasks: RefCell<Vec<JoinHandle<()>>>,
}

impl Serving {
    /// Serves on these listeners from now on, in an actix runtime; `socket` is the file of the Unix
    /// socket, to remove at the end.
    pub fn start(listeners: Listeners, service: Service, socket: Option<PathBuf>) -> Serving {
        let Listeners { tcp, tls, unix } = listeners;
        let serving = Serving(Rc::new(Shared {
            state: web::Data::new(AppState::new(service, tls.is_some())),
            tls,
            files: RefCell::default(),
            stop: watch::Sender::new(false),
            tasks: RefCell::default(),
        }));
        if !tcp.is_empty() {
            serving.add(Listener::Tcp(tcp), None);
        }
        if let Some(unix) = unix {
            serving.add(Listener::Unix(unix), socket);
        }
        serving
    }

    /// Serves on another listener too.
    pub fn add(&self, listener: Listener, socket: Option<PathBuf>) {
        let Shared { state, tls, files, stop, tasks } = &*self.0;
        files.borrow_mut().extend(socket);
        state.opened(&listener);
        if let Listener::Tcp(listeners) = &listener {
            // Before the first client: a connection inherits the option.
            listeners.iter().for_each(keep_alive);
        }
        let run = run(listener, tls.clone(), state.clone(), stop.subscribe());
        tasks.borrow_mut().push(actix_rt::spawn(run));
    }

    /// Ends it; pending requests have one more second.
    pub async fn stop(self) {
        self.0.stop.send_replace(true);
        let tasks = self.0.tasks.take();
        for task in tasks {
            // An error means that the task has already ended.
            let _ = task.await;
        }
        for socket in self.0.files.take() {
            // The file may already have been removed with its directory.
            let _ = std::fs::remove_file(socket);
        }
    }
}

async fn run(
    listener: Listener,
    tls: Option<Rotating<ServerTls>>,
    state: web::Data<AppState>,
    mut stop: watch::Receiver<bool>,
) {
    tokio::select! {
        // An error means that the sender was dropped, which also ends the service.
        _ = stop.wait_for(|stop| *stop) => return,
        connected = listener.connected() => if let Err(error) = connected {
            tracing::warn!(%error, "starting the http service before it is needed");
        },
    }
    let server = match serve(listener, tls, &state) {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(%error, "cannot start the http service");
            return;
        }
    };
    let handle: ServerHandle = server.handle();
    let serving = actix_rt::spawn(server);
    let _ = stop.wait_for(|stop| *stop).await;
    handle.stop(true).await;
    // The server was stopped, so its result has no information.
    let _ = serving.await;
}
