//! Tests of reading and validation as a whole.

mod error_places;
mod sandbox;

use super::*;
use crate::quantity::Seconds;
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
    assert_eq!(w.fds[1].1, ValidatedFd::Pipe(PipeEnd::Write(0)));
    assert_eq!(w.fds[2].1, ValidatedFd::Dup(1));
    assert_eq!(
        w.fds[3].1,
        ValidatedFd::Open { path: "/dev/null".into(), flags: OpenFlags::ReadWrite, mode: 0o666 }
    );
    let r = &valid.procs["r"];
    assert_eq!((r.exe.as_str(), r.argv.len()), ("/bin/cat", 0));
    assert_eq!(
        r.fds[1].1,
        ValidatedFd::Capture(CaptureSpec {
            encoding: Some(Encoding::Utf8),
            ..CaptureSpec::default()
        })
    );
    assert_eq!(
        r.fds[3].1,
        ValidatedFd::Open { path: "/tmp/x".into(), flags: OpenFlags::Append, mode: 0o666 }
    );
}

#[test]
fn a_second_reader_of_a_pipe_is_an_error() {
    let found = errors(
        r#"{"specs": {"w": {"argv": ["x"], "fds": [["1", "pipe-write"]]},
        "a": {"argv": ["x"], "fds": [["0", {"pipe-read": {"proc_id": "w", "fd": "1"}}]]},
        "b": {"argv": ["x"], "fds": [["0", {"pipe-read": {"proc_id": "w", "fd": "stdout"}}]]}}}"#,
    );
    assert_eq!(
        found,
        [
            "3:38: specs.b.fds[0]: a second pipe-read of fd stdout of process \"w\"; remove one, for a pipe has one reader"
        ]
    );
}

#[test]
fn all_errors_at_once() {
    let found = errors(
        "{\"specs\": {\n\"a\": {\"argv\": []},\n\"b\": {\"argv\": [\"\\u0000\"], \"fds\": [[\"1\", \"pipe-write\"]]}}}",
    );
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("2:15: "), "{found:?}");
}

#[test]
fn deep_nesting_is_an_error() {
    let text = format!("{{\"specs\": {}", "[".repeat(100_000));
    assert!(from_json(text.as_bytes()).is_err());
    let mut deep = vec![0x91; 100_000];
    deep.push(0xc0);
    assert!(from_msgpack(&deep, false, false).is_err());
}

#[test]
fn messagepack_errors_name_their_place() {
    let specs =
        serde_json::json!({"a": {"argv": ["x"], "fds": [["1", {"null": {"flags": "Sometimes"}}]]}});
    let text = from_msgpack(&rmp_serde::to_vec_named(&specs).unwrap(), false, false)
        .unwrap_err()
        .to_string();
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
        capture_spec().prop_map(FdSpec::Capture),
        (prop::option::of(".*"), prop::option::of("[A-Za-z0-9+/=]{0,4}"))
            .prop_map(|(text, base64)| FdSpec::Data(DataSpec { text, base64 })),
        ("[a-c]", 0i32..5).prop_map(|(id, fd)| FdSpec::PipeRead(PipeReadSpec {
            proc_id: id.into(),
            fd: FdName::from_number(fd).unwrap()
        })),
    ]
}

fn capture_spec() -> impl Strategy<Value = CaptureSpec> {
    let encoding = prop::sample::select(vec![Encoding::Utf8, Encoding::Base64, Encoding::Base2048]);
    let compress =
        prop::sample::select(vec![Compression::Zstd, Compression::Gzip, Compression::Brotli]);
    let limit = (prop::option::of(0u64..9), prop::option::of(any::<u64>()))
        .prop_map(|(head, tail)| KeepSpec { head, tail });
    let file = ("/?[a-z]*", 0u32..0o20000, any::<bool>())
        .prop_map(|(path, mode, keep)| CaptureFile { path, mode, keep });
    (
        (any::<bool>(), prop::option::of(encoding), any::<bool>()),
        prop::option::of(limit),
        prop::option::of(compress),
        prop::option::of(file),
        prop::option::of(any::<u32>()),
        any::<bool>(),
    )
        .prop_map(
            |((memory, encoding, attached), keep, compress, file, pipe_size, chunk_times)| {
                let mode = if memory { CaptureMode::Memory } else { CaptureMode::Tempfile };
                CaptureSpec {
                    mode,
                    encoding,
                    attached,
                    keep,
                    compress,
                    file,
                    pipe_size,
                    chunk_times,
                }
            },
        )
}

