//! The environment of the launched program, which its children inherit in part.

use std::os::fd::RawFd;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit};

use super::activation;
use super::variables;
use crate::clock::TimePoint;
use crate::config::NEVER_INHERITED;
use crate::engine::{CAPTURE_WRITER, Inherited};

/// The environment of the launched program.
#[derive(Clone)]
pub struct LaunchEnvironment {
    /// The time of the launch.
    pub start: TimePoint,
    /// Its fds from 3 up, which are now close-on-exec.
    pub fds: Vec<RawFd>,
    /// Its open-file limit, soft and hard, if the soft one was raised.
    pub nofile: Option<(u64, u64)>,
}

impl LaunchEnvironment {
    /// The soft limit of open files with which the program was started.
    pub(super) fn soft_open_file_limit(&self) -> u64 {
        match self.nofile {
            Some((soft, _)) => soft,
            None => getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft),
        }
    }

    /// The part that children inherit: all except the variables for this program.
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
