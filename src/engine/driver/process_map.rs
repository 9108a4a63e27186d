//! The processes of the driver, by its numbers of them.

use std::collections::HashMap;

use crate::engine::process::Process;
use crate::mem::shrink::Shrink;

/// The processes are boxed to keep the table small, because its capacity exceeds its length.
#[derive(Default)]
pub(super) struct ProcessMap(HashMap<u64, Box<Process>>);

impl ProcessMap {
    pub(super) fn get(&self, serial: &u64) -> Option<&Process> {
        self.0.get(serial).map(Box::as_ref)
    }

    pub(super) fn get_mut(&mut self, serial: &u64) -> Option<&mut Process> {
        self.0.get_mut(serial).map(Box::as_mut)
    }

    pub(super) fn insert(&mut self, serial: u64, process: Process) {
        self.0.insert(serial, Box::new(process));
    }

    pub(super) fn remove(&mut self, serial: &u64) -> Option<Process> {
        let process = self.0.remove(serial);
        self.0.shrink_if_sparse();
        process.map(|process| *process)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&u64, &Process)> {
        self.0.iter().map(|(serial, process)| (serial, process.as_ref()))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Process> {
        self.0.values().map(Box::as_ref)
    }
}
