//! An instance in a directory of its own, and commands for it.

use crate::support::process::kill_instance;
use crate::support::wait::{DEADLINE, eventually};
use std::io::Read;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The program in an environment without the caller's variables.
pub fn procstar(dir: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_procstar"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("TMPDIR", dir.path());
    // Commands must not find the instances of tests that run at the same time.
    command.env("PROCSTAR_RUN_RUNTIME_DIR", dir.path().join("run"));
    // At shutdown, the instance does not wait for clients that would fetch results.
    command.env("PROCSTAR_SHUTDOWN_KILL_GRACE", "0.1").stdin(Stdio::null());
    command
}

/// What a command printed, and its exit code, which is none after a signal.
#[derive(Debug, PartialEq, Eq)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The standard output of a command that succeeds and prints no error.
    pub fn good(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{self:?}");
        self.out
    }

    pub fn json(self) -> Value {
        let out = self.good();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

/// An instance. Dropping it ends it.
pub struct Instance {
    pub dir: TempDir,
    child: Child,
    pub socket: PathBuf,
}

impl Instance {
    pub fn new() -> Instance {
        let dir = tempfile::tempdir().unwrap();
        let mut command = procstar(&dir);
        command.args(["--serve", "--serve-port", "0"]);
        Instance::start(dir, command)
    }

    pub fn start(dir: TempDir, mut command: Command) -> Instance {
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        let socket =
            eventually("socket", || sockets(&dir).into_iter().find(|(own, _)| *own == pid));
        Instance { dir, child, socket: socket.1 }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = procstar(&self.dir);
        command.args(args);
        command
    }

    pub fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Starts the processes of `{ID: PROC}`.
    pub fn specs(&self, specs: &Value) {
        let file = self.dir.path().join("spec.json");
        std::fs::write(&file, json!({ "specs": specs }).to_string()).unwrap();
        self.run(&["start", file.to_str().unwrap()]).good();
    }

    /// Runs a shell script as a process, to its end.
    pub fn ended(&self, id: &str, script: &str) {
        self.run(&["start", "--id", id, "--", "sh", "-c", script]).good();
        self.run(&["wait", id]);
    }

    /// Runs a script of bash in which `procstar` is the program.
    pub fn shell(&self, script: &str) -> Ran {
        let mut command = Command::new("/bin/bash");
        let script =
            format!("procstar() {{ {} \"$@\"; }}; {script}", env!("CARGO_BIN_EXE_procstar"));
        command.args(["-c", &script]).env_clear().env("PATH", "/usr/bin:/bin");
        command.env("PROCSTAR_RUN_RUNTIME_DIR", self.dir.path().join("run"));
        Ran::of(command.env("TMPDIR", self.dir.path()).stdin(Stdio::null()).output().unwrap())
    }

    pub fn worker_pid(&self) -> i32 {
        let top = self.run(&["top", "-o", "json"]).json();
        i32::try_from(top["agent"]["worker_pid"].as_i64().unwrap()).unwrap()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        self.child.wait().unwrap();
    }
}

/// The PIDs and sockets of the instances in a directory.
pub fn sockets(dir: &TempDir) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(dir.path().join("run")) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.path().join("http.sock").exists())
        .filter_map(|entry| {
            let pid = std::fs::read_to_string(entry.path().join("lock")).ok()?.parse().ok()?;
            Some((pid, entry.path().join("http.sock")))
        })
        .collect()
}

/// A running command whose output is read as it arrives. Dropping it kills it.
pub struct Running {
    pub child: Child,
    pub text: String,
}

impl Running {
    pub fn new(mut command: Command) -> Running {
        let child = command.stdout(Stdio::piped()).spawn().unwrap();
        Running { child, text: String::new() }
    }

    /// Reads until the output contains `wanted`.
    pub fn until(&mut self, wanted: &str) {
        self.until_times(wanted, 1);
    }

    /// Reads until the output contains `wanted` so many times.
    pub fn until_times(&mut self, wanted: &str, times: usize) {
        let stdout = self.child.stdout.as_mut().unwrap();
        let mut buffer = [0; 4096];
        while self.text.matches(wanted).count() < times {
            let mut ready = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
            let limit = PollTimeout::try_from(DEADLINE).unwrap();
            let come = poll(&mut ready, limit).unwrap();
            assert!(come > 0, "no {wanted:?} in time in {:?}", self.text);
            let count = stdout.read(&mut buffer).unwrap();
            assert!(count > 0, "no {wanted:?} in {:?}", self.text);
            self.text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
        }
    }

    /// Reads to the end, and returns the exit code and the whole output.
    pub fn end(mut self) -> (Option<i32>, String) {
        self.child.stdout.as_mut().unwrap().read_to_string(&mut self.text).unwrap();
        let code = self.child.wait().unwrap().code();
        (code, std::mem::take(&mut self.text))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill_instance(self.child.id().cast_signed());
        let _ = self.child.wait();
    }
}

/// The words of each line.
pub fn words(text: &str) -> Vec<Vec<&str>> {
    text.lines().map(|line| line.split_whitespace().collect()).collect()
}
