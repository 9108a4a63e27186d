//! The number of descriptors that were duplicated for the second holder and are still open here.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Counted by the driver, which duplicates them, and by the keeper, which closes them once they are
/// sent.
#[derive(Debug, Default)]
pub(super) struct Lent {
    open: AtomicUsize,
    is_awaited: AtomicBool,
}

impl Lent {
    pub(super) fn add(&self, descriptors: usize) {
        self.open.fetch_add(descriptors, Ordering::SeqCst);
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// How many are open, for a driver that waits until there are fewer.
    pub(super) fn await_close(&self) -> usize {
        // First the flag, so that a close after this count finds it.
        self.is_awaited.store(true, Ordering::SeqCst);
        self.open()
    }

    /// Subtracts closed ones. Returns whether a driver waits for that.
    pub(super) fn close(&self, descriptors: usize) -> bool {
        let closed = |open: usize| Some(open.saturating_sub(descriptors));
        let _ = self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, closed);
        self.is_awaited.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_waiting_driver_is_reported_once() {
        let lent = Lent::default();
        lent.add(5);
        assert!(!lent.close(2));
        assert_eq!(lent.await_close(), 3);
        assert!(lent.close(1) && !lent.close(1));
        assert_eq!(lent.open(), 1);
    }
}
