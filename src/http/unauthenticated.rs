//! Connections whose peers have not authenticated: limited in number, in number for each source,
//! and in time.
//!
//! Any user or machine that reaches a port can open connections to it and be silent. Such a
//! connection occupies a slot from its acceptance on, before the TLS handshake. It frees the slot
//! once a request on it is authorized, or when it closes. Without a free slot it is closed at once.
//! Connections of our own user are recognized by their sockets, and occupy none.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The source of connections, for the limit of their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum PeerSource {
    /// A user of this machine.
    User(u32),
    /// An address; of IPv6, the network of 64 bits, all of which belongs to one customer.
    Network(IpAddr),
}

impl PeerSource {
    pub(super) fn of(user: Option<u32>, address: IpAddr) -> PeerSource {
        match (user, address.to_canonical()) {
            (Some(uid), _) => PeerSource::User(uid),
            (None, IpAddr::V6(address)) => {
                let network = u128::from(address) >> 64 << 64;
                PeerSource::Network(Ipv6Addr::from(network).into())
            }
            (None, address) => PeerSource::Network(address),
        }
    }
}

impl std::fmt::Display for PeerSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PeerSource::User(uid) => write!(f, "user ID {uid}"),
            PeerSource::Network(IpAddr::V6(address)) if !address.is_loopback() => {
                write!(f, "{address}/64")
            }
            PeerSource::Network(address) => address.fmt(f),
        }
    }
}

/// Limits of such connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnauthenticatedLimits {
    /// Maximum number.
    pub connections: usize,
    /// Maximum number for one source: a user of this machine, or an address.
    pub per_source: usize,
    /// Maximum time.
    pub timeout: Duration,
}

impl UnauthenticatedLimits {
    /// The defaults.
    pub const DEFAULT: UnauthenticatedLimits = UnauthenticatedLimits {
        connections: 128,
        per_source: 16,
        timeout: Duration::from_secs(10),
    };
}

/// The limit that a connection has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitReached {
    /// The limit of all connections.
    All,
    /// The limit of its source.
    Source,
}

/// The slots, and counts of closed connections.
#[derive(Default)]
pub(super) struct Unauthenticated {
    taken: Mutex<HashMap<PeerSource, usize>>,
    /// Connections that were closed at once: at the limit of all, and at that of their source.
    refused: [AtomicU64; 2],
    /// Connections that were closed after their time.
    expired: AtomicU64,
}

impl Unauthenticated {
    fn taken(&self) -> MutexGuard<'_, HashMap<PeerSource, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a slot for a connection that was just accepted.
    ///
    /// # Errors
    /// The limit that is reached; it is counted, and logged when the count is a power of two.
    pub(super) fn admit(
        self: &Arc<Self>,
        source: PeerSource,
        limits: UnauthenticatedLimits,
    ) -> Result<Arc<Probation>, LimitReached> {
        let mut taken = self.taken();
        let full = if taken.get(&source).is_some_and(|count| *count >= limits.per_source) {
            Some(LimitReached::Source)
        } else {
            (taken.values().sum::<usize>() >= limits.connections).then_some(LimitReached::All)
        };
        if let Some(full) = full {
            drop(taken);
            self.refuse(full, source, limits);
            return Err(full);
        }
        *taken.entry(source).or_default() += 1;
        drop(taken);
        let slot = Slot { of: Arc::clone(self), source };
        let until = Instant::now() + limits.timeout;
        Ok(Arc::new(Probation { slot: Mutex::new(Some(slot)), until }))
    }

    fn refuse(&self, full: LimitReached, source: PeerSource, limits: UnauthenticatedLimits) {
        let [all, of_source] = &self.refused;
        let (count, setting, limit) = match full {
            LimitReached::All => (all, "http.unauthenticated_connections", limits.connections),
            LimitReached::Source => {
                (of_source, "http.unauthenticated_per_source", limits.per_source)
            }
        };
        let count = count.fetch_add(1, Ordering::Relaxed) + 1;
        if count.is_power_of_two() {
            tracing::warn!(
                %source, count, setting, limit,
                "closing connections of peers that have not authenticated, for there are too many"
            );
        }
    }

