//! `procstar kill`: sends a signal.

use super::api::Api;
use super::each::for_each;
use super::error::ClientError;
use super::options::KillArgs;
use super::out::Out;

/// Sends a signal to each process, and prints the ID of each that received it.
///
/// # Errors
/// No response.
pub async fn kill(args: &KillArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    for_each(&args.ids, async |id| {
        api.signal(id, &args.signal).await?;
        out.id(id)
    })
    .await
}
