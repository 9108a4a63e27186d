//! What the connection tells of itself to whoever asks: how it is, not what goes over it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::clock::TimePoint;

/// How far a connection is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// Between two attempts.
    #[default]
    Waiting,
    /// An attempt is made.
    Connecting,
    /// The server is connected, and has not answered the registration.
    Registering,
    /// The server knows this agent.
    Registered,
    /// There will be no other attempt.
    Closed,
}

impl LinkState {
    /// Its name in answers.
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
    /// How far it is.
    pub state: LinkState,
    /// When it came to that; none before the first attempt.
    pub since: Option<TimePoint>,
    /// Failed attempts in a row.
    pub failures: u64,
    /// How often it was registered.
    pub registrations: u64,
    /// How long the last ping took to be answered.
    pub round_trip: Option<Duration>,
    /// Why it was lost last, or could not be made.
    pub last_error: Option<String>,
}

/// The connection's present state, written by it alone and read by anybody.
#[derive(Debug, Default)]
pub struct LinkStatus(Mutex<LinkInfo>);

impl LinkStatus {
    /// As it is now.
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
