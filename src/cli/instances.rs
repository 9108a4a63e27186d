//! The choice of a running instance that is not named by its socket or URL.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::starting;
use crate::config::{Env, Settings};
use crate::keeper::registry::{self, Running};

/// Maximum time to wait for an instance that is starting.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two searches while waiting.
pub(super) const SEARCH_INTERVAL: Duration = Duration::from_millis(20);

/// Why no single instance was found.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InstanceError {
    /// No instance.
    #[error("no instance of this user{} runs{}; start one with 'procstar serve', or choose one by --socket, --url or \
             --state-dir{}", with(.pid), .place.as_deref().map_or(String::new(), within), lines_of(.taken))]
    None {
        /// The pid that was requested.
        pid: Option<i32>,
        /// The only directory that was searched.
        place: Option<PathBuf>,
        /// Our directories whose names other users have taken, with these users.
        taken: Vec<(PathBuf, String)>,
    },
    /// The instances have no socket.
    #[error("no instance of this user can be reached: {}", unreachable_reason(.0))]
    Unreachable(Vec<Running>),
    /// Several instances.
    #[error("multiple instances of this user are running; choose one:{}", choices(.0))]
    Several(Vec<Running>),
}

fn with(pid: &Option<i32>) -> String {
    pid.map_or(String::new(), |pid| format!(" with pid {pid}"))
}

fn within(place: &Path) -> String {
    format!(" in {}", place.display())
}

fn lines_of(taken: &[(PathBuf, String)]) -> String {
    let line = |(path, found): &(PathBuf, String)| {
        format!("\n  {} was to be a directory of this user, {found}; remove it", path.display())
    };
    taken.iter().map(line).collect()
}

/// The reason why instances run without a socket.
fn unreachable_reason(closed: &[Running]) -> String {
    let pids = |starting| {
        let those = closed.iter().filter(|one| one.is_starting() == starting);
        those.map(|one| one.pid.to_string()).collect::<Vec<_>>().join(", ")
    };
    match (pids(false), pids(true)) {
        (silent, starting) if starting.is_empty() => {
            format!("pid {silent} was started without --serve and --agent, or is ending")
        }
        (_, starting) => {
            format!("pid {starting} is still starting; its log may say what it waits for")
        }
    }
}

fn choices(several: &[Running]) -> String {
    let line = |one: &Running| {
        let dir = one.dir.display();
        match one.is_open() {
            true => format!("\n  --pid {}  or  --socket {}", one.pid, one.socket().display()),
            false => format!("\n  --pid {}  in {dir}", one.pid),
        }
    };
    several.iter().map(line).collect()
}

/// The search for instances.
pub(super) struct Search {
    pid: Option<i32>,
    /// The only directory to search, if one is named.
    state_dir: Option<PathBuf>,
    places: Vec<PathBuf>,
    env: Env,
}

impl Search {
    pub(super) fn new(pid: Option<i32>, settings: &Settings, env: &Env) -> Search {
        let places = registry::candidates_of(settings, env);
        Search { pid, state_dir: settings.run.state_dir.clone(), places, env: env.clone() }
    }

    fn found(&self) -> Vec<Running> {
        let mut found = match &self.state_dir {
            Some(dir) => registry::running_in(dir).into_iter().collect(),
            None => registry::running(&self.places),
        };
        found.retain(|one| self.pid.is_none_or(|pid| pid == one.pid));
        found
    }

    fn none(&self) -> InstanceError {
        let chosen = match self.places.as_slice() {
            [place] => Some(place.clone()),
            _ => None,
        };
        let place = self.state_dir.clone().or(chosen);
        let taken = if place.is_none() { registry::taken(&self.places) } else { Vec::new() };
        InstanceError::None { pid: self.pid, place, taken }
    }

    fn is_one_unregistered(&self) -> bool {
        let known: Vec<i32> = registry::running(&self.places).iter().map(|one| one.pid).collect();
        starting::is_one_unregistered(&self.env, &known)
    }

