//! One action for several IDs.

use crate::cli::client::error::ClientError;
use crate::cli::client::message::print_message;

/// Performs an action for each ID, after a failure too. Returns the exit code.
pub(super) async fn for_each<F: AsyncFnMut(&str) -> Result<(), ClientError>>(
    ids: &[String],
    mut act: F,
) -> Result<u8, ClientError> {
    let mut code = 0;
    for id in ids {
        match act(id).await {
            Ok(()) => {}
            Err(error @ ClientError::Refused { .. }) => {
                print_message(&error.to_string());
                code = error.exit_code();
            }
            Err(error) => return Err(error),
        }
    }
    Ok(code)
}
