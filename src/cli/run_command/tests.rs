//! Tests of the conversion of the options of `procstar run` to specs.

use clap::Parser;
use serde_json::{Value, json};

use super::*;
use crate::quantity::Seconds;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    run: RunCommand,
}

fn parse(args: &[&str]) -> Result<RunCommand, String> {
    let args = ["run"].iter().chain(args);
    Line::try_parse_from(args).map(|line| line.run).map_err(|error| error.to_string())
}

/// The spec of a command line, as JSON.
fn spec(args: &[&str]) -> Value {
    serde_json::to_value(parse(args).unwrap().spec(false).unwrap()).unwrap()
}

fn refused(args: &[&str]) -> String {
    parse(args).and_then(|run| run.check(OnTerminal::default()).map(drop)).unwrap_err()
}

#[test]
fn every_option_is_in_the_spec() {
    let spec = spec(&[
        "-C",
        "/srv",
        "--umask",
        "0027",
        "-u",
        "nobody",
        "-g",
        "7",
        "-n",
        "-5",
        "--rlimit",
        "nofile=1024",
        "--rlimit",
        "core=0:unlimited",
        "--rlimit",
        "as=64M:1GiB",
        "-t",
        "1.5m",
        "-k",
        "2",
        "-s",
        "int",
        "-l",
        "a=b=c",
        "-e",
        "X=1=2",
        "-e",
        "HOME",
        "--unset",
        "Y",
        "--no-lookup-path",
        "make",
        "-j",
        "all",
    ]);
    let inherited = [&["HOME"][..], &crate::spec::INHERITED_BY_OTHERS].concat();
    let wanted = json!({
        "argv": ["make", "-j", "all"],
        "cwd": "/srv", "umask": "0027", "user": "nobody", "group": 7, "nice": -5,
        "rlimits": {"nofile": 1024, "core": [0, "unlimited"], "as": [67108864, 1073741824]},
        "timeout": 90.0, "stop": {"signal": "SIGINT", "grace": 2.0},
        "labels": {"a": "b=c"},
        "env": {"inherit": inherited, "vars": {"Y": null, "X": "1=2"}, "in_result": false},
        "fds": [["stdin", "inherit"], ["stdout", "inherit"], ["stderr", "inherit"]],
        "systemd_properties": {"scope": null, "slice": null},
    });
    assert_eq!(spec, wanted);
}

#[test]
fn options_left_out_get_defaults() {
    let plain = spec(&["--", "-odd"]);
    assert_eq!(plain["argv"], json!(["-odd"]));
    assert_eq!(plain["lookup_path"], true);
    assert_eq!(plain["stop"], json!({"signal": "SIGTERM", "grace": 10.0}));
    assert_eq!(plain["env"]["inherit"], true);
    let bare = spec(&["--no-env", "-e", "PATH", "-e", "A=1", "env"]);
    assert_eq!(bare["env"]["inherit"], json!(["PATH"]));
    assert_eq!(bare["env"]["vars"], json!({"A": "1"}));
}

#[test]
fn another_user_inherits_default_and_named_variables_and_standard_streams() {
    let user = ["-u", "nobody", "cat"];
    assert_eq!(spec(&user)["env"]["inherit"], json!(null));
    let bare = spec(&[&["--no-env", "-e", "A"][..], &user].concat());
    assert_eq!(bare["env"]["inherit"], json!(["A"]));
    let captured = spec(&[&["-r", "-", "--capture"][..], &user].concat());
    assert_eq!(captured["fds"][2], json!(["stdin", "inherit"]));
    assert_eq!(captured["fds"].as_array().unwrap().len(), 3);
}

#[test]
fn durations_are_parsed_with_units() {
    for (text, seconds) in [
        ("90", Some(90.0)),
        ("0.25", Some(0.25)),
        ("3s", Some(3.0)),
        ("1.5m", Some(90.0)),
        ("2h", Some(7200.0)),
        ("1d", Some(86400.0)),
        (".5", Some(0.5)),
        ("", None),
        ("m", None),
        ("5w", Some(3_024_000.0)),
        ("-1", None),
        ("inf", None),
        ("nan", None),
        ("1e400", None),
        ("1é", None),
    ] {
        let read = text.parse::<Seconds>().ok().map(Seconds::get);
        assert_eq!(read, seconds, "{text:?}");
    }
}

