//! The steps that put a process into its sandbox, in the order in which the child takes them.
//!
//! Namespaces and mounts need `CAP_SYS_ADMIN`. With it, the child makes them before it changes to
//! its user. Without it, the child makes a user namespace first, which only its own user and group
//! belong to, and in which it has all capabilities until its set-up ends; it then has changed to
//! its user before, because a user namespace has no other users to change to.
//!
//! Mounts: the child clones the trees at read-only and writable paths before it changes any mount.
//! So a writable tree keeps the options of the host's mounts in it. It attaches the clones from the
//! root downwards, so that the path that is nearest to a file decides, and hides paths last.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicI32;

use super::accounts::Switch;
use super::child_attribute::{AttributeValue, ChildAttribute};
use super::cwd::own_cwd;
use super::privileges::Privileges;
use super::sandbox_step::{CapabilitySets, MountTree, SandboxStep};
use super::strings::{c_string, errno_of};
use crate::engine::failure::{Stage, StartFailure};
use crate::spec::{Attribute, Attributes, Capability, NetworkAccess, Sandbox};

/// The bits of `CAP_SETPCAP` and `CAP_SYS_ADMIN`.
const SETPCAP: u64 = 1 << 8;
const SYS_ADMIN: u64 = 1 << 21;

/// The stage of all failures.
const STAGE: Stage = Stage::Attribute(Attribute::Sandbox);

/// The steps into the sandbox of one process, by their place among the other attributes.
#[derive(Default)]
pub(super) struct SandboxSteps {
    /// Before the change of user.
    pub(super) before: Vec<ChildAttribute>,
    /// After it.
    pub(super) after: Vec<ChildAttribute>,
    /// After all other attributes.
    pub(super) last: Vec<ChildAttribute>,
    /// Whether the steps set the capabilities of the process.
    pub(super) capabilities: bool,
}

/// The surroundings in which a sandbox is made.
pub(super) struct Surroundings<'a> {
    pub(super) attributes: &'a Attributes,
    pub(super) privileges: &'a Privileges,
    /// The change of user.
    pub(super) switch: &'a Switch,
}

impl Surroundings<'_> {
    /// The user of the process, if it is another than ours.
    fn other(&self) -> Option<libc::uid_t> {
        self.switch.other.as_ref().map(|other| other.uid)
    }

    /// The group of the process.
    fn group(&self) -> libc::gid_t {
        let group = self.switch.attributes.iter().find_map(|attribute| match attribute.what {
            AttributeValue::Group(gid) => Some(gid),
            _ => None,
        });
        group.unwrap_or_else(|| nix::unistd::getegid().as_raw())
    }
}

fn step(subject: impl Into<String>, step: SandboxStep) -> ChildAttribute {
    ChildAttribute { stage: STAGE, path: Some(subject.into()), what: AttributeValue::Sandbox(step) }
}

fn refused(subject: impl Into<String>, errno: i32, detail: impl Into<String>) -> StartFailure {
    let path = Some(subject.into());
    StartFailure { stage: STAGE, errno, path, detail: Some(detail.into()) }
}

/// Plans the steps into a sandbox.
///
/// # Errors
/// All parts that cannot be had, as far as that is known before the child runs.
pub(super) fn plan(surroundings: &Surroundings<'_>) -> Result<SandboxSteps, Vec<StartFailure>> {
    let Surroundings { attributes, privileges, .. } = surroundings;
    let sandbox = &attributes.sandbox;
    let mut steps = SandboxSteps::default();
    if sandbox.is_none() {
        return Ok(steps);
    }
    let mut failures = Vec::new();
    let isolated = sandbox.has_mounts() || sandbox.network != NetworkAccess::Host;
    let by_user_namespace = isolated && !privileges.has(SYS_ADMIN);
    let inside = namespaces(surroundings, by_user_namespace).map_err(|all| failures.extend(all));
    let place = if by_user_namespace { &mut steps.after } else { &mut steps.before };
    place.extend(inside.unwrap_or_default());
    let granted = capabilities(surroundings, by_user_namespace, &mut steps);
    failures.extend(granted.err());
    // Else hidden files could deceive set-user-ID programs.
    let is_root = privileges.is_root() && surroundings.other().is_none_or(|uid| uid == 0);
    let deceives = isolated && !by_user_namespace && !is_root;
    if sandbox.no_new_privs || deceives {
        steps.last.push(step("no_new_privs", SandboxStep::NoNewPrivileges));
    }
    if failures.is_empty() { Ok(steps) } else { Err(failures) }
}

