//! What a list of many processes shows of each: a small part of its result, made without looking at
//! the process.

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

/// The longest command, in bytes: one may have megabytes of arguments.
const COMMAND: usize = 200;
/// The most points of a history: as many as a small curve can show.
const POINTS: usize = 30;

/// A summary of a result: the keys that it shares with a whole result have the same meaning.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Summary")]
pub struct Summary<'a> {
    /// How far it is.
    state: ProcState,
    /// Why it no longer runs; null while it does.
    reason: Option<Reason>,
    /// What went wrong, for people.
    errors: &'a [String],
    /// The process ID; null where there never was a process.
    pid: Option<i32>,
    /// How it ended; null while it runs.
    status: Option<&'a Status>,
    /// When.
    times: SummaryTimes,
    /// The arguments, joined by spaces, and cut at 200 bytes; null where they are not known any
    /// more.
    command: Option<String>,
    /// Labels, as given.
    labels: &'a IndexMap<String, String>,
    /// What it and the children that it has waited for have used in all, in seconds; null while it
    /// runs, and where it is not known.
    cpu: Option<f64>,
    /// The most that was resident, in bytes; null while it runs, and where it is not known.
    maxrss: Option<u64>,
    /// Up to 30 points of its samples: seconds since the start, CPU seconds so far, resident bytes;
    /// null where nothing is sampled.
    history: Option<Vec<(f64, f64, u64)>>,
}

/// Start and end of a process.
#[derive(Serialize, JsonSchema)]
struct SummaryTimes {
    /// Just before it was started.
    start: Rfc3339,
    /// When its end was seen; null while it runs.
    stop: Option<Rfc3339>,
    /// Seconds from `start` to `stop`, or to now while it runs, from a monotonic clock.
    elapsed: f64,
}

/// What a running process uses at a moment.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Stats {
    /// Seconds since its start.
    elapsed: f64,
    /// CPU time so far, of it and of the children that it has waited for, in seconds.
    cpu: f64,
    /// Resident memory, in bytes.
    rss: u64,
    /// Threads.
    threads: i64,
    /// The kernel's letter, as in `proc_stat`: T where it is suspended.
    state: char,
    /// By captured fd, the bytes captured so far.
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

    /// Its current resource usage; `None` if it is not running, or its `/proc` files cannot be
    /// read.
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

/// Arguments on one line, cut where they get too long for one.
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

/// Evenly spaced ones, the first and the last always among them.
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
