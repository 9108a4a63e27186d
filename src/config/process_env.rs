//! The environment that this process was started with.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::OnceLock;

/// An environment: names and values need not be UTF-8.
pub type Env = BTreeMap<OsString, OsString>;

/// Variables that were removed from this process's environment, because other processes could read
/// them there.
static CONCEALED: OnceLock<Env> = OnceLock::new();

/// Sets the variables that [`process_env`] returns besides those of the environment. Only the first
/// call has an effect.
pub(crate) fn conceal(secrets: Env) {
    // A second call does not occur.
    let _ = CONCEALED.set(secrets);
}

/// The variables set by [`conceal`].
pub(crate) fn concealed() -> &'static Env {
    CONCEALED.get_or_init(Env::new)
}

/// The environment that this process was started with, secrets included.
pub fn process_env() -> Env {
    std::env::vars_os().chain(concealed().clone()).collect()
}

/// A variable's value; an empty one counts as unset.
pub(super) fn non_empty<'e>(env: &'e Env, name: &str) -> Option<&'e OsStr> {
    env.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
}
