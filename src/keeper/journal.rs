//! The journal: what has been started and what became of it, for the case that the keeper dies.
//!
//! Frames as in [`protocol`](super::protocol), one for each entry, appended as things happen. A last frame that was cut
//! off by the keeper's death is left out. It is written anew when most of it is about processes that have been forgotten.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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

/// An open journal.
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Entries about forgotten processes.
    ballast: usize,
    frame: Vec<u8>,
}

impl Journal {
    /// Begins a journal with what is known already.
    ///
    /// # Errors
    /// The OS error; an earlier journal at the path is there still.
    pub fn begin(path: &Path, ledger: &Ledger, memory: &Memory) -> io::Result<Journal> {
        let beside = path.with_extension("new");
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
        let mut file = File::options().append(true).create(true).mode(0o600).open(&beside)?;
        file.set_len(0)?;
        file.write_all(&bytes)?;
        std::fs::rename(&beside, path)?;
        Ok(Journal { path: path.to_path_buf(), file, ballast: 0, frame: Vec::new() })
    }

    /// Adds an entry. One that cannot be written is lost to a keeper's successor alone: that is worth an error in the log, and
    /// no process.
    pub fn add(&mut self, entry: &Entry) {
        self.frame.clear();
        let added = encode(entry, &mut self.frame).and_then(|()| self.file.write_all(&self.frame));
        if let Err(error) = added {
            tracing::error!(path = %self.path.display(), %error, "cannot write the journal");
        }
    }

    /// Adds that a process is forgotten, and writes the journal anew if that pays.
    pub fn forgotten(&mut self, id: ProcId, ledger: &Ledger, memory: &Memory) {
        self.add(&Entry::Forgotten(id));
        self.ballast += 1;
        if self.ballast > BALLAST.max(ledger.len()) {
            match Journal::begin(&self.path, ledger, memory) {
                Ok(journal) => *self = journal,
                Err(error) => {
                    tracing::error!(path = %self.path.display(), %error, "cannot renew the journal");
                    self.ballast = 0;
                }
            }
        }
    }
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
    let mut order: Vec<ProcId> = Vec::new();
    let mut records: HashMap<ProcId, Record> = HashMap::new();
    let mut memory = Memory::default();
    // What cannot be read is the end: the entry that was being written.
    while let Ok(Some(entry)) = decoder.next_message::<Entry>() {
        match entry {
            Entry::Version(VERSION) => {}
            Entry::Version(other) => {
                return Err(io::Error::other(format!("journal of version {other}, not {VERSION}")));
            }
            Entry::Launched(id) => {
                order.push(id.clone());
                records.insert(id.clone(), Record { id, started: None, ended: None });
            }
            Entry::Started(started) => {
                if let Some(record) = records.get_mut(&started.id) {
                    record.started = Some(*started);
                }
            }
            Entry::Ended(ended) => {
                if let Some(record) = records.get_mut(&ended.id) {
                    record.ended = Some(ended);
                }
            }
            Entry::Forgotten(id) => {
                records.remove(&id);
            }
            Entry::Memory(latest) => memory = latest,
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
