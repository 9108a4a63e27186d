//! The child's steps into its sandbox, by raw system calls.

use std::ffi::CStr;
use std::sync::atomic::Ordering::Relaxed;

use super::attempt::attempt;
use super::own_file::write_own;
use crate::engine::failpoints::Call;
use crate::engine::plan::{CAPABILITY_VERSION, CapabilitySets, MountTree, SandboxStep};
use crate::spec::Attribute;

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// The seam of every step.
const CALL: Call = Call::Attribute(Attribute::Sandbox);

/// Makes a system call of a step.
///
/// # Errors
/// Its errno.
fn call(run: impl FnOnce() -> libc::c_long) -> Result<libc::c_long, i32> {
    attempt(CALL, run)
}

/// Takes one step.
///
/// # Errors
/// Its errno.
pub(super) fn take(step: &SandboxStep) -> Result<(), i32> {
    match step {
        SandboxStep::Namespaces(flags) => {
            // SAFETY: the call takes no pointer. The child shares memory with us, but neither
            // descriptors nor directories nor namespaces.
            call(|| unsafe { libc::unshare(*flags) }.into())?;
        }
        SandboxStep::UserMap(file, text) => return write_own(file, text, CALL, CALL),
        SandboxStep::ReceiveMounts => {
            let flags = libc::MS_REC | libc::MS_SLAVE;
            return mount(c"none", c"/", c"", flags, c"");
        }
        SandboxStep::Clone(tree) => return clone(tree),
        SandboxStep::ReadOnlyRoot => return make_read_only(libc::AT_FDCWD, c"/"),
        SandboxStep::Attach(tree) => return attach(tree),
        SandboxStep::Tmp { path, optional } => {
            let flags = libc::MS_NOSUID | libc::MS_NODEV;
            return match mount(c"tmpfs", path, c"tmpfs", flags, c"mode=1777") {
                Err(libc::ENOENT) if *optional => Ok(()),
                mounted => mounted,
            };
        }
        SandboxStep::Hide(path) => return hide(path),
        SandboxStep::Enter(path) => {
            // SAFETY: the path is a live C string.
            call(|| unsafe { libc::chdir(path.as_ptr()) }.into())?;
        }
        SandboxStep::Loopback => return enable_loopback(),
        SandboxStep::KeepCapabilities => {
            let (yes, none): (libc::c_ulong, libc::c_ulong) = (1, 0);
            // SAFETY: the call takes no pointer, and changes nothing but this child.
            call(|| unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, yes, none, none, none) }.into())?;
        }
        SandboxStep::Capabilities(sets) => return set_capabilities(*sets),
        SandboxStep::NoNewPrivileges => {
            let (yes, none): (libc::c_ulong, libc::c_ulong) = (1, 0);
            // SAFETY: the call takes no pointer, and changes nothing but this child.
            call(|| unsafe {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, none, none, none).into()
            })?;
        }
    }
    Ok(())
}

fn mount(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: libc::c_ulong,
    data: &CStr,
) -> Result<(), i32> {
    let (source, target, kind) = (source.as_ptr(), target.as_ptr(), kind.as_ptr());
    // SAFETY: all are live C strings, which every file system here takes for its data.
    call(|| unsafe { libc::mount(source, target, kind, flags, data.as_ptr().cast()).into() })?;
    Ok(())
}

/// Makes the mounts below a directory of a descriptor read-only.
fn make_read_only(directory: libc::c_int, path: &CStr) -> Result<(), i32> {
    let attr =
        MountAttr { set: libc::MOUNT_ATTR_RDONLY, clear: 0, propagation: 0, user_namespace: 0 };
    let flags = libc::AT_RECURSIVE | libc::AT_EMPTY_PATH;
    // SAFETY: the path is a live C string, and the kernel reads one struct of this size.
    call(|| unsafe {
        let size = size_of::<MountAttr>();
        libc::syscall(
            libc::SYS_mount_setattr,
            directory,
            path.as_ptr(),
            flags,
            &raw const attr,
            size,
        )
    })?;
    Ok(())
}

/// Clones a tree, and makes the clone read-only if it is to be.
fn clone(tree: &MountTree) -> Result<(), i32> {
    let flags = libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | libc::AT_RECURSIVE as libc::c_uint
        | libc::AT_SYMLINK_NOFOLLOW as libc::c_uint;
    // SAFETY: the path is a live C string.
    let opened = call(|| unsafe {
        libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, tree.path.as_ptr(), flags)
    });
    let number = match opened {
        Err(libc::ENOENT) if tree.optional => return Ok(()),
        opened => opened? as libc::c_int,
    };
    tree.clone.store(number, Relaxed);
    if tree.read_only { make_read_only(number, c"") } else { Ok(()) }
}

/// Attaches a clone at the path that it was cloned from.
fn attach(tree: &MountTree) -> Result<(), i32> {
    let number = tree.clone.load(Relaxed);
    if number < 0 {
        return Ok(());
    }
    // SAFETY: both paths are live C strings.
    call(|| unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            number,
            c"".as_ptr(),
            libc::AT_FDCWD,
            tree.path.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })?;
    // SAFETY: the child's own descriptor, which nothing else refers to.
    unsafe { libc::close(number) };
    Ok(())
}

/// Covers a path: a directory with an empty one, anything else with `/dev/null`.
fn hide(path: &CStr) -> Result<(), i32> {
    // SAFETY: an all-zero struct of numbers is a valid one.
    let mut meta: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the path is a live C string, and the kernel writes one struct.
    call(|| unsafe { libc::stat(path.as_ptr(), &raw mut meta) }.into())?;
    if meta.st_mode & libc::S_IFMT == libc::S_IFDIR {
        let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        mount(c"tmpfs", path, c"tmpfs", flags, c"mode=000,size=4k,nr_inodes=2")
    } else {
        mount(c"/dev/null", path, c"", libc::MS_BIND, c"")
    }
}

fn enable_loopback() -> Result<(), i32> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes no pointer.
    let socket = call(|| unsafe { libc::socket(libc::AF_INET, kind, 0) }.into())? as libc::c_int;
    // SAFETY: an all-zero request of numbers is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the kernel reads one request.
    let enabled =
        call(|| unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request) }.into());
    // SAFETY: the child's own descriptor, from the call above.
    unsafe { libc::close(socket) };
    enabled.map(drop)
}

/// Sets all capability sets. A capability can only become ambient while it is inheritable.
fn set_capabilities(sets: CapabilitySets) -> Result<(), i32> {
    let CapabilitySets { permitted, inheritable, ambient } = sets;
    let low = |set: u64| set as u32;
    let high = |set: u64| (set >> 32) as u32;
    let header = [CAPABILITY_VERSION, 0];
    let words = [
        low(permitted),
        low(permitted),
        low(inheritable),
        high(permitted),
        high(permitted),
        high(inheritable),
    ];
    // SAFETY: the kernel reads a header of two words, and for this version six words.
    call(|| unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), words.as_ptr()) })?;
    let raise = libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong;
    let none: libc::c_ulong = 0;
    for capability in (0..64 as libc::c_ulong).filter(|capability| ambient >> capability & 1 == 1) {
        // SAFETY: the call takes no pointer, and changes nothing but this child.
        call(|| unsafe {
            libc::prctl(libc::PR_CAP_AMBIENT, raise, capability, none, none).into()
        })?;
    }
    Ok(())
}
