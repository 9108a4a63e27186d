//! The `procstar` program: the keeper, which is the process that the user launched, or the worker that a keeper has started.

use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::SigSet;
use procstar::actors::keeper_link::{self, report_mode};
use procstar::cli::invocation::{Invocation, Run, UsageError};
use procstar::cli::parse;
use procstar::cli::{client, descriptor, host, printing, show, upgrade, validate};
use procstar::clock::TimePoint;
use procstar::engine::{FILTER, filter};
use procstar::keeper::descriptors::{self, Foreign};
use procstar::keeper::format::{StateError, UpgradeState};
use procstar::keeper::meaning::Mode;
use procstar::keeper::variables;
use procstar::keeper::{self, LaunchEnvironment, ProgramExit, WorkerCommand, check, secrets};
use procstar::{app, config, logging, mem};

/// Opens what is closed of standard output and standard error, before Rust's own start does so with a `/dev/null` that takes everything: what
/// is written to these must fail, as it does to a closed descriptor, for the program and for its children.
#[used]
// SAFETY: the C library calls the functions of this section once, before `main` and before there are threads.
#[unsafe(link_section = ".init_array")]
static OPEN_CLOSED_OUTPUTS: extern "C" fn() = open_closed_outputs;

extern "C" fn open_closed_outputs() {
    for fd in [1, 2] {
        // SAFETY: the path is a C string, and no call takes another pointer. This runs before `main`, so no value of Rust owns a descriptor:
        // 1 or 2 is set only if it is closed, and the number that is closed was opened here.
        unsafe {
            if libc::fcntl(fd, libc::F_GETFD) != -1 {
                continue;
            }
            let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
            if null >= 0 && null != fd {
                libc::dup2(null, fd);
                libc::close(null);
            }
        }
    }
}

