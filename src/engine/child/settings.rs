//! The child's attributes, by raw system calls.
//!
//! Raw, for the C library's functions for user and groups have every thread of the process change too; and the child would be counted as one of
//! our threads.

use super::super::faults::Call;
use super::super::plan::{Failed, Report, Setting, What};
use super::attempt;

/// Makes settings, one after another, until one fails, which is reported by its index from `first` on; gives whether none has.
pub(super) fn make(report: &Report, settings: &[Setting], first: usize) -> bool {
    for (index, setting) in settings.iter().enumerate() {
        if let Err(errno) = set(&setting.what) {
            report.fail(Failed::Setting(first + index), errno);
            return false;
        }
    }
    true
}

/// Makes one setting.
///
/// # Errors
/// Its errno.
fn set(what: &What) -> Result<(), i32> {
    match what {
        What::Limit(resource, limit) => {
            let none = std::ptr::null_mut::<libc::rlimit64>();
            // SAFETY: the kernel reads one limit of the child itself.
            attempt(Call::Limit, || unsafe {
                libc::syscall(libc::SYS_prlimit64, 0, *resource, &raw const *limit, none)
            })?;
        }
        What::OomScoreAdj(text) => return set_oom_score_adj(text),
        What::Nice(nice) => {
            // SAFETY: a plain system call.
            attempt(Call::Nice, || unsafe {
                libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, *nice)
            })?;
        }
        What::IoPriority(priority) => {
            const IOPRIO_WHO_PROCESS: libc::c_int = 1;
            // SAFETY: a plain system call.
            attempt(Call::IoPriority, || unsafe {
                libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, *priority)
            })?;
        }
        What::CpuAffinity(set) => {
            // SAFETY: the kernel reads as many bytes as the set has.
            attempt(Call::Affinity, || unsafe {
                libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(&**set), set.as_ptr())
            })?;
        }
        What::Groups(groups) => {
            // SAFETY: the kernel reads as many numbers as the list has.
            attempt(Call::Groups, || unsafe {
                libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr())
            })?;
        }
        What::Group(gid) => {
            // SAFETY: a plain system call.
            attempt(Call::Group, || unsafe {
                libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid)
            })?;
        }
        What::User(uid) => {
            // SAFETY: a plain system call.
            attempt(Call::User, || unsafe {
                libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid)
            })?;
        }
        What::DeathSignal(signum, parent) => return set_death_signal(*signum, *parent),
        What::Umask(mask) => {
            // SAFETY: a plain system call, which cannot fail.
            unsafe { libc::umask(*mask) };
        }
        What::Cwd(path) => {
            // SAFETY: the path is a live C string.
            attempt(Call::Chdir, || unsafe { libc::chdir(path.as_ptr()) }.into())?;
        }
    }
    Ok(())
}

fn set_oom_score_adj(text: &str) -> Result<(), i32> {
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    // SAFETY: the path is a C string.
    let fd = attempt(Call::OomOpen, || unsafe {
        libc::open(c"/proc/self/oom_score_adj".as_ptr(), flags).into()
    })? as libc::c_int;
    // SAFETY: the kernel reads as many bytes as the text has.
    let written = attempt(Call::OomWrite, || unsafe {
        libc::write(fd, text.as_ptr().cast(), text.len()) as libc::c_long
    });
    // SAFETY: the child's own descriptor, from the call above.
    unsafe { libc::close(fd) };
    written.map(drop)
}

/// The kernel tells only of a death that comes after this. Where it came before, somebody else is our parent.
fn set_death_signal(signum: i32, parent: libc::pid_t) -> Result<(), i32> {
    // SAFETY: a plain system call.
    attempt(Call::DeathSignal, || unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, signum as libc::c_ulong).into()
    })?;
    // SAFETY: a plain system call.
    if unsafe { libc::getppid() } == parent { Ok(()) } else { Err(libc::ESRCH) }
}
