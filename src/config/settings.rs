//! The settings as they came to be effective, and their defaults.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::process_env::{Env, non_empty};
use crate::config::secret::Secret;
use crate::config::text;

/// Every setting, effective: what the defaults and all layers came to.
///
/// Serialization is for `config show`: seconds as numbers, secrets masked, paths made UTF-8. It
/// therefore does not round-trip.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What is logged, and how.
    pub log: LogSettings,
    /// What may be run, and for how long to wait for work.
    pub run: RunSettings,
    /// Where and how long output is captured.
    pub capture: CaptureSettings,
    /// How running processes are sampled.
    pub sampling: SamplingSettings,
    /// The HTTP service.
    pub http: HttpSettings,
    /// The agent's connection to its server.
    pub agent: AgentSettings,
    /// How long processes may take to end when the program shuts down.
    pub shutdown: ShutdownSettings,
}

/// Logging to standard error.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// The least severe level that is still logged. `--log-level`.
    pub level: LogLevel,
    /// The form of a line. `--log-format`.
    pub format: LogFormat,
}

/// Severities, the most talkative first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything, other crates' debug lines included.
    Trace,
    /// What helps to follow one process or connection.
    Debug,
    /// Milestones, `started processes from specs` among them.
    Info,
    /// What an operator should look at; the default.
    #[default]
    Warn,
    /// What failed.
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

/// Forms of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text, coloured where standard error is a terminal.
    #[default]
    Auto,
    /// Text without colour, terminal or not.
    Text,
    /// One JSON object on each line.
    Json,
}

/// What may be run, and how long `--wait` waits for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunSettings {
    /// Only processes whose executable is one of these are started; none: any. A path is compared
    /// as written, so neither links nor relative parts are resolved; a glob, with the executable's
    /// real path. `--restrict-exe`, again for each.
    #[serde(with = "text::paths")]
    pub allowed_executables: Vec<PathBuf>,
    /// With `allowed_executables`: variables that are passed on to processes although a loader or
    /// an interpreter runs code that they name.
    #[serde(with = "text::names")]
    pub allowed_variables: Vec<String>,
    /// With `allowed_executables`: directories below which specs may name files, for fds, variables
    /// and output; none: nowhere.
    #[serde(with = "text::paths")]
    pub allowed_directories: Vec<PathBuf>,
    /// The lasting directory of this instance, where processes, statuses and output are found again
    /// by the next start; `None`: one below `capture.dir` that goes with the instance.
    /// `--state-dir`.
    #[serde(with = "text::path")]
    pub state_dir: Option<PathBuf>,
    /// The directory in which this user's instances have their locks and sockets, and in which
    /// commands look for them; `None`: one is chosen when the instance starts.
    #[serde(with = "text::path")]
    pub runtime_dir: Option<PathBuf>,
    /// With `--wait` and `--agent`: exit if nothing was assigned within this time of the
    /// program's start. Zero gives up at once. `--wait-timeout`.
    #[serde(with = "text::seconds")]
    pub wait_timeout: Duration,
    /// The largest file that a process may make, in bytes, as `RLIMIT_FSIZE`: its captures that it
    /// writes itself included; `None`: what this program itself may. A spec's `limits.fsize` can
    /// only be lower.
    pub max_file_size: Option<u64>,
    /// Whether processes that get none of the program's capabilities, for they are another user's
    /// or the program is not root's, may gain privileges by set-user-ID programs and file
    /// capabilities.
    pub gain_privileges: bool,
    /// How many processes may run at a time, those that are about to included; at least 1.
    pub max_running: u64,
    /// How many processes may be kept, running ones and ended ones that are not deleted; at least
    /// 1.
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
    /// How many of the first bytes are kept of a capture whose spec sets no limit; `None`, with no
    /// `keep_tail`: all. No limit of a spec is larger than this and `keep_tail` together.
    pub keep_head: Option<u64>,
    /// How many of the last bytes are kept besides.
    pub keep_tail: Option<u64>,
    /// How many bytes the captures of all processes may take of the instance's directories before
    /// no process is started any more, until some are deleted; at least 1.
    pub max_total: u64,
    /// How many captured bytes one result, or one answer of the agent protocol, has in it at most:
    /// a capture that does not fit is detached, and a longer range is answered in part.
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
    /// The time between samples; at least 1 ms. `None`: nothing is sampled.
    #[serde(with = "text::optional_seconds")]
    pub interval: Option<Duration>,
    /// How many samples are kept of each process, at least 1.
    pub max_samples: u64,
}

