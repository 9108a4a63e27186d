//! The captures of one process.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::named::Named;
use super::{Capture, CaptureDirs};
use crate::spec::FdName;

/// The fds of a process in the spec's order, with their captures.
#[derive(Clone, Serialize, Deserialize)]
pub struct Captures(Vec<(FdName, Option<Capture>)>);

impl Captures {
    pub(in crate::engine) fn new(fds: Vec<(FdName, Option<Capture>)>) -> Arc<Captures> {
        Arc::new(Captures(fds))
    }

    /// No fds, as of a process whose spec names none.
    pub fn none() -> Arc<Captures> {
        Captures::new(Vec::new())
    }

    /// Every fd of the spec, with its capture, if any.
    pub fn iter(&self) -> impl Iterator<Item = (FdName, Option<&Capture>)> {
        self.0.iter().map(|(fd, capture)| (*fd, capture.as_ref()))
    }

    /// The capture of one fd.
    pub fn get(&self, fd: FdName) -> Option<&Capture> {
        self.iter().find(|(name, _)| *name == fd).and_then(|(_, capture)| capture)
    }

    fn captured(&self) -> impl Iterator<Item = &Capture> {
        self.0.iter().filter_map(|(_, capture)| capture.as_ref())
    }

    /// Whether deletion removes a named file, which may take a while.
    pub(crate) fn remove_named(&self) -> bool {
        self.captured().any(|capture| capture.named_to_remove().is_some())
    }

    /// Removes the named files that are to be deleted with the process, on other threads. `done` is
    /// dropped once all are removed.
    pub(crate) fn discard_named<T: Clone + Send + 'static>(&self, done: T) {
        self.captured().for_each(|capture| capture.discard_named(done.clone()));
    }

    /// Removes the files of all captures. A reader that holds a file can still read it. `done` is
    /// dropped once all are removed.
    pub(crate) fn discard<T: Clone + Send + 'static>(&self, done: T) {
        self.captured().for_each(Capture::remove_own);
        self.discard_named(done);
    }

    /// Removes the files that the captures of an ended process do not need. An earlier removal
    /// would look like a loss to the next keeper, if this one is killed before the end is in the
    /// journal.
    pub(crate) fn remove_needless(&self) {
        self.captured().filter(|one| one.is_file_needless()).for_each(Capture::remove_own);
    }

    /// Removes the files in `dirs` of captures that are not among `known`: a keeper was killed
    /// while it started their processes.
    pub(crate) fn remove_unknown<'a>(
        dirs: &CaptureDirs,
        known: impl Iterator<Item = &'a Captures>,
    ) {
        let files = known.flat_map(Captures::captured).flat_map(Capture::own_files);
        let known: HashSet<Vec<u8>> =
            files.filter_map(|path| stem(path.file_name()?)).map(<[u8]>::to_vec).collect();
        for dir in HashSet::from([&dirs.files, &dirs.memory]) {
            let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
            for entry in entries {
                let name = entry.file_name();
                if stem(&name).is_some_and(|stem| !known.contains(stem)) {
                    super::remove(&entry.path());
                }
            }
        }
    }

    /// Finds the named files of captures of an earlier program. Waits until `deadline` at most.
    pub(crate) fn find_named<'a>(all: impl Iterator<Item = &'a Captures>, deadline: Instant) {
        let captured = all.flat_map(Captures::captured);
        Named::find_all(captured.filter_map(|one| one.named.as_ref().zip(one.named())), deadline);
    }

    /// Examines the named files for which this is necessary before their captures are frozen. Waits
    /// until `deadline` at most.
    pub(crate) fn see_named(&self, deadline: Instant) {
        let (looking, looked) = mpsc::channel::<()>();
        for capture in self.captured().filter(|capture| capture.needs_examination()) {
            let looking = looking.clone();
            capture.examine_named_file(move || drop(looking));
        }
        drop(looking);
        // Returns an error once all threads have dropped the other end, or at the deadline.
        let _ = looked.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }

    /// The number of descriptors held for named files.
    pub(in crate::engine) fn named_descriptors(&self) -> usize {
        let held =
            self.captured().filter(|capture| capture.named.as_ref().is_some_and(|n| n.is_held()));
        // One of the file, and one of its directory.
        2 * held.count()
    }

    /// The same captures, with another one at an index.
    pub(in crate::engine) fn with(&self, index: usize, capture: Capture) -> Captures {
        let mut captures = self.clone();
        if let Some((_, place)) = captures.0.get_mut(index) {
            *place = Some(capture);
        }
        captures
    }

    /// The capture at an index of the spec's `fds`.
    pub(in crate::engine) fn at(&self, index: usize) -> Option<&Capture> {
        self.0.get(index).and_then(|(_, capture)| capture.as_ref())
    }
}

/// The part of a file's name that all files of one capture share: the epoch, the process and the
/// fd's index, with dots between; `None` for files other than ours.
fn stem(name: &OsStr) -> Option<&[u8]> {
    let name = name.as_bytes();
    let mut parts = name.splitn(4, |byte| *byte == b'.');
    let (epoch, serial, index) = (parts.next()?, parts.next()?, parts.next()?);
    let is_ours = [epoch, serial, index]
        .iter()
        .all(|part| !part.is_empty() && part.iter().all(u8::is_ascii_hexdigit));
    is_ours.then(|| name.get(..epoch.len() + serial.len() + index.len() + 2)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_unknown_captures_are_recognized_by_their_names() {
        for name in ["18ec26f6.9.1", "18ec26f6.9.1.n", "18ec26f6.9.1.p"] {
            assert_eq!(stem(OsStr::new(name)), Some(&b"18ec26f6.9.1"[..]), "{name}");
        }
        for name in ["journal", "lock", "http.sock", "18ec26f6.9", "18ec26f6..1", "a.b.log"] {
            assert_eq!(stem(OsStr::new(name)), None, "{name}");
        }
    }
}
