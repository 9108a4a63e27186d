//! `procstar doctor`: the features that this host supports, and remedies for the missing ones.
//!
//! Every check tries the feature itself, by the system call or the file that the program uses.
//! Checks that read the system's files take their directory as an argument, for tests.

mod cgroup;
mod check;
mod kernel;
mod limits;
mod listeners;
mod places;
mod procfs;
mod security;

use serde::Serialize;

use crate::config::{Env, Loaded};
pub use check::{Check, Level};

/// All results.
#[derive(Clone, Debug, Serialize)]
pub struct DoctorReport {
    /// This program's version.
    pub version: &'static str,
    /// The kernel's version.
    pub kernel: String,
    /// The checks, in their order.
    pub checks: Vec<Check>,
}

impl DoctorReport {
    /// Whether no feature that the program needs is missing.
    pub fn is_well(&self) -> bool {
        self.checks.iter().all(|check| check.level < Level::Fail)
    }

    /// Whether nothing needs to be corrected.
    pub fn is_safe(&self) -> bool {
        self.checks.iter().all(|check| check.level < Level::Warn)
    }

    /// For people: a line for each check, and one below it for a remedy.
    pub fn text(&self) -> String {
        let (fails, warns) = (self.count(Level::Fail), self.count(Level::Warn));
        self.text_ending(&match (fails, warns) {
            (0, 0) => "all that procstar needs is here".to_owned(),
            (0, n) => format!("procstar works here; with restrictions: {n}"),
            (n, _) => format!("procstar cannot work here; failed checks: {n}"),
        })
    }

    /// The text of the security checks.
    pub fn security_text(&self) -> String {
        self.text_ending(&match self.count(Level::Fail) + self.count(Level::Warn) {
            0 => "no findings".to_owned(),
            n => format!("findings: {n}"),
        })
    }

    fn count(&self, level: Level) -> usize {
        self.checks.iter().filter(|check| check.level == level).count()
    }

    fn text_ending(&self, verdict: &str) -> String {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
        let mut text = format!("procstar {}, Linux {}\n\n", self.version, self.kernel);
        for Check { name, level, found, remedy } in &self.checks {
            text.push_str(&format!("{:4}  {name:width$}  {found}\n", level.name()));
            if let Some(remedy) = remedy {
                text.push_str(&format!("      {:width$}  -> {remedy}\n", ""));
            }
        }
        text.push_str(&format!("\n{verdict}\n"));
        text
    }

    /// For programs: one JSON object, with a newline at its end.
    pub fn json(&self) -> String {
        self.json_with(self.is_well())
    }

    /// The JSON of the security checks.
    pub fn security_json(&self) -> String {
        self.json_with(self.is_safe())
    }

    fn json_with(&self, ok: bool) -> String {
        let mut value = serde_json::to_value(self).unwrap_or_default();
        if let Some(object) = value.as_object_mut() {
            object.insert("ok".to_owned(), ok.into());
        }
        format!("{value:#}\n")
    }
}

/// Examines the possible actions of other users and machines. `loaded` are the settings, or the
/// error of loading them.
pub fn examine_security(loaded: &Result<Loaded, String>, env: &Env) -> DoctorReport {
    DoctorReport {
        version: env!("CARGO_PKG_VERSION"),
        kernel: kernel_release(),
        checks: security::checks(loaded, env),
    }
}

fn kernel_release() -> String {
    let name = nix::sys::utsname::uname();
    name.map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default()
}

/// Examines this host. `loaded` are the settings, or the error of loading them.
pub fn examine(loaded: Result<Loaded, String>, env: &Env) -> DoctorReport {
    let kernel = kernel_release();
    let (configuration, settings) = places::configuration(loaded);
    let mut checks = vec![configuration];
    checks.extend(kernel::checks());
    checks.extend(procfs::checks("/proc".as_ref()));
    checks.extend(limits::checks("/proc".as_ref()));
    checks.extend(cgroup::checks("/proc".as_ref(), env));
    checks.extend(places::checks(&settings, env));
    checks.extend(listeners::checks(&settings, env));
    DoctorReport { version: env!("CARGO_PKG_VERSION"), kernel, checks }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(levels: &[Level]) -> DoctorReport {
        let check = |level: &Level| match level {
            Level::Ok => Check::ok("thing", "there"),
            level => Check::with("other thing", *level, "not there", "get it"),
        };
        DoctorReport {
            version: "1",
            kernel: "6".into(),
            checks: levels.iter().map(check).collect(),
        }
    }

    #[test]
    fn only_a_failure_is_one() {
        for (levels, well, verdict) in [
            (&[Level::Ok, Level::Note][..], true, "all that procstar needs is here"),
            (&[Level::Warn, Level::Note], true, "with restrictions: 1"),
            (&[Level::Warn, Level::Fail], false, "cannot work here; failed checks: 1"),
        ] {
            let report = report(levels);
            assert_eq!(report.is_well(), well, "{levels:?}");
            assert!(report.text().contains(verdict), "{}", report.text());
            let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
            assert_eq!(json["ok"], well);
            assert_eq!(json["checks"].as_array().unwrap().len(), levels.len());
        }
    }

    #[test]
    fn lines_are_aligned_and_remedies_below_them() {
        let text = report(&[Level::Ok, Level::Warn]).text();
        let lines: Vec<_> = text.lines().skip(2).take(3).collect();
        assert_eq!(lines[0], "ok    thing        there");
        assert_eq!(lines[1], "warn  other thing  not there");
        assert_eq!(lines[2], "                   -> get it");
    }
}
