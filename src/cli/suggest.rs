//! Suggestions for words and options of other programs: `docker`, `systemctl`, `nomad`, `pueue`.
//!
//! A first word that is neither a command nor a file would be taken for INPUT, and an option that a
//! command does not have would only be called unexpected. Both get an error that names the right
//! one.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clap::{Arg, ArgAction, Command};

use crate::text::distance;

/// Words of other programs, and the command with the same purpose.
const COMMANDS: &[(&str, &str)] = &[
    ("add", "start"),
    ("alloc", "show"),
    ("attach", "logs -f"),
    ("cat", "logs"),
    ("check", "validate"),
    ("clean", "prune"),
    ("clear", "prune"),
    ("completion", "completions"),
    ("create", "start"),
    ("daemon", "serve"),
    ("daemon-reexec", "upgrade"),
    ("delete", "rm"),
    ("describe", "show"),
    ("diag", "doctor"),
    ("diagnose", "doctor"),
    ("dispatch", "start"),
    ("enqueue", "start"),
    ("event", "events"),
    ("exec", "run"),
    ("follow", "logs -f"),
    ("get", "ps"),
    ("halt", "stop"),
    ("images", "ps"),
    ("info", "doctor"),
    ("init", "schema specs"),
    ("is-active", "show"),
    ("is-failed", "show"),
    ("job", "start"),
    ("jobs", "ps"),
    ("journal", "logs"),
    ("journalctl", "logs"),
    ("launch", "start"),
    ("lint", "validate"),
    ("list", "ps"),
    ("list-units", "ps"),
    ("loglevel", "log-level"),
    ("manual", "man"),
    ("monitor", "top"),
    ("node", "doctor"),
    ("open", "ui"),
    ("operator", "doctor"),
    ("output", "logs"),
    ("plan", "validate"),
    ("port", "ui"),
    ("procs", "ps"),
    ("purge", "prune"),
    ("remove", "rm"),
    ("reset-failed", "prune --state error"),
    ("run-job", "start"),
    ("server", "serve"),
    ("service", "serve"),
    ("settings", "config show"),
    ("signal", "kill"),
    ("stats", "top"),
    ("status", "ps"),
    ("submit", "start"),
    ("system", "prune"),
    ("tail", "logs -f"),
    ("terminate", "stop"),
    ("units", "ps"),
    ("up", "start"),
    ("update", "upgrade"),
    ("watch", "events"),
    ("web", "ui"),
    ("worker", "agent"),
];

/// Words of other programs for which there is no single command, and what to do instead.
const INSTEAD: &[(&str, &str)] = &[
    ("compose", "start the processes of a spec file with 'procstar start SPEC'"),
    (
        "container",
        "the commands have no groups: 'procstar ps', 'procstar start', 'procstar logs ID'",
    ),
    ("cp", "name files in a spec with {\"file\": {\"path\": ...}}"),
    ("disable", "let a service manager start 'procstar serve'; procstar enables no services"),
    ("down", "stop processes with 'procstar stop ID', or the instance with SIGTERM"),
    ("edit", "delete the process with 'procstar rm ID', and start it again with the changed spec"),
    ("enable", "let a service manager start 'procstar serve'; procstar enables no services"),
    ("parallel", "bound the number of processes with run.max_running"),
    ("pause", "send SIGSTOP with 'procstar kill -s STOP ID'"),
    (
        "reload",
        "upgrade the instance with 'procstar upgrade', or send SIGHUP with 'procstar kill -s HUP ID'",
    ),
    ("rename", "an ID is fixed; give it with 'procstar start --id ID'"),
    (
        "restart",
        "stop the process with 'procstar stop ID', then start it again with 'procstar start'",
    ),
    ("resume", "send SIGCONT with 'procstar kill -s CONT ID'"),
    ("send", "a process gets its input from its spec: {\"data\": ...}, a file or a pipe"),
    ("unpause", "send SIGCONT with 'procstar kill -s CONT ID'"),
];

