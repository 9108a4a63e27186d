//! The options of the commands that talk to a running instance.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::examples;
use super::humanize::{self, Since};

/// What is asked of a running instance.
#[derive(Clone, Debug, Subcommand)]
pub enum ClientCommand {
    /// Start the processes of a spec, or one process, in a running instance
    #[command(after_long_help = examples::START)]
    Start(StartArgs),
    /// List the processes of a running instance
    #[command(after_long_help = examples::PS)]
    Ps(PsArgs),
    /// Tell all there is to know of processes
    #[command(after_long_help = examples::SHOW)]
    Show(ShowArgs),
    /// Print what a process wrote, byte for byte; with -f also what it writes from now on
    #[command(after_long_help = examples::LOGS)]
    Logs(LogsArgs),
    /// Wait until processes have ended, and exit as they did
    #[command(after_long_help = examples::WAIT)]
    Wait(WaitArgs),
    /// Stop processes: a signal, and SIGKILL after a grace; waits until they have ended
    #[command(after_long_help = examples::STOP)]
    Stop(StopArgs),
    /// Send a signal to processes
    #[command(after_long_help = examples::KILL)]
    Kill(KillArgs),
    /// Forget ended processes, and what they wrote
    #[command(after_long_help = examples::RM)]
    Rm(RmArgs),
    /// Forget all ended processes of a state, age or label
    #[command(after_long_help = examples::PRUNE)]
    Prune(PruneArgs),
    /// Print every start, end and deletion as it happens
    #[command(after_long_help = examples::EVENTS)]
    Events(EventsArgs),
    /// Show running processes by CPU time: live on a terminal, once in a pipe
    #[command(after_long_help = examples::TOP)]
    Top(TopArgs),
    /// Print the log level of a running instance, or change it until the instance ends
    #[command(after_long_help = examples::LOG_LEVEL)]
    LogLevel(LogLevelArgs),
    /// Open the page of a running instance in a browser, with a session to start and stop processes
    #[command(after_long_help = examples::UI)]
    Ui(UiArgs),
}

/// Which instance is asked, and how.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Which instance")]
pub struct Target {
    /// The one behind this Unix socket
    #[arg(long, value_name = "PATH", conflicts_with_all = ["pid", "url"])]
    pub socket: Option<PathBuf>,
    /// The one of this user with this pid
    #[arg(long, value_name = "PID", conflicts_with = "url")]
    pub pid: Option<i32>,
    /// The one that keeps its processes in this directory
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The one behind this URL, http:// on this machine, https:// elsewhere [env: PROCSTAR_URL]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// With a URL: the token that lets us in; other users see it: rather PROCSTAR_HTTP_TOKEN or --token-file
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    pub token: Option<String>,
    /// With a URL: a file that holds the token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// With a URL: PEM file of the roots to trust instead of the system's, or of the server's own certificate
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// Forms of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// Columns, for people
    #[default]
    Table,
    /// More columns
    Wide,
    /// One JSON document, exact
    Json,
    /// A JSON object on each line
    Jsonl,
}

/// Which processes.
#[derive(Args, Clone, Debug, Default)]
pub struct Selector {
    /// Only those in this state: running, terminated or error; several by commas
    #[arg(long, value_name = "STATE", value_delimiter = ',')]
    pub state: Vec<String>,
    /// Only those with this label: KEY=VALUE, or KEY for any value; again for each that they must have
    #[arg(short, long, value_name = "LABEL")]
    pub label: Vec<String>,
    /// Only those that ended so long ago or longer: 90, 15m, 1h30m, 2d
    #[arg(long, value_name = "AGE", value_parser = humanize::duration)]
    pub older_than: Option<Duration>,
}

