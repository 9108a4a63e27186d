//! The checked request of arguments and configuration to the program.

use std::path::{Path, PathBuf};

use crate::cli::arguments::Described;
use crate::cli::client::Client;
use crate::cli::host_command::HostCommand;
use crate::cli::run_command::{EXIT_INTERNAL, Foreground};
use crate::config::{ConfigError, Loaded, Settings};
use crate::error_chain::chain;

/// The source of specs.
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

/// A run, checked: it has something to do, and an agent has a host.
#[derive(Debug, Clone)]
pub struct Run {
    /// The specs to start with.
    pub input: Option<Input>,
    /// Whether results go to standard output.
    pub print: bool,
    /// The file that results go to.
    pub output: Option<PathBuf>,
    /// Whether to exit when no process is running; true with `print` and `output`, never with
    /// `wait`.
    pub exit: bool,
    /// Whether to exit when everything is deleted.
    pub wait: bool,
    /// The process to run in the foreground; then there is no `input`, and `exit` is true.
    pub foreground: Option<Foreground>,
    /// Whether progress may be shown on a terminal.
    pub progress: bool,
    /// The effective settings. `http.enabled` and `agent.enabled` enable further services.
    pub settings: Settings,
    /// The files that the tokens come from.
    pub token_files: TokenFiles,
    /// Warnings for the log.
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
    pub(super) fn of(loaded: &Loaded) -> TokenFiles {
        let file = |setting| loaded.secret_file(setting).map(Path::to_path_buf);
        TokenFiles { agent: file("agent.token"), http: file("http.token") }
    }
}

/// The action of the program.
#[derive(Debug, Clone)]
pub enum Invocation {
    /// Run processes and services.
    Run(Box<Run>),
    /// Upgrade a running instance to the program on disk, by [`super::upgrade::upgrade`].
    Upgrade {
        /// The settings that say where instances are.
        settings: Box<Settings>,
        /// The instance's pid; `None` for the only one.
        pid: Option<i32>,
    },
    /// Check a spec, by [`super::validate::validate`].
    Validate {
        /// The source of the spec.
        input: Input,
        /// Whether to print JSON.
        json: bool,
    },
    /// Print a JSON Schema, by [`super::show::schema`].
    Schema(Described),
    /// A command that concerns this host and this program, by [`super::host::perform`].
    Host {
        /// The command.
        command: HostCommand,
        /// The settings, or the error of loading them.
        loaded: Box<Result<Loaded, String>>,
    },
    /// Print the configuration, by [`super::show::render`].
    ConfigShow {
        /// Settings and origins.
        loaded: Box<Loaded>,
        /// As JSON.
        json: bool,
    },
    /// A command for a running instance, by [`super::client::run`].
    Client(Box<Client>),
}

/// A text for the user instead of a run, with all causes, and an exit code.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct UsageError {
    text: String,
    code: u8,
    /// The exit code if a requested text cannot be written.
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

    /// The exit code if the text was requested and cannot be written.
    pub fn exit_code_if_unwritten(&self) -> u8 {
        self.unwritten
    }

    /// Whether the text was requested, and goes to standard output.
    pub fn is_answer(&self) -> bool {
        self.code == 0
    }

    /// The same text for a command line whose low exit codes belong to the process that it runs.
    pub(super) fn of_run_command(self) -> Self {
        let code = if self.code == 0 { 0 } else { EXIT_INTERNAL };
        Self { code, unwritten: EXIT_INTERNAL, ..self }
    }

    /// A text that was requested.
    pub(super) fn answer(text: String) -> Self {
        Self { text, code: 0, unwritten: 1 }
    }

    /// Inserts a tip after the first paragraph, instead of clap's own.
    pub(super) fn with_tip(self, tip: Option<&str>) -> Self {
        let Some(tip) = tip else { return self };
        let paragraphs = self.text.split("\n\n").filter(|part| !part.starts_with("  tip:"));
        let mut paragraphs: Vec<String> = paragraphs.map(str::to_owned).collect();
        paragraphs.insert(1.min(paragraphs.len()), format!("  tip: {tip}"));
        Self { text: paragraphs.join("\n\n"), ..self }
    }

    pub(super) fn usage(text: &str) -> Self {
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
