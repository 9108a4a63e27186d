//! The handle of a running engine: every command goes to the driver's mailbox.

use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::engine::capture::Captures;
use crate::engine::command::{Command, ProcessCommand, Quiesce};
use crate::engine::driver::message::DriverMessage;
use crate::engine::event::{Event, Started};
use crate::engine::handover::Handover;
use crate::engine::holding::Holding;
use crate::engine::lent::Lent;
use crate::engine::mailbox::Mailbox;
use crate::engine::options::EngineOptions;
use crate::engine::{child, driver, permitted, sys};
use crate::spec::{ProcId, Validated};

/// The handle of a running engine.
pub struct Engine {
    inbox: Arc<Mailbox<DriverMessage>>,
    lent: Arc<Lent>,
}

impl Engine {
    /// Starts an engine, which passes its events to `sink`, on its own thread. Its children are
    /// children of this process. Resets the disposition of SIGCHLD to the default.
    ///
    /// # Errors
    /// The OS error of making threads and descriptors, or of a seccomp filter that refuses them.
    pub fn start(
        options: EngineOptions,
        mut sink: impl FnMut(Event) + Send + 'static,
    ) -> io::Result<Engine> {
        Engine::start_batched(options, move |events| events.drain(..).for_each(&mut sink))
    }

    /// The same, with all events of one moment in one call; `sink` drains them.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_batched(
        options: EngineOptions,
        sink: impl FnMut(&mut Vec<Event>) + Send + 'static,
    ) -> io::Result<Engine> {
        Engine::begin(options, None, sink)
    }

    /// The same for an engine that continues the work of an earlier program in this process.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn resume(
        options: EngineOptions,
        handover: Handover,
        sink: impl FnMut(&mut Vec<Event>) + Send + 'static,
    ) -> io::Result<Engine> {
        Engine::begin(options, Some(handover), sink)
    }

    fn begin(
        options: EngineOptions,
        handover: Option<Handover>,
        sink: impl FnMut(&mut Vec<Event>) + Send + 'static,
    ) -> io::Result<Engine> {
        sys::default_sigchld()?;
        child::note_dispositions();
        let inbox = Arc::new(Mailbox::new()?);
        let lent = Arc::new(Lent::default());
        driver::start(options, (Arc::clone(&inbox), Arc::clone(&lent)), Box::new(sink), handover)
            .map_err(permitted::explain)?;
        Ok(Engine { inbox, lent })
    }

    /// Starts every process of a request; their IDs must be new. Each has its own events.
    pub fn launch(&self, request: Validated) {
        self.send(Command::Launch(request));
    }

    /// Acts on a process. [`Event::Signaled`] with the same ticket reports the outcome: of a signal
    /// once it is sent, of a stop once its signal is sent. The [`Event::Ended`] of a stopped
    /// process reports the cause.
    pub fn command(&self, id: ProcId, command: ProcessCommand, ticket: u64) {
        self.send(Command::Process { id, command, ticket });
    }

    /// Sends a signal to the process group of a process. No event reports the outcome.
    pub fn signal_group(&self, id: ProcId, signum: i32) {
        self.send(Command::SignalGroup { id, signum });
    }

    /// Watches a process of an earlier engine whose program is gone, by the descriptors of the
    /// second holder if there are any. Without, its pipes are lost, and so is its exit status if
    /// another process has reaped it before this call.
    ///
    /// The process is no child of this program: its end is reported without resource usage.
    pub fn adopt(&self, started: Started, holding: Option<Holding>) {
        self.send(Command::Adopt(Box::new(started), holding));
    }

    /// Reads on from the pipes of a process whose end an earlier engine has reported, so that no
    /// survivor gets a SIGPIPE. What it reads is discarded.
    pub fn adopt_ended(&self, captures: Arc<Captures>, holding: Holding) {
        self.send(Command::AdoptEnded(captures, holding));
    }

    /// Reports [`Event::Held`] again for every process that is not released, for a new holder.
    pub fn share_holdings(&self) {
        self.send(Command::ShareHoldings);
    }

    /// Notes that so many descriptors of reported holdings are closed here, because they were sent:
    /// starts may wait for them.
    pub fn lent_closed(&self, descriptors: usize) {
        if self.lent.close(descriptors) {
            self.send(Command::LentClosed);
        }
    }

    /// Waits until no process is being started, and then pauses the engine until the returned
    /// [`Quiesced`] is dropped. The returned [`Handover`] is for the next program. All events up to
    /// the pause have been reported.
    ///
    /// # Errors
    /// Some process was still being started after `patience`; the engine continues.
    pub fn quiesce(&self, patience: Duration) -> Result<(Handover, Quiesced), StillStarting> {
        let (reply, handover) = mpsc::channel();
        let (release, resume) = mpsc::channel();
        self.send(Command::Quiesce(Quiesce { reply, resume }));
        let handover = handover.recv_timeout(patience).map_err(|_| StillStarting)?;
        Ok((handover, Quiesced(release)))
    }

    /// Deletes the record of an ended process, and its captures' files; readers that hold a file
    /// can still read it.
    pub fn forget(&self, id: ProcId) {
        self.send(Command::Forget(id));
    }

    fn send(&self, command: Command) {
        self.inbox.put(DriverMessage::Command(command));
    }
}

/// A paused engine; dropping this value resumes it.
pub struct Quiesced(#[expect(dead_code, reason = "dropping it is its use")] mpsc::Sender<()>);

/// Some process was still being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a process is still being set up")]
pub struct StillStarting;

impl Drop for Engine {
    fn drop(&mut self) {
        self.send(Command::EndDriver);
    }
}
