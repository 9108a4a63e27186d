//! The environment variables by which processes of this program find each other. They are reserved:
//! a user's own value is refused or replaced, and no process of a spec inherits one.

/// In a worker: the number of its socket to the keeper.
pub const KEEPER_FD: &str = "PROCSTAR_KEEPER_FD";
/// In a worker: set unless it is the keeper's first.
pub const AGAIN: &str = "PROCSTAR_KEEPER_AGAIN";
/// In a worker: the number of the socket on which it requests files.
pub const FILES_FD: &str = "PROCSTAR_KEEPER_FILES";
/// In a worker: the listeners that the keeper holds.
pub const LISTENERS: &str = "PROCSTAR_KEEPER_LISTENERS";
/// In a worker or the next keeper: the number of the memory file with the secrets.
pub const SECRETS_FD: &str = "PROCSTAR_KEEPER_SECRETS";
/// In the program of an upgrade: the number of the descriptor of the state that it resumes from.
pub const STATE_FD: &str = "PROCSTAR_KEEPER_STATE";
/// In a worker that becomes the keeper: the number of the descriptor of the state that it resumes
/// from.
pub const SUCCESSION_FD: &str = "PROCSTAR_KEEPER_SUCCESSION";
/// In a program that is only checked for its ability to resume: the number of the state's
/// descriptor.
pub const CHECK_FD: &str = "PROCSTAR_KEEPER_CHECK";
/// Beside [`CHECK_FD`]: the check's random number. An older program sets none, and accepts an exit
/// code as the answer.
pub const NONCE: &str = "PROCSTAR_KEEPER_NONCE";

/// All of them.
pub(super) const ALL: [&str; 9] =
    [KEEPER_FD, AGAIN, FILES_FD, LISTENERS, SECRETS_FD, STATE_FD, SUCCESSION_FD, CHECK_FD, NONCE];
