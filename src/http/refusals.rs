//! Refused requests: they are counted and logged, and answered late if they may be guesses at a
//! secret.
//!
//! The counts are kept by address and, within this machine, by user: no user waits because of
//! another one. Only refusals wait. A request with the right token never waits, not even among
//! wrong ones from the same address: a token of 128 bits cannot be guessed at any rate, and a
//! client that shares an address with an attacker must not be locked out. The delay saves work and
//! log entries.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::access::{Kind, Refusal};
use super::guard::Peer;

/// The delay of the first wrong guess; each further one doubles it.
const FIRST: Duration = Duration::from_millis(100);
/// The longest delay.
const LONGEST: Duration = Duration::from_secs(5);
/// Maximum number of refusals that wait: of one peer, and of all. Others are answered at once, with
/// 429.
const WAITING_OF_ONE: usize = 4;
const WAITING: usize = 64;
/// Maximum number of recorded peers; the one whose last refusal is oldest makes room.
const PEERS: usize = 1024;
/// After this time without a refusal, a peer's count restarts.
const FORGET: Duration = Duration::from_secs(600);

/// The identity of a refused peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PeerKey {
    /// `None` on a Unix socket. Of IPv6 only the network: a host can have any number of addresses
    /// in it.
    address: Option<IpAddr>,
    uid: Option<u32>,
}

impl PeerKey {
    fn of(peer: Option<&Peer>) -> PeerKey {
        let (address, uid) = peer.map_or((None, None), Peer::who);
        let network = |address: Ipv6Addr| {
            let network = u128::from(address) >> 64 << 64;
            if address.is_loopback() { address } else { network.into() }
        };
        let address = address.map(|address| match address {
            IpAddr::V6(address) => network(address).into(),
            v4 => v4,
        });
        PeerKey { address, uid }
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{address}")?,
            None => f.write_str("unix socket")?,
        }
        self.uid.map_or(Ok(()), |uid| write!(f, " (user ID {uid})"))
    }
}

/// The record of a peer.
#[derive(Clone, Copy)]
struct PeerRecord {
    refused: u64,
    guesses: u32,
    waiting: usize,
    last: Instant,
}

/// The time at which a refusal is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Throttle {
    Now,
    After(Duration),
    /// At once, with the advice to wait this long: too many refusals wait already.
    TooMany(Duration),
}

/// The refusals of a service.
#[derive(Default)]
pub(super) struct Refusals {
    peers: Mutex<HashMap<PeerKey, PeerRecord>>,
    counts: [AtomicU64; Kind::ALL.len()],
}

impl Refusals {
    /// Counts and logs a refusal, and delays its answer. If the peer has guessed too often, returns
    /// the seconds that it should wait.
    pub(super) async fn settle(&self, peer: Option<&Peer>, refusal: &Refusal) -> Option<u64> {
        let who = PeerKey::of(peer);
        let kind =
            Kind::ALL.iter().zip(&self.counts).find(|((kind, _), _)| *kind == refusal.kind());
        if let Some((_, count)) = kind {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let (count, verdict) = self.note(who, refusal.is_guess(), Instant::now());
        if count.is_power_of_two() {
            tracing::warn!(address = %who, count, reason = %refusal, "refused an HTTP request");
        } else {
            tracing::info!(address = %who, count, reason = %refusal, "refused an HTTP request");
        }
        match verdict {
            Throttle::Now => None,
            Throttle::After(delay) => {
                let _waiting = DelayedRefusal { refusals: self, who };
                tokio::time::sleep(delay).await;
                None
            }
            Throttle::TooMany(delay) => Some(delay.as_secs().max(1)),
        }
    }

    /// The number of refusals of each kind, with the kind's name.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = Kind::ALL.iter().zip(&self.counts);
        counts.map(|((_, name), count)| (*name, count.load(Ordering::Relaxed)))
    }

