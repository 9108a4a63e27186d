//! The environment of a process, with what is read from files for it.

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_char};
use std::fs::File;
use std::io::{self, Read};

use indexmap::IndexMap;

use super::super::faults::{self, Call};
use super::super::{Stage, StartFailure};
use super::{Heritage, attributes, pointers};
use crate::spec::{EnvSpec, Inherit, VarSpec, VarValue};

/// The longest string that the kernel takes at an exec: the variable, with its name and the NUL behind it.
const LONGEST: usize = 128 * 1024;
/// What is shown in place of a secret value.
const MASK: &str = "***";

/// A child's environment.
pub(super) struct Environment {
    /// Null-terminated; points into `own` and the heritage.
    pub(super) envp: Vec<*const c_char>,
    /// The strings that are not the agent's own.
    pub(super) own: Vec<CString>,
    /// The value of PATH.
    pub(super) path: Option<CString>,
    /// What results show, where that is asked for.
    pub(super) shown: Option<IndexMap<String, String>>,
}

/// Makes the environment that `env` asks for.
///
/// # Errors
/// Each file that cannot be read, or whose content is no value.
pub(super) fn make(env: &EnvSpec, heritage: &Heritage) -> Result<Environment, Vec<StartFailure>> {
    let mut own = Vec::new();
    let mut failures = Vec::new();
    for (name, value) in &env.vars {
        let value = match value {
            VarSpec::Text(value) | VarSpec::Detailed(VarValue { value: Some(value), .. }) => {
                Cow::Borrowed(value.as_bytes())
            }
            VarSpec::Detailed(VarValue { file: Some(path), .. }) => {
                match read(name, path).map_err(|e| attributes::failure(Stage::Env, &e, Some(path)))
                {
                    Ok(value) => Cow::Owned(value),
                    Err(failure) => {
                        failures.push(failure);
                        continue;
                    }
                }
            }
            VarSpec::Unset | VarSpec::Detailed(_) => continue,
        };
        // Validation and reading have left no NUL in it.
        own.extend(CString::new([name.as_bytes(), b"=", value.as_ref()].concat()));
    }
    if !failures.is_empty() {
        return Err(failures);
    }
    let inherited: Vec<&CString> =
        heritage.variables.iter().filter(|variable| is_inherited(env, name(variable))).collect();
    let all = || inherited.iter().copied().chain(&own);
    let path = all().rfind(|variable| name(variable) == b"PATH");
    let path = path.and_then(|variable| CString::new(value(variable)).ok());
    let shown = env.report.then(|| all().map(|variable| shown(env, variable)).collect());
    let envp = pointers(all());
    Ok(Environment { envp, own, path, shown })
}

fn is_inherited(env: &EnvSpec, name: &[u8]) -> bool {
    let asked = match &env.inherit {
        Inherit::All => true,
        Inherit::None => false,
        Inherit::Names(names) => names.iter().any(|wanted| wanted.as_bytes() == name),
    };
    asked && !env.vars.keys().any(|given| given.as_bytes() == name)
}

/// Reads a variable's value from a file, less one newline at its end.
fn read(name: &str, path: &str) -> io::Result<Vec<u8>> {
    faults::pass(Call::EnvFile)?;
    let most = LONGEST.saturating_sub(name.len() + "=\0".len());
    let mut value = Vec::new();
    // One newline more, and one byte more, to see that it is too long.
    File::open(path)?.take(most as u64 + 2).read_to_end(&mut value)?;
    if value.last() == Some(&b'\n') {
        value.pop();
    }
    if value.len() > most {
        Err(io::Error::from_raw_os_error(libc::E2BIG))
    } else if value.contains(&0) {
        Err(io::Error::from_raw_os_error(libc::EILSEQ))
    } else {
        Ok(value)
    }
}

fn name(variable: &CStr) -> &[u8] {
    let bytes = variable.to_bytes();
    bytes.split(|b| *b == b'=').next().unwrap_or(bytes)
}

fn value(variable: &CStr) -> &[u8] {
    variable.to_bytes().get(name(variable).len() + 1..).unwrap_or_default()
}

/// A variable as results show it.
fn shown(env: &EnvSpec, variable: &CStr) -> (String, String) {
    let name = String::from_utf8_lossy(name(variable)).into_owned();
    let secret = matches!(env.vars.get(&name), Some(VarSpec::Detailed(value)) if value.secret);
    let value =
        if secret { MASK.into() } else { String::from_utf8_lossy(value(variable)).into_owned() };
    (name, value)
}
