//! The options of the commands that talk to a running instance.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::examples;
use super::humanize::{self, Since};
use crate::cli::process_options::ProcessOptions;

/// A command for a running instance.
#[derive(Clone, Debug, Subcommand)]
pub enum ClientCommand {
    /// Start the processes of a spec, or one process, in a running instance
    #[command(after_long_help = examples::START)]
    Start(Box<StartArgs>),
    /// List the processes of a running instance
    #[command(visible_alias = "ls", after_long_help = examples::PS)]
    Ps(PsArgs),
    /// Show processes in detail
    #[command(visible_alias = "inspect", after_long_help = examples::SHOW)]
    Show(ShowArgs),
    /// Print the output of a process; with -f, follow it
    #[command(visible_alias = "log", after_long_help = examples::LOGS)]
    Logs(LogsArgs),
    /// Wait until processes have ended, and exit with their status
    #[command(after_long_help = examples::WAIT)]
    Wait(WaitArgs),
    /// Stop processes: send a signal, then SIGKILL after a grace period; wait for the end
    #[command(after_long_help = examples::STOP)]
    Stop(StopArgs),
    /// Send a signal to processes
    #[command(after_long_help = examples::KILL)]
    Kill(KillArgs),
    /// Delete ended processes and their output
    #[command(after_long_help = examples::RM)]
    Rm(RmArgs),
    /// Delete all ended processes of a state, age or label
    #[command(after_long_help = examples::PRUNE)]
    Prune(PruneArgs),
    /// Print starts, ends and deletions as they happen
    #[command(after_long_help = examples::EVENTS)]
    Events(EventsArgs),
    /// Show running processes by CPU time: live on a terminal, once otherwise
    #[command(after_long_help = examples::TOP)]
    Top(TopArgs),
    /// Print or change the log level of a running instance
    #[command(after_long_help = examples::LOG_LEVEL)]
    LogLevel(LogLevelArgs),
    /// Open the web page of a running instance, with a session to start and stop processes
    #[command(after_long_help = examples::UI)]
    Ui(UiArgs),
}

/// The instance that a command addresses.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Target instance")]
pub struct Target {
    /// Instance with this Unix socket
    #[arg(long, value_name = "PATH", conflicts_with_all = ["pid", "url"])]
    pub socket: Option<PathBuf>,
    /// Instance of this user with this pid
    #[arg(long, value_name = "PID", conflicts_with = "url")]
    pub pid: Option<i32>,
    /// Instance with this state directory
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Instance at this URL: http:// on this machine, https:// elsewhere [env: PROCSTAR_URL]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// With a URL: the token; other users can see it, so prefer PROCSTAR_HTTP_TOKEN or --token-file
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    pub token: Option<String>,
    /// With a URL: a file that holds the token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// With a URL: PEM file of roots to trust instead of the system's, or the server's own
    /// certificate
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// Output formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// Columns for people
    #[default]
    Table,
    /// More columns
    Wide,
    /// One exact JSON document
    Json,
    /// A JSON object on each line
    Jsonl,
}

/// States that processes are selected by. The API calls exited processes `terminated`.
fn states() -> impl TypedValueParser<Value = String> {
    let exited = PossibleValue::new("terminated").alias("exited");
    let states = [PossibleValue::new("running"), exited, PossibleValue::new("error")];
    PossibleValuesParser::new(states)
        .map(|state| if state == "exited" { "terminated".to_owned() } else { state })
}

/// A selection of processes.
#[derive(Args, Clone, Debug, Default)]
pub struct Selector {
    /// Only processes in this state; several separated by commas
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = states())]
    pub state: Vec<String>,
    /// Only processes with this label: KEY=VALUE, or KEY for any value; may be repeated
    #[arg(short, long, value_name = "LABEL")]
    pub label: Vec<String>,
    /// Only processes that ended at least this long ago: 90, 15m, 1h30m, 2d
    #[arg(long, value_name = "AGE", value_parser = humanize::duration)]
    pub older_than: Option<Duration>,
}

/// Options of `start`.
#[derive(Args, Clone, Debug)]
pub struct StartArgs {
    /// Spec file, or `-` for standard input
    #[arg(value_name = "SPEC", required_unless_present = "argv", conflicts_with = "argv")]
    #[arg(conflicts_with = "ProcessOptions", value_hint = ValueHint::FilePath)]
    pub spec: Option<PathBuf>,
    /// Command to start, and its arguments; a relative path is relative to your directory
    #[arg(last = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub argv: Vec<String>,
    /// The description of the process.
    #[command(flatten)]
    pub options: ProcessOptions,
    /// Output format
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "table")]
    pub format: ListFormat,
    /// Print IDs separated by NUL bytes
    #[arg(short = '0', long, conflicts_with = "format")]
    pub null: bool,
    /// Target instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `ps`.
#[derive(Args, Clone, Debug)]
pub struct PsArgs {
    /// The selection.
    #[command(flatten)]
    pub selector: Selector,
    /// Include ended processes, which is the default
    #[arg(short, long, hide = true)]
    pub all: bool,
    /// Print only IDs, one on each line
    #[arg(short, long, conflicts_with = "format")]
    pub quiet: bool,
    /// Print only IDs, separated by NUL bytes, for `xargs -0 procstar stop --`
    #[arg(short = '0', long, conflicts_with = "format")]
    pub null: bool,
    /// Output format
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "table")]
    pub format: ListFormat,
    /// Target instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `show`.
