//! The environment's layer: a variable for every setting, and the three sources of secrets.
//!
//! A secret is taken from the first of: its variable; the file that its `*_FILE` variable names;
//! the file of its name in `$CREDENTIALS_DIRECTORY`. Later sources are not even read once one has a
//! value.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use crate::config::error::ConfigError;
use crate::config::keys::{self, ALIASES, KEYS, Key};
use crate::config::kind::{Kind, Scalar};
use crate::config::layer::{Layer, Origin};
use crate::config::process_env::{Env, non_empty};
use crate::config::secret::Secret;
use crate::config::sources::{Sources, read_file};
use crate::trust::{self, Need, Untrusted};

/// Variables that no child inherits, not even by name. `docs/reference/configuration.md` has the
/// same list.
pub const NEVER_INHERITED: &[&str] = &[
    // They hold secrets, or lead to them.
    "PROCSTAR_AGENT_CERT",
    "PROCSTAR_AGENT_KEY",
    "PROCSTAR_AGENT_TOKEN",
    "PROCSTAR_AGENT_TOKEN_FILE",
    "PROCSTAR_HTTP_TOKEN",
    "PROCSTAR_HTTP_TOKEN_FILE",
    "PROCSTAR_HTTP_TLS_KEY",
    "CREDENTIALS_DIRECTORY",
    // The service manager's channels to this service: a child could report its own state as the
    // service's, or take descriptors of other meaning for passed sockets.
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDNAMES",
    "FDSTORE",
];

/// Reads all settings of the environment.
///
/// # Errors
/// All variables that do not suit their settings; the secrets' files that cannot be read or used,
/// or that other users can read.
pub(super) fn parse(sources: &Sources<'_>) -> Result<Layer, Vec<ConfigError>> {
    let mut layer = Layer::default();
    let mut errors = Vec::new();
    for key in KEYS {
        let found = match variable(sources.env, key, key.variable) {
            Ok(None) if key.kind.is_secret() => secret(sources, key),
            found => found,
        };
        match found {
            Ok(Some((value, origin))) => layer.push(key, value, origin),
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    for alias in ALIASES {
        let Some(key) = keys::find(alias.of) else { continue };
        match variable(sources.env, key, alias.variable) {
            Ok(Some(_)) if layer.has(key) => {
                let problem = format!("{} is set too; unset one of them", key.variable);
                errors.push(ConfigError::Variable { name: alias.variable.to_owned(), problem });
            }
            Ok(Some((value, origin))) => layer.push(key, value, origin),
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(layer) } else { Err(errors) }
}

fn variable(env: &Env, key: &Key, name: &str) -> Result<Option<(Scalar, Origin)>, ConfigError> {
    let text = match key.kind {
        // The agent's token is the one value that may be meant to be empty.
        Kind::AgentToken => env.get(OsStr::new(name)).map(OsString::as_os_str),
        _ => non_empty(env, name),
    };
    let Some(text) = text else { return Ok(None) };
    let name = name.to_owned();
    match key.kind.read_text(text) {
        Ok(value) => Ok(Some((value, Origin::Variable { name }))),
        Err(problem) => Err(ConfigError::Variable { name, problem }),
    }
}

/// Reads a secret's file again, which the environment has named.
///
/// # Errors
/// It cannot be read, other users can read or change it, or its content does not suit the setting.
pub fn read_secret_file(setting: &str, path: &Path) -> Result<Secret, ConfigError> {
    let named_by = format!("the file of {setting}");
    let found = keys::find(setting).filter(|key| key.kind.is_secret());
    let Some(key) = found else {
        let problem = "no such setting".to_owned();
        return Err(ConfigError::Secret { path: path.to_path_buf(), named_by, problem });
    };
    let bytes = trust::check(path, Need::Secrecy)
        .and_then(|()| Ok(read_file(path)?))
        .map_err(|error| unread(path, &named_by, error))?;
    match secret_text(key, path, &named_by, bytes)? {
        Scalar::Text(text) => Ok(Secret::new(text)),
        _ => Ok(Secret::default()),
    }
}

/// The error of a secret's file.
fn unread(path: &Path, named_by: &str, error: Untrusted) -> ConfigError {
    let (path, named_by) = (path.to_path_buf(), named_by.to_owned());
    match error {
        Untrusted::Unknown(source) => ConfigError::ReadSecret { path, named_by, source },
        Untrusted::Exposed(exposure) => ConfigError::ExposedSecret { path, named_by, exposure },
    }
}

fn secret(sources: &Sources<'_>, key: &Key) -> Result<Option<(Scalar, Origin)>, ConfigError> {
    let env = sources.env;
    let name = format!("{}_FILE", key.variable);
    if let Some(path) = non_empty(env, &name).map(PathBuf::from) {
        let named_by = format!("named by environment variable {name}");
        let bytes = sources
            .read_trusted(&path, Need::Secrecy)
            .map_err(|error| unread(&path, &named_by, error))?;
        let value = secret_text(key, &path, &named_by, bytes)?;
        return Ok(Some((value, Origin::SecretFile { name, path })));
    }
    let Some(directory) = non_empty(env, "CREDENTIALS_DIRECTORY") else { return Ok(None) };
    let path = Path::new(directory).join(credential_name(key));
    let named_by = "from $CREDENTIALS_DIRECTORY".to_owned();
    match sources.read_trusted(&path, Need::Secrecy) {
        Ok(bytes) => {
            let value = secret_text(key, &path, &named_by, bytes)?;
            Ok(Some((value, Origin::Credential { path })))
        }
        // The directory can exist for other credentials of the service.
        Err(Untrusted::Unknown(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unread(&path, &named_by, error)),
    }
}

/// `agent.token` is `procstar-agent-token`.
fn credential_name(key: &Key) -> String {
    format!("procstar-{}", key.path.replace(['.', '_'], "-"))
}

fn secret_text(
    key: &Key,
    path: &Path,
    named_by: &str,
    mut bytes: Vec<u8>,
) -> Result<Scalar, ConfigError> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    let text = OsString::from(String::from_utf8(bytes).map_err(|_| ConfigError::Secret {
        path: path.to_path_buf(),
        named_by: named_by.to_owned(),
        problem: "is not valid UTF-8".to_owned(),
    })?);
    key.kind.read_text(&text).map_err(|problem| ConfigError::Secret {
        path: path.to_path_buf(),
        named_by: named_by.to_owned(),
        problem,
    })
}
