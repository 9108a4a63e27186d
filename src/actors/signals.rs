//! The actor that turns the worker's own signals into orders.

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

/// Notes orders to end.
#[derive(Debug)]
pub struct ShutdownLog(watch::Sender<Option<Instant>>);

impl Default for ShutdownLog {
    fn default() -> Self {
        ShutdownLog(watch::Sender::new(None))
    }
}

impl ShutdownLog {
    /// Notes an order that comes now.
    pub fn note(&self) {
        self.0.send_replace(Some(Instant::now()));
    }

    /// What is noted.
    pub fn orders(&self) -> ShutdownRequests {
        ShutdownRequests(self.0.subscribe())
    }
}

/// The orders to end that have come.
#[derive(Clone, Debug)]
pub struct ShutdownRequests(watch::Receiver<Option<Instant>>);

impl ShutdownRequests {
    /// When the last one came, if one did. [`another`](Self::another) waits for later ones.
    pub fn last(&mut self) -> Option<Instant> {
        *self.0.borrow_and_update()
    }

    /// Waits for another.
    pub async fn another(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody listens to signals any more.
            std::future::pending().await
        }
    }
}

/// One process that runs in the foreground, and gets the signals that end this program otherwise.
struct Foreground {
    id: ProcId,
    actors: Handle,
    /// Whether it has got one; by the next it is killed.
    asked: bool,
}

impl Signals {
    /// Passes on what the keeper orders, who gets signals as well. Handles SIGTERM, SIGINT, SIGQUIT and SIGUSR1 from now on, and
    /// leaves SIGHUP to the keeper.
    ///
    /// # Errors
    /// The OS error of installing a handler.
    pub fn new(
        supervisor: Recipient<Shutdown>,
        keeper: mpsc::UnboundedReceiver<Shutdown>,
    ) -> std::io::Result<Self> {
        // The keeper gets the terminal's as well, and it alone knows a hangup from a wish for an upgrade.
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
        // It may have waited for this: see `keeper::signals::prepare_worker`.
        SigSet::from_iter([NixSignal::SIGUSR1]).thread_unblock()?;
        Ok(Signals {
            supervisor,
            listening,
            keeper: Some(keeper),
            foreground: None,
            log: ShutdownLog::default(),
        })
    }

    /// The orders to end that come from now on.
    pub fn orders(&self) -> ShutdownRequests {
        self.log.orders()
    }

    /// Passes SIGTERM and SIGINT on to this process instead, the first of them; the second kills it with all its descendants.
    ///
    /// Only those count that the keeper gets. A terminal sends its own to both, and one must not pass for two; and where the process shares the terminal
    /// with us (`shared`), none of the terminal's is for us.
    pub fn in_foreground(mut self, id: ProcId, actors: Handle, shared: bool) -> Self {
        let terminals = |order| signal_of(order).is_some() || (shared && order == Shutdown::Kill);
        self.listening.retain(|(_, order)| !terminals(*order));
        self.foreground = Some(Foreground { id, actors, asked: false });
        self
    }
}

/// Has what the terminal sends to the job neither stop nor end this program: the launched process alone is what the shell sees, and knows what is
/// for the job as a whole. SIGINT, SIGQUIT and SIGTERM are ignored until [`Signals`] handles them.
///
/// # Errors
/// The OS error, which does not occur.
pub fn leave_job_control() -> std::io::Result<()> {
    const JOBS: [i32; 6] =
        [libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];
    JOBS.into_iter().try_for_each(crate::engine::ignore)
}

/// The signal that a process in the foreground gets instead of this order.
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
            (Some(Foreground { asked: true, .. }), Some(_)) => {
                self.supervisor.do_send(Shutdown::Kill);
            }
            (Some(foreground), signum @ Some(_)) => {
                foreground.asked = true;
                let order = StopOrder { signum, ..StopOrder::default() };
                let command = ProcessCommand::Stop(order);
                foreground.actors.post_command(foreground.id.clone(), command);
            }
            _ => self.supervisor.do_send(order),
        }
    }

    /// One of several streams: the others go on.
    fn finished(&mut self, _: &mut Self::Context) {}
}
