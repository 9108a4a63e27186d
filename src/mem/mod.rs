//! Memory that is returned when nobody needs it: pages of code, the allocator's free pages, the room of sparse tables.

pub(crate) mod shrink;
pub(crate) mod text_pages;
pub(crate) mod trim;

/// Makes `malloc` use one heap for all threads, to be called while there is one thread: the heaps that glibc makes for each thread
/// grow by a system call for every page, and keep what another thread has freed.
pub fn use_single_arena() {
    // SAFETY: `mallopt` takes no pointer, and no other thread allocates meanwhile. If the allocator refuses, nothing changes.
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
