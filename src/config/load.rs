//! The order of the layers, and the files that they come from.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::environment;
use crate::config::error::ConfigError;
use crate::config::file;
use crate::config::layer::{self, Layer, Origin};
use crate::config::process_env::{Env, non_empty};
use crate::config::settings::Settings;
use crate::config::sources::Sources;
use crate::trust::{Need, Untrusted};

/// The state of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// Its values are a layer.
    Read,
    /// The file does not exist.
    Absent,
    /// It is the user's file, but this user may not read it, because `HOME` is another user's. It
    /// is skipped.
    Denied,
}

/// Settings, and their sources.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The effective settings.
    pub settings: Settings,
    /// The origin of each setting, by its dotted name; contains every setting.
    pub origins: BTreeMap<&'static str, Origin>,
    /// The configuration files in order, the later ones winning.
    pub files: Vec<(PathBuf, FileState)>,
}

impl Loaded {
    /// The file that a secret comes from; `None` if it has another source.
    pub fn secret_file(&self, setting: &str) -> Option<&Path> {
        match self.origins.get(setting)? {
            Origin::SecretFile { path, .. } | Origin::Credential { path } => Some(path),
            _ => None,
        }
    }
}

/// Makes the settings: defaults, the system's file, the user's, `explicit_file`, the environment,
/// `flags`.
///
/// # Errors
/// All errors of all files and of the environment. An `explicit_file` that is not there is an
/// error, the others may be absent. A file that other users may change is refused, and one with a
/// token that they may read.
pub fn load(
    sources: &Sources<'_>,
    explicit_file: Option<&Path>,
    flags: Layer,
) -> Result<Loaded, ConfigError> {
    let system = Some((sources.system_file.to_path_buf(), Missing::Allowed));
    let user = user_file(sources.env).map(|path| (path, Missing::DeniedToo));
    let explicit = explicit_file.map(|path| (path.to_path_buf(), Missing::Error));
    let mut layers = Vec::new();
    let mut files = Vec::new();
    let mut errors = Vec::new();
    for (path, missing) in [system, user, explicit].into_iter().flatten() {
        match read(sources, &path, &missing) {
            Ok((layer, state)) => {
                layers.extend(layer);
                files.push((path, state));
            }
            Err(error) => errors.push(error),
        }
    }
    match environment::parse(sources) {
        Ok(layer) => layers.push(layer),
        Err(more) => errors.extend(more),
    }
    if !errors.is_empty() {
        return Err(errors.into());
    }
    layers.push(flags);
    let (settings, origins) = layer::merge(&layers)?;
    Ok(Loaded { settings, origins, files })
}

/// A configuration file's state, and its values if there are any.
fn read(
    sources: &Sources<'_>,
    path: &Path,
    missing: &Missing,
) -> Result<(Option<Layer>, FileState), ConfigError> {
    let path_buf = || path.to_path_buf();
    match sources.read_trusted(path, Need::Integrity) {
        Ok(bytes) => Ok((Some(parsed(sources, path, &bytes)?), FileState::Read)),
        Err(Untrusted::Exposed(exposure)) => {
            let remedy = missing.remedy();
            Err(ConfigError::ExposedFile { path: path_buf(), exposure, remedy })
        }
        Err(Untrusted::Unknown(source)) => match missing.state(&source) {
            Some(state) => Ok((None, state)),
            None => Err(ConfigError::ReadFile { path: path_buf(), source }),
        },
    }
}

/// A configuration file's values. If it has a token, others must not be able to read it.
fn parsed(sources: &Sources<'_>, path: &Path, bytes: &[u8]) -> Result<Layer, ConfigError> {
    let layer = file::parse(path, bytes)?;
    let secret = layer.entries().iter().find(|entry| entry.key.kind.is_secret());
    match secret.map(|entry| (entry.key.path, (sources.trust)(path, Need::Secrecy))) {
        Some((setting, Err(Untrusted::Exposed(exposure)))) => {
            Err(ConfigError::ExposedToken { path: path.to_path_buf(), setting, exposure })
        }
        Some((_, Err(Untrusted::Unknown(source)))) => {
            Err(ConfigError::ReadFile { path: path.to_path_buf(), source })
        }
        _ => Ok(layer),
    }
}

/// The files that may be missing.
enum Missing {
    Error,
    Allowed,
    /// A program must run even if another user has started it with that user's `HOME`.
    DeniedToo,
}

impl Missing {
    /// Another remedy for an untrusted file.
    fn remedy(&self) -> &'static str {
        match self {
            Self::DeniedToo => {
                "; or set HOME and XDG_CONFIG_HOME to directories of this user, as `sudo -H` does"
            }
            Self::Error | Self::Allowed => "",
        }
    }

    fn state(&self, error: &io::Error) -> Option<FileState> {
        match (self, error.kind()) {
            (Self::Error, _) => None,
            (_, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Some(FileState::Absent),
            (Self::DeniedToo, io::ErrorKind::PermissionDenied) => Some(FileState::Denied),
            _ => None,
        }
    }
}

/// The user's file, by the XDG base directory specification: relative paths count as unset.
fn user_file(env: &Env) -> Option<PathBuf> {
    let directory = |name| non_empty(env, name).map(Path::new).filter(|path| path.is_absolute());
    let config_home = directory("XDG_CONFIG_HOME").map(Path::to_path_buf);
    let home = || directory("HOME").map(|home| home.join(".config"));
    Some(config_home.or_else(home)?.join("procstar/procstar.toml"))
}
