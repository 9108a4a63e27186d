//! The format of captures for other programs: in messages, in the journal, in an upgrade. New
//! fields are only added at its end.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use serde::{Deserialize, Serialize};

use super::named::{Made, Named};
use super::seal::Seal;
use super::{Capture, CaptureSize};
use crate::path_bytes;
use crate::spec::{CaptureSpec, KeepSpec};

/// Length of a capture that is not frozen.
const OPEN: u64 = u64::MAX;

/// A capture in the format for other programs.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Record {
    spec: CaptureSpec,
    #[serde(with = "path_bytes")]
    path: PathBuf,
    /// The final length, or [`OPEN`].
    frozen: u64,
    /// The rarer properties.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    more: Option<Box<More>>,
}

/// The properties of a capture that is more than a plain file.
#[derive(Clone, Default, Serialize, Deserialize)]
struct More {
    limit: Option<KeepSpec>,
    #[serde(with = "path_bytes")]
    counters: PathBuf,
    end: Option<CaptureSize>,
    #[serde(default, rename = "pieces", with = "path_bytes")]
    chunk_times: PathBuf,
    /// The length of the guard, and the file's inode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<(u64, u64)>,
    /// The key of the file that the spec names, and the record of its creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    named: Option<(u64, Option<Made>)>,
    /// The record of the final state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seal: Option<Box<Seal>>,
}

/// The key of a capture without a named file.
const NO_NAME: u64 = 0;

impl Record {
    /// The record of a capture that stays empty.
    pub(super) fn empty(spec: CaptureSpec) -> Record {
        Record { spec, path: PathBuf::new(), frozen: 0, more: None }
    }
}

impl From<Record> for Capture {
    fn from(Record { spec, path, frozen, more }: Record) -> Self {
        let plain = || (frozen != OPEN).then(|| CaptureSize::plain(frozen));
        let More { limit, counters, end, chunk_times, file, named, seal } =
            more.map_or_else(|| More { end: plain(), ..More::default() }, |more| *more);
        let end = end.map_or_else(OnceLock::new, OnceLock::from);
        let (guard, inode) = file.unwrap_or_default();
        let (inode, held) = (Arc::new(AtomicU64::new(inode)), Mutex::new(Weak::new()));
        let seal = seal.map_or_else(OnceLock::new, OnceLock::from);
        let named = named.filter(|(key, _)| *key != NO_NAME);
        let named = named.map(|(key, made)| Named::with_key(key, made));
        Capture { spec, path, limit, counters, chunk_times, guard, inode, end, seal, named, held }
    }
}

impl From<Capture> for Record {
    fn from(capture: Capture) -> Self {
        Record::from(&capture)
    }
}

impl From<&Capture> for Record {
    fn from(capture: &Capture) -> Self {
        let end = capture.frozen();
        let Capture { counters, chunk_times, guard, .. } = capture;
        let inode = capture.inode.load(Ordering::Relaxed);
        let simple = counters.as_os_str().is_empty()
            && chunk_times.as_os_str().is_empty()
            && inode == 0
            && capture.named.is_none()
            && !capture.is_sealed()
            && end.is_none_or(|end| end == CaptureSize::plain(end.length));
        let named = match &capture.named {
            Some(named) => Some((named.key(), named.made().cloned())),
            None => capture.is_sealed().then_some((NO_NAME, None)),
        };
        let more = (!simple).then(|| {
            Box::new(More {
                limit: capture.limit,
                counters: counters.clone(),
                end,
                chunk_times: chunk_times.clone(),
                // Messages have no field names, so no field may be absent before a present one.
                file: (inode != 0 || named.is_some()).then_some((*guard, inode)),
                named,
                seal: capture.seal.get().cloned(),
            })
        });
        Record {
            spec: capture.spec.clone(),
            path: capture.path.clone(),
            frozen: end.map_or(OPEN, |end| end.length),
            more,
        }
    }
}

impl Clone for Capture {
    /// A copy that is frozen on its own.
    fn clone(&self) -> Self {
        Record::from(self).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::CaptureFile;

    /// Messages have no field names, the state of an upgrade has them: both must round-trip.
    #[test]
    fn the_record_of_a_named_file_crosses_an_upgrade() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out").to_str().unwrap().to_owned();
        let file = CaptureFile { path: path.clone(), mode: 0o600, keep: true };
        let spec = CaptureSpec { file: Some(file.clone()), ..CaptureSpec::default() };
        let mut record = Record::empty(spec);
        record.path = path.into();
        record.frozen = OPEN;
        let mut capture = Capture::from(record);
        let named = Named::new();
        capture.named = Some(Arc::clone(&named));
        for made in [false, true] {
            if made {
                named.make(&file, None, &Default::default()).unwrap();
            }
            let compact: Capture =
                rmp_serde::from_slice(&rmp_serde::to_vec(&capture.clone()).unwrap()).unwrap();
            let by_name: Capture =
                rmp_serde::from_slice(&rmp_serde::to_vec_named(&capture.clone()).unwrap()).unwrap();
            for other in [compact, by_name] {
                assert_eq!(other.path, capture.path);
                let crossed = other.named.unwrap();
                assert_eq!((crossed.key(), crossed.made()), (named.key(), named.made()));
                // Within one program, both share one value.
                assert!(Arc::ptr_eq(&crossed, &named) && named.made().is_some() == made);
            }
        }
    }
}
