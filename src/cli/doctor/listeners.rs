//! Checks whether this user's running instances listen on all configured addresses.

use std::path::PathBuf;

use super::check::{Check, Level};
use crate::config::{Env, Settings};
use crate::keeper::instance::NOT_LISTENING;
use crate::keeper::registry::{self, Running};

/// The check; `None` if no instance runs.
pub(super) fn checks(settings: &Settings, env: &Env) -> Option<Check> {
    of(&registry::running(&registry::candidates_of(settings, env)))
}

fn of(instances: &[Running]) -> Option<Check> {
    const NAME: &str = "listeners";
    if instances.is_empty() {
        return None;
    }
    let missing: Vec<String> = instances.iter().filter_map(missing).collect();
    if missing.is_empty() {
        return Some(Check::ok(NAME, "every running instance listens on all its addresses"));
    }
    let remedy = "end the other program, configure the address on the host, or change the setting and run `procstar upgrade`; the instance also \
                  retries periodically";
    Some(Check::with(NAME, Level::Warn, missing.join("; "), remedy))
}

/// The addresses on which an instance cannot listen, as it has recorded them.
fn missing(instance: &Running) -> Option<String> {
    let noted: PathBuf = instance.dir.join(NOT_LISTENING);
    let errors = std::fs::read_to_string(noted).ok()?;
    let errors: Vec<&str> = errors.lines().collect();
    (!errors.is_empty()).then(|| format!("pid {}: {}", instance.pid, errors.join(", and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_listener_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let instances = [Running { dir: dir.path().to_path_buf(), pid: 7 }];
        assert_eq!(of(&[]), None);
        assert_eq!(of(&instances).unwrap().level, Level::Ok);
        std::fs::write(dir.path().join(NOT_LISTENING), "port taken\nno address\n").unwrap();
        let check = of(&instances).unwrap();
        assert_eq!(
            (check.level, &*check.found),
            (Level::Warn, "pid 7: port taken, and no address")
        );
        assert!(check.remedy.is_some());
    }
}
