//! How well the connection goes: failed attempts, connections that ended young, and what follows from them. Pure: time is given.
//!
//! A connection that has lasted and is lost is made again at once, for a server that restarts is back in a moment. One that
//! ends young may have the same reason, so the first few in a row are treated alike; more of them mean that the server, or
//! another agent with the same connection ID, ends them. Each of those counts as a failed attempt, and is waited after as after one.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::ConnectSettings;
use crate::net::backoff::Backoff;

/// A connection lasts from this age on, at the earliest.
const LASTING: Duration = Duration::from_secs(60);
/// How many connections in a row may end young before each counts as a failed attempt.
const FORGIVEN: u32 = 5;
/// The longest wait for a server that restarts again and again.
const RESTART: Duration = Duration::from_secs(5);
/// Trouble that goes on for this time is an error, and before a warning.
const SERIOUS: Duration = Duration::from_secs(60);

/// The health of a connection over all its attempts.
pub(super) struct Health {
    backoff: Backoff,
    count_max: Option<u64>,
    /// Failed attempts in a row.
    failures: u64,
    /// Registered connections in a row that ended young.
    young: u32,
    /// When the present trouble began.
    since: Option<Instant>,
}

/// What follows from the loss of a registered connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It had lasted: connect again after this wait.
    Lasting(Duration),
    /// It ended young, as so many in a row: connect again after this wait all the same.
    Young(Duration, u32),
    /// It is one of too many, and counts as a failed attempt.
    Failure(u32),
}

/// The end of some trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recovery {
    /// Failed attempts before it.
    pub(super) failures: u64,
    /// How long it took.
    pub(super) after: Duration,
}

impl Health {
    pub(super) fn new(settings: &ConnectSettings, seed: u64) -> Self {
        let ConnectSettings { interval_start, interval_mult, interval_max, count_max } = *settings;
        Health {
            backoff: Backoff::new(interval_start, interval_mult, interval_max, seed),
            count_max,
            failures: 0,
            young: 0,
            since: None,
        }
    }

    /// Failed attempts in a row.
    pub(super) fn failures(&self) -> u64 {
        self.failures
    }

    /// From which age on a connection has lasted. Another agent of the same ID ends this one's connection whenever its own wait
    /// is over; so the age grows with the waits, and two such agents come ever more rarely.
    pub(super) fn lasting(&self) -> Duration {
        LASTING.max(self.backoff.ceiling().saturating_mul(2))
    }