    /// Counts a connection that is closed after its time.
    pub(super) fn expire(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    /// The present number of such connections.
    pub(super) fn count(&self) -> usize {
        self.taken().values().sum()
    }

    /// The number of connections closed at once, by limit.
    pub(super) fn refused(&self) -> [(&'static str, u64); 2] {
        let [all, source] = &self.refused;
        [("total", all.load(Ordering::Relaxed)), ("source", source.load(Ordering::Relaxed))]
    }

    /// The number of connections closed after their time.
    pub(super) fn expired(&self) -> u64 {
        self.expired.load(Ordering::Relaxed)
    }
}

/// A slot, freed when this is dropped.
struct Slot {
    of: Arc<Unauthenticated>,
    source: PeerSource,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.of.taken();
        if let Some(count) = taken.get_mut(&self.source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.source);
            }
        }
    }
}

/// The slot of a connection, until its peer has authenticated.
pub(super) struct Probation {
    slot: Mutex<Option<Slot>>,
    pub(super) until: Instant,
}

impl std::fmt::Debug for Probation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probation").field("over", &self.is_over()).finish_non_exhaustive()
    }
}

impl Probation {
    fn slot(&self) -> MutexGuard<'_, Option<Slot>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the probation: the peer has authenticated.
    pub(super) fn end(&self) {
        let ended = self.slot().take();
        drop(ended);
    }

    pub(super) fn is_over(&self) -> bool {
        self.slot().is_none()
    }

    /// Ends the probation: its time is over.
    pub(super) fn expire(&self) {
        if let Some(slot) = self.slot().as_ref() {
            slot.of.expire();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEW: UnauthenticatedLimits =
        UnauthenticatedLimits { connections: 4, per_source: 2, timeout: Duration::from_secs(1) };

    fn address(text: &str) -> PeerSource {
        PeerSource::of(None, text.parse().unwrap())
    }

    #[test]
    fn a_source_has_few_slots_and_leaves_the_others_to_others() {
        let all = Arc::new(Unauthenticated::default());
        let first = [address("192.0.2.1"), address("::ffff:192.0.2.1")];
        let mut kept = first.map(|source| all.admit(source, FEW).unwrap()).to_vec();
        assert_eq!(all.admit(first[0], FEW).unwrap_err(), LimitReached::Source);
        kept.push(all.admit(PeerSource::User(7), FEW).unwrap());
        kept.push(all.admit(address("192.0.2.2"), FEW).unwrap());
        assert_eq!(all.admit(address("192.0.2.3"), FEW).unwrap_err(), LimitReached::All);
        assert_eq!((all.count(), all.refused()), (4, [("total", 1), ("source", 1)]));
        // One peer authenticates and stays, another one closes its connection.
        kept[0].end();
        kept.pop();
        assert_eq!(all.count(), 2);
        kept.push(all.admit(first[0], FEW).unwrap());
        assert_eq!(all.admit(first[0], FEW).unwrap_err(), LimitReached::Source);
        drop(kept);
        assert_eq!(all.count(), 0);
        assert!(all.taken().is_empty(), "no source is remembered for ever");
    }

    #[test]
    fn an_ipv6_network_is_one_source_and_users_differ_from_addresses() {
        assert_eq!(address("2001:db8::1"), address("2001:db8:0:0:ffff::2"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("2001:db8::1").to_string(), "2001:db8::/64");
        let local = "127.0.0.1".parse().unwrap();
        assert_ne!(PeerSource::of(Some(1), local), PeerSource::of(Some(2), local));
        assert_ne!(PeerSource::of(Some(1), local), PeerSource::of(None, local));
    }
}
