//! The contents of captures, with real children: limits, named files, compression, chunk times.

mod chunk_times;
mod compression;
mod handover;
mod limits;
mod named;
mod sealed;
mod sparse_output;

use std::sync::LazyLock;

use procstar::engine::{Capture, Captures, View};
use procstar::spec::FdName;

fn capture<'a>(captures: &'a Captures, fd: &str) -> &'a Capture {
    captures.get(fd.parse::<FdName>().unwrap()).expect("captured")
}

/// All bytes of a view.
fn all(mut view: View) -> Vec<u8> {
    let mut bytes = vec![0; view.len() as usize];
    let mut at = 0;
    while at < bytes.len() {
        match view.read_at(at as u64, &mut bytes[at..]).unwrap() {
            0 => panic!("{at} of {} bytes", bytes.len()),
            n => at += n,
        }
    }
    bytes
}

/// `n` bytes without a period: the numbers from 0 up, one per line.
fn numbers(n: usize) -> &'static [u8] {
    static ALL: LazyLock<Vec<u8>> = LazyLock::new(|| {
        use std::io::Write;
        let mut all = Vec::new();
        (0..400_000).for_each(|i| writeln!(all, "{i}").unwrap());
        all
    });
    &ALL[..n]
}

/// A shell command that writes [`numbers`].
fn write_numbers(n: usize) -> String {
    format!("seq 0 {n} | head -c {n}")
}
