//! Command-line options, and what they ask for together with the configuration.
//!
//! [`parse`] is the way in: arguments and environment to an [`Invocation`], or to a
//! [`UsageError`] that knows its text and exit code. It starts nothing and ends nothing.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args, FromArgMatches, Parser, Subcommand, ValueEnum};

use super::client::Client;
use super::client::global_options::InstanceCommand;
use super::definition::definition;
use super::descriptor;
use super::help;
use super::host::HostCommand;
use super::run_command::{EXIT_INTERNAL, Foreground, OnTerminal, RunCommand};
use crate::config::{
    ConfigError, EVERY_INTERFACE, Env, FileState, Kind, Layer, Loaded, SYSTEM_FILE, Scalar,
    Settings, Sources, load, mistyped,
};
use crate::error_chain::chain;
use crate::trust;

/// Run Linux processes from declarative specs, and tell exactly what became of them.
#[derive(Parser)]
#[command(
    name = "procstar",
    bin_name = "procstar",
    version,
    disable_help_subcommand = true,
    args_override_self = true
)]
#[command(override_usage = help::USAGE)]
#[command(after_long_help = help::AFTER_LONG, max_term_width = 100)]
pub struct CommandLine {
    /// Spec file of processes to run, or `-` for standard input
    #[arg(value_name = "INPUT")]
    input: Option<PathBuf>,

    /// Run INPUT; when no process is running, print the results as JSON and exit
    #[arg(short, long, help_heading = "What to do")]
    print: bool,

    /// The same, to a file; `-` for standard output
    #[arg(short, long, value_name = "PATH", help_heading = "What to do")]
    output: Option<PathBuf>,

    /// Exit when no process is running
    #[arg(short = 'x', long, help_heading = "What to do")]
    exit: bool,

    /// Show no progress on a terminal; so does a variable NO_PROGRESS that is not empty
    #[arg(short, long, help_heading = "What to do")]
    quiet: bool,

    /// Exit when no process is left that is not deleted
    #[arg(short, long, help_heading = "What to do")]
    #[arg(conflicts_with_all = ["exit", "print", "output"])]
    wait: bool,

    /// Configuration file, over the system's and the user's; must exist
    #[arg(long, value_name = "FILE", global = true, help_heading = "Configuration")]
    config: Option<PathBuf>,

    #[command(flatten)]
    run: RunFlags,

    #[command(flatten)]
    agent: AgentFlags,

    #[command(subcommand)]
    command: Option<Command>,
}

/// Flags of what runs here.
#[derive(Args)]
struct RunFlags {
    /// With --wait and --agent: exit if no process is assigned within this time (default: 600)
    #[arg(long, value_name = "SECS", value_parser = value(Kind::Seconds), global = true)]
    #[arg(help_heading = "What to do", allow_negative_numbers = true)]
    wait_timeout: Option<Scalar>,

    /// Start only processes whose executable is exactly PATH, or matches it as a glob; may be repeated
    #[arg(long, value_name = "PATH", global = true, help_heading = "What to do")]
    restrict_exe: Vec<PathBuf>,

    /// Keep processes, statuses and output in this directory, for the next start to find again
    #[arg(long, value_name = "DIR", global = true, help_heading = "What to do")]
    state_dir: Option<PathBuf>,

    /// Run the HTTP service on the network: on 127.0.0.1, unless --serve-address says otherwise
    #[arg(short, long, action = ArgAction::SetTrue, global = true, help_heading = "HTTP service")]
    serve: bool,

    /// Its TCP port; 0 for any that is free (default: 3000)
    #[arg(long, value_name = "PORT", value_parser = value(Kind::ListenPort), global = true)]
    #[arg(help_heading = "HTTP service", allow_negative_numbers = true)]
    serve_port: Option<Scalar>,

    /// Its address; one that other machines reach needs TLS and a token (default: 127.0.0.1)
    #[arg(long, value_name = "ADDR", value_parser = value(Kind::Address), global = true)]
    #[arg(help_heading = "HTTP service")]
    serve_address: Option<Scalar>,

