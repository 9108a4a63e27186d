//! The times at which bytes last passed over a connection, for the owner's read timeout.

use std::{cell::Cell, rc::Rc};

use tokio::time::Instant;

/// A handle to the instants of the last byte read and the last byte written; clones share them.
///
/// The instants are tokio's, so paused time holds for them.
#[derive(Clone, Debug)]
pub struct Activity(Rc<Instants>);

#[derive(Debug)]
struct Instants {
    read: Cell<Instant>,
    written: Cell<Instant>,
}

impl Activity {
    /// A handle with both times set to now.
    #[must_use]
    pub fn new() -> Self {
        let now = Instant::now();
        Self(Rc::new(Instants { read: Cell::new(now), written: Cell::new(now) }))
    }

    /// When the peer's last byte came. If the owner has left received messages in the queue for a
    /// while, the moment at which it made room counts too: while the socket is not read, its
    /// silence proves nothing about the peer.
    #[must_use]
    pub fn last_byte(&self) -> Instant {
        self.0.read.get()
    }

    /// When the system last accepted a byte of ours.
    #[must_use]
    pub fn last_write(&self) -> Instant {
        self.0.written.get()
    }

    /// Records that bytes came, now.
    pub fn touch(&self) {
        self.0.read.set(Instant::now());
    }

    /// Records that bytes went out, now.
    pub fn touch_write(&self) {
        self.0.written.set(Instant::now());
    }
}

impl Default for Activity {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clones_share_the_instants() {
        let activity = Activity::new();
        let (start, clone) = (activity.last_byte(), activity.clone());
        tokio::time::advance(Duration::from_secs(60)).await;
        clone.touch();
        assert_eq!(activity.last_byte() - start, Duration::from_secs(60));
        assert_eq!(activity.last_write(), start);
        clone.touch_write();
        assert_eq!(activity.last_write(), activity.last_byte());
    }
}
