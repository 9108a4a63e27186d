//! The environment of a process, including values that are read from files.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use indexmap::IndexMap;

use super::accounts::OtherUser;
use super::cwd;
use super::inherited::Inherited;
use super::strings::pointers;
use crate::engine::below::{self, WalkError};
use crate::engine::creds::Creds;
use crate::engine::failpoints::{self, Call};
use crate::engine::failure::{Stage, StartFailure};
use crate::engine::helpers;
use crate::engine::restriction::{Restriction, open};
use crate::spec::{EnvSpec, Inherit, VarSpec, VarValue, is_inherited_by_others};

/// The longest string that the kernel accepts at exec: a variable with its name and NUL.
const LONGEST: usize = 128 * 1024;
/// Timeout of reading a file.
const PATIENCE: Duration = Duration::from_secs(10);
/// Shown in place of a secret value.
const MASK: &str = "***";
/// The shell of a user whose entry names none.
const SHELL: &[u8] = b"/bin/sh";

/// A child's environment.
pub(super) struct Environment {
    /// Null-terminated; points into `own` and the inherited.
    pub(super) envp: Vec<*const c_char>,
    /// The strings that are not the keeper's own.
    pub(super) own: Vec<CString>,
    /// The value of PATH.
    pub(super) path: Option<CString>,
    /// The size of the variables.
    pub(super) size: Size,
    /// The variables for results, if the spec asks for them.
    pub(super) shown: Option<IndexMap<String, String>>,
    /// The names of the variables that a restriction has removed, sorted.
    pub(super) dropped: Vec<String>,
}

/// The size of variables.
#[derive(Default)]
pub(super) struct Size {
    pub(super) count: usize,
    /// All bytes, with names and NULs.
    pub(super) bytes: usize,
    /// The length of the longest variable, without its NUL.
    pub(super) longest: usize,
    /// The name of the longest variable.
    pub(super) name: Option<String>,
}

impl Size {
    fn of<'a>(variables: impl Iterator<Item = &'a CString> + Clone) -> Size {
        let longest = variables.clone().max_by_key(|variable| variable.as_bytes().len());
        Size {
            count: variables.clone().count(),
            bytes: variables.map(|variable| variable.as_bytes_with_nul().len()).sum(),
            longest: longest.map_or(0, |variable| variable.as_bytes().len()),
            name: longest.map(|variable| String::from_utf8_lossy(name(variable)).into_owned()),
        }
    }
}

/// Makes the environment of a spec, for a process of our own user or another one, within a
/// restriction.
///
/// # Errors
/// Each file that cannot be read, is not allowed, or has an invalid value.
pub(super) fn make(
    env: &EnvSpec,
    inherited: &Inherited,
    other: Option<&OtherUser>,
    restriction: Option<&Restriction>,
) -> Result<Environment, Vec<StartFailure>> {
    let mut own: Vec<CString> = other.map(|user| of_user(env, user)).unwrap_or_default();
    let mut failures = Vec::new();
    for (name, value) in &env.vars {
        let value = match value {
            VarSpec::Text(value) | VarSpec::Detailed(VarValue { value: Some(value), .. }) => {
                Cow::Borrowed(value.as_bytes())
            }
            VarSpec::Detailed(VarValue { file: Some(path), .. }) => {
                match read(name, path, restriction) {
                    Ok(value) => Cow::Owned(value),
                    Err(failure) => {
                        failures.push(failure);
                        continue;
                    }
                }
            }
            VarSpec::Unset | VarSpec::Detailed(_) => continue,
        };
        // Validation and reading have excluded NULs.
        own.extend(CString::new([name.as_bytes(), b"=", value.as_ref()].concat()));
    }
    if !failures.is_empty() {
        return Err(failures);
    }
    let mut inherited: Vec<&CString> = (inherited.variables.iter())
        .filter(|variable| is_inherited(env, other.is_some(), name(variable)))
        .collect();
    let mut dropped = BTreeSet::new();
    if let Some(restriction) = restriction {
        let mut passes = |variable: &CStr| {
            let passes = restriction.passes(name(variable), value(variable));
            if !passes {
                dropped.insert(String::from_utf8_lossy(name(variable)).into_owned());
            }
            passes
        };
        inherited.retain(|variable| passes(variable));
        own.retain(|variable| passes(variable));
    }
    let all = || inherited.iter().copied().chain(&own);
    let path = all().rfind(|variable| name(variable) == b"PATH");
    let path = path.and_then(|variable| CString::new(value(variable)).ok());
    let shown = env.in_result.then(|| all().map(|variable| shown(env, variable)).collect());
    let envp = pointers(all());
    let size = Size::of(all());
    Ok(Environment { envp, own, path, size, shown, dropped: dropped.into_iter().collect() })
}

