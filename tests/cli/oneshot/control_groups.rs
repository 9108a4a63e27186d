//! `run.cgroup_parent`: a control group for each process, in the real hierarchy of version 2.

use std::io;
use std::path::{Path, PathBuf};

use procstar::cgroup::{Group, Layout};
use serde_json::{Value, json};

use super::{procstar, run_with, stderr};

/// A group for one test.
struct Parent {
    above: Group,
    name: String,
}

impl Parent {
    /// `None` where the user of the test may create no group; in CI that is an error.
    fn new() -> Option<Parent> {
        let name = format!("procstar-test-cli-{}", std::process::id());
        let own = Layout::read(Path::new("/proc")).own_group().ok_or(io::ErrorKind::NotFound);
        let above = own.map_err(io::Error::from).and_then(|own| Group::open(&own));
        let created = above.and_then(|above| above.create(&name).map(|_| above));
        let above = created
            .inspect_err(|error| {
                assert!(std::env::var_os("CI_NO_SKIP").is_none(), "no control groups: {error}");
                eprintln!("skipped: no control groups here: {error}");
            })
            .ok()?;
        Some(Parent { above, name })
    }

    fn path(&self) -> PathBuf {
        self.above.path().join(&self.name)
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        let _ = self.above.remove_all(&self.name);
    }
}

#[test]
fn results_have_the_figures_of_the_control_group_and_nothing_is_left() {
    let Some(parent) = Parent::new() else { return };
    let group = Group::open(&parent.path()).unwrap();
    // A killed instance has left its group; that of a living one is locked.
    group.create("procstar-killed").unwrap().create("job-a").unwrap();
    let living = group.create("procstar-living").unwrap();
    assert!(living.lock());
    let mut command = procstar();
    command.args(["--print", "-"]).env("PROCSTAR_RUN_CGROUP_PARENT", parent.path());
    let script = "(while [ $((i += 1)) -lt 20000 ]; do :; done); cat /proc/self/cgroup";
    let job = json!({"argv": ["/bin/bash", "-c", script],
        "fds": [["stdout", {"capture": {"encoding": "utf-8"}}]]});
    let output = run_with(command, &json!({"specs": {"a": job}}).to_string());
    assert!(output.status.success(), "{}", stderr(&output));
    let result = serde_json::from_slice::<Value>(&output.stdout).unwrap()["a"].take();
    let shown = result["fds"]["stdout"]["text"].as_str().unwrap();
    assert!(shown.contains(&format!("/{}/procstar-", parent.name)), "{shown}");
    assert!(shown.contains("/job-a\n"), "{shown}");
    assert!(result["cgroup_accounting"]["cpu_stat"]["usage_usec"].as_u64().unwrap() > 0);
    assert_eq!(result["survivor_count"], 0);
    assert_eq!(group.names().unwrap(), ["procstar-living"]);
}

#[test]
fn a_directory_that_is_no_control_group_fails_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = procstar();
    command.args(["--print", "-"]).env("PROCSTAR_RUN_CGROUP_PARENT", dir.path());
    let output = run_with(command, r#"{"specs": {"a": {"argv": ["/bin/true"]}}}"#);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let wanted = format!("cannot create a control group below {}: ", dir.path().display());
    assert!(stderr(&output).contains(&wanted), "{}", stderr(&output));
    assert!(stderr(&output).contains("set run.cgroup_parent to a directory of cgroup v2"));
}
