//! The supervisor's settings: limits of starting and keeping, sampling, and the condition for the
//! end.

use std::time::Duration;

use actix::Actor;
use tokio::time::Instant;

use crate::actors::lifecycle::EndWhen;
use crate::actors::quota::Quota;
use crate::actors::sampler::{SamplerActor, SamplingHandle};
use crate::cli::invocation::Run;
use crate::clock::TimePoint;
use crate::config::{SamplingSettings, Settings};
use crate::procfs::ProcFs;
use crate::spec::KeepSpec;

/// The limits of starting and keeping.
pub(super) fn quota(settings: &Settings) -> Quota {
    let capture = KeepSpec { head: settings.capture.keep_head, tail: settings.capture.keep_tail };
    Quota {
        running: Some(settings.run.max_running),
        kept: Some(settings.run.max_processes),
        captures: Some(settings.capture.max_total),
        capture,
    }
}

/// The sampling; `None` if it is disabled, which saves its thread and its timer.
pub(super) fn sampling(settings: &SamplingSettings) -> Option<SamplingHandle> {
    let interval = settings.interval?;
    let thread = actix::Arbiter::new();
    let sampler = SamplerActor::start_in_arbiter(&thread.handle(), move |_| {
        SamplerActor::new(ProcFs::default(), interval)
    });
    let count = usize::try_from(settings.max_samples).unwrap_or(usize::MAX);
    Some(SamplingHandle { sampler: sampler.recipient(), count })
}

/// The condition under which the program ends by itself.
pub(super) fn end_when(run: &Run, start: TimePoint) -> EndWhen {
    if run.exit {
        EndWhen::NoneRuns
    } else if run.wait {
        let waited = Duration::from_secs_f64(TimePoint::now().seconds_since(start));
        let left = run.settings.run.wait_timeout.saturating_sub(waited);
        let unassigned_until = run.settings.agent.enabled.then(|| Instant::now() + left);
        EndWhen::Idle { unassigned_until }
    } else {
        EndWhen::Never
    }
}
