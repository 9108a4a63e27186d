//! The plan: the output to print, and its order.

use crate::cli::client::api::Api;
use crate::cli::client::error::ClientError;
use crate::cli::client::humanize;
use crate::cli::client::options::LogsArgs;
use crate::cli::client::proc::Proc;

/// A result, of which a plan needs the captures.
#[derive(Clone, Debug)]
pub(super) struct Subject(Proc);

impl Subject {
    /// The present result.
    pub(super) async fn ask(api: &Api, id: &str) -> Result<Subject, ClientError> {
        let result = api.one(id, "none").await?;
        Proc::of(&result).map(Subject).map_err(|reason| api.nonsense(reason))
    }

    /// The start, in seconds since the epoch.
    fn start(&self) -> f64 {
        humanize::epoch(self.0.times.start)
    }

    /// The captured length of `fd`.
    pub(super) fn length(&self, fd: &str) -> u64 {
        self.0.captures.get(fd).map_or(0, |capture| capture.length)
    }

    /// Whether the first `length` bytes are all of `fd`.
    pub(super) fn has_all(&self, fd: &str, length: u64) -> bool {
        !self.0.is_running() && length >= self.length(fd)
    }

    /// The chunks of these fds, with times since the epoch, in order.
    pub(super) fn chunks_of(&self, fds: &[String]) -> Vec<Chunk> {
        let start = self.start();
        let chunks = self.0.chunk_times.iter().flatten();
        chunks
            .filter_map(|(time, fd, offset, length)| {
                Some(Chunk {
                    time: Some(start + time),
                    fd: fds.iter().position(|known| known == fd)?,
                    offset: *offset,
                    length: *length,
                })
            })
            .collect()
    }

    /// Whether the order and times of all captured bytes of these fds are known.
    fn is_timed(&self, fds: &[String]) -> bool {
        let known = |fd: &String| {
            let Some(capture) = self.0.captures.get(fd) else { return false };
            let named = self.0.chunk_times.iter().flatten().any(|(_, name, ..)| name == fd);
            // If a capture has dropped bytes in its middle, their position is unknown.
            capture.dropped == 0 && (capture.length == 0 || named)
        };
        self.0.chunk_times.is_some() && fds.iter().all(known)
    }
}

/// A part of a capture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Chunk {
    /// The time at which it was read, in seconds since the epoch.
    pub(super) time: Option<f64>,
    /// Its index among the plan's fds.
    pub(super) fd: usize,
    /// Its offset.
    pub(super) offset: u64,
    /// Its length.
    pub(super) length: u64,
}

/// The output to print.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    /// The captures, by fd.
    pub(super) fds: Vec<String>,
    /// The existing output: one sequence of chunks in their order, or one for each fd if the order
    /// is unknown. The last lines are counted in each sequence.
    pub(super) sequences: Vec<Vec<Chunk>>,
    /// For each fd, the offset at which later output begins.
    pub(super) ends: Vec<u64>,
    /// Whether the order and the times of all chunks are known.
    pub(super) timed: bool,
}

impl Plan {
    /// The plan for `args`.
    ///
    /// # Errors
    /// A stream that is not captured; times that are not known.
    pub(super) fn new(args: &LogsArgs, subject: &Subject) -> Result<Plan, ClientError> {
        let fds = fds(args, subject)?;
        let timed = subject.is_timed(&fds);
        let since = since(args, subject, timed)?;
        let sequences = match since {
            Since::Nothing => vec![],
            Since::All if timed => vec![subject.chunks_of(&fds)],
            Since::All => {
                let whole = |(at, fd): (usize, &String)| {
                    vec![Chunk { time: None, fd: at, offset: 0, length: subject.length(fd) }]
                };
                fds.iter().enumerate().map(whole).collect()
            }
            Since::Then(then) => {
                let old = |chunk: &Chunk| chunk.time.is_some_and(|time| time < then);
                vec![subject.chunks_of(&fds).into_iter().skip_while(old).collect()]
            }
        };
        let ends = if timed {
            ends(&subject.chunks_of(&fds), fds.len())
        } else {
            fds.iter().map(|fd| subject.length(fd)).collect()
        };
        Ok(Plan { fds, sequences, ends, timed })
    }
}

/// The end of the last chunk of each of `count` fds.
fn ends(chunks: &[Chunk], count: usize) -> Vec<u64> {
    let mut ends = vec![0; count];
    for chunk in chunks {
        if let Some(end) = ends.get_mut(chunk.fd) {
            *end = chunk.offset + chunk.length;
        }
    }
    ends
}

fn fds(args: &LogsArgs, subject: &Subject) -> Result<Vec<String>, ClientError> {
    let captured: Vec<String> = subject.0.captures.keys().cloned().collect();
    if captured.is_empty() {
        return Err(ClientError::Failed(format!(
            "no output of process {} is captured; its spec's fds have no capture",
            args.id
        )));
    }
    let Some(wanted) = &args.stream else { return Ok(captured) };
    let wanted = match wanted.as_str() {
        "0" => "stdin",
        "1" => "stdout",
        "2" => "stderr",
        other => other,
    };
    if captured.iter().any(|fd| fd == wanted) {
        return Ok(vec![wanted.to_owned()]);
    }
    Err(ClientError::Failed(format!(
        "{} of process {} is not captured; captured: {}",
        fd_name(wanted),
        args.id,
        captured.join(", ")
    )))
}

