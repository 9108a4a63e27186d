//! The descriptors of a process: every map of them, flags of files, and errors that name each.

use super::*;

/// Compares the fds of the child, as `number -> target`.
#[test]
fn any_fd_map() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let cap = |mode: &str| json!({"capture": {"mode": mode, "encoding": "utf-8"}});
    // name, fds, script, (fd, its output)
    let all: Vec<_> = (3..=64)
        .map(|n| json!([n.to_string(), cap(if n % 2 == 0 { "memory" } else { "tempfile" })]))
        .collect();
    let table = [
        (
            "3 to 64",
            json!(all),
            "for i in {3..64}; do echo -n fd$i >&$i; done".to_owned(),
            (3..=64).map(|n| (n.to_string(), format!("fd{n}"))).collect::<Vec<_>>(),
        ),
        (
            "from above down",
            json!([["9", cap("memory")], ["5", cap("memory")], ["1", cap("memory")]]),
            "echo -n 9 >&9; echo -n 5 >&5; echo -n 1".into(),
            vec![("9".into(), "9".into()), ("5".into(), "5".into()), ("1".into(), "1".into())],
        ),
        (
            "a duplicate of an earlier one",
            json!([["1", cap("memory")], ["2", {"dup": {"fd": 1}}]]),
            "echo -n a; echo -n b >&2; echo -n c".into(),
            vec![("1".into(), "abc".into())],
        ),
        (
            "a duplicate before its original is replaced",
            json!([["1", {"file": {"path": file("old")}}], ["3", {"dup": {"fd": 1}}], ["2", cap("memory")]]),
            format!("echo -n x >&3; echo -n \"$(<{})\" >&2", file("old")),
            vec![("2".into(), "x".into())],
        ),
        (
            "a swap through a third",
            json!([["5", cap("memory")], ["6", cap("memory")], ["7", {"dup": {"fd": 5}}], ["8", {"dup": {"fd": 6}}]]),
            "exec 5>&8 6>&7; echo -n five >&5; echo -n six >&6".into(),
            vec![("5".into(), "six".into()), ("6".into(), "five".into())],
        ),
        (
            "a chain of duplicates",
            json!([["1", cap("tempfile")], ["10", {"dup": {"fd": 1}}], ["11", {"dup": {"fd": 10}}], ["12", {"dup": {"fd": 11}}]]),
            "echo -n a >&12; echo -n b >&1; echo -n c >&10".into(),
            vec![("1".into(), "abc".into())],
        ),
        (
            "closed ones are closed",
            json!([
                ["stdin", "close"],
                ["stderr", "close"],
                ["stdout", cap("memory")],
                ["44", "close"]
            ]),
            "for i in 0 2 44; do [ -e /proc/self/fd/$i ] && echo -n open $i; done; echo -n done"
                .into(),
            vec![("1".into(), "done".into())],
        ),
        (
            "a file read and written",
            json!([["stdin", {"file": {"path": "/etc/hostname"}}], ["1", cap("memory")]]),
            "cmp - /etc/hostname && echo -n same".into(),
            vec![("1".into(), "same".into())],
        ),
    ];
    for (name, fds, script, outputs) in table {
        let (ended, _harness) = run(sh(&script, fds));
        assert_eq!((ended.status, messages(&ended)), (0, vec![]), "{name}");
        for (fd, wanted) in outputs {
            assert_eq!(text(&ended, &fd), wanted, "{name}, fd {fd}");
        }
    }
}

/// A random fd of a map, and its content: an earlier text, or a capture.
#[derive(Clone, Debug)]
enum Kind {
    Data(String),
    Capture(&'static str),
    Dup(usize),
    Null,
    Close,
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        "[a-z]{0,20}".prop_map(Kind::Data),
        Just(Kind::Capture("memory")),
        Just(Kind::Capture("tempfile")),
        any::<usize>().prop_map(Kind::Dup),
        Just(Kind::Null),
        Just(Kind::Close),
    ]
}