    /// Counts a refusal of a peer; returns the peer's count, and the time of the answer. A delayed
    /// refusal has to be marked as done.
    fn note(&self, who: PeerKey, is_guess: bool, now: Instant) -> (u64, Throttle) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = peers.values().map(|known| known.waiting).sum();
        if peers.len() >= PEERS && !peers.contains_key(&who) {
            let idle = peers.iter().filter(|(_, known)| known.waiting == 0);
            let oldest = idle.min_by_key(|(_, known)| known.last).map(|(who, _)| *who);
            oldest.map(|oldest| peers.remove(&oldest));
        }
        let new = PeerRecord { refused: 0, guesses: 0, waiting: 0, last: now };
        let known = peers.entry(who).or_insert(new);
        if now.saturating_duration_since(known.last) >= FORGET && known.waiting == 0 {
            *known = new;
        }
        known.refused += 1;
        known.last = now;
        if !is_guess {
            return (known.refused, Throttle::Now);
        }
        let delay = FIRST.saturating_mul(1 << known.guesses.min(16)).min(LONGEST);
        known.guesses = known.guesses.saturating_add(1);
        if known.waiting >= WAITING_OF_ONE || all >= WAITING {
            return (known.refused, Throttle::TooMany(delay));
        }
        known.waiting += 1;
        (known.refused, Throttle::After(delay))
    }

    fn done(&self, who: PeerKey) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = peers.get_mut(&who) {
            known.waiting = known.waiting.saturating_sub(1);
        }
    }
}

/// A delayed refusal, until this is dropped: its connection may be closed meanwhile.
struct DelayedRefusal<'a> {
    refusals: &'a Refusals,
    who: PeerKey,
}

impl Drop for DelayedRefusal<'_> {
    fn drop(&mut self) {
        self.refusals.done(self.who);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(last: u8, uid: u32) -> PeerKey {
        PeerKey { address: Some(IpAddr::from([10, 0, 0, last])), uid: Some(uid) }
    }

    #[test]
    fn each_guess_doubles_the_delay_of_its_peer_alone() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let delays: Vec<_> = (0..8)
            .map(|_| {
                let (_, verdict) = refusals.note(who(1, 1), true, now);
                refusals.done(who(1, 1));
                let Throttle::After(delay) = verdict else { panic!("{verdict:?}") };
                delay.as_millis()
            })
            .collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        for other in [who(2, 1), who(1, 2)] {
            assert_eq!(refusals.note(other, true, now), (1, Throttle::After(FIRST)), "{other}");
        }
        assert_eq!(refusals.note(who(1, 1), false, now), (9, Throttle::Now), "no guess");
        assert_eq!(refusals.note(who(1, 1), true, now + FORGET), (1, Throttle::After(FIRST)));
    }

    #[test]
    fn few_wait_and_the_others_are_sent_away_at_once() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let note = |who| refusals.note(who, true, now).1;
        for _ in 0..WAITING_OF_ONE {
            assert!(matches!(note(who(1, 1)), Throttle::After(_)));
        }
        assert_eq!(note(who(1, 1)), Throttle::TooMany(FIRST * 16));
        for last in 2..=(WAITING / WAITING_OF_ONE) as u8 {
            for _ in 0..WAITING_OF_ONE {
                assert!(matches!(note(who(last, 1)), Throttle::After(_)), "{last}");
            }
        }
        assert_eq!(note(who(200, 1)), Throttle::TooMany(FIRST), "of all");
        refusals.done(who(1, 1));
        assert!(matches!(note(who(1, 1)), Throttle::After(_)));
    }

    #[test]
    fn peers_are_bounded_and_those_that_wait_are_kept() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        refusals.note(who(1, 0), true, now);
        for uid in 1..3000 {
            refusals.note(who(1, uid), false, now + Duration::from_millis(uid.into()));
        }
        let peers = refusals.peers.lock().unwrap();
        assert_eq!(peers.len(), PEERS);
        assert!(peers.contains_key(&who(1, 0)) && !peers.contains_key(&who(1, 1)));
    }

    #[actix_rt::test]
    async fn a_wrong_guess_waits_and_a_closed_connection_does_not_wait_on() {
        tokio::time::pause();
        let refusals = Refusals::default();
        let began = tokio::time::Instant::now();
        let guess = Refusal::WrongSession;
        assert_eq!(refusals.settle(None, &guess).await, None);
        let waited = began.elapsed();
        assert!((FIRST..2 * FIRST).contains(&waited), "{waited:?}");
        assert_eq!(refusals.settle(None, &Refusal::NoSession).await, None);
        assert_eq!(began.elapsed(), waited);
        for _ in 0..2 * WAITING_OF_ONE {
            let gone = refusals.settle(None, &guess);
            assert!(tokio::time::timeout(Duration::from_millis(1), gone).await.is_err());
        }
        let counts: Vec<_> = refusals.counts().collect();
        let guesses = 1 + 2 * WAITING_OF_ONE as u64;
        assert_eq!(
            counts,
            [("host", 0), ("site", 0), ("session", 1), ("guess", guesses), ("user", 0)]
        );
    }
}