/// A descriptor as messages name it: `stdin`, or `fd 7`.
fn fd_name(fd: &str) -> String {
    match fd {
        "stdin" | "stdout" | "stderr" => fd.to_owned(),
        other => format!("fd {other}"),
    }
}

enum Since {
    All,
    Nothing,
    Then(f64),
}

/// The time from which to print; an error if the output's times are unknown.
fn since(args: &LogsArgs, subject: &Subject, timed: bool) -> Result<Since, ClientError> {
    let unknown = |what: &str| {
        let why = match subject.0.chunk_times {
            None => "its captures lack \"chunk_times\": true (docs/reference/spec.md)",
            Some(_) => {
                "one of its captures has no chunk times, or has dropped bytes to stay within `keep`"
            }
        };
        ClientError::Failed(format!(
            "{what}: no times are known of all output of process {}: {why}",
            args.id
        ))
    };
    if args.timestamps && !timed {
        return Err(unknown("--timestamps"));
    }
    let Some(since) = args.since else { return Ok(Since::All) };
    // The instance's clock, which may differ from ours.
    let times = &subject.0.times;
    let then = since.epoch(humanize::epoch(times.now));
    if subject.start() >= then {
        Ok(Since::All)
    } else if times.stop.is_some_and(|stop| humanize::epoch(stop) < then) {
        Ok(Since::Nothing)
    } else if timed {
        Ok(Since::Then(then))
    } else {
        Err(unknown("--since"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::options::Target;
    use crate::cli::client::proc::sample_json;
    use serde_json::json;

    fn args() -> LogsArgs {
        LogsArgs {
            id: "a".into(),
            follow: false,
            tail: None,
            since: None,
            timestamps: false,
            stream: None,
            raw: false,
            target: Target::default(),
        }
    }

    fn subject(chunks: &serde_json::Value, dropped: u64) -> Subject {
        let capture = |length, dropped| {
            format!(
                r#"{{"length": {length}, "dropped": {dropped}, "complete": false, "reason": null}}"#
            )
        };
        // The order of fds matters, and a JSON value does not keep it.
        let captures =
            format!(r#"{{"stdout": {}, "stderr": {}}}"#, capture(6, dropped), capture(3, 0));
        let result = sample_json(&json!({
            "times": {"start": "1970-01-01T00:01:40Z", "now": "1970-01-01T00:03:20Z"},
            "captures": "CAPTURES",
            "chunk_times": chunks,
        }));
        let text = result.to_string().replace(r#""CAPTURES""#, &captures);
        Subject(serde_json::from_str(&text).unwrap())
    }

    fn timed() -> Subject {
        let chunks = [(1.0, "stdout", 0, 4), (2.0, "stderr", 0, 3), (50.0, "stdout", 4, 2)];
        subject(&serde_json::json!(chunks), 0)
    }

    #[test]
    fn pieces_make_one_sequence() {
        let plan = Plan::new(&args(), &timed()).unwrap();
        let chunk = |time, fd, offset, length| Chunk { time: Some(time), fd, offset, length };
        let all = vec![chunk(101.0, 0, 0, 4), chunk(102.0, 1, 0, 3), chunk(150.0, 0, 4, 2)];
        assert_eq!((plan.sequences, plan.ends), (vec![all.clone()], vec![6, 3]));
        let since = LogsArgs { since: humanize::since("90").ok(), ..args() };
        let plan = Plan::new(&since, &timed()).unwrap();
        assert_eq!((plan.sequences, plan.ends), (vec![all[2..].to_vec()], vec![6, 3]));
        let one = LogsArgs { stream: Some("2".into()), ..args() };
        let plan = Plan::new(&one, &timed()).unwrap();
        assert_eq!((plan.fds, plan.ends), (vec!["stderr".to_owned()], vec![3]));
    }

    #[test]
    fn output_without_times_is_whole_or_refused() {
        for subject in [
            subject(&serde_json::Value::Null, 0),
            subject(&serde_json::json!([(1.0, "stdout", 0, 6)]), 0),
            subject(&serde_json::json!([(1.0, "stdout", 0, 9), (1.0, "stderr", 0, 3)]), 3),
        ] {
            let plan = Plan::new(&args(), &subject).unwrap();
            assert_eq!(plan.sequences.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
            let wanted = LogsArgs { timestamps: true, ..args() };
            let error = Plan::new(&wanted, &subject).unwrap_err().to_string();
            assert!(error.starts_with("--timestamps: no times are known"), "{error}");
            let since = |text| LogsArgs { since: humanize::since(text).ok(), ..args() };
            assert!(Plan::new(&since("50"), &subject).is_err());
            // The process wrote nothing before its start.
            assert_eq!(Plan::new(&since("100"), &subject).unwrap(), plan);
        }
    }

    #[test]
    fn an_fd_without_capture_is_named() {
        let wanted = LogsArgs { stream: Some("7".into()), ..args() };
        let error = Plan::new(&wanted, &timed()).unwrap_err().to_string();
        assert_eq!(error, "fd 7 of process a is not captured; captured: stdout, stderr");
    }
}
