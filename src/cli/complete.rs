//! Completion: the candidates for the last word of a command line, and the scripts by which shells
//! request them.
//!
//! A script calls the hidden command `__complete` with the words up to the cursor, and reads a line
//! for each candidate: the word, a tab, and a description. The lines `:files`, `:dirs` and
//! `:commands` leave the candidates to the shell. So all shells complete from the definition that
//! parses the command line, and offer only valid words.

mod candidate;
mod place;
mod values;

use clap::{Arg, ArgAction, Command};

use crate::cli::host_command::Shell;
use candidate::{Candidate, about};
use place::Place;

/// The completion script of a shell.
pub(super) fn script(shell: Shell) -> &'static str {
    match shell {
        Shell::Bash => include_str!("complete/procstar.bash"),
        Shell::Zsh => include_str!("complete/procstar.zsh"),
        Shell::Fish => include_str!("complete/procstar.fish"),
    }
}

/// The lines for the last of `words`, whose first is the program's name.
pub(super) fn candidates(root: &Command, words: &[String]) -> String {
    let words = joined(words);
    let Some((current, before)) = words.split_last() else { return String::new() };
    let place = Place::of(root, before.get(1..).unwrap_or_default());
    let mut lines = String::new();
    for Candidate { word, about } in place.candidates(current) {
        let is_left_to_shell = word.starts_with(':');
        if is_left_to_shell || word.starts_with(current.as_str()) {
            lines.push_str(&word);
            if !about.is_empty() {
                lines.push('\t');
                lines.push_str(&about);
            }
            lines.push('\n');
        }
    }
    lines
}

/// The words without the `=` that bash makes a word of its own: `--signal`, `=`, `KI`.
fn joined(words: &[String]) -> Vec<String> {
    let mut joined: Vec<String> = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let is_separator = word == "=" && joined.last().is_some_and(|last| last.starts_with("--"));
        match (is_separator, words.peek()) {
            (false, _) => joined.push(word.clone()),
            (true, Some(_)) => {}
            (true, None) => joined.push(String::new()),
        }
    }
    joined
}

