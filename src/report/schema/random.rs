//! Results of random records: valid by the published schema, and read back with the same values.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use indexmap::IndexMap;
use proptest::prelude::*;

use crate::clock::TimePoint;
use crate::engine::{
    Captures, Ended, Relation, Resolved, Stage, StartFailure, Started, StopCause, StopFailure,
    Survivor, Survivors, no_usage,
};
use crate::procfs::{RawIo, RawStat, RawStatm, parse_stat};
use crate::report::capture::{CaptureReason, CaptureReport};
use crate::report::cgroup::{CgroupAccounting, CgroupCpuStat, CgroupMemory, CgroupPids};
use crate::report::samples::SampleHistory;
use crate::report::{AgentInfo, AsOf, FdResult, ProcessRecord, ResultBody, ResultContext, Word};
use crate::spec::{Compression, FdName, Identity, Sandbox};

/// The schema as it is published.
static PUBLISHED: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema = include_str!("../../../docs/result.schema.json");
    jsonschema::validator_for(&serde_json::from_str(schema).unwrap()).unwrap()
});

/// A record, to be printed as its result.
#[derive(Clone)]
struct Shown(ProcessRecord);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.body::<String>(AsOf::AtStart, &context(), &[], Fds::new(), None).fmt(f)
    }
}

type Fds = IndexMap<String, Option<FdResult<String>>>;

