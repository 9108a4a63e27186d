//! The options that describe one process, the same for `procstar run` and `procstar start`.

mod sandbox;
mod values;

use std::ffi::OsString;

use clap::{Args, ValueHint};
use indexmap::IndexMap;

use self::sandbox::{SandboxOptions, option_of};
use self::values::{Bounds, Label, Variable};
use crate::quantity::Seconds;
use crate::spec::{
    Account, EnvSpec, INHERITED_BY_OTHERS, Inherit, ProcSpec, Segment, SignalRef, SpecError,
    StopSpec, VarSpec,
};

/// The attributes of one process.
#[derive(Args, Clone, Debug, Default)]
pub struct ProcessOptions {
    /// ID of the process (default: from the command's file name)
    #[arg(long, visible_alias = "name", value_name = "ID", help_heading = "Process")]
    id: Option<String>,

    /// Add a label; may be repeated
    #[arg(short, long, value_name = "KEY=VALUE", help_heading = "Process")]
    label: Vec<Label>,

    /// Working directory, relative to yours
    #[arg(short = 'C', long, value_name = "DIR", help_heading = "Process")]
    #[arg(visible_alias = "workdir", value_hint = ValueHint::DirPath)]
    cwd: Option<OsString>,

    /// Set an environment variable, or pass yours on by its name alone; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]", help_heading = "Process")]
    env: Vec<Variable>,

    /// Inherit no environment variables but those named with -e
    #[arg(long, help_heading = "Process")]
    no_env: bool,

    /// Remove an environment variable; may be repeated
    #[arg(long, value_name = "NAME", help_heading = "Process")]
    unset: Vec<String>,

    /// Run as this user, with its groups; a name or a number
    #[arg(short, long, value_name = "USER", value_parser = values::account)]
    #[arg(help_heading = "Process", value_hint = ValueHint::Username)]
    user: Option<Account>,

    /// Run as this group; a name or a number
    #[arg(short, long, value_name = "GROUP", value_parser = values::account)]
    #[arg(help_heading = "Process")]
    group: Option<Account>,

    /// Limit a resource: `nofile=1024`, `as=2G`, `cpu=60:65` (soft and hard); may be repeated
    #[arg(long, visible_alias = "ulimit", value_name = "RESOURCE=N", help_heading = "Process")]
    rlimit: Vec<Bounds>,

    /// File mode creation mask, in octal
    #[arg(long, value_name = "MASK", help_heading = "Process")]
    umask: Option<String>,

    /// Nice value, -20 to 19
    #[arg(short, long, value_name = "N", allow_negative_numbers = true)]
    #[arg(help_heading = "Process")]
    nice: Option<i32>,

    /// Take CMD for a path, even without a slash, instead of looking it up in the process's PATH
    #[arg(long, help_heading = "Process")]
    no_lookup_path: bool,

    /// Stop the process after this time: seconds, or 500ms, 15m, 1h30m
    #[arg(short, long, value_name = "TIME", help_heading = "Stopping")]
    timeout: Option<Seconds>,

    /// Time between the stop signal and SIGKILL for all descendants (default: 10)
    #[arg(short = 'k', long, value_name = "TIME", help_heading = "Stopping")]
    grace: Option<Seconds>,

    /// Stop signal, a name or a number (default: TERM)
    #[arg(short, long, value_name = "SIGNAL", value_parser = values::signal)]
    #[arg(help_heading = "Stopping")]
    signal: Option<SignalRef>,

    #[command(flatten)]
    sandbox: SandboxOptions,
}

/// Whose environment the process inherits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Environment {
    /// This program's: `-e NAME` names a variable to inherit.
    OfThisProgram,
    /// A running instance's: `-e NAME` sets the variable to its value in this program.
    OfInstance,
}

impl ProcessOptions {
    /// The ID, if one is given.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether the process runs as another user.
    pub(super) fn has_user(&self) -> bool {
        self.user.is_some()
    }

    /// Whether the process runs as another user or group.
    pub(super) fn has_account(&self) -> bool {
        self.user.is_some() || self.group.is_some()
    }

