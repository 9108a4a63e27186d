//! Giving back, before a long rest, the memory that only the work before it has needed.

use std::time::Duration;

use crate::mem::text_pages;

/// How long nothing must have happened.
pub(crate) const IDLE: Duration = Duration::from_millis(500);

/// Gives back what can be had again: pages of code, and what `malloc` holds free.
pub(crate) fn trim_memory() {
    // SAFETY: takes no pointer, and may be called at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
    text_pages::drop_text_pages();
}
