//! Checks before an upgrade whether the program on disk can resume from our state.
//!
//! The program is started with the arguments and environment of the upgrade, and with the state as
//! standard input. Two variables request the check. The answer is one line of JSON on standard
//! output. A hash in it proves that the program has read both the state and the check's random
//! number, so no other program can answer.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::descriptors::{self, read_state};
use super::secrets;
use super::upgrade::Program;
use super::variables::{CHECK_FD, NONCE, STATE_FD};
use crate::engine::permitted;
use crate::engine::permitted::pidfd_open;
use crate::engine::sys::set_nonblocking;
use crate::trust::{self, Exposure, Need, Untrusted};

/// Timeout for the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Timeout for the end of killed processes, and the interval between two checks of them.
const REAP_TIMEOUT: Duration = Duration::from_secs(1);
const REAP_INTERVAL: Duration = Duration::from_millis(2);
/// The maximum length of an answer in bytes.
const MAX_ANSWER: usize = 64 * 1024;
const PROGRAM: &str = "procstar";

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
struct CheckAnswer {
    program: String,
    version: String,
    proof: String,
    /// Why the program cannot resume; `None` if it can.
    refusal: Option<String>,
}

/// Why there is no upgrade to the program on disk.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The program cannot be started.
    #[error("cannot run {path}: {source}")]
    Run {
        /// The program.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// Other users may change the program, and it would run with our rights.
    #[error("refusing to run {path}: {exposure}")]
    Exposed {
        /// The program.
        path: String,
        /// The users' access.
        exposure: Exposure,
    },
    /// The program has not answered in time.
    #[error("{path} did not answer within {} s whether it can resume the instance; install procstar at that path", PATIENCE.as_secs())]
    Silent {
        /// The program.
        path: String,
    },
    /// The program is not procstar, or an older version of it.
    #[error(
        "{path} is not procstar, or a version that cannot resume this instance ({status}); install procstar at that path"
    )]
    Foreign {
        /// The program.
        path: String,
        /// Its exit status.
        status: ExitStatus,
    },
    /// The program cannot resume, for a reason of its own.
    #[error(
        "{path}, version {version}, cannot resume this instance: {reason}; correct that, and upgrade again"
    )]
    Refused {
        /// The program.
        path: String,
        /// Its version.
        version: String,
        /// The reason.
        reason: String,
    },
}

/// Checks whether the program that is now on disk can resume from `state`, with these descriptors
/// of the user; returns its version.
///
/// # Errors
/// The reason.
pub(super) fn check(program: &Program, state: &File, fds: &[RawFd]) -> Result<String, CheckError> {
    let path = program.path().display().to_string();
    let failed = |source: io::Error| CheckError::Run { path: path.clone(), source };
    trust::check(program.path(), Need::Integrity).map_err(|error| match error {
        Untrusted::Unknown(source) => failed(source),
        Untrusted::Exposed(exposure) => CheckError::Exposed { path: path.clone(), exposure },
    })?;
    let nonce = uuid::Uuid::new_v4().simple().to_string();
    let wanted = proof(&nonce, &read_state(state).map_err(failed)?);
    let mut checked = Check::start(program, state, &nonce, fds).map_err(failed)?;
    let heard = checked.answer(&wanted, Instant::now() + PATIENCE);
    let status = checked.end().map_err(failed)?;
    match heard.map_err(failed)? {
        Heard::Nothing => Err(CheckError::Silent { path }),
        Heard::End => Err(CheckError::Foreign { path, status }),
        Heard::CheckAnswer(CheckAnswer { version, refusal: None, .. }) => Ok(version),
        Heard::CheckAnswer(CheckAnswer { version, refusal: Some(reason), .. }) => {
            Err(CheckError::Refused { path, version, reason })
        }
    }
}

/// This program's answer to the check with this random number, as one line.
pub fn answer(nonce: &str, state: &[u8], outcome: Result<(), String>) -> String {
    let answer = CheckAnswer {
        program: PROGRAM.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        proof: proof(nonce, state),
        refusal: outcome.err(),
    };
    // It contains only strings, so this cannot fail.
    serde_json::to_string(&answer).unwrap_or_default() + "\n"
}