impl<'c> Place<'c> {
    fn of(root: &'c Command, words: &'c [String]) -> Place<'c> {
        let mut place = Place {
            root,
            command: root,
            pending: None,
            given: Vec::new(),
            target: Vec::new(),
            raw: false,
        };
        words.iter().for_each(|word| place.pass(word));
        place
    }

    fn pass(&mut self, word: &'c str) {
        if let Some(option) = self.pending.take() {
            self.note_target(option, word);
        } else if self.raw || self.is_in_command_line() {
            self.given.push(word);
        } else if word == "--" {
            self.raw = true;
        } else if let Some(long) = word.strip_prefix("--") {
            let (name, value) = long.split_once('=').unzip();
            let option = self.long(name.unwrap_or(long)).filter(|arg| takes_value(arg));
            match (option, value) {
                (Some(option), Some(value)) => self.note_target(option, value),
                (option, _) => self.pending = option,
            }
        } else if word.len() > 1 && word.starts_with('-') {
            self.pending = self.short(word.trim_start_matches('-'));
        } else if let Some(command) =
            self.command.find_subcommand(word).filter(|_| self.given.is_empty())
        {
            self.command = command;
        } else {
            self.given.push(word);
        }
    }

    fn note_target(&mut self, option: &'c Arg, value: &'c str) {
        const TARGET: [&str; 7] =
            ["socket", "pid", "state-dir", "url", "token-file", "ca", "config"];
        let long = option.get_long().filter(|long| TARGET.contains(long));
        if let Some(long) = long {
            self.target.extend([long, value]);
        }
    }

    fn long(&self, name: &str) -> Option<&'c Arg> {
        self.command.get_arguments().find(|arg| {
            arg.get_long() == Some(name)
                || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
        })
    }

    /// The option whose value is the word after a cluster such as `-fn`.
    fn short(&self, letters: &str) -> Option<&'c Arg> {
        let last = letters.chars().last()?;
        let mut args = self.command.get_arguments();
        args.find(|arg| arg.get_short() == Some(last) && takes_value(arg))
    }

    /// Whether the words are those of another program's command line.
    fn is_in_command_line(&self) -> bool {
        !self.given.is_empty()
            && self.command.get_positionals().any(|arg| arg.is_trailing_var_arg_set())
    }

    fn candidates(&self, current: &str) -> Vec<Candidate> {
        if let Some(option) = self.pending {
            return values::of(self, option);
        }
        if self.raw || self.is_in_command_line() {
            return vec![Candidate::new(
                if self.given.is_empty() { ":commands" } else { ":files" },
                "",
            )];
        }
        if let Some((name, _)) = current.strip_prefix("--").and_then(|long| long.split_once('=')) {
            let values = self.long(name).map(|option| values::of(self, option));
            let inline = values.unwrap_or_default().into_iter();
            return inline
                .map(|Candidate { word, about }| Candidate::new(format!("--{name}={word}"), about))
                .collect();
        }
        if current.starts_with('-') {
            return self.options();
        }
        let mut found = if self.given.is_empty() { self.subcommands() } else { Vec::new() };
        if let Some(positional) = self.positional() {
            found.extend(values::of(self, positional));
        }
        found
    }

    fn positional(&self) -> Option<&'c Arg> {
        let positionals = self.command.get_positionals().filter(|arg| !arg.is_last_set());
        let positionals: Vec<&Arg> = positionals.collect();
        let nth = positionals.get(self.given.len());
        let repeated = |arg: &&&Arg| matches!(arg.get_action(), ArgAction::Append);
        nth.or_else(|| positionals.last().filter(repeated)).copied()
    }

    fn subcommands(&self) -> Vec<Candidate> {
        let shown = self.command.get_subcommands().filter(|command| !command.is_hide_set());
        shown
            .map(|command| Candidate::new(command.get_name(), about(command.get_about())))
            .collect()
    }

    fn options(&self) -> Vec<Candidate> {
        let shown = self.command.get_arguments().filter(|arg| !arg.is_hide_set());
        let options = shown.filter_map(|arg| {
            let word = match (arg.get_long(), arg.get_short()) {
                (Some(long), _) => format!("--{long}"),
                (None, Some(short)) => format!("-{short}"),
                (None, None) => return None,
            };
            Some(Candidate::new(word, about(arg.get_help())))
        });
        options.collect()
    }
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::definition::definition;

    /// The candidates for a line, whose last word is completed.
    fn complete(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let lines = candidates(&definition(), &words);
        lines.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
    }

    #[test]
    fn words_options_and_values() {
        for (line, wanted) in [
            ("procstar val", &["validate", ":files"][..]),
            ("procstar kil", &["kill", ":files"]),
            ("procstar __", &[":files"]),
            ("procstar kill -s SIGKI", &["SIGKILL"]),
            ("procstar kill --signal=SIGKI", &["--signal=SIGKILL"]),
            ("procstar kill --signal = SIGKI", &["SIGKILL"]),
            ("procstar ps --state ", &["running", "terminated", "error"]),
            ("procstar ps -o ", &["table", "wide", "json", "jsonl"]),
            ("procstar ls --form", &["--format"]),
            ("procstar config ", &["show"]),
            ("procstar completions z", &["zsh"]),
            ("procstar help val", &["validate"]),
            ("procstar validate ", &[":files"]),
            ("procstar --config ", &[":files"]),
            ("procstar serve --state-dir ", &[":dirs"]),
            ("procstar serve --port ", &[]),
            ("procstar run --us", &["--user"]),
            ("procstar run --rlimit nof", &["nofile="]),
            ("procstar run ", &[":commands"]),
            ("procstar run make -", &[":files"]),
            ("procstar start -- ", &[":commands"]),
            ("procstar --log-level de", &["debug"]),
        ] {
            assert_eq!(complete(line), wanted, "{line:?}");
        }
        assert!(complete("procstar run -u roo").contains(&"root".to_owned()));
        assert!(complete("procstar run -g roo").contains(&"root".to_owned()));
    }

    #[test]
    fn only_accepted_options_are_offered() {
        let of = complete;
        assert!(of("procstar serve --").contains(&"--http-bind".to_owned()));
        assert!(!of("procstar serve --").contains(&"--agent-host".to_owned()));
        assert!(of("procstar agent --").contains(&"--agent-host".to_owned()));
        for command in ["ps", "logs", "validate", "doctor", "run", "version"] {
            let options = of(&format!("procstar {command} --"));
            for foreign in ["--serve", "--agent", "--print", "--group-id"] {
                assert!(!options.contains(&foreign.to_owned()), "{command} {foreign}");
            }
        }
        let run = of("procstar run --");
        let start = of("procstar start --");
        for option in ["--id", "--label", "--cwd", "--env", "--user", "--rlimit", "--timeout"] {
            assert!(run.contains(&option.to_owned()) && start.contains(&option.to_owned()));
        }
    }
}
