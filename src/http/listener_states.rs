//! The addresses that the service listens on, and the missing ones.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::api::ListenerState;

/// The present state of all listeners.
#[derive(Debug, Default)]
pub struct ListenerStates(Mutex<Vec<ListenerState>>);

impl ListenerStates {
    fn lock(&self) -> MutexGuard<'_, Vec<ListenerState>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the states.
    pub fn set(&self, listeners: Vec<ListenerState>) {
        *self.lock() = listeners;
    }

    /// The present states.
    pub fn get(&self) -> Vec<ListenerState> {
        self.lock().clone()
    }

    /// The number of open listeners, and of missing ones.
    pub(super) fn count(&self) -> (usize, usize) {
        let listeners = self.lock();
        let missing = listeners.iter().filter(|one| one.error.is_some()).count();
        (listeners.len() - missing, missing)
    }
}
