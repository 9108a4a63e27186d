//! The frozen formats of the parts of a result: keys, their order, and types. Clients rely on them.

use std::fmt::Debug;
use std::time::Duration;

use jiff::Timestamp;
use procstar::clock::TimePoint;
use procstar::procfs::{Clock, ProcFs, parse_stat, parse_statm};
use procstar::report::capture::{CaptureReason, CaptureReport};
use procstar::report::cgroup::{CgroupAccounting, CgroupCpuStat, CgroupMemory, CgroupPids};
use procstar::report::proc_stat::{ProcStat, ProcStatm};
use procstar::report::rusage::Rusage;
use procstar::report::status::{ProcState, Status};
use procstar::report::times::Times;
use serde::Serialize;
use serde::de::DeserializeOwned;

const CLOCK: Clock =
    Clock { boot_nanos: 1_700_000_000_000_000_000, ticks_per_second: 100, page_size: 4096 };

/// Checks that the value has this JSON and the same MessagePack map with string keys, and that both
/// can be read back.
fn assert_frozen<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, json: &str) {
    assert_eq!(serde_json::to_string(value).unwrap(), json);
    assert_eq!(&serde_json::from_str::<T>(json).unwrap(), value);
    let packed = rmp_serde::to_vec_named(value).unwrap();
    let unpacked: serde_json::Value = rmp_serde::from_slice(&packed).unwrap();
    assert_eq!(unpacked, serde_json::from_str::<serde_json::Value>(json).unwrap());
    assert_eq!(&rmp_serde::from_slice::<T>(&packed).unwrap(), value);
}

/// Joins lines that are separate only for readability.
fn joined(lines: &[&str]) -> String {
    lines.concat()
}

