//! The resident size of this program, at which the `maxrss` of each new process starts.
//!
//! The kernel carries the peak resident size of the cloning process over exec into the `maxrss` of
//! the new process. Most code of a program runs once at its start, or rarely, and the kernel maps
//! 64 KiB around every touched page. Pages of code are unchanged pages of a file: once dropped,
//! they are mapped again at the next use, at the cost of a page fault without I/O.
//!
//! The `maxrss` of a new process starts at the size that remains resident. A [`Floor`] is an upper
//! bound of that size: the kernel's mark of the peak, which is read before it is reset.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::mem::page_size;
use crate::procfs::parse_peaks;

/// Minimum time between two drops while processes are made. A drop costs some 0.2 ms with the page
/// faults that follow.
const KEPT: Duration = Duration::from_millis(20);

/// The time of the last drop of pages.
pub(crate) struct TextPages(Mutex<Option<Instant>>);

impl TextPages {
    pub(crate) fn new() -> Self {
        TextPages(Mutex::new(None))
    }

    /// Drops pages, unless that was done recently. Call it just before cloning a process, which
    /// gets the returned floor.
    pub(crate) fn drop_before_clone(&self) -> Floor {
        // If the lock is taken, another thread is already dropping pages for all.
        if let Ok(mut last) = self.0.try_lock()
            && last.is_none_or(|last| last.elapsed() >= KEPT)
        {
            *last = Some(Instant::now());
            drop_text_pages();
        }
        Floor::During(current())
    }
}

/// An unknown `ru_maxrss`. The kernel's values are never negative.
pub(crate) const UNKNOWN: i64 = -1;
/// Greatest difference between the kernel's two counts of resident memory, in KiB: one of them
/// lacks counts that single CPUs have not reported yet.
const MARGIN: i64 = 1024;

/// The time between two resets of the kernel's mark.
pub(crate) struct Era {
    /// The mark when it was last read, in KiB.
    peak: AtomicI64,
    over: AtomicBool,
}

/// The present era; `None` before the first process.
static ERA: Mutex<Option<Arc<Era>>> = Mutex::new(None);
/// The highest mark of all eras, in KiB.
static HIGHEST: AtomicI64 = AtomicI64::new(0);

/// The initial `maxrss` of a process: at most the resident size at its exec.
#[derive(Clone, Default)]
pub(crate) enum Floor {
    /// The process was executed in this era.
    During(Arc<Era>),
    /// An earlier program in this process executed it, and recorded this mark, in KiB.
    Known(i64),
    /// This program executed it, at an unknown time.
    #[default]
    Ever,
    /// An earlier program in this process executed it, at an unknown time.
    Before,
}

impl Floor {
    /// The floor of a process whose exec is over.
    pub(crate) fn executed(self) -> Floor {
        match self {
            Floor::During(era) if !Arc::ptr_eq(&era, &current()) => Floor::Ever,
            floor => floor,
        }
    }

    /// Whether this `maxrss`, in KiB, may be the kernel's initial value and not the process's own.
    pub(crate) fn covers(&self, maxrss: i64) -> bool {
        let above = |peak: i64| maxrss > peak.saturating_add(MARGIN);
        match self {
            // Read the mark again only for processes that the last reading does not cover.
            Floor::During(era) => !above(era.peak.load(Ordering::Relaxed)) || !above(self.kib()),
            _ => !above(self.kib()),
        }
    }

    /// The highest possible floor, in KiB.
    pub(crate) fn kib(&self) -> i64 {
        match self {
            Floor::During(era) => era.read(),
            Floor::Known(kib) => *kib,
            Floor::Ever => highest(),
            // The kernel carries its mark over exec, also from the program that started this
            // process.
            Floor::Before => highest().max(own_maxrss()),
        }
    }
}

impl Era {
    /// The current mark, or the final one of a past era.
    fn read(&self) -> i64 {
        if !self.over.load(Ordering::Acquire) {
            // If the era ends just now, the mark of the next era is lower and has no effect.
            self.peak.fetch_max(mark(), Ordering::AcqRel);
        }
        self.peak.load(Ordering::Acquire)
    }
}

fn lock() -> MutexGuard<'static, Option<Arc<Era>>> {
    // No holder of the lock can leave the value half changed.
    ERA.lock().unwrap_or_else(PoisonError::into_inner)
}

fn current() -> Arc<Era> {
    let begin = || Arc::new(Era { peak: AtomicI64::new(0), over: AtomicBool::new(false) });
    Arc::clone(lock().get_or_insert_with(begin))
}

