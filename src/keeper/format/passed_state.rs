//! A state that one program leaves to the next one in the same process, in a sealed memory file.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::RawFd;

use serde::Serialize;

use crate::engine::sys::{seal, sealable_memory_file};
use crate::keeper::descriptors::{Foreign, claim, read_state, state_file};

/// The version of an upgrade's state. All versions since 1 can be read; `tests/fixtures/` has
/// fixtures of each.
pub const STATE_VERSION: u32 = 4;

/// A state is unusable.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The descriptor does not belong to a state, or the state is for another process.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// It cannot be read.
    #[error("cannot read the state: {0}")]
    Read(#[from] io::Error),
    /// It does not decode.
    #[error("cannot understand the state: {0}")]
    Form(#[from] rmp_serde::decode::Error),
    /// Its version is unknown.
    #[error("state of version {0}, and this program knows 1 to {STATE_VERSION}")]
    Version(u32),
}

/// A state that crosses an exec.
pub trait PassedState: Serialize + Sized {
    /// The environment variable with the number of its descriptor.
    const VARIABLE: &str;

    /// Decodes it.
    ///
    /// # Errors
    /// This program cannot continue from it.
    fn from_bytes(bytes: &[u8]) -> Result<Self, StateError>;

    /// Whether it is for the process with this pid.
    fn is_for(&self, pid: u32) -> bool;

    /// The fds that the user launched the program with.
    fn fds(&mut self) -> &mut Vec<RawFd>;

    /// The state as a sealed memory file, which nobody can change.
    ///
    /// # Errors
    /// It cannot be encoded or written.
    fn to_file(&self) -> io::Result<File> {
        let mut file = File::from(sealable_memory_file()?);
        file.write_all(&rmp_serde::to_vec_named(self).map_err(io::Error::other)?)?;
        file.rewind()?;
        seal(&file)?;
        Ok(file)
    }

    /// Takes the state that the previous program left in this process, behind the descriptor with
    /// this `number`. It must be one of `inherited`, the descriptors that this program was started
    /// with.
    ///
    /// # Errors
    /// It is not a state for this process, or this program cannot continue from it.
    fn inherit(number: &str, inherited: &[RawFd]) -> Result<Self, StateError> {
        let foreign = Foreign { variable: Self::VARIABLE };
        let file = state_file(Self::VARIABLE, number)?;
        let mut state = Self::from_bytes(&read_state(&file)?)?;
        if !state.is_for(std::process::id()) {
            return Err(foreign.into());
        }
        let fd = number.parse().ok().filter(|fd| inherited.contains(fd)).ok_or(foreign)?;
        drop(claim(fd)?);
        // An older program did not leave the user's descriptors open, so other files may get their
        // numbers.
        state.fds().retain(|fd| inherited.contains(fd));
        Ok(state)
    }
}
