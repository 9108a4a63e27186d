//! The messages of mistakes on the command line, as the program prints them.

use std::fmt::Write;

use super::super::commands::harness::procstar;

/// A kind of mistake, an example, and the remedy.
const MISTAKES: [(&str, &[&str], &str); 8] = [
    (
        "Unknown option",
        &["run", "--labl", "a=b", "true"],
        "Correct the name as the message suggests, or write `--` before the program's own arguments.",
    ),
    ("Unknown command", &["strat"], "Correct the name; write `./NAME` for a file with specs."),
    ("Missing value", &["run", "--timeout"], "Give the option its value."),
    (
        "Invalid value",
        &["run", "--timeout", "soon", "true"],
        "Write the value in the form that the message asks for.",
    ),
    (
        "Value outside a list",
        &["ps", "--format", "yaml"],
        "Use one of the values that the message lists.",
    ),
    (
        "Options that exclude each other",
        &["ps", "--quiet", "--format", "json"],
        "Give only one of the options.",
    ),
    ("Missing argument", &["kill"], "Give what the message names."),
    ("Superfluous argument", &["doctor", "now"], "Omit the argument."),
];

/// An example of each kind, with its message and the remedy.
pub fn examples() -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for (kind, args, remedy) in MISTAKES {
        let ran = procstar(&dir).args(args).output().unwrap();
        let message = String::from_utf8(ran.stderr).unwrap();
        let usage = if args.first() == Some(&"run") { 125 } else { 2 };
        assert_eq!(ran.status.code(), Some(usage), "{args:?}: {message}");
        let lines: Vec<&str> = message.lines().map(str::trim_end).collect();
        let (command, lines) = (args.join(" "), lines.join("\n"));
        writeln!(text, "{kind}: {remedy}\n\n```text\n$ procstar {command}\n{lines}\n```\n")
            .unwrap();
    }
    text
}
