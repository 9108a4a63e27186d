//! The `procstar` program: the keeper, which the user launches, or the worker, which a keeper
//! starts.

use std::ffi::CString;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::SigSet;
use procstar::actors::keeper_link::{self, report_mode};
use procstar::cli::invocation::{Invocation, Run, UsageError};
use procstar::cli::parse;
use procstar::cli::{client, descriptor, host, printing, show, upgrade, validate};
use procstar::clock::TimePoint;
use procstar::engine::{CAPTURE_WRITER, capture_writer};
use procstar::keeper::descriptor_store::StoredDescriptors;
use procstar::keeper::descriptors::{self, Foreign};
use procstar::keeper::format::{PassedState, StateError, SuccessionState, UpgradeState};
use procstar::keeper::meaning::Mode;
use procstar::keeper::variables;
use procstar::keeper::{
    self, KeeperSockets, Kept, LaunchEnvironment, ProgramExit, WorkerCommand, check, secrets,
};
use procstar::{app, config, logging, mem};

/// Opens standard output and standard error, if they are closed, on a descriptor that rejects
/// writes. Otherwise Rust's runtime would open `/dev/null`, which accepts every write. The program
/// and its children must see their writes fail, as on a closed descriptor.
#[used]
// SAFETY: the C library calls the functions of this section once, before `main` and before any
// other thread starts.
#[unsafe(link_section = ".init_array")]
static OPEN_CLOSED_OUTPUTS: extern "C" fn() = open_closed_outputs;

