//! Tests of reading and validation as a whole.

use super::*;
use proptest::prelude::*;

fn errors(text: &str) -> Vec<String> {
    from_json(text.as_bytes()).unwrap_err().0.iter().map(ToString::to_string).collect()
}

#[test]
fn a_whole_spec() {
    let text = r#"{"specs": {
        "w": {"argv": ["/bin/echo", "x"], "fds": [
            ["stdin", "close"], ["stdout", "pipe-write"], ["2", {"dup": {"fd": 1}}], ["7", {"null": {}}]]},
        "r": {"argv": [], "exe": "/bin/cat", "id": null, "env": {"inherit": ["HOME"], "vars": {"A": "1", "B": null}},
            "fds": [["0", {"pipe-read": {"proc_id": "w", "fd": "1"}}], ["1", {"capture": {"encoding": "utf-8"}}],
                    ["3", "inherit"], ["4", {"file": {"path": "/tmp/x", "flags": "Append"}}]],
            "systemd_properties": {"scope": null, "slice": {"memory_max": 1000}}}}}"#;
    let valid = from_json(text.as_bytes()).unwrap();
    assert_eq!(valid.pipes, 1);
    let w = &valid.procs["w"];
    assert_eq!(w.exe, "/bin/echo");
    assert_eq!(w.fds[1].1, validate::ValidatedFd::Pipe(PipeEnd::Write(0)));
    assert_eq!(w.fds[2].1, validate::ValidatedFd::Dup(1));
    assert_eq!(
        w.fds[3].1,
        validate::ValidatedFd::Open {
            path: "/dev/null".into(),
            flags: OpenFlags::ReadWrite,
            mode: 0o666
        }
    );
    let r = &valid.procs["r"];
    assert_eq!((r.exe.as_str(), r.argv.len()), ("/bin/cat", 0));
    assert_eq!(
        r.fds[1].1,
        validate::ValidatedFd::Capture(CaptureSpec {
            mode: CaptureMode::Tempfile,
            encoding: Some(TextEncoding::Utf8),
            attached: true
        })
    );
    assert_eq!(
        r.fds[3].1,
        validate::ValidatedFd::Open {
            path: "/tmp/x".into(),
            flags: OpenFlags::Append,
            mode: 0o666
        }
    );
}

