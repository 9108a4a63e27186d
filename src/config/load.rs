//! The order of the layers, and the files that they come from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::environment::{self, Env, non_empty};
use super::{ConfigError, Layer, Origin, Settings, file, layer};
use crate::trust::{Need, Untrusted};

/// The system's configuration file.
pub const SYSTEM_FILE: &str = "/etc/procstar/procstar.toml";

/// More than any configuration or token; less than what hurts when a path names a device.
const MAX_FILE: u64 = 1 << 20;

/// Reads a whole file.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Checks whether a file can be trusted, as [`crate::trust::check`] does.
pub type TrustFile<'a> = &'a dyn Fn(&Path, Need) -> Result<(), Untrusted>;

/// What settings are made of.
pub struct Sources<'a> {
    /// The environment.
    pub env: &'a Env,
    /// [`SYSTEM_FILE`], but for tests.
    pub system_file: &'a Path,
    /// [`read_file`], but for tests.
    pub read: ReadFile<'a>,
    /// [`crate::trust::check`], but for tests.
    pub trust: TrustFile<'a>,
}

impl Sources<'_> {
    /// Reads a file that only we and root may change, or also read.
    pub(super) fn read_trusted(&self, path: &Path, need: Need) -> Result<Vec<u8>, Untrusted> {
        (self.trust)(path, need)?;
        Ok((self.read)(path)?)
    }
}

/// What became of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// Its values are a layer.
    Read,
    /// It is not there.
    Absent,
    /// It is the user's, but this user may not read it: a `HOME` that is another user's. It is
    /// skipped.
    Denied,
}

/// Settings, and how they came about.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The effective settings.
    pub settings: Settings,
    /// Where each setting comes from, by its dotted name; every setting is there.
    pub origins: BTreeMap<&'static str, Origin>,
    /// The configuration files that were looked for, the later ones winning.
    pub files: Vec<(PathBuf, FileState)>,
}

impl Loaded {
    /// The file that a secret comes from; none where it comes from elsewhere.
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
/// The first layer that has errors; a file's are all reported at once. An `explicit_file` that is
/// not there is an error, the others may be absent. A file that other users may change is refused,
/// and one with a token that they may read.
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
    for (path, missing) in [system, user, explicit].into_iter().flatten() {
        let state = match sources.read_trusted(&path, Need::Integrity) {
            Ok(bytes) => {
                layers.push(parsed(sources, &path, &bytes)?);
                FileState::Read
            }
            Err(Untrusted::Exposed(exposure)) => {
                let remedy = missing.remedy();
                return Err(ConfigError::ExposedFile { path, exposure, remedy });
            }
            Err(Untrusted::Unknown(source)) => match missing.state(&source) {
                Some(state) => state,
                None => return Err(ConfigError::ReadFile { path, source }),
            },
        };
        files.push((path, state));
    }
    layers.push(environment::parse(sources)?);
    layers.push(flags);
    let (settings, origins) = layer::merge(&layers)?;
    Ok(Loaded { settings, origins, files })
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

/// Which files may be missing.
enum Missing {
    Error,
    Allowed,
    /// A program started by another user's hand, `HOME` and all, must run nevertheless.
    DeniedToo,
}

impl Missing {
    /// What else to do about a file that cannot be trusted.
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

/// Reads a file of at most 1 MiB.
///
/// # Errors
/// The system's, and `FileTooLarge`.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "is larger than 1 MiB"));
    }
    Ok(bytes)
}
