//! The properties that the fuzz targets check, over their corpus and over every input that was ever found to break one; and
//! that no input makes its reader allocate more than a bound in proportion to it. `fuzz/run` looks for more inputs.

#[path = "../../fuzz/properties/mod.rs"]
mod properties;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// What checking an input of `len` bytes may have allocated at one time: properties keep copies, errors quote places. Where serde reads
/// MessagePack, it makes room for up to a megabyte of elements on a declared length.
fn bound(target: &str, len: usize) -> usize {
    match target {
        "frames" => (4 << 10) + 32 * len,
        "procfs" => (8 << 10) + 64 * len,
        "config" => (256 << 10) + 1024 * len,
        _ => (2 << 20) + 512 * len,
    }
}

/// The system's allocator, which keeps the peak of each thread.
struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    let now = NOW.get() + change;
    NOW.set(now);
    PEAK.set(PEAK.get().max(now));
}

// SAFETY: all is left to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as ours.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most that was allocated at one time while `work` ran, in bytes, beyond what was there before.
fn peak(work: impl FnOnce()) -> usize {
    let before = NOW.get();
    PEAK.set(before);
    work();
    usize::try_from(PEAK.get() - before).unwrap_or(0)
}

fn inputs(kind: &str, target: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(target);
    let entries = std::fs::read_dir(&dir);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| !file.ends_with(".gitkeep"));
    files.sort();
    files
}

/// Checks a target's property over its files, and names each that breaks it.
fn replay(target: &str) {
    let (_, property) = properties::ALL.iter().find(|(name, _)| *name == target).unwrap();
    let (seeds, corpus) = (inputs("seeds", target), inputs("corpus", target));
    assert!(!seeds.is_empty() && !corpus.is_empty(), "{target} has no corpus");
    let mut broken = Vec::new();
    for file in [seeds, corpus, inputs("regressions", target)].concat() {
        let data = std::fs::read(&file).unwrap();
        let mut outcome = Ok(());
        let used = peak(|| outcome = catch_unwind(AssertUnwindSafe(|| property(&data))));
        let bound = bound(target, data.len());
        if outcome.is_err() || used > bound {
            broken.push(format!("{}: {used} bytes allocated, of {bound}", file.display()));
        }
    }
    assert!(broken.is_empty(), "{target} does not hold for:\n{}", broken.join("\n"));
}

#[test]
fn spec() {
    replay("spec");
}

#[test]
fn wire() {
    replay("wire");
}

#[test]
fn frames() {
    replay("frames");
}

#[test]
fn procfs() {
    replay("procfs");
}

#[test]
fn config() {
    replay("config");
}

#[test]
fn keeper() {
    replay("keeper");
}

/// The peak is measured at all.
#[test]
fn what_is_allocated_is_counted() {
    let used = peak(|| drop(std::hint::black_box(Vec::<u8>::with_capacity(1 << 20))));
    assert!(used >= 1 << 20, "{used}");
}

/// Nothing is fuzzed that is not replayed here, nor the other way round.
#[test]
fn every_target_is_replayed() {
    let manifest = include_str!("../../fuzz/Cargo.toml");
    let targets: Vec<_> =
        manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")).collect();
    let ours: Vec<_> = properties::ALL.iter().map(|(name, _)| format!("{name}.rs\"")).collect();
    assert_eq!(targets, ours);
}
