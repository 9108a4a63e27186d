//! The command line as clap parses it: options, commands, and the settings that flags give.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};

use crate::cli::client::global_options::InstanceCommand;
use crate::cli::help;
use crate::cli::host_command::HostCommand;
use crate::cli::output_format::ReportFormat;
use crate::cli::run_command::RunCommand;
use crate::config::{Kind, Layer, Scalar};

/// Run Linux processes from declarative specs, and report exactly how each one ended.
// The commands are apart, in `Command`: defining them takes longer than all else that a run from a
// spec file does before its process starts.
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
    pub(super) input: Option<PathBuf>,

    /// Run INPUT, print the results as JSON when all processes have ended, and exit
    #[arg(short, long, help_heading = "Actions")]
    pub(super) print: bool,

    /// As --print, but write the results to PATH; `-` for standard output
    #[arg(short, long, value_name = "PATH", help_heading = "Actions")]
    pub(super) output: Option<PathBuf>,

    /// Exit when no process is running
    #[arg(short = 'x', long, help_heading = "Actions")]
    pub(super) exit: bool,

    /// Show no progress on a terminal (also by setting NO_PROGRESS)
    #[arg(short, long, help_heading = "Actions")]
    pub(super) quiet: bool,

    /// Exit when all processes have ended and are deleted
    #[arg(short, long, help_heading = "Actions")]
    #[arg(conflicts_with_all = ["exit", "print", "output"])]
    pub(super) wait: bool,

    /// Configuration file, which overrides the system's and the user's; must exist
    #[arg(long, value_name = "FILE", global = true, help_heading = "Configuration")]
    pub(super) config: Option<PathBuf>,

    #[command(flatten)]
    pub(super) run: RunFlags,

    #[command(flatten)]
    pub(super) agent: AgentFlags,
}

/// Flags of what runs here.
#[derive(Args)]
pub(super) struct RunFlags {
    /// With --wait and --agent: exit if no process is assigned within this time (default: 600)
    #[arg(long, value_name = "TIME", value_parser = value(Kind::Seconds), global = true)]
    #[arg(help_heading = "Processes", allow_negative_numbers = true)]
    pub(super) wait_timeout: Option<Scalar>,

    /// Allow only this executable, or those that match this glob; may be repeated
    #[arg(long, value_name = "PATH", global = true, help_heading = "Processes")]
    pub(super) restrict_exe: Vec<PathBuf>,

    /// Keep processes, statuses and output in this directory over restarts
    #[arg(long, value_name = "DIR", global = true, help_heading = "Processes")]
    pub(super) state_dir: Option<PathBuf>,

    /// Run the HTTP service on TCP
    #[arg(short, long, action = ArgAction::SetTrue, global = true, help_heading = "HTTP service")]
    pub(super) serve: bool,

    /// TCP port of the HTTP service; 0 for any free port (default: 3000)
    #[arg(long, visible_alias = "serve-port", value_name = "PORT")]
    #[arg(value_parser = value(Kind::ListenPort), global = true)]
    #[arg(help_heading = "HTTP service", allow_negative_numbers = true)]
    pub(super) http_port: Option<Scalar>,

    /// IP address of the HTTP service; any but the loopback needs TLS and a token (default:
    /// 127.0.0.1)
    #[arg(long, value_name = "ADDR", value_parser = value(Kind::Address), global = true)]
    #[arg(help_heading = "HTTP service")]
    pub(super) http_bind: Option<Scalar>,

    /// Least severe level to log: trace, debug, info, warn or error (default: warn)
    #[arg(long, value_name = "LEVEL", value_parser = value(Kind::Level), global = true)]
    #[arg(help_heading = "Configuration")]
    pub(super) log_level: Option<Scalar>,

    /// Log format: auto, text or json (default: auto, which is text, coloured on a terminal)
    #[arg(long, value_name = "FORMAT", value_parser = value(Kind::Format), global = true)]
    #[arg(help_heading = "Configuration")]
    pub(super) log_format: Option<Scalar>,
}

/// Flags of the agent's connection.
#[derive(Args)]
#[command(next_help_heading = "Agent")]
pub(super) struct AgentFlags {
    /// Connect to a scheduler as an agent, over wss://
    #[arg(short, long, action = ArgAction::SetTrue, global = true)]
    pub(super) agent: bool,

    /// Host name or IP address of the scheduler, without scheme and port
    #[arg(long, value_name = "HOST", value_parser = value(Kind::Host), global = true)]
    pub(super) agent_host: Option<Scalar>,

    /// TCP port of the scheduler (default: 59789)
    #[arg(long, value_name = "PORT", value_parser = value(Kind::Port), global = true)]
    #[arg(allow_negative_numbers = true)]
    pub(super) agent_port: Option<Scalar>,

