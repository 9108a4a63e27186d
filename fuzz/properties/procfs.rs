//! Files below `/proc`. They contain the name of a process, which the process chooses.

use procstar::procfs::{
    Clock, RawStat, parse_children, parse_io, parse_peaks, parse_stat, parse_statm,
};

/// Parsed values, written in the kernel's format, parse to the same values. A truncated text is an
/// error, so a truncated number is never taken for a smaller one.
pub fn check(data: &[u8]) {
    if let Ok(stat) = parse_stat(data) {
        let line = line_of(&stat);
        assert_eq!(parse_stat(line.as_bytes()).as_ref(), Ok(&stat), "{line:?}");
        times(&stat);
        for end in [data.len() - 1, data.len() / 2] {
            if !data[..end].ends_with(b"\n") {
                assert!(parse_stat(&data[..end]).is_err(), "the first {end} bytes");
            }
        }
    }
    if let Ok(statm) = parse_statm(data) {
        let numbers = values(&statm);
        let line = numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ") + "\n";
        assert_eq!(parse_statm(line.as_bytes()), Ok(statm));
        assert!(parse_statm(&data[..data.len() - 1]).is_err() || data.ends_with(b"\n\n"));
    }
    if let Ok(io) = parse_io(data) {
        let again = format!(
            "rchar: {}\nwchar: {}\nsyscr: {}\nsyscw: {}\nread_bytes: {}\nwrite_bytes: {}\ncancelled_write_bytes: {}\n",
            io.rchar,
            io.wchar,
            io.syscr,
            io.syscw,
            io.read_bytes,
            io.write_bytes,
            io.cancelled_write_bytes,
        );
        assert_eq!(parse_io(again.as_bytes()), Ok(io));
    }
    if let Some(peaks) = parse_peaks(data) {
        // The kernel reports KiB.
        let (vsize, rss) = (peaks.vsize / 1024, peaks.rss / 1024);
        let again = format!("VmPeak:\t{vsize} kB\nVmHWM:\t{rss} kB\n");
        assert_eq!(parse_peaks(again.as_bytes()), Some(peaks));
    }
    let children: Vec<i32> = parse_children(data).collect();
    let text: String = children.iter().map(|pid| format!("{pid} ")).collect();
    assert_eq!(parse_children(text.as_bytes()).collect::<Vec<_>>(), children);
}

/// The fields of a struct in their order.
fn values<T: serde::Serialize>(fields: &T) -> Vec<serde_json::Value> {
    let packed = rmp_serde::to_vec(fields).expect("fields can be encoded");
    rmp_serde::from_slice(&packed).expect("encoded fields can be decoded")
}

/// The line in the kernel's format, up to the first missing field.
fn line_of(stat: &RawStat) -> String {
    let fields = values(stat);
    let texts = fields.iter().enumerate().map_while(|(i, field)| match field {
        serde_json::Value::Null => None,
        serde_json::Value::String(name) if i == 1 => Some(format!("({name})")),
        serde_json::Value::String(letter) => Some(letter.clone()),
        number => Some(number.to_string()),
    });
    texts.collect::<Vec<_>>().join(" ") + "\n"
}

/// Any number of ticks converts to a time.
fn times(stat: &RawStat) {
    for ticks_per_second in [1, 100, u64::MAX] {
        let clock =
            Clock { boot_nanos: stat.vsize.cast_signed(), ticks_per_second, page_size: 4096 };
        assert!(clock.after_boot(stat.starttime) <= jiff::Timestamp::MAX);
        assert!(clock.seconds(stat.utime).is_finite());
        assert!(clock.signed_seconds(stat.cutime).is_finite());
        assert!(clock.bytes(stat.vsize) >= stat.vsize);
    }
}
