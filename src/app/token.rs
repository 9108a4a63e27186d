//! Tokens whose files may be replaced while the program runs.

use std::path::Path;
use std::sync::Arc;

use crate::config::{Secret, read_secret_file};
use crate::error_chain::chain;
use crate::rotating::Rotating;

/// A token; if it comes from a file, it is read again when the file changes.
pub(super) fn rotating_token(
    setting: &'static str,
    token: Secret,
    file: Option<&Path>,
) -> Rotating<Secret> {
    let Some(file) = file.map(Path::to_path_buf) else { return Arc::new(token).into() };
    let files = vec![file.clone()];
    Rotating::made_before(token, setting, files, move || {
        read_secret_file(setting, &file).map_err(|error| chain(&error))
    })
}
