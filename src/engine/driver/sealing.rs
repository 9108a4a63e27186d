//! The last thing before a process's end is told: its captures are frozen, and what they hold is recorded.
//!
//! What is small and ours is hashed at once. The rest another thread hashes, for it may be much, or on a file system that does not answer;
//! the end waits for that, but not for long.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::capture::{Capture, Captures, CutShort};
use super::super::creds::Creds;
use super::super::helpers;
use super::super::inbox::Mail;
use super::super::state::Input;
use super::super::timers::Alarm;
use super::{Driver, reading};

/// How long an end waits for its captures to be hashed: some gigabytes.
const PATIENCE: Duration = Duration::from_secs(30);

/// How far recording what captures hold has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sealing {
    /// The process has not ended.
    #[default]
    NotBegun,
    /// Another thread is about it.
    Running,
    /// All that can be recorded is.
    Done,
}

impl Driver {
    /// Freezes and seals the captures of a process that has ended. Returns whether that is done; else [`sealed`](Self::sealed) comes.
    pub(super) fn seal(&mut self, serial: u64) -> bool {
        let Some(process) = self.processes.get_mut(&serial) else { return true };
        match process.sealing {
            Sealing::Running => return false,
            Sealing::Done => return true,
            Sealing::NotBegun => process.sealing = Sealing::Done,
        }
        let failed = !process.failures.is_empty();
        for (index, (_, capture)) in process.captures.iter().enumerate() {
            let Some(capture) = capture else { continue };
            capture.freeze();
            if capture.is_sealed_quickly() {
                capture.seal();
            }
            // The program that was to write there never ran.
            if failed {
                reading::note(&process.captures, &mut process.cut_short, index, CutShort::Setup);
            }
        }
        if each(&process.captures).all(Capture::is_sealed) {
            return true;
        }
        let (captures, inbox) = (Arc::clone(&process.captures), Arc::clone(&self.inbox));
        let begun = helpers::start(&Creds::default(), move |_| {
            each(&captures).for_each(Capture::seal);
            inbox.put(Mail::Sealed(serial));
        });
        if let Err(error) = begun {
            tracing::warn!(proc_id = %process.id, %error, "cannot hash captured output");
            each(&process.captures).for_each(Capture::leave_unsealed);
            return true;
        }
        process.sealing = Sealing::Running;
        self.timers.set(Instant::now() + PATIENCE, Alarm::Sealing(serial));
        false
    }

    /// The captures of a process are sealed, or have taken too long.
    pub(super) fn sealed(&mut self, serial: u64) {
        let Some(process) = self.processes.get_mut(&serial) else { return };
        if process.sealing != Sealing::Running {
            return;
        }
        process.sealing = Sealing::Done;
        if !each(&process.captures).all(Capture::is_sealed) {
            tracing::warn!(proc_id = %process.id, "hashing captured output takes too long: going on without");
            each(&process.captures).for_each(Capture::leave_unsealed);
        }
        // Whatever is still open, its time was over when this began.
        self.apply(serial, Input::GraceOver);
    }
}

fn each(captures: &Captures) -> impl Iterator<Item = &Capture> {
    captures.iter().filter_map(|(_, capture)| capture)
}
