//! What a restricted keeper may start, and what its specs may hand to that.
//!
//! A restriction is a guard against mistakes and a first barrier against whoever writes specs; it is no sandbox. An allowed program
//! with arguments of the spec's choice can do whatever that program can do with them. What is kept out here is what
//! would make *any* allowed program run other code, or have the keeper read and write files for a spec: [variables](variables) that
//! a loader or an interpreter obeys, and files outside of the configured directories.

mod allowlist;
pub(super) mod open;
mod variables;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

pub use allowlist::Allowlist;

/// What specs are restricted to.
#[derive(Clone, Debug, Default)]
pub struct Restriction {
    executables: Allowlist,
    variables: Vec<String>,
    directories: Vec<PathBuf>,
}

/// A file below one of the directories that a restriction allows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Below {
    /// The directory.
    pub(super) directory: PathBuf,
    /// The path from there; it may still lead out, by `..` or by a link.
    pub(super) rest: PathBuf,
}

impl Restriction {
    /// Restricts processes to these executables. No variable that a loader or an interpreter obeys is passed on, and no file is opened.
    pub fn new(executables: Allowlist) -> Restriction {
        Restriction { executables, ..Restriction::default() }
    }

    /// The same, with these variables passed on all the same.
    pub fn allow_variables(self, variables: Vec<String>) -> Restriction {
        Restriction { variables, ..self }
    }

    /// The same, with files below these directories.
    pub fn allow_directories(self, directories: Vec<PathBuf>) -> Restriction {
        Restriction { directories, ..self }
    }

    /// What may be started.
    pub(super) fn executables(&self) -> &Allowlist {
        &self.executables
    }

    /// Whether a variable is passed on.
    pub(super) fn passes(&self, name: &[u8], value: &[u8]) -> bool {
        let listed = || self.variables.iter().any(|listed| listed.as_bytes() == name);
        !variables::runs_code(name, value) || listed()
    }

    /// The allowed directory that an absolute path is below, by its text; of several the highest.
    pub(super) fn below(&self, path: &str) -> Option<Below> {
        let rest = |directory: &'_ PathBuf| {
            let rest = Path::new(path).strip_prefix(directory).ok()?.to_path_buf();
            // Without a name in it, it is the directory itself.
            Some(rest).filter(|rest| rest.components().next().is_some())
        };
        let found =
            self.directories.iter().filter_map(|directory| Some((directory, rest(directory)?)));
        found
            .max_by_key(|(_, rest)| rest.components().count())
            .map(|(directory, rest)| Below { directory: directory.clone(), rest })
    }

    /// Whether a path is below an allowed directory without going up anywhere.
    pub(super) fn holds(&self, path: &str) -> bool {
        self.below(path).is_some_and(|below| {
            below.rest.components().all(|part| matches!(part, Component::Normal(_)))
        })
    }

    /// Why a file is refused, for people.
    pub(super) fn refusal(&self, path: &str) -> String {
        let all = || self.directories.iter().map(|directory| directory.as_os_str());
        let all: Vec<&[u8]> = all().map(OsStr::as_bytes).collect();
        match all.as_slice() {
            [] => format!(
                "{path}: run.allowed_executables allows no file; list its directory in run.allowed_directories"
            ),
            some => format!(
                "{path} is not below run.allowed_directories ({})",
                String::from_utf8_lossy(&some.join(&b", "[..]))
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_below_a_directory_by_whole_names() {
        let restriction =
            Restriction::default().allow_directories(vec!["/srv/a".into(), "/srv/a/b/".into()]);
        for (path, rest) in [
            ("/srv/a/x", Some("x")),
            ("/srv/a/b/x", Some("b/x")),
            ("/srv//a/./x/", Some("x")),
            ("/srv/a/../x", Some("../x")),
            ("/srv/a", None),
            ("/srv/a/", None),
            ("/srv/ab", None),
            ("/srv/../srv/a/x", None),
            ("srv/a/x", None),
            ("", None),
        ] {
            let below = restriction.below(path);
            assert_eq!(below.map(|below| below.rest), rest.map(PathBuf::from), "{path}");
        }
        assert!(restriction.holds("/srv/a/x/y") && !restriction.holds("/srv/a/../x"));
        assert!(!restriction.holds("/srv/a/x/../y") && !restriction.holds("/etc/passwd"));
        assert!(!Restriction::default().holds("/srv/a/x"));
    }

    #[test]
    fn a_listed_variable_is_passed_on() {
        let restriction = Restriction::default().allow_variables(vec!["LD_LIBRARY_PATH".into()]);
        assert!(restriction.passes(b"LD_LIBRARY_PATH", b"/opt/lib"));
        assert!(!restriction.passes(b"LD_PRELOAD", b"/opt/lib/x.so"));
        assert!(restriction.passes(b"HOME", b"/root"));
    }
}
