//! From a validated spec to a plan that the child can carry out without allocating.
//!
//! The thread that clones the child, or requests the clone, makes the plan: looking up users,
//! reading files and writing data may take a while.

mod accounts;
mod arguments;
mod attributes;
mod child_attribute;
mod child_status;
mod cwd;
mod data;
mod environment;
mod executable;
mod fd_action;
mod file_size;
mod files;
mod inherited;
mod privileges;
mod sandbox;
mod sandbox_step;
mod strings;

use std::collections::BTreeSet;
use std::ffi::{CString, c_char};
use std::os::fd::{OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::spec::{FdName, OpenFlags, SignalSets, ValidatedFd, ValidatedProc};

use crate::engine::creds::Creds;
use crate::engine::event::Resolved;
use crate::engine::failure::{Stage, StartFailure};
use crate::engine::restore::{Restore, with_dirs};
use crate::engine::restriction::Restriction;
pub(super) use accounts::Accounts;
pub(super) use child_attribute::{AttributeValue, ChildAttribute};
pub(super) use child_status::{ChildStatus, SetupFailure};
pub(super) use executable::Executable;
pub(super) use fd_action::FdAction;
pub use inherited::Inherited;
pub(super) use privileges::{Privileges, VERSION as CAPABILITY_VERSION};
pub(super) use sandbox::sandbox_attributes;
pub(super) use sandbox_step::{CapabilitySets, MountTree, SandboxStep};
use strings::{c_string, errno_of, pointers};

/// The settings that all processes of an engine share.
pub(super) struct LaunchContext {
    /// The inheritable environment.
    pub(super) inherited: Arc<Inherited>,
    /// The restriction of specs; `None` without one.
    pub(super) restriction: Option<Arc<Restriction>>,
    /// The directory for large data of fds.
    pub(super) files: PathBuf,
    /// Recreates that directory.
    pub(super) restore: Option<Restore>,
    /// The limit on the size of their files, in bytes.
    pub(super) max_file_size: Option<u64>,
    /// The cache of users and groups.
    pub(super) accounts: Accounts,
    /// The privileges of this program that processes must not have.
    pub(super) privileges: Privileges,
}

/// A process to be planned.
pub(super) struct LaunchRequest {
    pub(super) proc: ValidatedProc,
    /// The parent's part of each fd, in order.
    pub(super) made: Vec<ParentFd>,
    /// A status with as many actions as the process has fds.
    pub(super) status: Arc<ChildStatus>,
}

impl LaunchRequest {
    /// Whether the parent must be the main thread, which lasts as long as this program: the process
    /// gets a signal when its parent ends.
    pub(super) fn is_for_main_thread(&self) -> bool {
        self.proc.attributes.pdeath_signal.is_some()
    }
}

/// Everything that a child needs, made before the clone: the child allocates nothing, and reads
/// only this.
pub(super) struct LaunchPlan {
    /// The executable as in the spec.
    pub(super) exe: String,
    /// Whether the spec asks for a search of the directories of PATH.
    pub(super) lookup_path: bool,
    pub(super) executable: Executable,
    /// Null-terminated; points into `strings`.
    pub(super) argv: Vec<*const c_char>,
    /// Null-terminated; points into `strings` and `inherited`.
    pub(super) envp: Vec<*const c_char>,
    /// The attributes that are set before the actions, in order.
    pub(super) attributes: Vec<ChildAttribute>,
    pub(super) actions: Vec<FdAction>,
    /// The attributes that are set after the actions.
    pub(super) late_attributes: Vec<ChildAttribute>,
    pub(super) signals: SignalSets,
    /// Whether the process stays in our session and process group.
    pub(super) shares_terminal: bool,
    /// Our copies of the child's descriptors: writing ends of captures, ends of pipes. Closed with
    /// the plan.
    pub(super) sources: Vec<OwnedFd>,
    /// The number to which the child has moved each source; the child's scratch space.
    pub(super) moved: Box<[AtomicI32]>,
    /// The numbers that actions set up or duplicate, sorted: no source may be moved there.
    pub(super) reserved: Vec<RawFd>,
    /// The keeper's fds from 3 up that stay open until the actions have run, sorted.
    pub(super) kept: Vec<RawFd>,
    /// The fds that are passed on in addition to those of the actions.
    pub(super) passed: Vec<RawFd>,
    pub(super) status: Arc<ChildStatus>,
    /// `cgroup.procs` of the group that the child is to enter, if it is not cloned into it.
    pub(super) group_procs: Option<OwnedFd>,
    /// The files that could not be made for fds.
    pub(super) not_made: Vec<NotMade>,
    /// Why files are refused, by the index of their fds.
    pub(super) refused: Vec<(usize, String)>,
    /// Owns the strings that the pointers above point to.
    _strings: Vec<CString>,
    inherited: Arc<Inherited>,
}

/// A file that could not be made for an fd.
pub(super) struct NotMade {
    /// The fd's index.
    pub(super) index: usize,
    /// The file's path, if the spec names it.
    pub(super) path: Option<String>,
    /// Details that the OS error lacks.
    pub(super) detail: Option<String>,
}

// SAFETY: the raw pointers point into heap buffers of CStrings that the plan itself owns or shares
// and that never change; moving the plan to another thread moves none of them.
unsafe impl Send for LaunchPlan {}

/// The parent's part of one fd of a spec.
pub(super) enum ParentFd {
    /// The parent has no part.
    Nothing,
    /// The child's end.
    Source(OwnedFd),
    /// The part is made just before the child; see [`LaunchPlan::provide`].
    Later,
    /// The part could not be made: errno.
    Failed(i32),
}

/// The resources of the host that a process needs, found before the rest is planned.
struct Resources {
    executable: Executable,
    env: environment::Environment,
    switch: accounts::Switch,
    sandbox: sandbox::SandboxSteps,
    /// The limit on file sizes, if this program sets one.
    file_size: Option<ChildAttribute>,
    /// Our descriptors for the child: that of the executable, if it was opened.
    sources: Vec<OwnedFd>,
}

impl Resources {
    /// Finds the resources.
    ///
    /// # Errors
    /// All that is missing or not allowed, and the fds that the parent could not make.
    fn find(
        proc: &ValidatedProc,
        made: &[ParentFd],
        context: &LaunchContext,
    ) -> Result<Resources, Vec<StartFailure>> {
        let restriction = context.restriction.as_deref();
        let mut sources = Vec::new();
        let mut failures = Vec::new();
        let switch = context.accounts.switch(&proc.attributes);
        let other = switch.as_ref().ok().and_then(|switch| switch.other.as_ref());
        let env = environment::make(&proc.env, &context.inherited, other, restriction)
            .map_err(|more| failures.extend(more));
        let path = env.as_ref().ok().and_then(|env| env.path.as_ref());
        // Without an environment there is no PATH to look the name up in.
        let executable = if proc.lookup_path && env.is_err() {
            Executable::Missing(libc::ENOENT)
        } else {
            // A forbidden executable is the only error to report, whatever else is wrong.
            let allowlist = restriction.map(Restriction::executables);
            executable::find(proc, path, allowlist, &mut sources).map_err(|e| vec![e])?
        };
        let file_size = file_size::attribute(&proc.attributes, context.max_file_size)
            .map_err(|failure| failures.push(failure));
        let fit = env.as_ref().map_or(Ok(()), |env| arguments::check(proc, env));
        failures.extend(fit.err());
        let switch = switch.map_err(|more| failures.extend(more));
        let sandbox = switch.as_ref().ok().map_or(Err(()), |switch| {
            let (attributes, privileges) = (&proc.attributes, &context.privileges);
            let surroundings = sandbox::Surroundings { attributes, privileges, switch };
            sandbox::plan(&surroundings).map_err(|more| failures.extend(more))
        });
        match (env, switch, file_size, sandbox) {
            (Ok(env), Ok(switch), Ok(file_size), Ok(sandbox)) if failures.is_empty() => {
                Ok(Resources { executable, env, switch, sandbox, file_size, sources })
            }
            _ => {
                failures.extend(not_made(proc, made));
                Err(failures)
            }
        }
    }
}

/// The working directory of a process whose spec asks for `cwd`, if ours is known.
fn working_directory(cwd: Option<&str>) -> Option<String> {
    match cwd {
        None => cwd::own_cwd(),
        Some(cwd) if cwd.starts_with('/') => Some(cwd.to_owned()),
        Some(cwd) => Some(cwd::below(cwd::own_cwd().as_deref(), cwd)),
    }
}

/// Plans the set-up of each fd, with the parent's part; writes given data.
fn fd_actions(
    fds: impl ExactSizeIterator<Item = ((FdName, ValidatedFd), ParentFd)>,
    status: &ChildStatus,
    cwd: Option<&str>,
    context: &LaunchContext,
    sources: &mut Vec<OwnedFd>,
) -> Vec<FdAction> {
    let restriction = context.restriction.as_deref();
    let mut actions = Vec::with_capacity(fds.len());
    for (((name, fd), made), errno) in fds.zip(status.action_errnos()) {
        let made = match (&fd, made) {
            (ValidatedFd::Data(bytes), ParentFd::Nothing) => {
                with_dirs(context.restore.as_ref(), || data::open(bytes, &context.files))
                    .map_or_else(|e| ParentFd::Failed(errno_of(&e)), ParentFd::Source)
            }
            (_, made) => made,
        };
        let action = action(name.number(), &fd, made, sources, errno);
        actions.push(files::confine(action, cwd, restriction, errno));
    }
    actions
}

impl LaunchPlan {
    /// The user and groups that the attributes of the process set.
    pub(super) fn creds(&self) -> Creds {
        let mut creds = Creds::default();
        for attribute in &self.attributes {
            match &attribute.what {
                AttributeValue::User(uid) => creds.user = Some(*uid),
                AttributeValue::Group(gid) => creds.group = Some(*gid),
                AttributeValue::Groups(gids) => creds.groups = Some(gids.iter().copied().collect()),
                _ => {}
            }
        }
        creds
    }

    /// Plans the start of a process; may wait for files and directory services.
    ///
    /// # Errors
    /// Why the start is not tried: it is restricted, a user is unknown, a file cannot be read. Fds
    /// that could not be made are in the status.
    pub(super) fn new(
        request: LaunchRequest,
        context: &LaunchContext,
    ) -> Result<LaunchPlan, Vec<StartFailure>> {
        let LaunchRequest { proc, made, status } = request;
        let Resources { executable, env, switch, sandbox, file_size, mut sources } =
            Resources::find(&proc, &made, context)?;
        let LaunchContext { inherited, privileges, .. } = context;
        let by_other = switch.other.is_some();
        let named: Vec<RawFd> = proc.fds.iter().map(|(fd, _)| fd.number()).collect();
        let planned = attributes::plan(
            &proc.attributes,
            (switch, sandbox),
            privileges,
            inherited.nofile,
            &named,
        );
        let cwd = working_directory(proc.attributes.cwd.as_deref());
        let _ = status.early().set(Resolved {
            exe: Some(cwd::below(cwd.as_deref(), &proc.exe)),
            cwd: cwd.clone(),
            env: env.shown,
            dropped: env.dropped,
        });
        let signals = signals(&proc, inherited);
        let refused = files::refused(&proc, cwd.as_deref(), context.restriction.as_deref());
        let fds = proc.fds.into_iter().zip(made);
        let actions = fd_actions(fds, &status, cwd.as_deref(), context, &mut sources);
        let mut strings: Vec<CString> = proc.argv.iter().map(|arg| c_string(arg)).collect();
        let argv = pointers(strings.iter());
        strings.extend(env.own);
        let passed: Vec<RawFd> = (proc.passed.iter().copied())
            // A process of another user gets no file of ours that its spec does not name.
            .filter(|_| !by_other)
            .filter(|fd| inherited.fds.binary_search(fd).is_ok())
            .filter(|fd| actions.iter().all(|action| action.target() != *fd))
            .collect();
        let (reserved, kept) = numbers(&actions, &passed, inherited);
        Ok(LaunchPlan {
            exe: proc.exe,
            lookup_path: proc.lookup_path,
            executable,
            argv,
            envp: env.envp,
            attributes: file_size.into_iter().chain(planned.early).collect(),
            moved: sources.iter().map(|_| AtomicI32::new(-1)).collect(),
            actions,
            late_attributes: planned.late,
            signals,
            shares_terminal: proc.shares_terminal,
            sources,
            reserved,
            kept,
            passed,
            status,
            group_procs: None,
            not_made: Vec::new(),
            refused,
            _strings: strings,
            inherited: Arc::clone(inherited),
        })
    }

    /// The resolved properties of the spec, once the child has exec'd or failed.
    pub(super) fn resolved(&self) -> Resolved {
        let early = self.status.early().get().cloned().unwrap_or_default();
        let cwd = self.status.cwd().or(early.cwd);
        let tried = usize::try_from(self.status.candidate().load(Ordering::Acquire)).ok();
        let exe = match &self.executable {
            Executable::Paths(paths) if self.status.exec_errno().load(Ordering::Acquire) == 0 => {
                tried.and_then(|tried| paths.get(tried)).map(|path| path.to_string_lossy())
            }
            Executable::Opened { found, .. } => Some(found.to_string_lossy()),
            _ => None,
        };
        let exe = exe.map(|exe| cwd::below(cwd.as_deref(), &exe)).or(early.exe);
        Resolved { exe, cwd, env: early.env, dropped: early.dropped }
    }

    /// Provides the source of the fd with this index, which was to be made later.
    pub(super) fn provide(&mut self, index: usize, source: OwnedFd) {
        if let Some(action) = self.actions.get_mut(index) {
            *action = FdAction::Put { target: action.target(), source: self.sources.len() };
            self.sources.push(source);
            self.moved = self.sources.iter().map(|_| AtomicI32::new(-1)).collect();
        }
    }

    /// Records that the source of the fd with this index could not be made.
    pub(super) fn fail(
        &mut self,
        index: usize,
        errno: i32,
        path: Option<&str>,
        detail: Option<String>,
    ) {
        if let Some(place) = self.status.action_errnos().nth(index) {
            place.store(errno, Ordering::Relaxed);
        }
        self.not_made.push(NotMade { index, path: path.map(str::to_owned), detail });
    }

    /// Whether the keeper was started with fd number `fd`.
    pub(super) fn is_inheritable(&self, fd: RawFd) -> bool {
        fd <= 2 || self.inherited.fds.binary_search(&fd).is_ok()
    }
}

/// The fds whose part the parent could not make.
fn not_made(proc: &ValidatedProc, made: &[ParentFd]) -> impl Iterator<Item = StartFailure> {
    proc.fds.iter().zip(made).filter_map(|((fd, _), made)| match made {
        ParentFd::Failed(errno) => Some(StartFailure::new(Stage::Fd(fd.number()), *errno, None)),
        _ => None,
    })
}

/// The signals that a process ignores and blocks. A process of our own job also ignores the signals
/// that were ignored at the job's start: INT and QUIT in the background of a script, HUP of
/// `nohup`.
fn signals(proc: &ValidatedProc, inherited: &Inherited) -> SignalSets {
    let own = proc.attributes.signals;
    let inherited = if proc.shares_terminal { inherited.ignored } else { 0 };
    SignalSets { ignore: own.ignore | inherited, ..own }
}

fn action(
    target: RawFd,
    fd: &ValidatedFd,
    made: ParentFd,
    sources: &mut Vec<OwnedFd>,
    errno: &AtomicI32,
) -> FdAction {
    match (fd, made) {
        (_, ParentFd::Failed(failed)) => {
            errno.store(failed, Ordering::Relaxed);
            FdAction::Failed { target }
        }
        (_, ParentFd::Source(source)) => {
            sources.push(source);
            FdAction::Put { target, source: sources.len() - 1 }
        }
        (_, ParentFd::Later) => FdAction::Failed { target },
        (ValidatedFd::Inherit, ParentFd::Nothing) => FdAction::Inherit { target },
        (ValidatedFd::Close, ParentFd::Nothing) => FdAction::Close { target },
        (ValidatedFd::Dup(from), ParentFd::Nothing) => FdAction::Dup { target, from: *from },
        (ValidatedFd::Open { path, flags, mode }, ParentFd::Nothing) => FdAction::Open {
            target,
            directory: None,
            path: c_string(path),
            flags: open_flags(*flags),
            mode: *mode as libc::mode_t,
        },
        // The parent has made a source for each of these, or has recorded an error.
        (
            ValidatedFd::Capture(_) | ValidatedFd::Pipe(_) | ValidatedFd::Data(_),
            ParentFd::Nothing,
        ) => {
            errno.store(libc::EBADF, Ordering::Relaxed);
            FdAction::Failed { target }
        }
    }
}

/// The flags of open(2); a terminal that is opened does not become the child's own.
fn open_flags(flags: OpenFlags) -> libc::c_int {
    use libc::{O_APPEND, O_CREAT, O_EXCL, O_NOCTTY, O_RDONLY, O_RDWR, O_TRUNC, O_WRONLY};
    O_NOCTTY
        | match flags {
            OpenFlags::Read => O_RDONLY,
            OpenFlags::Write => O_WRONLY | O_CREAT | O_TRUNC,
            OpenFlags::Create => O_WRONLY | O_CREAT | O_EXCL,
            OpenFlags::Replace => O_WRONLY | O_TRUNC,
            OpenFlags::Append => O_WRONLY | O_APPEND,
            OpenFlags::CreateAppend => O_WRONLY | O_APPEND | O_CREAT,
            OpenFlags::Default | OpenFlags::ReadWrite => O_RDWR | O_CREAT | O_TRUNC,
        }
}

/// The numbers that sources must not have, and the keeper's fds that must stay open for the
/// actions.
fn numbers(
    actions: &[FdAction],
    passed: &[RawFd],
    inherited: &Inherited,
) -> (Vec<RawFd>, Vec<RawFd>) {
    let mut reserved: BTreeSet<RawFd> = passed.iter().copied().collect();
    let mut kept = reserved.clone();
    for action in actions {
        reserved.insert(action.target());
        let needed = match action {
            FdAction::Inherit { target } => *target,
            FdAction::Dup { from, .. } => {
                reserved.insert(*from);
                *from
            }
            _ => continue,
        };
        if inherited.fds.binary_search(&needed).is_ok() {
            kept.insert(needed);
        }
    }
    (reserved.into_iter().collect(), kept.into_iter().collect())
}
