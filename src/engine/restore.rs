//! Recreation of removed capture directories.

use std::io;
use std::sync::Arc;

/// Recreates the directories.
pub type Restore = Arc<dyn Fn() -> std::io::Result<()> + Send + Sync>;

/// Runs `act` on files in the capture directories; if a directory is missing and can be recreated,
/// runs it again.
pub(super) fn with_dirs<T>(
    restore: Option<&Restore>,
    mut act: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    match (act(), restore) {
        (Err(error), Some(restore)) if error.kind() == io::ErrorKind::NotFound => {
            restore().map_err(|_| error)?;
            act()
        }
        (done, _) => done,
    }
}
