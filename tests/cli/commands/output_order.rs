//! `run` and `logs` print several outputs in the recorded order.

use serde_json::Value;

use super::harness::{Instance, Ran, Running, procstar};
use crate::support::wait::eventually;

/// Writes to both outputs in turn, with a moment in between: two hundred lines of each.
const IN_TURN: &str =
    "for i in {1..200}; do echo out$i; echo err$i >&2; read -t 0.002 <> <(:); done; true";

/// The output of a result, in the recorded order.
fn recorded(result: &Value) -> String {
    let pieces = result["chunk_times"].as_array().unwrap();
    let piece = |piece: &Value| {
        let text = result["fds"][piece[1].as_str().unwrap()]["text"].as_str().unwrap();
        let (from, length) =
            (piece[2].as_u64().unwrap() as usize, piece[3].as_u64().unwrap() as usize);
        text[from..from + length].to_owned()
    };
    pieces.iter().map(piece).collect()
}

#[test]
fn a_run_shows_captured_output_as_it_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = procstar(&dir);
    command.current_dir(dir.path()).args([
        "run",
        "--capture",
        "-r",
        "r.json",
        "bash",
        "-c",
        IN_TURN,
    ]);
    let shown = std::fs::File::create(dir.path().join("shown")).unwrap();
    command.stdout(shown.try_clone().unwrap()).stderr(shown);
    assert!(command.status().unwrap().success());
    let result: Value =
        serde_json::from_slice(&std::fs::read(dir.path().join("r.json")).unwrap()).unwrap();
    let shown = std::fs::read_to_string(dir.path().join("shown")).unwrap();
    assert_eq!(shown, recorded(&result["bash"]));
}

#[test]
fn followed_output_is_shown_as_it_is_recorded() {
    let instance = Instance::new();
    instance.run(&["start", "--id", "a", "--", "bash", "-c", IN_TURN]).good();
    let followed = instance.run(&["logs", "-f", "a"]).good();
    let result = instance.run(&["show", "-o", "json", "--captures", "inline", "a"]).json();
    assert_eq!(followed, recorded(&result["a"]));
    assert_eq!(instance.run(&["logs", "a"]).good(), followed);
    let stamped = instance.run(&["logs", "-T", "a"]).good();
    let lines: Vec<&str> = stamped.lines().map(|line| line.split(' ').nth(2).unwrap()).collect();
    assert_eq!(lines, followed.lines().collect::<Vec<_>>());
}

#[test]
fn much_output_is_followed_to_its_end() {
    let instance = Instance::new();
    let script =
        "head -c 6000000 /dev/zero | tr '\\0' x; echo; head -c 3000000 /dev/zero | tr '\\0' y >&2";
    instance.run(&["start", "--id", "a", "--", "sh", "-c", script]).good();
    let followed = instance.run(&["logs", "-f", "a"]).good();
    assert_eq!(followed.len(), 9_000_001);
    let result = instance.run(&["show", "-o", "json", "--captures", "inline", "a"]).json();
    assert!(followed == recorded(&result["a"]), "another order");
}

/// A process that writes a part of a line to one output, a line to the other, and then the rest.
fn split(instance: &Instance) -> impl FnMut() {
    let fifo = instance.dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let script = format!(
        "exec < {}; echo first; printf 'one, '; read x; echo other >&2; read x; echo two",
        fifo.display()
    );
    instance.run(&["start", "--id", "a", "--", "sh", "-c", &script]).good();
    let mut end = std::fs::File::options().write(true).open(&fifo).unwrap();
    move || std::io::Write::write_all(&mut end, b"\n").unwrap()
}

fn until_written(instance: &Instance, text: &str) {
    eventually(text, || instance.run(&["logs", "a"]).good().contains(text));
}

/// Lines without their times.
fn unstamped(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

#[test]
fn a_line_with_a_timestamp_is_complete() {
    let instance = Instance::new();
    let mut next = split(&instance);
    until_written(&instance, "one, ");
    let mut live = Running::new(instance.command(&["logs", "-fT", "a"]));
    live.until("first\n");
    next();
    until_written(&instance, "other");
    live.until("other\n");
    next();
    let (code, text) = live.end();
    let wanted = ["stdout first", "stderr other", "stdout one, two"];
    assert_eq!((code, unstamped(&text)), (Some(0), wanted.map(str::to_owned).to_vec()));
    let stamped =
        |args: &[&str]| unstamped(&instance.run(&[&["logs", "-T"], args].concat()).good());
    assert_eq!(stamped(&["a"]), wanted);
    assert_eq!(stamped(&["--tail", "2", "a"]), wanted[1..]);
    assert_eq!(stamped(&["--tail", "1", "a"]), wanted[2..]);
    // Without timestamps, bytes are printed in order and not joined to lines.
    assert_eq!(instance.run(&["logs", "a"]).good(), "first\none, other\ntwo\n");
}

#[test]
fn the_timestamp_of_a_line_is_that_of_its_beginning() {
    let instance = Instance::new();
    let script = "printf 'a'; read -t 0.05 <> <(:); echo b; echo c";
    instance.run(&["start", "--id", "a", "--", "bash", "-c", script]).good();
    instance.run(&["wait", "a"]);
    let text = instance.run(&["logs", "-T", "--stream", "1", "a"]).good();
    let times: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().0).collect();
    assert!(times.len() == 2 && times[0] < times[1], "{text}");
    let _: Ran = instance.run(&["rm", "a"]);
}