#[derive(Args, Clone, Debug)]
pub struct ShowArgs {
    /// Process IDs in the instance
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// With JSON: how much captured output to include
    #[arg(long, value_name = "HOW", default_value = "none")]
    pub captures: Captures,
    /// Output format
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "table")]
    pub format: ListFormat,
    /// Target instance.
    #[command(flatten)]
    pub target: Target,
}

/// How much captured output a result includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Captures {
    /// Lengths
    None,
    /// All output
    Inline,
    /// The last 4 KiB of each
    Tail,
}

/// Options of `logs`.
#[derive(Args, Clone, Debug)]
pub struct LogsArgs {
    /// Process ID in the instance
    #[arg(value_name = "ID")]
    pub id: String,
    /// Follow the output until the process has ended
    #[arg(short, long)]
    pub follow: bool,
    /// Print the last N lines; of each stream, if their order is not known
    #[arg(short = 'n', long, visible_alias = "lines", value_name = "N")]
    pub tail: Option<u64>,
    /// Print output since this time: 90, 15m (ago) or 2026-03-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = humanize::since)]
    pub since: Option<Since>,
    /// Begin each line with its time
    #[arg(short = 'T', long)]
    pub timestamps: bool,
    /// Stream: stdout, stderr or a number (default: all captured streams)
    #[arg(long, value_name = "FD")]
    pub stream: Option<String>,
    /// Pass control sequences to a terminal unchanged, not only text and colours
    #[arg(long)]
    pub raw: bool,
    /// Target instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `wait`.
#[derive(Args, Clone, Debug)]
pub struct WaitArgs {
    /// Process IDs in the instance
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// Wait no longer than this: 90, 15m, 1h30m
    #[arg(short, long, value_name = "TIME", value_parser = humanize::duration)]
    pub timeout: Option<Duration>,
    /// Print the processes when they have ended, in this format (default: nothing)
    #[arg(short = 'o', long, value_name = "FORMAT")]
    pub format: Option<ListFormat>,
    /// Target instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `stop`.
#[derive(Args, Clone, Debug)]
pub struct StopArgs {
    /// Process IDs in the instance
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// Stop signal, a name or a number (default: the spec's, or SIGTERM)
    #[arg(short, long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// Time until SIGKILL: 90, 15m (default: the spec's, or 10 s)
    #[arg(short = 'k', long, value_name = "TIME", value_parser = humanize::duration)]
    pub grace: Option<Duration>,
    /// Return once the signal is sent
    #[arg(long)]
    pub no_wait: bool,
    /// Target instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `kill`.
#[derive(Args, Clone, Debug)]
pub struct KillArgs {
    /// Process IDs in the instance
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// Signal: a name, with or without SIG, or a number; also as -9 or -KILL
    #[arg(short, long, value_name = "SIGNAL", default_value = "SIGTERM")]
    pub signal: String,
    /// Target instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `rm`.
#[derive(Args, Clone, Debug)]
pub struct RmArgs {
    /// Process IDs in the instance
    #[arg(value_name = "ID", required = true)]
    pub ids: Vec<String>,
    /// Kill running processes with SIGKILL first
    #[arg(short, long)]
    pub force: bool,
    /// Target instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `prune`.
#[derive(Args, Clone, Debug)]
pub struct PruneArgs {
    /// The selection.
    #[command(flatten)]
    pub selector: Selector,
    /// All ended processes
    #[arg(long, conflicts_with_all = ["state", "label", "older_than"])]
    pub all: bool,
    /// Delete nothing; print what would be deleted
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Output format
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "table")]
    pub format: ListFormat,
    /// Print IDs separated by NUL bytes
    #[arg(short = '0', long, conflicts_with = "format")]
    pub null: bool,
    /// Target instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `events`.
#[derive(Args, Clone, Debug)]
pub struct EventsArgs {
    /// Only events of these processes
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// Continue after the event with this cursor
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
    /// Output format; json and jsonl are the same
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "table")]
    pub format: ListFormat,
    /// Target instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `top`.
#[derive(Args, Clone, Debug)]
pub struct TopArgs {
    /// Time between updates, at least 0.1 s
    #[arg(short = 'd', long, value_name = "TIME", default_value = "2", value_parser = humanize::interval)]
    pub interval: Duration,
    /// Print once, on a terminal too
    #[arg(short = '1', long)]
    pub once: bool,
    /// Show at most N processes
    #[arg(short = 'n', long, value_name = "N")]
    pub limit: Option<usize>,
    /// Output format; json and jsonl print once
    #[arg(short = 'o', long, value_name = "FORMAT", default_value = "table")]
    pub format: ListFormat,
    /// Target instance.
    #[command(flatten)]
    pub target: Target,
}

/// Levels of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Everything, including debug messages of libraries
    Trace,
    /// Details of processes and connections
    Debug,
    /// Milestones
    Info,
    /// Problems that need attention
    Warn,
    /// Failures
    Error,
    /// Configured level: of --log-level, PROCSTAR_LOG_LEVEL or a configuration file
    Configured,
}

/// Options of `log-level`.
#[derive(Args, Clone, Debug)]
pub struct LogLevelArgs {
    /// New level
    #[arg(value_name = "LEVEL")]
    pub level: Option<Level>,
    /// Target instance.
    #[command(flatten)]
    pub target: Target,
}

/// Options of `ui`.
#[derive(Args, Clone, Debug)]
pub struct UiArgs {
    /// Print the URL instead of opening a browser
    #[arg(long)]
    pub print: bool,
    /// With TLS: host name of the URL, from the instance's certificate
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Target instance.
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

    /// The target instance.
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
