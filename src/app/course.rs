//! The course of a run, from the start of the actors to the program's exit code.
//!
//! INPUT's processes start, the service listens, and the connection opens. When the supervisor's
//! life cycle is done, the remaining output is copied, the results are written, and the connection
//! and the service end. Last, the keeper receives the exit code.

use std::io;

use actix::{Actor, Addr};
use tokio::sync::oneshot;
use tokio::time::{Duration, timeout};

use crate::actors::EngineLink;
use crate::actors::keeper_link::LinkError;
use crate::actors::supervisor::Ready;
use crate::app::error::RunError;
use crate::app::foreground::Copies;
use crate::app::listening::Listening;
use crate::app::patience::GivenUp;
use crate::app::prepare::Dialer;
use crate::app::progress::Progress;
use crate::app::service::Service;
use crate::app::worker::{Ends, Worker};
use crate::cli::invocation::Run;
use crate::dispatch::websocket::{Connection, Finish, Outcome};
use crate::keeper::ProgramExit;

/// How long the scheduler may take at the end to accept the last messages.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// The interfaces by which the worker is reached from outside.
struct Services {
    http: Option<Service>,
    connection: Option<(Addr<Connection>, oneshot::Receiver<Outcome>)>,
}

impl Worker {
    /// Runs until the end; returns the program's exit code.
    ///
    /// # Errors
    /// Messages for the user. The keeper has the exit code then, unless it is gone.
    pub(super) async fn run(
        self,
        run: &Run,
        mut ends: Ends,
        listening: Listening,
        dialer: Option<Dialer>,
    ) -> Result<u8, RunError> {
        // INPUT's processes may take long to start.
        listening.hold_network(&self.link);
        let progress = Progress::of(run, self.count, self.start, self.actors.clone());
        let lost = || Err(LinkError::Io(io::ErrorKind::UnexpectedEof.into()).into());
        let begun = async {
            self.await_input(run).await;
            self.copy_output(run).await
        };
        let copies = tokio::select! {
            copies = begun => copies,
            // Without the keeper, no event reports whether INPUT's processes have started.
            _ = &mut ends.gone => return lost(),
        };
        let services = self.open(listening, dialer, run).await?;
        let done = tokio::select! {
            done = &mut ends.done => done.is_ok(),
            _ = &mut ends.gone => false,
        };
        if !done {
            // The supervisor ends with the keeper's events: the present records must not pass for
            // results.
            return lost();
        }
        drop(progress);
        self.finish(run, copies, services).await
    }

    /// Waits until each of INPUT's processes runs or could not be started.
    async fn await_input(&self, run: &Run) {
        // An error means that the worker ends, which the caller notices too.
        let _ = self.actors.await_starts(&self.input).await;
        if run.input.is_some() {
            tracing::info!("started processes from specs");
        }
    }

    /// Starts the service and the connection.
    async fn open(
        &self,
        listening: Listening,
        dialer: Option<Dialer>,
        run: &Run,
    ) -> Result<Services, RunError> {
        let connection = dialer.map(|dialer| self.connection(dialer, run));
        let status = connection.as_ref().map(|(connection, _)| connection.status());
        // The service listens before the scheduler knows this worker.
        let http = match self.serve(listening, run, status) {
            Ok(http) => http,
            Err(error) => {
                self.link.failed(error.to_string()).await;
                return Err(error);
            }
        };
        self.link.ready();
        let connection = connection.map(|(connection, ended)| (connection.start(), ended));
        self.supervisor.do_send(Ready);
        Ok(Services { http, connection })
    }

    /// Ends a run whose life cycle is done; returns the program's exit code.
    async fn finish(&self, run: &Run, copies: Copies, services: Services) -> Result<u8, RunError> {
        let copied = self.patience.wait(copies.finish()).await.unwrap_or_else(|GivenUp| {
            tracing::warn!("the reader of our output does not read; dropping the rest");
            Ok(0)
        });
        let (exit, reported) = self.report_foreground(run).await;
        let written = self.write_results(run).await.and(reported);
        let outcome = services.close().await;
        if run.exit && written.is_ok() {
            // These processes are no longer needed, and a later run with the same state directory
            // must not adopt them.
            for record in self.actors.get_all().await.unwrap_or_default() {
                // The deletions reach the keeper before the goodbye.
                drop(self.link.forget(record.id.clone()));
            }
        }
        let ended = written.and(copied).and_then(|copied| match outcome {
            Outcome::Finished => {
                Ok(if exit == ProgramExit::Code(0) { ProgramExit::Code(copied) } else { exit })
            }
            Outcome::GaveUp => Err(RunError::GaveUp),
        });
        // The keeper ends with our exit code, once this process has ended.
        let exit = match &ended {
            Ok(exit) => *exit,
            Err(error) => ProgramExit::Code(error.exit_code_of(run)),
        };
        self.link.bye(exit).await;
        // Only the keeper ends by a signal.
        ended.map(|exit| if let ProgramExit::Code(code) = exit { code } else { 0 })
    }
}

impl Services {
    /// Ends both, the connection first, because it still has messages for the scheduler.
    async fn close(self) -> Outcome {
        let mut outcome = Outcome::Finished;
        if let Some((connection, ended)) = self.connection {
            connection.do_send(Finish);
            match timeout(FLUSH_TIMEOUT, ended).await {
                Ok(ended) => outcome = ended.unwrap_or(Outcome::Finished),
                Err(_) => tracing::warn!("timed out sending the last messages to the scheduler"),
            }
        }
        if let Some(http) = self.http {
            http.stop().await;
        }
        outcome
    }
}