    /// The spec of the process, without arguments and fds.
    ///
    /// # Errors
    /// A text that names the invalid option.
    pub(super) fn spec(self, environment: Environment) -> Result<ProcSpec, String> {
        let stop = (self.signal.is_some() || self.grace.is_some()).then(|| StopSpec {
            signal: self.signal.unwrap_or(StopSpec::SIGNAL),
            grace: self.grace.unwrap_or(StopSpec::GRACE),
        });
        let other_user = self.user.is_some();
        let env = match environment {
            Environment::OfThisProgram => inherited(self.env, self.no_env, other_user),
            Environment::OfInstance => with_our_values(self.env, self.no_env),
        };
        let mut vars: IndexMap<String, VarSpec> =
            self.unset.into_iter().map(|name| (name, VarSpec::Unset)).collect();
        vars.extend(env.vars);
        Ok(ProcSpec {
            env: EnvSpec { vars, ..env },
            lookup_path: !self.no_lookup_path,
            cwd: self.cwd.map(|cwd| text("--cwd", cwd)).transpose()?,
            umask: self.umask,
            user: self.user,
            group: self.group,
            rlimits: self.rlimit.into_iter().map(|Bounds(name, pair)| (name, pair)).collect(),
            nice: self.nice,
            labels: self.label.into_iter().map(|Label(key, value)| (key, value)).collect(),
            timeout: self.timeout,
            stop,
            sandbox: self.sandbox.spec(),
            ..ProcSpec::default()
        })
    }
}

/// The environment of a process that inherits from this program: all variables, or, if it runs as
/// another user, the default and the named ones. `none` is `--no-env`: only the named ones.
fn inherited(variables: Vec<Variable>, none: bool, other_user: bool) -> EnvSpec {
    let mut vars = IndexMap::new();
    let mut named = Vec::new();
    for variable in variables {
        match variable {
            Variable::Set(name, value) => {
                vars.insert(name, VarSpec::Text(value));
            }
            Variable::Inherit(name) => named.push(name),
        }
    }
    let inherit = match (none, other_user) {
        (true, _) => Some(Inherit::Names(named)),
        (false, true) if !named.is_empty() => {
            let by_default = INHERITED_BY_OTHERS.map(str::to_owned);
            Some(Inherit::Names(named.into_iter().chain(by_default).collect()))
        }
        (false, true) => None,
        (false, false) => Some(Inherit::All),
    };
    EnvSpec { inherit, vars, ..EnvSpec::default() }
}

/// The environment of a process that inherits from an instance; the values of named variables come
/// from this program. `none` is `--no-env`.
fn with_our_values(variables: Vec<Variable>, none: bool) -> EnvSpec {
    let taken = variables.into_iter().filter_map(|variable| match variable {
        Variable::Set(name, value) => Some((name, value)),
        // A variable that is not set here is left alone.
        Variable::Inherit(name) => std::env::var(&name).ok().map(|value| (name, value)),
    });
    let vars = taken.map(|(name, value)| (name, VarSpec::Text(value))).collect();
    let inherit = none.then(|| Inherit::Names(Vec::new()));
    EnvSpec { inherit, vars, ..EnvSpec::default() }
}

/// Converts a word of the command line to a string of a spec, which is JSON and therefore UTF-8.
/// `what` names the word in an error.
pub(super) fn text(what: &str, value: OsString) -> Result<String, String> {
    value.into_string().map_err(|value| {
        format!("{what}: {value:?} is not UTF-8; pass it by a script or a file, which may hold any bytes")
    })
}

/// The text of an error of the spec for users of the command line: it names the option instead of a
/// place in the spec, which they did not write.
pub(super) fn option_error(error: &SpecError) -> String {
    let mut keys = error.place.segments().iter().skip(2).filter_map(|segment| match segment {
        Segment::Key(key) => Some(key.as_str()),
        Segment::Index(_) => None,
    });
    let option = match keys.next() {
        Some("argv" | "exe") => "CMD",
        Some("cwd") => "--cwd",
        Some("env") => "--env",
        Some("limits" | "rlimits") => "--rlimit",
        Some("umask") => "--umask",
        Some("nice") => "--nice",
        Some("labels") => "--label",
        Some("timeout") => "--timeout",
        Some("stop") => "--grace or --signal",
        Some("user") => "--user",
        Some("group") => "--group",
        Some("sandbox") => option_of(keys.next().unwrap_or_default()),
        _ => return error.to_string(),
    };
    format!("{option}: {}", error.advice())
}
