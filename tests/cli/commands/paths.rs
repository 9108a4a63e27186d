//! Relative paths of `start` are relative to the caller's directory, not to the instance's.

use std::os::unix::fs::PermissionsExt;

use super::harness::{Instance, Ran};

#[test]
fn program_and_cwd_are_relative_to_the_callers_directory() {
    let instance = Instance::new();
    let own = tempfile::tempdir().unwrap();
    let own = own.path().canonicalize().unwrap();
    let program = own.join("x");
    std::fs::write(&program, "#!/bin/sh\npwd; echo \"$0 $1\"\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(own.join("below")).unwrap();
    let start = |args: &[&str]| {
        let mut command = instance.command(&[&["start"], args].concat());
        Ran::of(command.current_dir(&own).output().unwrap())
    };
    let at = own.display();
    for (id, args, wanted) in [
        ("a", &["--cwd", ".", "--", "./x", "1"][..], format!("{at}\n{at}/x 1\n")),
        ("b", &["--cwd", "below", "--", "./x", "2"], format!("{at}/below\n{at}/x 2\n")),
        ("c", &["--cwd", "/", "--", "below/../x", "3"], format!("/\n{at}/below/../x 3\n")),
        ("d", &["--cwd", "below", "--", "pwd"], format!("{at}/below\n")),
    ] {
        start(&[&["--id", id], args].concat()).good();
        assert_eq!(instance.run(&["logs", "-f", id]).good(), wanted, "{id}");
    }
    // Without --cwd, the directory is the instance's.
    start(&["--id", "e", "--", "./x"]).good();
    let instances = std::env::current_dir().unwrap();
    let wanted = format!("{}\n{at}/x \n", instances.display());
    assert_eq!(instance.run(&["logs", "-f", "e"]).good(), wanted);
}

#[test]
fn relative_paths_are_refused_for_an_instance_on_another_machine() {
    let instance = Instance::new();
    for args in [&["--cwd", ".", "--", "true"][..], &["--", "./x"]] {
        let url = ["start", "--url", "https://192.0.2.1:1", "--token", "t"];
        let ran = instance.run(&[&url[..], args].concat());
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains("is relative") && ran.err.contains("absolute path"), "{ran:?}");
    }
}
