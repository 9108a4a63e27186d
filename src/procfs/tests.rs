//! Parsers on written text and on any bytes; readers on this machine and on a made-up root.

use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::*;

/// As Linux 6.1 wrote it, with every number replaced by one that shows its position.
const LINE: &str = "4 (cat) R 104 105 106 34817 -1 109 110 111 112 113 114 115 116 117 -118 -19 120 0 \
    122 123 124 18446744073709551615 126 127 128 129 130 1 2 4 2147483647 135 136 137 17 139 140 141 142 143 \
    144 145 146 147 148 149 150 151 35584\n";

fn line_named(name: &[u8]) -> Vec<u8> {
    let rest = LINE.strip_prefix("4 (cat").unwrap();
    [b"4 (", name, rest.as_bytes()].concat()
}

#[test]
fn every_field_of_stat_is_taken_from_its_place() {
    let stat = parse_stat(LINE.as_bytes()).unwrap();
    let expected = RawStat {
        pid: 4,
        comm: "cat".into(),
        state: 'R',
        ppid: 104,
        pgrp: 105,
        session: 106,
        tty_nr: 34817,
        tpgid: -1,
        flags: 109,
        minflt: 110,
        cminflt: 111,
        majflt: 112,
        cmajflt: 113,
        utime: 114,
        stime: 115,
        cutime: 116,
        cstime: 117,
        priority: -118,
        nice: -19,
        num_threads: 120,
        itrealvalue: 0,
        starttime: 122,
        vsize: 123,
        rss: 124,
        rsslim: u64::MAX,
        startcode: 126,
        endcode: 127,
        startstack: 128,
        kstkesp: 129,
        kstkeip: 130,
        signal: 1,
        blocked: 2,
        sigignore: 4,
        sigcatch: 0x7fff_ffff,
        wchan: 135,
        nswap: 136,
        cnswap: 137,
        exit_signal: Some(17),
        processor: Some(139),
        rt_priority: Some(140),
        policy: Some(141),
        delayacct_blkio_ticks: Some(142),
        guest_time: Some(143),
        cguest_time: Some(144),
        start_data: Some(145),
        end_data: Some(146),
        start_brk: Some(147),
        arg_start: Some(148),
        arg_end: Some(149),
        env_start: Some(150),
        env_end: Some(151),
        exit_code: Some(35584),
    };
    assert_eq!(stat, expected);
}

#[test]
fn names_may_look_like_fields() {
    for name in ["", " ", ")", "(", ") R 1 (", "a) S 2 3", "tmux: server", "new\\nline"] {
        let stat = parse_stat(&line_named(name.as_bytes())).unwrap();
        assert_eq!((stat.comm.as_str(), stat.ppid), (name, 104));
    }
    let stat = parse_stat(&line_named(b"caf\xe9)")).unwrap();
    assert_eq!(stat.comm, "caf\u{fffd})");
}

#[test]
fn kernels_may_write_fewer_or_more_fields() {
    let more = LINE.replace('\n', " 152 153\n");
    assert_eq!(parse_stat(more.as_bytes()), parse_stat(LINE.as_bytes()));

    let old: Vec<&str> = LINE.split_ascii_whitespace().take(37).collect();
    for end in ["\n", " \n"] {
        let stat = parse_stat(format!("{}{end}", old.join(" ")).as_bytes()).unwrap();
        assert_eq!((stat.cnswap, stat.exit_signal, stat.exit_code), (137, None, None));
    }

    let short = format!("{}\n", old.get(..36).unwrap().join(" "));
    let missing = ParseError::Missing { file: "stat", field: "cnswap" };
    assert_eq!(parse_stat(short.as_bytes()), Err(missing));
}

#[test]
fn errors_of_stat_name_the_field() {
    let bad = LINE.replace(" 122 ", " 12x ");
    let error = parse_stat(bad.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "stat has a bad field starttime: \"12x\"");
    let bad = LINE.replace(" 140 ", "  140 ");
    let error = parse_stat(bad.as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "stat has a bad field rt_priority: \"\"");
    assert_eq!(parse_stat(b"4 )cat( R\n"), Err(ParseError::NoName));
    assert_eq!(parse_stat(b"\n"), Err(ParseError::NoName));
    assert_eq!(parse_stat(b""), Err(ParseError::CutOff { file: "stat" }));
}

#[test]
fn statm_and_io_are_parsed() {
    let statm = parse_statm(b"765 400 300 20 0 101 0\n").unwrap();
    let expected =
        RawStatm { size: 765, resident: 400, shared: 300, text: 20, lib: 0, data: 101, dt: 0 };
    assert_eq!(statm, expected);
    let error = parse_statm(b"765 400\n").unwrap_err();
    assert_eq!(error, ParseError::Missing { file: "statm", field: "shared" });
    assert_eq!(parse_statm(b"765 40"), Err(ParseError::CutOff { file: "statm" }));

    let text = b"rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 5\nwrite_bytes: 6\n\
        cancelled_write_bytes: 7\n";
    let expected = RawIo {
        rchar: 1,
        wchar: 2,
        syscr: 3,
        syscw: 4,
        read_bytes: 5,
        write_bytes: 6,
        cancelled_write_bytes: 7,
    };
    assert_eq!(parse_io(text), Ok(expected));
    let error = parse_io(b"rchar: 1\nwchar: -2\n").unwrap_err();
    assert_eq!(error.to_string(), "io has a bad field wchar: \"-2\"");
}

