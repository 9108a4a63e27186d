//! The actor that samples: one timer for all running processes.
//!
//! Where nothing is sampled it is not there; while nothing runs its timer is not set. It has a thread of its own, for a round over thousands of
//! processes takes a while. What a process has used is read from its `/proc/PID/stat`, which is kept open; but only if its CPU clock has
//! moved since the last time, which is asked of the kernel at a thirtieth of the cost: what has not run has not changed.

use std::fs::File;
use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message, Recipient};
use tokio::time::Instant;

use crate::clock::TimePoint;
use crate::engine::Started;
use crate::procfs::{ProcFs, ReadError};
use crate::report::samples::SampleHistory;

/// What the owner of a process needs to have it sampled.
#[derive(Clone)]
pub struct SamplingHandle {
    /// The [`SamplerActor`].
    pub sampler: Recipient<WatchProcess>,
    /// How many samples are kept of each process.
    pub count: usize,
}

/// Sample this process from now on, until it ends or nobody holds its history. Handled by the [`SamplerActor`].
#[derive(Message)]
#[rtype(result = "()")]
pub struct WatchProcess(pub Weak<SampleHistory>);

/// The actor.
pub struct SamplerActor {
    procfs: ProcFs,
    interval: Duration,
    watched: Vec<SampledProcess>,
    /// When the next round is due; none while nothing is watched.
    due: Option<Instant>,
}

/// A process that is sampled.
struct SampledProcess {
    history: Weak<SampleHistory>,
    /// Its open `stat`, once it was read.
    stat: Option<File>,
    /// Its CPU clock when it was read last.
    cpu: Option<Duration>,
}

impl SamplerActor {
    /// A sampler that samples processes of `procfs` at an interval, which is not zero.
    pub fn new(procfs: ProcFs, interval: Duration) -> SamplerActor {
        SamplerActor { procfs, interval, watched: Vec::new(), due: None }
    }

    /// Sets the timer for the next round. Rounds that are missed are left out.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let due = self.due.map_or(now, |last| last + self.interval).max(now);
        // The first one comes after an interval too.
        let due = if self.due.is_none() { due + self.interval } else { due };
        self.due = Some(due);
        ctx.run_later(due.saturating_duration_since(now), |sampler, ctx| sampler.tick(ctx));
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let procfs = &self.procfs;
        self.watched.retain_mut(|watched| watched.look(procfs));
        if self.watched.is_empty() {
            self.due = None;
            self.watched.shrink_to_fit();
        } else {
            self.arm(ctx);
        }
    }
}

impl SampledProcess {
    /// Takes a sample; false where there is none to take any more.
    fn look(&mut self, procfs: &ProcFs) -> bool {
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
            // Without a descriptor to spare it is opened each time.
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
            // It may be readable at another time.
            Err(_) => true,
        }
    }
}

/// The CPU time that a process has used; none where it is gone.
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
    /// Has a process sampled that has just started; gives its history.
    pub(super) fn begin(&self, started: &Started) -> Arc<SampleHistory> {
        let stat = started.stat.as_ref();
        let history = Arc::new(SampleHistory::new(started.pid, stat, started.start, self.count));
        self.sampler.do_send(WatchProcess(Arc::downgrade(&history)));
        history
    }
}