fn proof(nonce: &str, state: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(b"procstar upgrade ");
    hash.update(nonce.as_bytes());
    hash.update(state);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The outcome of waiting for an answer.
enum Heard {
    CheckAnswer(CheckAnswer),
    /// The program has ended without an answer.
    End,
    /// The program still runs, without an answer.
    Nothing,
}

/// The line with the expected proof, if there is one: a script that starts the program may print
/// other lines.
fn find_answer(text: &[u8], wanted: &str) -> Option<CheckAnswer> {
    text.split_inclusive(|byte| *byte == b'\n')
        .filter(|line| line.ends_with(b"\n"))
        .filter_map(|line| serde_json::from_slice::<CheckAnswer>(line).ok())
        .find(|answer| answer.program == PROGRAM && answer.proof == wanted)
}

/// A program that is being checked, in a process group of its own.
struct Check {
    child: Child,
    pidfd: OwnedFd,
}

impl Check {
    fn start(program: &Program, state: &File, nonce: &str, fds: &[RawFd]) -> io::Result<Check> {
        let mut command = Command::new(program.path());
        descriptors::pass_on_inherited(&mut command, fds);
        let _secrets = secrets::hand_over(&mut command)?;
        let mut child = command
            .arg0(program.name())
            .args(program.args())
            .env_remove(STATE_FD)
            .env(CHECK_FD, "0")
            .env(NONCE, nonce)
            .stdin(state.try_clone()?)
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let pidfd =
            pidfd_open(child.id() as i32).map_err(permitted::explain).inspect_err(|_| {
                // Without a pidfd, its end could not be noticed.
                let _ = child.kill().and_then(|()| child.wait());
            })?;
        Ok(Check { child, pidfd })
    }

    /// Reads the program's standard output up to the answer or the program's end.
    fn answer(&mut self, wanted: &str, deadline: Instant) -> io::Result<Heard> {
        let Some(stdout) = self.child.stdout.take() else { return Ok(Heard::Nothing) };
        let stdout = OwnedFd::from(stdout);
        set_nonblocking(&stdout)?;
        let mut stdout = File::from(stdout);
        let mut text = Vec::new();
        let mut open = true;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Without the closed output, because poll would report it repeatedly.
            let output = if open { stdout.as_fd() } else { self.pidfd.as_fd() };
            let mut fds = [
                PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN),
                PollFd::new(output, PollFlags::POLLIN),
            ];
            let limit = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, limit) {
                Ok(0) => return Ok(Heard::Nothing),
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ended = fds.first().and_then(PollFd::any).unwrap_or(false);
            open = open && read_on(&mut stdout, &mut text)?;
            if let Some(answer) = find_answer(&text, wanted) {
                return Ok(Heard::CheckAnswer(answer));
            }
            // The program's children may hold its standard output open.
            if text.len() >= MAX_ANSWER || ended {
                return Ok(Heard::End);
            }
        }
    }

    /// Ends the program and all that it has started; returns its exit status.
    fn end(mut self) -> io::Result<ExitStatus> {
        let group = Pid::from_raw(self.child.id() as i32);
        // Wait for its own exit for a moment, because its exit status is reported.
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(100_u8));
        // Not reaped yet, so the group is its own.
        let _ = killpg(group, Signal::SIGKILL);
        let status = self.child.wait()?;
        reap_group(group);
        Ok(status)
    }
}