#[test]
fn clock_turns_ticks_and_pages_into_times_and_bytes() {
    let clock =
        Clock { boot_nanos: 1_700_000_000_000_000_001, ticks_per_second: 100, page_size: 4096 };
    assert_eq!(clock.seconds(150), 1.5);
    assert_eq!(clock.signed_seconds(-150), -1.5);
    assert_eq!(clock.bytes(3), 12_288);
    assert_eq!(clock.bytes(u64::MAX), u64::MAX);
    assert_eq!(clock.after_boot(123).to_string(), "2023-11-14T22:13:21.230000001Z");
    assert_eq!(clock.after_boot(u64::MAX), Timestamp::MAX);
    let moment = |boot_nanos| TimePoint { unix_nanos: 1_500, monotonic_nanos: 400, boot_nanos };
    assert_eq!((moment(500).boot(), moment(0).boot()), (1_000, 1_100));
    // The recorded clock of a process's start stays the same, even if the wall clock is set later.
    assert_eq!(clock.at(moment(500)).boot_nanos, 1_000);
    assert_eq!(clock.at(moment(0)), clock);
}

/// `times.start` is before the fork, and the kernel counts in ticks.
#[test]
fn a_process_starts_at_most_a_tick_before_it_was_asked_for() {
    for _ in 0..20 {
        let asked = TimePoint::now();
        let mut child = Command::new("/bin/true").stdin(Stdio::null()).spawn().unwrap();
        let stat = ProcFs::default().read_stat(child.id() as i32).unwrap();
        child.wait().unwrap();
        let start =
            Clock::of(TimePoint::now()).at(asked).after_boot(stat.starttime).as_nanosecond();
        let early = i128::from(asked.unix_nanos) - start;
        assert!(early <= 11_000_000, "{early} ns before");
    }
}

/// Fields that do not change while two parsers read the process one after the other.
fn assert_same(ours: &RawStat, theirs: &::procfs::process::Stat) {
    assert_eq!(ours.pid, theirs.pid);
    assert_eq!(ours.starttime, theirs.starttime);
    assert_eq!(ours.flags & 0x0020_0000, theirs.flags & 0x0020_0000, "PF_KTHREAD of {}", ours.pid);
    assert_eq!(ours.rsslim, theirs.rsslim);
    assert_eq!(ours.exit_signal, theirs.exit_signal);
    assert_eq!(ours.rt_priority, theirs.rt_priority);
    assert_eq!(ours.arg_start.is_some(), theirs.arg_start.is_some());
}

#[test]
fn every_process_of_this_machine_is_parsed_as_the_procfs_crate_does() {
    let proc = ProcFs::default();
    let mut compared = 0;
    for process in ::procfs::process::all_processes().unwrap().flatten() {
        let first = proc.read_stat(process.pid);
        let (Ok(theirs), second) = (process.stat(), proc.read_stat(process.pid)) else { continue };
        // Another test's process may exec or end between the reads; those reads do not count.
        match (first, second) {
            (Ok(first), Ok(second)) if first.arg_start == second.arg_start => {
                assert_same(&second, &theirs);
                compared += 1;
            }
            (Ok(_) | Err(ReadError::Gone { .. }), Ok(_) | Err(ReadError::Gone { .. })) => (),
            (first, second) => panic!("process {}: {first:?}, {second:?}", process.pid),
        }
    }
    assert!(compared > 0);
}

#[test]
fn this_process_has_memory_io_and_a_start_in_the_past() {
    let proc = ProcFs::default();
    let pid = i32::try_from(std::process::id()).unwrap();
    let stat = proc.read_stat(pid).unwrap();
    let statm = proc.read_statm(pid).unwrap();
    assert!(stat.vsize > 0 && statm.size >= statm.resident && statm.resident > 0);
    assert!(proc.read_io(pid).unwrap().unwrap().rchar > 0);
    let clock = Clock::of(TimePoint::now());
    let age = Timestamp::now().duration_since(clock.after_boot(stat.starttime));
    assert!(age.as_millis() >= -20 && age.as_hours() < 24, "{age}");
}

