//! Stacks for cloned children.

use std::io;

use super::check;
use crate::mem::page_size;

/// A stack for a cloned child, with a guard page below it.
pub(in crate::engine) struct Stack {
    base: *mut libc::c_void,
    /// The size with the guard page.
    size: usize,
}

// SAFETY: the mapping belongs to this value alone, and is reachable from any thread.
unsafe impl Send for Stack {}
// SAFETY: a shared reference exposes nothing but an address.
unsafe impl Sync for Stack {}

impl Stack {
    /// Room for a child and the kernel's signal frames.
    const ROOM: usize = 64 * 1024;

    /// Maps a stack of 64 KiB or a page, whichever is more, and a guard page below.
    ///
    /// # Errors
    /// The OS error of mapping.
    pub(in crate::engine) fn new() -> io::Result<Self> {
        let page = page_size();
        let size = Self::ROOM.next_multiple_of(page) + page;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_STACK | libc::MAP_ANONYMOUS;
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches nothing of
        // ours.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), size, access, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Stack { base, size };
        // SAFETY: exactly the first page of our own mapping, which nothing points into yet.
        check(unsafe { libc::mprotect(base, page, libc::PROT_NONE) })?;
        Ok(stack)
    }

    /// The lowest address of the room for the child, and the size of the room.
    pub(in crate::engine) fn range(&self) -> (*mut libc::c_void, usize) {
        let guard = page_size();
        // SAFETY: the guard page is the first page of our own mapping.
        (unsafe { self.base.byte_add(guard) }, self.size - guard)
    }

    /// The address that the stack grows down from, aligned to a page.
    pub(in crate::engine) fn top(&self) -> *mut libc::c_void {
        // SAFETY: one past the end of our own mapping, whose size this is.
        unsafe { self.base.byte_add(self.size) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping of this size. Its user keeps it alive, so nothing uses it any
        // more.
        unsafe { libc::munmap(self.base, self.size) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn all_of_a_stack_but_its_guard_page_can_be_written() {
        let stack = Stack::new().unwrap();
        let page = page_size();
        let top = stack.top().cast::<u8>();
        assert_eq!(top as usize % page, 0);
        let room = stack.size - page;
        assert!(room >= Stack::ROOM);
        for at in [1, room / 2, room] {
            // SAFETY: within the mapping, above its guard page.
            unsafe { top.byte_sub(at).write(1) };
        }
        // The page below exists and is protected: a read by the kernel fails.
        let below = top.wrapping_byte_sub(room + 1);
        let (_reader, writer) = crate::engine::sys::pipe().unwrap();
        // SAFETY: the kernel checks the address, and reads one byte or fails.
        let written = unsafe { libc::write(writer.as_raw_fd(), below.cast(), 1) };
        assert_eq!((written, io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EFAULT)));
    }
}
