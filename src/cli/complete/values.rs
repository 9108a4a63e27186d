//! The candidates for the value of an option or of a positional argument.

use std::process::{Command as Program, Stdio};

use clap::builder::PossibleValue;
use clap::{Arg, ValueHint};

use super::candidate::{Candidate, about};
use super::place::Place;
use crate::config::INTERNAL_VARIABLES;
use crate::signal::signal_name;
use crate::spec::Resource;

/// The candidates for a value; empty if any value is valid.
pub(super) fn of(place: &Place<'_>, arg: &Arg) -> Vec<Candidate> {
    let possible = arg.get_possible_values();
    if !possible.is_empty() {
        let shown = possible.iter().filter(|value| !value.is_hide_set());
        return shown.map(described).collect();
    }
    match arg.get_id().as_str() {
        "ids" | "id" if arg.is_positional() => ids(place),
        "signal" => signals(),
        "user" => accounts("/etc/passwd"),
        "group" => accounts("/etc/group"),
        "rlimit" => Resource::names().map(|name| Candidate::new(format!("{name}="), "")).collect(),
        "log_level" => words(&["trace", "debug", "info", "warn", "error"]),
        "log_format" => words(&["auto", "text", "json"]),
        "of" => commands(place),
        _ => left_to_shell(arg),
    }
}

fn described(value: &PossibleValue) -> Candidate {
    Candidate::new(value.get_name(), about(value.get_help()))
}

fn words(words: &[&str]) -> Vec<Candidate> {
    words.iter().map(|word| Candidate::new(*word, "")).collect()
}

/// The commands below the present ones.
fn commands(place: &Place<'_>) -> Vec<Candidate> {
    let mut command = place.root;
    for name in &place.given {
        match command.find_subcommand(name) {
            Some(found) => command = found,
            None => return Vec::new(),
        }
    }
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    shown.map(|command| Candidate::new(command.get_name(), about(command.get_about()))).collect()
}

fn left_to_shell(arg: &Arg) -> Vec<Candidate> {
    let name = arg.get_value_names().and_then(|names| names.first());
    let kind = match (arg.get_value_hint(), name.map(|name| name.as_str())) {
        (ValueHint::CommandWithArguments, _) => ":commands",
        (ValueHint::DirPath, _) | (_, Some("DIR")) => ":dirs",
        (ValueHint::FilePath, _) | (_, Some("FILE" | "PATH" | "SPEC" | "INPUT")) => ":files",
        _ => return Vec::new(),
    };
    vec![Candidate::new(kind, "")]
}

fn signals() -> Vec<Candidate> {
    let names = (1..=31).filter_map(|number| Some((number, signal_name(number)?)));
    names.map(|(number, name)| Candidate::new(name, number.to_string())).collect()
}

/// The names in a file such as `/etc/passwd`.
fn accounts(path: &str) -> Vec<Candidate> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let names = text.lines().filter_map(|line| line.split(':').next());
    names.filter(|name| !name.is_empty()).map(|name| Candidate::new(name, "")).collect()
}

/// The processes that the command accepts, of the target instance.
fn ids(place: &Place<'_>) -> Vec<Candidate> {
    let states = match place.command.get_name() {
        "stop" | "kill" => Some("running"),
        "rm" => Some("terminated,error"),
        _ => None,
    };
    let Ok(program) = std::env::current_exe() else { return Vec::new() };
    let mut ps = Program::new(program);
    ps.args(["ps", "-0"]).stdin(Stdio::null()).stderr(Stdio::null());
    for pair in place.target.chunks(2) {
        if let [option, value] = pair {
            ps.arg(format!("--{option}={value}"));
        }
    }
    if let Some(states) = states {
        ps.arg(format!("--state={states}"));
    }
    // The internal variables are meant for this process only.
    for variable in INTERNAL_VARIABLES {
        ps.env_remove(variable);
    }
    let Ok(output) = ps.output() else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout);
    let ids = text.split('\0').filter(|id| !id.is_empty() && !id.contains(char::is_control));
    ids.filter(|id| !place.given.contains(id)).map(|id| Candidate::new(id, "process")).collect()
}