/// Options of other programs: command (empty for each), option, and what to use instead.
const OPTIONS: &[(&str, &str, &str)] = &[
    ("", "--json", "use -o json"),
    ("", "--output", "use -o or --format"),
    ("", "--host", "use --url"),
    ("", "-H", "use --url"),
    ("", "-v", "use --log-level, or --version"),
    ("", "--verbose", "use --log-level debug with 'serve', 'agent' or --print"),
    ("kill", "-l", "kill takes names and numbers of kill(1); `kill -l` of a shell lists them"),
    ("logs", "-t", "use -T or --timestamps; -t is --timeout in all commands"),
    ("logs", "--stdout", "use --stream stdout"),
    ("logs", "--stderr", "use --stream stderr"),
    ("logs", "--details", "use 'procstar show ID'"),
    ("logs", "-u", "give the ID without an option: 'procstar logs ID'"),
    ("logs", "--unit", "give the ID without an option: 'procstar logs ID'"),
    ("prune", "-a", "use --all"),
    ("prune", "-f", "prune asks no question; -n shows what it would delete"),
    ("prune", "--force", "prune asks no question; -n shows what it would delete"),
    ("ps", "-f", "use --state or --label"),
    ("ps", "--filter", "use --state or --label"),
    ("ps", "--no-trunc", "use -o wide"),
    ("ps", "-s", "use --state"),
    ("ps", "--sort", "use 'procstar top', or -o json with jq"),
    ("rm", "-a", "use 'procstar prune --all'"),
    ("rm", "--all", "use 'procstar prune --all'"),
    ("rm", "-v", "rm always deletes the output too"),
    ("run", "-d", "use 'procstar start' to run in the background"),
    ("run", "--detach", "use 'procstar start' to run in the background"),
    ("run", "--limit", "use --rlimit"),
    ("run", "--memory", "use --rlimit as=N"),
    ("run", "--output", "use --results FILE"),
    ("run", "-o", "use --results FILE"),
    ("run", "--search-path", "CMD is looked up in PATH by default"),
    ("stop", "-t", "use -k or --grace"),
    ("stop", "--timeout", "use -k or --grace"),
    ("stop", "--time", "use -k or --grace"),
    ("stop", "-f", "use 'procstar kill -9 ID'"),
    ("stop", "--force", "use 'procstar kill -9 ID'"),
    ("top", "-b", "use --once"),
    ("wait", "--interval", "wait needs no interval: the instance reports the end"),
    ("start", "-d", "start always runs in the background"),
    ("start", "--detach", "start always runs in the background"),
    ("start", "--limit", "use --rlimit"),
    ("start", "--delay", "procstar has no schedule; use at(1) or a scheduler"),
    ("start", "--after", "procstar has no schedule; start it when 'procstar wait ID' has returned"),
];

/// Options of other programs that describe one process, for `run` and `start`.
const PROCESS_OPTIONS: &[(&str, &str)] = &[
    ("--gid", "use --group"),
    ("--interactive", "standard input and the terminal are inherited by 'procstar run'"),
    ("-i", "standard input and the terminal are inherited by 'procstar run'"),
    ("-it", "standard input and the terminal are inherited by 'procstar run'"),
    ("-p", "use --rlimit, --user and the other options; `--help` lists them"),
    ("--property", "use --rlimit, --user and the other options; `--help` lists them"),
    ("--rm", "use 'procstar run', which keeps nothing"),
    ("--scope", "use 'procstar run'"),
    ("--setenv", "use -e or --env"),
    ("--uid", "use --user"),
    ("--unit", "use --id"),
    ("-v", "processes see all files of this host"),
    ("--volume", "processes see all files of this host"),
    ("-w", "use -C or --cwd"),
    ("--working-directory", "use -C or --cwd"),
];

/// The position of the first word that is neither an option of the program nor an option's value.
pub(super) fn first_word(root: &Command, args: &[OsString]) -> Option<usize> {
    let mut at = 1;
    while let Some(arg) = args.get(at) {
        let Some(text) = arg.to_str() else { return Some(at) };
        match text {
            "--" => return None,
            "-" => return Some(at),
            long if long.starts_with("--") => {
                at += 1 + usize::from(takes_next_long(root, long.trim_start_matches('-')));
            }
            short if short.starts_with('-') => {
                at += 1 + usize::from(takes_next_short(root, short.trim_start_matches('-')));
            }
            _ => return Some(at),
        }
    }
    None
}

