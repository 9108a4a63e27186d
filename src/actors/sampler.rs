//! The actor that samples: one timer for all running processes.
//!
//! It exists only if sampling is on, and its timer is set only while processes run. It has a thread
//! of its own, because a round over thousands of processes takes a while. It reads
//! `/proc/PID/stat`, which it keeps open, but only if the process's CPU clock has moved since the
//! last round: asking the kernel for the clock costs a thirtieth of reading, and what has not run
//! has not changed.

use std::fs::File;
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient};
use tokio::time::Instant;

use crate::clock::TimePoint;
use crate::engine::Started;
use crate::procfs::{ProcFs, ReadError};
use crate::report::samples::SampleHistory;

/// What a process's actor needs for sampling.
#[derive(Clone)]
pub struct SamplingHandle {
    /// The [`SamplerActor`].
    pub sampler: Recipient<WatchProcess>,
    /// The maximum number of samples of each process.
    pub count: usize,
}

/// Sample this process from now on, until it ends or its history is dropped. Handled by the
/// [`SamplerActor`].
#[derive(Message)]
#[rtype(result = "()")]
pub struct WatchProcess(pub Weak<SampleHistory>);

/// The actor.
pub struct SamplerActor {
    procfs: ProcFs,
    interval: Duration,
    watched: Vec<SampledProcess>,
    /// The time of the next round; none while nothing is watched.
    due: Option<Instant>,
}

/// A process that is sampled.
struct SampledProcess {
    history: Weak<SampleHistory>,
    /// Its open `stat`, after the first reading.
    stat: Option<File>,
    /// Its CPU clock at the last reading.
    cpu: Option<Duration>,
}

impl SamplerActor {
    /// A sampler of processes in `procfs`. The interval must not be zero.
    pub fn new(procfs: ProcFs, interval: Duration) -> SamplerActor {
        SamplerActor { procfs, interval, watched: Vec::new(), due: None }
    }

    /// Sets the timer for the next round. Missed rounds are skipped.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let due = self.due.map_or(now, |last| last + self.interval).max(now);
        // The first round comes after an interval too.
        let due = if self.due.is_none() { due + self.interval } else { due };
        self.due = Some(due);
        ctx.run_later(due.saturating_duration_since(now), |sampler, ctx| sampler.tick(ctx));
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let procfs = &self.procfs;
        self.watched.retain_mut(|watched| watched.sample(procfs));
        if self.watched.is_empty() {
            self.due = None;
            self.watched.shrink_to_fit();
        } else {
            self.arm(ctx);
        }
    }
}

impl SampledProcess {
    /// Takes a sample; false if there will be no more.
    fn sample(&mut self, procfs: &ProcFs) -> bool {
        let Some(history) = self.history.upgrade().filter(|history| !history.has_ended()) else {
            return false;
        };
        // A process that is gone has no clock.
        let Some(cpu) = cpu_time(history.pid()) else { return false };
        let now = TimePoint::now();
        if self.cpu == Some(cpu) {
            history.repeat(now);
            return true;
        }
        let first = self.stat.is_none();
        if first {
            // If descriptors are short, it is opened for each reading.
            self.stat = procfs.open_stat(history.pid()).ok();
        }
        let read = match &self.stat {
            Some(file) => procfs.read_stat_of(file, history.pid()),
            None => procfs.read_stat(history.pid()),
        };
        match read {
            Ok(stat) if history.is_of(&stat) => {
                history.add(now, &stat);
                self.cpu = Some(cpu);
                true
            }
            Ok(_) | Err(ReadError::Gone { .. }) => false,
            // The next reading may succeed.
            Err(_) => true,
        }
    }
}

/// The CPU time of a process so far; none if it is gone.
fn cpu_time(pid: i32) -> Option<Duration> {
    let clock = nix::time::clock_getcpuclockid(nix::unistd::Pid::from_raw(pid)).ok()?;
    clock.now().ok().map(Duration::from)
}

impl Actor for SamplerActor {
    type Context = Context<Self>;
}

impl Handler<WatchProcess> for SamplerActor {
    type Result = ();

    fn handle(&mut self, WatchProcess(history): WatchProcess, ctx: &mut Self::Context) {
        self.watched.push(SampledProcess { history, stat: None, cpu: None });
        if self.due.is_none() {
            self.arm(ctx);
        }
    }
}

impl SamplingHandle {
    /// Starts sampling a process; returns its history.
    pub(super) fn begin(&self, started: &Started) -> Arc<SampleHistory> {
        let stat = started.stat.as_ref();
        let history = Arc::new(SampleHistory::new(started.pid, stat, started.start, self.count));
        self.sampler.do_send(WatchProcess(Arc::downgrade(&history)));
        history
    }
}
