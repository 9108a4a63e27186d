//! The properties that the fuzz targets check, over their corpus and over every input that was ever found to break one; and
//! that no input makes its reader allocate more than a bound in proportion to it. `fuzz/run` looks for more inputs.

#[path = "../../fuzz/properties/mod.rs"]
mod properties;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;

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

/// An input, and the file or the member of an archive that it comes from.
struct Input {
    origin: String,
    data: Vec<u8>,
}

fn fuzz_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// Reads the inputs that are files of their own.
fn files(kind: &str, target: &str) -> Vec<Input> {
    let dir = fuzz_dir().join(kind).join(target);
    let entries = std::fs::read_dir(&dir);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| !file.ends_with(".gitkeep"));
    files.sort();
    let read = |file: PathBuf| Input {
        data: std::fs::read(&file).unwrap(),
        origin: file.display().to_string(),
    };
    files.into_iter().map(read).collect()
}

/// Reads the target's corpus, which `fuzz/run` has packed.
fn corpus(target: &str) -> Vec<Input> {
    let path = fuzz_dir().join("corpus").join(format!("{target}.tar.gz"));
    let file = File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut tar = Vec::new();
    GzDecoder::new(file).read_to_end(&mut tar).unwrap();
    members(&tar)
        .into_iter()
        .map(|(name, data)| Input { origin: format!("{}: {name}", path.display()), data })
        .collect()
}

/// The members of an archive in ustar form: each has a header of one block, and its contents fill
/// the following blocks. A block of zeros follows the last one.
fn members(mut tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    const BLOCK: usize = 512;
    let mut members = Vec::new();
    while tar[0] != 0 {
        let (header, contents) = tar.split_at(BLOCK);
        let text = |field: &[u8]| {
            let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
            std::str::from_utf8(&field[..end]).unwrap().to_owned()
        };
        let (name, size) = (text(&header[..100]), text(&header[124..136]));
        assert_eq!(header[156], b'0', "{name} is no regular file");
        let size = usize::from_str_radix(&size, 8).unwrap();
        members.push((name, contents[..size].to_vec()));
        tar = &contents[size.next_multiple_of(BLOCK)..];
    }
    members
}

/// Checks a target's property over its inputs, and names each that breaks it.
fn replay(target: &str) {
    let (_, property) = properties::ALL.iter().find(|(name, _)| *name == target).unwrap();
    let (seeds, corpus) = (files("seeds", target), corpus(target));
    let regressions = files("regressions", target);
    assert!(!seeds.is_empty() && !corpus.is_empty(), "{target} has no corpus");
    println!(
        "{target}: {} inputs of the corpus, {} seeds, {} regressions",
        corpus.len(),
        seeds.len(),
        regressions.len()
    );
    let mut broken = Vec::new();
    for Input { origin, data } in seeds.iter().chain(&corpus).chain(&regressions) {
        let mut outcome = Ok(());
        let used = peak(|| outcome = catch_unwind(AssertUnwindSafe(|| property(data))));
        let bound = bound(target, data.len());
        if outcome.is_err() || used > bound {
            broken.push(format!("{origin}: {used} bytes allocated, of {bound}"));
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
fn allocations_are_counted() {
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
