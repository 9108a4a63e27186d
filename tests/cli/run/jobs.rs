//! `procstar run` in an interactive shell, with the keys and the programs of its users.

use super::*;
use crate::support::wait::eventually;

/// An interactive shell with job control, whose `p` is this program.
struct Shell {
    terminal: Terminal,
    /// The number of commands so far.
    count: usize,
}

impl Shell {
    fn new() -> Shell {
        let mut command = Command::new("/bin/bash");
        command.args(["--norc", "--noprofile", "--noediting", "-i"]);
        command.env("PS1", PROMPT).env("HISTFILE", "/dev/null").env("PYTHON_BASIC_REPL", "1");
        command.env("P", env!("CARGO_BIN_EXE_procstar")).env("LESS", "").env("EXINIT", "");
        let mut shell = Shell { terminal: Terminal::of(command), count: 0 };
        shell.ask("p() { \"$P\" run \"$@\"; }; echo hello", "hello");
        shell
    }

    /// Types keys as they are.
    fn keys(&mut self, keys: &str) {
        self.terminal.type_in(keys);
    }

    /// Waits until the terminal has shown a text since the last command was given.
    fn shows(&self, text: &str) {
        let mark = format!("[{}]", self.count);
        eventually(&format!("{text:?} after {mark} in {:?}", self.terminal.seen()), || {
            self.terminal.seen().rsplit_once(&mark).is_some_and(|(_, after)| after.contains(text))
        });
    }

    /// What the terminal has shown since the last command was given.
    fn last(&self) -> String {
        let seen = self.terminal.seen();
        seen.rsplit_once(&format!("[{}]", self.count)).map_or("", |(_, after)| after).to_owned()
    }

    /// Waits until the terminal ends with a prompt: its program is about to read.
    fn reads(&self, prompt: &str) {
        eventually(&format!("{prompt:?} at the end of {:?}", self.terminal.seen()), || {
            self.terminal.seen().ends_with(prompt)
        });
    }

    /// Types keys until the terminal shows a text. A program that handles a signal from the
    /// terminal may discard the keys typed since.
    fn insist(&mut self, keys: &str, text: &str) {
        let mark = format!("[{}]", self.count);
        let mut tries = 0;
        eventually(text, || {
            if tries % 60 == 0 {
                self.terminal.type_in(keys);
            }
            tries += 1;
            self.terminal.seen().rsplit_once(&mark).is_some_and(|(_, after)| after.contains(text))
        });
    }

    /// Types a command into the shell, and waits for its output.
    fn ask(&mut self, command: &str, answer: &str) {
        self.reads(PROMPT);
        self.count += 1;
        self.keys(&format!("e=$?; echo [{}]; (exit $e); {command}\n", self.count));
        self.shows(answer);
    }

    fn leave(mut self) {
        self.reads(PROMPT);
        self.keys("exit 0\n");
        // No job is left: with stopped jobs, the shell would warn instead of exiting.
        assert_eq!(self.terminal.wait().code(), Some(0), "{:?}", self.terminal.seen());
    }
}

const PROMPT: &str = "ready> ";
const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const CTRL_Z: &str = "\u{1a}";
const CTRL_BACKSLASH: &str = "\u{1c}";

#[test]
fn python_handles_ctrl_c_and_goes_on() {
    let mut shell = Shell::new();
    shell.ask("p -k 0.2 python3 -q; echo code $?", ">>> ");
    for _ in 0..3 {
        shell.keys("import time; print('sleep', 'ing'); time.sleep(1000)\n");
        shell.shows("sleep ing");
        shell.count += 1;
        shell.keys(CTRL_C);
        eventually("the prompt", || shell.terminal.seen().ends_with("KeyboardInterrupt\n>>> "));
        // Longer than the grace: if Ctrl-C were a stop, Python would be killed by now.
        shell.keys(&format!("time.sleep(0.4); print('[{}]', 6 * 7)\n", shell.count));
        shell.shows("42");
        shell.reads(">>> ");
    }
    assert!(shell.terminal.seen().contains("KeyboardInterrupt"), "{:?}", shell.terminal.seen());
    shell.keys(CTRL_D);
    shell.shows("code 0");
    shell.leave();
}

#[test]
fn ctrl_c_ends_a_loop_of_the_shell() {
    let mut shell = Shell::new();
    shell.ask("for i in 1 2 3; do p sh -c 'echo run $0; exec sleep 1000' $i; done", "run 1");
    shell.keys(CTRL_C);
    shell.ask("echo code $?", "code 130");
    assert!(!shell.terminal.seen().contains("run 2"), "{:?}", shell.terminal.seen());
    // The same in a script, whose commands are not separate jobs.
    let script = "echo 'for i in 1 2; do \"$P\" run sh -c \"echo go $i; exec sleep 1000\"; done; echo over' > s";
    let dir = tempfile::tempdir().unwrap();
    shell.ask(&format!("cd {}; {script}; echo made", dir.path().display()), "made");
    shell.ask("bash s", "go 1");
    shell.keys(CTRL_C);
    shell.ask("echo code $?", "code 130");
    assert!(!shell.terminal.seen().contains("over"), "{:?}", shell.terminal.seen());
    shell.leave();
}