/// The text that a test process writes to each fd that is open for writing.
fn mark(fd: i32) -> String {
    format!("<{fd}>")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// In any map of fds, each matches a model of the array in order, and no other fd is open.
    #[test]
    fn random_fd_maps(
        map in prop::collection::btree_map(0i32..40, kinds(), 1..12),
        order in any::<prop::sample::Index>(),
    ) {
        let mut entries: Vec<(i32, Kind)> = map.into_iter().collect();
        let start = order.index(entries.len());
        entries.rotate_left(start);
        // The model: the entry that each number refers to, in order.
        let mut table: std::collections::BTreeMap<i32, Option<usize>> =
            [0, 1, 2].map(|fd| (fd, None)).into();
        let mut fds = Vec::new();
        for (index, (fd, kind)) in entries.iter().enumerate() {
            let earlier: Vec<i32> = table.keys().copied().collect();
            let spec = match kind {
                Kind::Data(text) => json!({"data": {"text": text}}),
                Kind::Capture(mode) => json!({"capture": {"mode": mode}}),
                Kind::Null => json!({"null": {"flags": "ReadWrite"}}),
                Kind::Close => json!("close"),
                Kind::Dup(which) if !earlier.is_empty() => {
                    json!({"dup": {"fd": earlier[which % earlier.len()]}})
                }
                Kind::Dup(_) => json!("close"),
            };
            match kind {
                Kind::Close => { table.remove(fd); }
                Kind::Dup(which) if !earlier.is_empty() => {
                    let from = table[&earlier[which % earlier.len()]];
                    table.insert(*fd, from);
                }
                Kind::Dup(_) => { table.remove(fd); }
                _ => { table.insert(*fd, Some(index)); }
            }
            fds.push(json!([fd.to_string(), spec]));
        }
        // A last fd, far away, receives the report: the open fds and their contents. Then the
        // process writes to each.
        fds.push(json!(["99", {"capture": {"mode": "memory"}}]));
        let script = "import os, sys
open_ = []
for fd in range(99):
    try: os.fstat(fd); open_.append(fd)
    except OSError: pass
for fd in open_:
    try: data = os.pread(fd, 100, 0) if fd not in (%s) else b''
    except OSError: data = b''
    os.write(99, b'%%d=%%s\\n' %% (fd, data))
for fd in open_:
    if fd not in (%s):
        try: os.write(fd, b'<%%d>' %% fd)
        except OSError: pass
";
        let own: String = table
            .iter()
            .filter(|(_, to)| to.is_none())
            .map(|(fd, _)| format!("{fd}, "))
            .collect();
        let script = script.replace("%s)", &format!("{own})")).replace("%%", "%");
        let (ended, _harness) =
            run(json!({"argv": ["/usr/bin/python3", "-S", "-c", script], "fds": fds}));
        prop_assert_eq!((ended.status, messages(&ended)), (0, vec![]));
        let told: String = table
            .iter()
            .map(|(fd, to)| match to.map(|to| &entries[to].1) {
                Some(Kind::Data(text)) => format!("{fd}={text}\n"),
                _ => format!("{fd}=\n"),
            })
            .collect();
        prop_assert_eq!(text(&ended, "99"), told);
        for (index, (fd, kind)) in entries.iter().enumerate() {
            if matches!(kind, Kind::Capture(_)) {
                let wanted: String =
                    table.iter().filter(|(_, to)| **to == Some(index)).map(|(fd, _)| mark(*fd)).collect();
                prop_assert_eq!(text(&ended, &fd.to_string()), wanted);
            }
        }
    }
}

#[test]
fn file_flags() {
    let dir = tempfile::tempdir().unwrap();
    // flags, content before, content after writing "new", or the error
    let table: [(&str, Option<&str>, Result<&str, &str>); 11] = [
        ("Write", Some("older"), Ok("new")),
        ("Write", None, Ok("new")),
        ("Create", None, Ok("new")),
        ("Create", Some("old"), Err("File exists")),
        ("Replace", Some("older"), Ok("new")),
        ("Replace", None, Err("No such file")),
        ("Append", Some("old"), Ok("oldnew")),
        ("Append", None, Err("No such file")),
        ("CreateAppend", None, Ok("new")),
        ("ReadWrite", Some("older"), Ok("new")),
        ("Default", None, Ok("new")),
    ];
    for (i, (flags, before, after)) in table.into_iter().enumerate() {
        let path = dir.path().join(i.to_string());
        if let Some(before) = before {
            std::fs::write(&path, before).unwrap();
        }
        let (ended, _harness) = run(json!({"argv": ["/usr/bin/printf", "new"],
            "fds": [["stdout", {"file": {"path": path, "flags": flags, "mode": 0o640}}]]}));
        match after {
            Ok(after) => {
                assert_eq!(std::fs::read_to_string(&path).unwrap(), after, "{flags} {before:?}");
                if before.is_none() {
                    use std::os::unix::fs::PermissionsExt;
                    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
                    assert_eq!(mode & 0o777 & !0o640, 0, "{flags}");
                }
            }
            Err(error) => {
                let found = messages(&ended);
                assert!(found[0].starts_with("failed to set up fd 1: "), "{found:?}");
                assert!(found[0].contains(error), "{flags} {before:?}: {found:?}");
            }
        }
    }
}

#[test]
fn every_failing_fd_is_named_and_nothing_is_executed() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let (ended, _harness) = run(json!({"argv": ["/usr/bin/touch", trace], "fds": [
        ["stdin", {"file": {"path": "/nowhere/x"}}],
        ["stdout", {"capture": {}}],
        ["7", {"dup": {"fd": 99}}],
        ["1000000", {"null": {}}]]}));
    let found = messages(&ended);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0], "failed to set up fd 0: No such file or directory (os error 2)");
    assert_eq!(found[1], "failed to set up fd 7: Bad file descriptor (os error 9)");
    assert!(found[2].starts_with("failed to set up fd 1000000: "), "{found:?}");
    assert!(!trace.exists());
    assert!(ended.pid.is_some());
    assert_eq!(ended.failures.iter().map(|f| f.exit_code()).max(), Some(125));
    assert_eq!(text(&ended, "stdout"), "");
}
