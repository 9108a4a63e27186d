//! Files that only their owner can read: tokens and keys.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes a secret into a file with mode 0600.
pub fn write_secret(path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_ref()).unwrap();
}