fn takes_value(action: &ArgAction) -> bool {
    matches!(action, ArgAction::Set | ArgAction::Append)
}

fn takes_next_long(root: &Command, name: &str) -> bool {
    long_option(root, name).is_some_and(|arg| takes_value(arg.get_action()))
}

fn long_option<'c>(command: &'c Command, name: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|arg| {
        arg.get_long() == Some(name)
            || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
    })
}

/// Whether the next word is the value of the last letter of a cluster such as `-xo`.
fn takes_next_short(root: &Command, letters: &str) -> bool {
    for (at, letter) in letters.char_indices() {
        let arg = root.get_arguments().find(|arg| arg.get_short() == Some(letter));
        if arg.is_some_and(|arg| takes_value(arg.get_action())) {
            return at + letter.len_utf8() == letters.len();
        }
    }
    false
}

/// The error of a first word that is neither a command nor a file; none if it is one, or looks like
/// a path.
pub(super) fn unknown_command(root: &Command, args: &[OsString]) -> Option<String> {
    let word = args.get(first_word(root, args)?)?.to_str()?;
    if root.find_subcommand(word).is_some() || is_path(word) {
        return None;
    }
    if std::fs::metadata(Path::new(word)).is_ok_and(|file| !file.is_dir()) {
        return None;
    }
    Some(no_command(root, word))
}

/// The words from the spec on that are given to `start`, if there is no `--`. None after an unknown
/// option, whose value could be taken for the spec.
fn words_for_start<'a>(root: &Command, args: &'a [OsString]) -> Option<&'a [OsString]> {
    let args = args.get(first_word(root, args)?..)?;
    let start = root.find_subcommand(args.first()?)?;
    if start.get_name() != "start" || args.iter().any(|arg| arg == "--") {
        return None;
    }
    let (options, words) = args.split_at_checked(first_word(start, args)?)?;
    let is_known = |option: &OsString| {
        let name = option.to_str().and_then(|option| option.strip_prefix("--"));
        let name = name.map(|name| name.split('=').next().unwrap_or(name));
        name.is_none_or(|name| long_option(start, name).is_some())
    };
    options.iter().all(is_known).then_some(words)
}

/// How to write a command that is given to `start` as if it was a spec.
fn after_dashes(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    format!("to start a command, write it after --: 'procstar start -- {}'", words.join(" "))
}

/// The error of `start` for a word that is no file and does not look like a path.
pub(super) fn missing_spec(root: &Command, args: &[OsString]) -> Option<String> {
    let words = words_for_start(root, args)?;
    let spec = words.first()?.to_str().filter(|word| !is_path(word))?;
    let is_missing = std::fs::metadata(spec).is_err();
    is_missing.then(|| format!("no spec file '{spec}'; {}", after_dashes(words)))
}

/// The tip for a program that is given to `start` as if it was a spec, with its own arguments.
pub(super) fn program_as_spec(root: &Command, args: &[OsString]) -> Option<String> {
    let words = words_for_start(root, args)?;
    let file = std::fs::metadata(words.first()?).ok()?;
    let is_program = file.is_file() && file.permissions().mode() & 0o111 != 0;
    is_program.then(|| after_dashes(words))
}

fn is_path(word: &str) -> bool {
    word == "-" || word.contains(['/', '.'])
}

fn no_command(root: &Command, word: &str) -> String {
    let normal = word.to_lowercase();
    if let Some((_, instead)) = INSTEAD.iter().find(|(known, _)| *known == normal) {
        return format!("no command '{word}'; {instead}");
    }
    let synonym = COMMANDS.iter().find(|(known, _)| *known == normal);
    match synonym.map(|(_, meant)| *meant).or_else(|| nearest(root, &normal)) {
        Some(meant) => format!("no command '{word}'; did you mean '{meant}'?"),
        None => format!("no command and no file '{word}'; 'procstar help' lists the commands"),
    }
}

/// The command that is nearest by spelling, or one that another program's nearest word means.
fn nearest<'c>(root: &'c Command, word: &str) -> Option<&'c str> {
    let names = root.get_subcommands().filter(|command| !command.is_hide_set());
    let own = names.flat_map(|command| {
        std::iter::once(command.get_name())
            .chain(command.get_all_aliases())
            .map(move |name| (name, command.get_name()))
    });
    let others = COMMANDS.iter().map(|(known, meant)| (*known, *meant));
    own.chain(others)
        .map(|(known, meant)| (distance(word, known), meant))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= (word.chars().count() / 2).clamp(1, 2))
        .map(|(_, meant)| meant)
}

