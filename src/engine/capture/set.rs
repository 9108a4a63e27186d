//! The captures of one process.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Capture;
use crate::spec::FdName;

/// The fds of a process in the spec's order, with the captures among them.
#[derive(Clone, Serialize, Deserialize)]
pub struct Captures(Vec<(FdName, Option<Capture>)>);

impl Captures {
    pub(in crate::engine) fn new(fds: Vec<(FdName, Option<Capture>)>) -> Arc<Captures> {
        Arc::new(Captures(fds))
    }

    /// No fds at all, as of a process whose spec names none.
    pub fn none() -> Arc<Captures> {
        Captures::new(Vec::new())
    }

    /// Every fd of the spec, with its capture where it has one.
    pub fn iter(&self) -> impl Iterator<Item = (FdName, Option<&Capture>)> {
        self.0.iter().map(|(fd, capture)| (*fd, capture.as_ref()))
    }

    /// The capture of one fd.
    pub fn get(&self, fd: FdName) -> Option<&Capture> {
        self.iter().find(|(name, _)| *name == fd).and_then(|(_, capture)| capture)
    }

    /// Removes the files that the spec has named and that are not to stay.
    pub(crate) fn discard_named(&self) {
        self.0.iter().filter_map(|(_, capture)| capture.as_ref()).for_each(Capture::discard_named);
    }

    /// Removes the files of all. Whoever holds one reads on.
    pub(crate) fn discard(&self) {
        for capture in self.0.iter().filter_map(|(_, capture)| capture.as_ref()) {
            capture.discard();
        }
    }

    /// How many descriptors are held for files that the spec has named.
    pub(in crate::engine) fn named_descriptors(&self) -> usize {
        let captures = self.0.iter().filter_map(|(_, capture)| capture.as_ref());
        let held = captures.filter(|capture| capture.named.as_ref().is_some_and(|n| n.is_held()));
        // One for reading, and one of the directory.
        2 * held.count()
    }

    /// The same with another capture at an index.
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
