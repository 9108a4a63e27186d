//! Daemons of unknown origin, because several processes ran when they appeared: no result claims
//! that there are no survivors.

use serde_json::{Value, json};

use super::print;

/// A script that starts a daemon by a double fork and setsid, and writes its pid to `file`.
fn daemon(file: &str) -> String {
    format!(
        "(setsid /bin/sh -c 'echo $$ > {file}.new; mv {file}.new {file}; exec sleep 600' </dev/null >/dev/null 2>&1 &)"
    )
}

fn sh(script: &str) -> Value {
    json!({"argv": ["/bin/sh", "-c", script], "env": {"vars": {"PATH": "/usr/bin:/bin"}}})
}

fn kill(file: &std::path::Path) {
    let pid: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
}

#[test]
fn a_daemon_that_several_can_have_started_leaves_survivors_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let (pid, go) = (dir.path().join("pid"), dir.path().join("go"));
    let [file, go] = [&pid, &go].map(|path| path.to_str().unwrap());
    let until = |file: &str| format!("until [ -e {file} ]; do sleep 0.01; done");
    // The other runs from before the daemon starts until after its starter has ended.
    let starter = format!("{}; {}; {}", until(go), daemon(file), until(file));
    let other = format!("touch {go}; {}; sleep 0.3", until(file));
    let mut job = sh(&starter);
    job["timeout"] = json!(60);
    let results = print(
        &json!({"specs": {"starter": job, "other": sh(&other), "never": {"argv": ["/nope"]}}}),
    );
    kill(&pid);
    for id in ["starter", "other"] {
        let Value::Object(result) = &results[id] else { panic!() };
        assert_eq!(
            (&result["survivors"], &result["survivor_count"]),
            (&Value::Null, &Value::Null),
            "{id}"
        );
        assert_eq!(result["reason"], "exited");
    }
    // A program that was never executed has no survivors.
    assert_eq!(
        (&results["never"]["survivors"], &results["never"]["survivor_count"]),
        (&json!([]), &json!(0))
    );
}
