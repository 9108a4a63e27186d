//! The restriction of specs: allowed executables, variables and files.
//!
//! A restriction guards against mistakes, and is a first barrier against authors of specs; it is
//! not a sandbox. An allowed program can do anything that it offers with arguments of the spec's
//! choice. The restriction excludes what would make *any* allowed program run other code, or make
//! the keeper read and write files for a spec: [variables](variables) that a loader or an
//! interpreter obeys, and files outside of the configured directories.

mod allowlist;
pub(super) mod open;
mod variables;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

pub use allowlist::Allowlist;

/// A restriction of specs.
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
    /// The path from there; it may still lead out, by `..` or a link.
    pub(super) rest: PathBuf,
}

impl Restriction {
    /// Restricts processes to these executables. Variables that a loader or an interpreter obeys
    /// are removed, and no file is opened.
    pub fn new(executables: Allowlist) -> Restriction {
        Restriction { executables, ..Restriction::default() }
    }

    /// The same restriction, but with these variables allowed.
    pub fn allow_variables(self, variables: Vec<String>) -> Restriction {
        Restriction { variables, ..self }
    }

    /// The same restriction, but with files below these directories allowed.
    pub fn allow_directories(self, directories: Vec<PathBuf>) -> Restriction {
        Restriction { directories, ..self }
    }

    /// The allowed executables.
    pub(super) fn executables(&self) -> &Allowlist {
        &self.executables
    }

    /// Whether a variable is allowed.
    pub(super) fn passes(&self, name: &[u8], value: &[u8]) -> bool {
        let listed = || self.variables.iter().any(|listed| listed.as_bytes() == name);
        !variables::runs_code(name, value) || listed()
    }

    /// The topmost allowed directory that contains an absolute path, by its text.
    pub(super) fn below(&self, path: &str) -> Option<Below> {
        let rest = |directory: &'_ PathBuf| {
            let rest = Path::new(path).strip_prefix(directory).ok()?.to_path_buf();
            // A path without a further name is the directory itself.
            Some(rest).filter(|rest| rest.components().next().is_some())
        };
        let found =
            self.directories.iter().filter_map(|directory| Some((directory, rest(directory)?)));
        found
            .max_by_key(|(_, rest)| rest.components().count())
            .map(|(directory, rest)| Below { directory: directory.clone(), rest })
    }

    /// Whether a path is below an allowed directory and contains no `..`.
    pub(super) fn holds(&self, path: &str) -> bool {
        self.below(path).is_some_and(|below| {
            below.rest.components().all(|part| matches!(part, Component::Normal(_)))
        })
    }

    /// The reason for refusing a file, for messages.
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
