//! The agent's identity, which it reports to the scheduler when it registers.

/// The connection, in a registration. The server refuses any other key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnInfo {
    /// Stays the same over reconnects.
    pub conn_id: String,
    /// The group that the agent joins.
    pub group_id: String,
    /// The only executable that may be started, if there is such a limit; several are joined by
    /// `:`.
    pub restricted_exe: Option<String>,
}

/// The agent's process, in a registration. The server refuses any other key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcInfo {
    /// The process that the user launched.
    pub pid: u32,
    /// Its parent.
    pub ppid: u32,
    /// Real user ID.
    pub uid: u32,
    /// Effective user ID.
    pub euid: u32,
    /// Name of the real user; the numeric ID if it has no name.
    pub username: String,
    /// Real group ID.
    pub gid: u32,
    /// Effective group ID.
    pub egid: u32,
    /// Name of the real group; the numeric ID if it has no name.
    pub groupname: String,
    /// What gethostname says.
    pub hostname: String,
}
