//! The actor that turns the worker's own signals into orders of shutdown.

use actix::{Actor, Context, Recipient, StreamHandler};
use futures_util::stream::unfold;
use nix::sys::signal::{SigSet, Signal as NixSignal};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::Handle;
use super::messages::Shutdown;
use crate::engine::{ProcessCommand, StopOrder};
use crate::spec::ProcId;

/// The actor.
pub struct Signals {
    supervisor: Recipient<Shutdown>,
    listening: Vec<(Signal, Shutdown)>,
    keeper: Option<mpsc::UnboundedReceiver<Shutdown>>,
    foreground: Option<Foreground>,
    log: ShutdownLog,
}

/// Records orders to end.
#[derive(Debug)]
pub struct ShutdownLog(watch::Sender<Option<Instant>>);

impl Default for ShutdownLog {
    fn default() -> Self {
        ShutdownLog(watch::Sender::new(None))
    }
}

impl ShutdownLog {
    /// Records an order that comes now.
    pub fn note(&self) {
        self.0.send_replace(Some(Instant::now()));
    }

    /// The recorded orders.
    pub fn orders(&self) -> ShutdownRequests {
        ShutdownRequests(self.0.subscribe())
    }
}

/// The orders to end so far.
#[derive(Clone, Debug)]
pub struct ShutdownRequests(watch::Receiver<Option<Instant>>);

impl ShutdownRequests {
    /// The time of the last order, if any. [`another`](Self::another) waits for later ones.
    pub fn last(&mut self) -> Option<Instant> {
        *self.0.borrow_and_update()
    }

    /// Waits for another order.
    pub async fn another(&mut self) {
        if self.0.changed().await.is_err() {
            // The signal actor is gone: no order will come.
            std::future::pending().await
        }
    }
}

/// The process in the foreground, which gets the signals that otherwise end this program.
struct Foreground {
    id: ProcId,
    actors: Handle,
    /// Whether it has received a signal; the next one kills it.
    signaled: bool,
}

impl Signals {
    /// Follows the keeper's orders and the signals of this process. Handles SIGTERM, SIGINT,
    /// SIGQUIT and SIGUSR1 from now on. SIGHUP is the keeper's.
    ///
    /// # Errors
    /// The OS error of installing a handler.
    pub fn new(
        supervisor: Recipient<Shutdown>,
        keeper: mpsc::UnboundedReceiver<Shutdown>,
    ) -> std::io::Result<Self> {
        // The keeper gets the terminal's SIGHUP too, and only the keeper can distinguish a hangup
        // from a request for an upgrade.
        crate::engine::ignore(libc::SIGHUP)?;
        let orders = [
            (SignalKind::terminate(), Shutdown::Terminate),
            (SignalKind::interrupt(), Shutdown::Interrupt),
            (SignalKind::quit(), Shutdown::Kill),
            (SignalKind::user_defined1(), Shutdown::Idle),
        ];
        let listening = orders
            .into_iter()
            .map(|(kind, order)| Ok((signal(kind)?, order)))
            .collect::<std::io::Result<_>>()?;
        // A signal may have waited for this: see `keeper::signals::prepare_worker`.
        SigSet::from_iter([NixSignal::SIGUSR1]).thread_unblock()?;
        Ok(Signals {
            supervisor,
            listening,
            keeper: Some(keeper),
            foreground: None,
            log: ShutdownLog::default(),
        })
    }

    /// The orders to end from now on.
    pub fn orders(&self) -> ShutdownRequests {
        self.log.orders()
    }

    /// Passes the first SIGTERM or SIGINT on to this process; the second one kills it with all its
    /// descendants.
    ///
    /// Only the keeper's signals count: a terminal sends its signals to keeper and worker, and one
    /// must not count twice. If the process shares the terminal (`shared`), the terminal's signals
    /// are not for this program at all.
    pub fn in_foreground(mut self, id: ProcId, actors: Handle, shared: bool) -> Self {
        let terminals = |order| signal_of(order).is_some() || (shared && order == Shutdown::Kill);
        self.listening.retain(|(_, order)| !terminals(*order));
        self.foreground = Some(Foreground { id, actors, signaled: false });
        self
    }
}

/// Ignores the terminal's job control: only the keeper, which the shell knows, stops and ends the
/// job as a whole. SIGINT, SIGQUIT and SIGTERM are ignored until [`Signals`] handles them.
///
/// # Errors
/// The OS error of ignoring a signal, which does not occur.
pub fn leave_job_control() -> std::io::Result<()> {
    const JOBS: [i32; 6] =
        [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
    JOBS.into_iter().try_for_each(crate::engine::ignore)
}

/// The signal that the process in the foreground gets instead of an order.
fn signal_of(order: Shutdown) -> Option<i32> {
    match order {
        Shutdown::Terminate => Some(libc::SIGTERM),
        Shutdown::Interrupt => Some(libc::SIGINT),
        Shutdown::Idle | Shutdown::Kill | Shutdown::GiveUp => None,
    }
}

impl Actor for Signals {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for (signal, order) in self.listening.drain(..) {
            let orders = unfold(signal, move |mut signal| async move {
                signal.recv().await.map(|()| (order, signal))
            });
            <Self as StreamHandler<Shutdown>>::add_stream(orders, ctx);
        }
        if let Some(keeper) = self.keeper.take() {
            let orders = unfold(keeper, |mut keeper| async move {
                keeper.recv().await.map(|order| (order, keeper))
            });
            <Self as StreamHandler<Shutdown>>::add_stream(orders, ctx);
        }
    }
}

impl StreamHandler<Shutdown> for Signals {
    fn handle(&mut self, order: Shutdown, _: &mut Self::Context) {
        if order != Shutdown::Idle {
            self.log.note();
        }
        match (&mut self.foreground, signal_of(order)) {
            (Some(Foreground { signaled: true, .. }), Some(_)) => {
                self.supervisor.do_send(Shutdown::Kill);
            }
            (Some(foreground), signum @ Some(_)) => {
                foreground.signaled = true;
                let order = StopOrder { signum, ..StopOrder::default() };
                let command = ProcessCommand::Stop(order);
                foreground.actors.post_command(foreground.id.clone(), command);
            }
            _ => self.supervisor.do_send(order),
        }
    }

    /// One of several streams has ended; the others continue.
    fn finished(&mut self, _: &mut Self::Context) {}
}