    /// Group that the agent joins (default: default)
    #[arg(long, value_name = "ID", value_parser = value(Kind::Text), global = true)]
    pub(super) group_id: Option<Scalar>,

    /// Connection ID (default: a random UUID)
    #[arg(long, value_name = "ID", value_parser = value(Kind::Name), global = true, hide = true)]
    pub(super) conn_id: Option<Scalar>,

    /// PEM file: roots to trust instead of the system's, or the scheduler's own certificate
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) agent_ca: Option<PathBuf>,

    /// Delay after the first failed attempt to connect (default: 1)
    #[arg(long, value_name = "TIME", value_parser = value(Kind::Seconds), global = true)]
    #[arg(allow_negative_numbers = true)]
    pub(super) connect_interval_start: Option<Scalar>,

    /// Factor by which the delay grows with each further failure (default: 2)
    #[arg(long, value_name = "F", value_parser = value(Kind::Factor), global = true)]
    #[arg(allow_negative_numbers = true)]
    pub(super) connect_interval_mult: Option<Scalar>,

    /// Longest delay between attempts (default: 60)
    #[arg(long, value_name = "TIME", value_parser = value(Kind::Seconds), global = true)]
    #[arg(allow_negative_numbers = true)]
    pub(super) connect_interval_max: Option<Scalar>,

    /// Give up after N failed attempts in a row, with exit code 1 (default: never)
    #[arg(long, value_name = "N", value_parser = value(Kind::Count), global = true)]
    #[arg(allow_negative_numbers = true)]
    pub(super) connect_count_max: Option<Scalar>,

    /// Silence after which the connection counts as lost (default: 60)
    #[arg(long, value_name = "TIME", value_parser = value(Kind::Period), global = true)]
    #[arg(allow_negative_numbers = true, hide = true)]
    pub(super) agent_read_timeout: Option<Scalar>,
}

#[derive(Subcommand)]
pub(super) enum Command {
    Run(Box<RunCommand>),

    /// Serve clients over HTTP until stopped (as --serve)
    #[command(after_long_help = help::AFTER_SERVE)]
    Serve(ModeArgs),

    /// Work for a scheduler until stopped (as --agent)
    #[command(after_long_help = help::AFTER_AGENT)]
    Agent(ModeArgs),

    #[command(flatten)]
    Client(Box<InstanceCommand>),

    /// Upgrade a running instance in place; its processes keep running
    #[command(after_long_help = help::AFTER_UPGRADE)]
    Upgrade {
        /// Pid of the instance, if several are running
        pid: Option<i32>,
    },

    /// Check a spec and report all errors; nothing is started
    Validate {
        /// Spec file, or `-` for standard input
        #[arg(value_name = "SPEC", value_hint = ValueHint::FilePath)]
        spec: PathBuf,
        /// Output format
        #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
        format: ReportFormat,
    },

    /// Print the JSON Schema of specs or results
    Schema {
        /// Document that the schema describes
        what: Described,
    },

    /// Inspect the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },

    #[command(flatten)]
    Host(HostCommand),

    /// Print help of the program or of a command
    Help {
        /// Command
        #[arg(value_name = "COMMAND")]
        of: Vec<String>,
    },

    /// Print the version
    Version,
}

/// What an instance started by `serve` or `agent` does besides.
#[derive(Args, Clone, Debug)]
pub(super) struct ModeArgs {
    /// Spec file of processes to start, or `-` for standard input
    #[arg(value_name = "INPUT", id = "mode_input", value_hint = ValueHint::FilePath)]
    pub(super) input: Option<PathBuf>,

    /// Exit when no process is running
    #[arg(short = 'x', long = "exit", id = "mode_exit", help_heading = "Actions")]
    pub(super) exit: bool,

    /// Exit when all processes have ended and are deleted
    #[arg(short, long = "wait", id = "mode_wait", help_heading = "Actions")]
    #[arg(conflicts_with = "mode_exit")]
    pub(super) wait: bool,
}

/// Documents with a JSON Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Described {
    /// Requests: specs of processes
    Specs,
    /// Responses: results by process ID
    Results,
}

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every setting, its value and its origin; secrets are masked
    Show {
        /// Output format
        #[arg(short = 'o', long, value_name = "FORMAT", default_value = "text")]
        format: ReportFormat,
    },
}

impl CommandLine {
    /// The settings that flags give.
    pub(super) fn layer(&self) -> Layer {
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
        layer.push_flag("--http-port", run.http_port.clone());
        layer.push_flag("--http-bind", run.http_bind.clone());
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
}

/// A flag's value, checked as a file's is.
fn value(kind: Kind) -> impl Fn(&str) -> Result<Scalar, String> + Clone + Send + Sync + 'static {
    move |text| kind.read_text(text.as_ref())
}
