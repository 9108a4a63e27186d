//! The worker's introduction to the keeper: the kind of run, the settings, the directories.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use crate::app::own_process::proc_info;
use crate::cli::invocation::Run;
use crate::config::{Env, Settings};
use crate::keeper::meaning::Mode;
use crate::keeper::{format, registry};
use crate::report::AgentInfo;
use crate::wire::ProcInfo;

/// Time that a child's set-up may take before the child is reported as running.
const SETUP_PATIENCE: Duration = Duration::from_millis(500);

/// The kind of run, which determines the meaning of signals.
pub(super) fn mode(run: &Run) -> Mode {
    let serves = run.settings.agent.enabled || run.settings.http.enabled;
    match &run.foreground {
        Some(_) => Mode::Foreground,
        None if serves && !run.exit => Mode::Service,
        None => Mode::OneShot,
    }
}

/// Where the keeper has to create the instance's directories.
pub(super) fn opening(run: &Run, env: &Env) -> format::Opening {
    let settings = &run.settings;
    format::Opening {
        registries: registry::candidates_of(settings, env),
        captures_chosen: settings.capture.dir.is_some(),
        serves: settings.http.enabled || settings.agent.enabled,
    }
}

/// The settings for the keeper.
pub(super) fn keeper_settings(run: &Run, env: &Env) -> format::KeeperSettings {
    let settings = &run.settings;
    // A one-shot is often a job of a service, and inherits the variable from it.
    let lasts = mode(run) == Mode::Service;
    let given = env.get(OsStr::new("STATE_DIRECTORY")).filter(|value| lasts && !value.is_empty());
    let from_service_manager = given.map(|value| {
        // systemd joins several directories by colons. The first one is ours, below a name of our
        // own, because only we may read it.
        let first = value.as_bytes().split(|b| *b == b':').next().unwrap_or_default();
        Path::new(OsStr::from_bytes(first)).join("procstar")
    });
    format::KeeperSettings {
        state_dir: settings.run.state_dir.clone().or(from_service_manager),
        base_dir: settings.capture.directory(env),
        conn_id: settings.agent.conn_id.clone(),
        drain_timeout: settings.capture.drain_timeout,
        setup_timeout: SETUP_PATIENCE,
        allowed: format::Allowed {
            executables: settings
                .run
                .allowed_executables
                .iter()
                .map(|path| path_text(path))
                .collect(),
            variables: settings.run.allowed_variables.clone(),
            directories: settings.run.allowed_directories.clone(),
        },
        log: settings.log.clone(),
        limits: format::ProcessLimits {
            head: settings.capture.keep_head,
            tail: settings.capture.keep_tail,
            max_file_size: settings.run.max_file_size,
            gain_privileges: settings.run.gain_privileges,
            cgroup_parent: settings.run.cgroup_parent.clone(),
        },
    }
}

/// The agent in results: this program, launched as process `pid`.
pub(super) fn agent_info(pid: u32) -> AgentInfo {
    let ProcInfo { hostname: host, username: user, .. } = proc_info();
    AgentInfo { pid, host, user, version: env!("CARGO_PKG_VERSION").to_owned() }
}

/// The allowed executables in the registration with a scheduler, joined by colons.
pub(super) fn restricted_exe(settings: &Settings) -> Option<String> {
    let paths: Vec<String> =
        settings.run.allowed_executables.iter().map(|path| path_text(path)).collect();
    (!paths.is_empty()).then(|| paths.join(":"))
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
