//! What a child tells of its set-up.

use std::ffi::CStr;
use std::io;
use std::os::fd::{IntoRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::engine::event::Resolved;
use crate::engine::permitted;

/// Where a fact stands among the words. The actions' errors follow, and then the room for the working directory.
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
}

/// How many words come before the actions' errors.
const HEAD: usize = Word::FailedErrno as usize + 1;
/// Room for the longest path that the kernel tells, in bytes.
const PATH_MAX: usize = 4096;

/// What the child tells of its set-up, in memory that it shares with us until it execs.
pub(crate) struct ChildStatus {
    words: Box<[AtomicI32]>,
    actions: usize,
    /// What is known before the child runs.
    early: OnceLock<Resolved>,
}

/// Where the set-up has failed, beside the fds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum SetupFailure {
    /// It could not have a session of its own.
    Session,
    /// The attribute of this index, the late ones counted after the others.
    Attribute(usize),
}

/// Stands for any word that is not there.
static NOWHERE: AtomicI32 = AtomicI32::new(0);

impl ChildStatus {
    /// A status of so many actions, with room for the working directory where that is asked for.
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

    /// The child's pidfd, written by the kernel before the child runs; of one that a clone helper has cloned, by the engine when it needs it. -1 before.
    pub(in crate::engine) fn pidfd(&self) -> &AtomicI32 {
        self.word(Word::Pidfd)
    }

    /// Whether the child came as far as execve.
    pub(in crate::engine) fn reached_exec(&self) -> &AtomicI32 {
        self.word(Word::ReachedExec)
    }

    /// The errno of execve, or 0.
    pub(in crate::engine) fn exec_errno(&self) -> &AtomicI32 {
        self.word(Word::ExecErrno)
    }

    /// Whether the executable does not exist.
    pub(in crate::engine) fn exe_missing(&self) -> &AtomicI32 {
        self.word(Word::ExeMissing)
    }

    /// Which path was tried last: where the child has exec'd, the one that it runs.
    pub(in crate::engine) fn candidate(&self) -> &AtomicI32 {
        self.word(Word::Candidate)
    }

    /// The errno of each action, or 0.
    pub(in crate::engine) fn action_errnos(&self) -> impl Iterator<Item = &AtomicI32> {
        self.words.iter().skip(HEAD).take(self.actions)
    }

    /// Tells that something else than an action has failed.
    pub(in crate::engine) fn fail(&self, what: SetupFailure, errno: i32) {
        let code = match what {
            SetupFailure::Session => 1,
            SetupFailure::Attribute(index) => i32::try_from(index).unwrap_or(i32::MAX - 2) + 2,
        };
        self.word(Word::FailedErrno).store(errno, Ordering::Relaxed);
        self.word(Word::Failed).store(code, Ordering::Release);
    }

    /// What else than an action has failed, and its errno.
    pub(in crate::engine) fn failed(&self) -> Option<(SetupFailure, i32)> {
        let what = match self.word(Word::Failed).load(Ordering::Acquire) {
            0 => return None,
            1 => SetupFailure::Session,
            code => SetupFailure::Attribute(usize::try_from(code - 2).unwrap_or(usize::MAX)),
        };
        Some((what, self.word(Word::FailedErrno).load(Ordering::Acquire)))
    }

    /// Whether a part of the set-up is known to have failed: the program will not run.
    pub(in crate::engine) fn has_failed(&self) -> bool {
        self.failed().is_some()
            || self.exec_errno().load(Ordering::Acquire) != 0
            || self.action_errnos().any(|errno| errno.load(Ordering::Acquire) != 0)
    }

    /// The room for the working directory: where it begins, and its bytes; none where that is not asked for.
    pub(in crate::engine) fn cwd_room(&self) -> Option<(*mut u8, usize)> {
        let room = self.words.get(HEAD + self.actions..).filter(|room| !room.is_empty())?;
        Some((room.as_ptr().cast_mut().cast(), size_of_val(room)))
    }

    /// The working directory as the child has told it.
    pub(in crate::engine) fn cwd(&self) -> Option<String> {
        let room = self.words.get(HEAD + self.actions..)?;
        let bytes: Vec<u8> =
            room.iter().flat_map(|word| word.load(Ordering::Acquire).to_ne_bytes()).collect();
        let path = CStr::from_bytes_until_nul(&bytes).ok()?;
        (!path.is_empty()).then(|| path.to_string_lossy().into_owned())
    }

    /// What is known before the child runs: all as asked for.
    pub(in crate::engine) fn early(&self) -> &OnceLock<Resolved> {
        &self.early
    }

    /// The pidfd of a child that runs; none where there cannot be one now. To be called by the engine only, whose the child is to
    /// reap. The kernel writes the number before the descriptor is there, and also where the clone then fails: only the child itself
    /// tells that it can be used.
    pub(in crate::engine) fn running_pidfd(&self) -> Option<RawFd> {
        match self.pid().load(Ordering::Acquire) {
            0 => None,
            pid => self.pidfd_of(pid).ok(),
        }
    }

    /// The number of the child's pidfd, which is opened where the kernel has made none: a clone helper has cloned it.
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
