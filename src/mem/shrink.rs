//! Collections that give back the room which only a crowd has needed.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hash};

/// Less room than this is kept, whatever is in it.
const KEPT: usize = 1024;

/// A collection whose room can be given back.
pub(crate) trait Shrink {
    /// Gives room back if three quarters of it are not used. To be called where something has been taken out: what it costs is paid
    /// for by what has been taken out since the last time.
    fn shrink_if_sparse(&mut self);
}

/// The room to shrink to; none where it stays.
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
    fn room_follows_what_is_in_it() {
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
