//! `procstar rm`: deletes processes.

use super::api::Api;
use super::each::for_each;
use super::error::ClientError;
use super::options::RmArgs;
use super::out::Out;
use super::wait::until_ended;

/// Deletes each process, and prints the ID of each that is deleted.
///
/// # Errors
/// No response.
pub async fn rm(args: &RmArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    for_each(&args.ids, async |id| {
        if args.force {
            kill(api, id).await?;
        }
        match api.delete(id).await {
            Err(ClientError::Refused { status: 409, .. }) if !args.force => {
                Err(ClientError::Failed(format!(
                    "process is running: {id}; stop it first (procstar stop {id}), or use rm --force"
                )))
            }
            Err(error) => Err(error),
            Ok(()) => out.id(id),
        }
    })
    .await
}

/// Kills a process if it runs, and waits until it has ended.
async fn kill(api: &Api, id: &str) -> Result<(), ClientError> {
    match api.signal(id, "SIGKILL").await {
        // It has ended already.
        Err(ClientError::Refused { status: 409, .. }) => {}
        sent => sent?,
    }
    until_ended(api, id, None).await.map(drop)
}
