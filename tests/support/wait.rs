//! Waiting for a condition, with one deadline for all test programs.

use std::time::{Duration, Instant};

/// Longest wait of a test; then it fails.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Number of checks without a pause. Most conditions hold by then; later checks leave the processor
/// to the awaited process.
const EAGER_CHECKS: u32 = 200;

/// Result of a check: whether a condition holds, or the value that a test looks for.
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

/// Checks repeatedly until the condition holds or a value is found, and returns the value.
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

/// Like [`eventually`], but lets other tasks of the runtime run. Uses real time.
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

/// Awaits a future within the deadline, in real time.
pub async fn soon<F: Future>(what: F) -> F::Output {
    tokio::time::timeout(DEADLINE, what).await.expect("it happens before the deadline")
}
