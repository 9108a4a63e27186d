//! The system's sources of settings: the environment, files, and the trust in these.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::config::process_env::Env;
use crate::trust::{Need, Untrusted};

/// The system's configuration file.
pub const SYSTEM_FILE: &str = "/etc/procstar/procstar.toml";

/// Larger than any configuration or token, and small enough if a path names a device.
const MAX_FILE: u64 = 1 << 20;

/// Reads a whole file.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Checks whether a file can be trusted, as [`crate::trust::check`] does.
pub type TrustFile<'a> = &'a dyn Fn(&Path, Need) -> Result<(), Untrusted>;

/// The sources of settings.
pub struct Sources<'a> {
    /// The environment.
    pub env: &'a Env,
    /// [`SYSTEM_FILE`], except in tests.
    pub system_file: &'a Path,
    /// [`read_file`], except in tests.
    pub read: ReadFile<'a>,
    /// [`crate::trust::check`], except in tests.
    pub trust: TrustFile<'a>,
}

impl Sources<'_> {
    /// Reads a file that only we and root may change, or also read.
    pub(super) fn read_trusted(&self, path: &Path, need: Need) -> Result<Vec<u8>, Untrusted> {
        (self.trust)(path, need)?;
        Ok((self.read)(path)?)
    }
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
