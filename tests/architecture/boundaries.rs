//! Dependencies that rooms must not have: the engine, specs and reports use neither actors nor an
//! async runtime, only `main` ends the program, and few places read the wall clock.

use std::fs;
use std::path::{Path, PathBuf};

/// Every Rust source of a room, in its directory or its single file; of an empty name, all sources.
fn sources(room: &str) -> Vec<PathBuf> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut pending = vec![src.join(room)];
    let mut found = Vec::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    let file = src.join(format!("{room}.rs"));
    if !room.is_empty() && file.exists() {
        found.push(file);
    }
    assert!(!found.is_empty(), "room {room:?} has no sources");
    found
}

/// The line without its comment; a `//` after a colon belongs to a URL.
fn code(line: &str) -> &str {
    let comment = line
        .match_indices("//")
        .map(|(index, _)| index)
        .find(|index| !line.get(..*index).unwrap().ends_with(':'));
    line.get(..comment.unwrap_or(line.len())).unwrap()
}

/// Whether the code has a name that starts with `start`; with `whole`, a name that equals it.
fn has_name(code: &str, start: &str, whole: bool) -> bool {
    let in_name = |character: char| character.is_alphanumeric() || character == '_';
    code.match_indices(start).any(|(index, _)| {
        let (before, after) = (&code[..index], &code[index + start.len()..]);
        let is_longer = before.ends_with(in_name) || (whole && after.starts_with(in_name));
        !is_longer
    })
}

fn names_an_actor(code: &str) -> bool {
    has_name(code, "actix", false) || has_name(code, "awc", true)
}

fn names_a_runtime(code: &str) -> bool {
    has_name(code, "tokio", false)
}

/// `process::exit` and `process::{exit, ..}`; not the system call `_exit`, nor `ExitCode`.
fn ends_the_program(code: &str) -> bool {
    let listed = || code.contains("process::{") && has_name(code, "exit", true);
    code.contains("process::exit") || listed()
}

/// The lines of these rooms whose code matches, as `FILE:LINE: TEXT`.
fn places(rooms: &[&str], matches: fn(&str) -> bool) -> Vec<String> {
    let mut places = Vec::new();
    for path in rooms.iter().flat_map(|room| sources(room)) {
        let text = fs::read_to_string(&path).unwrap();
        for (index, line) in text.lines().enumerate() {
            if matches(code(line)) {
                places.push(format!("{}:{}: {}", path.display(), index + 1, line.trim()));
            }
        }
    }
    places
}

#[test]
fn the_search_ignores_comments() {
    for line in ["use actix::Actor;", "let a = actix_web::web::get();", "awc::Client::new() // x"] {
        assert!(names_an_actor(code(line)), "{line}");
    }
    for line in ["// actix", "let a = 1; // actix", "/// As in awc.", "fawcett()", "awcward()"] {
        assert!(!names_an_actor(code(line)), "{line}");
    }
    assert!(names_an_actor(code(r#"connect("wss://localhost", actix())"#)));
    assert!(names_a_runtime(code("    tokio::spawn(x)")) && names_a_runtime("use tokio_util::x"));
    assert!(!names_a_runtime(code("//! Nothing of tokio.")));
    for line in ["std::process::exit(1)", "use std::process::{ExitCode, exit};"] {
        assert!(ends_the_program(code(line)), "{line}");
    }
    for line in
        ["use std::process::ExitCode;", "libc::_exit(1)", "use std::process::{Command, Exit};"]
    {
        assert!(!ends_the_program(code(line)), "{line}");
    }
}

#[test]
fn engine_specs_reports_and_wire_use_no_actor() {
    let found = places(&["engine", "spec", "report", "wire"], names_an_actor);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn engine_specs_and_reports_use_no_runtime() {
    let found = places(&["engine", "spec", "report"], names_a_runtime);
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn only_main_ends_the_program() {
    let mut found = places(&[""], ends_the_program);
    let main = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/main.rs");
    found.retain(|place| !place.starts_with(&format!("{}:", main.display())));
    assert!(found.is_empty(), "{found:#?}");
}

/// Whether the code reads the wall clock, which can be set forward and back.
fn reads_the_wall_clock(code: &str) -> bool {
    ["SystemTime", "Timestamp::now", "CLOCK_REALTIME", "Zoned::now"]
        .iter()
        .any(|name| code.contains(name))
}

/// Times of day are only shown. Durations and timeouts use the monotonic clock.
#[test]
fn the_wall_clock_is_only_for_times_that_are_shown() {
    for line in ["SystemTime::now()", "jiff::Timestamp::now()", "ClockId::CLOCK_REALTIME"] {
        assert!(reads_the_wall_clock(code(line)), "{line}");
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    // Commands print times of day in the user's time zone. Times of files are compared with the
    // clock from which the kernel takes them.
    let allowed = [
        "clock.rs:",
        "engine/capture/seal.rs:",
        "report/times.rs:",
        "procfs/tests.rs:",
        "cli/client/",
    ];
    let mut found = places(&[""], reads_the_wall_clock);
    found.retain(|place| {
        !allowed.iter().any(|of| place.starts_with(&format!("{}/{of}", src.display())))
    });
    assert!(found.is_empty(), "{found:#?}");
    // No duration is computed from times of day.
    fn computes(code: &str) -> bool {
        ["unix_nanos -", "unix_nanos +", "unix_nanos <", "unix_nanos >"]
            .iter()
            .any(|op| code.contains(op))
    }
    let found = places(&[""], computes);
    assert!(computes("now.unix_nanos - start.unix_nanos") && found.is_empty(), "{found:#?}");
}