#[test]
fn errors_name_their_place() {
    let cases = [
        (
            r#"{"specs": {"a": {"argv": ["x"], "fds": [["stdout", "close"], ["1", "close"]]}}}"#,
            "specs.a.fds[1]: fd stdout given twice (line 1, column 62)",
        ),
        (r#"{"specs": {"a": {"argv": []}}}"#, "specs.a.argv: empty, and no exe is given"),
        (
            r#"{"specs": {"a": {"argv": ["a\u0000b"]}}}"#,
            "specs.a.argv[0]: the argument contains a NUL",
        ),
        (
            r#"{"specs": {"a": {"argv": ["x"], "exe": "\u0000"}}}"#,
            "specs.a.exe: the path contains a NUL",
        ),
        (
            r#"{"specs": {"a b": {"argv": ["x"], "env": {"vars": {"A=B": "1"}}}}}"#,
            "specs[\"a b\"].env.vars[\"A=B\"]: the variable's name contains '='",
        ),
        (
            r#"{"specs": {"a": {"argv": ["x"], "env": {"vars": {"": "1"}}}}}"#,
            "the variable's name is empty",
        ),
        (
            r#"{"specs": {"a": {"argv": ["x"], "env": {"vars": {"A": "\u0000"}}}}}"#,
            "specs.a.env.vars.A: the value contains a NUL",
        ),
        (
            r#"{"specs": {"a": {"argv": ["x"], "env": {"inherit": ["A", "="]}}}}"#,
            "specs.a.env.inherit[1]: the variable's name contains '='",
        ),
        (
            r#"{"specs": {"a": {"argv": ["x"], "fds": [["1048576", "close"]]}}}"#,
            "specs.a.fds[0]: fd 1048576 is out of range",
        ),
        (
            r#"{"specs": {"a": {"argv": ["x"], "fds": [["1", {"dup": {"fd": -1}}]]}}}"#,
            "specs.a.fds[0]: fd -1 to duplicate is out of range",
        ),
        (
            r#"{"specs": {"a": {"argv": ["x"], "fds": [["1", {"file": {"path": "\u0000"}}]]}}}"#,
            "specs.a.fds[0]: the file's path contains a NUL",
        ),
        (
            r#"{"specs": {"a": {"argv": ["x"], "fds": [["1", {"file": {"path": "x", "mode": 4096}}]]}}}"#,
            "specs.a.fds[0]: mode 0o10000 is out of range",
        ),
        (
            r#"{"specs": {"a": {"argv": ["x"], "fds": [["1", "pipe-write"]]}}}"#,
            "specs.a.fds[0]: pipe-write that no process",
        ),
        (
            r#"{"specs": {"a": {"argv": ["x"], "fds": [["1", {"pipe-read": {"proc_id": "b", "fd": "1"}}]]}}}"#,
            "specs.a.fds[0]: pipe-read without its pipe-write: fd stdout of process \"b\"",
        ),
        (
            r#"{"specs": {"a": {"argv": ["x"], "fds": [["1", "pipe-write"], ["0", {"pipe-read": {"proc_id": "a", "fd": "1"}}]]}}}"#,
            "specs.a.fds[1]: pipe-read from the process itself",
        ),
        // Of the wrong kind or shape: the first alone.
        (r#"{"specs": {"a": {"argv": ["x"], "cdw": "/"}}}"#, "specs.a.cdw: unknown field `cdw`"),
        (r#"{"specs": {}, "x": 1}"#, "x: unknown field `x`"),
        (
            r#"{"specs": {"a": {"argv": ["x"]}, "a": {"argv": ["y"]}}}"#,
            "specs: key \"a\" given twice",
        ),
        (
            r#"{"specs": {"a": {"argv": "x"}}}"#,
            "specs.a.argv: invalid type: string \"x\", expected a sequence",
        ),
        (
            r#"{"specs": {"a": {"argv": ["x"], "fds": [["out", "close"]]}}}"#,
            "invalid fd name \"out\"",
        ),
        (
            r#"{"specs": {"a": {"argv": ["x"], "fds": [["-1", "close"]]}}}"#,
            "invalid fd name \"-1\"",
        ),
        (r#"{"specs": {"a": {"argv": ["x"], "fds": [["1", "capture"]]}}}"#, "specs.a.fds[0][1]"),
        (
            r#"{"specs": {"a": {"argv": ["x"], "fds": [["1", {"capture": {"encoding": "latin-1"}}]]}}}"#,
            "unknown variant `latin-1`, expected `utf-8`",
        ),
        (
            r#"{"specs": {"a": {"argv": ["x"], "env": {"inherit": 1}}}}"#,
            "specs.a.env.inherit: invalid type: integer `1`, expected true, false or an array of variable names",
        ),
        ("{\n  \"specs\": {\n", "EOF while parsing"),
        ("[]", "invalid length 0, expected struct Request"),
        ("{\"specs\": {}} x", "trailing characters (line 1, column 15)"),
        ("", "EOF"),
    ];
    for (text, message) in cases {
        let errors = errors(text);
        assert!(errors[0].contains(message), "{text}\n{errors:?}\nexpected {message}");
    }
}

#[test]
fn two_readers_of_one_end() {
    let found = errors(
        r#"{"specs": {"w": {"argv": ["x"], "fds": [["1", "pipe-write"]]},
        "a": {"argv": ["x"], "fds": [["0", {"pipe-read": {"proc_id": "w", "fd": "1"}}]]},
        "b": {"argv": ["x"], "fds": [["0", {"pipe-read": {"proc_id": "w", "fd": "stdout"}}]]}}}"#,
    );
    assert_eq!(
        found,
        ["specs.b.fds[0]: a second pipe-read of fd stdout of process \"w\" (line 3, column 38)"]
    );
}

#[test]
fn all_errors_at_once() {
    let found = errors(
        "{\"specs\": {\n\"a\": {\"argv\": []},\n\"b\": {\"argv\": [\"\\u0000\"], \"fds\": [[\"1\", \"pipe-write\"]]}}}",
    );
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].ends_with("(line 2, column 15)"), "{found:?}");
}

#[test]
fn deep_nesting_is_an_error() {
    let text = format!("{{\"specs\": {}", "[".repeat(100_000));
    assert!(from_json(text.as_bytes()).is_err());
    let mut deep = vec![0x91; 100_000];
    deep.push(0xc0);
    assert!(from_msgpack(&deep).is_err());
}

#[test]
fn messagepack_errors_name_their_place() {
    let specs =
        serde_json::json!({"a": {"argv": ["x"], "fds": [["1", {"null": {"flags": "Sometimes"}}]]}});
    let text = from_msgpack(&rmp_serde::to_vec_named(&specs).unwrap()).unwrap_err().to_string();
    assert!(text.starts_with("specs.a.fds[0]"), "{text}");
    assert!(text.contains("Sometimes"), "{text}");
}

