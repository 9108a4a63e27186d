//! Returning unneeded memory: pages of code, the allocator's free pages, the capacity of sparse
//! tables.

pub(crate) mod shrink;
pub(crate) mod text_pages;
pub(crate) mod trim;

/// Makes `malloc` use one heap for all threads. The per-thread heaps of glibc grow by a system call
/// for every page, and keep memory that another thread has freed. Call it before the second thread.
pub fn use_single_arena() {
    // SAFETY: `mallopt` takes no pointer, and no other thread allocates meanwhile. If the allocator
    // refuses, nothing changes.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// The size of a page of memory: 4 KiB on most machines, up to 64 KiB on some.
pub(crate) fn page_size() -> usize {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| usize::try_from(size).ok())
        .filter(|size| size.is_power_of_two())
        .unwrap_or(65536)
}
