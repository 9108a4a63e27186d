//! `procstar stop`: a signal, SIGKILL after a grace period, and a wait for the end.

use serde_json::json;

use super::api::Api;
use super::each::for_each;
use super::error::ClientError;
use super::options::StopArgs;
use super::out::Out;
use super::wait::until_ended;

/// Stops all processes at the same time, and prints the ID of each that has ended.
///
/// # Errors
/// No response.
pub async fn stop(args: &StopArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    let mut how = json!({});
    if let (Some(signal), Some(how)) = (&args.signal, how.as_object_mut()) {
        // The service distinguishes numbers from names by their JSON type.
        let signal = signal.parse::<i32>().map_or_else(|_| json!(signal), |number| json!(number));
        how.insert("signal".into(), signal);
    }
    if let (Some(grace), Some(how)) = (args.grace, how.as_object_mut()) {
        how.insert("grace".into(), json!(grace.as_secs_f64()));
    }
    let mut asked = Vec::new();
    let refused = for_each(&args.ids, async |id| {
        api.stop(id, &how).await?;
        asked.push(id.to_owned());
        Ok(())
    })
    .await?;
    let lost = for_each(&asked, async |id| {
        if !args.no_wait {
            until_ended(api, id, None).await?;
        }
        out.id(id)
    })
    .await?;
    Ok(refused.max(lost))
}
