//! The working directory, and paths relative to it.

use std::path::Path;

/// The current working directory of this process.
pub(super) fn own_cwd() -> Option<String> {
    std::env::current_dir().ok().map(|path| path.to_string_lossy().into_owned())
}

/// A path relative to a directory.
pub(super) fn below(cwd: Option<&str>, path: &str) -> String {
    match cwd {
        Some(cwd) if !path.starts_with('/') => {
            Path::new(cwd).join(path).to_string_lossy().into_owned()
        }
        _ => path.to_owned(),
    }
}
