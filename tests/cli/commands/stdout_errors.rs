//! Standard output that cannot be written: every command reports the error, and exits with a
//! failure code.

use std::process::{Command, Stdio};

use super::harness::{Instance, Ran};

/// Every command that prints something, and its exit code if the output cannot be written.
const COMMANDS: [(&str, i32); 34] = [
    ("--help", 1),
    ("--version", 1),
    ("help", 1),
    ("version", 1),
    ("serve --help", 1),
    ("agent --help", 1),
    ("run --help", 125),
    ("ps --help", 1),
    ("config show", 1),
    ("config show -o json", 1),
    ("validate spec.json", 1),
    ("validate wrong.json", 1),
    ("validate -o json spec.json", 1),
    ("schema specs", 1),
    ("schema results", 1),
    ("doctor", 1),
    ("doctor -o json", 1),
    ("completions bash", 1),
    ("man", 1),
    ("man run", 1),
    ("ps", 1),
    ("ps -q", 1),
    ("show a", 1),
    ("logs a", 1),
    ("logs -f a", 1),
    ("wait -o table a", 125),
    ("events", 1),
    ("log-level", 1),
    ("top", 1),
    ("start -- true", 1),
    ("stop b", 1),
    ("prune -n --all", 1),
    ("ui --print", 1),
    ("rm a", 1),
];

fn instance() -> Instance {
    let instance = Instance::new();
    instance.ended("a", "echo some output");
    instance.run(&["start", "--id", "b", "--", "sleep", "1000"]).good();
    let spec = r#"{"specs": {"a": {"argv": ["/bin/true"]}}}"#;
    std::fs::write(instance.dir.path().join("spec.json"), spec).unwrap();
    std::fs::write(instance.dir.path().join("wrong.json"), "{").unwrap();
    instance
}

/// A command with the redirection `to` of a shell.
fn with_output(instance: &Instance, args: &str, to: &str) -> Command {
    let command = instance.command(&[]);
    let program = command.get_program().to_owned();
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(format!("exec \"$0\" {args} {to}")).arg(program).env_clear();
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap());
    }
    shell.current_dir(instance.dir.path()).stdin(Stdio::null());
    shell
}

#[test]
fn the_table_has_every_command_that_prints() {
    let help =
        Ran::of(Command::new(env!("CARGO_BIN_EXE_procstar")).arg("--help").output().unwrap());
    let lines = help.out.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = lines.take_while(|line| !line.is_empty());
    // More deeply indented lines continue a description.
    let names = commands.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names: Vec<&str> = names.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        let named = COMMANDS.iter().any(|(args, _)| args.split(' ').next() == Some(name));
        // `kill` prints as `stop` does; `upgrade` has tests of its own.
        assert!(named || ["kill", "upgrade"].contains(&name), "{name}");
    }
}

#[test]
fn a_full_disk_is_reported() {
    let instance = instance();
    for (args, code) in COMMANDS {
        let ran = Ran::of(with_output(&instance, args, "> /dev/full").output().unwrap());
        let said = "procstar: cannot write to standard output: No space left on device (os error 28); free space on its disk, or redirect it\n";
        assert_eq!((ran.code, ran.err.as_str()), (Some(code), said), "{args}");
    }
}

#[test]
fn a_closed_descriptor_is_reported() {
    let instance = instance();
    for (args, code) in COMMANDS {
        let ran = Ran::of(with_output(&instance, args, ">&-").output().unwrap());
        let said = "procstar: cannot write to standard output: Bad file descriptor (os error 9); it is closed: open it, or redirect it\n";
        assert_eq!((ran.code, ran.err.as_str()), (Some(code), said), "{args}");
    }
}

#[test]
fn a_closed_pipe_ends_a_command_with_the_code_of_sigpipe() {
    let instance = instance();
    for (args, _) in COMMANDS {
        let (read, write) = nix::unistd::pipe().unwrap();
        drop(read);
        let mut command = with_output(&instance, args, "");
        let ran = Ran::of(command.stdout(write).stderr(Stdio::piped()).output().unwrap());
        assert_eq!((ran.code, ran.err.as_str()), (Some(141), ""), "{args}");
    }
}