#[test]
fn a_zombie_can_be_read_until_it_is_reaped() {
    let mut child =
        Command::new("/bin/sh").args(["-c", "exit 3"]).stdin(Stdio::null()).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let id = nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(pid));
    use nix::sys::wait::WaitPidFlag;
    nix::sys::wait::waitid(id, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
    let proc = ProcFs::default();
    let stat = proc.read_stat(pid).unwrap();
    assert_eq!((stat.state, stat.comm.as_str(), stat.exit_code), ('Z', "sh", Some(3 << 8)));
    assert_eq!(proc.read_statm(pid).unwrap().size, 0);
    child.wait().unwrap();
    // Its number could be given out again, but not before the others have been.
    for error in [
        proc.read_stat(pid).unwrap_err(),
        proc.read_statm(pid).unwrap_err(),
        proc.read_io(pid).unwrap_err(),
    ] {
        assert!(matches!(error, ReadError::Gone { pid: gone } if gone == pid), "{error}");
    }
}

#[test]
fn a_root_of_any_length_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    for root in [dir.path().to_path_buf(), dir.path().join("x".repeat(250))] {
        std::fs::create_dir_all(root.join("4")).unwrap();
        std::fs::write(root.join("4/stat"), LINE).unwrap();
        let proc = ProcFs::new(&root);
        assert_eq!(proc.read_stat(4).unwrap().comm, "cat");
        assert!(proc.read_io(4).unwrap().is_none(), "a kernel without io accounting");

        std::fs::write(root.join("4/stat"), "4 (cat\n").unwrap();
        let error = proc.read_stat(4).unwrap_err();
        assert_eq!(error.to_string(), format!("failed to parse {}/4/stat", root.display()));

        std::fs::write(root.join("4/stat"), vec![b' '; READ_BUFFER]).unwrap();
        let ReadError::Io { source, .. } = proc.read_stat(4).unwrap_err() else { panic!() };
        assert_eq!(source.kind(), io::ErrorKind::FileTooLarge);
    }
}

proptest! {
    #[test]
    fn any_name_is_found_again(name in prop::collection::vec(any::<u8>(), 0..64)) {
        let stat = parse_stat(&line_named(&name)).unwrap();
        prop_assert_eq!(stat.comm, String::from_utf8_lossy(&name));
        prop_assert_eq!((stat.state, stat.ppid, stat.exit_code), ('R', 104, Some(35584)));
    }

    #[test]
    fn a_line_that_is_cut_off_is_never_taken_for_whole(
        name in prop::collection::vec(any::<u8>().prop_filter("escaped", |b| *b != b'\n'), 0..64),
        cut in any::<prop::sample::Index>(),
    ) {
        let line = line_named(&name);
        let cut = line.get(..cut.index(line.len())).unwrap();
        prop_assert_eq!(parse_stat(cut), Err(ParseError::CutOff { file: "stat" }));
    }

    #[test]
    fn nothing_makes_a_parser_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
        let text = [text.as_slice(), b"\n"].concat();
        let _ = (parse_stat(&text), parse_statm(&text), parse_io(&text));
    }

    #[test]
    fn any_text_between_the_fields_gives_a_result_or_an_error(
        cut in any::<prop::sample::Index>(), text in "[-0-9 ().a]{0,24}\n",
    ) {
        let line = [LINE.as_bytes().get(..cut.index(LINE.len())).unwrap(), text.as_bytes()].concat();
        if let Ok(stat) = parse_stat(&line) {
            prop_assert_eq!(stat.pid, 4);
        }
    }
}

#[test]
fn peaks_are_taken_from_status() {
    let text = b"Name:\tVmHWM: 1 kB\nGroups:\t0 \nVmPeak:\t    2520 kB\nVmSize:\t    2510 kB\nVmHWM:\t\t1300 kB\n";
    assert_eq!(parse_peaks(text), Some(RawPeaks { vsize: 2520 * 1024, rss: 1300 * 1024 }));
    for bad in
        ["VmPeak:\t1 kB\n", "VmPeak:\t1\nVmHWM:\t1 kB\n", "VmPeak:\tx kB\nVmHWM:\t1 kB\n", ""]
    {
        assert_eq!(parse_peaks(bad.as_bytes()), None, "{bad:?}");
    }
    let proc = ProcFs::default();
    let me = i32::try_from(std::process::id()).unwrap();
    let peaks = proc.read_peaks(me).unwrap().unwrap();
    let statm = proc.read_statm(me).unwrap();
    assert!(peaks.rss > 0 && peaks.rss <= peaks.vsize && peaks.vsize >= statm.size);
    assert!(matches!(proc.read_peaks(0), Err(ReadError::Gone { .. })));
}

#[test]
fn an_open_stat_stays_that_of_its_process() {
    let proc = ProcFs::default();
    let mut child = Command::new("/bin/sleep").arg("60").stdout(Stdio::null()).spawn().unwrap();
    let pid = child.id() as i32;
    let file = proc.open_stat(pid).unwrap();
    for _ in 0..2 {
        let (by_file, by_name) =
            (proc.read_stat_of(&file, pid).unwrap(), proc.read_stat(pid).unwrap());
        assert_eq!((by_file.pid, by_file.starttime), (pid, by_name.starttime));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(proc.read_stat_of(&file, pid), Err(ReadError::Gone { .. })));
}