/// The attributes of a sandbox alone, for a child of our own user.
///
/// # Errors
/// As [`plan`].
pub(in crate::engine) fn sandbox_attributes(
    sandbox: Sandbox,
) -> Result<Vec<ChildAttribute>, Vec<StartFailure>> {
    let attributes = Attributes { sandbox, cwd: Some("/".to_owned()), ..Attributes::default() };
    let (privileges, switch) = (Privileges::now(false), Switch::default());
    let surroundings =
        Surroundings { attributes: &attributes, privileges: &privileges, switch: &switch };
    let SandboxSteps { before, after, last, .. } = plan(&surroundings)?;
    Ok(before.into_iter().chain(after).chain(last).collect())
}

/// The steps into new namespaces, with their mounts and network.
///
/// # Errors
/// The paths that do not exist.
fn namespaces(
    surroundings: &Surroundings<'_>,
    by_user_namespace: bool,
) -> Result<Vec<ChildAttribute>, Vec<StartFailure>> {
    let attributes = surroundings.attributes;
    let sandbox = &attributes.sandbox;
    let mut steps = Vec::new();
    let (mounts, network) = (sandbox.has_mounts(), sandbox.network != NetworkAccess::Host);
    let mut flags = if by_user_namespace { libc::CLONE_NEWUSER } else { 0 };
    let mut subjects = Vec::new();
    if mounts {
        flags |= libc::CLONE_NEWNS;
        subjects.push(first_of_mounts(sandbox));
    }
    if network {
        flags |= libc::CLONE_NEWNET;
        subjects.push("network");
    }
    if subjects.is_empty() {
        return Ok(steps);
    }
    let subject = subjects.join(", ");
    steps.push(step(&*subject, SandboxStep::Namespaces(flags)));
    if by_user_namespace {
        let own = nix::unistd::geteuid().as_raw();
        let (uid, gid) = (surroundings.other().unwrap_or(own), surroundings.group());
        for (file, text) in [
            (c"/proc/self/setgroups", "deny".to_owned()),
            (c"/proc/self/uid_map", format!("{uid} {uid} 1")),
            (c"/proc/self/gid_map", format!("{gid} {gid} 1")),
        ] {
            steps.push(step(&*subject, SandboxStep::UserMap(file, text)));
        }
    }
    if mounts {
        steps.extend(mount_steps(attributes)?);
    }
    if sandbox.network == NetworkAccess::Loopback {
        steps.push(step("network", SandboxStep::Loopback));
    }
    Ok(steps)
}

/// The first key that needs mounts.
fn first_of_mounts(sandbox: &Sandbox) -> &'static str {
    if sandbox.private_tmp {
        "private_tmp"
    } else if sandbox.read_only_paths.is_empty() {
        "hidden_paths"
    } else {
        "read_only_paths"
    }
}

