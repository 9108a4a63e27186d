//! `procstar prune`: deletes many ended processes at once.

use std::time::Duration;

use super::api::Api;
use super::error::ClientError;
use super::format;
use super::options::{PruneArgs, Selector};
use super::out::Out;

/// Deletes the selected ended processes, and prints their IDs.
///
/// # Errors
/// No filter given; no response.
pub async fn prune(args: &PruneArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    let mut selector = args.selector.clone();
    let any =
        selector.state.is_empty() && selector.label.is_empty() && selector.older_than.is_none();
    if any && !args.all {
        return Err(ClientError::Usage(
            "no filter given; add --state, --label or --older-than, or --all for all ended processes"
                .into(),
        ));
    }
    if args.all {
        selector = Selector { older_than: Some(Duration::ZERO), ..Selector::default() };
    }
    let ids = if args.dry_run {
        // Only an ended process has an age; the service selects by the same rule.
        let ended = selector.older_than.or(Some(Duration::ZERO));
        api.list(&Selector { older_than: ended, ..selector }).await?.into_keys().collect()
    } else {
        api.prune(&selector).await?
    };
    format::ids(&ids, args.format, args.null, out)?;
    Ok(0)
}
