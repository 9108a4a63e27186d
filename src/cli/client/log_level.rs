//! `procstar log-level`: prints or changes the log level of an instance.

use clap::ValueEnum;

use super::api::Api;
use super::error::ClientError;
use super::options::{Level, LogLevelArgs};
use super::out::Out;
use crate::api::Levels;

/// Changes the level, if the arguments name one; prints the present one.
///
/// # Errors
/// No response.
pub async fn log_level(args: &LogLevelArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    let Levels { level, configured } = match args.level {
        None => api.log_level().await?,
        Some(Level::Configured) => api.set_log_level(None).await?,
        Some(level) => {
            let value = level.to_possible_value();
            api.set_log_level(value.as_ref().map(|value| value.get_name())).await?
        }
    };
    if level == configured {
        out.line(&level)?;
    } else {
        out.line(&format!("{level} (configured: {configured})"))?;
    }
    Ok(0)
}