#[test]
fn states_are_words() {
    assert_frozen(&ProcState::Running, r#""running""#);
    assert_frozen(&ProcState::Terminated, r#""terminated""#);
    assert_frozen(&ProcState::Error, r#""error""#);
}

#[test]
fn status_has_exactly_its_keys() {
    assert_frozen(
        &Status::from_exit_code(127),
        r#"{"status":32512,"exit_code":127,"signum":null,"signal":null,"core_dump":false}"#,
    );
    assert_frozen(
        &Status::from_raw(9),
        r#"{"status":9,"exit_code":null,"signum":9,"signal":"SIGKILL","core_dump":false}"#,
    );
    assert_frozen(
        &Status::from_raw(139),
        r#"{"status":139,"exit_code":null,"signum":11,"signal":"SIGSEGV","core_dump":true}"#,
    );
    assert_frozen(
        &Status::from_raw(50),
        r#"{"status":50,"exit_code":null,"signum":50,"signal":"SIGRTMIN+16","core_dump":false}"#,
    );
    let packed = rmp_serde::to_vec_named(&Status::from_raw(9)).unwrap();
    let expected =
        b"\x85\xa6status\x09\xa9exit_code\xc0\xa6signum\x09\xa6signal\xa7SIGKILL\xa9core_dump\xc2";
    assert_eq!(packed, expected);
}

#[test]
fn times_are_texts_and_seconds() {
    let at = |nanoseconds| Timestamp::from_nanosecond(nanoseconds).unwrap();
    let start = at(1_706_745_599_123_456_789);
    let now = at(1_706_745_602_000_000_000);
    assert_frozen(
        &Times::new(start, now, None, Duration::from_millis(2876)),
        &joined(&[
            r#"{"start":"2024-01-31T23:59:59.123456+00:00","#,
            r#""now":"2024-02-01T00:00:02.000000+00:00","stop":null,"elapsed":2.876}"#,
        ]),
    );
    let stop = at(1_706_745_600_500_000_000);
    assert_frozen(
        &Times::new(start, now, Some(stop), Duration::from_secs(1)),
        &joined(&[
            r#"{"start":"2024-01-31T23:59:59.123456+00:00","#,
            r#""now":"2024-02-01T00:00:02.000000+00:00","#,
            r#""stop":"2024-02-01T00:00:00.500000+00:00","elapsed":1.0}"#,
        ]),
    );
}

#[test]
fn rusage_is_in_seconds_and_bytes() {
    assert_frozen(
        &Rusage::zero(),
        &joined(&[
            r#"{"utime":0.0,"stime":0.0,"maxrss":0,"minflt":0,"majflt":0,"nswap":0,"#,
            r#""inblock":0,"oublock":0,"nvcsw":0,"nivcsw":0}"#,
        ]),
    );
    // SAFETY: it consists of integers, for which zero is a value.
    let mut raw: libc::rusage = unsafe { std::mem::zeroed() };
    raw.ru_utime = libc::timeval { tv_sec: 3, tv_usec: 250_000 };
    raw.ru_stime = libc::timeval { tv_sec: 0, tv_usec: 1 };
    (raw.ru_maxrss, raw.ru_minflt, raw.ru_majflt, raw.ru_nswap) = (2000, 1, 2, 3);
    (raw.ru_inblock, raw.ru_oublock, raw.ru_nvcsw, raw.ru_nivcsw) = (4, 5, 6, 7);
    assert_frozen(
        &Rusage::from(&raw),
        &joined(&[
            r#"{"utime":3.25,"stime":1e-6,"maxrss":2048000,"minflt":1,"majflt":2,"nswap":3,"#,
            r#""inblock":4,"oublock":5,"nvcsw":6,"nivcsw":7}"#,
        ]),
    );
    raw.ru_maxrss = -1;
    assert_eq!(Rusage::from(&raw).maxrss, None);
    assert_frozen(
        &Rusage::unknown(),
        &joined(&[
            r#"{"utime":null,"stime":null,"maxrss":null,"minflt":null,"majflt":null,"nswap":null,"#,
            r#""inblock":null,"oublock":null,"nvcsw":null,"nivcsw":null}"#,
        ]),
    );
}

#[test]
fn proc_stat_has_the_contracts_keys_in_its_order_and_units() {
    let line = b"4242 (a \"b) \xff) S 1 4242 4242 34817 4242 4194560 110 111 112 113 150 25 -3 17 20 -5 3 0 \
        12345 8192000 250 18446744073709551615 1 1 0 0 0 16384 3 4096 65538 1 0 0 17 1 50 2 7 300 40 0 0 0 0 0 \
        0 0 256\n";
    let stat = ProcStat::new(&parse_stat(line).unwrap(), &CLOCK);
    assert_frozen(
        &stat,
        &joined(&[
            r#"{"pid":4242,"comm":"a \"b) �","state":"S","ppid":1,"pgrp":4242,"session":4242,"#,
            r#""tty_nr":[136,1],"tpgid":4242,"flags":4194560,"#,
            r#""minflt":110,"cminflt":111,"majflt":112,"cmajflt":113,"#,
            r#""utime":1.5,"stime":0.25,"cutime":-0.03,"cstime":0.17,"#,
            r#""priority":20,"nice":-5,"num_threads":3,"#,
            r#""starttime":"2023-11-14T22:15:23.450000+00:00","#,
            r#""vsize":8192000,"rss":1024000,"rsslim":18446744073709551615,"#,
            r#""signal":["SIGTERM"],"blocked":["SIGHUP","SIGINT"],"sigignore":["SIGPIPE"],"#,
            r#""sigcatch":["SIGINT","SIGCHLD"],"wchan":1,"exit_signal":"SIGCHLD","processor":1,"#,
            r#""rt_priority":50,"policy":2,"delayacct_blkio_ticks":7,"#,
            r#""guest_time":3.0,"cguest_time":0.4,"exit_code":256}"#,
        ]),
    );
}

#[test]
fn missing_values_of_proc_stat_are_null() {
    // A kernel thread, in the format of an old kernel.
    let line = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
    let json = |line: &[u8]| {
        serde_json::to_value(ProcStat::new(&parse_stat(line).unwrap(), &CLOCK)).unwrap()
    };
    let stat = json(line);
    assert_eq!(stat["tty_nr"], serde_json::json!([0, 0]));
    assert_eq!(stat["signal"], serde_json::json!([]));
    let object = stat.as_object().unwrap();
    let nulls: Vec<&String> =
        object.iter().filter(|(_, value)| value.is_null()).map(|(key, _)| key).collect();
    let mut expected = [
        "tpgid",
        "exit_signal",
        "processor",
        "rt_priority",
        "policy",
        "delayacct_blkio_ticks",
        "guest_time",
        "cguest_time",
        "exit_code",
    ];
    expected.sort_unstable();
    assert_eq!(nulls, expected);

    let no_signal = [line.strip_suffix(b"\n").unwrap(), b" 0\n"].concat();
    assert!(json(&no_signal)["exit_signal"].is_null());
}

#[test]
fn proc_statm_is_in_bytes() {
    let statm = parse_statm(b"765 400 300 20 0 101 0\n").unwrap();
    assert_frozen(
        &ProcStatm::new(&statm, &CLOCK),
        r#"{"size":3133440,"resident":1638400,"shared":1228800,"text":81920,"data":413696}"#,
    );
}

#[test]
fn cgroup_accounting_is_null_without_its_controller() {
    let none = CgroupAccounting { pids: None, cpu_stat: None, memory: None };
    assert_frozen(&none, r#"{"pids":null,"cpu_stat":null,"memory":null}"#);
    let all = CgroupAccounting {
        pids: Some(CgroupPids { current: 1, peak: Some(2) }),
        cpu_stat: Some(CgroupCpuStat {
            usage_usec: 3,
            user_usec: 4,
            system_usec: 5,
            nr_periods: Some(6),
            nr_throttled: Some(7),
            throttled_usec: Some(8),
            nr_bursts: Some(9),
            burst_usec: None,
        }),
        memory: Some(CgroupMemory {
            current: 11,
            peak: Some(12),
            swap_current: None,
            swap_peak: Some(14),
        }),
    };
    assert_frozen(
        &all,
        &joined(&[
            r#"{"pids":{"current":1,"peak":2},"#,
            r#""cpu_stat":{"usage_usec":3,"user_usec":4,"system_usec":5,"nr_periods":6,"#,
            r#""nr_throttled":7,"throttled_usec":8,"nr_bursts":9,"burst_usec":null},"#,
            r#""memory":{"current":11,"peak":12,"swap_current":null,"swap_peak":14}}"#,
        ]),
    );
}

#[test]
fn captures_contain_the_reason_of_a_truncation() {
    let report = CaptureReport {
        length: 12,
        dropped: 0,
        complete: true,
        reason: None,
        sha256: None,
        path: None,
        compression: None,
        compressed_bytes: None,
    };
    assert_frozen(
        &report,
        r#"{"length":12,"dropped":0,"complete":true,"reason":null,"sha256":null}"#,
    );
    for (reason, word) in [
        (CaptureReason::HeldOpen, "held_open"),
        (CaptureReason::NotStarted, "not_started"),
        (CaptureReason::Error, "error"),
        (CaptureReason::Truncated, "truncated"),
        (CaptureReason::Overwritten, "overwritten"),
        (CaptureReason::Gone, "gone"),
        (CaptureReason::Changed, "changed"),
    ] {
        let report = CaptureReport {
            length: 0,
            complete: false,
            reason: Some(reason.into()),
            ..report.clone()
        };
        let json = format!(
            r#"{{"length":0,"dropped":0,"complete":false,"reason":"{word}","sha256":null}}"#
        );
        assert_frozen(&report, &json);
    }
}

#[test]
fn this_process_can_be_reported() {
    let proc = ProcFs::default();
    let clock = Clock::of(TimePoint::now());
    let pid = i32::try_from(std::process::id()).unwrap();
    let stat = ProcStat::new(&proc.read_stat(pid).unwrap(), &clock);
    let statm = ProcStatm::new(&proc.read_statm(pid).unwrap(), &clock);
    assert_eq!(stat.pid, pid);
    assert!(
        stat.rss > 0 && stat.rss.is_multiple_of(clock.page_size) && statm.resident <= statm.size
    );
    assert!(stat.starttime.timestamp() < Timestamp::now() + jiff::SignedDuration::from_secs(2));
    let json = serde_json::to_string(&stat).unwrap();
    assert_eq!(serde_json::from_str::<ProcStat>(&json).unwrap(), stat);
}
