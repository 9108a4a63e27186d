//! `/proc/PID/statm`, `/proc/PID/io`, and the peaks in `/proc/PID/status`.

use super::{ParseError, number};

/// The fields of `/proc/PID/statm`, in pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RawStatm {
    /// All mapped memory.
    pub size: u64,
    /// Resident memory.
    pub resident: u64,
    /// Resident memory that is backed by files or shared.
    pub shared: u64,
    /// Code.
    pub text: u64,
    /// Always 0 since Linux 2.6.
    pub lib: u64,
    /// Data and stack.
    pub data: u64,
    /// Always 0 since Linux 2.6.
    pub dt: u64,
}

/// The counters of `/proc/PID/io`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RawIo {
    /// Bytes read by system calls, from any source.
    pub rchar: u64,
    /// Bytes written by system calls, to any destination.
    pub wchar: u64,
    /// Read system calls.
    pub syscr: u64,
    /// Write system calls.
    pub syscw: u64,
    /// Bytes fetched from storage.
    pub read_bytes: u64,
    /// Bytes written to storage, now or later.
    pub write_bytes: u64,
    /// Bytes of `write_bytes` that were never written, because the file was truncated first.
    pub cancelled_write_bytes: u64,
}

/// Parses `/proc/PID/statm`; fields after the seventh are ignored.
///
/// # Errors
/// The line is cut off, or a field is missing or invalid.
pub fn parse_statm(text: &[u8]) -> Result<RawStatm, ParseError> {
    const FILE: &str = "statm";
    let line = text.strip_suffix(b"\n").ok_or(ParseError::CutOff { file: FILE })?;
    let mut fields = line.split(|&byte| byte == b' ').filter(|field| !field.is_empty());
    let mut next = |field| match fields.next() {
        Some(text) => number(FILE, field, text),
        None => Err(ParseError::Missing { file: FILE, field }),
    };
    Ok(RawStatm {
        size: next("size")?,
        resident: next("resident")?,
        shared: next("shared")?,
        text: next("text")?,
        lib: next("lib")?,
        data: next("data")?,
        dt: next("dt")?,
    })
}

/// Parses `/proc/PID/io`: lines of `name: number`, in any order, others ignored.
///
/// # Errors
/// The text is cut off, or a counter is missing or invalid.
pub fn parse_io(text: &[u8]) -> Result<RawIo, ParseError> {
    const FILE: &str = "io";
    let text = text.strip_suffix(b"\n").ok_or(ParseError::CutOff { file: FILE })?;
    let find = |field: &'static str| {
        text.split(|&byte| byte == b'\n')
            .find_map(|line| line.strip_prefix(field.as_bytes())?.strip_prefix(b": "))
            .ok_or(ParseError::Missing { file: FILE, field })
            .and_then(|value| number(FILE, field, value))
    };
    Ok(RawIo {
        rchar: find("rchar")?,
        wchar: find("wchar")?,
        syscr: find("syscr")?,
        syscw: find("syscw")?,
        read_bytes: find("read_bytes")?,
        write_bytes: find("write_bytes")?,
        cancelled_write_bytes: find("cancelled_write_bytes")?,
    })
}

/// The peaks of memory since exec, from `/proc/PID/status`, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawPeaks {
    /// `VmPeak`: mapped.
    pub vsize: u64,
    /// `VmHWM`: resident.
    pub rss: u64,
}

/// Parses the peaks in `/proc/PID/status`, lines of `Name:`, spaces, a number and ` kB`; `None` if
/// they are missing, as for zombies and kernel threads.
pub fn parse_peaks(text: &[u8]) -> Option<RawPeaks> {
    let find = |name: &str| {
        let line = text
            .split(|&byte| byte == b'\n')
            .find_map(|line| line.strip_prefix(name.as_bytes()))?;
        let kib = std::str::from_utf8(line).ok()?.trim().strip_suffix(" kB")?;
        kib.trim_end().parse::<u64>().ok()?.checked_mul(1024)
    };
    Some(RawPeaks { vsize: find("VmPeak:")?, rss: find("VmHWM:")? })
}
