//! What the service listens on, and what it should listen on and does not.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use utoipa::ToSchema;

/// An address that the service is to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ListenerState {
    /// `ADDRESS:PORT`, or the path of a Unix socket.
    pub address: String,
    /// Why nobody can connect there, while it is tried again; null where it listens.
    pub error: Option<String>,
}

/// All of them, as they are now.
#[derive(Debug, Default)]
pub struct ListenerStates(Mutex<Vec<ListenerState>>);

impl ListenerStates {
    fn lock(&self) -> MutexGuard<'_, Vec<ListenerState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// They have changed.
    pub fn set(&self, listeners: Vec<ListenerState>) {
        *self.lock() = listeners;
    }

    /// They as they are.
    pub fn get(&self) -> Vec<ListenerState> {
        self.lock().clone()
    }

    /// How many listen, and how many do not.
    pub(super) fn count(&self) -> (usize, usize) {
        let listeners = self.lock();
        let missing = listeners.iter().filter(|one| one.error.is_some()).count();
        (listeners.len() - missing, missing)
    }
}
