//! The upgrade: the keeper replaces itself by the program that is now on disk.
//!
//! Exec keeps the pid and the children; what the keeper knows crosses in a memory file, with the descriptors that are open for it.
//! Before anything is given up, the new program is [asked](super::check) whether it understands that file and can start with it.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::check::{self, CheckError};
use super::descriptors::{Foreign, read_state, state_file};
use super::instance::InstanceHandover;
use super::listeners;
use super::meaning::Mode;
use super::process_table::ProcessEntry;
use super::protocol::{AgentState, KeeperSettings, ShutdownCommand};
use super::secrets::{self, SECRETS_FD};
use crate::engine::permitted;
use crate::engine::sys::{seal, sealable_memory_file, set_cloexec};
use crate::engine::{HandoverProcess, HandoverShared, TimePoint};

/// The version of the state's form. Those since 1 are understood; fixtures of each are kept in `tests/fixtures/`.
pub const VERSION: u32 = 4;
/// The environment variable by which a program knows that it goes on for the one before: the number of the state's descriptor.
pub const STATE_FD: &str = "PROCSTAR_KEEPER_STATE";
/// The one by which it knows that it is only asked whether it could.
pub const CHECK_FD: &str = "PROCSTAR_KEEPER_CHECK";

/// All that crosses.
#[derive(Serialize, Deserialize)]
pub struct UpgradeState {
    /// [`VERSION`].
    pub version: u32,
    /// When the launched program started.
    pub start: TimePoint,
    /// The fds that the user launched it with.
    pub fds: Vec<RawFd>,
    /// Its open-file limit, where that was raised.
    pub nofile: Option<(u64, u64)>,
    /// What the first agent brought.
    pub settings: KeeperSettings,
    /// The instance's directory.
    pub instance: InstanceHandover,
    /// The table.
    pub records: Vec<ProcessEntry>,
    /// What the last agent has left.
    pub memory: AgentState,
    /// Orders that no agent has been told of.
    pub orders: Vec<ShutdownCommand>,
    /// What the engine holds.
    pub carried: Vec<HandoverProcess>,
    /// The kind of run; older programs hand over none.
    #[serde(default, skip_serializing_if = "Mode::is_service")]
    pub mode: Mode,
    /// Whether the launched program had a controlling terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// What else the engine holds.
    #[serde(default)]
    pub shared: HandoverShared,
    /// The pid of the process that goes on; none from an older program.
    #[serde(default)]
    pub keeper: Option<u32>,
    /// The pid of the agent, where there is one: the addresses that it listens on become free with its end.
    #[serde(default)]
    pub agent: Option<u32>,
    /// What the agent's services listen on, since version 4.
    #[serde(default, skip_serializing_if = "listeners::ListenersHandover::is_empty")]
    pub listeners: listeners::ListenersHandover,
}