/// Reaps the killed members of a process group, which are children of a subreaper after their
/// leader's end: nothing else reaps them. A member in an uninterruptible system call may outlive
/// the wait.
fn reap_group(group: Pid) {
    let any = Pid::from_raw(-group.as_raw());
    let deadline = Instant::now() + REAP_TIMEOUT;
    loop {
        match waitpid(any, Some(WaitPidFlag::WNOHANG)) {
            // SIGKILL is pending, and the member has not run since.
            Ok(WaitStatus::StillAlive) if Instant::now() < deadline => {
                std::thread::sleep(REAP_INTERVAL);
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// Reads the available bytes; returns false at the end of the file.
fn read_on(from: &mut File, text: &mut Vec<u8>) -> io::Result<bool> {
    let mut buffer = [0; 4096];
    while text.len() < MAX_ANSWER {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(n) => text.extend_from_slice(buffer.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn state() -> File {
        let mut file = File::from(crate::engine::sys::sealable_memory_file().unwrap());
        file.write_all(b"a state").unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        file
    }

    /// The outcome of a check of a script.
    fn check_script(script: &str) -> Result<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("procstar");
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        check_at(&path)
    }

    fn check_at(path: &Path) -> Result<String, String> {
        let program = Program::new(path.to_path_buf(), vec!["procstar".into(), "--serve".into()]);
        let name = path.display().to_string();
        check(&program, &state(), &[]).map_err(|error| error.to_string().replace(&name, "PATH"))
    }

    #[test]
    fn a_program_that_gives_another_answer_is_refused() {
        let foreign = |status| {
            Err(format!(
                "PATH is not procstar, or a version that cannot resume this instance ({status}); install procstar at that path"
            ))
        };
        // No output, other output, the state itself, and an answer to another check.
        for script in ["exit 0", "echo procstar 2.0.0", "cat", "echo '{\"program\":\"procstar\"}'"]
        {
            assert_eq!(check_script(&format!("#!/bin/sh\n{script}\n")), foreign("exit status: 0"));
        }
        let old = answer("another", b"a state", Ok(()));
        assert_eq!(check_script(&format!("#!/bin/sh\necho '{old}'\n")), foreign("exit status: 0"));
        assert_eq!(check_script("#!/bin/sh\nexit 9\n"), foreign("exit status: 9"));
        assert_eq!(check_script("#!/bin/sh\nkill -9 $$\n"), foreign("signal: 9 (SIGKILL)"));
    }

    #[test]
    fn a_program_that_cannot_start_is_refused() {
        assert_eq!(
            check_script("no program"),
            Err("cannot run PATH: Exec format error (os error 8)".into())
        );
        let dir = tempfile::tempdir().unwrap();
        let denied = Err("cannot run PATH: Permission denied (os error 13)".into());
        assert_eq!(check_at(dir.path()), denied);
        let missing = Err("cannot run PATH: No such file or directory (os error 2)".into());
        assert_eq!(check_at(&dir.path().join("missing")), missing);
    }

    /// The program and its children, which hold its standard output open, are ended.
    #[test]
    fn a_program_without_an_answer_is_ended() {
        // Like the keeper, this process becomes the parent of the program's children after its end.
        crate::engine::become_subreaper().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pids");
        let script = format!("#!/bin/sh\nsleep 1000 & echo $! $$ > {}\nwait\n", path.display());
        assert_eq!(
            check_script(&script),
            Err("PATH did not answer within 5 s whether it can resume the instance; install procstar at that path".into())
        );
        assert_all_exited(&path);
    }

    /// Asserts that no process in a file of pids exists.
    fn assert_all_exited(pids: &Path) {
        for pid in std::fs::read_to_string(pids).unwrap().split_whitespace() {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            assert!(stat.is_err(), "{stat:?}");
        }
    }

    /// Only a program that knows both the state and the number can answer.
    #[test]
    fn an_answer_is_proved() {
        let program = env!("CARGO_PKG_VERSION");
        let hash =
            "printf 'procstar upgrade %sa state' $PROCSTAR_KEEPER_NONCE | sha256sum | cut -c-64";
        let say = |refusal: &str| {
            format!(
                "#!/bin/sh\n[ \"$1\" = --serve ] || exit 1\n\
                 echo starting\necho '{{\"program\":\"procstar\",\"version\":\"{program}\",\"refusal\":{refusal},\"proof\":\"'$({hash})'\"}}'\nsleep 0.01\n"
            )
        };
        assert_eq!(check_script(&say("null")), Ok(program.to_owned()));
        let refused = format!(
            "PATH, version {program}, cannot resume this instance: no; correct that, and upgrade again"
        );
        assert_eq!(check_script(&say("\"no\"")), Err(refused));
        let line = answer("n", b"a state", Err("no".into()));
        let read: CheckAnswer = serde_json::from_str(&line).unwrap();
        assert_eq!((read.proof, read.refusal), (proof("n", b"a state"), Some("no".into())));
    }
}
