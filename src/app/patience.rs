//! How long the end waits for a reader of our output: without a signal for ever, after one only
//! while the reader makes progress.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::sleep;

use crate::actors::signals::ShutdownRequests;
use crate::cli::printing;

/// Time without progress after which a reader counts as stuck.
const STUCK: Duration = Duration::from_secs(5);

/// The output is given up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GivenUp;

/// The waiting time of one run.
pub(super) struct Patience {
    orders: ShutdownRequests,
    /// Maximum age of a signal that may have led to the end: an older one has not ended the
    /// foreground process.
    recent: Duration,
}

impl Patience {
    pub(super) fn new(orders: ShutdownRequests, recent: Duration) -> Patience {
        Patience { orders, recent }
    }

    /// Waits until output is written. After a signal, gives up when the reader makes no progress
    /// for a while, or when another signal comes.
    ///
    /// # Errors
    /// The output is given up.
    pub(super) async fn wait<T>(&self, written: impl Future<Output = T>) -> Result<T, GivenUp> {
        self.wait_while(written, printing::passed_on).await
    }

    async fn wait_while<T>(
        &self,
        written: impl Future<Output = T>,
        passed_on: impl Fn() -> u64,
    ) -> Result<T, GivenUp> {
        let mut written = pin!(written);
        let mut orders = self.orders.clone();
        let ordered = orders.last().is_some_and(|at| at.elapsed() <= self.recent);
        if !ordered {
            tokio::select! {
                biased;
                done = &mut written => return Ok(done),
                () = orders.another() => {}
            }
        }
        loop {
            let before = passed_on();
            tokio::select! {
                biased;
                done = &mut written => return Ok(done),
                () = orders.another() => return Err(GivenUp),
                () = sleep(STUCK) => {
                    if passed_on() == before {
                        return Err(GivenUp);
                    }
                }
            }
        }
    }
}

/// The maximum age of a signal that may have led to the end, for this grace period of a foreground
/// process.
pub(super) fn recent(foreground: Option<Duration>) -> Duration {
    // Every signal, of any age, ends a one-shot.
    foreground.map_or(Duration::MAX, |grace| grace.saturating_add(STUCK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::signals::ShutdownLog;
    use std::cell::Cell;
    use std::future::pending;
    use tokio::time::Instant;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn advance(log: &ShutdownLog, by: Duration) {
        sleep(by).await;
        log.note();
    }

    #[actix_rt::test]
    async fn without_an_order_it_waits_for_ever() {
        tokio::time::pause();
        let patience = Patience::new(ShutdownLog::default().orders(), Duration::MAX);
        let slow = async {
            sleep(HOUR).await;
            5
        };
        assert_eq!(patience.wait_while(slow, || 0).await, Ok(5));
    }

    #[actix_rt::test]
    async fn after_an_order_a_reader_that_takes_nothing_is_given_up() {
        tokio::time::pause();
        let log = ShutdownLog::default();
        let patience = Patience::new(log.orders(), Duration::MAX);
        let begun = Instant::now();
        let (given_up, ()) =
            tokio::join!(patience.wait_while(pending::<()>(), || 0), advance(&log, HOUR));
        assert_eq!((given_up, begun.elapsed().as_secs()), (Err(GivenUp), 3605));
        // For a one-shot, an earlier signal counts too.
        assert_eq!(patience.wait_while(pending::<()>(), || 0).await, Err(GivenUp));
    }

    #[actix_rt::test]
    async fn a_slow_reader_is_waited_for_until_another_order() {
        tokio::time::pause();
        let log = ShutdownLog::default();
        log.note();
        let patience = Patience::new(log.orders(), Duration::MAX);
        let taken = Cell::new(0);
        let passed_on = || {
            taken.set(taken.get() + 1);
            taken.get()
        };
        let begun = Instant::now();
        let (given_up, ()) =
            tokio::join!(patience.wait_while(pending::<()>(), passed_on), advance(&log, HOUR));
        assert_eq!((given_up, begun.elapsed().as_secs()), (Err(GivenUp), 3600));
    }

    #[actix_rt::test]
    async fn an_order_of_long_ago_did_not_end_the_process() {
        tokio::time::pause();
        let log = ShutdownLog::default();
        log.note();
        sleep(HOUR).await;
        let patience = Patience::new(log.orders(), recent(Some(Duration::from_secs(10))));
        let slow = async { sleep(HOUR).await };
        assert_eq!(patience.wait_while(slow, || 0).await, Ok(()));
    }
}