extern "C" fn open_closed_outputs() {
    for fd in [1, 2] {
        // SAFETY: the path is a C string, and the other calls take no pointer. This runs before
        // `main`, so no Rust value owns a descriptor. Only a closed 1 or 2 is replaced, and only
        // the descriptor opened here is closed.
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
    // This process is a capture writer, and neither keeper nor worker.
    if let Some(work) = std::env::var_os(CAPTURE_WRITER) {
        let code = capture_writer::run(&work);
        let code = code.unwrap_or_else(|| reserved(&Foreign { variable: CAPTURE_WRITER }));
        std::process::exit(i32::from(code));
    }
    let start = TimePoint::now();
    if let Err(foreign) = secrets::take() {
        std::process::exit(i32::from(reserved(&foreign)));
    }
    mem::use_single_arena();
    // Before anything else is opened: these descriptors are the user's.
    let fds = claim_inherited_fds();
    let code = if let Some(number) = variable(variables::CHECK_FD) {
        check(&number, variable(variables::NONCE).as_deref(), &fds)
    } else if let Some(number) = variable(variables::KEEPER_FD) {
        worker(&number, &fds)
    } else if let Some(number) = variable(variables::STATE_FD) {
        resume(&number, &fds)
    } else if let Some(number) = variable(variables::SUCCESSION_FD) {
        succeed(&number, &fds)
    } else if variable(variables::FILES_FD).is_some() {
        reserved(&Foreign { variable: variables::FILES_FD })
    } else {
        launched(fds, start)
    };
    // Blocked threads must not delay the exit.
    std::process::exit(i32::from(code));
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// Runs as the process that the user launched: as the keeper for a run, and alone for all other
/// commands, for help and for usage errors.
fn launched(fds: Vec<RawFd>, start: TimePoint) -> u8 {
    let env = config::process_env();
    let (stored, fds) = StoredDescriptors::take(&env, std::process::id(), fds);
    descriptor::claim(fds.clone());
    let args: Vec<_> = std::env::args_os().collect();
    let parsed = parse::parse_in_keeper(&args, &env);
    unblock_signals();
    match parsed {
        Ok(None) => keep((fds, stored), start, &env, None),
        Ok(Some(Invocation::Run(run))) => keep((fds, stored), start, &env, Some(*run)),
        Ok(Some(command)) => {
            warn_of_mistyped(&env);
            carry_out(command, &env).unwrap_or(1)
        }
        Err(answer) => {
            warn_of_mistyped(&env);
            refuse(&answer)
        }
    }
}

/// Runs the keeper, which starts the worker: a copy of this process, with the parsed `run`. `fds` are
/// the user's, `stored` those that an earlier start has left with the service manager.
fn keep(
    (fds, stored): (Vec<RawFd>, StoredDescriptors),
    start: TimePoint,
    env: &config::Env,
    run: Option<Run>,
) -> u8 {
    let nofile = raise_open_file_limit();
    let environment = LaunchEnvironment { start, fds: fds.clone(), nofile };
    match keeper::keep_and_fork(environment, WorkerCommand::this_program(), stored) {
        Ok(Kept::Worker(sockets)) => first_worker(sockets, &fds, env, run),
        Ok(Kept::Ended(exit)) => ended(Ok(exit)),
        Err(error) => ended(Err(error)),
    }
}

/// Continues from the state of the program that this process executed before. Signals stay blocked:
/// some may be pending.
fn resume(number: &str, fds: &[RawFd]) -> u8 {
    secrets::protect();
    match UpgradeState::inherit(number, fds) {
        Ok(state) => ended(keeper::resume(state, WorkerCommand::this_program())),
        Err(error) => cannot_resume(&error),
    }
}

/// Continues as the keeper in a process that was a worker before, after the death of its keeper.
/// Signals stay blocked: some may be pending.
fn succeed(number: &str, fds: &[RawFd]) -> u8 {
    secrets::protect();
    name_process();
    match SuccessionState::inherit(number, fds) {
        Ok(mut state) => {
            let holdings = state.take_holdings();
            ended(keeper::succeed(state, holdings, WorkerCommand::this_program()))
        }
        Err(StateError::Foreign(foreign)) => reserved(&foreign),
        Err(error) => {
            print_error(&format_args!(
                "cannot resume as the keeper: {error}; start the instance again"
            ));
            1
        }
    }
}

/// Gives this process the name of its program in `ps` and `top`, as if it was executed by its path.
fn name_process() {
    let path = std::env::current_exe().unwrap_or_default();
    let name = path.file_name().and_then(|name| CString::new(name.as_encoded_bytes()).ok());
    let _ = nix::sys::prctl::set_name(name.as_deref().unwrap_or(c"procstar"));
}

/// Answers a keeper that checks whether this program can resume from its state and accepts its
/// arguments. An older keeper passes no nonce, and needs only the exit code.
fn check(number: &str, nonce: Option<&str>, fds: &[RawFd]) -> u8 {
    secrets::protect();
    let read = || -> Result<Vec<u8>, StateError> {
        Ok(descriptors::read_state(&descriptors::state_file(variables::CHECK_FD, number)?)?)
    };
    let bytes = match read() {
        Ok(bytes) => bytes,
        Err(error) => return cannot_resume(&error),
    };
    let state = UpgradeState::from_bytes(&bytes);
    let Some(nonce) = nonce else {
        return state.map_or_else(|error| cannot_resume(&error), |_| 0);
    };
    let outcome = state.map_err(|error| error.to_string()).and_then(|state| {
        let before = app::Before { worker: state.worker, listeners: &state.listeners };
        app::rehearse::rehearse(std::env::args_os(), &config::process_env(), fds, &before)
    });
    let code = u8::from(outcome.is_err());
    write_message(&mut std::io::stdout(), &check::answer(nonce, &bytes, outcome));
    code
}

/// Reports why this program cannot resume; returns the exit code.
fn cannot_resume(error: &StateError) -> u8 {
    match error {
        StateError::Foreign(foreign) => reserved(foreign),
        error => {
            print_error(&format_args!(
                "cannot resume the instance: {error}; install a version that is not older than the running one"
            ));
            1
        }
    }
}

/// Reports a reserved variable that somebody else has set; returns the exit code.
fn reserved(foreign: &Foreign) -> u8 {
    print_error(foreign);
    2
}

/// The keeper's exit code. If a signal has ended the run, this process ends by the same signal
/// here.
fn ended(result: std::io::Result<ProgramExit>) -> u8 {
    result.map_or_else(
        |error| {
            print_error(&format_args!("cannot start: {error}"));
            1
        },
        ProgramExit::code,
    )
}

/// Unblocks all signals: the parent may have blocked signals that have to end this process.
fn unblock_signals() {
    // `pthread_sigmask` cannot fail with a valid set.
    let _ = SigSet::empty().thread_set_mask();
}

/// Runs as the first worker, a copy of its keeper, which has parsed the arguments if it could.
fn first_worker(sockets: KeeperSockets, fds: &[RawFd], env: &config::Env, run: Option<Run>) -> u8 {
    if let Err(code) = become_worker() {
        return code;
    }
    // SAFETY: this process has one thread. The user may have set it for the keeper.
    unsafe { std::env::remove_var(variables::AGAIN) };
    keeper::files::request_from(sockets.files);
    let parsed = match run {
        Some(run) => Ok(Invocation::Run(Box::new(run))),
        None => parse::parse(std::env::args_os(), env),
    };
    work(parsed, env, sockets.messages, app::Given::first(fds))
}

/// Runs as a later worker, or as the first one where the keeper could not copy itself; `number` is
/// the descriptor of the socket to the keeper.
fn worker(number: &str, fds: &[RawFd]) -> u8 {
    if let Err(code) = become_worker() {
        return code;
    }
    let socket = match descriptors::keeper_socket(variables::KEEPER_FD, number, fds) {
        Ok(socket) => socket,
        Err(foreign) => return reserved(&foreign),
    };
    let mut internal = vec![socket.as_raw_fd()];
    if let Some(number) = variable(variables::FILES_FD) {
        match descriptors::files_socket(variables::FILES_FD, &number, fds) {
            Ok(socket) => {
                internal.push(socket.as_raw_fd());
                keeper::files::request_from(socket);
            }
            Err(foreign) => return reserved(&foreign),
        }
    }
    let env = config::process_env();
    let given = app::Given::take(&env, fds);
    let is_users = |fd: &RawFd| !internal.contains(fd) && !given.is_held(*fd);
    descriptor::claim(fds.iter().copied().filter(is_users).collect());
    let parsed = parse::parse(std::env::args_os(), &env);
    work(parsed, &env, socket, given)
}

/// Protects this process's secrets, and prepares it for signals; returns the exit code if it
/// cannot.
fn become_worker() -> Result<(), u8> {
    secrets::protect();
    if let Err(error) = keeper::signals::prepare_worker() {
        print_error(&format_args!("cannot handle signals: {error}"));
        return Err(1);
    }
    // `ps` and `top` show this name; by default it would be the program's, or that of a link in
    // /proc.
    let _ = nix::sys::prctl::set_name(c"procstar-worker");
    Ok(())
}

/// The worker's work.
fn work(
    parsed: Result<Invocation, UsageError>,
    env: &config::Env,
    socket: UnixStream,
    given: app::Given,
) -> u8 {
    match parsed {
        Ok(Invocation::Run(options)) => run_worker(*options, env, socket, given),
        // The keeper has parsed a run, so only a changed configuration leads to another command.
        Ok(command) => {
            begin_one_shot(&socket, env);
            carry_out(command, env).unwrap_or(1)
        }
        Err(answer) => {
            begin_one_shot(&socket, env);
            // The configuration may have changed since the first worker started.
            keeper_link::report_failure(&socket, answer.text().trim_end());
            refuse(&answer)
        }
    }
}

/// Prepares for a command that starts no process: reports its mode, and restores the default
/// handling of signals.
fn begin_one_shot(socket: &UnixStream, env: &config::Env) {
    secrets::unprotect();
    // It fails only if the keeper is gone.
    let _ = report_mode(socket, Mode::OneShot);
    warn_of_mistyped(env);
}

/// Carries out the arguments; returns the exit code, or `None` for a run, which it leaves alone.
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

/// Prints a text and returns its exit code, or prints an error and returns `failed`.
fn answer_or_error<E: std::fmt::Display>(result: Result<(String, u8), E>, failed: u8) -> u8 {
    match result {
        Ok((text, code)) => answer(&text, code, 1),
        Err(error) => {
            print_error(&error);
            failed
        }
    }
}

/// Warns of misspelled `PROCSTAR_` variables. A run with a log reports them there.
fn warn_of_mistyped(env: &config::Env) {
    for warning in config::mistyped(env) {
        print_error(&format_args!("warning: {warning}"));
    }
}

/// Prints a usage error, or the help or version that was asked for; returns the exit code.
fn refuse(said: &UsageError) -> u8 {
    if said.is_answer() {
        return answer(said.text(), said.exit_code(), said.exit_code_if_unwritten());
    }
    write_message(&mut std::io::stderr(), said.text());
    said.exit_code()
}

/// Writes a text to standard output. Returns `code`, or `unwritten` if the write fails. If the
/// reader has closed its pipe, prints no message and returns the code of a program that SIGPIPE has
/// ended.
fn answer(text: &str, code: u8, unwritten: u8) -> u8 {
    match printing::print_text(text) {
        Ok(()) => code,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => printing::CLOSED_PIPE,
        Err(error) => {
            let remedy = printing::unwritten_remedy(&error);
            print_error(&format_args!("cannot write to standard output: {error}; {remedy}"));
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

/// Writes a message for the user. If this fails, no other way to the user is left.
fn write_message(to: &mut impl Write, text: &str) {
    let _ = to.write_all(text.as_bytes()).and_then(|()| to.flush());
}

/// Number of descriptors to try if the system cannot list the open ones.
const MANY_FDS: RawFd = 1024;

/// The descriptors from 3 up that this process was started with. A child inherits one only if its
/// spec says so.
fn claim_inherited_fds() -> Vec<RawFd> {
    let open: Vec<RawFd> = match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => {
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
        }
        // Without `/proc`, each number is tried.
        Err(_) => (0..MANY_FDS).collect(),
    };
    // The directory's own descriptor is closed by now, and drops out here.
    open.into_iter().filter(|fd| *fd > 2 && descriptors::close_on_exec(*fd)).collect()
}

/// Raises the soft limit of open files to the hard limit. Returns both original values, which
/// children get back.
fn raise_open_file_limit() -> Option<(u64, u64)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    (soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok()).then_some((soft, hard))
}
