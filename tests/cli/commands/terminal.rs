//! Commands on a terminal: colours, the width of tables, and the live page of `top`.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::Stdio;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};

use super::harness::Instance;
use crate::support::process::kill_instance;
use crate::support::wait::{DEADLINE, eventually};

/// A command on its own terminal.
struct OnTerminal {
    child: std::process::Child,
    master: std::fs::File,
    slave: std::fs::File,
    text: String,
}

impl OnTerminal {
    fn new(mut command: std::process::Command, columns: u16) -> OnTerminal {
        let size = Winsize { ws_row: 10, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).unwrap();
        let slave = std::fs::File::from(pty.slave);
        let end = || Stdio::from(slave.try_clone().unwrap());
        command.env("TERM", "xterm").stdin(end()).stdout(end()).stderr(end());
        let child = command.spawn().unwrap();
        OnTerminal { child, master: pty.master.into(), slave, text: String::new() }
    }

    /// Reads until the terminal has shown a text.
    fn until(&mut self, wanted: &str) {
        while !self.text.contains(wanted) {
            assert!(self.read(), "no {wanted:?} in {:?}", self.text);
        }
    }

    fn read(&mut self) -> bool {
        let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(DEADLINE).unwrap();
        if poll(&mut ready, limit).unwrap() == 0 {
            return false;
        }
        let mut buffer = [0; 4096];
        let count = self.master.read(&mut buffer).unwrap_or(0);
        self.text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        count > 0
    }

    /// Waits for the end; returns the exit code and everything shown.
    fn end(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        drop(std::mem::replace(&mut self.slave, std::fs::File::open("/dev/null").unwrap()));
        while self.read() {}
        (code, std::mem::take(&mut self.text))
    }

    fn echoes(&self) -> bool {
        let flags = tcgetattr(&self.slave).unwrap().local_flags;
        flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)
    }
}

impl Drop for OnTerminal {
    fn drop(&mut self) {
        kill_instance(self.child.id().cast_signed());
        let _ = self.child.wait();
    }
}

#[test]
fn tables_have_colours_and_fit() {
    let instance = Instance::new();
    instance
        .run(&[
            "start",
            "--id",
            "a\u{1b}]0;x",
            "--",
            "sh",
            "-c",
            "exec sleep 1000",
            &"x".repeat(200),
        ])
        .good();
    instance.run(&["stop", "a\u{1b}]0;x"]).good();
    instance.run(&["start", "--id", "b", "--", "sleep", "1000"]).good();
    let (code, text) = OnTerminal::new(instance.command(&["ps"]), 140).end();
    assert_eq!(code, Some(0));
    assert!(text.starts_with("\u{1b}[1mID\u{1b}[0m"), "{text:?}");
    assert!(text.contains("\u{1b}[32mrunning\u{1b}[0m"), "{text:?}");
    assert!(text.contains("a\\x1b]0;x") && !text.contains("\u{1b}]"), "{text:?}");
    assert!(text.contains("xxx…\r\n"), "{text:?}");
    let mut command = instance.command(&["ps"]);
    command.env("NO_COLOR", "1");
    let (_, text) = OnTerminal::new(command, 80).end();
    assert!(!text.contains('\u{1b}') && text.contains("…\r\n"), "{text:?}");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
    // A pipe gets colours only with `CLICOLOR_FORCE`.
    let mut forced = instance.command(&["ps"]);
    let output = forced.env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(output.stdout.starts_with(b"\x1b[1mID"));
    assert!(!instance.run(&["ps"]).good().contains('\u{1b}'));
}

#[test]
fn colours_of_output_reach_a_terminal() {
    let instance = Instance::new();
    instance.ended("a", "printf '\\033[31mred\\033[0m'");
    let (code, text) = OnTerminal::new(instance.command(&["logs", "a"]), 80).end();
    assert_eq!((code, text.as_str()), (Some(0), "\u{1b}[31mred\u{1b}[0m"));
}

#[test]
fn top_runs_until_it_is_quit() {
    let instance = Instance::new();
    instance.run(&["start", "--id", "first", "--", "sleep", "1000"]).good();
    let mut top = OnTerminal::new(instance.command(&["top", "-d", "0.1"]), 60);
    top.until("first");
    assert!(top.text.starts_with("\u{1b}[?1049h\u{1b}[?25l"), "{:?}", top.text);
    assert!(!top.echoes());
    instance.run(&["start", "--id", "second", "--", "sleep", "1000"]).good();
    top.until("second");
    top.until("q: quit");
    top.master.write_all(b"q").unwrap();
    let code = top.child.wait().unwrap().code();
    assert!(top.echoes());
    let (_, text) = top.end();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.ends_with("\u{1b}[?25h\u{1b}[?1049l"), "{text:?}");
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let instance = Instance::new();
    let mut top = OnTerminal::new(instance.command(&["top"]), 60);
    top.until("q: quit");
    let pid = nix::unistd::Pid::from_raw(top.child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(top.child.wait().unwrap().code(), Some(143));
    assert!(top.echoes());
    assert!(top.end().1.ends_with("\u{1b}[?25h\u{1b}[?1049l"));
}

