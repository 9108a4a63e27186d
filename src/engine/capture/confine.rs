//! The confinement of a [capture writer](super::capture_writer) before its first byte of input: it
//! gives up its user, every privilege, and all system calls except the few that storing bytes
//! needs.
//!
//! A capture writer decodes nothing, but compresses bytes that a process chooses. If that process
//! exploits a fault in a library, it gets less than it has already: its own user, but no opening of
//! files, no new processes and no sockets.

use std::io;

use crate::engine::creds::Creds;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: Option<u32> = None;

/// System call numbers from here on belong to another ABI of the same architecture (x32).
const OTHER_ABI: u32 = 0x4000_0000;

/// The calls for reading, storing, memory, a signal and exit.
const CALLS: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_ftruncate,
    libc::SYS_fstat,
    libc::SYS_ppoll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    libc::SYS_close,
    libc::SYS_fcntl,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_sched_yield,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];
/// Calls that map memory, which must not be executable.
const MEMORY: [libc::c_long; 2] = [libc::SYS_mmap, libc::SYS_mprotect];

/// Offsets in the kernel's `seccomp_data`: the number, the architecture, the low half of the third
/// argument.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const PROTECTION: u32 = 16 + 2 * 8;

/// Gives up all rights of this process beyond those `creds`, for good. On a kernel without seccomp,
/// system calls stay unrestricted.
///
/// # Errors
/// The OS error of changing the user or giving up a privilege.
pub(super) fn confine(creds: &Creds) -> io::Result<()> {
    creds.become_for_good()?;
    // Other processes of that user must not reach its open files.
    let _ = nix::sys::prctl::set_dumpable(false);
    nix::sys::prctl::set_no_new_privs()?;
    match restrict_calls() {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Refuses every other system call from now on, to this thread and its children.
///
/// # Errors
/// `ENOSYS` on an unknown architecture; the OS error, `EINVAL` on a kernel without seccomp.
fn restrict_calls() -> io::Result<()> {
    let architecture = ARCHITECTURE.ok_or(io::Error::from_raw_os_error(libc::ENOSYS))?;
    let mut program = program(architecture);
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program that the structure points to, which outlives the call.
    let ret = unsafe {
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter, 0, 0)
    };
    if ret == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether system calls can be restricted here.
///
/// # Errors
/// The reason if they cannot.
pub(crate) fn can_restrict_calls() -> io::Result<()> {
    ARCHITECTURE.ok_or(io::Error::from_raw_os_error(libc::ENOSYS))?;
    let action: u32 = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads one number.
    let ret = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action)
    };
    if ret == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The program in the kernel's classic BPF. Refused calls fail with `EPERM`, which a library's
/// fallbacks can handle.
fn program(architecture: u32) -> Vec<libc::sock_filter> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let step =
        |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let jump = |on: u32, k: u32, jt: u8, jf: u8| step(libc::BPF_JMP | on | libc::BPF_K, k, jt, jf);
    let equal = |k: u32, jt, jf| jump(libc::BPF_JEQ, k, jt, jf);
    let refuse = step(RETURN, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0, 0);
    let allow = step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0);
    let mut program = vec![
        step(LOAD, ARCH, 0, 0),
        equal(architecture, 1, 0),
        step(RETURN, libc::SECCOMP_RET_KILL_PROCESS, 0, 0),
        step(LOAD, NUMBER, 0, 0),
        jump(libc::BPF_JGE, OTHER_ABI, 0, 1),
        refuse,
    ];
    for call in CALLS {
        program.extend([equal(*call as u32, 0, 1), allow]);
    }
    for call in MEMORY {
        program.extend([
            equal(call as u32, 0, 4),
            step(LOAD, PROTECTION, 0, 0),
            jump(libc::BPF_JSET, libc::PROT_EXEC as u32, 0, 1),
            refuse,
            allow,
        ]);
    }
    program.push(refuse);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a closure in a confined child; returns the bits of its result.
    fn confined(act: impl Fn() -> u8) -> i32 {
        // SAFETY: the child makes system calls only.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let code = match confine(&Creds::default()) {
                Ok(()) => act(),
                Err(_) => 0x80,
            };
            // SAFETY: the call ends only the child.
            unsafe { libc::_exit(code.into()) }
        }
        let mut status = 0;
        // SAFETY: the kernel writes one number.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert!(libc::WIFEXITED(status), "{status}");
        libc::WEXITSTATUS(status)
    }

    #[test]
    fn a_confined_process_can_store_and_nothing_else() {
        let file = tempfile::tempfile().unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        let done = confined(|| {
            // SAFETY: system calls with valid pointers, or none.
            let outcomes = unsafe {
                [
                    libc::pwrite(fd, c"x".as_ptr().cast(), 1, 0) == 1,
                    libc::open(c"/etc/passwd".as_ptr(), libc::O_RDONLY) < 0,
                    libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0) < 0,
                    libc::fork() < 0,
                    libc::kill(libc::getppid(), 0) < 0,
                    libc::mmap(std::ptr::null_mut(), 4096, 7, 0x22, -1, 0) == libc::MAP_FAILED,
                    libc::mmap(std::ptr::null_mut(), 4096, 3, 0x22, -1, 0) != libc::MAP_FAILED,
                ]
            };
            outcomes.iter().enumerate().fold(0, |bits, (at, good)| bits | u8::from(*good) << at)
        });
        assert_eq!(done, 0x7f, "each that is not set went the other way");
        can_restrict_calls().unwrap();
    }

    #[test]
    fn the_program_is_one_that_every_kernel_takes() {
        let program = program(0);
        assert!(program.len() < libc::BPF_MAXINSNS as usize);
        for (at, step) in program.iter().enumerate() {
            let is_jump = u32::from(step.code) & 7 == libc::BPF_JMP;
            let furthest = at + 1 + usize::from(step.jt.max(step.jf));
            assert!(!is_jump || furthest < program.len(), "{at}");
        }
    }
}
