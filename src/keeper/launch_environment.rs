//! What the launched program was started with, which its children inherit as far as they may.

use std::os::fd::RawFd;
use std::sync::Arc;

use super::activation;
use super::variables;
use crate::clock::TimePoint;
use crate::config::NEVER_INHERITED;
use crate::engine::{CAPTURE_WRITER, Inherited};

/// What the launched program was started with.
#[derive(Clone)]
pub struct LaunchEnvironment {
    /// When.
    pub start: TimePoint,
    /// Its fds from 3 up, which are now close-on-exec.
    pub fds: Vec<RawFd>,
    /// Its open-file limit, soft and hard, where the soft one has been raised.
    pub nofile: Option<(u64, u64)>,
}

impl LaunchEnvironment {
    /// The part that children inherit: all but the variables for this program alone.
    pub(super) fn inherited(&self) -> Arc<Inherited> {
        // The variables for this process would mislead its children.
        let listen_pid = std::env::var_os("LISTEN_PID");
        let ours = activation::is_for(listen_pid.as_deref(), std::process::id());
        let activation = if ours { &activation::VARIABLES[..] } else { &[] };
        let hidden = [NEVER_INHERITED, &variables::ALL, &[CAPTURE_WRITER], activation].concat();
        let fds = self.fds.iter().copied();
        let inherited = Inherited::new(std::env::vars_os(), &hidden, fds, self.nofile);
        Arc::new(inherited.ignoring(crate::engine::ignored_signals()))
    }
}
