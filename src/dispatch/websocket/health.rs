//! The health of the connection: failed attempts, connections that ended young, and the
//! consequences. Pure: the caller passes the time.
//!
//! After the loss of a lasting connection the agent connects again at once, because a scheduler
//! that restarts is back in a moment. A connection that ends young may have the same reason, so the
//! first few in a row are treated alike. More of them mean that the scheduler, or another agent
//! with the same connection ID, ends them: each counts as a failed attempt, with the wait after
//! one.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::ConnectSettings;
use crate::net::backoff::Backoff;

/// The minimum age of a lasting connection.
const LASTING: Duration = Duration::from_secs(60);
/// The number of connections in a row that may end young before each counts as a failed attempt.
const FORGIVEN: u32 = 5;
/// The maximum wait for a scheduler that restarts repeatedly.
const RESTART: Duration = Duration::from_secs(5);
/// Trouble is an error from this duration on, and a warning before.
const SERIOUS: Duration = Duration::from_secs(60);

/// The health of a connection over all its attempts.
pub(super) struct Health {
    backoff: Backoff,
    count_max: Option<u64>,
    /// Failed attempts in a row.
    failures: u64,
    /// Registered connections in a row that ended young.
    young: u32,
    /// The beginning of the present trouble.
    since: Option<Instant>,
}

/// The consequence of the loss of a registered connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// It was lasting: connect again after this wait.
    Lasting(Duration),
    /// It ended young, the latest of so many in a row: connect again after this wait.
    Young(Duration, u32),
    /// Too many ended young: it counts as a failed attempt.
    Failure(u32),
}

/// The end of a period of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recovery {
    /// The failed attempts in it.
    pub(super) failures: u64,
    /// Its duration.
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

    /// The age of a lasting connection. Another agent with the same ID ends this one's connection
    /// after its own wait; so the age grows with the waits, and two such agents compete ever less
    /// often.
    pub(super) fn lasting(&self) -> Duration {
        LASTING.max(self.backoff.ceiling().saturating_mul(2))
    }

    /// An attempt has failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.failures += 1;
        self.since.get_or_insert(now);
    }

    /// A registered connection is lost at this age, because the scheduler `restarts` or for another
    /// reason.
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
            // The scheduler works, and announces its restarts; their number is no reason to give
            // up.
            self.since.get_or_insert(now);
            return Loss::Young(self.backoff.next_wait().min(RESTART), self.young);
        }
        self.failed(now);
        Loss::Failure(self.young)
    }

    fn is_forgiven(&self) -> bool {
        self.young <= FORGIVEN
    }

    /// A registration has succeeded. That ends the failures, unless too many connections ended
    /// young: then only a [lasting](Self::lasted) one does.
    pub(super) fn registered(&mut self, now: Instant) -> Option<Recovery> {
        if self.is_forgiven() { self.recover(now) } else { None }
    }

    /// The connection is lasting.
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

    /// Whether the present trouble has lasted long.
    pub(super) fn is_serious(&self, now: Instant) -> bool {
        self.since.is_some_and(|since| now.saturating_duration_since(since) >= SERIOUS)
    }

    /// The wait after a failed attempt; none if no attempt will follow.
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
        // Otherwise it is a failure.
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
    fn a_lasting_connection_resets_the_backoff() {
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

    /// Two agents with one connection ID: each registration ends the other's connection.
    #[test]
    fn two_agents_of_one_id_come_ever_more_rarely() {
        let settings = ConnectSettings::default();
        let begin = Instant::now();
        let mut agents = [Health::new(&settings, 1), Health::new(&settings, 2)];
        // The time of the next registration of each; and the start of the present connection.
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