/// The kernel's mark of the peak resident size, in KiB.
fn mark() -> i64 {
    let status = std::fs::read("/proc/self/status").unwrap_or_default();
    let peaks = parse_peaks(&status).and_then(|peaks| i64::try_from(peaks.rss / 1024).ok());
    peaks.unwrap_or_else(own_maxrss)
}

/// The peak resident size in the whole life of this process, in KiB, including earlier programs and
/// the one that started it.
fn own_maxrss() -> i64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    usage.map_or(i64::MAX, |usage| usage.max_rss())
}

fn highest() -> i64 {
    HIGHEST.load(Ordering::Acquire).max(mark())
}

/// Resets the kernel's mark, which begins an era.
fn begin_era() {
    let mut era = lock();
    if let Some(era) = era.take() {
        HIGHEST.fetch_max(era.read(), Ordering::AcqRel);
        era.over.store(true, Ordering::Release);
    }
    // If the reset fails, the reported sizes are larger.
    if let Some(mut file) = own_files().clear_refs.as_ref() {
        let _ = file.write_all(b"5");
    }
}

/// The needed files of `/proc/self`. A process that others may not inspect cannot open them, but
/// can use those that are open.
struct OwnFiles {
    /// Writing to it resets the kernel's mark.
    clear_refs: Option<File>,
    /// One word for each page of the address space.
    pagemap: Option<File>,
}

fn own_files() -> &'static OwnFiles {
    static FILES: OnceLock<OwnFiles> = OnceLock::new();
    FILES.get_or_init(|| OwnFiles {
        clear_refs: File::options().write(true).open("/proc/self/clear_refs").ok(),
        pagemap: File::open("/proc/self/pagemap").ok(),
    })
}

/// Opens the files for later use. Call it before this process forbids others to inspect it.
pub(crate) fn prepare() {
    own_files();
}

/// A part of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: usize,
    length: usize,
}

/// Drops the pages of code and resets the kernel's peak mark: the peak in `/proc/PID/status` of
/// this process counts from the last call.
///
/// Debuggers' breakpoints, uprobes and text relocations change pages in memory, and the file cannot
/// restore them: changed pages are kept. If the kernel does not show which pages are changed, all
/// are kept.
pub(crate) fn drop_text_pages() {
    if let (Ok(maps), Some(pagemap)) =
        (std::fs::read_to_string("/proc/self/maps"), &own_files().pagemap)
    {
        for mapping in maps.lines().filter_map(immutable_mapping) {
            let read = |words: &mut [u8], at| pagemap.read_at(words, at).unwrap_or(0);
            each_unchanged(mapping, page_size(), read, |Range { start, length }| {
                // SAFETY: the pages belong to a private mapping of a file, no code of this program
                // writes to it, and the kernel has just shown that they are unchanged: a later read
                // finds the same bytes in the file. (A write by a debugger that stops this thread
                // exactly here would be lost.) For a mapping that is gone by now, the call returns
                // an error.
                unsafe {
                    libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED);
                }
            });
        }
    }
    begin_era();
}

/// The bits of a page's word in `pagemap`: in memory, in swap, page of a file.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
const OF_FILE: u64 = 1 << 61;

/// Calls `act` for each run of unchanged pages of a private file mapping. `read` reads words of
/// `pagemap` from a byte offset; after a short read the rest counts as changed.
fn each_unchanged(
    mapping: Range,
    page: usize,
    read: impl Fn(&mut [u8], u64) -> usize,
    mut act: impl FnMut(Range),
) {
    /// Words per read.
    const WORDS: usize = 512;
    let mut words = [0; 8 * WORDS];
    let mut run = Range { start: mapping.start, length: 0 };
    let end = mapping.start + mapping.length;
    let mut at = mapping.start;
    while at < end {
        let count = ((end - at) / page).clamp(1, WORDS);
        let wanted = words.get_mut(..8 * count).unwrap_or_default();
        let got = read(wanted, (at / page * 8) as u64);
        let (found, _) = wanted.get(..got).unwrap_or_default().as_chunks::<8>();
        for word in found.iter().map(|word| u64::from_ne_bytes(*word)) {
            let changed = word & (PRESENT | SWAPPED) != 0 && word & OF_FILE == 0;
            at += page;
            if changed {
                if run.length > 0 {
                    act(run);
                }
                run = Range { start: at, length: 0 };
            } else {
                run.length += page;
            }
        }
        if found.len() < count {
            break;
        }
    }
    if run.length > 0 {
        act(run);
    }
}

