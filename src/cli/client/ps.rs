//! `procstar ps`: the processes of an instance.

use super::api::Api;
use super::error::ClientError;
use super::forms;
use super::options::{Form, PsArgs};
use super::out::Out;

/// Prints the processes that are meant.
///
/// # Errors
/// They cannot be had, or not be written.
pub async fn ps(args: &PsArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    if args.form == Form::Jsonl {
        // As they come: nothing needs all of them.
        let mut next = None;
        loop {
            let (page, after) = api.page(&args.which, next.as_deref()).await?;
            forms::jsonl(&page, out)?;
            next = after;
            if next.is_none() {
                return Ok(0);
            }
        }
    }
    let results = api.list(&args.which).await?;
    if args.quiet || args.null {
        let ids: Vec<String> = results.into_keys().collect();
        forms::ids(&ids, Form::Table, args.null, out)?;
    } else {
        forms::list(&results, args.form, api, out)?;
    }
    Ok(0)
}
