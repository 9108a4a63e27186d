//! `procstar wait`: waits for the end of processes.

use std::time::Instant;

use super::api::{Api, Results};
use super::error::ClientError;
use super::format;
use super::options::WaitArgs;
use super::out::Out;
use super::proc::Proc;
use crate::report::status::ProcState;

/// The exit code if waiting failed, or the process was not started as specified.
pub const FAILED: u8 = 125;
/// The exit code after the timeout.
const TIMEOUT: u8 = 124;

/// Waits for all of the processes; returns the exit code of the first that has failed.
///
/// # Errors
/// An unknown process, or no response.
pub async fn wait(args: &WaitArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    let mut results = Results::new();
    let mut code = 0;
    for id in &args.ids {
        let result = until_ended(api, id, deadline).await?;
        let proc = Proc::of(&result).map_err(|reason| api.nonsense(reason))?;
        if proc.is_running() {
            let after = args.timeout.unwrap_or_default().as_secs_f64();
            super::message::print_message(&format!("process still running after {after} s: {id}"));
            return Ok(TIMEOUT);
        }
        if code == 0 {
            code = exit_code(&proc);
        }
        results.insert(id.clone(), result);
    }
    if let Some(format) = args.format {
        format::list(&results, format, api, out)?;
    }
    Ok(code)
}

/// The result of a process once it has ended, or at the timeout.
///
/// # Errors
/// As [`wait`].
pub async fn until_ended(
    api: &Api,
    id: &str,
    deadline: Option<Instant>,
) -> Result<Box<serde_json::value::RawValue>, ClientError> {
    loop {
        let result = api.ended(id, deadline).await?;
        let proc = Proc::of(&result).map_err(|reason| api.nonsense(reason))?;
        if !proc.is_running() || deadline.is_some_and(|at| Instant::now() >= at) {
            return Ok(result);
        }
    }
}

/// The exit code that a shell would report.
fn exit_code(proc: &Proc) -> u8 {
    match &proc.status {
        Some(status) if proc.state != ProcState::Error => {
            let code = match (status.signum, status.exit_code) {
                (Some(signum), _) => 128 + signum.min(127),
                (None, code) => code.unwrap_or(FAILED.into()),
            };
            u8::try_from(code).unwrap_or(FAILED)
        }
        _ => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::proc::sample;
    use serde_json::json;

    #[test]
    fn exit_codes_are_a_shells() {
        for (state, code, signum, wanted) in [
            ("terminated", Some(7), None, 7),
            ("terminated", None, Some(15), 143),
            ("terminated", None, Some(64), 192),
            ("error", Some(127), None, FAILED),
            ("error", None, Some(9), FAILED),
        ] {
            let status =
                json!({"exit_code": code, "signum": signum, "signal": null, "core_dump": false});
            let proc = sample(&json!({"state": state, "status": status}));
            assert_eq!(exit_code(&proc), wanted, "{state} {code:?} {signum:?}");
        }
    }
}
