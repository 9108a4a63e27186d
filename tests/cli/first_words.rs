//! First words and options that users of docker, systemctl, nomad and pueue type: each works, or its error names the right one.

use super::commands::harness::{Instance, procstar};

/// What happens to a command line.
#[derive(Clone, Copy)]
enum Then {
    /// It succeeds, and prints this.
    Prints(&'static str),
    /// It fails, and its error contains this.
    Names(&'static str),
}
use Then::{Names, Prints};

/// Lines of which `job` is a process that runs `sleep`, and `done` one that has ended.
const LINES: &[(&str, Then)] = &[
    // docker
    ("images", Names("no command 'images'; did you mean 'ps'?")),
    ("ps -a", Prints("job")),
    ("ps --all", Prints("job")),
    ("ps -q", Prints("job")),
    ("ps --filter status=running", Names("use --state or --label")),
    ("ps --no-trunc", Names("use -o wide")),
    ("ls", Prints("job")),
    ("container ls", Names("'procstar ps'")),
    ("list", Names("no command 'list'; did you mean 'ps'?")),
    ("inspect job", Prints("sleep")),
    ("logs done", Prints("hello")),
    ("logs -f done", Prints("hello")),
    ("logs --follow done", Prints("hello")),
    ("logs -n 1 done", Prints("hello")),
    ("logs --tail 1 done", Prints("hello")),
    ("logs -t done", Names("use -T or --timestamps")),
    ("logs --since 10m done", Prints("hello")),
    ("log done", Prints("hello")),
    ("attach job", Names("did you mean 'logs -f'?")),
    ("exec job sh", Names("no command 'exec'; did you mean 'run'?")),
    ("run -d true", Names("use 'procstar start'")),
    ("run --rm true", Names("use 'procstar run', which keeps nothing")),
    ("run -it sh", Names("standard input and the terminal are inherited")),
    ("run --name x true", Prints("")),
    ("run -e A=b true", Prints("")),
    ("run -w / true", Names("use -C or --cwd")),
    ("run --workdir / true", Prints("")),
    ("run -v /a:/b true", Names("processes see all files of this host")),
    ("run --ulimit core=0 true", Prints("")),
    ("create x", Names("did you mean 'start'?")),
    ("stop -t 5 job", Names("use -k or --grace")),
    ("stop --time 5 job", Names("use -k or --grace")),
    ("kill -s 0 job", Names("unknown signal")),
    ("kill -s CONT job", Prints("job")),
    ("kill --signal SIGCONT job", Prints("job")),
    ("kill -CONT job", Prints("job")),
    ("kill -18 job", Prints("job")),
    ("kill -l", Names("kill takes names and numbers of kill(1)")),
    ("rm job", Names("job")),
    ("rm -v done", Names("rm always deletes the output too")),
    ("rm --all", Names("use 'procstar prune --all'")),
    ("remove done", Names("did you mean 'rm'?")),
    ("delete done", Names("did you mean 'rm'?")),
    ("pause job", Names("'procstar kill -s STOP ID'")),
    ("unpause job", Names("'procstar kill -s CONT ID'")),
    ("stats", Names("did you mean 'top'?")),
    ("top --once", Prints("job")),
    ("system prune", Names("did you mean 'prune'?")),
    ("prune -f", Names("prune asks no question")),
    ("prune", Names("--all")),
    ("compose up", Names("'procstar start SPEC'")),
    ("cp a b", Names("no command 'cp'")),
    ("rename a b", Names("an ID is fixed")),
    ("info", Names("did you mean 'doctor'?")),
    ("version", Prints("procstar ")),
    ("--version", Prints("procstar ")),
    ("help", Prints("Examples:")),
    ("help logs", Prints("--follow")),
    // systemctl and systemd-run
    ("status", Names("no command 'status'; did you mean 'ps'?")),
    ("restart job", Names("'procstar stop ID'")),
    ("reload job", Names("'procstar upgrade'")),
    ("daemon-reexec", Names("did you mean 'upgrade'?")),
    ("enable job", Names("let a service manager start 'procstar serve'")),
    ("disable job", Names("let a service manager start 'procstar serve'")),
    ("is-active job", Names("did you mean 'show'?")),
    ("list-units", Names("did you mean 'ps'?")),
    ("reset-failed", Names("did you mean 'prune --state error'?")),
    ("cat done", Names("did you mean 'logs'?")),
    ("journalctl -u job", Names("did you mean 'logs'?")),
    ("run --unit x true", Names("use --id")),
    ("run --uid 0 true", Names("use --user")),
    ("run --setenv A=b true", Names("use -e or --env")),
    ("run --scope true", Names("use 'procstar run'")),
    ("run -p MemoryMax=1G true", Names("use --rlimit")),
    // nomad
    ("job run x.nomad", Names("no command 'job'; did you mean 'start'?")),
    ("alloc logs job", Names("did you mean 'show'?")),
    ("node status", Names("did you mean 'doctor'?")),
    ("server members", Names("did you mean 'serve'?")),
    ("plan x", Names("did you mean 'validate'?")),
    ("monitor", Names("did you mean 'top'?")),
    // pueue
    ("add -- true", Names("no command 'add'; did you mean 'start'?")),
    ("follow done", Names("did you mean 'logs -f'?")),
    ("clean", Names("did you mean 'prune'?")),
    ("parallel 3", Names("run.max_running")),
    ("send job x", Names("a process gets its input from its spec")),
    ("edit job", Names("'procstar rm ID'")),
    ("start --delay 1h -- true", Names("procstar has no schedule")),
    // Slips of the finger.
    ("strat x", Names("no command 'strat'; did you mean 'start'?")),
    (
        "start ls -l",
        Names(
            "no spec file 'ls'; to start a command, write it after --: 'procstar start -- ls -l'",
        ),
    ),
    ("start --id x ls", Names("'procstar start -- ls'")),
    (
        "start /bin/ls -l",
        Names("tip: to start a command, write it after --: 'procstar start -- /bin/ls -l'"),
    ),
    ("start /bin/ls -a", Names("'procstar start -- /bin/ls -a'")),
    ("vaildate x", Names("did you mean 'validate'?")),
    ("frobnicate", Names("no command and no file 'frobnicate'; 'procstar help' lists")),
    ("ps --json", Names("use -o json")),
    ("show job --output json", Names("use -o or --format")),
    ("serve --agent-hots x", Names("--agent-host")),
];

#[test]
fn each_first_word_works_or_its_error_names_the_right_one() {
    assert!(LINES.len() >= 80, "{}", LINES.len());
    let instance = Instance::new();
    instance.ended("done", "echo hello");
    instance.run(&["start", "--id", "job", "--", "sleep", "1000"]).good();
    for (line, then) in LINES {
        let args: Vec<&str> = line.split(' ').collect();
        let ran = instance.run(&args);
        match then {
            Prints(text) => {
                assert_eq!(ran.code, Some(0), "{line}: {ran:?}");
                assert!(ran.out.contains(text), "{line}: {ran:?}");
            }
            Names(text) => {
                assert!(ran.code != Some(0) && ran.err.contains(text), "{line}: {ran:?}");
            }
        }
    }
    assert_eq!(instance.run(&["ps", "-q", "--state", "exited"]).good(), "done\n");
}

#[test]
fn a_file_may_have_the_name_of_another_programs_command() {
    let dir = tempfile::tempdir().unwrap();
    let spec = r#"{"specs": {"a": {"argv": ["/bin/true"]}}}"#;
    std::fs::write(dir.path().join("list"), spec).unwrap();
    let output = procstar(&dir).current_dir(dir.path()).args(["list", "--print"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"terminated\""), "{output:?}");
}

#[test]
fn serve_and_agent_have_their_own_options() {
    let dir = tempfile::tempdir().unwrap();
    let help = |command: &str| {
        let output = procstar(&dir).args([command, "--help"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let serve = help("serve");
    assert!(serve.contains("--port") && serve.contains("--bind") && !serve.contains("--agent"));
    let agent = help("agent");
    assert!(agent.contains("--host") && agent.contains("--group-id"), "{agent}");
    for text in [serve, agent, help("run"), help("ps")] {
        assert!(!text.contains("--print"), "{text}");
    }
    let mut command = procstar(&dir);
    command.args(["serve", "--port", "0", "--exit", "-"]);
    let output = command.output().unwrap();
    assert!(!output.status.success(), "an empty spec is none: {output:?}");
    let output = procstar(&dir).args(["agent"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("missing agent.host"), "{output:?}");
}

#[test]
fn run_and_start_take_the_same_process_options() {
    let dir = tempfile::tempdir().unwrap();
    let section = |command: &str| {
        let output = procstar(&dir).args([command, "-h"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let sections = ["Process:", "Stopping:"];
        let names = sections.iter().flat_map(|name| {
            let (_, rest) = text.split_once(name).unwrap_or_else(|| panic!("{command}: {text}"));
            let lines = rest.lines().skip(1).take_while(|line| !line.is_empty());
            lines.filter(|line| line.trim_start().starts_with('-'))
        });
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(section("run"), section("start"));
}