/// What to use instead of an option that a command does not have.
pub(super) fn option(command: &str, option: &str) -> Option<&'static str> {
    let option = option.split('=').next().unwrap_or(option);
    let of_process = || {
        let known = PROCESS_OPTIONS.iter().find(|(known, _)| *known == option);
        known.filter(|_| ["run", "start"].contains(&command)).map(|(_, tip)| *tip)
    };
    let of = |scope: &str| {
        let known = OPTIONS.iter().find(|(of, known, _)| *of == scope && *known == option);
        known.map(|(.., tip)| *tip)
    };
    of(command).or_else(of_process).or_else(|| of("").filter(|_| !command.is_empty()))
}

/// Rewrites `kill -9` and `kill -KILL`, as kill(1) takes them, to `kill --signal=9`.
pub(super) fn kill_arguments(args: Vec<OsString>, at: usize) -> Vec<OsString> {
    if args.get(at).and_then(|word| word.to_str()) != Some("kill") {
        return args;
    }
    let mut options = true;
    let mut after_option = false;
    let rewritten = args.into_iter().enumerate().map(|(position, arg)| {
        options &= arg != "--";
        let signal = arg.to_str().and_then(|arg| arg.strip_prefix('-'));
        let signal = signal.filter(|_| position > at && options && !after_option);
        after_option = arg == "-s";
        match signal.filter(|signal| crate::signal::signal_number(signal).is_some()) {
            Some(signal) => OsString::from(format!("--signal={signal}")),
            None => arg,
        }
    });
    rewritten.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::definition::definition;

    fn args(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_first_word_is_no_option_and_no_value() {
        let root = definition();
        for (line, wanted) in [
            ("procstar ps", Some(1)),
            ("procstar --config x ps", Some(3)),
            ("procstar --config=x ps", Some(2)),
            ("procstar -o out list", Some(3)),
            ("procstar -oout list", Some(2)),
            ("procstar -xo out list", Some(3)),
            ("procstar -x -", Some(2)),
            ("procstar -x", None),
            ("procstar -- list", None),
        ] {
            assert_eq!(first_word(&root, &args(line)), wanted, "{line}");
        }
    }

    #[test]
    fn suggestions_are_commands_and_words_are_not() {
        let root = definition();
        for (word, meant) in COMMANDS {
            assert!(root.find_subcommand(word).is_none(), "{word} is a command");
            let name = meant.split(' ').next().unwrap();
            assert!(root.find_subcommand(name).is_some(), "{word}: {meant}");
        }
        for (word, _) in INSTEAD {
            assert!(root.find_subcommand(word).is_none(), "{word} is a command");
        }
    }

    #[test]
    fn options_with_a_tip_are_unknown_to_the_command() {
        let root = definition();
        for (command, option, _) in OPTIONS.iter().filter(|(command, ..)| !command.is_empty()) {
            let command = root.find_subcommand(command).unwrap();
            let has = command.get_arguments().filter(|arg| !arg.is_hide_set()).any(|arg| {
                option.strip_prefix("--").map_or_else(
                    || arg.get_short().map(String::from).as_deref() == option.strip_prefix('-'),
                    |long| arg.get_long() == Some(long),
                )
            });
            assert!(!has, "{} {option}", command.get_name());
        }
    }

    #[test]
    fn kill_takes_signals_as_kill_1_does() {
        for (line, wanted) in [
            ("procstar kill -9 a", "procstar kill --signal=9 a"),
            ("procstar kill -KILL a", "procstar kill --signal=KILL a"),
            ("procstar kill -sigterm a", "procstar kill --signal=sigterm a"),
            ("procstar kill -s HUP a", "procstar kill -s HUP a"),
            ("procstar kill -- -9", "procstar kill -- -9"),
            ("procstar stop -9 a", "procstar stop -9 a"),
        ] {
            assert_eq!(kill_arguments(args(line), 1), args(wanted));
        }
    }
}
