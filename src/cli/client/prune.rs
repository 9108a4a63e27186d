//! `procstar prune`: forgets many ended processes at once.

use std::time::Duration;

use super::api::Api;
use super::error::ClientError;
use super::forms;
use super::options::{PruneArgs, Which};
use super::out::Out;

/// Forgets the ended processes that are meant, and prints their IDs.
///
/// # Errors
/// Nothing says which; there is no answer.
pub async fn prune(args: &PruneArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    let mut which = args.which.clone();
    let any = which.state.is_empty() && which.label.is_empty() && which.older_than.is_none();
    if any && !args.all {
        return Err(ClientError::Usage(
            "prune what? give --state, --label or --older-than, or --all for all that have ended"
                .into(),
        ));
    }
    if args.all {
        which = Which { older_than: Some(Duration::ZERO), ..Which::default() };
    }
    let ids = if args.dry_run {
        // Who has an age has ended, as the service sees it too.
        let ended = which.older_than.or(Some(Duration::ZERO));
        api.list(&Which { older_than: ended, ..which }).await?.into_keys().collect()
    } else {
        api.prune(&which).await?
    };
    forms::ids(&ids, args.form, args.null, out)?;
    Ok(0)
}