fn maybe<T: std::fmt::Debug>(
    some: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Option<T>> {
    prop::option::of(some)
}

fn few<T: std::fmt::Debug>(
    one: impl Strategy<Value = T> + 'static,
) -> impl Strategy<Value = Vec<T>> {
    prop::collection::vec(one, 0..4)
}

fn texts() -> impl Strategy<Value = IndexMap<String, String>> {
    few(any::<(String, String)>()).prop_map(IndexMap::from_iter)
}

fn moment() -> impl Strategy<Value = TimePoint> {
    (any::<i64>(), any::<u64>(), any::<u64>()).prop_map(
        |(unix_nanos, monotonic_nanos, boot_nanos)| TimePoint {
            unix_nanos,
            monotonic_nanos,
            boot_nanos,
        },
    )
}

/// Of an old kernel, which writes 35 numbers, up to that of a new one.
fn stat() -> impl Strategy<Value = RawStat> {
    let numbers = prop::collection::vec(0..i32::MAX, 35..50);
    (1..i32::MAX, "[^\n]{0,9}", "[RSDZTtIX]", numbers).prop_map(|(pid, comm, state, numbers)| {
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        let line = format!("{pid} ({comm}) {state} {}\n", numbers.join(" "));
        parse_stat(line.as_bytes()).unwrap()
    })
}

fn statm() -> impl Strategy<Value = RawStatm> {
    let pages = 0..1_u64 << 40;
    prop::array::uniform7(pages).prop_map(|[size, resident, shared, text, lib, data, dt]| {
        RawStatm { size, resident, shared, text, lib, data, dt }
    })
}

fn io() -> impl Strategy<Value = RawIo> {
    any::<[u64; 7]>().prop_map(
        |[rchar, wchar, syscr, syscw, read_bytes, write_bytes, cancelled_write_bytes]| RawIo {
            rchar,
            wchar,
            syscr,
            syscw,
            read_bytes,
            write_bytes,
            cancelled_write_bytes,
        },
    )
}

fn usage() -> impl Strategy<Value = libc::rusage> {
    (0..1_i64 << 40, 0..1_000_000_i64, -1..1_i64 << 40).prop_map(|(seconds, micros, kib)| {
        let mut usage = no_usage();
        usage.ru_utime = libc::timeval { tv_sec: seconds, tv_usec: micros };
        (usage.ru_maxrss, usage.ru_minflt, usage.ru_nvcsw) = (kib, seconds, micros);
        usage
    })
}

fn failure() -> impl Strategy<Value = StartFailure> {
    let stage = prop_oneof![
        Just(Stage::NotAllowed),
        Just(Stage::Fork),
        (-1..i32::MAX).prop_map(Stage::Fd),
        Just(Stage::KilledInSetup),
        any::<bool>().prop_map(|missing| Stage::Exec { missing }),
        Just(Stage::Sibling),
        Just(Stage::Session),
        Just(Stage::Env),
    ];
    (stage, 0..200_i32, any::<Option<String>>(), any::<Option<String>>())
        .prop_map(|(stage, errno, path, detail)| StartFailure { stage, errno, path, detail })
}

fn stop_failure() -> impl Strategy<Value = StopFailure> {
    (any::<i32>(), any::<String>(), 0..70, 0..200)
        .prop_map(|(pid, comm, signum, errno)| StopFailure { pid, comm, signum, errno })
}

fn survivors() -> impl Strategy<Value = Survivors> {
    use Relation::{Descendant, Group, Inferred, Session};
    let relation = prop::sample::select(vec![Group, Session, Descendant, Inferred]);
    let one = (any::<i32>(), any::<String>(), any::<i32>(), relation)
        .prop_map(|(pid, comm, session, relation)| Survivor { pid, comm, session, relation });
    (few(one), any::<u32>(), any::<bool>()).prop_map(|(listed, more, unknown)| Survivors {
        listed,
        more,
        unknown,
    })
}

fn resolved() -> impl Strategy<Value = Resolved> {
    (any::<Option<String>>(), any::<Option<String>>(), maybe(texts()), few(any::<String>()))
        .prop_map(|(exe, cwd, env, dropped)| Resolved { exe, cwd, env, dropped })
}

fn identity() -> impl Strategy<Value = Identity> {
    (
        few(any::<String>()),
        any::<String>(),
        any::<Option<String>>(),
        texts(),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(|(argv, exe, cwd, labels, systemd, boxed)| Identity {
            argv,
            cwd,
            labels,
            systemd,
            sandbox: Sandbox {
                hidden_paths: if boxed { vec![exe.clone()] } else { Vec::new() },
                ..Sandbox::default()
            },
            exe,
            ..Identity::default()
        })
}

fn started() -> impl Strategy<Value = Shown> {
    (1..i32::MAX, moment(), maybe(stat()), maybe(statm()), resolved()).prop_map(
        |(pid, start, stat, statm, resolved)| {
            Shown(ProcessRecord::of_start(Started {
                id: "p".into(),
                pid,
                start,
                stat,
                statm,
                captures: Captures::none(),
                policy: Default::default(),
                resolved,
                group: None,
            }))
        },
    )
}

fn ended() -> impl Strategy<Value = Shown> {
    let life = (any::<Option<i32>>(), moment(), moment(), maybe(stat()), maybe(io()), usage());
    let cause = maybe(prop::sample::select(vec![StopCause::Timeout, StopCause::Stopped]));
    let end = (few(failure()), any::<i32>(), any::<bool>(), any::<bool>(), cause);
    (life, end, survivors(), resolved()).prop_map(|(life, end, survivors, resolved)| {
        let (pid, start, stop, stat, io, rusage) = life;
        let (failures, status, lost, out_of_memory, cause) = end;
        Shown(ProcessRecord::of_end(Ended {
            id: "p".into(),
            pid,
            failures,
            status,
            rusage,
            stat,
            start,
            stop,
            captures: Captures::none(),
            cut_short: Vec::new(),
            lost,
            unmeasured: None,
            group: None,
            io,
            out_of_memory,
            cause,
            survivors,
            resolved,
        }))
    })
}

fn record() -> impl Strategy<Value = Shown> {
    let samples = maybe((moment(), few((moment(), stat()))));
    let record = prop_oneof![started(), ended()];
    (record, maybe(identity()), samples, few(stop_failure())).prop_map(
        |(Shown(record), identity, samples, stop_failures)| {
            let history = samples.map(|(start, samples)| {
                let history = SampleHistory::new(7, None, start, 3);
                samples.iter().for_each(|(at, stat)| history.add(*at, stat));
                Arc::new(history)
            });
            let record = record.with_identity(identity.map(Arc::new)).with_history(history);
            Shown(record.with_stop_failures(stop_failures))
        },
    )
}

fn fd_name() -> impl Strategy<Value = String> {
    (0..12).prop_map(|fd| FdName::from_number(fd).unwrap().to_string())
}

fn compression() -> impl Strategy<Value = Option<Compression>> {
    let all = vec![Compression::Zstd, Compression::Gzip, Compression::Brotli];
    maybe(prop::sample::select(all))
}

fn fds() -> impl Strategy<Value = Fds> {
    let (base64, base2048) = (Cow::Borrowed("base64"), Cow::Borrowed("base2048"));
    let one = prop_oneof![
        any::<String>().prop_map(|text| FdResult::Text { text, encoding: "utf-8".into() }),
        (any::<String>(), compression()).prop_map(move |(data, compression)| FdResult::Data {
            data,
            encoding: base64.clone(),
            compression
        }),
        any::<u64>()
            .prop_map(move |length| FdResult::Detached { length, encoding: base2048.clone() }),
    ];
    few((fd_name(), maybe(one))).prop_map(IndexMap::from_iter)
}

fn captures() -> impl Strategy<Value = IndexMap<String, CaptureReport>> {
    use CaptureReason::{Changed, Error, Gone, HeldOpen, NotStarted, Overwritten, Truncated};
    let reasons = vec![HeldOpen, NotStarted, Error, Truncated, Overwritten, Gone, Changed];
    let reason = maybe(prop::sample::select(reasons).prop_map(Word::Known));
    let texts = any::<(Option<String>, Option<String>)>();
    let one = (any::<(u64, u64, bool)>(), reason, texts, compression()).prop_map(
        |((length, dropped, complete), reason, (sha256, path), compression)| CaptureReport {
            length,
            dropped,
            complete,
            reason,
            sha256,
            path,
            compression: compression.map(Word::Known),
            compressed_bytes: compression.map(|_| length),
        },
    );
    few((fd_name(), one)).prop_map(IndexMap::from_iter)
}

fn cgroup() -> impl Strategy<Value = Option<CgroupAccounting>> {
    let most = any::<Option<u64>>;
    let pids = (any::<u64>(), most()).prop_map(|(current, peak)| CgroupPids { current, peak });
    let cpu =
        (any::<[u64; 3]>(), most()).prop_map(|([usage_usec, user_usec, system_usec], more)| {
            CgroupCpuStat {
                usage_usec,
                user_usec,
                system_usec,
                nr_periods: more,
                nr_throttled: more,
                throttled_usec: more,
                nr_bursts: None,
                burst_usec: more,
            }
        });
    let memory = (any::<u64>(), most(), most(), most()).prop_map(
        |(current, peak, swap_current, swap_peak)| CgroupMemory {
            current,
            peak,
            swap_current,
            swap_peak,
        },
    );
    maybe(
        (maybe(pids), maybe(cpu), maybe(memory))
            .prop_map(|(pids, cpu_stat, memory)| CgroupAccounting { pids, cpu_stat, memory }),
    )
}

/// The parts of a result that are not in the record: they come from capture files and the control
/// group.
#[derive(Clone, Debug)]
struct Outside {
    fds: Fds,
    captures: IndexMap<String, CaptureReport>,
    chunk_times: Option<Vec<(f64, String, u64, u64)>>,
    offsets: Option<IndexMap<String, u64>>,
    cgroup: Option<CgroupAccounting>,
    notices: Vec<String>,
}

fn outside() -> impl Strategy<Value = Outside> {
    let chunk = (0.0..1e9_f64, fd_name(), any::<u64>(), any::<u64>());
    let offsets = few((fd_name(), any::<u64>())).prop_map(IndexMap::from_iter);
    let notices = few(any::<String>());
    (fds(), captures(), maybe(few(chunk)), maybe(offsets), cgroup(), notices).prop_map(
        |(fds, captures, chunk_times, offsets, cgroup, notices)| Outside {
            fds,
            captures,
            chunk_times,
            offsets,
            cgroup,
            notices,
        },
    )
}

fn context() -> ResultContext {
    let agent = AgentInfo { pid: 7, host: "h".into(), user: "ü".into(), version: "2".into() };
    ResultContext::default().with_agent(agent, "group".into())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn results_are_valid_and_read_back_with_the_same_values(
        Shown(record) in record().no_shrink(), outside in outside(),
    ) {
        let context = context();
        let Outside { fds, offsets, notices, .. } = outside.clone();
        // A result as of the start is made from the record alone.
        let written = ResultBody {
            captures: outside.captures,
            chunk_times: outside.chunk_times,
            cgroup_accounting: outside.cgroup,
            ..record.body(AsOf::AtStart, &context, &notices, fds, offsets)
        };
        let text = serde_json::to_string(&written).unwrap();
        let results = serde_json::json!({"p": serde_json::from_str::<serde_json::Value>(&text).unwrap()});
        let errors: Vec<String> = PUBLISHED
            .iter_errors(&results)
            .map(|error| format!("{} {error}", error.instance_path()))
            .collect();
        prop_assert!(errors.is_empty(), "{errors:#?}");
        let read: ResultBody<'static, String> = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &written);
        prop_assert_eq!(serde_json::to_string(&read).unwrap(), text);
    }
}
