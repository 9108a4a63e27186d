//! The effective settings, and their defaults.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::process_env::{Env, non_empty};
use crate::config::secret::Secret;
use crate::config::text;

/// All effective settings: the defaults, overridden by all layers.
///
/// Serialization is for `config show`: seconds as numbers, secrets masked, paths made UTF-8. It
/// therefore does not round-trip.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The log.
    pub log: LogSettings,
    /// The processes that may run, and the time to wait for work.
    pub run: RunSettings,
    /// The capture of output.
    pub capture: CaptureSettings,
    /// The sampling of running processes.
    pub sampling: SamplingSettings,
    /// The HTTP service.
    pub http: HttpSettings,
    /// The agent's connection to its scheduler.
    pub agent: AgentSettings,
    /// The time that processes have to end at shutdown.
    pub shutdown: ShutdownSettings,
}

/// Logging to standard error.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// The least severe level that is logged. `--log-level`.
    pub level: LogLevel,
    /// The format of a line. `--log-format`.
    pub format: LogFormat,
}

/// Severities, the most talkative first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything, other crates' debug lines included.
    Trace,
    /// Details for following one process or connection.
    Debug,
    /// Milestones, `started processes from specs` among them.
    Info,
    /// Problems that need attention; the default.
    #[default]
    Warn,
    /// Failures.
    Error,
}

impl LogLevel {
    /// Its name in settings and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Trace => "trace",
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        }
    }
}

/// Formats of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text, coloured if standard error is a terminal.
    #[default]
    Auto,
    /// Text without colour, terminal or not.
    Text,
    /// One JSON object on each line.
    Json,
}

/// The processes that may run, and the time that `--wait` waits for one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunSettings {
    /// If not empty, only processes whose executable is one of these are started. A path is
    /// compared as written: neither links nor relative parts are resolved. A glob is compared with
    /// the executable's real path. `--restrict-exe`, once for each.
    #[serde(with = "text::paths")]
    pub allowed_executables: Vec<PathBuf>,
    /// With `allowed_executables`: variables that are passed on to processes although a loader or
    /// an interpreter runs code that they name.
    #[serde(with = "text::names")]
    pub allowed_variables: Vec<String>,
    /// With `allowed_executables`: directories below which specs may name files, for fds, variables
    /// and output; none if empty.
    #[serde(with = "text::paths")]
    pub allowed_directories: Vec<PathBuf>,
    /// The state directory of this instance, in which the next start finds processes, statuses and
    /// output again; `None`: a directory below `capture.dir` that is removed with the instance.
    /// `--state-dir`.
    #[serde(with = "text::path")]
    pub state_dir: Option<PathBuf>,
    /// The directory of the locks and sockets of this user's instances, in which commands look for
    /// them; `None`: an instance chooses one at its start.
    #[serde(with = "text::path")]
    pub runtime_dir: Option<PathBuf>,
    /// With `--wait` and `--agent`: exit if no process was assigned within this time of the
    /// program's start. Zero gives up at once. `--wait-timeout`.
    #[serde(with = "text::seconds")]
    pub wait_timeout: Duration,
    /// The control group of version 2 below which each process gets one of its own; `None`: none has
    /// one.
    pub cgroup_parent: Option<PathBuf>,
    /// Maximum size of a file written by a process, in bytes, as `RLIMIT_FSIZE`, including the
    /// captures that it writes itself; `None`: the program's own limit. A spec's `rlimits.fsize`
    /// can only be lower.
    pub max_file_size: Option<u64>,
    /// Whether processes without the program's capabilities, because they belong to another user or
    /// the program is not root's, may gain privileges by set-user-ID programs and file
    /// capabilities.
    pub gain_privileges: bool,
    /// Maximum number of running processes, those being started included; at least 1.
    pub max_running: u64,
    /// Maximum number of processes, running ones and ended ones that are not deleted; at least 1.
    pub max_processes: u64,
}

impl Default for RunSettings {
    fn default() -> Self {
        Self {
            allowed_executables: Vec::new(),
            allowed_variables: Vec::new(),
            allowed_directories: Vec::new(),
            state_dir: None,
            runtime_dir: None,
            wait_timeout: Duration::from_secs(600),
            cgroup_parent: None,
            max_file_size: None,
            gain_privileges: false,
            max_running: 20_000,
            max_processes: 100_000,
        }
    }
}

