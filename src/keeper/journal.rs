//! The journal: what has been started and what became of it, for the case that the keeper dies.
//!
//! Frames as in [`protocol`](super::protocol), one for each entry, appended as things happen. A last frame that was cut
//! off by the keeper's death is left out. It is written anew when most of it is about processes that have been forgotten.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::ledger::{Ledger, Record};
use super::protocol::{Decoder, Memory, encode};
use crate::engine::procfs::ProcFs;
use crate::engine::{Ended, Started};
use crate::spec::ProcId;

/// The version of the journal's form, its first entry.
pub const VERSION: u32 = 1;
/// Entries about forgotten processes that are borne before the journal is written anew.
const BALLAST: usize = 4096;

/// One entry.
#[derive(Serialize, Deserialize)]
pub enum Entry {
    /// The first one.
    Version(u32),
    /// A process is about to be started.
    Launched(ProcId),
    /// It has started.
    Started(Box<Started>),
    /// It has ended.
    Ended(Box<Ended>),
    /// It is forgotten.
    Forgotten(ProcId),
    /// What the agent leaves to the next.
    Memory(Memory),
}

/// How often it is tried to write the journal again where that has failed.
const RETRY: Duration = Duration::from_secs(1);

/// An open journal.
pub struct Journal {
    path: PathBuf,
    file: File,
    /// How much of the file is whole entries.
    length: u64,
    /// Entries about forgotten processes.
    ballast: usize,
    /// When writing has last failed: some entries are missing, and none is added until the whole is written anew.
    failed: Option<Instant>,
    frame: Vec<u8>,
}

impl Journal {
    /// Begins a journal with what is known already.
    ///
    /// # Errors
    /// The OS error; an earlier journal at the path is there still.
    pub fn begin(path: &Path, ledger: &Ledger, memory: &Memory) -> io::Result<Journal> {
        let bytes = image(ledger, memory)?;
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
        Ok(Journal { path, file, length, ballast: 0, failed: None, frame: Vec::new() })
    }

    /// Adds an entry, which `ledger` and `memory` know of already. One that cannot be written is lost to a keeper's successor alone:
    /// that is worth an error in the log, and no process. The journal is written anew as soon as there is room.
    pub fn add(&mut self, entry: &Entry, ledger: &Ledger, memory: &Memory) {
        if let Some(at) = self.failed {
            if at.elapsed() >= RETRY {
                self.renew(ledger, memory);
            }
            return;
        }
        self.frame.clear();
        match encode(entry, &mut self.frame).and_then(|()| self.file.write_all(&self.frame)) {
            Ok(()) => self.length += self.frame.len() as u64,
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "cannot write the journal");
                // A part of an entry, with others behind it, would make all of them unreadable. If it cannot be taken
                // back, it stays the last.
                let _ = self.file.set_len(self.length);
                self.failed = Some(Instant::now());
            }
        }
    }

    /// Adds that a process is forgotten, and writes the journal anew if that pays.
    pub fn forgotten(&mut self, id: ProcId, ledger: &Ledger, memory: &Memory) {
        self.add(&Entry::Forgotten(id), ledger, memory);
        self.ballast += 1;
        if self.ballast > BALLAST.max(ledger.len()) && self.failed.is_none() {
            self.renew(ledger, memory);
        }
    }

    fn renew(&mut self, ledger: &Ledger, memory: &Memory) {
        match Journal::begin(&self.path, ledger, memory) {
            Ok(journal) => *self = journal,
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "cannot renew the journal");
                // Where nothing is missing in the old one, it goes on.
                self.ballast = 0;
                if self.failed.is_some() {
                    self.failed = Some(Instant::now());
                }
            }
        }
    }
}

/// A journal of all that is known.
fn image(ledger: &Ledger, memory: &Memory) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    encode(&Entry::Version(VERSION), &mut bytes)?;
    encode(&Entry::Memory(memory.clone()), &mut bytes)?;
    for record in ledger.iter() {
        encode(&Entry::Launched(record.id.clone()), &mut bytes)?;
        if let Some(started) = &record.started {
            encode(&Entry::Started(Box::new(started.clone())), &mut bytes)?;
        }
        if let Some(ended) = &record.ended {
            encode(&Entry::Ended(ended.clone()), &mut bytes)?;
        }
    }
    Ok(bytes)
}

/// What a journal tells: every process that was not forgotten, in the order of launch.
///
/// # Errors
/// The OS error, or that it is of a version that this program does not know.
pub fn read(path: &Path) -> io::Result<Vec<Record>> {
    read_all(path).map(|(records, _)| records)
}

/// The same, and what the last agent had left.
///
/// # Errors
/// As [`read`].
pub fn read_all(path: &Path) -> io::Result<(Vec<Record>, Memory)> {
    let mut decoder = Decoder::default();
    decoder.push(&std::fs::read(path)?);
    match decoder.next_message() {
        Ok(Some(Entry::Version(VERSION))) => {}
        // Cut off before it had begun.
        Ok(None) => return Ok((Vec::new(), Memory::default())),
        Ok(Some(Entry::Version(other))) => {
            return Err(io::Error::other(format!("journal of version {other}, not {VERSION}")));
        }
        Ok(Some(_)) => return Err(io::Error::other("journal without a version")),
        Err(error) => return Err(io::Error::other(format!("no journal: {error}"))),
    }
    let mut order: Vec<ProcId> = Vec::new();
    let mut records: HashMap<ProcId, Record> = HashMap::new();
    let mut memory = Memory::default();
    loop {
        match decoder.next_message() {
            Ok(Some(Entry::Version(_))) => {}
            Ok(Some(Entry::Launched(id))) => {
                order.push(id.clone());
                records.insert(id.clone(), Record { id, started: None, ended: None });
            }
            Ok(Some(Entry::Started(started))) => {
                if let Some(record) = records.get_mut(&started.id) {
                    record.started = Some(*started);
                }
            }
            Ok(Some(Entry::Ended(ended))) => {
                if let Some(record) = records.get_mut(&ended.id) {
                    record.ended = Some(ended);
                }
            }
            Ok(Some(Entry::Forgotten(id))) => {
                records.remove(&id);
            }
            Ok(Some(Entry::Memory(latest))) => memory = latest,
            // At its end, or at the entry that was being written.
            Ok(None) => break,
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "the journal is damaged, and read up to there");
                break;
            }
        }
    }
    // An ID may have been used again: its last launch counts.
    let mut listed: Vec<Record> = order.iter().rev().filter_map(|id| records.remove(id)).collect();
    listed.reverse();
    Ok((listed, memory))
}

/// Whether a record's process still runs: one of its pid and start time.
pub fn is_alive(record: &Record, procfs: &ProcFs) -> bool {
    let (Some(started), None) = (&record.started, &record.ended) else { return false };
    let Ok(now) = procfs.read_stat(started.pid) else { return false };
    started.stat.as_ref().is_some_and(|then| then.starttime == now.starttime) && now.state != 'Z'
}