fn fd_spec() -> impl Strategy<Value = FdSpec> {
    let flags = prop::sample::select(vec![
        OpenFlags::Default,
        OpenFlags::Read,
        OpenFlags::Write,
        OpenFlags::Create,
        OpenFlags::Replace,
        OpenFlags::Append,
        OpenFlags::CreateAppend,
        OpenFlags::ReadWrite,
    ]);
    prop_oneof![
        Just(FdSpec::Inherit),
        Just(FdSpec::Close),
        Just(FdSpec::PipeWrite),
        flags.clone().prop_map(|flags| FdSpec::Null(NullSpec { flags })),
        (".*", flags, 0u32..0o10000).prop_map(|(path, flags, mode)| FdSpec::File(FileSpec {
            path,
            flags,
            mode
        })),
        (0i64..100).prop_map(|fd| FdSpec::Dup(DupSpec { fd })),
        (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(memory, text, attached)| {
            FdSpec::Capture(CaptureSpec {
                mode: if memory { CaptureMode::Memory } else { CaptureMode::Tempfile },
                encoding: text.then_some(TextEncoding::Utf8),
                attached,
            })
        }),
        ("[a-c]", 0i32..5).prop_map(|(id, fd)| FdSpec::PipeRead(PipeReadSpec {
            proc_id: id.into(),
            fd: FdName::from_number(fd).unwrap()
        })),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let proc = (
        prop::collection::vec(".*", 0..3),
        prop::option::of(".*"),
        prop_oneof![
            Just(Inherit::All),
            Just(Inherit::None),
            prop::collection::vec(".*", 0..3).prop_map(Inherit::Names)
        ],
        prop::collection::vec((".*", prop::option::of(".*")), 0..3),
        prop::collection::vec((0i32..8, fd_spec()), 0..5),
    )
        .prop_map(|(argv, exe, inherit, vars, fds)| ProcSpec {
            argv,
            exe,
            id: None,
            env: EnvSpec { inherit, vars: vars.into_iter().collect() },
            fds: fds
                .into_iter()
                .map(|(fd, spec)| FdEntry(FdName::from_number(fd).unwrap(), spec))
                .collect(),
            systemd_properties: SystemdProperties::default(),
        });
    prop::collection::vec(("[a-c]", proc), 0..4).prop_map(|procs| Request {
        specs: procs.into_iter().map(|(id, proc)| (id.into(), proc)).collect(),
    })
}

proptest! {
    /// What is written is read again as the same, in both formats, and both say the same of it.
    #[test]
    fn round_trips(request in request()) {
        let json = serde_json::to_vec(&request).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<Request>(&json).unwrap(), &request);
        let packed = rmp_serde::to_vec_named(&request.specs).unwrap();
        match (from_json(&json), from_msgpack(&packed)) {
            (Ok(a), Ok(b)) => {
                prop_assert_eq!(&a, &b);
                prop_assert_eq!(a.procs.len(), request.specs.len());
            }
            (Err(a), Err(b)) => {
                prop_assert_eq!(a.0.len(), b.0.len());
                prop_assert!(a.0.iter().all(|e| e.position.is_some()));
            }
            (a, b) => prop_assert!(false, "{a:?} {b:?}"),
        }
    }

    /// In a valid request every pipe has one end of each kind, in two processes.
    #[test]
    fn pipes_are_whole(request in request()) {
        if let Ok(valid) = request.validate() {
            let ends = |wanted: fn(usize) -> PipeEnd, pipe| {
                valid.procs.values().map(|proc| {
                    proc.fds.iter().filter(|(_, fd)| *fd == validate::ValidatedFd::Pipe(wanted(pipe))).count()
                }).sum::<usize>()
            };
            for pipe in 0..valid.pipes {
                prop_assert_eq!(ends(PipeEnd::Write, pipe), 1);
                prop_assert_eq!(ends(PipeEnd::Read, pipe), 1);
            }
        }
    }

    #[test]
    fn any_bytes(text: Vec<u8>) {
        let _ = from_json(&text);
        let _ = from_msgpack(&text);
    }
}

#[test]
fn of_very_many_errors_the_first_are_located() {
    let procs: Vec<String> = (0..2000).map(|i| format!(r#""{i}": {{"argv": []}}"#)).collect();
    let text = format!(r#"{{"specs": {{{}}}}}"#, procs.join(",\n"));
    let errors = from_json(text.as_bytes()).unwrap_err().0;
    assert_eq!(errors.len(), 2000);
    assert_eq!(errors[9].position.map(|(line, _)| line), Some(10));
    assert_eq!(errors.iter().filter(|error| error.position.is_some()).count(), 50);
    assert_eq!(errors[1999].place.to_string(), "specs.1999.argv");
}
