//! The actor that turns the agent's own signals into orders.

use actix::{Actor, Context, Recipient, StreamHandler};
use futures_util::stream::unfold;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::messages::Shutdown;

/// The actor.
pub struct Signals {
    supervisor: Recipient<Shutdown>,
    listening: Vec<(Signal, Shutdown)>,
}

impl Signals {
    /// Handles SIGTERM, SIGINT, SIGQUIT, SIGUSR1 and, unless it is ignored, SIGHUP from now on.
    ///
    /// # Errors
    /// The OS error of installing a handler.
    pub fn new(supervisor: Recipient<Shutdown>) -> std::io::Result<Self> {
        // Under nohup the agent shall outlive its terminal.
        let hangup =
            (!is_ignored(libc::SIGHUP)).then_some((SignalKind::hangup(), Shutdown::Terminate));
        let orders = [
            (SignalKind::terminate(), Shutdown::Terminate),
            (SignalKind::interrupt(), Shutdown::Terminate),
            (SignalKind::quit(), Shutdown::Kill),
            (SignalKind::user_defined1(), Shutdown::Idle),
        ];
        let listening = orders
            .into_iter()
            .chain(hangup)
            .map(|(kind, order)| Ok((signal(kind)?, order)))
            .collect::<std::io::Result<_>>()?;
        Ok(Signals { supervisor, listening })
    }
}

/// Whether this process was started with a signal ignored.
fn is_ignored(signum: libc::c_int) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only; the kernel fills the struct that the pointer is to, of which all zero is a valid value.
    let action = unsafe {
        libc::sigaction(signum, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
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
    }
}

impl StreamHandler<Shutdown> for Signals {
    fn handle(&mut self, order: Shutdown, _: &mut Self::Context) {
        self.supervisor.do_send(order);
    }

    /// One of several streams: the others go on.
    fn finished(&mut self, _: &mut Self::Context) {}
}