fn account() -> impl Strategy<Value = Account> {
    prop_oneof![".*".prop_map(Account::Name), any::<u32>().prop_map(Account::Id)]
}

fn signal() -> impl Strategy<Value = SignalRef> {
    (1i32..=64).prop_map(|signum| SignalRef::from_number(signum).unwrap())
}

/// A spec with random attributes only, without arguments and fds.
fn attributes() -> impl Strategy<Value = ProcSpec> {
    let resource = prop::sample::select(vec![Resource::Nofile, Resource::Cpu, Resource::As]);
    let bound = prop_oneof![Just(Bound::Unlimited), (0..1u64 << 60).prop_map(Bound::Value)];
    let pair = (bound.clone(), bound).prop_map(|(soft, hard)| LimitPair { soft, hard });
    let class = prop::sample::select(vec![IoClass::Realtime, IoClass::BestEffort, IoClass::Idle]);
    let io_priority =
        (class, prop::option::of(0u8..9)).prop_map(|(class, level)| IoPriority { class, level });
    let signals = || prop::collection::vec(signal(), 0..3);
    let signals = (signals(), signals(), signals())
        .prop_map(|(ignore, default, block)| SignalsSpec { ignore, default, block });
    // Quarters, which JSON writes and reads exactly.
    let seconds = || (0i32..4000).prop_map(|quarters| f64::from(quarters) / 4.0);
    let stop = (signal(), seconds()).prop_map(|(signal, grace)| {
        let grace = Seconds::new(grace).unwrap();
        StopSpec { signal, grace }
    });
    let stop = prop::option::of(stop);
    let who = (
        prop::option::of(account()),
        prop::option::of(account()),
        prop::option::of(prop::collection::vec(account(), 0..3)),
    );
    let places = (prop::option::of(".*"), prop::option::of("[0-8]{0,4}"), any::<bool>());
    let scheduling = (
        prop::option::of(-21i32..21),
        prop::option::of(-1001i32..1002),
        prop::option::of(prop::collection::vec(0u32..9000, 0..3)),
        prop::option::of(io_priority),
    );
    let limits = prop::collection::vec((resource, pair), 0..3);
    let labels = prop::collection::vec((".*", ".*"), 0..3);
    let ends = (prop::option::of(signal()), signals, prop::option::of(seconds()), stop);
    (who, places, scheduling, limits, labels, ends, sandbox::sandbox()).prop_map(
        |(who, places, scheduling, limits, labels, ends, sandbox)| ProcSpec {
            user: who.0,
            group: who.1,
            groups: who.2,
            cwd: places.0,
            umask: places.1,
            lookup_path: places.2,
            nice: scheduling.0,
            oom_score_adj: scheduling.1,
            cpu_affinity: scheduling.2,
            io_priority: scheduling.3,
            rlimits: limits.into_iter().collect(),
            labels: labels.into_iter().collect(),
            pdeath_signal: ends.0,
            signals: ends.1,
            timeout: ends.2.and_then(Seconds::new),
            stop: ends.3,
            sandbox,
            ..ProcSpec::default()
        },
    )
}

fn variable() -> impl Strategy<Value = VarSpec> {
    let detailed = (prop::option::of(".*"), prop::option::of(".*"), any::<bool>())
        .prop_map(|(value, file, secret)| VarSpec::Detailed(VarValue { value, file, secret }));
    prop_oneof![Just(VarSpec::Unset), ".*".prop_map(VarSpec::Text), detailed]
}