fn is_inherited(env: &EnvSpec, by_other: bool, name: &[u8]) -> bool {
    let inherited = match &env.inherit {
        None if by_other => is_inherited_by_others(name),
        None => true,
        Some(Inherit::All) => !by_other || OF_USER.iter().all(|own| own.as_bytes() != name),
        Some(Inherit::None) => false,
        Some(Inherit::Names(names)) => names.iter().any(|wanted| wanted.as_bytes() == name),
    };
    inherited && !env.vars.keys().any(|given| given.as_bytes() == name)
}

/// The variables that describe a process's user.
const OF_USER: [&str; 4] = ["HOME", "USER", "LOGNAME", "SHELL"];

/// Those variables for another user, except those that the spec sets, removes, or inherits by name.
/// A user without an entry gets the values of a container: a home at the root, and no name.
fn of_user(env: &EnvSpec, user: &OtherUser) -> Vec<CString> {
    let values: [Option<&[u8]>; 4] = match &user.entry {
        Some(entry) => {
            let name = entry.name.as_bytes();
            let [home, shell] = [&entry.home, &entry.shell].map(|path| path.as_os_str().as_bytes());
            // The default of login(1) and passwd(5).
            let shell = if shell.is_empty() { SHELL } else { shell };
            [Some(home), Some(name), Some(name), Some(shell)]
        }
        None => [Some(b"/"), None, None, Some(SHELL)],
    };
    let by_name = |name: &str| match &env.inherit {
        Some(Inherit::Names(names)) => names.iter().any(|wanted| wanted == name),
        _ => false,
    };
    (OF_USER.iter().zip(values))
        .filter(|(name, _)| !env.vars.contains_key(**name) && !by_name(name))
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value?].concat()).ok())
        .collect()
}

/// Reads a variable's value from a file, less one newline at its end. Reading uses our rights, and
/// the process may write in the file's directory. So links there are not followed, under a
/// restriction no link may lead out of the allowed directory, and a hung file system is not waited
/// for.
fn read(
    name: &str,
    path: &str,
    restriction: Option<&Restriction>,
) -> Result<Vec<u8>, StartFailure> {
    let absolute = cwd::below(cwd::own_cwd().as_deref(), path);
    let below = restriction.map(|restriction| {
        restriction.below(&absolute).ok_or_else(|| StartFailure {
            detail: Some(restriction.refusal(&absolute)),
            ..StartFailure::new(Stage::Env, libc::EPERM, Some(path.to_owned()))
        })
    });
    let below = below.transpose()?;
    let plain = PathBuf::from(path);
    let opened = move || {
        let inside = below.map(|below| open::below(&below)).transpose()?;
        let file = File::from(below::read(&plain)?);
        match inside {
            // A directory of the path was moved meanwhile.
            Some(inside) if !open::are_same(&inside, &file) => {
                Err(io::Error::from_raw_os_error(libc::EXDEV).into())
            }
            _ => Ok(file),
        }
    };
    content(name, opened).map_err(|error: WalkError| error.failure(Stage::Env, path))
}

/// A variable's value.
fn content(
    name: &str,
    open: impl FnOnce() -> Result<File, WalkError> + Send + 'static,
) -> Result<Vec<u8>, WalkError> {
    failpoints::check(Call::EnvFile)?;
    let most = LONGEST.saturating_sub(name.len() + "=\0".len());
    let mut value = helpers::wait(&Creds::default(), PATIENCE, move || {
        let file = open()?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL).into());
        }
        let mut value = Vec::new();
        // One byte for the newline, and one to detect an overlong value.
        file.take(most as u64 + 2).read_to_end(&mut value)?;
        Ok::<_, WalkError>(value)
    })?;
    if value.last() == Some(&b'\n') {
        value.pop();
    }
    if value.len() > most {
        Err(io::Error::from_raw_os_error(libc::E2BIG).into())
    } else if value.contains(&0) {
        Err(io::Error::from_raw_os_error(libc::EILSEQ).into())
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

/// A variable as results show it, with secrets masked.
fn shown(env: &EnvSpec, variable: &CStr) -> (String, String) {
    let name = String::from_utf8_lossy(name(variable)).into_owned();
    let secret = matches!(env.vars.get(&name), Some(VarSpec::Detailed(value)) if value.secret);
    let value =
        if secret { MASK.into() } else { String::from_utf8_lossy(value(variable)).into_owned() };
    (name, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_variable_is_read_from_a_regular_file_below_no_link_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let value = |name: &str| {
            let read = read("NAME", path.join(name).to_str().unwrap(), None);
            read.map(|value| String::from_utf8(value).unwrap()).map_err(|error| error.errno)
        };
        std::fs::write(path.join("file"), "value\n").unwrap();
        symlink("file", path.join("link")).unwrap();
        assert_eq!((value("file"), value("link")), (Ok("value".into()), Ok("value".into())));
        // Without a writer, opening it would block for ever.
        nix::unistd::mkfifo(&path.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(value("fifo"), Err(libc::EINVAL));
        // Any user may have made the link.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!((value("file"), value("link")), (Ok("value".into()), Err(libc::ELOOP)));
    }
}
