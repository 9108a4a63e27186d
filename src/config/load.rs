//! The order of the layers, and the files that they come from.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::environment::{self, Env, non_empty};
use super::{ConfigError, Layer, Origin, Settings, file, layer};

/// The system's configuration file.
pub const SYSTEM_FILE: &str = "/etc/procstar/procstar.toml";

/// More than any configuration or token; less than what hurts when a path names a device.
const MAX_FILE: u64 = 1 << 20;

/// Reads a whole file.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// What settings are made of.
pub struct Sources<'a> {
    /// The environment.
    pub env: &'a Env,
    /// [`SYSTEM_FILE`], but for tests.
    pub system_file: &'a Path,
    /// [`read_file`], but for tests.
    pub read: ReadFile<'a>,
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
/// not there is an error, the others may be absent.
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
        let state = match (sources.read)(&path) {
            Ok(bytes) => {
                layers.push(file::parse(&path, &bytes)?);
                FileState::Read
            }
            Err(source) => match missing.state(&source) {
                Some(state) => state,
                None => return Err(ConfigError::ReadFile { path, source }),
            },
        };
        files.push((path, state));
    }
    layers.push(environment::parse(sources.env, sources.read)?);
    layers.push(flags);
    let (settings, origins) = layer::merge(&layers)?;
    Ok(Loaded { settings, origins, files })
}

/// Which files may be missing.
enum Missing {
    Error,
    Allowed,
    /// A program started by another user's hand, `HOME` and all, must run nevertheless.
    DeniedToo,
}

impl Missing {
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
