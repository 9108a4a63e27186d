//! Checks each key of a sandbox by making such a sandbox.

use super::check::{Check, Level};
use crate::engine::{StartFailure, probe_sandbox};
use crate::spec::{NetworkAccess, Sandbox};

/// The check of each key.
pub(super) fn checks() -> Vec<Check> {
    let none = Sandbox::default;
    let root = || vec!["/".to_owned()];
    vec![
        check("sandbox: no_new_privs", Sandbox { no_new_privs: true, ..none() }),
        check(
            "sandbox: capabilities",
            Sandbox { no_new_privs: true, capabilities: Some(Vec::new()), ..none() },
        ),
        check("sandbox: private_tmp", Sandbox { private_tmp: true, ..none() }),
        check("sandbox: read_only_paths", Sandbox { read_only_paths: root(), ..none() }),
        check("sandbox: hidden_paths", Sandbox { hidden_paths: vec!["/tmp".to_owned()], ..none() }),
        check("sandbox: network", Sandbox { network: NetworkAccess::Loopback, ..none() }),
    ]
}

fn check(name: &'static str, sandbox: Sandbox) -> Check {
    report(name, probe_sandbox(sandbox))
}

fn report(name: &'static str, tried: Result<(), StartFailure>) -> Check {
    match tried {
        Ok(()) => Check::ok(name, "works"),
        Err(failure) => {
            let found = StartFailure { detail: None, ..failure.clone() }.to_string();
            let remedy = failure.detail.unwrap_or_else(|| "leave the key out".to_owned());
            Check::with(
                name,
                Level::Note,
                format!("{found}; a spec with it is not started"),
                remedy,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Stage;
    use crate::spec::Attribute;

    #[test]
    fn a_missing_feature_is_reported_with_its_error_and_remedy() {
        let failure = StartFailure {
            stage: Stage::Attribute(Attribute::Sandbox),
            errno: libc::EPERM,
            path: Some("network".to_owned()),
            detail: Some("allow it".to_owned()),
        };
        let check = report("sandbox: network", Err(failure));
        assert_eq!(check.level, Level::Note);
        assert_eq!(
            check.found,
            "failed to set sandbox: network: Operation not permitted (os error 1); a spec with it is not started"
        );
        assert_eq!(check.remedy.as_deref(), Some("allow it"));
        assert!(checks().iter().all(|check| check.name.starts_with("sandbox: ")));
    }
}
