//! The journal: the starts and ends of processes, for the case that the keeper dies.
//!
//! It consists of frames as in [`format`](super::format), one for each entry, appended as events
//! happen. All entries of one moment are written by one write, before anybody is notified. A last
//! frame that the keeper's death has cut off is ignored. The journal is rewritten when most of its
//! entries are about deleted processes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::format::{Decoder, JOURNAL_VERSION, JournalEntry, ProcessEntry, WorkerState, encode};
use super::process_table::ProcessTable;
use crate::procfs::ProcFs;
use crate::spec::ProcId;

/// The number of entries about deleted processes above which the journal is rewritten.
const MAX_STALE_ENTRIES: usize = 4096;

/// The capacity that is kept for entries to be written.
const KEPT: usize = 64 * 1024;

/// Time between two attempts to rewrite the journal after a failed write.
const RETRY: Duration = Duration::from_secs(1);

/// An open journal.
pub struct Journal {
    path: PathBuf,
    file: File,
    /// The length of the complete entries in the file.
    length: u64,
    /// The number of entries about deleted processes.
    stale_entries: usize,
    /// When writing last failed. Some entries are missing then, and none is added until the journal
    /// is rewritten.
    failed: Option<Instant>,
    /// Entries that are not yet written.
    pending: Vec<u8>,
}

impl Journal {
    /// Creates a journal with the present state.
    ///
    /// # Errors
    /// The OS error; an earlier journal at the path remains.
    pub fn begin(path: &Path, table: &ProcessTable, memory: &WorkerState) -> io::Result<Journal> {
        let mut bytes = image(table, memory)?;
        if let Some(id) = boot_id() {
            encode(&JournalEntry::Boot(id), &mut bytes)?;
        }
        let beside = path.with_extension("new");
        let write = || {
            let mut file = File::options().append(true).create(true).mode(0o600).open(&beside)?;
            file.set_len(0)?;
            file.write_all(&bytes)?;
            std::fs::rename(&beside, path)?;
            Ok(file)
        };
        let file = write().inspect_err(|_: &io::Error| {
            // The disk may be full.
            let _ = std::fs::remove_file(&beside);
        })?;
        let length = bytes.len() as u64;
        let path = path.to_path_buf();
        Ok(Journal { path, file, length, stale_entries: 0, failed: None, pending: Vec::new() })
    }

    /// Adds an entry, which is written by the next [`flush`](Self::flush).
    pub fn add(&mut self, entry: &JournalEntry) {
        if let Err(error) = encode(entry, &mut self.pending) {
            tracing::error!(%error, "cannot encode an entry of the journal");
        }
    }

    /// Adds complete entries, encoded as in the file.
    pub fn add_encoded(&mut self, entries: &[u8]) {
        self.pending.extend_from_slice(entries);
    }

    /// Adds the deletion of a process.
    pub fn forgotten(&mut self, id: ProcId) {
        self.add(&JournalEntry::Forgotten(id));
        self.stale_entries += 1;
    }

    /// Writes the added entries, which `table` and `memory` contain already; rewrites the journal
    /// if most entries are stale. A failed write is logged and stops no process, because only a
    /// successor of the keeper needs the entry. The journal is rewritten as soon as there is room.
    pub fn flush(&mut self, table: &ProcessTable, memory: &WorkerState) {
        if self.pending.is_empty() {
            return;
        }
        if let Some(at) = self.failed {
            self.pending.clear();
            if at.elapsed() >= RETRY {
                self.renew(table, memory);
            }
            return;
        }
        match self.file.write_all(&self.pending) {
            Ok(()) => self.length += self.pending.len() as u64,
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "cannot write the journal");
                // An incomplete entry would make all later ones unreadable, so it is cut off. If
                // that fails, it stays the last.
                let _ = self.file.set_len(self.length);
                self.failed = Some(Instant::now());
            }
        }
        self.pending.clear();
        // Free the memory of a burst.
        self.pending.shrink_to(KEPT);
        if self.stale_entries > MAX_STALE_ENTRIES.max(table.len()) && self.failed.is_none() {
            self.renew(table, memory);
        }
    }

    /// Whether everything that was added is in the file.
    pub fn is_complete(&self) -> bool {
        self.failed.is_none() && self.pending.is_empty()
    }

    /// Whether somebody has removed the file, and the next attempt to create one is due.
    pub fn is_gone(&self) -> bool {
        self.failed.is_none_or(|at| at.elapsed() >= RETRY) && self.is_unlinked()
    }

    fn is_unlinked(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    /// Rewrites the journal from the present state.
    pub fn renew(&mut self, table: &ProcessTable, memory: &WorkerState) {
        match Journal::begin(&self.path, table, memory) {
            Ok(journal) => *self = journal,
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "cannot rewrite the journal");
                // Continue with the old journal, unless entries are missing in it.
                self.stale_entries = 0;
                if self.failed.is_some() || self.is_unlinked() {
                    self.failed = Some(Instant::now());
                }
            }
        }
    }
}

