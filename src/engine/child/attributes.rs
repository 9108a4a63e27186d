//! The child's attributes, set by raw system calls.
//!
//! The C library's functions for users and groups would also change every thread of the process,
//! and count the child as one of them.

use super::attempt::attempt;
use super::own_file::write_own;
use super::put_opened;
use crate::engine::failpoints::Call;
use crate::engine::plan::{
    AttributeValue, CAPABILITY_VERSION, ChildAttribute, ChildStatus, SetupFailure,
};
use crate::spec::Attribute;

/// Sets attributes one after another until one fails, which is reported by its index counted from
/// `first`; returns whether all succeeded.
pub(super) fn apply(status: &ChildStatus, attributes: &[ChildAttribute], first: usize) -> bool {
    match first_failure(attributes) {
        None => true,
        Some((index, errno)) => {
            status.fail(SetupFailure::Attribute(first + index), errno);
            false
        }
    }
}

/// Sets attributes one after another until one fails; returns its index and errno.
pub(in crate::engine) fn first_failure(attributes: &[ChildAttribute]) -> Option<(usize, i32)> {
    let mut failures = attributes.iter().map(|attribute| set(&attribute.what)).enumerate();
    failures.find_map(|(index, set)| set.err().map(|errno| (index, errno)))
}

/// Sets one attribute.
///
/// # Errors
/// Its errno.
fn set(what: &AttributeValue) -> Result<(), i32> {
    match what {
        AttributeValue::Limit(resource, limit) => return set_limit(*resource, limit),
        AttributeValue::OomScoreAdj(text) => return set_oom_score_adj(text),
        AttributeValue::Nice(nice) => {
            // SAFETY: the call takes no pointer, and changes nothing but this child.
            attempt(Call::Attribute(Attribute::Nice), || unsafe {
                libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, *nice)
            })?;
        }
        AttributeValue::IoPriority(priority) => {
            const IOPRIO_WHO_PROCESS: libc::c_int = 1;
            // SAFETY: the call takes no pointer, and changes nothing but this child.
            attempt(Call::Attribute(Attribute::IoPriority), || unsafe {
                libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, *priority)
            })?;
        }
        AttributeValue::CpuAffinity(set) => {
            // SAFETY: the kernel reads as many bytes as the set has.
            attempt(Call::Attribute(Attribute::CpuAffinity), || unsafe {
                libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&**set), set.as_ptr())
            })?;
        }
        AttributeValue::Groups(groups) => {
            // SAFETY: the kernel reads as many numbers as the list has.
            attempt(Call::Attribute(Attribute::Groups), || unsafe {
                libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr())
            })?;
        }
        AttributeValue::Group(gid) => {
            // SAFETY: the call takes no pointer, and changes nothing but this child.
            attempt(Call::Attribute(Attribute::Group), || unsafe {
                libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid)
            })?;
        }
        AttributeValue::User(uid) => {
            // SAFETY: the call takes no pointer, and changes nothing but this child.
            attempt(Call::Attribute(Attribute::User), || unsafe {
                libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid)
            })?;
        }
        AttributeValue::Keyring => return join_new_keyring(),
        AttributeValue::Bounding(set) => return drop_from_bounding(*set),
        AttributeValue::NoCapabilities { no_new_privileges } => {
            return drop_capabilities(*no_new_privileges);
        }
        AttributeValue::Null(target, flags) => return put_opened(c"/dev/null", *flags, 0, *target),
        AttributeValue::DeathSignal(signum, parent) => return set_death_signal(*signum, *parent),
        AttributeValue::Sandbox(step) => return super::sandbox::take(step),
        AttributeValue::Umask(mask) => {
            // SAFETY: the call takes no pointer, cannot fail, and changes nothing but this child.
            unsafe { libc::umask(*mask) };
        }
        AttributeValue::Cwd(path) => {
            // SAFETY: the path is a live C string.
            let enter = || unsafe { libc::chdir(path.as_ptr()) };
            attempt(Call::Attribute(Attribute::Cwd), || enter().into())?;
        }
    }
    Ok(())
}

fn set_limit(resource: u32, limit: &libc::rlimit64) -> Result<(), i32> {
    let none = std::ptr::null_mut::<libc::rlimit64>();
    // SAFETY: the kernel reads one limit, of the child itself.
    attempt(Call::Limit, || unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const *limit, none)
    })?;
    Ok(())
}

fn set_oom_score_adj(text: &str) -> Result<(), i32> {
    let open = Call::Attribute(Attribute::OomScoreAdj);
    write_own(c"/proc/self/oom_score_adj", text, open, Call::OomWrite)
}

/// Sets the death signal. The kernel reports only a later death; after an earlier one, the parent
/// is another process.
fn set_death_signal(signum: i32, parent: libc::pid_t) -> Result<(), i32> {
    // SAFETY: the call takes no pointer, and changes nothing but this child.
    attempt(Call::Attribute(Attribute::PdeathSignal), || unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, signum as libc::c_ulong).into()
    })?;
    // SAFETY: the call takes no pointer, and changes nothing but this child.
    if unsafe { libc::getppid() } == parent { Ok(()) } else { Err(libc::ESRCH) }
}

/// Leaves our session keyring. Without keyrings in the kernel there is none to leave; if a filter
/// refuses the call, the process cannot read any.
fn join_new_keyring() -> Result<(), i32> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null pointer is allowed: it makes a keyring without a name.
    let joined = attempt(Call::Attribute(Attribute::Keyring), || unsafe {
        libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
    });
    match joined {
        Ok(_) | Err(libc::ENOSYS | libc::EPERM) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn drop_from_bounding(set: u64) -> Result<(), i32> {
    // SAFETY: the call takes no pointer, and changes nothing but this child.
    let dropped =
        |capability: libc::c_ulong| unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability) } == 0;
    attempt(Call::Bounding, || {
        let mut dropping = (0..64 as libc::c_ulong).filter(|capability| set >> capability & 1 == 1);
        if dropping.all(dropped) { 0 } else { -1 }
    })?;
    Ok(())
}

/// Empties every set, including the ambient one: it is a subset of the permitted set.
fn drop_capabilities(no_new_privileges: bool) -> Result<(), i32> {
    let header = [CAPABILITY_VERSION, 0];
    let none = [0u32; 6];
    // SAFETY: the kernel reads a header of two words, and for this version six words.
    attempt(Call::Attribute(Attribute::Capabilities), || unsafe {
        libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr())
    })?;
    if no_new_privileges {
        let (yes, none): (libc::c_ulong, libc::c_ulong) = (1, 0);
        // SAFETY: the call takes no pointer, and changes nothing but this child.
        attempt(Call::Attribute(Attribute::Capabilities), || unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, none, none, none).into()
        })?;
    }
    Ok(())
}
