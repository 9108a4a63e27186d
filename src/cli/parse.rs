//! From arguments and environment to an [`Invocation`], or to a [`UsageError`] with its text and
//! exit code. Starts and ends nothing.

use std::cell::Cell;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, FromArgMatches};

use crate::cli::arguments::{Command, CommandLine, ConfigCommand};
use crate::cli::client::Client;
use crate::cli::client::global_options::InstanceCommand;
use crate::cli::definition::{self, definition, definition_of, may_name_command};
use crate::cli::invocation::{Input, Invocation, Run, TokenFiles, UsageError};
use crate::cli::output_format::ReportFormat;
use crate::cli::run_command::{OnTerminal, RunCommand};
use crate::cli::{descriptor, help, help_page, suggest};
use crate::config::{
    EVERY_INTERFACE, Env, FileState, Loaded, SYSTEM_FILE, Sources, load, mistyped,
};
use crate::error_chain::chain;
use crate::trust;

/// Parses the arguments, the program's name first, and reads the configuration named by them and
/// `env`.
///
/// # Errors
/// Requested help and version; invalid usage; an unusable configuration.
pub fn parse(args: impl Iterator<Item = OsString>, env: &Env) -> Result<Invocation, UsageError> {
    let system_file = Path::new(SYSTEM_FILE);
    let (read, trust) = (&descriptor::read_config, &trust::check);
    parse_with(args, &Sources { env, system_file, read, trust })
}

/// [`parse`] with other sources than this machine's.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(
    args: impl Iterator<Item = OsString>,
    sources: &Sources<'_>,
) -> Result<Invocation, UsageError> {
    let args: Vec<OsString> = args.collect();
    let read = read(&args, sources).map(|mut invocation| {
        if let Invocation::Run(run) = &mut invocation {
            run.warnings.extend(mistyped(sources.env));
        }
        invocation
    });
    read.map_err(|error| {
        // `run` reserves the low exit codes for its command.
        if command_of(&args).as_deref() != Some("run") {
            return error;
        }
        error.of_run_command()
    })
}

/// [`parse`] in the process that the user launched. Returns `None` for a run whose configuration
/// can be read only once, such as a pipe: the worker reads it.
///
/// # Errors
/// As [`parse`].
pub fn parse_in_keeper(args: &[OsString], env: &Env) -> Result<Option<Invocation>, UsageError> {
    let skipped = Cell::new(false);
    let read = |path: &Path| {
        if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
            skipped.set(true);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        descriptor::read_config(path)
    };
    let (system_file, trust) = (Path::new(SYSTEM_FILE), &trust::check);
    let sources = Sources { env, system_file, read: &read, trust };
    let parsed = parse_with(args.iter().cloned(), &sources);
    match parsed {
        parsed if !skipped.get() => parsed.map(Some),
        Ok(Invocation::Run(_)) => Ok(None),
        _ if is_run(args) => Ok(None),
        _ => parse(args.iter().cloned(), env).map(Some),
    }
}

/// Whether arguments, valid or not, are those of a run.
fn is_run(args: &[OsString]) -> bool {
    command_of(args).is_none_or(|name| ["run", "serve", "agent"].contains(&name.as_str()))
}

/// The command that arguments name, even if they are invalid.
fn command_of(args: &[OsString]) -> Option<String> {
    let root = definition_of::<&str>(&[]);
    let word = args.get(suggest::first_word(&root, args)?)?.to_str()?;
    root.find_subcommand(word).map(|command| command.get_name().to_owned())
}

/// The command that arguments name, and its subcommands, even if they are invalid.
fn command_path(args: &[OsString]) -> Vec<String> {
    // Help and version would end the search.
    let asks = |arg: &&OsString| ["-h", "--help", "-V", "--version"].iter().any(|ask| *arg == ask);
    let args: Vec<&OsString> = args.iter().filter(|arg| !asks(arg)).collect();
    let Ok(matches) = definition_of(&args).ignore_errors(true).try_get_matches_from(args) else {
        return Vec::new();
    };
    let mut path = Vec::new();
    let mut matches = &matches;
    while let Some((name, of)) = matches.subcommand() {
        path.push(name.to_owned());
        matches = of;
    }
    path
}