#[test]
fn errors_name_the_option() {
    for (args, wanted) in [
        (&["--umask", "9", "x"][..], "--umask: "),
        (&["-n", "20", "x"], "--nice: "),
        (&["-t", "0", "x"], "--timeout: "),
        (&["-t", "soon", "x"], "invalid duration \"soon\""),
        (&["--rlimit", "files=1", "x"], "unknown resource \"files\""),
        (&["--rlimit", "nofile", "x"], "invalid limit \"nofile\": expected RESOURCE=N"),
        (&["--rlimit", "nofile=9:8", "x"], "--rlimit: "),
        (&["--rlimit", "as=64Q", "x"], "invalid limit \"64Q\": expected a number, a size"),
        (&["--rlimit", "nofile=-1", "x"], "invalid limit \"-1\""),
        (&["--signal", "FOO", "x"], "unknown signal \"FOO\""),
        (&["--signal", "65", "x"], "unknown signal \"65\""),
        (&["--label", "a", "x"], "invalid label \"a\": expected KEY=VALUE"),
        (&["-e", "=1", "x"], "invalid variable \"=1\""),
        (&["-e", "", "x"], "invalid variable \"\""),
        (&["-u", "", "x"], "expected a name or a number"),
        (&["-u", "99999999999", "x"], "invalid user or group number 99999999999"),
        (&["--capture", "x"], "--results"),
        (&["--odd", "x"], "unexpected argument '--odd'"),
        (&[], "required arguments were not provided"),
    ] {
        let error = refused(args);
        assert!(error.contains(wanted), "{args:?}: {error}");
    }
}

#[test]
fn arguments_that_are_not_utf_8_are_refused() {
    use std::os::unix::ffi::OsStringExt;
    let odd = OsString::from_vec(vec![b'a', 0xff]);
    let line = Line::try_parse_from([OsString::from("run"), "cat".into(), odd]).unwrap();
    let error = line.run.check(OnTerminal::default()).unwrap_err();
    assert!(error.contains(r#"CMD: "a\xFF" is not UTF-8"#), "{error}");
}

#[test]
fn the_default_id_is_the_file_name_of_the_command() {
    let id = |args: &[&str]| parse(args).unwrap().id().unwrap();
    assert_eq!(id(&["/usr/bin/make", "x"]).as_str(), "make");
    assert_eq!(id(&["make"]).as_str(), "make");
    assert_eq!(id(&["--id", "job/7", "make"]).as_str(), "job/7");
    assert_eq!(id(&["/"]).as_str(), "run");
}

#[test]
fn a_dash_is_standard_output() {
    for (path, to) in [
        ("-", ResultTo::Stdout),
        ("/dev/stdout", ResultTo::Path("/dev/stdout".into())),
        ("./-", ResultTo::Path("./-".into())),
        ("out.json", ResultTo::Path("out.json".into())),
    ] {
        assert_eq!(ResultTo::from(PathBuf::from(path)), to, "{path}");
    }
}

#[test]
fn a_foreground_process_inherits_our_fds_except_that_of_the_result() {
    let foreground =
        parse(&["-r", "/dev/fd/63", "cat"]).unwrap().check(OnTerminal::default()).unwrap();
    let passed = |request: Validated| request.procs.values().next().unwrap().passed.clone();
    assert!(passed(foreground.request.clone()).is_empty());
    assert_eq!(passed(foreground.with_fds(&[5, 62, 63])), vec![5, 62]);
}

#[test]
fn in_the_background_standard_input_is_null() {
    let spec = parse(&["cat"]).unwrap().spec(true).unwrap();
    let fds = serde_json::to_value(spec.fds).unwrap();
    assert_eq!(fds, json!([["stdin", {"null": {"flags": "Default"}}]]));
}