    /// Whether an instance that was not found is about to register itself, or has just done so. The
    /// registry is read again because the search among processes skips registered instances.
    fn is_one_expected(&self) -> bool {
        self.is_one_unregistered() || !self.found().is_empty()
    }

    /// Whether an instance beside those that were found without a socket is about to register
    /// itself, or has just opened its socket.
    fn is_one_opening(&self) -> bool {
        let is_opening = |one: &Running| one.is_open() || one.is_starting();
        self.is_one_unregistered() || self.found().iter().any(is_opening)
    }

    /// Whether an instance is starting that may be the target.
    pub(super) fn is_one_starting(&self) -> bool {
        let is_known = || self.found().iter().any(Running::is_starting);
        is_known() || self.is_one_unregistered() || is_known()
    }

    /// The only instance, with a socket or without. Waits for one that is starting.
    ///
    /// # Errors
    /// No instance, or several.
    pub(super) fn one(&self) -> Result<Running, InstanceError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let found = self.found();
            match found.as_slice() {
                [one] => return Ok(one.clone()),
                [] if Instant::now() < deadline && self.is_one_expected() => {
                    std::thread::sleep(SEARCH_INTERVAL);
                }
                [] => return Err(self.none()),
                _ => return Err(InstanceError::Several(found)),
            }
        }
    }

    /// The only instance that has a socket. Waits for one that is starting.
    ///
    /// # Errors
    /// No instance, or several.
    pub(super) fn one_to_ask(&self) -> Result<Running, InstanceError> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let (open, closed): (Vec<Running>, Vec<Running>) =
                self.found().into_iter().partition(Running::is_open);
            let expected = match (open.as_slice(), closed.as_slice()) {
                ([one], _) => return Ok(one.clone()),
                ([], []) => self.is_one_expected(),
                ([], closed) => closed.iter().any(Running::is_starting) || self.is_one_opening(),
                (_, _) => return Err(InstanceError::Several(open)),
            };
            if !expected || Instant::now() >= deadline {
                return Err(if closed.is_empty() {
                    self.none()
                } else {
                    InstanceError::Unreachable(closed)
                });
            }
            std::thread::sleep(SEARCH_INTERVAL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_choices() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, pid, file: Option<&str>| {
            let dir = dir.path().join(name);
            std::fs::create_dir(&dir).unwrap();
            if let Some(file) = file {
                std::fs::write(dir.join(file), "").unwrap();
            }
            Running { dir, pid }
        };
        let open = at("a", 7, Some(registry::SOCKET));
        let closed = at("b", 8, None);
        let starting = at("c", 9, Some(registry::STARTING));
        let place = dir.path().display();
        assert_eq!(
            InstanceError::Several(vec![open, closed.clone()]).to_string(),
            format!(
                "multiple instances of this user are running; choose one:\n  --pid 7  or  --socket {place}/a/http.sock\n  --pid 8  in {place}/b"
            )
        );
        assert!(
            InstanceError::Unreachable(vec![closed.clone()])
                .to_string()
                .contains("pid 8 was started without")
        );
        let error = InstanceError::Unreachable(vec![closed, starting]).to_string();
        assert!(error.contains("pid 9 is still starting"), "{error}");
        let none = |pid, place: Option<&str>| {
            let place = place.map(PathBuf::from);
            InstanceError::None { pid, place, taken: Vec::new() }.to_string()
        };
        let taken = vec![(PathBuf::from("/tmp/x"), "but belongs to mallory".to_owned())];
        let error = InstanceError::None { pid: None, place: None, taken }.to_string();
        assert!(error.ends_with(
            "\n  /tmp/x was to be a directory of this user, but belongs to mallory; remove it"
        ));
        assert!(none(None, None).starts_with("no instance of this user runs; start one"));
        assert!(
            none(Some(7), Some("/x"))
                .starts_with("no instance of this user with pid 7 runs in /x; start")
        );
    }
}
