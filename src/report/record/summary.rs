//! Summaries of results, for lists of many processes. A summary is made without access to the
//! process.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ProcessRecord;
use crate::report::body::Reason;
use crate::report::context::ResultContext;
use crate::report::rusage::Rusage;
use crate::report::samples::Sample;
use crate::report::status::{ProcState, Status};
use crate::report::times::Rfc3339;

/// Maximum length of a command in a summary, in bytes. Arguments can have megabytes.
const COMMAND: usize = 200;
/// Maximum number of points of a history, sufficient for a small curve.
const POINTS: usize = 30;

/// A summary of a result. Keys that a complete result also has mean the same.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Summary")]
pub struct Summary<'a> {
    /// The state of the process.
    state: ProcState,
    /// The reason of the end; null while the process runs.
    reason: Option<Reason>,
    /// Error messages.
    errors: &'a [String],
    /// The pid; null if no child was created.
    pid: Option<i32>,
    /// The exit status; null while the process runs.
    status: Option<&'a Status>,
    /// The times of start and end.
    times: SummaryTimes,
    /// The arguments, joined by spaces and truncated to 200 bytes; null if they are no longer
    /// known.
    command: Option<String>,
    /// The labels of the spec.
    labels: &'a IndexMap<String, String>,
    /// The total CPU time of the process and of the children that it has waited for, in seconds;
    /// null while it runs or if unknown.
    cpu: Option<f64>,
    /// The maximum resident memory, in bytes; null while the process runs or if unknown.
    maxrss: Option<u64>,
    /// Up to 30 of the samples: seconds since the start, CPU seconds so far, resident bytes; null
    /// if the process is not sampled.
    history: Option<Vec<(f64, f64, u64)>>,
}

/// Start and end of a process.
#[derive(Serialize, JsonSchema)]
struct SummaryTimes {
    /// The time just before the start.
    start: Rfc3339,
    /// The time of the end; null while the process runs.
    stop: Option<Rfc3339>,
    /// Seconds from `start` to `stop`, or to now while the process runs, by a monotonic clock.
    elapsed: f64,
}

/// The resource usage of a running process at a moment.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Stats {
    /// Seconds since the start.
    elapsed: f64,
    /// CPU time of the process so far, and of the children that it has waited for, in seconds.
    cpu: f64,
    /// Resident memory, in bytes.
    rss: u64,
    /// Number of threads.
    threads: i64,
    /// The kernel's letter for the state, as in `proc_stat`: T if the process is suspended.
    state: char,
    /// By fd, the number of bytes captured so far.
    captured: IndexMap<String, u64>,
}

impl ProcessRecord {
    /// The summary of the result.
    pub fn summary(&self, context: &ResultContext) -> Summary<'_> {
        let ending = self.ending.as_ref();
        let rusage = ending.map(|ending| &ending.rusage);
        let until = if ending.is_some() { self.made } else { crate::clock::TimePoint::now() };
        let argv = self.identity.as_deref().map(|identity| identity.argv.as_slice());
        Summary {
            state: self.state,
            reason: ending.map(|ending| ending.reason),
            errors: &self.errors,
            pid: self.pid,
            status: ending.map(|ending| &ending.status),
            times: SummaryTimes {
                start: self.start.into(),
                stop: ending.map(|_| self.made.into()),
                elapsed: until.seconds_since(self.start),
            },
            command: argv.map(command),
            labels: self.labels(),
            cpu: rusage.and_then(Rusage::cpu),
            maxrss: rusage.and_then(|rusage| rusage.maxrss),
            history: self
                .history
                .as_ref()
                .map(|history| points(&history.samples(context.reader.clock()))),
        }
    }

    /// The present resource usage; `None` if the process does not run, or its `/proc` files cannot
    /// be read.
    pub fn stats(&self, context: &ResultContext) -> Option<Stats> {
        let pid = self.pid.filter(|_| self.is_running())?;
        let stat = context.reader.stat(pid, self.stat.as_ref())?;
        if stat.state == 'Z' {
            return None;
        }
        let clock = context.reader.clock();
        let captures = self.captures.iter();
        let length = |(fd, capture): (_, Option<&crate::engine::Capture>)| {
            capture.map(|capture| (ToString::to_string(&fd), capture.len()))
        };
        Some(Stats {
            elapsed: crate::clock::TimePoint::now().seconds_since(self.start),
            cpu: clock.seconds(stat.utime)
                + clock.seconds(stat.stime)
                + clock.signed_seconds(stat.cutime)
                + clock.signed_seconds(stat.cstime),
            rss: clock.bytes(stat.rss),
            threads: stat.num_threads,
            state: stat.state,
            captured: captures.filter_map(length).collect(),
        })
    }
}

/// The arguments on one line, truncated to [`COMMAND`] bytes.
fn command(argv: &[String]) -> String {
    let mut line = String::new();
    for argument in argv {
        if !line.is_empty() {
            line.push(' ');
        }
        let room = COMMAND.saturating_sub(line.len());
        if argument.len() > room {
            let cut = (0..=room).rev().find(|at| argument.is_char_boundary(*at)).unwrap_or(0);
            line.push_str(argument.get(..cut).unwrap_or_default());
            line.push('\u{2026}');
            break;
        }
        line.push_str(argument);
    }
    line
}

/// Selects evenly spaced samples, always with the first and the last one.
fn points(samples: &[Sample]) -> Vec<(f64, f64, u64)> {
    let last = samples.len().saturating_sub(1);
    let count = samples.len().min(POINTS);
    let at = |n: usize| if count > 1 { n * last / (count - 1) } else { last };
    (0..count)
        .filter_map(|n| samples.get(at(n)))
        .map(|sample| {
            let cpu = sample.utime + sample.stime + sample.cutime + sample.cstime;
            ((sample.elapsed * 1e3).round() / 1e3, (cpu * 1e3).round() / 1e3, sample.rss)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_cut_between_characters() {
        let line = |argv: &[&str]| {
            command(&argv.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(line(&["/bin/sh", "-c", "true"]), "/bin/sh -c true");
        assert_eq!(line(&[]), "");
        let cut = line(&[&format!("a{}", "ä".repeat(200)), "never"]);
        assert_eq!(cut, format!("a{}\u{2026}", "ä".repeat(99)));
        assert_eq!(line(&[&"x".repeat(200), "y"]), format!("{} \u{2026}", "x".repeat(200)));
    }

    #[test]
    fn points_span_the_whole_life() {
        let sample = |n: u32| Sample {
            time: Rfc3339::now(),
            elapsed: f64::from(n),
            utime: 1.0,
            stime: 0.5,
            cutime: 0.25,
            cstime: 0.25,
            rss: u64::from(n) * 4096,
            vsize: 0,
            threads: 1,
        };
        for count in [0, 1, 2, 29, 30, 31, 60, 1000] {
            let points = points(&(0..count).map(sample).collect::<Vec<_>>());
            assert_eq!(points.len(), (count as usize).min(POINTS), "{count}");
            if count > 0 {
                assert_eq!(points.last().unwrap().0, f64::from(count - 1));
                assert_eq!((points[0].1, points[0].2), (2.0, (points[0].0 as u64) * 4096));
            }
            assert!(points.is_sorted_by(|a, b| a.0 < b.0), "{count}");
        }
    }
}