    /// An attempt has failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures += 1;
        self.since.get_or_insert(now);
    }

    /// A registered connection is lost at this age, because the server `restarts`, or for another reason.
    pub(super) fn lost(&mut self, age: Duration, restarts: bool, now: Instant) -> Loss {
        if age >= self.lasting() {
            self.lasted(now);
            self.since = Some(now);
            return Loss::Lasting(self.backoff.reconnect_delay());
        }
        self.young = self.young.saturating_add(1);
        if self.is_forgiven() {
            self.since.get_or_insert(now);
            return Loss::Young(self.backoff.reconnect_delay(), self.young);
        }
        if restarts {
            // It works, and says so; how often it restarts is no reason to give it up.
            self.since.get_or_insert(now);
            return Loss::Young(self.backoff.next_wait().min(RESTART), self.young);
        }
        self.failed(now);
        Loss::Failure(self.young)
    }

    fn is_forgiven(&self) -> bool {
        self.young <= FORGIVEN
    }

    /// A registration has succeeded, which ends the failures; unless too many connections ended young: then only one that
    /// [lasts](Self::lasted) does.
    pub(super) fn registered(&mut self, now: Instant) -> Option<Recovery> {
        if self.is_forgiven() { self.recover(now) } else { None }
    }

    /// The connection has lasted.
    pub(super) fn lasted(&mut self, now: Instant) -> Option<Recovery> {
        self.young = 0;
        self.recover(now)
    }

    fn recover(&mut self, now: Instant) -> Option<Recovery> {
        let failures = std::mem::take(&mut self.failures);
        self.backoff.reset();
        let since = self.since.take()?;
        Some(Recovery { failures, after: now.saturating_duration_since(since) })
    }

    /// Whether the present trouble has gone on for long.
    pub(super) fn is_serious(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) >= SERIOUS)
    }

    /// The wait after a failed attempt; none where there shall be no other one.
    pub(super) fn next_wait(&mut self) -> Option<Duration> {
        let over = self.count_max.is_some_and(|max| self.failures >= max);
        (!over).then(|| self.backoff.next_wait())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn health(count_max: Option<u64>) -> Health {
        Health::new(&ConnectSettings { count_max, ..ConnectSettings::default() }, 7)
    }

    #[test]
    fn a_server_that_restarts_again_and_again_is_waited_for_and_not_given_up() {
        let mut health = health(Some(1));
        let now = Instant::now();
        for round in 1..=30 {
            let Loss::Young(wait, young) = health.lost(secs(1), true, now) else { panic!() };
            assert_eq!(young, round);
            assert!(wait <= RESTART && (round > FORGIVEN || wait < secs(1)), "{round} {wait:?}");
            assert_eq!(health.failures(), 0);
            health.registered(now);
        }
        // For another reason it is a failure.
        assert!(matches!(health.lost(secs(1), false, now), Loss::Failure(31)));
    }

    #[test]
    fn the_first_young_losses_in_a_row_are_forgiven_and_the_next_ones_are_failures() {
        let mut health = health(Some(3));
        let now = Instant::now();
        for round in 1..=FORGIVEN {
            assert!(matches!(health.lost(secs(1), false, now), Loss::Young(_, n) if n == round));
            assert!(health.registered(now).is_some());
        }
        for failures in 1..=3 {
            assert_eq!(health.lost(secs(1), false, now), Loss::Failure(5 + failures as u32));
            assert_eq!((health.failures(), health.next_wait().is_some()), (failures, failures < 3));
            assert_eq!(health.registered(now), None, "a registration alone ends no such trouble");
        }
        let recovery = health.lasted(now + secs(90));
        assert_eq!(recovery, Some(Recovery { failures: 3, after: secs(90) }));
        assert!(matches!(health.lost(secs(1), false, now), Loss::Young(_, 1)));
    }

    #[test]
    fn a_lasting_connection_starts_all_over() {
        let mut health = health(None);
        let now = Instant::now();
        for _ in 0..20 {
            assert!(
                matches!(health.lost(secs(60), false, now), Loss::Lasting(wait) if wait < secs(1))
            );
        }
        assert_eq!(health.failures(), 0);
    }

    #[test]
    fn a_registration_ends_failed_attempts() {
        let mut health = health(Some(3));
        let now = Instant::now();
        health.failed(now);
        health.failed(now);
        assert!(!health.is_serious(now + secs(59)) && health.is_serious(now + secs(60)));
        let recovery = health.registered(now + secs(61));
        assert_eq!(recovery, Some(Recovery { failures: 2, after: secs(61) }));
        assert!(!health.is_serious(now + secs(1000)) && health.failures() == 0);
        assert_eq!(health.registered(now), None);
    }

    /// Two agents of one connection ID: whoever registers ends the other's connection.
    #[test]
    fn two_agents_of_one_id_come_ever_more_rarely() {
        let settings = ConnectSettings::default();
        let begin = Instant::now();
        let mut agents = [Health::new(&settings, 1), Health::new(&settings, 2)];
        // When each registers next; and since when the one that is connected is.
        let mut next = [Some(begin), Some(begin + secs(1))];
        let mut connected: Option<(usize, Instant)> = None;
        let mut registrations = Vec::new();
        loop {
            let (i, at) = match next {
                [Some(a), Some(b)] if a > b => (1, b),
                [Some(a), _] => (0, a),
                [None, Some(b)] => (1, b),
                [None, None] => panic!("somebody always waits"),
            };
            if at > begin + secs(3600) {
                break;
            }
            registrations.push(at);
            agents[i].registered(at);
            next[i] = None;
            if let Some((other, since)) = connected.replace((i, at)) {
                let wait = match agents[other].lost(at - since, false, at) {
                    Loss::Lasting(wait) | Loss::Young(wait, _) => wait,
                    Loss::Failure(_) => agents[other].next_wait().unwrap(),
                };
                next[other] = Some(at + wait);
            }
        }
        let within = |from: u64, to: u64| {
            let span = begin + secs(from)..begin + secs(to);
            registrations.iter().filter(|at| span.contains(at)).count()
        };
        assert!(within(0, 60) <= 25, "{}", within(0, 60));
        assert!(within(600, 3600) <= 3000 / 30, "{}", within(600, 3600));
    }
}