/// The bytes of a journal with the present state.
fn image(table: &ProcessTable, memory: &WorkerState) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    encode(&JournalEntry::Version(JOURNAL_VERSION), &mut bytes)?;
    encode(&JournalEntry::Memory(memory.clone()), &mut bytes)?;
    for record in table.iter() {
        encode(&JournalEntry::Launched(record.id.clone()), &mut bytes)?;
        if let Some(identity) = &record.identity {
            encode(&JournalEntry::Identity(record.id.clone(), Arc::clone(identity)), &mut bytes)?;
        }
        if let Some(started) = &record.started {
            encode(&JournalEntry::Started(Box::new(started.clone())), &mut bytes)?;
        }
        if let Some(ended) = &record.ended {
            encode(&JournalEntry::Ended(ended.clone()), &mut bytes)?;
        }
    }
    Ok(bytes)
}

/// Reads a journal: every process that was not deleted, in the order of launch.
///
/// # Errors
/// The OS error, or the journal has an unknown version.
pub fn read(path: &Path) -> io::Result<Vec<ProcessEntry>> {
    read_all(path).map(|(records, _)| records)
}

/// As [`read`], with the state of the last worker.
///
/// # Errors
/// As [`read`].
pub fn read_all(path: &Path) -> io::Result<(Vec<ProcessEntry>, WorkerState)> {
    let mut decoder = Decoder::default();
    decoder.push(&std::fs::read(path)?);
    if !has_version(&mut decoder)? {
        return Ok((Vec::new(), WorkerState::default()));
    }
    let mut order: Vec<ProcId> = Vec::new();
    let mut records: HashMap<ProcId, ProcessEntry> = HashMap::new();
    let mut memory = WorkerState::default();
    let mut other_boot = false;
    loop {
        match decoder.next_message() {
            Ok(Some(JournalEntry::Version(_))) => {}
            Ok(Some(JournalEntry::Launched(id))) => {
                order.push(id.clone());
                records.insert(id.clone(), ProcessEntry::new(id));
            }
            Ok(Some(JournalEntry::Identity(id, identity))) => {
                if let Some(record) = records.get_mut(&id) {
                    record.identity = Some(identity);
                }
            }
            Ok(Some(JournalEntry::Started(started))) => {
                if let Some(record) = records.get_mut(&started.id) {
                    record.started = Some(*started);
                }
            }
            Ok(Some(JournalEntry::Ended(ended))) => {
                if let Some(record) = records.get_mut(&ended.id) {
                    record.ended = Some(ended);
                }
            }
            Ok(Some(JournalEntry::Forgotten(id))) => {
                records.remove(&id);
            }
            Ok(Some(JournalEntry::Memory(latest))) => memory = latest,
            Ok(Some(JournalEntry::Boot(id))) => other_boot = boot_id().is_some_and(|now| now != id),
            // The end of the file, or an incomplete last entry.
            Ok(None) => break,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the journal is damaged, ignoring the rest of it");
                break;
            }
        }
    }
    // An ID may have been reused: its last launch counts.
    let mut listed: Vec<ProcessEntry> =
        order.iter().rev().filter_map(|id| records.remove(id)).collect();
    listed.reverse();
    if other_boot {
        // Without a start time, no process counts as alive.
        for started in listed.iter_mut().filter_map(|record| record.started.as_mut()) {
            started.stat = None;
        }
    }
    Ok((listed, memory))
}

/// Reads the version, the first entry. Returns false if the journal was cut off before it.
fn has_version(decoder: &mut Decoder) -> io::Result<bool> {
    match decoder.next_message() {
        Ok(Some(JournalEntry::Version(1..=JOURNAL_VERSION))) => Ok(true),
        Ok(None) => Ok(false),
        Ok(Some(JournalEntry::Version(other))) => Err(io::Error::other(format!(
            "journal of version {other}, and this program knows 1 to {JOURNAL_VERSION}"
        ))),
        Ok(Some(_)) => Err(io::Error::other("journal without a version")),
        Err(error) => Err(io::Error::other(format!("no journal: {error}"))),
    }
}

/// The ID of this boot of the machine, if the kernel reports one.
fn boot_id() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}

/// Whether a record's process is still running: one with its pid and start time.
pub fn is_alive(record: &ProcessEntry, procfs: &ProcFs) -> bool {
    state_now(record, procfs).is_some_and(|state| state != 'Z')
}

/// Whether a record's process is running, or is a zombie whose exit status can be read.
pub fn is_unreaped(record: &ProcessEntry, procfs: &ProcFs) -> bool {
    state_now(record, procfs).is_some()
}

/// The present state letter of a record's process: the one with its pid and start time.
fn state_now(record: &ProcessEntry, procfs: &ProcFs) -> Option<char> {
    let (Some(started), None) = (&record.started, &record.ended) else { return None };
    let now = procfs.read_stat(started.pid).ok()?;
    let same = started.stat.as_ref().is_some_and(|then| then.starttime == now.starttime);
    same.then_some(now.state)
}

#[cfg(test)]
mod tests;