#[test]
fn ctrl_backslash_quits() {
    let mut shell = Shell::new();
    shell.ask("p sh -c 'echo here; exec sleep 1000'; echo code $?", "here");
    shell.keys(CTRL_BACKSLASH);
    shell.shows("code 131");
    // A process that handles SIGQUIT is not killed.
    let script = "trap \"echo caught; kill \\$!; exit 3\" QUIT; sleep 1000 & echo here; wait";
    shell.ask(&format!("p sh -c '{script}'; echo code $?"), "here");
    shell.keys(CTRL_BACKSLASH);
    shell.shows("caught");
    shell.shows("code 3");
    shell.leave();
}

#[test]
fn ctrl_z_stops_the_job_and_fg_continues_it() {
    let mut shell = Shell::new();
    shell.ask(
        "p sh -c 'echo pid $$; while read x; do echo got $x; done; echo end'; echo code $?",
        "pid ",
    );
    shell.keys("one\n");
    shell.shows("got one");
    for word in ["two", "three"] {
        shell.keys(CTRL_Z);
        shell.shows("Stopped");
        // Input now goes to the shell only.
        shell.ask("echo the shell; jobs", "the shell");
        shell.shows("Stopped");
        shell.ask("fg", "run");
        shell.keys(&format!("{word}\n"));
        shell.shows(&format!("got {word}"));
    }
    shell.keys(CTRL_D);
    shell.shows("end");
    shell.ask("echo code $?", "code 0");
    shell.leave();
}

#[test]
fn bg_continues_the_job_until_it_reads_the_terminal() {
    let mut shell = Shell::new();
    shell.ask("p sh -c 'echo pid; sleep 0.2; echo still; read x; echo got $x'", "pid");
    shell.keys(CTRL_Z);
    shell.shows("Stopped");
    shell.ask("bg", "still");
    // Reading from the background stops the job.
    eventually("a stopped job", || {
        // An empty line for a new prompt: the output of the job follows the last one.
        shell.keys("\n");
        shell.ask("jobs", "run");
        shell.last().contains("Stopped")
    });
    shell.ask("fg", "run");
    shell.keys("line\n");
    shell.shows("got line");
    // The same from the start.
    shell.ask("p cat & echo begun", "begun");
    eventually("a stopped job", || {
        shell.keys("\n");
        shell.ask("jobs", "cat");
        shell.last().contains("Stopped")
    });
    shell.ask("fg", "cat");
    shell.keys("line two\n");
    shell.shows("line two");
    shell.keys(CTRL_D);
    shell.ask("jobs; echo none", "none");
    shell.leave();
}

/// The process may be stopped before the engine knows that it runs.
#[test]
fn a_process_that_stops_at_once_suspends_the_job() {
    let mut shell = Shell::new();
    for round in 0..20 {
        shell.ask(&format!("p sh -c 'kill -TSTP $$; echo round {round}'"), "Stopped");
        shell.ask("fg", &format!("round {round}\n"));
    }
    shell.leave();
}

#[test]
fn less_is_suspended_and_resumed() {
    let mut shell = Shell::new();
    let dir = tempfile::tempdir().unwrap();
    shell.ask(&format!("cd {}; seq 1 1000 > lines; echo there", dir.path().display()), "there");
    shell.ask("p less lines; echo code $?", "\n20\n");
    shell.keys(CTRL_C);
    shell.insist("G", "1000");
    // less handles a signal that arrives before it waits for a key only at the next key.
    shell.insist(CTRL_Z, "Stopped");
    shell.ask("echo the shell", "the shell");
    shell.ask("fg", "1000");
    shell.keys("q");
    shell.ask("echo left", "left");
    // In a pipeline of the shell, both ends share the terminal.
    shell.ask("p seq 1 1000 | less; echo codes ${PIPESTATUS[@]}", "\n20\n");
    shell.keys("q");
    shell.shows("codes 0 0");
    shell.ask("seq 1 1000 | p less; echo codes ${PIPESTATUS[@]}", "\n20\n");
    shell.keys("q");
    shell.shows("codes ");
    shell.leave();
}

#[test]
fn vi_edits_is_suspended_and_writes() {
    let mut shell = Shell::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text");
    shell.ask(&format!("cd {}; echo there", dir.path().display()), "there");
    shell.ask("p vi -u NONE text; echo code $?", "text");
    shell.keys("ihello world\u{1b}");
    shell.shows("hello world");
    shell.keys(CTRL_C);
    shell.insist(CTRL_Z, "Stopped");
    shell.ask("echo the shell", "the shell");
    shell.ask("fg", "hello world");
    shell.keys("A, again\u{1b}:wq\r");
    eventually("the file", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text == "hello world, again\n")
    });
    shell.ask("jobs; echo none", "none");
    shell.leave();
}
