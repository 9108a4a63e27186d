//! The service from the first connection to its end: before somebody connects there are listeners, and no thread.

use std::path::PathBuf;

use actix_web::dev::ServerHandle;
use tokio::sync::oneshot;

use super::doors::Doors;
use super::server::{Service, serve};

/// A running service.
pub struct Serving {
    /// Tells it to end.
    stop: oneshot::Sender<()>,
    /// Told when it has.
    stopped: oneshot::Receiver<()>,
}

impl Serving {
    /// Serves at these doors from now on, in an actix runtime; `socket` is the file of the Unix socket, to be removed at the end.
    pub fn start(doors: Doors, service: Service, socket: Option<PathBuf>) -> Serving {
        let (stop, told) = oneshot::channel();
        let (tell, stopped) = oneshot::channel();
        actix_rt::spawn(async move {
            run(doors, service, told).await;
            if let Some(socket) = socket {
                // It may have gone with its directory.
                let _ = std::fs::remove_file(socket);
            }
            // Nobody may be waiting.
            let _ = tell.send(());
        });
        Serving { stop, stopped }
    }

    /// Ends it; requests that are being answered have one more second.
    pub async fn stop(self) {
        // An error, here or below, says that it has ended already.
        let _ = self.stop.send(());
        let _ = self.stopped.await;
    }
}

async fn run(doors: Doors, service: Service, mut told: oneshot::Receiver<()>) {
    tokio::select! {
        // That nobody tells any more is an end too.
        _ = &mut told => return,
        knocked = doors.knock() => if let Err(error) = knocked {
            tracing::warn!(%error, "starting the http service before it is needed");
        },
    }
    let server = match serve(doors, service) {
        Ok(server) => server,
        Err(error) => {
            tracing::error!(%error, "cannot start the http service");
            return;
        }
    };
    let handle: ServerHandle = server.handle();
    let serving = actix_rt::spawn(server);
    let _ = told.await;
    handle.stop(true).await;
    // It has ended, and says nothing that is not known.
    let _ = serving.await;
}