fn read(args: &[OsString], sources: &Sources<'_>) -> Result<Invocation, UsageError> {
    let matches = matches_of_options(args).unwrap_or_else(|| matches_of(args))?;
    let mut options = CommandLine::from_arg_matches(&matches)?;
    let command = match matches.subcommand_name() {
        Some(_) => Some(Command::from_arg_matches(&matches)?),
        None => None,
    };
    if let Some(Command::Help { of }) = &command {
        return Err(UsageError::answer(help_page::page(of)?));
    }
    if let Some(Command::Version) = &command {
        return Err(UsageError::answer(definition::options().render_version()));
    }
    let command = options.in_mode(command);
    let loaded = load(sources, options.config.as_deref(), options.layer());
    if let Some(Command::Host(command)) = command {
        options.reject_extra_args(command.name())?;
        let loaded = Box::new(loaded.map_err(|error| chain(&error)));
        return Ok(Invocation::Host { command, loaded });
    }
    options.carried_out(command, loaded?)
}

/// The matches of arguments without a command; `None` if they need the commands' definitions: to be
/// understood, or to be explained.
fn matches_of_options(args: &[OsString]) -> Option<Result<ArgMatches, UsageError>> {
    if may_name_command(args) {
        return None;
    }
    let mut options = definition::options();
    if suggest::unknown_command(&options, args).is_some() {
        return None;
    }
    match options.try_get_matches_from_mut(args) {
        Ok(matches) => Some(Ok(matches)),
        Err(answer) if answer.kind() == ErrorKind::DisplayVersion => Some(Err(answer.into())),
        Err(_) => None,
    }
}

fn matches_of(args: &[OsString]) -> Result<ArgMatches, UsageError> {
    let mut root = definition_of(args);
    let args = match suggest::first_word(&root, args) {
        Some(at) => suggest::kill_arguments(args.to_vec(), at),
        None => args.to_vec(),
    };
    let unknown = suggest::unknown_command(&root, &args);
    if let Some(error) = unknown.or_else(|| suggest::missing_spec(&root, &args)) {
        return Err(UsageError::usage(&error));
    }
    root.try_get_matches_from_mut(&args).map_err(|error| match error.kind() {
        // The suggestion may be an option of another command.
        ErrorKind::UnknownArgument => {
            let complete = definition().try_get_matches_from(&args);
            explain(complete.err().unwrap_or(error), &args)
        }
        _ => explain(error, &args),
    })
}

/// A usage error, with a tip if another program's option was meant; or help, whose examples keep
/// their lines.
fn explain(error: clap::Error, args: &[OsString]) -> UsageError {
    let program_as_spec = || suggest::program_as_spec(&definition_of(args), args);
    match error.kind() {
        ErrorKind::DisplayHelp => {
            let is_long = args.iter().any(|arg| arg == "--help");
            let page = is_long.then(|| help_page::page(&command_path(args)));
            page.and_then(Result::ok).map_or_else(|| error.into(), UsageError::answer)
        }
        ErrorKind::UnknownArgument => {
            let command = command_of(args).unwrap_or_default();
            let tip = match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::String(given)) => suggest::option(&command, given),
                _ => None,
            };
            let tip = program_as_spec().or(tip.map(str::to_owned));
            UsageError::from(error).with_tip(tip.as_deref())
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            UsageError::from(error).with_tip(program_as_spec().as_deref())
        }
        _ => error.into(),
    }
}

impl CommandLine {
    /// Applies the options of `serve` and `agent` as those of the program; returns any other
    /// command.
    fn in_mode(&mut self, command: Option<Command>) -> Option<Command> {
        let mode = match command {
            Some(Command::Serve(mode)) => {
                self.run.serve = true;
                mode
            }
            Some(Command::Agent(mode)) => {
                self.agent.agent = true;
                mode
            }
            other => return other,
        };
        self.input = mode.input.or_else(|| self.input.take());
        self.exit |= mode.exit;
        self.wait |= mode.wait;
        None
    }