impl Default for SamplingSettings {
    fn default() -> Self {
        Self { interval: None, max_samples: 60 }
    }
}

/// The HTTP service: on an address of the network, where it shall, and on a Unix socket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpSettings {
    /// Whether the service runs on the network. `--serve`.
    pub enabled: bool,
    /// TCP port; 0 lets the kernel choose one. `--http-port`.
    pub port: u16,
    /// The address. One that is not the loopback needs TLS, and a token or client certificates.
    /// `--http-bind`.
    pub bind: IpAddr,
    /// The Unix socket, which a service and an agent always have; `None`: `http.sock` in the
    /// instance's directory.
    #[serde(with = "text::path")]
    pub socket: Option<PathBuf>,
    /// A request that bears this token is answered whoever sends it; never empty. `None`: only
    /// the same user and root are answered. Has no flag: arguments can be read by every user.
    pub token: Option<Secret>,
    /// Whether every connection by TCP needs the token, also one of the same user from this
    /// machine; needs `token`.
    pub require_token: bool,
    /// PEM file of the certificate to serve with over TLS, with those that lead from it to a root;
    /// `None`: no TLS.
    #[serde(with = "text::path")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of its key.
    #[serde(with = "text::path")]
    pub tls_key: Option<PathBuf>,
    /// PEM file of the roots of client certificates; then every client over TLS must have one.
    #[serde(with = "text::path")]
    pub client_ca: Option<PathBuf>,
    /// Connections at a time by TCP, and as many over the Unix socket; at least 1.
    pub max_connections: u64,
    /// Connections by TCP at a time whose peers have not authenticated, at least 1.
    pub unauthenticated_connections: u64,
    /// Those of one user of this machine, or of one address of another; at least 1.
    pub unauthenticated_per_source: u64,
    /// How long such a connection may last; at least 1 ms.
    #[serde(with = "text::seconds")]
    pub unauthenticated_timeout: Duration,
    /// How long a TLS handshake may take; at least 1 ms.
    #[serde(with = "text::seconds")]
    pub handshake_timeout: Duration,
    /// How long a request's head may take; at least 1 ms.
    #[serde(with = "text::seconds")]
    pub header_timeout: Duration,
    /// The longest body of a request, in bytes; at least 1.
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
    /// Whether the program connects to a server. `--agent`.
    pub enabled: bool,
    /// The server's name or address, without scheme and port; must be there if `enabled`, and not
    /// be [`EVERY_INTERFACE`](super::host::EVERY_INTERFACE) then. `--agent-host`.
    pub host: Option<String>,
    /// The server's TCP port, never 0. `--agent-port`.
    pub port: u16,
    /// The group that the agent joins. `--group-id`.
    pub group_id: String,
    /// The connection ID, the same over all reconnections, never empty; `None`: a random UUID.
    /// Two live agents with one ID take the connection from each other. `--conn-id`.
    pub conn_id: Option<String>,
    /// A PEM file: an extra root, or the server's own self-signed certificate. It pins nothing: see
    /// `ca`.
    #[serde(with = "text::path")]
    pub cert: Option<PathBuf>,
    /// A PEM file: the roots, or the server's own certificate, that are trusted instead of the
    /// system's roots. `--agent-ca`.
    #[serde(with = "text::path")]
    pub ca: Option<PathBuf>,
    /// What the server asks for at registration; empty is a token too. Has no flag.
    pub token: Secret,
    /// Waits between attempts.
    pub connect: ConnectSettings,
    /// How long the server may take to answer `Register`; at least 1 ms.
    #[serde(with = "text::seconds")]
    pub register_timeout: Duration,
    /// Time between pings; at least 1 ms.
    #[serde(with = "text::seconds")]
    pub ping_interval: Duration,
    /// Silence after which the connection counts as lost; at least 1 ms.
    /// `--agent-read-timeout`.
    #[serde(with = "text::seconds")]
    pub read_timeout: Duration,
    /// The largest message that is taken from the server, in bytes; at least 1. A larger one ends
    /// the connection.
    pub max_message: u64,
    /// The interval at which running processes' results are pushed; at least 1 ms. `None`: never.
    /// For servers only that take a result which is not the final one.
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
    /// By what the wait grows with each failure; finite and at least 1.
    /// `--connect-interval-mult`.
    pub interval_mult: f64,
    /// The ceiling; wins over `interval_start` where that is longer. `--connect-interval-max`.
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
