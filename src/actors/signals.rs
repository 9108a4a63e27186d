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
    /// Handles SIGTERM, SIGINT, SIGQUIT and SIGUSR1 from now on.
    ///
    /// # Errors
    /// The OS error of installing a handler.
    pub fn new(supervisor: Recipient<Shutdown>) -> std::io::Result<Self> {
        let orders = [
            (SignalKind::terminate(), Shutdown::Terminate),
            (SignalKind::interrupt(), Shutdown::Terminate),
            (SignalKind::quit(), Shutdown::Kill),
            (SignalKind::user_defined1(), Shutdown::Idle),
        ];
        let listening = orders
            .into_iter()
            .map(|(kind, order)| Ok((signal(kind)?, order)))
            .collect::<std::io::Result<_>>()?;
        Ok(Signals { supervisor, listening })
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
    }
}

impl StreamHandler<Shutdown> for Signals {
    fn handle(&mut self, order: Shutdown, _: &mut Self::Context) {
        self.supervisor.do_send(order);
    }

    /// One of several streams: the others go on.
    fn finished(&mut self, _: &mut Self::Context) {}
}