    /// The invocation of a command, or of the bare program.
    fn carried_out(
        self,
        command: Option<Command>,
        loaded: Loaded,
    ) -> Result<Invocation, UsageError> {
        match command {
            Some(Command::Config { command: ConfigCommand::Show { format } }) => {
                self.reject_extra_args("config show")?;
                let json = format == ReportFormat::Json;
                Ok(Invocation::ConfigShow { loaded: Box::new(loaded), json })
            }
            Some(Command::Validate { spec, format }) => {
                self.reject_extra_args("validate")?;
                let json = format == ReportFormat::Json;
                Ok(Invocation::Validate { input: Input::from(spec), json })
            }
            Some(Command::Schema { what }) => {
                self.reject_extra_args("schema")?;
                Ok(Invocation::Schema(what))
            }
            Some(Command::Upgrade { pid }) => {
                self.reject_extra_args("upgrade")?;
                Ok(Invocation::Upgrade { settings: Box::new(loaded.settings), pid })
            }
            Some(Command::Run(command)) => {
                self.reject_extra_args("run")?;
                self.foreground(loaded, *command).map(|run| Invocation::Run(Box::new(run)))
            }
            Some(Command::Client(command)) => {
                let InstanceCommand(asked) = *command;
                self.reject_extra_args(asked.name())?;
                let settings = loaded.settings;
                Ok(Invocation::Client(Box::new(Client { asked, settings })))
            }
            // The other commands are handled above.
            _ => self.run(loaded).map(|run| Invocation::Run(Box::new(run))),
        }
    }

    /// Rejects options of a run together with a subcommand.
    fn reject_extra_args(&self, command: &str) -> Result<(), UsageError> {
        if self.input.is_some() || self.does_something() {
            return Err(UsageError::usage(&format!(
                "'{command}' takes neither INPUT nor --print, --output, --exit and --wait"
            )));
        }
        Ok(())
    }

    /// Whether flags alone enable an action.
    fn does_something(&self) -> bool {
        self.print || self.output.is_some() || self.exit || self.wait
    }

    fn run(self, loaded: Loaded) -> Result<Run, UsageError> {
        let token_files = TokenFiles::of(&loaded);
        let settings = loaded.settings;
        if !(self.does_something() || settings.http.enabled || settings.agent.enabled) {
            return Err(UsageError::usage(help::NOTHING_TO_DO));
        }
        match &settings.agent.host {
            None if settings.agent.enabled => return Err(UsageError::usage(help::NO_HOST)),
            Some(host) if settings.agent.enabled && host == EVERY_INTERFACE => {
                return Err(UsageError::usage(help::NOT_A_HOST));
            }
            _ => {}
        }
        let input = self.input.map(Input::from);
        let is_stdout = |path: &PathBuf| path.as_os_str() == "-";
        Ok(Run {
            input,
            exit: self.exit || self.print || self.output.is_some(),
            print: self.print || self.output.as_ref().is_some_and(is_stdout),
            output: self.output.filter(|path| !is_stdout(path)),
            wait: self.wait,
            foreground: None,
            progress: !self.quiet,
            settings,
            token_files,
            warnings: warnings(&loaded.files),
        })
    }

    /// A run of one process in the foreground. It neither serves nor connects, regardless of the
    /// configuration, and keeps nothing.
    fn foreground(self, loaded: Loaded, command: RunCommand) -> Result<Run, UsageError> {
        let lasts = self.run.serve || self.agent.agent || self.run.state_dir.is_some();
        if lasts {
            return Err(UsageError::usage(help::RUN_ENDS));
        }
        let foreground =
            command.check(OnTerminal::now()).map_err(|text| UsageError::usage(&text))?;
        let mut settings = loaded.settings;
        settings.http.enabled = false;
        settings.agent.enabled = false;
        settings.agent.conn_id = None;
        settings.run.state_dir = None;
        if foreground.capture {
            // All output is copied, so all is kept.
            (settings.capture.keep_head, settings.capture.keep_tail) = (None, None);
        }
        Ok(Run {
            input: None,
            print: false,
            output: None,
            exit: true,
            wait: false,
            foreground: Some(foreground),
            progress: false,
            settings,
            token_files: TokenFiles::default(),
            warnings: warnings(&loaded.files),
        })
    }
}

/// Warnings about the configuration files.
fn warnings(files: &[(PathBuf, FileState)]) -> Vec<String> {
    let denied = files.iter().filter(|(_, state)| *state == FileState::Denied);
    let warnings = denied.map(|(path, _)| {
        let error = io::Error::from(io::ErrorKind::PermissionDenied);
        format!("skipped configuration file {}: {error}", path.display())
    });
    warnings.collect()
}
