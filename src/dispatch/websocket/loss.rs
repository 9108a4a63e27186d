//! The consequences of a failed attempt, and of the loss of a connection.

use std::time::Duration;

use actix::Context;
use tokio::time::Instant;

use super::end::End;
use super::health::{Loss, Recovery};
use super::session::Phase;
use super::{Connection, LinkPhase};
use crate::actors::messages::Shutdown;
use crate::net::dial::DialError;

impl Connection {
    /// The connection is lasting: earlier trouble is over.
    pub(super) fn lasted(&mut self) {
        if let Some(Recovery { failures, after }) = self.health.lasted(Instant::now()) {
            tracing::info!(
                conn_id = self.conn_id(),
                failed_attempts = failures,
                ?after,
                "connection is stable again"
            );
        }
        self.status.change(|link| link.failures = 0);
    }

    /// An attempt has failed before the connection was made.
    pub(super) fn attempt_failed(&mut self, error: &DialError, ctx: &mut Context<Self>) {
        self.health.failed(Instant::now());
        self.retry(error.to_string(), ctx);
    }

    /// The connection is over. TCP is closed at once.
    pub(super) fn lost(&mut self, end: &End, ctx: &mut Context<Self>) {
        let LinkPhase::Connected(session) = std::mem::replace(&mut self.link, LinkPhase::Idle)
        else {
            return;
        };
        session.outbound.abort();
        let now = Instant::now();
        if self.finishing || matches!(session.phase, Phase::Finishing { .. }) {
            tracing::debug!(conn_id = self.conn_id(), "connection closed");
            self.finish(ctx);
        } else if let Some(since) = session.registered_since() {
            self.lost_after(now.saturating_duration_since(since), end, ctx);
        } else {
            self.health.failed(now);
            let text = end.of_registration(self.conn_id());
            self.retry(text, ctx);
        }
    }

    /// A registered connection is lost at this age.
    fn lost_after(&mut self, age: Duration, end: &End, ctx: &mut Context<Self>) {
        let cause = end.likely_cause(self.conn_id());
        match self.health.lost(age, end.is_restart(), Instant::now()) {
            Loss::Lasting(wait) | Loss::Young(wait, 1) => {
                tracing::warn!(conn_id = self.conn_id(), "connection lost, reconnecting: {end}");
                self.status.failed(0, end.to_string());
                self.wait(wait, ctx);
            }
            Loss::Young(wait, young) => {
                tracing::warn!(
                    conn_id = self.conn_id(),
                    ?age,
                    "connection lost, reconnecting: {end}; {young} in a row ended soon after the registration: {cause}"
                );
                self.status.failed(0, format!("{end}; {cause}"));
                self.wait(wait, ctx);
            }
            Loss::Failure(young) => {
                let text = format!(
                    "connection lost: {end}; {young} in a row ended soon after the registration: {cause}"
                );
                self.retry(text, ctx);
            }
        }
    }

    /// After a failed attempt: another one after a wait, or none. A failure is logged as a warning,
    /// and as an error once the trouble has lasted long.
    fn retry(&mut self, text: String, ctx: &mut Context<Self>) {
        let (conn_id, attempt) = (self.conn_id().to_owned(), self.health.failures());
        let wait = self.health.next_wait();
        if wait.is_none() || self.health.is_serious(Instant::now()) {
            tracing::error!(conn_id, attempt, "{text}");
        } else {
            tracing::warn!(conn_id, attempt, "{text}");
        }
        self.status.failed(attempt, text);
        match wait {
            Some(wait) => {
                tracing::info!(conn_id, ?wait, "next attempt");
                self.wait(wait, ctx);
            }
            None => {
                tracing::error!(
                    conn_id,
                    attempts = attempt,
                    "giving up connecting to the scheduler"
                );
                self.gave_up = true;
                self.agent.shut_down(Shutdown::GiveUp);
                self.finish(ctx);
            }
        }
    }
}
