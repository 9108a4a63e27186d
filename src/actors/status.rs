//! The state of the connection to the scheduler, for status reports.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::clock::TimePoint;

/// The state of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// Between two attempts.
    #[default]
    Waiting,
    /// An attempt is under way.
    Connecting,
    /// The scheduler is connected, and has not answered the registration.
    Registering,
    /// The scheduler has registered this agent.
    Registered,
    /// No attempt will follow.
    Closed,
}

impl LinkState {
    /// The name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            LinkState::Waiting => "waiting",
            LinkState::Connecting => "connecting",
            LinkState::Registering => "registering",
            LinkState::Registered => "registered",
            LinkState::Closed => "closed",
        }
    }
}

/// A connection at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinkInfo {
    /// The state.
    pub state: LinkState,
    /// The time of the last change of the state; none before the first attempt.
    pub since: Option<TimePoint>,
    /// Failed attempts in a row.
    pub failures: u64,
    /// The number of registrations so far.
    pub registrations: u64,
    /// The round trip of the last answered ping.
    pub round_trip: Option<Duration>,
    /// The error of the last loss or failed attempt.
    pub last_error: Option<String>,
}

/// The connection's present state. The connection writes it; all threads read it.
#[derive(Debug, Default)]
pub struct LinkStatus(Mutex<LinkInfo>);

impl LinkStatus {
    /// The present state.
    pub fn get(&self) -> LinkInfo {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut LinkInfo)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn enter(&self, state: LinkState) {
        self.change(|link| {
            link.state = state;
            link.since = Some(TimePoint::now());
        });
    }

    pub(crate) fn failed(&self, failures: u64, error: String) {
        self.change(|link| {
            link.failures = failures;
            link.last_error = Some(error);
            link.round_trip = None;
        });
    }
}
