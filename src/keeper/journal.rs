//! The journal: what has been started and what became of it, for the case that the keeper dies.
//!
//! Frames as in [`format`](super::format), one for each entry, appended as things happen: what happens at one moment, with one
//! write, before anybody is told of it. A last frame that was cut off by the keeper's death is left out. It is written anew when
//! most of it is about processes that have been forgotten.

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

/// Entries about forgotten processes that are borne before the journal is written anew.
const MAX_STALE_ENTRIES: usize = 4096;

/// How much room for entries that are not written is kept.
const KEPT: usize = 64 * 1024;

/// How often it is tried to write the journal again where that has failed.
const RETRY: Duration = Duration::from_secs(1);

/// An open journal.
pub struct Journal {
    path: PathBuf,
    file: File,
    /// How much of the file is whole entries.
    length: u64,
    /// Entries about forgotten processes.
    stale_entries: usize,
    /// When writing has last failed: some entries are missing, and none is added until the whole is written anew.
    failed: Option<Instant>,
    /// Entries that are not written yet.
    pending: Vec<u8>,
}

impl Journal {
    /// Begins a journal with what is known already.
    ///
    /// # Errors
    /// The OS error; an earlier journal at the path is there still.
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
            // It takes room that there may not be.
            let _ = std::fs::remove_file(&beside);
        })?;
        let length = bytes.len() as u64;
        let path = path.to_path_buf();
        Ok(Journal { path, file, length, stale_entries: 0, failed: None, pending: Vec::new() })
    }

    /// Adds an entry, which is written by the next [`flush`](Self::flush).
    pub fn add(&mut self, entry: &JournalEntry) {
        if let Err(error) = encode(entry, &mut self.pending) {
            tracing::error!(%error, "cannot enter something into the journal");
        }
    }

    /// Adds whole entries as they will stand in the file.
    pub fn add_encoded(&mut self, entries: &[u8]) {
        self.pending.extend_from_slice(entries);
    }

    /// Adds that a process is forgotten.
    pub fn forgotten(&mut self, id: ProcId) {
        self.add(&JournalEntry::Forgotten(id));
        self.stale_entries += 1;
    }

    /// Writes what was added, which `table` and `memory` know of already; or the whole anew if that pays. An entry that cannot be
    /// written is lost to a keeper's successor alone: that is worth an error in the log, and no process. The journal is
    /// written anew as soon as there is room.
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
                // A part of an entry, with others behind it, would make all of them unreadable. If it cannot be taken
                // back, it stays the last.
                let _ = self.file.set_len(self.length);
                self.failed = Some(Instant::now());
            }
        }
        self.pending.clear();
        // The room that a burst has taken is not kept.
        self.pending.shrink_to(KEPT);
        if self.stale_entries > MAX_STALE_ENTRIES.max(table.len()) && self.failed.is_none() {
            self.renew(table, memory);
        }
    }

    /// Whether everything that was added is in the file.
    pub fn is_complete(&self) -> bool {
        self.failed.is_none() && self.pending.is_empty()
    }

    /// Whether somebody has removed the file, and it is time to write another.
    pub fn is_gone(&self) -> bool {
        self.failed.is_none_or(|at| at.elapsed() >= RETRY) && self.is_unlinked()
    }

    fn is_unlinked(&self) -> bool {
        self.file.metadata().is_ok_and(|meta| meta.nlink() == 0)
    }

    /// Writes the whole anew.
    pub fn renew(&mut self, table: &ProcessTable, memory: &WorkerState) {
        match Journal::begin(&self.path, table, memory) {
            Ok(journal) => *self = journal,
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "cannot renew the journal");
                // Where nothing is missing in the old one, it goes on.
                self.stale_entries = 0;
                if self.failed.is_some() || self.is_unlinked() {
                    self.failed = Some(Instant::now());
                }
            }
        }
    }
}

/// A journal of all that is known.
fn image(table: &ProcessTable, memory: &WorkerState) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    encode(&JournalEntry::Version(JOURNAL_VERSION), &mut bytes)?;
    encode(&JournalEntry::Memory(memory.clone()), &mut bytes)?;
    for record in table.iter() {
        encode(&JournalEntry::Launched(record.id.clone()), &mut bytes)?;
        if let Some(identity) = &record.identity {
            encode(&JournalEntry::Asked(record.id.clone(), Arc::clone(identity)), &mut bytes)?;
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

/// What a journal tells: every process that was not forgotten, in the order of launch.
///
/// # Errors
/// The OS error, or that it is of a version that this program does not know.
pub fn read(path: &Path) -> io::Result<Vec<ProcessEntry>> {
    read_all(path).map(|(records, _)| records)
}

/// The same, and what the last worker had left.
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
            Ok(Some(JournalEntry::Asked(id, identity))) => {
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
            // At its end, or at the entry that was being written.
            Ok(None) => break,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the journal is damaged, and read up to there");
                break;
            }
        }
    }
    // An ID may have been used again: its last launch counts.
    let mut listed: Vec<ProcessEntry> =
        order.iter().rev().filter_map(|id| records.remove(id)).collect();
    listed.reverse();
    if other_boot {
        // Without what tells a process from others of its pid, none of them is taken to be alive.
        for started in listed.iter_mut().filter_map(|record| record.started.as_mut()) {
            started.stat = None;
        }
    }
    Ok((listed, memory))
}

/// Takes the version, which comes first. Returns false where the journal was cut off before it.
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

/// Which boot of the machine this is, if the kernel tells.
fn boot_id() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}

/// Whether a record's process still runs: one of its pid and start time.
pub fn is_alive(record: &ProcessEntry, procfs: &ProcFs) -> bool {
    state_now(record, procfs).is_some_and(|state| state != 'Z')
}

/// Whether the process of a record runs, or is a zombie whose exit status can be read.
pub fn is_unreaped(record: &ProcessEntry, procfs: &ProcFs) -> bool {
    state_now(record, procfs).is_some()
}

/// The state letter of a record's process: one of its pid and start time.
fn state_now(record: &ProcessEntry, procfs: &ProcFs) -> Option<char> {
    let (Some(started), None) = (&record.started, &record.ended) else { return None };
    let now = procfs.read_stat(started.pid).ok()?;
    let same = started.stat.as_ref().is_some_and(|then| then.starttime == now.starttime);
    same.then_some(now.state)
}

#[cfg(test)]
mod tests;