pub(super) fn request() -> impl Strategy<Value = StartRequest> {
    let proc = (
        prop::collection::vec(".*", 0..3),
        prop::option::of(".*"),
        prop::option::of(prop_oneof![
            Just(Inherit::All),
            Just(Inherit::None),
            prop::collection::vec(".*", 0..3).prop_map(Inherit::Names)
        ]),
        (prop::collection::vec((".*", variable()), 0..3), any::<bool>()),
        (any::<bool>(), prop::collection::vec((0i32..8, fd_spec()), 0..5)),
        prop_oneof![Just(ProcSpec::default()), attributes()],
    )
        .prop_map(|(argv, exe, inherit, (vars, report), (in_order, fds), rest)| {
            let fds = fds.into_iter().map(|(fd, spec)| (FdName::from_number(fd).unwrap(), spec));
            ProcSpec {
                argv,
                exe,
                env: EnvSpec { inherit, vars: vars.into_iter().collect(), in_result: report },
                fds: match in_order {
                    true => Fds::InOrder(fds.map(|(fd, spec)| FdEntry(fd, spec)).collect()),
                    false => Fds::ByName(fds.collect()),
                },
                ..rest
            }
        });
    prop::collection::vec(("[a-c]", proc), 0..4).prop_map(|procs| StartRequest {
        specs: procs.into_iter().map(|(id, proc)| (id.into(), proc)).collect(),
        all_or_nothing: false,
        idempotent: false,
    })
}