/// Why the state of another program is of no use.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The descriptor is not that of a state, or not of one that is for this process.
    #[error(transparent)]
    Foreign(#[from] Foreign),
    /// It cannot be read.
    #[error("cannot read the state: {0}")]
    Read(#[from] io::Error),
    /// It is of another form.
    #[error("cannot understand the state: {0}")]
    Form(#[from] rmp_serde::decode::Error),
    /// It is of a version that this program does not know.
    #[error("state of version {0}, and this program knows 1 to {VERSION}")]
    Version(u32),
}

impl UpgradeState {
    /// Reads a state.
    ///
    /// # Errors
    /// Where this program cannot go on from it.
    pub fn from_bytes(bytes: &[u8]) -> Result<UpgradeState, StateError> {
        /// What every version begins with.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        match rmp_serde::from_slice::<Version>(bytes)?.version {
            1..=VERSION => Ok(rmp_serde::from_slice(bytes)?),
            other => Err(StateError::Version(other)),
        }
    }

    /// Takes the state that the program before has left in this process, behind the descriptor with this `number`. It must be one of
    /// `inherited`, which this program was started with.
    ///
    /// # Errors
    /// As [`from_bytes`](Self::from_bytes), and where the descriptor is that of something else.
    pub fn inherit(number: &str, inherited: &[RawFd]) -> Result<UpgradeState, StateError> {
        let file = state_file(STATE_FD, number)?;
        let mut state = UpgradeState::from_bytes(&read_state(&file)?)?;
        let foreign = Foreign { variable: STATE_FD };
        if state.keeper.is_some_and(|keeper| keeper != std::process::id()) {
            return Err(foreign.into());
        }
        let fd = number.parse().ok().filter(|fd| inherited.contains(fd)).ok_or(foreign)?;
        // SAFETY: it is open, and was left open for this alone. It is closed here.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
        // Programs before version 4 did not leave the user's open: their numbers may be those of others soon.
        state.fds.retain(|fd| inherited.contains(fd));
        Ok(state)
    }

    /// The state as a file in memory that nobody can change any more.
    ///
    /// # Errors
    /// Where it cannot be encoded or written.
    pub fn to_file(&self) -> io::Result<File> {
        let mut file = File::from(sealable_memory_file()?);
        file.write_all(&rmp_serde::to_vec_named(self).map_err(io::Error::other)?)?;
        file.rewind()?;
        seal(&file)?;
        Ok(file)
    }
}

/// The program that goes on, as it was started.
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
}

impl Program {
    /// This program, by the path where its successors will be.
    ///
    /// # Errors
    /// The OS error of finding that path.
    pub fn of_this_process() -> io::Result<Program> {
        // Without `/proc`, the path by which it was executed is as good.
        let path = std::env::current_exe().unwrap_or_else(|_| permitted::own_program());
        let path = check::path_of_successor(&path).to_path_buf();
        Ok(Program::new(path, std::env::args_os().collect()))
    }

    /// A program by its path and arguments, its name among them.
    pub(super) fn new(path: PathBuf, args: Vec<OsString>) -> Program {
        Program { path, args }
    }

    /// The program's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name, as it was started.
    pub(super) fn name(&self) -> &OsStr {
        self.args.first().map_or(self.path.as_os_str(), OsString::as_os_str)
    }

    /// Its arguments, its name not among them.
    pub(super) fn args(&self) -> &[OsString] {
        self.args.get(1..).unwrap_or_default()
    }

    /// Asks the program that is now on disk whether it can go on from `state`; returns its version.
    ///
    /// # Errors
    /// Why not, for the user.
    pub fn check(&self, state: &File, fds: &[RawFd]) -> Result<String, CheckError> {
        check::ask(self, state, fds)
    }