/// Capture of processes' output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CaptureSettings {
    /// The directory of temporary files; `None`: see [`CaptureSettings::directory`].
    #[serde(with = "text::path")]
    pub dir: Option<PathBuf>,
    /// How long a descendant that still holds a capture may delay an ended process's result.
    #[serde(with = "text::seconds")]
    pub drain_timeout: Duration,
    /// Number of first bytes that are kept of a capture whose spec sets no limit; `None`, with no
    /// `keep_tail`: all. No limit of a spec is larger than this and `keep_tail` together.
    pub keep_head: Option<u64>,
    /// Number of last bytes that are kept in addition.
    pub keep_tail: Option<u64>,
    /// Maximum number of bytes of all captures in the instance's directories. Beyond it no process
    /// is started until some are deleted; at least 1.
    pub max_total: u64,
    /// Maximum number of captured bytes in one result, or in one response of the agent protocol: a
    /// capture that does not fit is detached, and a longer range is answered in part.
    pub max_inline: u64,
}

impl Default for CaptureSettings {
    fn default() -> Self {
        let drain_timeout = Duration::from_secs(1);
        let (max_inline, max_total) = (1 << 30, 100 << 30);
        Self { dir: None, drain_timeout, keep_head: None, keep_tail: None, max_total, max_inline }
    }
}

impl CaptureSettings {
    /// The directory that captures go to: `dir`, else `$TMPDIR` unless empty, else `/tmp`.
    pub fn directory(&self, env: &Env) -> PathBuf {
        let tmpdir = || non_empty(env, "TMPDIR").map(PathBuf::from);
        self.dir.clone().or_else(tmpdir).unwrap_or_else(|| Path::new("/tmp").to_path_buf())
    }
}

/// Sampling of running processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplingSettings {
    /// The time between samples; at least 1 ms. `None` disables sampling.
    #[serde(with = "text::optional_seconds")]
    pub interval: Option<Duration>,
    /// Maximum number of samples of each process, at least 1.
    pub max_samples: u64,
}

impl Default for SamplingSettings {
    fn default() -> Self {
        Self { interval: None, max_samples: 60 }
    }
}

/// The HTTP service: on TCP, if enabled, and on a Unix socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Whether the service listens on TCP. `--serve`.
    pub enabled: bool,
    /// TCP port; 0 lets the kernel choose one. `--http-port`.
    pub port: u16,
    /// The address. Any but the loopback needs TLS, and a token or client certificates.
    /// `--http-bind`.
    pub bind: IpAddr,
    /// The Unix socket, which a service and an agent always have; `None`: `http.sock` in the
    /// instance's directory.
    #[serde(with = "text::path")]
    pub socket: Option<PathBuf>,
    /// Requests with this token are accepted from any user; never empty. `None`: only the same user
    /// and root are authorized. Has no flag: every user can read arguments.
    pub token: Option<Secret>,
    /// Whether every TCP connection needs the token, even one of the same user from this machine;
    /// needs `token`.
    pub require_token: bool,
    /// PEM file of the service's TLS certificate, with those that lead from it to a root; `None`:
    /// no TLS.
    #[serde(with = "text::path")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of its key.
    #[serde(with = "text::path")]
    pub tls_key: Option<PathBuf>,
    /// PEM file of the roots of client certificates; then every client over TLS must have one.
    #[serde(with = "text::path")]
    pub client_ca: Option<PathBuf>,
    /// Maximum number of TCP connections, and of connections to the Unix socket; at least 1.
    pub max_connections: u64,
    /// Maximum number of TCP connections whose peers have not authenticated; at least 1.
    pub unauthenticated_connections: u64,
    /// Maximum number of these for one user of this machine, or one address of another; at least 1.
    pub unauthenticated_per_source: u64,
    /// Maximum time of such a connection; at least 1 ms.
    #[serde(with = "text::seconds")]
    pub unauthenticated_timeout: Duration,
    /// Maximum time of a TLS handshake; at least 1 ms.
    #[serde(with = "text::seconds")]
    pub handshake_timeout: Duration,
    /// Maximum time until a request's head has arrived; at least 1 ms.
    #[serde(with = "text::seconds")]
    pub header_timeout: Duration,
    /// Maximum length of a request's body, in bytes; at least 1.
    pub max_body: u64,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            port: 3000,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            socket: None,
            token: None,
            require_token: false,
            tls_cert: None,
            tls_key: None,
            client_ca: None,
            max_connections: 2000,
            unauthenticated_connections: 128,
            unauthenticated_per_source: 16,
            unauthenticated_timeout: Duration::from_secs(10),
            handshake_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(5),
            max_body: 16 << 20,
        }
    }
}

