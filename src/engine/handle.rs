//! The handle of a running engine: every command goes to the driver's mailbox.

use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use crate::engine::command::{Command, ProcessCommand, Quiesce};
use crate::engine::driver::message::DriverMessage;
use crate::engine::event::{Event, Started};
use crate::engine::handover::Handover;
use crate::engine::mailbox::Mailbox;
use crate::engine::options::EngineOptions;
use crate::engine::{child, driver, permitted, sys};
use crate::spec::{ProcId, Validated};

/// The handle of a running engine.
pub struct Engine {
    inbox: Arc<Mailbox<DriverMessage>>,
}

impl Engine {
    /// Starts an engine, which tells its events to `sink`, on a thread of its own. Its children are
    /// children of this process, whose SIGCHLD gets its default disposition.
    ///
    /// # Errors
    /// The OS error of making its threads and descriptors; where a seccomp filter refuses them,
    /// that.
    pub fn start(
        options: EngineOptions,
        mut sink: impl FnMut(Event) + Send + 'static,
    ) -> io::Result<Engine> {
        Engine::start_batched(options, move |events| events.drain(..).for_each(&mut sink))
    }

    /// The same, with the events that come at one moment told at once; `sink` takes them out.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_batched(
        options: EngineOptions,
        sink: impl FnMut(&mut Vec<Event>) + Send + 'static,
    ) -> io::Result<Engine> {
        Engine::begin(options, None, sink)
    }

    /// The same, of an engine that goes on from what another program in this same process has
    /// handed over.
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
        driver::start(options, Arc::clone(&inbox), Box::new(sink), handover)
            .map_err(permitted::explain)?;
        Ok(Engine { inbox })
    }

    /// Starts every process of a request; their IDs must be new. Each has its own events.
    pub fn launch(&self, request: Validated) {
        self.tell(Command::Launch(request));
    }

    /// Does something to a process. [`Event::Signaled`] with the same ticket reports the outcome:
    /// of a signal once it is sent, of a stop once the process has been asked; that one's
    /// [`Event::Ended`] reports the cause.
    pub fn command(&self, id: ProcId, command: ProcessCommand, ticket: u64) {
        self.tell(Command::Process { id, command, ticket });
    }

    /// Sends a signal to a process and its whole group. No event reports the outcome.
    pub fn signal_group(&self, id: ProcId, signum: i32) {
        self.tell(Command::SignalGroup { id, signum });
    }

    /// Watches a process that an earlier engine, in a program that is gone, has started. What the
    /// kernel still tells of it is told at its end; its exit status is not among that.
    pub fn adopt(&self, started: Started) {
        self.tell(Command::Adopt(Box::new(started)));
    }

    /// Waits until no process is being made, and then has the engine stand still, until what is
    /// given back is dropped. What it holds can then be handed over to another program. All that
    /// happened before has been told.
    ///
    /// # Errors
    /// Where some process was still being made after `patience`; the engine goes on.
    pub fn quiesce(&self, patience: Duration) -> Result<(Handover, Quiesced), StillStarting> {
        let (tell, told) = mpsc::channel();
        let (release, resume) = mpsc::channel();
        self.tell(Command::Quiesce(Quiesce { tell, resume }));
        let handover = told.recv_timeout(patience).map_err(|_| StillStarting)?;
        Ok((handover, Quiesced(release)))
    }

    /// Drops all that is held of a process that has ended, and its captures' files; who holds one
    /// reads on.
    pub fn forget(&self, id: ProcId) {
        self.tell(Command::Forget(id));
    }

    fn tell(&self, command: Command) {
        self.inbox.put(DriverMessage::Command(command));
    }
}

/// An engine that stands still; dropping this lets it go on.
pub struct Quiesced(#[expect(dead_code, reason = "dropping it is its use")] mpsc::Sender<()>);

/// Some process was still being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a process is still being set up")]
pub struct StillStarting;

impl Drop for Engine {
    fn drop(&mut self) {
        self.tell(Command::EndDriver);
    }
}