#[test]
fn a_one_shot_reports_the_file_that_has_its_results_instead() {
    let instance = instance();
    let dir = instance.dir.path();
    let ran = Ran::of(with_output(&instance, "--print spec.json", "> /dev/full").output().unwrap());
    let (why, place) = ran.err.trim_end().split_once("; wrote them to ").unwrap();
    assert!(
        why.starts_with("procstar: cannot write results to standard output: No space"),
        "{why}"
    );
    assert_eq!(ran.code, Some(1));
    let place = std::path::Path::new(place.strip_suffix(" instead").unwrap());
    assert_eq!(place.parent().unwrap(), dir);
    let results: serde_json::Value =
        serde_json::from_slice(&std::fs::read(place).unwrap()).unwrap();
    assert_eq!(results["a"]["status"]["exit_code"], 0);
    // The process removes the directory of its results file.
    for (args, code) in
        [("run -r gone/r.json rmdir gone", 125), ("--output gone/r.json rm.json", 1)]
    {
        let spec = r#"{"specs": {"a": {"argv": ["/bin/rmdir", "gone"]}}}"#;
        std::fs::write(dir.join("rm.json"), spec).unwrap();
        std::fs::create_dir(dir.join("gone")).unwrap();
        let ran = Ran::of(with_output(&instance, args, "").output().unwrap());
        assert_eq!(ran.code, Some(code), "{args}: {}", ran.err);
        let (_, place) = ran.err.trim_end().split_once("; wrote them to ").unwrap();
        let text = std::fs::read(place.strip_suffix(" instead").unwrap()).unwrap();
        let results: serde_json::Value = serde_json::from_slice(&text).unwrap();
        let result = results.as_object().unwrap().values().next().unwrap();
        assert_eq!(result["status"]["exit_code"], 0, "{args}");
    }
    // A closed standard output is reported before a process starts.
    let run = format!("run -r - touch {}/started", dir.display());
    for (args, code) in [(run.as_str(), 125), ("--print spec.json", 2)] {
        let ran = Ran::of(with_output(&instance, args, ">&-").output().unwrap());
        let said = "procstar: cannot write results to standard output: Bad file descriptor (os error 9); it is closed: open it, or redirect it\n";
        assert_eq!((ran.code, ran.err.as_str()), (Some(code), said), "{args}");
    }
    assert!(!dir.join("started").exists());
}

#[test]
fn output_that_cannot_be_passed_on_is_reported() {
    let instance = instance();
    let run = "run --capture -r r.json sh -c 'echo out; echo err >&2; exit 0'";
    let ran = Ran::of(with_output(&instance, run, "> /dev/full").output().unwrap());
    let (said, why) = ran.err.split_once("procstar: ").unwrap();
    assert_eq!(said, "err\n");
    assert_eq!(
        why,
        "cannot write to standard output: No space left on device (os error 28); free space on its disk, or redirect it\n"
    );
    assert_eq!(ran.code, Some(125));
    let result = std::fs::read_to_string(instance.dir.path().join("r.json")).unwrap();
    let result: serde_json::Value = serde_json::from_str(&result).unwrap();
    assert_eq!(result["sh"]["fds"]["stdout"]["text"], "out\n");
    let (read, write) = nix::unistd::pipe().unwrap();
    drop(read);
    let mut command = with_output(&instance, "run --capture -r r.json echo out", "");
    let ran = Ran::of(command.stdout(write).stderr(Stdio::piped()).output().unwrap());
    assert_eq!((ran.code, ran.err.as_str()), (Some(141), ""));
}

#[test]
fn a_process_of_run_cannot_write_to_a_closed_output() {
    let instance = instance();
    for (args, to) in [("run sh -c 'echo x'", ">&-"), ("run sh -c 'echo x >&2'", "2>&-")] {
        let ran = Ran::of(with_output(&instance, args, to).output().unwrap());
        assert!(ran.code.is_some_and(|code| (1..125).contains(&code)), "{args}: {ran:?}");
    }
}