proptest! {
    /// A request is read back unchanged from both formats, and validation has the same result for
    /// both.
    #[test]
    fn round_trips(request in request()) {
        let json = serde_json::to_vec(&request).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<StartRequest>(&json).unwrap(), &request);
        // As a client sends them: maps with the keys of JSON, in the same order.
        let mut packed = Vec::new();
        let mut as_json = rmp_serde::Serializer::new(&mut packed).with_struct_map().with_human_readable();
        serde::Serialize::serialize(&request.specs, &mut as_json).unwrap();
        match (from_json(&json), from_msgpack(&packed, false, false)) {
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

    #[test]
    fn the_schema_accepts_every_valid_request(request in request()) {
        static SCHEMA: std::sync::LazyLock<jsonschema::Validator> =
            std::sync::LazyLock::new(|| jsonschema::validator_for(schema().as_value()).unwrap());
        let json = serde_json::to_value(&request).unwrap();
        let errors: Vec<String> = SCHEMA.iter_errors(&json).map(|error| error.to_string()).collect();
        prop_assert!(errors.is_empty(), "{:?}\n{}", errors, json);
    }

    /// In a valid request every pipe has one end of each kind, in two processes.
    #[test]
    fn every_pipe_has_both_ends(request in request()) {
        if let Ok(valid) = request.validate() {
            let ends = |wanted: fn(usize) -> PipeEnd, pipe| {
                valid.procs.values().map(|proc| {
                    proc.fds.iter().filter(|(_, fd)| *fd == ValidatedFd::Pipe(wanted(pipe))).count()
                }).sum::<usize>()
            };
            for pipe in 0..valid.pipes {
                prop_assert_eq!(ends(PipeEnd::Write, pipe), 1);
                prop_assert_eq!(ends(PipeEnd::Read, pipe), 1);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(text: Vec<u8>) {
        let _ = from_json(&text);
        let _ = from_msgpack(&text, false, false);
    }
}

#[test]
fn only_the_first_100_errors_are_reported() {
    let procs: Vec<String> = (0..2000).map(|i| format!(r#""{i}": {{"argv": []}}"#)).collect();
    let text = format!(r#"{{"specs": {{{}}}}}"#, procs.join(",\n"));
    let errors = from_json(text.as_bytes()).unwrap_err().0;
    assert_eq!(errors.len(), 101);
    assert!(errors.iter().all(|error| error.position.is_some()));
    assert_eq!(errors[99].place.to_string(), "specs.99.argv");
    assert_eq!(errors[99].position, Some((100, 16)));
    assert_eq!(
        errors[100].message,
        "only the first 100 errors are shown; correct them, and check again"
    );
}

/// For a text that is too large, and for one that would be read again too often.
#[test]
fn the_search_for_errors_is_bounded() {
    let further = "the request is too large to be searched for further errors; correct these, and check again";
    let wrong = r#""a": {"argvv": [], "argv": ["x"], "cwd": 7}, "b": 7"#;
    let padded = |room: usize| format!(r#"{{"specs": {{{wrong}}}}}{}"#, " ".repeat(room));
    let texts = |text: &str| -> Vec<String> {
        from_json(text.as_bytes()).unwrap_err().0.into_iter().map(|error| error.message).collect()
    };
    let few = texts(&padded(0));
    assert_eq!(few.len(), 3, "{few:?}");
    assert!(few[0].starts_with("unknown key `argvv`") && few[2].starts_with("invalid type"));
    let large = texts(&padded(2 << 20));
    assert_eq!((large.len(), large[1].as_str()), (2, further));
    assert!(large[0].starts_with("unknown field `argvv`"), "{large:?}");
    // A user's own file is searched to its end.
    assert_eq!(diagnose(padded(2 << 20).as_bytes()).unwrap_err().0.len(), 3);
    let argument = "x".repeat(500_000);
    let many: Vec<String> = (0..50).map(|i| format!(r#""{i}": 7"#)).collect();
    let text = format!(r#"{{"specs": {{"a": {{"argv": ["{argument}"]}}, {}}}}}"#, many.join(","));
    let often = texts(&text);
    assert!((5..20).contains(&often.len()), "{}", often.len());
    assert_eq!(often.last().map(String::as_str), Some(further));
}

/// The messages equal those for JSON, but have no line and column.
#[test]
fn all_errors_of_a_request_in_messagepack_are_reported() {
    let specs = serde_json::json!({
        "a": {"argvv": ["x"], "cwd": 7, "nice": 99, "fds": [["x1", "close"]]},
        "b": {"argv": "/bin/true"},
        "": {"argv": ["x"]},
    });
    let text = serde_json::json!({ "specs": specs }).to_string();
    let packed = from_msgpack(&rmp_serde::to_vec(&specs).unwrap(), false, false).unwrap_err().0;
    assert!(packed.iter().all(|error| error.position.is_none()));
    let mut packed: Vec<String> = packed.iter().map(ToString::to_string).collect();
    let read = from_json(text.as_bytes()).unwrap_err().0.into_iter();
    let read = read.map(|error| SpecError { position: None, ..error }.to_string());
    let mut read: Vec<String> = read.collect();
    assert_eq!(packed.len(), 7, "{packed:#?}");
    assert!(packed.iter().any(|error| error.starts_with("specs.a.argvv: unknown key `argvv`")));
    packed.sort();
    read.sort();
    assert_eq!(packed, read);
    // For a key that JSON cannot represent, only the first error is reported.
    let odd = rmp_serde::to_vec(&std::collections::BTreeMap::from([(1, "x")])).unwrap();
    assert_eq!(from_msgpack(&odd, false, false).unwrap_err().0.len(), 1);
}

#[test]
fn ids_that_no_url_path_can_contain_are_rejected() {
    let with = |id: &str| serde_json::json!({"specs": {id: {"argv": ["x"]}}});
    let validator = jsonschema::validator_for(schema().as_value()).unwrap();
    for (id, length) in [
        ("", 0),
        (&"x".repeat(4097), 4097),
        (&"\u{e9}".repeat(2049), 4098),
        (&"x".repeat(70_000), 70_000),
    ] {
        let errors = from_json(with(id).to_string().as_bytes()).unwrap_err().0;
        assert_eq!(errors.len(), 1);
        let message = format!("invalid process ID of {length} bytes: expected 1 to 4096 bytes");
        assert_eq!(errors[0].message, message);
        // The place abbreviates a long ID.
        assert!(errors[0].to_string().len() < 500);
        let packed = rmp_serde::to_vec(&with(id)["specs"]).unwrap();
        assert_eq!(from_msgpack(&packed, false, false).unwrap_err().0[0].message, message);
        assert!(length == 4098 || !validator.is_valid(&with(id)));
    }
    for id in ["x", ".", "..", "\u{e9}", &"x".repeat(4096)] {
        from_json(with(id).to_string().as_bytes()).unwrap();
        assert!(validator.is_valid(&with(id)));
    }
}

#[test]
fn attributes_are_validated_to_their_values() {
    let text = r#"{"specs": {"a": {"argv": ["x"], "cwd": "/tmp", "umask": "0027", "user": "nobody", "group": 5,
        "groups": ["a", 7], "rlimits": {"nofile": [10, "unlimited"], "core": 0}, "nice": -5, "timeout": 1.5,
        "pdeath_signal": "KILL", "signals": {"ignore": ["SIGINT", 1], "block": ["RTMIN+1"]},
        "stop": {"signal": "INT", "grace": 2}, "labels": {"team": "a"},
        "env": {"vars": {"T": {"file": "/run/t", "secret": true}, "V": {"value": "v"}}}}},
        "all_or_nothing": true, "idempotent": true}"#;
    let valid = from_json(text.as_bytes()).unwrap();
    assert!(valid.all_or_nothing && valid.idempotent);
    let proc = &valid.procs["a"];
    let attributes = &proc.attributes;
    assert_eq!((attributes.umask, attributes.group.as_ref()), (Some(0o027), Some(&Account::Id(5))));
    assert_eq!(attributes.user, Some(Account::Name("nobody".into())));
    let nofile = LimitPair { soft: Bound::Value(10), hard: Bound::Unlimited };
    assert_eq!(attributes.limits.get(&Resource::Nofile), Some(&nofile));
    assert_eq!(attributes.signals, SignalSets { ignore: 0b11, block: 1 << 34 });
    assert_eq!(attributes.pdeath_signal, Some(9));
    assert_eq!(
        (proc.timeout, proc.stopping),
        (Some(1.5), Stopping { signum: 2, grace: 2.0, given: true })
    );
    let default = from_json(br#"{"specs": {"a": {"argv": ["x"]}}}"#).unwrap();
    let proc = &default.procs["a"];
    assert_eq!((&proc.attributes, proc.timeout), (&Attributes::default(), None));
    assert_eq!(proc.stopping, Stopping::default());
}

#[test]
fn the_digest_differs_between_specs() {
    let digest = |proc: &str| {
        let text = format!(r#"{{"specs": {{"a": {proc}}}}}"#);
        from_json(text.as_bytes()).unwrap().procs["a"].digest
    };
    let plain = digest(r#"{"argv": ["x"]}"#);
    assert_ne!(plain, Digest::default());
    assert_eq!(plain, digest(r#"{"env": {}, "argv": ["x"], "nice": null}"#));
    for other in [
        r#"{"argv": ["y"]}"#,
        r#"{"argv": ["x"], "nice": 0}"#,
        r#"{"argv": ["x"], "labels": {"a": "b"}}"#,
        r#"{"argv": ["x"], "env": {"vars": {"A": null}}}"#,
    ] {
        assert_ne!(plain, digest(other), "{other}");
    }
}

/// An idempotent start compares digests, and programs may write the keys of an object in any order.
#[test]
fn the_digest_ignores_the_order_of_unordered_keys() {
    let digest = |proc: &str| {
        let text = format!(r#"{{"specs": {{"a": {proc}}}}}"#);
        from_json(text.as_bytes()).unwrap().procs["a"].digest
    };
    for [one, other] in [
        [r#""labels": {"a": "1", "b": "2"}"#, r#""labels": {"b": "2", "a": "1"}"#],
        [r#""env": {"vars": {"A": "1", "B": null}}"#, r#""env": {"vars": {"B": null, "A": "1"}}"#],
        [r#""env": {"inherit": ["A", "B"]}"#, r#""env": {"inherit": ["B", "A", "B"]}"#],
        [r#""rlimits": {"core": 0, "nofile": 9}"#, r#""rlimits": {"nofile": 9, "core": 0}"#],
        [r#""fds": {"0": "inherit", "2": "close"}"#, r#""fds": {"2": "close", "0": "inherit"}"#],
        [r#""cpu_affinity": [0, 1]"#, r#""cpu_affinity": [1, 0]"#],
    ] {
        let [one, other] =
            [one, other].map(|keys| digest(&format!(r#"{{"argv": ["x"], {keys}}}"#)));
        assert_eq!(one, other);
    }
    // The order of an array of fds is significant.
    let array = |fds: &str| digest(&format!(r#"{{"argv": ["x"], "fds": [{fds}]}}"#));
    assert_ne!(
        array(r#"["1", "close"], ["2", {"dup": {"fd": 1}}]"#),
        array(r#"["2", {"dup": {"fd": 1}}], ["1", "close"]"#)
    );
}

#[test]
fn a_cycle_of_fds_by_name_is_an_error_that_suggests_an_array() {
    let text = r#"{"specs": {"a": {"argv": ["x"], "fds": {"3": {"dup": {"fd": 4}}, "4": {"dup": {"fd": 3}}}}}}"#;
    let errors = from_json(text.as_bytes()).unwrap_err().to_string();
    assert!(errors.contains("array of [FD_NAME, FD]"), "{errors}");
    let swap = text.replace(
        r#"{"3": {"dup": {"fd": 4}}, "4": {"dup": {"fd": 3}}}"#,
        r#"[["5", {"dup": {"fd": 3}}], ["3", {"dup": {"fd": 4}}], ["4", {"dup": {"fd": 5}}]]"#,
    );
    assert!(from_json(swap.as_bytes()).is_ok());
}

#[test]
fn a_byte_order_mark_is_skipped_and_other_encodings_are_reported() {
    let text = r#"{"specs": {"a": {"argv": ["x"], "nice": 50}}}"#;
    let marked = format!("\u{feff}{text}");
    for read in [from_json, diagnose] {
        assert_eq!(
            read(marked.as_bytes()).unwrap_err().to_string(),
            read(text.as_bytes()).unwrap_err().to_string()
        );
        assert!(read(format!("\u{feff}{}", text.replace("50", "5")).as_bytes()).is_ok());
        let utf16: Vec<u16> = text.encode_utf16().collect();
        let little: Vec<u8> = utf16.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = utf16.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        for text in [
            &[b"\xff\xfe", little.as_slice()].concat(),
            &little,
            &[b"\xfe\xff", big.as_slice()].concat(),
            &big,
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("UTF-16") && error.contains("UTF-8"), "{error}");
        }
    }
}

#[test]
fn fds_by_name_follow_the_fds_that_they_duplicate() {
    let text = r#"{"specs": {"a": {"argv": ["x"], "fds": {
        "5": {"dup": {"fd": 4}}, "4": {"dup": {"fd": 1}}, "stderr": {"dup": {"fd": 9}},
        "stdout": {"capture": {}}, "0": {"data": {"base64": "AP8="}}}}}}"#;
    let valid = from_json(text.as_bytes()).unwrap();
    let order: Vec<String> = valid.procs["a"].fds.iter().map(|(fd, _)| fd.to_string()).collect();
    assert_eq!(order, ["stdout", "stdin", "4", "stderr", "5"]);
    assert_eq!(valid.procs["a"].fds[1].1, ValidatedFd::Data(vec![0, 255]));
}
