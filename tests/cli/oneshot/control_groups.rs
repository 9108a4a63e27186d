//! `run.cgroup_parent`: a control group for each process, in the real hierarchy of version 2.

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
    fn new() -> Parent {
        let own = Layout::read(Path::new("/proc")).own_group().expect("no cgroup2 is mounted");
        let above = Group::open(&own).unwrap();
        let name = format!("procstar-test-cli-{}", std::process::id());
        above.create(&name).expect("run the tests as root");
        Parent { above, name }
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
    let parent = Parent::new();
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