    /// Log to standard error from this level on: trace, debug, info, warn or error (default: warn)
    #[arg(long, value_name = "LEVEL", value_parser = value(Kind::Level), global = true)]
    #[arg(help_heading = "Configuration")]
    log_level: Option<Scalar>,

    /// ReportFormat of the log: auto, text or json (default: auto, text that is coloured on a terminal)
    #[arg(long, value_name = "FORMAT", value_parser = value(Kind::Format), global = true)]
    #[arg(help_heading = "Configuration")]
    log_format: Option<Scalar>,
}

/// Flags of the agent's connection.
#[derive(Args)]
#[command(next_help_heading = "Agent")]
struct AgentFlags {
    /// Connect to a server as an agent, over wss://
    #[arg(short, long, action = ArgAction::SetTrue, global = true)]
    agent: bool,

    /// The server's host name or IP address, without scheme and port
    #[arg(long, value_name = "HOST", value_parser = value(Kind::Host), global = true)]
    agent_host: Option<Scalar>,

    /// The server's TCP port (default: 59789)
    #[arg(long, value_name = "PORT", value_parser = value(Kind::Port), global = true)]
    #[arg(allow_negative_numbers = true)]
    agent_port: Option<Scalar>,

    /// The group that the agent joins (default: default)
    #[arg(long, value_name = "ID", value_parser = value(Kind::Text), global = true)]
    group_id: Option<Scalar>,

    /// The connection ID (default: a random UUID)
    #[arg(long, value_name = "ID", value_parser = value(Kind::Name), global = true, hide = true)]
    conn_id: Option<Scalar>,

    /// PEM file of the roots to trust instead of the system's, or of the server's own certificate
    #[arg(long, value_name = "FILE", global = true)]
    agent_ca: Option<PathBuf>,

    /// Wait after a first failed attempt to connect (default: 1)
    #[arg(long, value_name = "SECS", value_parser = value(Kind::Seconds), global = true)]
    #[arg(allow_negative_numbers = true)]
    connect_interval_start: Option<Scalar>,

    /// Factor by which the wait grows with each further one (default: 2)
    #[arg(long, value_name = "F", value_parser = value(Kind::Factor), global = true)]
    #[arg(allow_negative_numbers = true)]
    connect_interval_mult: Option<Scalar>,

    /// Ceiling of the wait (default: 60)
    #[arg(long, value_name = "SECS", value_parser = value(Kind::Seconds), global = true)]
    #[arg(allow_negative_numbers = true)]
    connect_interval_max: Option<Scalar>,

    /// Give up after N failed attempts in a row, with exit code 1 (default: never)
    #[arg(long, value_name = "N", value_parser = value(Kind::Count), global = true)]
    #[arg(allow_negative_numbers = true)]
    connect_count_max: Option<Scalar>,

    /// Silence after which the connection counts as lost (default: 60)
    #[arg(long, value_name = "SECS", value_parser = value(Kind::Period), global = true)]
    #[arg(allow_negative_numbers = true, hide = true)]
    agent_read_timeout: Option<Scalar>,
}

#[derive(Subcommand)]
enum Command {
    /// Look at the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },

    /// Check a spec, and explain every error of it; nothing is started
    Validate {
        /// Spec file, or `-` for standard input
        #[arg(value_name = "SPEC")]
        spec: PathBuf,
        /// ReportFormat of the answer
        #[arg(short, long = "output", value_name = "FORM", default_value = "text")]
        output_format: ReportFormat,
    },

    /// Print the JSON Schema of what the program reads or writes
    Schema {
        /// Of what
        what: Described,
    },

    /// Have a running instance become the program that is now on disk, its processes running on
    Reload {
        /// The instance's pid; needed where several run
        pid: Option<i32>,
    },

    Run(Box<RunCommand>),

    #[command(flatten)]
    Host(HostCommand),

    #[command(flatten)]
    Client(Box<InstanceCommand>),
}

