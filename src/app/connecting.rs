//! The actor that connects to the scheduler, created from the settings.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::app::introduction::restricted_exe;
use crate::app::own_process::proc_info;
use crate::app::prepare::Dialer;
use crate::app::token::rotating_token;
use crate::app::worker::Worker;
use crate::cli::invocation::Run;
use crate::dispatch::websocket::{Connection, ConnectionOptions, Outcome};
use crate::net::dial::WssDialer;
use crate::net::socket::SocketLimits;
use crate::wire::{ConnInfo, ProcInfo};

impl Worker {
    /// The connection, not started yet, and a receiver of its end.
    pub(super) fn connection(
        &self,
        (host, tls): Dialer,
        run: &Run,
    ) -> (Connection, oneshot::Receiver<Outcome>) {
        let settings = &run.settings;
        let agent = &settings.agent;
        let (pid, ppid) = self.launched;
        let options = ConnectionOptions {
            conn: ConnInfo {
                conn_id: self.conn_id.clone(),
                group_id: agent.group_id.clone(),
                restricted_exe: restricted_exe(settings),
            },
            proc: ProcInfo { pid, ppid, ..proc_info() },
            token: rotating_token(
                "agent.token",
                agent.token.clone(),
                run.token_files.agent.as_deref(),
            ),
            connect: agent.connect.clone(),
            register_timeout: agent.register_timeout,
            ping_interval: agent.ping_interval,
            read_timeout: agent.read_timeout,
            push_interval: agent.push_interval,
        };
        let limits = SocketLimits { max_message: agent.max_message, ..SocketLimits::default() };
        let dialer = Rc::new(WssDialer::new(&host, agent.port, tls).limits(limits));
        let (end_sender, ended) = oneshot::channel();
        (
            Connection::new(
                options,
                self.actors.clone(),
                Arc::clone(&self.context),
                dialer,
                end_sender,
            ),
            ended,
        )
    }
}