/// Options of `start`.
#[derive(Args, Clone, Debug)]
pub struct StartArgs {
    /// Spec file, or `-` for standard input
    #[arg(value_name = "SPEC", required_unless_present = "argv", conflicts_with = "argv")]
    #[arg(conflicts_with_all = ["id", "env", "cwd", "label", "timeout"])]
    pub spec: Option<PathBuf>,
    /// The program and its arguments; output is captured with order and times. A program with a slash is looked for in your directory
    #[arg(last = true, value_name = "ARGV")]
    pub argv: Vec<String>,
    /// Its ID (default: the program's name and a random number)
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// A variable of its environment; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = humanize::pair)]
    pub env: Vec<(String, String)>,
    /// Its working directory, relative to yours (default: the instance's)
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<String>,
    /// A label; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = humanize::pair)]
    pub label: Vec<(String, String)>,
    /// Stop it after this time: 90, 15m, 1h30m
    #[arg(long, value_name = "TIME", value_parser = humanize::duration)]
    pub timeout: Option<Duration>,
    /// Output format
    #[arg(short = 'o', long = "output", value_name = "FORM", default_value = "table")]
    pub format: ListFormat,
    /// Print each ID with a NUL byte behind it
    #[arg(short = '0', long, conflicts_with = "format")]
    pub null: bool,
    /// Which instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `ps`.
#[derive(Args, Clone, Debug)]
pub struct PsArgs {
    /// Which processes.
    #[command(flatten)]
    pub selector: Selector,
    /// Print IDs only, one on each line
    #[arg(short, long, conflicts_with = "format")]
    pub quiet: bool,
    /// Print IDs only, each with a NUL byte behind it, for `xargs -0 procstar stop --`
    #[arg(short = '0', long, conflicts_with = "format")]
    pub null: bool,
    /// Output format
    #[arg(short = 'o', long = "output", value_name = "FORM", default_value = "table")]
    pub format: ListFormat,
    /// Which instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// IDs of processes
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// With JSON: what it has of captured output
    #[arg(long, value_name = "HOW", default_value = "none")]
    pub captures: Captures,
    /// Output format
    #[arg(short = 'o', long = "output", value_name = "FORM", default_value = "table")]
    pub format: ListFormat,
    /// Which instance.
    #[command(flatten)]
    pub target: Target,
}

/// How much of the captures a result has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Captures {
    /// Lengths
    None,
    /// All of it
    Inline,
    /// The last 4 KiB of each
    Tail,
}

