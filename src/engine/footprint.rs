//! How much of this program is resident, which every process that it makes begins with.
//!
//! The kernel carries the most that was resident over exec, from whoever clones a process into the `maxrss` of that process. And of a
//! program's code most is touched once, at the start, or now and then, and the kernel maps 64 KiB around every page that is. Pages of code
//! are the file's, unchanged: given back, they are mapped again where they are needed, at the cost of a page fault that reads
//! nothing.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long it is kept as it is while processes are made. Giving back costs some 0.2 ms with the page faults that follow.
const KEPT: Duration = Duration::from_millis(20);

/// When pages were last given back.
pub(super) struct Footprint(Mutex<Option<Instant>>);

impl Footprint {
    pub(super) fn new() -> Self {
        Footprint(Mutex::new(None))
    }

    /// Gives pages back, if that was not done lately. To be called just before a process is cloned.
    pub(super) fn lighten(&self) {
        // Whoever is about it does it for all.
        let Ok(mut last) = self.0.try_lock() else { return };
        if last.is_none_or(|last| last.elapsed() >= KEPT) {
            *last = Some(Instant::now());
            reduce();
        }
    }
}

/// A part of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: usize,
    length: usize,
}

/// Gives back the pages of code, and has the kernel count the most that was resident anew.
pub(crate) fn reduce() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    for Range { start, length } in maps.lines().filter_map(unchanged) {
        // SAFETY: the range is a private mapping of a file that nobody in this process can have changed, so what is read
        // there after this is what was read before; a mapping that is gone by now gives an error.
        unsafe {
            libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
        }
    }
    // Where that cannot be, figures are the larger ones.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The range of a line of `/proc/self/maps`, if it is of a program's or library's file and has never been writable: code,
/// and constants, which are at the file's beginning. What the linker has written and then protected is neither.
fn unchanged(line: &str) -> Option<Range> {
    let mut words = line.split_ascii_whitespace();
    let (range, perms, offset) = (words.next()?, words.next()?, words.next()?);
    let (_device, inode, path) = (words.next()?, words.next()?, words.next()?);
    let constant = perms == "r-xp" || (perms == "r--p" && offset.bytes().all(|b| b == b'0'));
    if !constant || inode == "0" || !path.starts_with('/') {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (start, end) = (number(start)?, number(end)?);
    Some(Range { start, length: end.checked_sub(start)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_never_written_is_given_back() {
        let maps = "\
55d0c8a00000-55d0c8ca7000 r--p 00000000 fe:00 1234                       /usr/bin/procstar
55d0c8ca7000-55d0c9317000 r-xp 002a6000 fe:00 1234                       /usr/bin/procstar
55d0c9318000-55d0c9357000 r--p 00916000 fe:00 1234                       /usr/bin/procstar
55d0c9357000-55d0c935b000 rw-p 00954000 fe:00 1234                       /usr/bin/procstar
55d0caa00000-55d0caa21000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000001000 r--p 00000000 00:00 0
7f0000001000-7f0000002000 r--s 00000000 fe:00 99                         /shared
7f0000002000-7f0000003000 rwxp 00000000 fe:00 99                         /written
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                          [vdso]
nonsense";
        let found: Vec<Range> = maps.lines().filter_map(unchanged).collect();
        assert_eq!(
            found,
            [
                Range { start: 0x55d0_c8a0_0000, length: 0x2a_7000 },
                Range { start: 0x55d0_c8ca_7000, length: 0x67_0000 },
            ]
        );
    }

    /// The program works on, whatever its threads are about.
    #[test]
    fn nothing_is_lost() {
        let work = || (0..2000u64).map(|n| n.to_string().len()).sum::<usize>();
        let before = work();
        std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..50).map(|_| work()).max())).collect();
            (0..20).for_each(|_| reduce());
            assert!(workers.into_iter().all(|worker| worker.join().unwrap() == Some(before)));
        });
        let text =
            String::from_utf8_lossy(&std::fs::read("/proc/self/statm").unwrap()).into_owned();
        assert_eq!(text.split_whitespace().count(), 7);
    }
}
