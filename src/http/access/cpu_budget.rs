//! A limit on the CPU time of a search.
//!
//! A search holds up the thread that accepts connections, so its work is limited. Wall-clock time
//! would not measure that work: on a busy machine the thread may not run at all for a while, and
//! the owner's connection must be recognized there, too.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The CPU time up to which the current thread may search.
#[derive(Clone, Copy)]
pub(super) struct CpuBudget {
    end: Duration,
}

impl CpuBudget {
    /// A budget of this CPU time of this thread, from now on.
    pub(super) fn new(time: Duration) -> CpuBudget {
        CpuBudget { end: used().saturating_add(time) }
    }

    /// Whether this thread has used all of its time.
    pub(super) fn is_spent(self) -> bool {
        used() >= self.end
    }
}

/// The CPU time that this thread has used.
fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::MAX, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_spends_the_budget_and_waiting_does_not() {
        let budget = CpuBudget::new(Duration::from_millis(50));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!budget.is_spent());
        while !budget.is_spent() {
            std::hint::spin_loop();
        }
        assert!(CpuBudget::new(Duration::ZERO).is_spent());
    }
}
