//! `procstar doctor`: reports the features that this host lacks, with remedies.
//!
//! Every check tries the feature itself, with the system call or the file that the program uses.
//! Checks that read system files take the directory as an argument, for tests.

mod cgroup;
mod check;
mod kernel;
mod limits;
mod listeners;
mod places;
mod procfs;
mod sandbox;
mod security;
mod survival;

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
    /// Whether all required features are available.
    pub fn is_well(&self) -> bool {
        self.checks.iter().all(|check| check.level < Level::Fail)
    }

    /// Whether the report has neither warnings nor failures.
    pub fn is_safe(&self) -> bool {
        self.checks.iter().all(|check| check.level < Level::Warn)
    }

    /// The text: a line for each check, with the remedy on the line below.
    pub fn text(&self) -> String {
        let (fails, warns) = (self.count(Level::Fail), self.count(Level::Warn));
        self.text_ending(&match (fails, warns) {
            (0, 0) => "all required features are available".to_owned(),
            (0, n) => format!("procstar works on this host; warnings: {n}"),
            (n, _) => format!("procstar cannot work on this host; failed checks: {n}"),
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

    /// The JSON: one object and a newline.
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

/// Checks the access that other users and hosts have. `loaded` is the result of loading the settings.
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

/// Checks this host. `loaded` is the result of loading the settings.
pub fn examine(loaded: Result<Loaded, String>, env: &Env) -> DoctorReport {
    let kernel = kernel_release();
    let (configuration, settings) = places::configuration(loaded);
    let mut checks = vec![configuration];
    checks.extend(kernel::checks());
    checks.extend(procfs::checks("/proc".as_ref()));
    checks.extend(limits::checks("/proc".as_ref()));
    checks.extend(survival::checks());
    checks.extend(cgroup::checks("/proc".as_ref(), env));
    checks.extend(sandbox::checks());
    checks.extend(places::checks(&settings, env));
    checks.extend(listeners::checks(&settings, env));
    DoctorReport { version: env!("CARGO_PKG_VERSION"), kernel, checks }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(levels: &[Level]) -> DoctorReport {
        let check = |level: &Level| match level {
            Level::Ok => Check::ok("feature", "works"),
            level => Check::with("other feature", *level, "missing", "install it"),
        };
        DoctorReport {
            version: "1",
            kernel: "6".into(),
            checks: levels.iter().map(check).collect(),
        }
    }

    #[test]
    fn only_a_failed_check_fails_the_report() {
        for (levels, well, verdict) in [
            (&[Level::Ok, Level::Note][..], true, "all required features are available"),
            (&[Level::Warn, Level::Note], true, "works on this host; warnings: 1"),
            (&[Level::Warn, Level::Fail], false, "cannot work on this host; failed checks: 1"),
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
    fn names_are_aligned_and_remedies_are_on_the_next_line() {
        let text = report(&[Level::Ok, Level::Warn]).text();
        let lines: Vec<_> = text.lines().skip(2).take(3).collect();
        assert_eq!(lines[0], "ok    feature        works");
        assert_eq!(lines[1], "warn  other feature  missing");
        assert_eq!(lines[2], "                     -> install it");
    }
}
