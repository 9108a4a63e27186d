//! Collections that return the capacity of a past peak.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hash};

/// Capacity that is always kept.
const KEPT: usize = 1024;

/// A collection that can return unused capacity.
pub(crate) trait Shrink {
    /// Returns capacity if three quarters of it are unused. Call it after removals: the removals
    /// since the last call pay for its cost.
    fn shrink_if_sparse(&mut self);
}

/// The capacity to shrink to; `None` to keep the present one.
fn room(len: usize, capacity: usize) -> Option<usize> {
    (capacity > KEPT && len < capacity / 4).then_some((2 * len).max(KEPT / 2))
}

impl<K: Eq + Hash, V, S: BuildHasher> Shrink for HashMap<K, V, S> {
    fn shrink_if_sparse(&mut self) {
        if let Some(room) = room(self.len(), self.capacity()) {
            self.shrink_to(room);
        }
    }
}

impl<K: Eq + Hash, S: BuildHasher> Shrink for HashSet<K, S> {
    fn shrink_if_sparse(&mut self) {
        if let Some(room) = room(self.len(), self.capacity()) {
            self.shrink_to(room);
        }
    }
}

impl<T> Shrink for VecDeque<T> {
    fn shrink_if_sparse(&mut self) {
        if let Some(room) = room(self.len(), self.capacity()) {
            self.shrink_to(room);
        }
    }
}

impl<T> Shrink for Vec<T> {
    fn shrink_if_sparse(&mut self) {
        if let Some(room) = room(self.len(), self.capacity()) {
            self.shrink_to(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capacity_follows_the_contents() {
        let mut map: HashMap<u32, u32> = (0..100_000).map(|n| (n, n)).collect();
        let most = map.capacity();
        for n in 0..99_900 {
            map.remove(&n);
            map.shrink_if_sparse();
            assert!(map.capacity() < 16 * map.len().max(KEPT / 4), "{} of {n}", map.capacity());
        }
        assert!(map.capacity() < most / 10 && map.contains_key(&99_950));
        let mut queue: VecDeque<u32> = (0..100_000).collect();
        while queue.pop_front().is_some() {
            queue.shrink_if_sparse();
        }
        assert!(queue.capacity() <= KEPT);
        let mut few: Vec<u32> = Vec::with_capacity(KEPT);
        few.shrink_if_sparse();
        assert_eq!(few.capacity(), KEPT);
    }
}
