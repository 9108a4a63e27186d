//! The allowed executables.

use std::fmt;
use std::path::Path;

use glob::{MatchOptions, Pattern};

/// Allowed executables: literal paths, and globs that match an executable's real path.
#[derive(Clone, Debug, Default)]
pub struct Allowlist {
    written: Vec<String>,
    globs: Vec<Glob>,
}

#[derive(Clone, Debug)]
struct Glob {
    pattern: Pattern,
    /// The leading directories without special characters, with a slash at the end.
    directory: String,
    /// The rest of the glob.
    rest: String,
}

/// `*` and `?` do not match a slash, `**` does; a leading dot needs no explicit match.
const MATCHING: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// The characters that make a path a glob.
const SPECIAL: [char; 3] = ['*', '?', '['];

impl Allowlist {
    /// An allowlist of paths and globs.
    ///
    /// # Errors
    /// The problem with a glob, for the user.
    pub fn new(written: Vec<String>) -> Result<Allowlist, String> {
        let globs = written
            .iter()
            .filter(|text| text.contains(SPECIAL))
            .map(|text| Glob::new(text).map_err(|error| format!("{text:?} is no glob: {error}")))
            .collect::<Result<_, _>>()?;
        Ok(Allowlist { written, globs })
    }

    /// Whether an executable is literally among the paths.
    pub fn names(&self, exe: &str) -> bool {
        self.written.iter().any(|written| written == exe)
    }

    /// Whether a glob matches an executable's real path.
    pub fn matches(&self, real: &Path) -> bool {
        real.to_str().is_some_and(|real| self.globs.iter().any(|glob| glob.matches(real)))
    }
}

impl fmt::Display for Allowlist {
    /// All entries as written, joined by colons.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written.join(":"))
    }
}

impl Glob {
    fn new(text: &str) -> Result<Glob, glob::PatternError> {
        let plain = text.find(SPECIAL).unwrap_or(text.len());
        let end = text.get(..plain).and_then(|plain| plain.rfind('/')).map_or(0, |slash| slash + 1);
        let (directory, rest) = text.split_at_checked(end).unwrap_or(("", text));
        Ok(Glob {
            pattern: Pattern::new(text)?,
            directory: directory.to_owned(),
            rest: rest.to_owned(),
        })
    }

    /// Whether the glob matches a real path, also if the glob's own directories are links, as
    /// `/bin` often is.
    fn matches(&self, real: &str) -> bool {
        if self.pattern.matches_with(real, MATCHING) {
            return true;
        }
        let directory = std::fs::canonicalize(&self.directory).ok();
        let pattern = directory.as_deref().and_then(Path::to_str).and_then(|directory| {
            let directory = Pattern::escape(directory.trim_end_matches('/'));
            Pattern::new(&format!("{directory}/{}", self.rest)).ok()
        });
        pattern.is_some_and(|pattern| pattern.matches_with(real, MATCHING))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_globs() {
        let table: &[(&str, &str, bool)] = &[
            ("/opt/tools/*", "/opt/tools/x", true),
            ("/opt/tools/*", "/opt/tools/.x", true),
            ("/opt/tools/*", "/opt/tools/x/y", false),
            ("/opt/tools/**", "/opt/tools/x/y", true),
            ("/opt/**/run", "/opt/a/b/run", true),
            ("/opt/tools/run-?", "/opt/tools/run-7", true),
            ("/opt/tools/run?x", "/opt/tools/run/x", false),
            ("/opt/tools/[a-c]x", "/opt/tools/bx", true),
            ("/opt/tools/[!a-c]x", "/opt/tools/bx", false),
            ("/opt/tools/[!a-c]x", "/opt/tools//x", false),
            ("/opt/tools/run", "/opt/tools/run", false),
        ];
        for (glob, real, wanted) in table {
            let allowlist = Allowlist::new(vec![(*glob).to_owned()]).unwrap();
            assert_eq!(allowlist.matches(Path::new(real)), *wanted, "{glob} {real}");
            assert!(allowlist.names(glob) && !allowlist.names("/"));
        }
        for bad in ["/a/[", "/a/b**"] {
            assert!(Allowlist::new(vec![bad.to_owned()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_glob_below_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        std::fs::create_dir(dir.join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.join("link")).unwrap();
        let glob = format!("{}/link/*", dir.display());
        let allowlist = Allowlist::new(vec![glob.clone()]).unwrap();
        assert!(allowlist.matches(&dir.join("real/x")));
        assert!(!allowlist.matches(&dir.join("other/x")));
        assert_eq!(allowlist.to_string(), glob);
    }
}
