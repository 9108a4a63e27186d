//! Validation of a process's sandbox.

use super::Check;
use crate::spec::sandbox::{is_within, normal};
use crate::spec::{Sandbox, SandboxSpec, SpecPath};

impl Check {
    /// Checks the sandbox of a process, and applies its profile.
    pub(super) fn sandbox(&mut self, place: &SpecPath, spec: &SandboxSpec) -> Sandbox {
        let sandbox = spec.resolve();
        let lists = [
            ("read_only_paths", &spec.read_only_paths),
            ("writable_paths", &spec.writable_paths),
            ("hidden_paths", &spec.hidden_paths),
        ];
        let count: usize = lists.iter().map(|(_, list)| list.iter().flatten().count()).sum();
        if count > Sandbox::MAX_PATHS {
            let most = Sandbox::MAX_PATHS;
            self.error(
                place,
                format!(
                    "{count} paths: expected at most {most}; name directories that contain them"
                ),
            );
            return sandbox;
        }
        let mut seen: Vec<(String, &str)> = Vec::new();
        for (key, list) in lists {
            for (i, path) in list.iter().flatten().enumerate() {
                let place = place.key(key).index(i);
                if !self.sandbox_path(&place, path) {
                    continue;
                }
                let path = normal(path);
                if let Some((_, other)) = seen.iter().find(|(known, _)| *known == path) {
                    self.error(&place, format!("{path} is also in {other}; list it once"));
                } else {
                    self.sandbox_place(&place, key, &path, &sandbox);
                }
                seen.push((path, key));
            }
        }
        sandbox
    }

    /// Checks the form of a path; returns whether it is valid.
    fn sandbox_path(&mut self, place: &SpecPath, path: &str) -> bool {
        self.no_nul(place, "the path", path);
        if !path.starts_with('/') {
            self.error(place, format!("path {path:?} is not absolute; write it from / on"));
            return false;
        }
        if path.split('/').any(|part| part == "." || part == "..") {
            self.error(place, format!("path {path:?} has the component . or ..; write it without"));
            return false;
        }
        !path.contains('\0')
    }

    /// Checks that a path takes effect beside the other keys.
    fn sandbox_place(&mut self, place: &SpecPath, key: &str, path: &str, sandbox: &Sandbox) {
        let above = |parent: &&String| *parent != path && is_within(path, parent);
        if key == "hidden_paths" && path == "/" {
            self.error(place, "/ cannot be hidden; name the directories below it");
        } else if let Some(hidden) = sandbox.hidden_paths.iter().find(above) {
            self.error(
                place,
                format!(
                    "{path} is below {hidden}, which is hidden with all below; remove one of them"
                ),
            );
        }
        let tmp = Sandbox::TMP.iter().find(|tmp| is_within(path, tmp));
        if let Some(tmp) = tmp.filter(|_| sandbox.private_tmp) {
            self.error(
                place,
                format!("{path} is in {tmp}, which private_tmp replaces; remove the path, or set private_tmp to false"),
            );
        }
        if key == "writable_paths" && !sandbox.read_only_paths.iter().any(|parent| above(&parent)) {
            self.error(
                place,
                format!("{path} is below none of read_only_paths, so it is as writable as without; remove it, or add a directory above it to read_only_paths"),
            );
        }
    }
}