/// The steps that change mounts.
///
/// # Errors
/// The paths that do not exist.
fn mount_steps(attributes: &Attributes) -> Result<Vec<ChildAttribute>, Vec<StartFailure>> {
    let sandbox = &attributes.sandbox;
    let (trees, hidden) = (trees(sandbox), resolved("hidden_paths", &sandbox.hidden_paths));
    let (trees, hidden) = match (trees, hidden) {
        (Ok(trees), Ok(hidden)) => (trees, hidden),
        (trees, hidden) => {
            return Err([trees.err(), hidden.err()].into_iter().flatten().flatten().collect());
        }
    };
    let read_only_root = sandbox.read_only_paths.iter().any(|path| path == "/");
    let mut steps = vec![step(first_of_mounts(sandbox), SandboxStep::ReceiveMounts)];
    let of_tree = |tree: &(String, Arc<MountTree>), what: fn(Arc<MountTree>) -> SandboxStep| {
        step(tree.0.clone(), what(Arc::clone(&tree.1)))
    };
    steps.extend(trees.iter().map(|tree| of_tree(tree, SandboxStep::Clone)));
    if read_only_root {
        steps.push(step("read_only_paths: /", SandboxStep::ReadOnlyRoot));
    }
    steps.extend(trees.iter().map(|tree| of_tree(tree, SandboxStep::Attach)));
    for (i, path) in Sandbox::TMP.iter().enumerate().filter(|_| sandbox.private_tmp) {
        let tmp = SandboxStep::Tmp { path: c_string(path), optional: i > 0 };
        steps.push(step(format!("private_tmp: {path}"), tmp));
    }
    for Resolved { subject, real } in hidden {
        steps.push(step(subject, SandboxStep::Hide(c_path(&real))));
    }
    // An absolute working directory is entered later, as the process's user.
    if attributes.cwd.as_deref().is_none_or(|cwd| !cwd.starts_with('/')) {
        let cwd = own_cwd().ok_or_else(|| {
            let detail = "procstar's own does not exist any more; set cwd";
            vec![refused("working directory", libc::ENOENT, detail)]
        })?;
        let enter = SandboxStep::Enter(c_string(&cwd));
        steps.push(step(format!("working directory {cwd}"), enter));
    }
    Ok(steps)
}

/// The trees to clone, from the root downwards, with their subjects.
///
/// # Errors
/// The paths that do not exist.
fn trees(sandbox: &Sandbox) -> Result<Vec<(String, Arc<MountTree>)>, Vec<StartFailure>> {
    let Sandbox { read_only_paths, writable_paths, .. } = sandbox;
    let read_only = resolved("read_only_paths", read_only_paths);
    let writable = resolved("writable_paths", writable_paths);
    let (read_only, writable) = match (read_only, writable) {
        (Ok(read_only), Ok(writable)) => (read_only, writable),
        (read_only, writable) => {
            return Err([read_only.err(), writable.err()]
                .into_iter()
                .flatten()
                .flatten()
                .collect());
        }
    };
    let root = Path::new("/");
    let kernel = read_only.iter().any(|path| path.real == root);
    let kernel = Sandbox::KERNEL.iter().filter(|path| {
        let listed = |list: &[Resolved]| list.iter().any(|known| known.real == Path::new(path));
        kernel && !listed(&read_only) && !listed(&writable)
    });
    let tree = |path: &Path, read_only, optional| {
        let (path, clone) = (c_path(path), AtomicI32::new(-1));
        Arc::new(MountTree { path, read_only, optional, clone })
    };
    let mut trees: Vec<(usize, String, Arc<MountTree>)> = Vec::new();
    // Where two kinds meet at one place, the read-only one is attached last and decides.
    trees.extend(kernel.map(|path| {
        (1, format!("read_only_paths: /, for {path}"), tree(Path::new(path), false, true))
    }));
    for (list, is_read_only) in [(writable, false), (read_only, true)] {
        trees.extend(list.into_iter().filter(|path| path.real != root).map(|path| {
            let depth = path.real.components().count() - 1;
            (depth, path.subject, tree(&path.real, is_read_only, false))
        }));
    }
    trees.sort_by_key(|(depth, ..)| *depth);
    Ok(trees.into_iter().map(|(_, subject, tree)| (subject, tree)).collect())
}

/// A path of a list, without links.
struct Resolved {
    /// The list and the path.
    subject: String,
    real: PathBuf,
}

/// Resolves the links in paths: which path is above which is decided without them.
///
/// # Errors
/// The paths that do not exist.
fn resolved(key: &str, paths: &[String]) -> Result<Vec<Resolved>, Vec<StartFailure>> {
    let mut failures = Vec::new();
    let mut found = Vec::new();
    for path in paths {
        let subject = format!("{key}: {path}");
        match std::fs::canonicalize(path) {
            Ok(real) => found.push(Resolved { subject, real }),
            Err(error) => failures.push(refused(
                subject,
                errno_of(&error),
                "create it, or remove it from the list",
            )),
        }
    }
    if failures.is_empty() { Ok(found) } else { Err(failures) }
}