/// The range of a line of `/proc/self/maps`, if it maps a program's or library's file and has never
/// been writable: code, and the constants at the file's beginning. Data that the linker has written
/// and then protected does not qualify.
fn immutable_mapping(line: &str) -> Option<Range> {
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
    fn a_floor_covers_the_resident_pages_at_exec() {
        let text_pages = TextPages::new();
        let before = text_pages.drop_before_clone().executed();
        let mark = mark();
        assert!(before.covers(mark) && before.covers(mark + MARGIN));
        assert!(!before.covers(mark * 2 + 100 * MARGIN));
        // The floor stays, however much is resident later; a process executed then has another
        // floor.
        let block = vec![1_u8; 64 << 20];
        let (later, grown) = (text_pages.drop_before_clone().executed(), block.len() as i64 / 1024);
        assert!(std::hint::black_box(&block).iter().all(|byte| *byte == 1));
        assert!(later.covers(grown) && Floor::Ever.covers(grown));
        drop_text_pages();
        drop(block);
        assert!(later.covers(grown) && Floor::Ever.covers(grown));
        // The process may have been executed in either era.
        assert!(matches!(later.executed(), Floor::Ever));
        assert!(Floor::Known(10_000).covers(10_000) && !Floor::Known(10_000).covers(12_000));
    }

    #[test]
    fn only_immutable_pages_are_returned() {
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
        let found: Vec<Range> = maps.lines().filter_map(immutable_mapping).collect();
        assert_eq!(
            found,
            [
                Range { start: 0x55d0_c8a0_0000, length: 0x2a_7000 },
                Range { start: 0x55d0_c8ca_7000, length: 0x67_0000 },
            ]
        );
    }

    #[test]
    fn changed_pages_end_a_run() {
        let words = [OF_FILE | PRESENT, 0, PRESENT, SWAPPED, OF_FILE | PRESENT, OF_FILE | SWAPPED];
        let bytes: Vec<u8> = words.iter().flat_map(|word: &u64| word.to_ne_bytes()).collect();
        let runs = |pages: usize, readable: usize| {
            let mut runs = Vec::new();
            let read = |room: &mut [u8], at: u64| {
                let from = bytes.get(at as usize..8 * readable).unwrap_or_default();
                let length = from.len().min(room.len());
                room[..length].copy_from_slice(&from[..length]);
                length
            };
            let mapping = Range { start: 0, length: pages * 4096 };
            each_unchanged(mapping, 4096, read, |run| {
                runs.push((run.start / 4096, run.length / 4096))
            });
            runs
        };
        assert_eq!(runs(6, 6), [(0, 2), (4, 2)]);
        assert_eq!(runs(2, 6), [(0, 2)]);
        // Pages that the kernel does not show are kept.
        assert_eq!(runs(6, 1), [(0, 1)]);
        assert_eq!(runs(6, 0), []);
    }

    /// A debugger's breakpoint is such a change.
    #[test]
    fn a_page_of_code_that_was_changed_in_memory_stays_as_it_is() {
        use std::os::fd::AsRawFd;
        let page = page_size();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![b'f'; 3 * page]).unwrap();
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new private mapping at an address of the kernel's choice.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                3 * page,
                access,
                libc::MAP_PRIVATE,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(start, libc::MAP_FAILED);
        let byte = |at: usize| start.cast::<u8>().wrapping_add(at);
        // SAFETY: all addresses are within the mapping, which is writable until it is made code.
        unsafe {
            byte(page).write(b'd');
            byte(2 * page).read();
            assert_eq!(libc::mprotect(start, 3 * page, libc::PROT_READ | libc::PROT_EXEC), 0);
        }
        drop_text_pages();
        // SAFETY: as above, and each page can be read.
        let found = unsafe { [byte(0).read(), byte(page).read(), byte(2 * page).read()] };
        assert_eq!(&found, b"fdf");
        // The other pages were dropped: they are read from the file again.
        file.write_all_at(b"g", 0).unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { byte(0).read() }, b'g');
        // SAFETY: the mapping is ours, and nothing uses it any more.
        unsafe { libc::munmap(start, 3 * page) };
    }

    /// The program works on, whatever its threads do.
    #[test]
    fn nothing_is_lost() {
        let work = || (0..2000u64).map(|n| n.to_string().len()).sum::<usize>();
        let before = work();
        std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..50).map(|_| work()).max())).collect();
            (0..20).for_each(|_| drop_text_pages());
            assert!(workers.into_iter().all(|worker| worker.join().unwrap() == Some(before)));
        });
        let text =
            String::from_utf8_lossy(&std::fs::read("/proc/self/statm").unwrap()).into_owned();
        assert_eq!(text.split_whitespace().count(), 7);
    }
}