/// Forms of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// What has a JSON Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Described {
    /// What is asked: specs of processes
    Specs,
    /// What is answered: results by proc ID
    Results,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print every setting with its value and where that comes from, secrets masked
    Show {
        /// Print one JSON object instead of text
        #[arg(long)]
        json: bool,
    },
}

/// Where specs come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Standard input.
    Stdin,
    /// A file.
    File(PathBuf),
}

impl From<PathBuf> for Input {
    fn from(path: PathBuf) -> Self {
        if path.as_os_str() == "-" { Input::Stdin } else { Input::File(path) }
    }
}

/// A run, checked: there is a reason to run, and an agent has a host.
#[derive(Debug, Clone)]
pub struct Run {
    /// The specs to start with.
    pub input: Option<Input>,
    /// Whether results go to standard output.
    pub print: bool,
    /// The file that results go to.
    pub output: Option<PathBuf>,
    /// Whether to exit when nothing runs; true with `print` and `output`, never with `wait`.
    pub exit: bool,
    /// Whether to exit when everything is deleted.
    pub wait: bool,
    /// The process to run in the foreground; then there is no `input`, and `exit` is true.
    pub foreground: Option<Foreground>,
    /// Whether progress may be shown on a terminal.
    pub progress: bool,
    /// The effective settings. `http.serve` and `agent.enabled` say what else to do.
    pub settings: Settings,
    /// The files that the tokens come from.
    pub token_files: TokenFiles,
    /// What the user should be warned of once there is a log.
    pub warnings: Vec<String>,
}

/// The files of the tokens, which may be replaced while the program runs.
#[derive(Debug, Clone, Default)]
pub struct TokenFiles {
    /// Of `agent.token`.
    pub agent: Option<PathBuf>,
    /// Of `http.token`.
    pub http: Option<PathBuf>,
}

impl TokenFiles {
    fn of(loaded: &Loaded) -> TokenFiles {
        let file = |setting| loaded.secret_file(setting).map(Path::to_path_buf);
        TokenFiles { agent: file("agent.token"), http: file("http.token") }
    }
}

/// What the program is to do.
#[derive(Debug, Clone)]
pub enum Invocation {
    /// Run processes and services.
    Run(Box<Run>),
    /// Ask a running instance to become the program on disk, by [`super::reload::reload`].
    Reload {
        /// Where instances are.
        settings: Box<Settings>,
        /// Which one; none: the only one.
        pid: Option<i32>,
    },
    /// Check a spec, by [`super::validate::validate`].
    Validate {
        /// Where it comes from.
        input: Input,
        /// Whether to answer in JSON.
        json: bool,
    },
    /// Print a JSON Schema, by [`super::show::schema`].
    Schema(Described),
    /// Tell of this host and this program, by [`super::host::perform`].
    Host {
        /// What.
        command: HostCommand,
        /// The settings, or why there are none.
        loaded: Box<Result<Loaded, String>>,
    },
    /// Print the configuration, by [`super::show::render`].
    ConfigShow {
        /// Settings and origins.
        loaded: Box<Loaded>,
        /// As JSON.
        json: bool,
    },
    /// Ask a running instance, by [`super::client::run`].
    Client(Box<Client>),
}

/// Why there is nothing to run: a text for the user, with all causes, and an exit code.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct UsageError {
    text: String,
    code: u8,
    /// The exit code where a text that was asked for cannot be written.
    unwritten: u8,
}

impl UsageError {
    /// The whole text, with a newline at its end.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// 2, or 0 for help and version.
    pub fn exit_code(&self) -> u8 {
        self.code
    }

    /// The exit code where the text was asked for and cannot be written.
    pub fn exit_code_if_unwritten(&self) -> u8 {
        self.unwritten
    }

    /// Whether the text is what was asked for, and goes to standard output.
    pub fn is_answer(&self) -> bool {
        self.code == 0
    }

    fn usage(text: &str) -> Self {
        let text = format!("error: {text}\n\nFor more information, try '--help'.\n");
        Self { text, code: 2, unwritten: 1 }
    }
}

