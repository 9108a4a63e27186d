//! IDs with special characters: every printed ID can be passed back to a command.

use super::harness::Instance;

const IDS: [&str; 4] = ["-x", "--all", "a\nb\u{1b}[2J", "ü 'q' \\n"];

fn start_all(instance: &Instance) {
    for id in IDS {
        instance.run(&["start", &format!("--id={id}"), "--", "sleep", "1000"]).good();
    }
}

#[test]
fn ids_with_a_zero_byte_behind_them_go_from_command_to_command() {
    let instance = Instance::new();
    start_all(&instance);
    let wanted: String = IDS.iter().map(|id| format!("{id}\0")).collect();
    assert_eq!(instance.run(&["ps", "-0"]).good(), wanted);
    assert_eq!(instance.run(&["ps", "-q0", "--state", "running"]).good(), wanted);
    let program = env!("CARGO_BIN_EXE_procstar");
    instance.shell(&format!("procstar ps -0 | xargs -0 {program} stop --")).good();
    assert_eq!(instance.run(&["ps", "-0", "--state", "running"]).good(), "");
    assert_eq!(instance.run(&["prune", "-n", "--all", "--null"]).good(), wanted);
    instance.shell(&format!("procstar ps --null | xargs -0 {program} rm --")).good();
    assert_eq!(instance.run(&["ps", "-0"]).good(), "");
    let started = instance.run(&["start", "-0", "--id=-a\nb", "--", "true"]).good();
    assert_eq!(started, "-a\nb\0");
    let refused = instance.run(&["ps", "-0", "-o", "json"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
}

#[test]
fn a_line_in_a_pipe_is_the_id_itself() {
    let instance = Instance::new();
    let id = "\u{1b}[2J\t";
    instance.run(&["start", "--id", id, "--", "sleep", "1000"]).good();
    assert_eq!(instance.run(&["ps", "-q"]).good(), format!("{id}\n"));
    let stopped = instance.shell("id=$(procstar ps -q); procstar stop -- \"$id\"");
    assert_eq!(stopped.good(), format!("{id}\n"));
}