/// The agent and its connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentSettings {
    /// Whether the program connects to a scheduler. `--agent`.
    pub enabled: bool,
    /// The scheduler's name or address, without scheme and port; required if `enabled`, and then
    /// not [`EVERY_INTERFACE`](super::host::EVERY_INTERFACE). `--agent-host`.
    pub host: Option<String>,
    /// The scheduler's TCP port, never 0. `--agent-port`.
    pub port: u16,
    /// The group that the agent joins. `--group-id`.
    pub group_id: String,
    /// The connection ID, the same for all reconnections, never empty; `None`: a random UUID. Two
    /// live agents with one ID take the connection from each other. `--conn-id`.
    pub conn_id: Option<String>,
    /// A PEM file: an extra root, or the scheduler's own self-signed certificate. It pins nothing:
    /// see `ca`.
    #[serde(with = "text::path")]
    pub cert: Option<PathBuf>,
    /// A PEM file: the roots, or the scheduler's own certificate, that are trusted instead of the
    /// system's roots. `--agent-ca`.
    #[serde(with = "text::path")]
    pub ca: Option<PathBuf>,
    /// The token for the registration; an empty one is sent too. Has no flag.
    pub token: Secret,
    /// Waits between attempts.
    pub connect: ConnectSettings,
    /// Maximum time until the scheduler answers `Register`; at least 1 ms.
    #[serde(with = "text::seconds")]
    pub register_timeout: Duration,
    /// Time between pings; at least 1 ms.
    #[serde(with = "text::seconds")]
    pub ping_interval: Duration,
    /// Silence after which the connection counts as lost; at least 1 ms.
    /// `--agent-read-timeout`.
    #[serde(with = "text::seconds")]
    pub read_timeout: Duration,
    /// Maximum size of a message from the scheduler, in bytes; at least 1. A larger one ends the
    /// connection.
    pub max_message: u64,
    /// The interval at which running processes' results are sent; at least 1 ms. `None`: never.
    /// Only for schedulers that accept a result before the final one.
    #[serde(with = "text::optional_seconds")]
    pub push_interval: Option<Duration>,
}

impl Default for AgentSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            host: None,
            port: 59789,
            group_id: "default".to_owned(),
            conn_id: None,
            cert: None,
            ca: None,
            token: Secret::default(),
            connect: ConnectSettings::default(),
            register_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(20),
            read_timeout: Duration::from_secs(60),
            max_message: 64 << 20,
            push_interval: None,
        }
    }
}

/// Waits between failed attempts to connect, before jitter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectSettings {
    /// After the first failure. `--connect-interval-start`.
    #[serde(with = "text::seconds")]
    pub interval_start: Duration,
    /// The factor by which the wait grows with each failure; finite and at least 1.
    /// `--connect-interval-mult`.
    pub interval_mult: f64,
    /// The maximum; overrides a longer `interval_start`. `--connect-interval-max`.
    #[serde(with = "text::seconds")]
    pub interval_max: Duration,
    /// Failures in a row after which the program gives up, at least 1; `None`: never.
    /// `--connect-count-max`.
    pub count_max: Option<u64>,
}

impl Default for ConnectSettings {
    fn default() -> Self {
        Self {
            interval_start: Duration::from_secs(1),
            interval_mult: 2.0,
            interval_max: Duration::from_secs(60),
            count_max: None,
        }
    }
}

/// Times granted to processes at shutdown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownSettings {
    /// From SIGTERM to SIGKILL.
    #[serde(with = "text::seconds")]
    pub term_grace: Duration,
    /// From SIGKILL to the program's exit, while clients are still served.
    #[serde(with = "text::seconds")]
    pub kill_grace: Duration,
}

impl Default for ShutdownSettings {
    fn default() -> Self {
        Self { term_grace: Duration::from_secs(60), kill_grace: Duration::from_secs(5) }
    }
}
