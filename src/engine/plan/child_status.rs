//! A child's report of its set-up.

use std::ffi::CStr;
use std::io;
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::engine::event::Resolved;
use crate::engine::permitted;

/// The indexes of the words. The errors of the actions follow, and then the room for the working
/// directory.
#[derive(Clone, Copy)]
enum Word {
    Pid,
    Pidfd,
    ReachedExec,
    ExecErrno,
    ExeMissing,
    Candidate,
    Failed,
    FailedErrno,
    InGroup,
}

/// Number of words before the errors of the actions.
const HEAD: usize = Word::InGroup as usize + 1;
/// Room for the longest path that the kernel returns, in bytes.
const PATH_MAX: usize = 4096;

/// A child's report of its set-up, in memory that it shares with us until its exec.
pub(crate) struct ChildStatus {
    words: Box<[AtomicI32]>,
    actions: usize,
    /// The facts that are known before the child runs.
    early: OnceLock<Resolved>,
}

/// A failed part of the set-up other than an fd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum SetupFailure {
    /// The child could not get a session of its own.
    Session,
    /// The attribute with this index; late attributes count after the others.
    Attribute(usize),
}

/// Replaces any missing word.
static NOWHERE: AtomicI32 = AtomicI32::new(0);

impl ChildStatus {
    /// A status for this many actions, with room for the working directory if `cwd` is set.
    pub(in crate::engine) fn new(actions: usize, cwd: bool) -> Self {
        let count = HEAD + actions + if cwd { PATH_MAX / size_of::<AtomicI32>() } else { 0 };
        let words = (0..count).map(|_| AtomicI32::new(0)).collect();
        let status = ChildStatus { words, actions, early: OnceLock::new() };
        status.word(Word::Pidfd).store(-1, Ordering::Relaxed);
        status
    }

    fn word(&self, word: Word) -> &AtomicI32 {
        self.words.get(word as usize).unwrap_or(&NOWHERE)
    }

    /// The child's pid, as soon as it runs; 0 before.
    pub(in crate::engine) fn pid(&self) -> &AtomicI32 {
        self.word(Word::Pid)
    }

    /// The child's pidfd; -1 before. The kernel writes it before the child runs; for a child of a
    /// clone helper, the engine writes it when it needs one.
    pub(in crate::engine) fn pidfd(&self) -> &AtomicI32 {
        self.word(Word::Pidfd)
    }

    /// Whether the child reached execve.
    pub(in crate::engine) fn reached_exec(&self) -> &AtomicI32 {
        self.word(Word::ReachedExec)
    }

    /// 1 if the child is a member of its control group, a negative errno if it could not enter it.
    /// Set before a clone into the group; otherwise the child sets it.
    pub(in crate::engine) fn in_group(&self) -> &AtomicI32 {
        self.word(Word::InGroup)
    }

    /// The errno of execve, or 0.
    pub(in crate::engine) fn exec_errno(&self) -> &AtomicI32 {
        self.word(Word::ExecErrno)
    }

    /// Whether the executable does not exist.
    pub(in crate::engine) fn exe_missing(&self) -> &AtomicI32 {
        self.word(Word::ExeMissing)
    }

    /// The index of the last tried path: after the exec, of the running one.
    pub(in crate::engine) fn candidate(&self) -> &AtomicI32 {
        self.word(Word::Candidate)
    }

    /// The errno of each action, or 0.
    pub(in crate::engine) fn action_errnos(&self) -> impl Iterator<Item = &AtomicI32> {
        self.words.iter().skip(HEAD).take(self.actions)
    }

    /// Reports a failure other than of an action.
    pub(in crate::engine) fn fail(&self, what: SetupFailure, errno: i32) {
        let code = match what {
            SetupFailure::Session => 1,
            SetupFailure::Attribute(index) => i32::try_from(index).unwrap_or(i32::MAX - 2) + 2,
        };
        self.word(Word::FailedErrno).store(errno, Ordering::Relaxed);
        self.word(Word::Failed).store(code, Ordering::Release);
    }

    /// The failed part other than an action, and its errno.
    pub(in crate::engine) fn failed(&self) -> Option<(SetupFailure, i32)> {
        let what = match self.word(Word::Failed).load(Ordering::Acquire) {
            0 => return None,
            1 => SetupFailure::Session,
            code => SetupFailure::Attribute(usize::try_from(code - 2).unwrap_or(usize::MAX)),
        };
        Some((what, self.word(Word::FailedErrno).load(Ordering::Acquire)))
    }

    /// Whether a part of the set-up has failed: the program will not run.
    pub(in crate::engine) fn has_failed(&self) -> bool {
        self.failed().is_some()
            || self.exec_errno().load(Ordering::Acquire) != 0
            || self.action_errnos().any(|errno| errno.load(Ordering::Acquire) != 0)
    }

    /// The address and length of the room for the working directory; `None` without such room.
    pub(in crate::engine) fn cwd_room(&self) -> Option<(*mut u8, usize)> {
        let room = self.words.get(HEAD + self.actions..).filter(|room| !room.is_empty())?;
        Some((room.as_ptr().cast_mut().cast(), size_of_val(room)))
    }

    /// The working directory that the child has reported.
    pub(in crate::engine) fn cwd(&self) -> Option<String> {
        let room = self.words.get(HEAD + self.actions..)?;
        let bytes: Vec<u8> =
            room.iter().flat_map(|word| word.load(Ordering::Acquire).to_ne_bytes()).collect();
        let path = CStr::from_bytes_until_nul(&bytes).ok()?;
        (!path.is_empty()).then(|| path.to_string_lossy().into_owned())
    }

    /// The facts before the child runs: all as the spec asks for.
    pub(in crate::engine) fn early(&self) -> &OnceLock<Resolved> {
        &self.early
    }

    /// The pidfd of a running child; `None` if there cannot be one now. Only the engine, which
    /// reaps the child, may call it. The kernel writes the number before the descriptor exists, and
    /// also if the clone then fails: only a report of the child itself proves that the number is
    /// usable.
    pub(in crate::engine) fn running_pidfd(&self) -> Option<RawFd> {
        match self.pid().load(Ordering::Acquire) {
            0 => None,
            pid => self.pidfd_of(pid).ok(),
        }
    }

    /// The number of the child's pidfd. Opens one if the kernel has made none, because a clone
    /// helper cloned the child.
    ///
    /// # Errors
    /// The OS error of opening it.
    pub(in crate::engine) fn pidfd_of(&self, pid: i32) -> io::Result<RawFd> {
        let number = self.pidfd().load(Ordering::Acquire);
        if number >= 0 {
            return Ok(number);
        }
        let number = permitted::handle(pid)?.into_raw_fd();
        self.pidfd().store(number, Ordering::Release);
        Ok(number)
    }
}
