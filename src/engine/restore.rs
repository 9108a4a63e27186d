//! The directories of captures, made once more if somebody has removed them.

use std::io;
use std::sync::Arc;

/// What makes directories again.
pub type Restore = Arc<dyn Fn() -> std::io::Result<()> + Send + Sync>;

/// Does something in the directories of captures; once more where they were gone and could be made
/// again.
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
