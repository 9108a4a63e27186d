//! The `procstar` program: parse, configure, run, exit code.

use std::io::Write;
use std::os::fd::RawFd;
use std::time::Instant;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::SigSet;
use procstar::cli::options::{self, Invocation, Run};
use procstar::cli::run::{self, Origin};
use procstar::cli::{logging, show};
use procstar::config;

fn main() {
    let at = Instant::now();
    // Whoever started us may have blocked signals that we are to be ended by.
    let _ = SigSet::empty().thread_set_mask();
    // Before anything else is opened: these are the user's.
    let fds = claim_inherited_fds();
    let env = config::process_env();
    let code = match options::parse(std::env::args_os(), &env) {
        Ok(Invocation::Run(options)) => {
            let nofile = raise_open_file_limit();
            run_agent(*options, Origin { env, fds, nofile, at })
        }
        Ok(Invocation::ConfigShow { loaded, json }) => {
            say(&mut std::io::stdout(), &show::render(&loaded, json));
            0
        }
        Err(answer) if answer.is_answer() => {
            say(&mut std::io::stdout(), answer.text());
            answer.exit_code()
        }
        Err(error) => {
            say(&mut std::io::stderr(), error.text());
            error.exit_code()
        }
    };
    // Threads that still wait for something must not hold up the end.
    std::process::exit(i32::from(code));
}

fn run_agent(options: Run, origin: Origin) -> u8 {
    if let Err(error) = logging::init(&options.settings.log) {
        say(&mut std::io::stderr(), &format!("procstar: {error}\n"));
    }
    for warning in &options.warnings {
        tracing::warn!("{warning}");
    }
    match run::run(options, origin) {
        Ok(()) => 0,
        Err(error) => {
            say(&mut std::io::stderr(), &format!("procstar: {error}\n"));
            error.exit_code()
        }
    }
}

/// Writes a text for the user. Whoever has closed the other end does not want it.
fn say(to: &mut impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// The fds from 3 up that this process was started with; children get them only where their specs say so.
fn claim_inherited_fds() -> Vec<RawFd> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let open: Vec<RawFd> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // The directory itself is closed by now, and is no longer among them.
    let close_on_exec = |fd: &RawFd| {
        // SAFETY: fcntl tells of a number that is not open by an error.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(*fd) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).is_ok()
    };
    open.into_iter().filter(|fd| *fd > 2).filter(close_on_exec).collect()
}

/// Raises the soft open-file limit to the hard one; gives both as they were, for children get them back.
fn raise_open_file_limit() -> Option<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    (soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok()).then_some((soft, hard))
}