fn main() {
    // A filter is no keeper, and nothing else either.
    if let Some(work) = std::env::var_os(FILTER) {
        let code = filter::run(&work);
        let code = code.unwrap_or_else(|| reserved(&Foreign { variable: FILTER }));
        std::process::exit(i32::from(code));
    }
    let start = TimePoint::now();
    if let Err(foreign) = secrets::take() {
        std::process::exit(i32::from(reserved(&foreign)));
    }
    mem::use_single_arena();
    // Before anything else is opened: these are the user's.
    let fds = claim_inherited_fds();
    let code = if let Some(number) = variable(variables::CHECK_FD) {
        check(&number, variable(variables::NONCE).as_deref(), &fds)
    } else if let Some(number) = variable(variables::KEEPER_FD) {
        worker(&number, &fds)
    } else if let Some(number) = variable(variables::STATE_FD) {
        resume(&number, &fds)
    } else if variable(variables::FILES_FD).is_some() {
        reserved(&Foreign { variable: variables::FILES_FD })
    } else if let Some(code) = command(&fds) {
        code
    } else {
        keep(fds, start)
    };
    // Threads that still wait for something must not hold up the end.
    std::process::exit(i32::from(code));
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Does what needs no keeper: every command but a run, help, and the refusal of wrong usage. Returns the exit code; none for a run.
fn command(fds: &[RawFd]) -> Option<u8> {
    let args: Vec<_> = std::env::args_os().collect();
    descriptor::claim(fds.to_vec());
    let env = config::process_env();
    let parse = || parse::parse_without_keeper(&args, &env);
    // On a thread, whose stack is given back: it is deep, and a keeper stays small.
    let parsed = thread::scope(|scope| match thread::Builder::new().spawn_scoped(scope, parse) {
        Ok(thread) => thread.join().ok()?,
        Err(_) => parse(),
    })?;
    unblock_signals();
    warn_of_mistyped(&env);
    match parsed {
        Ok(invocation) => carry_out(invocation, &env),
        Err(answer) => Some(refuse(&answer)),
    }
}

/// Keeps processes; the worker that this starts does all else.
fn keep(fds: Vec<RawFd>, start: TimePoint) -> u8 {
    unblock_signals();
    let nofile = raise_open_file_limit();
    ended(keeper::keep(LaunchEnvironment { start, fds, nofile }, WorkerCommand::this_program()))
}

/// Goes on for the program that was in this process before. Signals stay blocked: some may be waiting.
fn resume(number: &str, fds: &[RawFd]) -> u8 {
    secrets::protect();
    match UpgradeState::inherit(number, fds) {
        Ok(state) => ended(keeper::resume(state, WorkerCommand::this_program())),
        Err(error) => cannot_go_on(&error),
    }
}

/// Answers a keeper that asks whether this program could go on from a state, and start with these arguments. One of an older version gives no
/// nonce, and is content with an exit code.
fn check(number: &str, nonce: Option<&str>, fds: &[RawFd]) -> u8 {
    secrets::protect();
    let read = || -> Result<Vec<u8>, StateError> {
        Ok(descriptors::read_state(&descriptors::state_file(variables::CHECK_FD, number)?)?)
    };
    let bytes = match read() {
        Ok(bytes) => bytes,
        Err(error) => return cannot_go_on(&error),
    };
    let state = UpgradeState::from_bytes(&bytes);
    let Some(nonce) = nonce else {
        return state.map_or_else(|error| cannot_go_on(&error), |_| 0);
    };
    let outcome = state.map_err(|error| error.to_string()).and_then(|state| {
        let before = app::Before { worker: state.worker, listeners: &state.listeners };
        app::rehearse::rehearse(std::env::args_os(), &config::process_env(), fds, &before)
    });
    let code = u8::from(outcome.is_err());
    write_message(&mut std::io::stdout(), &check::answer(nonce, &bytes, outcome));
    code
}

/// Says why there is no going on; returns the exit code.
fn cannot_go_on(error: &StateError) -> u8 {
    match error {
        StateError::Foreign(foreign) => reserved(foreign),
        error => {
            print_error(&format_args!("cannot go on: {error}"));
            1
        }
    }
}

/// Says that a variable of ours is not to be set by others; returns the exit code.
fn reserved(foreign: &Foreign) -> u8 {
    print_error(foreign);
    2
}

/// How the keeper has ended. By a signal, this process ends here.
fn ended(result: std::io::Result<ProgramExit>) -> u8 {
    result.map_or_else(
        |error| {
            print_error(&format_args!("cannot start: {error}"));
            1
        },
        ProgramExit::code,
    )
}

/// Whoever started us may have blocked signals that we are to be ended by.
fn unblock_signals() {
    // An error does not occur with a set of our own.
    let _ = SigSet::empty().thread_set_mask();
}

/// Runs as the worker of the keeper behind the descriptor with this number.
fn worker(number: &str, fds: &[RawFd]) -> u8 {
    secrets::protect();
    if let Err(error) = keeper::signals::prepare_worker() {
        print_error(&format_args!("cannot handle signals: {error}"));
        return 1;
    }
    // For `ps` and `top`; without it the name would be that of a link in /proc.
    let _ = nix::sys::prctl::set_name(c"procstar-worker");
    let socket = match descriptors::keeper_socket(variables::KEEPER_FD, number, fds) {
        Ok(socket) => socket,
        Err(foreign) => return reserved(&foreign),
    };
    let mut internal = vec![socket.as_raw_fd()];
    if let Some(number) = variable(variables::FILES_FD) {
        match descriptors::files_socket(variables::FILES_FD, &number, fds) {
            Ok(socket) => {
                internal.push(socket.as_raw_fd());
                keeper::files::ask(socket);
            }
            Err(foreign) => return reserved(&foreign),
        }
    }
    let env = config::process_env();
    let given = app::Given::take(&env, fds);
    let is_users = |fd: &RawFd| !internal.contains(fd) && !given.is_held(*fd);
    descriptor::claim(fds.iter().copied().filter(is_users).collect());
    match parse::parse(std::env::args_os(), &env) {
        Ok(Invocation::Run(options)) => run_worker(*options, &env, socket, given),
        // The keeper has seen a run, so another command comes only from a changed configuration.
        Ok(command) => {
            begin_one_shot(&socket, &env);
            carry_out(command, &env).unwrap_or(1)
        }
        Err(answer) => {
            begin_one_shot(&socket, &env);
            // The configuration of a first worker's successor may have changed since.
            keeper_link::report_failure(&socket, answer.text().trim_end());
            refuse(&answer)
        }
    }
}

/// Prepares for a command that starts nothing, and ends by what would end any other command.
fn begin_one_shot(socket: &UnixStream, env: &config::Env) {
    secrets::unprotect();
    // An error is that the keeper is gone.
    let _ = report_mode(socket, Mode::OneShot);
    warn_of_mistyped(env);
}

/// Does what the arguments ask; returns the exit code. None for a run, of which nothing is done.
fn carry_out(invocation: Invocation, env: &config::Env) -> Option<u8> {
    Some(match invocation {
        Invocation::Run(_) => return None,
        Invocation::Upgrade { settings, pid } => {
            answer_or_error(upgrade::upgrade(&settings, env, pid).map(|text| (text, 0)), 1)
        }
        Invocation::Validate { input, json } => {
            let verdict = validate::validate(&input, json);
            answer_or_error(verdict.map(|found| (found.text, if found.valid { 0 } else { 2 })), 2)
        }
        Invocation::Schema(of) => answer(&show::schema(of), 0, 1),
        Invocation::Host { command, loaded } => {
            let found = host::perform(&command, *loaded, env);
            answer_or_error(found.map(|found| (found.text, found.code)), 1)
        }
        Invocation::ConfigShow { loaded, json } => answer(&show::render(&loaded, json), 0, 1),
        Invocation::Client(asked) => client::run(&asked, env),
    })
}

/// Prints a text, and returns the exit code that belongs to it; or an error, whose code is `failed`.
fn answer_or_error<E: std::fmt::Display>(result: Result<(String, u8), E>, failed: u8) -> u8 {
    match result {
        Ok((text, code)) => answer(&text, code, 1),
        Err(error) => {
            print_error(&error);
            failed
        }
    }
}

/// Warns of variables that were meant to be ours. Where there is a log, they are in it.
fn warn_of_mistyped(env: &config::Env) {
    for warning in config::mistyped(env) {
        print_error(&format_args!("warning: {warning}"));
    }
}

/// Says why there is nothing to run, or what was asked for instead; gives the exit code.
fn refuse(said: &UsageError) -> u8 {
    if said.is_answer() {
        return answer(said.text(), said.exit_code(), said.exit_code_if_unwritten());
    }
    write_message(&mut std::io::stderr(), said.text());
    said.exit_code()
}

/// Writes what was asked for to standard output; gives the exit code: `code`, or `unwritten` where it could not be written. A reader that
/// has closed its pipe has seen enough: then the code is that of a program that SIGPIPE has ended, and there is no message.
fn answer(text: &str, code: u8, unwritten: u8) -> u8 {
    match printing::print_text(text) {
        Ok(()) => code,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => printing::CLOSED_PIPE,
        Err(error) => {
            print_error(&format_args!("cannot write to standard output: {error}"));
            unwritten
        }
    }
}

fn run_worker(options: Run, env: &config::Env, socket: UnixStream, given: app::Given) -> u8 {
    if let Err(error) = logging::init(&options.settings.log) {
        print_error(&error);
    }
    for warning in &options.warnings {
        tracing::warn!("{warning}");
    }
    match app::run(&options, env, socket, given) {
        Ok(code) => code,
        Err(error) => {
            print_error(&error);
            error.exit_code_of(&options)
        }
    }
}

/// Prints a message with the program's name on standard error.
fn print_error(message: &dyn std::fmt::Display) {
    write_message(&mut std::io::stderr(), &format!("procstar: {message}\n"));
}

/// Writes a message for the user, who cannot be reached in another way if this fails.
fn write_message(to: &mut impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// So many numbers of descriptors are tried, where nothing lists those that are open.
const MANY_FDS: RawFd = 1024;

/// The fds from 3 up that this process was started with; children get them only where their specs say so.
fn claim_inherited_fds() -> Vec<RawFd> {
    let open: Vec<RawFd> = match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => {
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
        }
        // Without `/proc` each number is tried.
        Err(_) => (0..MANY_FDS).collect(),
    };
    // The directory itself is closed by now, and is no longer among them.
    open.into_iter().filter(|fd| *fd > 2 && descriptors::close_on_exec(*fd)).collect()
}

/// Raises the soft open-file limit to the hard one; gives both as they were, for children get them back.
fn raise_open_file_limit() -> Option<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    (soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok()).then_some((soft, hard))
}
