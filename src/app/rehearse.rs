//! The rehearsal of a start, for a keeper that is to be replaced: whether a worker of this program
//! would start in place of the present one.

use std::ffi::OsString;
use std::os::fd::RawFd;

use crate::app::listening::Before;
use crate::app::prepare::rehearse_start;
use crate::cli::invocation::Invocation;
use crate::cli::parse;
use crate::config::Env;

/// Whether a worker would start with these arguments, this environment and their configuration, in
/// place of the worker of the keeper `before`; `fds` are the descriptors that this process was
/// started with. Changes nothing.
///
/// # Errors
/// The reason why it would not start, for the user.
pub fn rehearse(
    args: impl Iterator<Item = OsString>,
    env: &Env,
    fds: &[RawFd],
    before: &Before<'_>,
) -> Result<(), String> {
    match parse::parse(args, env) {
        Ok(Invocation::Run(options)) => {
            rehearse_start(&options, env, fds, before).map_err(|error| error.to_string())
        }
        Ok(_) => Err("its arguments do not start an instance".to_owned()),
        Err(error) => {
            let text = error.text().trim_end();
            Err(text.strip_prefix("procstar: ").unwrap_or(text).to_owned())
        }
    }
}
