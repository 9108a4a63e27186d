//! The form in which captures are told to other programs: in messages, in the journal, in an upgrade. It only ever grows at its end.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, Weak};

use serde::{Deserialize, Serialize};

use super::{Capture, Extent};
use crate::path_bytes;
use crate::spec::{CaptureSpec, LimitSpec};

/// Marks a capture that is not frozen, where its length is told.
const OPEN: u64 = u64::MAX;

/// A capture as it is told to others.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Record {
    spec: CaptureSpec,
    #[serde(with = "path_bytes")]
    path: PathBuf,
    /// The final length, or [`OPEN`].
    frozen: u64,
    /// What only some captures have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    more: Option<Box<More>>,
}

/// What is told of a capture that is not simply a file.
#[derive(Clone, Serialize, Deserialize)]
struct More {
    limit: Option<LimitSpec>,
    #[serde(with = "path_bytes")]
    counters: PathBuf,
    end: Option<Extent>,
    #[serde(default, with = "path_bytes")]
    pieces: PathBuf,
}

impl Record {
    /// That of a capture which has nothing, for ever.
    pub(super) fn empty(spec: CaptureSpec) -> Record {
        Record { spec, path: PathBuf::new(), frozen: 0, more: None }
    }
}

impl From<Record> for Capture {
    fn from(Record { spec, path, frozen, more }: Record) -> Self {
        let plain = || (frozen != OPEN).then(|| Extent::plain(frozen));
        let More { limit, counters, end, pieces } = more.map_or_else(
            || More { limit: None, counters: PathBuf::new(), end: plain(), pieces: PathBuf::new() },
            |more| *more,
        );
        let end = end.map_or_else(OnceLock::new, OnceLock::from);
        Capture { spec, path, limit, counters, pieces, end, held: Mutex::new(Weak::new()) }
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
        let Capture { counters, pieces, .. } = capture;
        let simple = counters.as_os_str().is_empty() && pieces.as_os_str().is_empty();
        let more = (!simple).then(|| {
            Box::new(More {
                limit: capture.limit,
                counters: counters.clone(),
                end,
                pieces: pieces.clone(),
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
    /// The same capture, frozen on its own.
    fn clone(&self) -> Self {
        Record::from(self).into()
    }
}
