//! `procstar ps`: the processes of an instance.

use super::api::Api;
use super::error::ClientError;
use super::format;
use super::options::{ListFormat, PsArgs};
use super::out::Out;

/// Prints the selected processes.
///
/// # Errors
/// No response, or a failure to write.
pub async fn ps(args: &PsArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    if args.format == ListFormat::Jsonl {
        // Page by page: this format does not need all results at once.
        let mut next = None;
        loop {
            let (page, after) = api.page(&args.selector, next.as_deref()).await?;
            format::jsonl(&page, out)?;
            next = after;
            if next.is_none() {
                return Ok(0);
            }
        }
    }
    let results = api.list(&args.selector).await?;
    if args.quiet || args.null {
        let ids: Vec<String> = results.into_keys().collect();
        format::ids(&ids, ListFormat::Table, args.null, out)?;
    } else {
        format::list(&results, args.format, api, out)?;
    }
    Ok(0)
}
