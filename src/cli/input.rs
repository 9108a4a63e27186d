//! INPUT: the file or the standard input that a spec is read from.

use std::io::{self, Read};

use super::descriptor;
use crate::cli::invocation::Input;

/// INPUT cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {input}: {source}")]
pub struct InputError {
    /// The name of the file, or of standard input.
    input: String,
    source: io::Error,
}

/// Returns the text of a spec.
///
/// # Errors
/// [`InputError`].
pub(crate) fn read_text(input: &Input) -> Result<Vec<u8>, InputError> {
    let text = match input {
        Input::Stdin => {
            let mut text = Vec::new();
            io::stdin().read_to_end(&mut text).map(|_| text)
        }
        Input::File(path) => descriptor::read(path),
    };
    text.map_err(|source| InputError { input: name_of(input), source })
}

/// The name of INPUT in errors.
pub(crate) fn name_of(input: &Input) -> String {
    match input {
        Input::Stdin => "<stdin>".to_owned(),
        Input::File(path) => path.display().to_string(),
    }
}
