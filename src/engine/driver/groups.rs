//! The driver's part in control groups: it waits until they have no members, and removes them.

use std::io;

use super::Driver;
use crate::engine::process::Input;

impl Driver {
    /// Notes whether a made child is a member of its group.
    pub(super) fn group_made(&mut self, serial: u64, in_group: bool, error: Option<io::Error>) {
        if in_group || self.containment.group(serial).is_none() {
            return;
        }
        self.containment.remove_group(serial);
        if error.is_some() && !std::mem::replace(&mut self.group_failed, true) {
            // Without an error, the process has no child, and needs no group.
            let Some(error) = error else { return };
            tracing::warn!(%error, "cannot start a process in a control group of its own: stopping \
                it, and others, finds only the descendants that the process tree shows");
        }
    }

    /// Watches the group of a process; returns whether it has members, whose end will be reported.
    pub(super) fn watch_group(&mut self, serial: u64) -> bool {
        if !self.containment.group_is_populated(serial) {
            return false;
        }
        let Some(path) = self.containment.group(serial) else { return false };
        // The last member may have ended before the watch began.
        self.io.watcher.add_group(path, serial) && self.containment.group_is_populated(serial)
    }

    /// Removes the group of an ended process once it has no members.
    pub(super) fn retire_group(&mut self, serial: u64) {
        if !self.watch_group(serial) {
            self.containment.remove_group(serial);
        }
    }

    /// Handles a change of a group's members.
    pub(super) fn group_changed(&mut self, serial: u64) {
        match self.processes.get(&serial) {
            Some(process) if process.awaits_group => {
                self.containment.notice_left_now();
                self.await_tree(serial);
                self.sweep(serial);
                self.on(serial, Input::Progress);
            }
            // The watch of a process that no longer waits for its members.
            Some(process) if !process.is_ended() => {}
            _ => self.retire_group(serial),
        }
    }
}
