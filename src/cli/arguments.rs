//! The command line as clap parses it: options, commands, and the settings that flags give.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::cli::client::global_options::InstanceCommand;
use crate::cli::help;
use crate::cli::host_command::HostCommand;
use crate::cli::output_format::ReportFormat;
use crate::cli::run_command::RunCommand;
use crate::config::{Kind, Layer, Scalar};

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
    pub(super) input: Option<PathBuf>,

    /// Run INPUT; when no process is running, print the results as JSON and exit
    #[arg(short, long, help_heading = "What to do")]
    pub(super) print: bool,

    /// The same, to a file; `-` for standard output
    #[arg(short, long, value_name = "PATH", help_heading = "What to do")]
    pub(super) output: Option<PathBuf>,

    /// Exit when no process is running
    #[arg(short = 'x', long, help_heading = "What to do")]
    pub(super) exit: bool,

    /// Show no progress on a terminal; so does a variable NO_PROGRESS that is not empty
    #[arg(short, long, help_heading = "What to do")]
    pub(super) quiet: bool,

    /// Exit when no process is left that is not deleted
    #[arg(short, long, help_heading = "What to do")]
    #[arg(conflicts_with_all = ["exit", "print", "output"])]
    pub(super) wait: bool,

    /// Configuration file, over the system's and the user's; must exist
    #[arg(long, value_name = "FILE", global = true, help_heading = "Configuration")]
    pub(super) config: Option<PathBuf>,

    #[command(flatten)]
    pub(super) run: RunFlags,

    #[command(flatten)]
    pub(super) agent: AgentFlags,

    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// Flags of what runs here.
#[derive(Args)]
pub(super) struct RunFlags {
    /// With --wait and --agent: exit if no process is assigned within this time (default: 600)
    #[arg(long, value_name = "SECS", value_parser = value(Kind::Seconds), global = true)]
    #[arg(help_heading = "What to do", allow_negative_numbers = true)]
    pub(super) wait_timeout: Option<Scalar>,

    /// Start only processes whose executable is exactly PATH, or matches it as a glob; may be repeated
    #[arg(long, value_name = "PATH", global = true, help_heading = "What to do")]
    pub(super) restrict_exe: Vec<PathBuf>,

    /// Keep processes, statuses and output in this directory, for the next start to find again
    #[arg(long, value_name = "DIR", global = true, help_heading = "What to do")]
    pub(super) state_dir: Option<PathBuf>,

    /// Run the HTTP service on TCP
    #[arg(short, long, action = ArgAction::SetTrue, global = true, help_heading = "HTTP service")]
    pub(super) serve: bool,

    /// TCP port of the HTTP service; 0 for any free port (default: 3000)
    #[arg(long, visible_alias = "serve-port", value_name = "PORT")]
    #[arg(value_parser = value(Kind::ListenPort), global = true)]
    #[arg(help_heading = "HTTP service", allow_negative_numbers = true)]
    pub(super) http_port: Option<Scalar>,

    /// IP address of the HTTP service; any but the loopback needs TLS and a token (default: 127.0.0.1)
    #[arg(long, value_name = "ADDR", value_parser = value(Kind::Address), global = true)]
    #[arg(help_heading = "HTTP service")]
    pub(super) http_bind: Option<Scalar>,

    /// Log to standard error from this level on: trace, debug, info, warn or error (default: warn)
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
    /// Connect to a server as an agent, over wss://
    #[arg(short, long, action = ArgAction::SetTrue, global = true)]
    pub(super) agent: bool,

    /// The server's host name or IP address, without scheme and port
    #[arg(long, value_name = "HOST", value_parser = value(Kind::Host), global = true)]
    pub(super) agent_host: Option<Scalar>,

    /// The server's TCP port (default: 59789)
    #[arg(long, value_name = "PORT", value_parser = value(Kind::Port), global = true)]
    #[arg(allow_negative_numbers = true)]
    pub(super) agent_port: Option<Scalar>,

    /// The group that the agent joins (default: default)
    #[arg(long, value_name = "ID", value_parser = value(Kind::Text), global = true)]
    pub(super) group_id: Option<Scalar>,

    /// The connection ID (default: a random UUID)
    #[arg(long, value_name = "ID", value_parser = value(Kind::Name), global = true, hide = true)]
    pub(super) conn_id: Option<Scalar>,

    /// PEM file of the roots to trust instead of the system's, or of the server's own certificate
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) agent_ca: Option<PathBuf>,

    /// Wait after a first failed attempt to connect (default: 1)
    #[arg(long, value_name = "SECS", value_parser = value(Kind::Seconds), global = true)]
    #[arg(allow_negative_numbers = true)]
    pub(super) connect_interval_start: Option<Scalar>,

    /// Factor by which the wait grows with each further one (default: 2)
    #[arg(long, value_name = "F", value_parser = value(Kind::Factor), global = true)]
    #[arg(allow_negative_numbers = true)]
    pub(super) connect_interval_mult: Option<Scalar>,

    /// Ceiling of the wait (default: 60)
    #[arg(long, value_name = "SECS", value_parser = value(Kind::Seconds), global = true)]
    #[arg(allow_negative_numbers = true)]
    pub(super) connect_interval_max: Option<Scalar>,

    /// Give up after N failed attempts in a row, with exit code 1 (default: never)
    #[arg(long, value_name = "N", value_parser = value(Kind::Count), global = true)]
    #[arg(allow_negative_numbers = true)]
    pub(super) connect_count_max: Option<Scalar>,

    /// Silence after which the connection counts as lost (default: 60)
    #[arg(long, value_name = "SECS", value_parser = value(Kind::Period), global = true)]
    #[arg(allow_negative_numbers = true, hide = true)]
    pub(super) agent_read_timeout: Option<Scalar>,
}

#[derive(Subcommand)]
pub(super) enum Command {
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
        /// Output format
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

/// What has a JSON Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Described {
    /// What is asked: specs of processes
    Specs,
    /// What is answered: results by proc ID
    Results,
}

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Print every setting with its value and where that comes from, secrets masked
    Show {
        /// Print one JSON object instead of text
        #[arg(long)]
        json: bool,
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
