//! What the service listens on, and what it should listen on and does not.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::api::ListenerState;

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
