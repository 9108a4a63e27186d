//! The completion scripts, run by their shells. A missing shell fails the test in CI, and skips it
//! with a message elsewhere.

use std::path::Path;
use std::process::{Command, Stdio};

use super::commands::harness::Instance;

/// Lines to complete at their end, words that are offered, and words that are not.
const LINES: &[(&str, &[&str], &[&str])] = &[
    ("procstar va", &["validate"], &["ps"]),
    ("procstar logs ", &["job-1", "done"], &[]),
    ("procstar stop ", &["job-1"], &["done"]),
    ("procstar rm d", &["done"], &["job-1"]),
    ("procstar kill -s SIGK", &["SIGKILL"], &["SIGTERM"]),
    ("procstar kill --signal=SIGK", &["SIGKILL"], &["SIGTERM"]),
    ("procstar ps --state r", &["running"], &["error"]),
    ("procstar run -u roo", &["root"], &[]),
    ("procstar ps --l", &["--label"], &["--log-level-x", "--serve"]),
    ("procstar completions f", &["fish"], &["bash"]),
];

fn instance() -> Instance {
    let instance = Instance::new();
    instance.ended("done", "true");
    instance.run(&["start", "--id", "job-1", "--", "sleep", "1000"]).good();
    let bin = instance.dir.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_procstar"), bin.join("procstar")).unwrap();
    instance
}

/// Completes each of [`LINES`] in a shell with its completion script; the script `test` completes
/// `$LINE`.
fn check(shell: &str, test: &str) {
    let path = ["/usr/bin", "/bin"].map(|dir| Path::new(dir).join(shell));
    let Some(program) = path.iter().find(|path| path.exists()) else {
        let in_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
        assert!(!in_ci, "{shell} is not installed; .ci/run installs it");
        eprintln!("skipped: {shell} is not installed");
        return;
    };
    let instance = instance();
    let script = instance.dir.path().join("script");
    std::fs::write(&script, instance.run(&["completions", shell]).good()).unwrap();
    let bin = instance.dir.path().join("bin");
    for (line, offered, others) in LINES {
        let mut command = Command::new(program);
        command.args(["-c", test]).env_clear().stdin(Stdio::null());
        command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        command.env("HOME", instance.dir.path()).env("TMPDIR", instance.dir.path());
        command.env("PROCSTAR_RUN_RUNTIME_DIR", instance.dir.path().join("run"));
        command.env("SCRIPT", &script).env("LINE", line);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words: Vec<&str> = text.lines().map(|line| line.split('\t').next().unwrap()).collect();
        let has = |word: &str| words.iter().any(|found| found.ends_with(word));
        for word in *offered {
            assert!(has(word), "{shell}: {line:?} lacks {word}: {output:?}");
        }
        for word in *others {
            assert!(!has(word), "{shell}: {line:?} offers {word}: {output:?}");
        }
    }
}

#[test]
fn bash_completes_commands_options_and_ids() {
    check(
        "bash",
        r#"source "$SCRIPT"
        line=${LINE/=/ = }
        read -ra COMP_WORDS <<< "$line"
        [[ $line == *' ' ]] && COMP_WORDS+=('')
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _procstar
        printf '%s\n' "${COMPREPLY[@]}""#,
    );
}

#[test]
fn zsh_completes_commands_options_and_ids() {
    check(
        "zsh",
        r#"compdef() { }
        _files() { print -l :files }
        _command_names() { print -l :commands }
        _describe() { print -l -- "${(@)${(P@)4}%%:*}" }
        source "$SCRIPT"
        words=(${=LINE})
        [[ $LINE == *' ' ]] && words+=('')
        CURRENT=$#words
        _procstar"#,
    );
}

#[test]
fn fish_completes_commands_options_and_ids() {
    check("fish", r#"source $SCRIPT; complete -C "$LINE""#);
}