fn c_path(path: &Path) -> CString {
    use std::os::unix::ffi::OsStrExt;
    // A path that the kernel has resolved has no NUL.
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// Plans the capabilities of a process.
///
/// # Errors
/// Capabilities that cannot be granted, or not be taken away.
fn capabilities(
    surroundings: &Surroundings<'_>,
    by_user_namespace: bool,
    steps: &mut SandboxSteps,
) -> Result<(), StartFailure> {
    let Surroundings { attributes, privileges, .. } = surroundings;
    let other = surroundings.other();
    let sandbox = &attributes.sandbox;
    let none = CapabilitySets { permitted: 0, inheritable: 0, ambient: 0 };
    let Some(wanted) = &sandbox.capabilities else {
        if by_user_namespace {
            // Those of the user namespace, which were for its set-up alone.
            steps.after.push(step("capabilities", SandboxStep::Capabilities(none)));
        }
        return Ok(());
    };
    let set = wanted.iter().fold(0, |set, capability| set | capability.bit());
    check_known(wanted, privileges)?;
    check_held(wanted, privileges, by_user_namespace)?;
    let bounding = |set| ChildAttribute {
        stage: STAGE,
        path: Some("capabilities".to_owned()),
        what: AttributeValue::Bounding(set),
    };
    let is_root = privileges.is_root() && other.is_none_or(|uid| uid == 0);
    steps.capabilities = true;
    if by_user_namespace {
        steps.after.push(bounding(privileges.known()));
        steps.after.push(step("capabilities", SandboxStep::Capabilities(none)));
        return Ok(());
    }
    let dropped = privileges.bounding() & !set;
    if privileges.has(SETPCAP) {
        steps.before.push(bounding(dropped));
    } else if dropped != 0 && (is_root || !sandbox.no_new_privs) {
        let detail = "procstar has no CAP_SETPCAP, so the process could gain the others by exec; set no_new_privs to true, \
             or run procstar as root";
        return Err(refused("capabilities", libc::EPERM, detail));
    }
    let sets = if is_root {
        // Exec gives root the bounding set; until then, the set-up keeps root's rights.
        CapabilitySets { permitted: privileges.permitted(), inheritable: set, ambient: 0 }
    } else {
        if set != 0 && other.is_some() {
            steps.before.push(step("capabilities", SandboxStep::KeepCapabilities));
        }
        CapabilitySets { permitted: set, inheritable: set, ambient: set }
    };
    steps.after.push(step("capabilities", SandboxStep::Capabilities(sets)));
    Ok(())
}

fn check_known(wanted: &[Capability], privileges: &Privileges) -> Result<(), StartFailure> {
    match wanted.iter().find(|capability| capability.bit() & !privileges.known() != 0) {
        None => Ok(()),
        Some(unknown) => Err(refused(
            format!("capabilities: {unknown}"),
            libc::EINVAL,
            "this kernel does not have it; remove it from the list",
        )),
    }
}

fn check_held(
    wanted: &[Capability],
    privileges: &Privileges,
    by_user_namespace: bool,
) -> Result<(), StartFailure> {
    let has = |capability: &&Capability| !privileges.has(capability.bit()) || by_user_namespace;
    match wanted.iter().find(has) {
        None => Ok(()),
        Some(missing) if privileges.has(missing.bit()) => Err(refused(
            format!("capabilities: {missing}"),
            libc::EPERM,
            "the user namespace, which procstar needs for the other keys without CAP_SYS_ADMIN, takes it away; run procstar as root",
        )),
        Some(missing) => Err(refused(
            format!("capabilities: {missing}"),
            libc::EPERM,
            "procstar does not have it itself; run procstar as root, or remove it from the list",
        )),
    }
}