impl From<clap::Error> for UsageError {
    fn from(error: clap::Error) -> Self {
        let code = if error.use_stderr() { 2 } else { 0 };
        Self { text: error.render().to_string(), code, unwritten: 1 }
    }
}

impl From<ConfigError> for UsageError {
    fn from(error: ConfigError) -> Self {
        Self { text: format!("error: {}\n", chain(&error)), code: 2, unwritten: 1 }
    }
}

/// Parses the arguments, the program's name first, and reads the configuration that they and
/// `env` point at.
///
/// # Errors
/// Help and version as asked for; wrong usage; a configuration that cannot be used.
pub fn parse(args: impl Iterator<Item = OsString>, env: &Env) -> Result<Invocation, UsageError> {
    let system_file = Path::new(SYSTEM_FILE);
    let (read, trust) = (&descriptor::read_config, &trust::check);
    parse_with(args, &Sources { env, system_file, read, trust })
}

/// [`parse`], with another world than this machine's.
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
        // What runs a command keeps the low codes for that.
        if command_of(&args).as_deref() != Some("run") {
            return error;
        }
        let code = if error.code == 0 { 0 } else { EXIT_INTERNAL };
        UsageError { code, unwritten: EXIT_INTERNAL, ..error }
    })
}

/// Whether arguments, right or wrong, are those of a command for a running instance. No file is read: a configuration that comes through a
/// pipe can be read only once.
pub fn names_client_command(args: &[OsString]) -> bool {
    command_of(args).is_some_and(|name| InstanceCommand::has_subcommand(&name))
}

/// The command that arguments name, even if they are wrong.
fn command_of(args: &[OsString]) -> Option<String> {
    // Help and version would end the search.
    let asks = |arg: &&OsString| ["-h", "--help", "-V", "--version"].iter().any(|ask| *arg == ask);
    let args = args.iter().filter(|arg| !asks(arg));
    let matches = definition().ignore_errors(true).try_get_matches_from(args);
    matches.ok()?.subcommand_name().map(ToOwned::to_owned)
}

fn read(args: &[OsString], sources: &Sources<'_>) -> Result<Invocation, UsageError> {
    let matches = definition().try_get_matches_from(args)?;
    let mut options = CommandLine::from_arg_matches(&matches)?;
    let loaded = load(sources, options.config.as_deref(), options.layer());
    let command = options.command.take();
    if let Some(Command::Host(command)) = command {
        options.reject_extra_args(command.name())?;
        let loaded = Box::new(loaded.map_err(|error| chain(&error)));
        return Ok(Invocation::Host { command, loaded });
    }
    let loaded = loaded?;
    match command {
        Some(Command::Config { command: ConfigCommand::Show { json } }) => {
            options.reject_extra_args("config show")?;
            Ok(Invocation::ConfigShow { loaded: Box::new(loaded), json })
        }
        Some(Command::Validate { spec, output_format }) => {
            options.reject_extra_args("validate")?;
            Ok(Invocation::Validate {
                input: Input::from(spec),
                json: output_format == ReportFormat::Json,
            })
        }
        Some(Command::Schema { what }) => {
            options.reject_extra_args("schema")?;
            Ok(Invocation::Schema(what))
        }
        Some(Command::Reload { pid }) => {
            options.reject_extra_args("reload")?;
            Ok(Invocation::Reload { settings: Box::new(loaded.settings), pid })
        }
        Some(Command::Run(command)) => {
            options.reject_extra_args("run")?;
            options.foreground(loaded, *command).map(|run| Invocation::Run(Box::new(run)))
        }
        Some(Command::Client(command)) => {
            let InstanceCommand(asked) = *command;
            options.reject_extra_args(asked.name())?;
            let settings = loaded.settings;
            Ok(Invocation::Client(Box::new(Client { asked, settings })))
        }
        None | Some(Command::Host(_)) => {
            options.run(loaded).map(|run| Invocation::Run(Box::new(run)))
        }
    }
}