    /// Becomes the program that is now on disk. Gives back only an error; then nothing has changed.
    pub fn exec_successor(&self, state: &File, open: &[RawFd]) -> io::Error {
        let secrets = match secrets::file() {
            Ok(secrets) => secrets,
            Err(error) => return error,
        };
        let keep = |close| {
            set_cloexec(state, close)?;
            secrets.iter().try_for_each(|secrets| set_cloexec(secrets, close))?;
            open.iter().try_for_each(|fd| {
                // SAFETY: the caller holds it open.
                set_cloexec(&unsafe { BorrowedFd::borrow_raw(*fd) }, close)
            })
        };
        let run = || -> io::Result<()> {
            keep(false)?;
            let c = |text: &[u8]| CString::new(text).map_err(io::Error::from);
            let args =
                self.args.iter().map(|arg| c(arg.as_bytes())).collect::<io::Result<Vec<_>>>()?;
            let named = |name: &str, fd: RawFd| c(format!("{name}={fd}").as_bytes());
            let secrets = secrets.iter().map(|file| named(SECRETS_FD, file.as_raw_fd()));
            let env = std::env::vars_os()
                .filter(|(name, _)| name != STATE_FD && name != SECRETS_FD)
                .map(|(name, value)| c(&[name.as_bytes(), b"=", value.as_bytes()].concat()))
                .chain(std::iter::once(named(STATE_FD, state.as_raw_fd())))
                .chain(secrets)
                .collect::<io::Result<Vec<_>>>()?;
            // Not through std's Command: the mask must stay, with the signals that wait behind it.
            nix::unistd::execve(&c(self.path.as_os_str().as_bytes())?, &args, &env)?;
            Ok(())
        };
        let error = run().err().unwrap_or_else(|| io::ErrorKind::Other.into());
        // As it was: children must not get these.
        if let Err(error) = keep(true) {
            tracing::error!(%error, "cannot close descriptors on exec");
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::{Allowed, Printing};
    use super::*;
    use std::time::Duration;

    use crate::config::LogSettings;
    use crate::engine::{Captures, Ended, Started, StopPolicy, Survivors};
    use crate::spec::Identity;
    use std::sync::Arc;

    fn sample() -> UpgradeState {
        let start = TimePoint {
            unix_nanos: 1_700_000_000_000_000_000,
            monotonic_nanos: 5_000_000_000,
            boot_nanos: 0,
        };
        let started = Started {
            id: "ended".into(),
            pid: 41,
            start,
            stat: None,
            statm: None,
            captures: Captures::none(),
            terms: StopPolicy::default(),
            resolved: Default::default(),
        };
        let survivors = Survivors::default();
        let ended = Ended { stop: start, survivors, ..Ended::lost(started.clone()) };
        let identity =
            Identity { argv: vec!["x".into()], exe: "/bin/x".into(), ..Identity::default() };
        let instance = serde_json::json!({
            "dir": "/run/procstar/x", "memory": "/dev/shm/procstar-0/x", "lasting": false, "lock": 5,
            "more": {
                "guard": 6,
                "files": {"path": "/tmp/procstar-0/x", "lock": 7, "guard": 8},
                "memory": {"path": "/dev/shm/procstar-0/x", "lock": 10, "guard": null},
                "link": null,
                "places": ["/run/procstar", "/tmp/procstar-run-0"]}});
        let listeners = serde_json::json!({
            "held": [
                {"address": {"Tcp": "127.0.0.1:3000"}, "fd": 21},
                {"address": {"Unix": "/run/procstar/x/http.sock"}, "file": [28, 1234], "fd": 22}],
            "missing": [{"address": {"Tcp": "[::1]:3000"}, "error": "in use"}]});
        UpgradeState {
            version: VERSION,
            start,
            fds: vec![9],
            nofile: Some((1024, 20_000)),
            settings: KeeperSettings {
                state_dir: None,
                base_dir: "/tmp".into(),
                conn_id: Some("x".into()),
                drain_grace: Duration::from_secs(1),
                setup_patience: Duration::from_millis(500),
                restrict_exe: Allowed {
                    executables: vec!["/bin/true".into()],
                    ..Allowed::default()
                },
                log: LogSettings::default(),
                limits: Default::default(),
            },
            instance: serde_json::from_value(instance).unwrap(),
            records: vec![ProcessEntry {
                stop_failures: Vec::new(),
                started: Some(started),
                ended: Some(Box::new(ended)),
                identity: Some(Arc::new(identity)),
                ..ProcessEntry::new("ended".into())
            }],
            memory: AgentState {
                conn_id: Some("x".into()),
                orders: vec![ShutdownCommand::Idle],
                any: true,
                given: vec![5_000_000_001],
                printing: Printing::Begun,
                log_level: None,
                page_key: None,
            },
            orders: vec![ShutdownCommand::Terminate],
            carried: HandoverProcess::samples(),
            mode: Mode::OneShot,
            terminal: true,
            shared: HandoverShared::sample(),
            keeper: Some(40),
            agent: Some(51),
            listeners: serde_json::from_value(listeners).unwrap(),
        }
    }

    /// A program of version 1 hands this over. It is read for ever.
    #[test]
    fn the_form_of_version_1() {
        let frozen = include_bytes!("../../tests/fixtures/upgrade-1.bin");
        let state = UpgradeState::from_bytes(frozen).unwrap();
        assert_eq!((state.version, state.carried.len(), state.records.len()), (1, 3, 1));
        assert_eq!(state.carried[0].descriptors().collect::<Vec<_>>(), [17]);
        assert!(state.records[0].identity.is_none());
    }

    /// A program of version 2 hands this over. It is read for ever.
    #[test]
    fn the_form_of_version_2() {
        let frozen = include_bytes!("../../tests/fixtures/upgrade-2.bin");
        let state = UpgradeState::from_bytes(frozen).unwrap();
        assert_eq!((state.version, state.carried.len(), state.records.len()), (2, 3, 1));
        assert_eq!(state.carried[0].descriptors().collect::<Vec<_>>(), [17]);
        let identity = state.records[0].identity.as_ref().unwrap();
        assert_eq!(
            (identity.argv.as_slice(), identity.exe.as_str()),
            (&["x".to_owned()][..], "/bin/x")
        );
        assert_eq!((state.keeper, state.agent), (None, None));
    }

    /// A program of version 3 hands this over. It is read for ever.
    #[test]
    fn the_form_of_version_3() {
        let frozen = include_bytes!("../../tests/fixtures/upgrade-3.bin");
        let state = UpgradeState::from_bytes(frozen).unwrap();
        assert_eq!((state.version, state.carried.len(), state.records.len()), (3, 3, 1));
        let open = |at: usize| state.carried[at].descriptors().collect::<Vec<_>>();
        assert_eq!((open(0), open(1)), (vec![17, 18, 19, 20], vec![]));
        assert_eq!((state.keeper, state.agent), (Some(40), Some(51)));
        assert_eq!(state.instance.descriptors(), [5, 6, 7, 8, 10]);
        assert!(state.listeners.is_empty());
    }

    /// A program of version 4 hands this over. If the form changes, the version changes, and this one is still read.
    #[test]
    fn the_form_of_version_4() {
        let frozen = include_bytes!("../../tests/fixtures/upgrade-4.bin");
        let state = UpgradeState::from_bytes(frozen).unwrap();
        assert_eq!((state.version, state.carried.len(), state.records.len()), (4, 3, 1));
        let held: Vec<_> = state.listeners.held.iter().map(listeners::PassedListener::fd).collect();
        assert_eq!((held, state.listeners.missing.len()), (vec![21, 22], 1));
        assert!(rmp_serde::to_vec_named(&state).unwrap() == frozen, "the form has changed");
        assert!(rmp_serde::to_vec_named(&sample()).unwrap() == frozen, "the form has changed");
    }

    /// Only the process that a state was made for goes on from it.
    #[test]
    fn the_state_of_another_process_is_refused() {
        let inherit = |state: UpgradeState| {
            let fd = std::os::fd::IntoRawFd::into_raw_fd(state.to_file().unwrap());
            UpgradeState::inherit(&fd.to_string(), &[fd])
                .map(drop)
                .map_err(|error| error.to_string())
        };
        let error = "PROCSTAR_KEEPER_STATE is reserved for procstar itself; unset it";
        assert_eq!(inherit(sample()), Err(error.into()));
        assert_eq!(inherit(UpgradeState { keeper: Some(std::process::id()), ..sample() }), Ok(()));
        // A program of version 2 does not say.
        assert_eq!(inherit(UpgradeState { keeper: None, ..sample() }), Ok(()));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let newer =
            rmp_serde::to_vec_named(&UpgradeState { version: VERSION + 1, ..sample() }).unwrap();
        let error = UpgradeState::from_bytes(&newer).err().unwrap().to_string();
        assert_eq!(error, "state of version 5, and this program knows 1 to 4");
        let whole = rmp_serde::to_vec_named(&sample()).unwrap();
        for cut in 0..whole.len() {
            assert!(UpgradeState::from_bytes(&whole[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    #[ignore = "writes the fixture, where fields were added"]
    fn write_the_fixture() {
        let path = format!("{}/tests/fixtures/upgrade-{VERSION}.bin", env!("CARGO_MANIFEST_DIR"));
        std::fs::write(path, rmp_serde::to_vec_named(&sample()).unwrap()).unwrap();
    }
}