#[test]
fn quitting_by_a_signal_gives_the_terminal_back() {
    let instance = Instance::new();
    for (key, signal) in [(3, libc::SIGINT), (0x1c, libc::SIGQUIT)] {
        let mut top = on_session(&instance, "procstar top; echo ended $?; stty -a | tr ';' '\\n'");
        top.wait_for("q: quit");
        top.type_in(&char::from(key).to_string());
        top.wait_for(&format!("ended {}", 128 + signal));
        top.wait_for(" icanon");
        assert!(top.wait().success());
        let shown = top.seen();
        let (_, after) = shown.rsplit_once(LEAVE).unwrap();
        assert!(after.starts_with("ended") && !shown.contains("-icanon"), "{shown:?}");
    }
}

#[test]
fn top_is_suspended_and_resumed() {
    let instance = Instance::new();
    let mut shell =
        on_session(&instance, "set -m; procstar top; echo stopped $?; read x; fg; echo ended $?");
    shell.wait_for("q: quit");
    shell.type_in("\u{1a}");
    shell.wait_for("stopped 148");
    let shown = shell.seen();
    let (_, after) = shown.rsplit_once(LEAVE).unwrap();
    assert!(!after.contains(ENTER), "the terminal was given back: {shown:?}");
    shell.type_in("\n");
    shell.wait_for(&format!("procstar top\n{ENTER}"));
    let pages = shell.seen().matches("q: quit").count();
    eventually("another page", || shell.seen().matches("q: quit").count() > pages);
    shell.type_in("q");
    shell.wait_for("ended 0");
    assert!(shell.wait().success());
    assert!(shell.seen().trim_end().ends_with("ended 0"));
}

const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l";
const LEAVE: &str = "\u{1b}[?25h\u{1b}[?1049l";

/// A shell in its own session on its own terminal; `procstar` in the script is the built program.
fn on_session(instance: &Instance, script: &str) -> crate::terminal::Terminal {
    let mut command = std::process::Command::new("/bin/bash");
    let script = script.replace("procstar", env!("CARGO_BIN_EXE_procstar"));
    command.args(["-c", &script]).env_clear().env("PATH", "/usr/bin:/bin");
    command.env("TMPDIR", instance.dir.path());
    command.env("PROCSTAR_RUN_RUNTIME_DIR", instance.dir.path().join("run"));
    crate::terminal::Terminal::of(command)
}

/// Raw output could set the title, write to the clipboard or make the terminal send input.
#[test]
fn logs_escape_control_sequences_on_a_terminal() {
    let instance = Instance::new();
    let attack =
        r"\033]0;pwned\007 \033[2J \033]52;c;cm0gLXJm\033\\ \302\233H good\rbad \033[31mred\033[0m";
    instance.ended("a", &format!(r"printf '{attack}\n'"));
    let bytes = "\u{1b}]0;pwned\u{7} \u{1b}[2J \u{1b}]52;c;cm0gLXJm\u{1b}\\ \u{9b}H good\rbad \u{1b}[31mred\u{1b}[0m\n";
    let clean = r"\x1b]0;pwned\x07 \x1b[2J \x1b]52;c;cm0gLXJm\x1b\ \x9bH good\rbad ";
    let clean = format!("{clean}\u{1b}[31mred\u{1b}[0m\r\n");
    let on_terminal = |args: &[&str]| {
        let (code, shown) = OnTerminal::new(instance.command(args), 200).end();
        assert_eq!(code, Some(0));
        shown
    };
    assert_eq!(on_terminal(&["logs", "a"]), clean);
    assert_eq!(on_terminal(&["logs", "-f", "a"]), clean);
    assert!(on_terminal(&["logs", "-T", "a"]).ends_with(&format!("Z stdout {clean}")));
    // Files and pipes receive the unchanged bytes, and so does a terminal with `--raw`.
    assert_eq!(instance.run(&["logs", "a"]).good(), bytes);
    assert_eq!(on_terminal(&["logs", "--raw", "a"]), bytes.replace('\n', "\r\n"));
}

/// Valid JSON may contain these characters unescaped. Escaping them does not change the value.
#[test]
fn printed_results_escape_control_characters_on_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let spec = dir.path().join("spec.json");
    let capture = serde_json::json!({"capture": {"encoding": "utf-8"}});
    let argv = ["/usr/bin/printf", r"\302\2332J\177\342\200\256x"];
    let specs = serde_json::json!({"specs": {"a": {"argv": argv, "fds": {"stdout": capture}}}});
    std::fs::write(&spec, specs.to_string()).unwrap();
    let print = || {
        let mut command = super::harness::procstar(&dir);
        command.arg("--print").arg(&spec).env("NO_PROGRESS", "1");
        command
    };
    let (code, shown) = OnTerminal::new(print(), 200).end();
    assert_eq!(code, Some(0));
    assert!(!shown.contains(['\u{9b}', '\u{7f}', '\u{202e}', '\u{1b}']), "{shown:?}");
    let text = |json: &str| {
        let results: serde_json::Value = serde_json::from_str(json).unwrap();
        results["a"]["fds"]["stdout"]["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(text(&shown), "\u{9b}2J\u{7f}\u{202e}x");
    let piped = String::from_utf8(print().output().unwrap().stdout).unwrap();
    assert!(piped.contains('\u{9b}') && text(&piped) == text(&shown));
}