impl CommandLine {
    /// The settings that flags give.
    fn layer(&self) -> Layer {
        let (run, agent) = (&self.run, &self.agent);
        let switch = |on: bool| on.then_some(Scalar::Switch(true));
        let mut layer = Layer::default();
        layer.push_flag("--log-level", run.log_level.clone());
        layer.push_flag("--log-format", run.log_format.clone());
        let globs = Some(run.restrict_exe.clone()).filter(|globs| !globs.is_empty());
        layer.push_flag("--restrict-exe", globs.map(Scalar::Paths));
        layer.push_flag("--state-dir", run.state_dir.clone().map(Scalar::Path));
        layer.push_flag("--wait-timeout", run.wait_timeout.clone());
        layer.push_flag("--serve", switch(run.serve));
        layer.push_flag("--serve-port", run.serve_port.clone());
        layer.push_flag("--serve-address", run.serve_address.clone());
        layer.push_flag("--agent", switch(agent.agent));
        layer.push_flag("--agent-host", agent.agent_host.clone());
        layer.push_flag("--agent-port", agent.agent_port.clone());
        layer.push_flag("--group-id", agent.group_id.clone());
        layer.push_flag("--conn-id", agent.conn_id.clone());
        layer.push_flag("--agent-ca", agent.agent_ca.clone().map(Scalar::Path));
        layer.push_flag("--connect-interval-start", agent.connect_interval_start.clone());
        layer.push_flag("--connect-interval-mult", agent.connect_interval_mult.clone());
        layer.push_flag("--connect-interval-max", agent.connect_interval_max.clone());
        layer.push_flag("--connect-count-max", agent.connect_count_max.clone());
        layer.push_flag("--agent-read-timeout", agent.agent_read_timeout.clone());
        layer
    }

    /// A subcommand does nothing else.
    fn reject_extra_args(&self, command: &str) -> Result<(), UsageError> {
        if self.input.is_some() || self.does_something() {
            return Err(UsageError::usage(&format!(
                "`{command}` takes neither INPUT nor what to do"
            )));
        }
        Ok(())
    }

    /// Whether flags alone give a way to end.
    fn does_something(&self) -> bool {
        self.print || self.output.is_some() || self.exit || self.wait
    }

    fn run(self, loaded: Loaded) -> Result<Run, UsageError> {
        let token_files = TokenFiles::of(&loaded);
        let settings = loaded.settings;
        if !(self.does_something() || settings.http.serve || settings.agent.enabled) {
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

    /// A run of one process in the foreground. It neither serves nor connects, whatever is configured, and keeps nothing.
    fn foreground(self, loaded: Loaded, command: RunCommand) -> Result<Run, UsageError> {
        let lasts = self.run.serve || self.agent.agent || self.run.state_dir.is_some();
        if lasts {
            return Err(UsageError::usage(help::RUN_ENDS));
        }
        let foreground =
            command.check(OnTerminal::now()).map_err(|text| UsageError::usage(&text))?;
        let mut settings = loaded.settings;
        settings.http.serve = false;
        settings.agent.enabled = false;
        settings.agent.conn_id = None;
        settings.run.state_dir = None;
        if foreground.capture {
            // All of it is copied, and so all is kept.
            (settings.capture.limit_head, settings.capture.limit_tail) = (None, None);
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

/// What the user should hear of the configuration files.
fn warnings(files: &[(PathBuf, FileState)]) -> Vec<String> {
    let denied = files.iter().filter(|(_, state)| *state == FileState::Denied);
    let told = denied.map(|(path, _)| {
        let error = io::Error::from(io::ErrorKind::PermissionDenied);
        format!("skipped configuration file {}: {error}", path.display())
    });
    told.collect()
}

/// A flag's value, checked as a file's is.
fn value(kind: Kind) -> impl Fn(&str) -> Result<Scalar, String> + Clone + Send + Sync + 'static {
    move |text| kind.read_text(text.as_ref())
}