/// Options of `logs`.
#[derive(Args, Clone, Debug)]
pub struct LogsArgs {
    /// ID of a process
    #[arg(value_name = "ID")]
    pub id: String,
    /// Go on with what is written, until the end
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last N lines, and what follows; of each stream where their order is not known
    #[arg(long, value_name = "N")]
    pub tail: Option<u64>,
    /// Only what was written since then: a time ago (90, 15m), or 2026-03-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = humanize::since)]
    pub since: Option<Since>,
    /// Begin each line with the time at which it was read
    #[arg(short, long)]
    pub timestamps: bool,
    /// Only this one: stdout, stderr or a number (default: all that are captured)
    #[arg(long, value_name = "FD")]
    pub stream: Option<String>,
    /// Send control sequences of the output to a terminal as they are; otherwise it gets text and colours only
    #[arg(long)]
    pub raw: bool,
    /// Which instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `wait`.
#[derive(Args, Clone, Debug)]
pub struct WaitArgs {
    /// IDs of processes
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// Wait no longer than this: 90, 15m, 1h30m
    #[arg(long, value_name = "TIME", value_parser = humanize::duration)]
    pub timeout: Option<Duration>,
    /// Print the processes when they have ended (default: nothing)
    #[arg(short = 'o', long = "output", value_name = "FORM")]
    pub format: Option<ListFormat>,
    /// Which instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `stop`.
#[derive(Args, Clone, Debug)]
pub struct StopArgs {
    /// IDs of processes
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// The signal that asks them (default: the spec's, or SIGTERM)
    #[arg(short, long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// How long they have until SIGKILL: 90, 15m (default: the spec's, or 10 s)
    #[arg(long, value_name = "TIME", value_parser = humanize::duration)]
    pub grace: Option<Duration>,
    /// Do not wait until they have ended
    #[arg(long)]
    pub no_wait: bool,
    /// Which instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `kill`.
#[derive(Args, Clone, Debug)]
pub struct KillArgs {
    /// IDs of processes
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// A name, with or without SIG, or a number
    #[arg(short, long, value_name = "SIGNAL", default_value = "SIGTERM")]
    pub signal: String,
    /// Which instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `rm`.
#[derive(Args, Clone, Debug)]
pub struct RmArgs {
    /// IDs of processes
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// Kill those that run, with SIGKILL, first
    #[arg(short, long)]
    pub force: bool,
    /// Which instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `prune`.
#[derive(Args, Clone, Debug)]
pub struct PruneArgs {
    /// Which processes.
    #[command(flatten)]
    pub selector: Selector,
    /// All that have ended
    #[arg(long, conflicts_with_all = ["state", "label", "older_than"])]
    pub all: bool,
    /// Forget nothing; print what would be forgotten
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Output format
    #[arg(short = 'o', long = "output", value_name = "FORM", default_value = "table")]
    pub format: ListFormat,
    /// Print each ID with a NUL byte behind it
    #[arg(short = '0', long, conflicts_with = "format")]
    pub null: bool,
    /// Which instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `events`.
#[derive(Args, Clone, Debug)]
pub struct EventsArgs {
    /// Only of these processes
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Go on after an event that was seen, by its cursor
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
    /// Output format; json and jsonl are the same
    #[arg(short = 'o', long = "output", value_name = "FORM", default_value = "table")]
    pub format: ListFormat,
    /// Which instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `top`.
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// The time between two looks, at least 0.1 s
    #[arg(short = 'd', long, value_name = "TIME", default_value = "2", value_parser = humanize::interval)]
    pub interval: Duration,
    /// Look once, on a terminal too
    #[arg(short = '1', long)]
    pub once: bool,
    /// The most processes to show
    #[arg(short = 'n', long, value_name = "N")]
    pub limit: Option<usize>,
    /// Output format; json and jsonl print once
    #[arg(short = 'o', long = "output", value_name = "FORM", default_value = "table")]
    pub format: ListFormat,
    /// Which instance.
    #[command(flatten)]
    pub target: Target,
}

/// Levels of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Everything, other crates' debug messages included
    Trace,
    /// What helps to follow one process or connection
    Debug,
    /// Milestones
    Info,
    /// What an operator should look at
    Warn,
    /// What failed
    Error,
    /// The configured one: of --log-level, PROCSTAR_LOG_LEVEL or a configuration file
    Configured,
}

/// Options of `log-level`.
#[derive(Args, Clone, Debug)]
pub struct LogLevelArgs {
    /// The new level
    #[arg(value_name = "LEVEL")]
    pub level: Option<Level>,
    /// Which instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `ui`.
#[derive(Args, Clone, Debug)]
pub struct UiArgs {
    /// Print the URL, and open no browser
    #[arg(long)]
    pub print: bool,
    /// With TLS: the host name of the URL, one of the instance's certificate
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Which instance.
    #[command(flatten)]
    pub target: Target,
}

impl ClientCommand {
    /// The command's name.
    pub fn name(&self) -> &'static str {
        match self {
            ClientCommand::Start(_) => "start",
            ClientCommand::Ps(_) => "ps",
            ClientCommand::Show(_) => "show",
            ClientCommand::Logs(_) => "logs",
            ClientCommand::Wait(_) => "wait",
            ClientCommand::Stop(_) => "stop",
            ClientCommand::Kill(_) => "kill",
            ClientCommand::Rm(_) => "rm",
            ClientCommand::Prune(_) => "prune",
            ClientCommand::Events(_) => "events",
            ClientCommand::Top(_) => "top",
            ClientCommand::LogLevel(_) => "log-level",
            ClientCommand::Ui(_) => "ui",
        }
    }

    /// Which instance is meant.
    pub(super) fn target(&self) -> &Target {
        match self {
            ClientCommand::Start(args) => &args.target,
            ClientCommand::Ps(args) => &args.target,
            ClientCommand::Show(args) => &args.target,
            ClientCommand::Logs(args) => &args.target,
            ClientCommand::Wait(args) => &args.target,
            ClientCommand::Stop(args) => &args.target,
            ClientCommand::Kill(args) => &args.target,
            ClientCommand::Rm(args) => &args.target,
            ClientCommand::Prune(args) => &args.target,
            ClientCommand::Events(args) => &args.target,
            ClientCommand::Top(args) => &args.target,
            ClientCommand::LogLevel(args) => &args.target,
            ClientCommand::Ui(args) => &args.target,
        }
    }
}
