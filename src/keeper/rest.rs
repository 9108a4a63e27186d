//! Giving back, before a long rest, the memory that only the work before it has needed.

use std::time::Duration;

use crate::engine::footprint;

/// How long nothing must have happened.
pub const AFTER: Duration = Duration::from_millis(500);

/// Gives back what can be had again: pages of code, and what `malloc` holds free.
pub fn give_back() {
    // SAFETY: takes no pointer, and may be called at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    footprint::reduce();
}
