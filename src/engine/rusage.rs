//! The kernel's `rusage` as serde writes it: sixteen numbers in the order of the C struct.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The usage of a process of which nothing is known.
pub(crate) fn no_usage() -> libc::rusage {
    // SAFETY: an all-zero rusage is a valid value of that plain C struct.
    unsafe { std::mem::zeroed() }
}

/// Microseconds in a `timeval`, and back.
fn micros(time: libc::timeval) -> i64 {
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_usec)
}

fn timeval(micros: i64) -> libc::timeval {
    libc::timeval { tv_sec: micros.div_euclid(1_000_000), tv_usec: micros.rem_euclid(1_000_000) }
}

pub(super) fn serialize<S: Serializer>(r: &libc::rusage, serializer: S) -> Result<S::Ok, S::Error> {
    [
        micros(r.ru_utime),
        micros(r.ru_stime),
        r.ru_maxrss,
        r.ru_ixrss,
        r.ru_idrss,
        r.ru_isrss,
        r.ru_minflt,
        r.ru_majflt,
        r.ru_nswap,
        r.ru_inblock,
        r.ru_oublock,
        r.ru_msgsnd,
        r.ru_msgrcv,
        r.ru_nsignals,
        r.ru_nvcsw,
        r.ru_nivcsw,
    ]
    .serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<libc::rusage, D::Error> {
    let [
        utime,
        stime,
        maxrss,
        ixrss,
        idrss,
        isrss,
        minflt,
        majflt,
        nswap,
        inblock,
        oublock,
        msgsnd,
        msgrcv,
        nsignals,
        nvcsw,
        nivcsw,
    ] = <[i64; 16]>::deserialize(deserializer)?;
    // SAFETY: an all-zero rusage is a valid value of that plain C struct.
    let mut r: libc::rusage = unsafe { std::mem::zeroed() };
    r.ru_utime = timeval(utime);
    r.ru_stime = timeval(stime);
    r.ru_maxrss = maxrss;
    r.ru_ixrss = ixrss;
    r.ru_idrss = idrss;
    r.ru_isrss = isrss;
    r.ru_minflt = minflt;
    r.ru_majflt = majflt;
    r.ru_nswap = nswap;
    r.ru_inblock = inblock;
    r.ru_oublock = oublock;
    r.ru_msgsnd = msgsnd;
    r.ru_msgrcv = msgrcv;
    r.ru_nsignals = nsignals;
    r.ru_nvcsw = nvcsw;
    r.ru_nivcsw = nivcsw;
    Ok(r)
}
