//! Waiting: one deadline for all rooms, and one way to wait for what nothing announces.

use std::time::{Duration, Instant};

/// How long anything may take. A test that waits longer fails.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How often a condition is checked without a pause. Most hold by then; afterwards the waiting test
/// leaves the processor to what it waits for.
const EAGER_CHECKS: u32 = 200;

/// What a check returns: whether something holds, or the thing that the test looks for.
pub trait Check {
    type Found;
    fn found(self) -> Option<Self::Found>;
}

impl Check for bool {
    type Found = ();
    fn found(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Check for Option<T> {
    type Found = T;
    fn found(self) -> Option<T> {
        self
    }
}

/// Checks until the condition holds or the value is there, and returns the value.
pub fn eventually<C: Check>(what: &str, mut check: impl FnMut() -> C) -> C::Found {
    let deadline = Instant::now() + DEADLINE;
    let mut checks = 0;
    loop {
        if let Some(found) = check().found() {
            return found;
        }
        assert!(Instant::now() < deadline, "still waiting for {what}");
        checks += 1;
        if checks < EAGER_CHECKS {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Like [`eventually`], while the other tasks of this thread's runtime go on. In real time.
pub async fn eventually_async<C: Check>(what: &str, mut check: impl FnMut() -> C) -> C::Found {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = check().found() {
            return found;
        }
        assert!(Instant::now() < deadline, "still waiting for {what}");
        tokio::task::yield_now().await;
    }
}

/// Awaits what must happen, in real time.
pub async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(DEADLINE, what).await.expect("it happens before the deadline")
}
