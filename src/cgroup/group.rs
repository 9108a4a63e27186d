//! One control group of version 2.
//!
//! All files are opened relative to the group's directory, so a group that was removed and made
//! again by somebody else is never mistaken for ours.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Attempts to end a group without `cgroup.kill` (kernels before 5.14): members fork meanwhile.
const KILL_ATTEMPTS: usize = 100;

/// The deepest groups below a process's own of which members are listed.
const MAX_DEPTH: usize = 32;

const DIRECTORY: OFlag = OFlag::O_DIRECTORY.union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY);

/// A control group, by its open directory.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    dir: OwnedFd,
}

impl Group {
    /// Opens an existing group.
    ///
    /// # Errors
    /// The OS error of opening its directory.
    pub fn open(path: &Path) -> io::Result<Group> {
        Ok(Group { path: path.to_path_buf(), dir: open(path, DIRECTORY, Mode::empty())? })
    }

    /// Creates a group below this one.
    ///
    /// # Errors
    /// The OS error of creating or opening its directory; a group that exists is an error.
    pub fn create(&self, name: &str) -> io::Result<Group> {
        mkdirat(&self.dir, name, Mode::from_bits_truncate(0o755))?;
        self.child(name)
    }

    /// Opens a group below this one.
    ///
    /// # Errors
    /// The OS error of opening its directory.
    pub fn child(&self, name: &str) -> io::Result<Group> {
        let flags = DIRECTORY | OFlag::O_NOFOLLOW;
        let dir = openat(&self.dir, name, flags, Mode::empty())?;
        Ok(Group { path: self.path.join(name), dir })
    }

    /// Removes the empty group `name` below this one.
    ///
    /// # Errors
    /// EBUSY while it has members or groups of its own.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.dir, name, UnlinkatFlags::RemoveDir)?)
    }

    /// Removes the group `name` below this one, with the groups that its members have made in it.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub fn remove_all(&self, name: &str) -> io::Result<()> {
        match self.remove(name) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                let group = self.child(name)?;
                if group.is_populated()? {
                    return Err(error);
                }
                group.names()?.iter().try_for_each(|name| group.remove_all(name))?;
                self.remove(name)
            }
            done => done,
        }
    }

    /// The names of the groups directly below this one.
    ///
    /// # Errors
    /// The OS error of reading its directory.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(&self.path)?.filter_map(Result::ok);
        let groups = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        Ok(groups.filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// Locks the group until this value is dropped; returns whether nobody else has locked it.
    pub fn lock(&self) -> bool {
        // SAFETY: the call takes no pointer, and the descriptor is open.
        unsafe { libc::flock(self.dir.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
    }

    /// Its path when it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its directory, into which `clone3` can create a process.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Reads one of its files.
    ///
    /// # Errors
    /// The OS error: ENOENT if the kernel or the controllers of the group have no such file, or if
    /// the group was removed.
    pub fn read(&self, file: &str) -> io::Result<String> {
        let mut text = String::new();
        self.file(file, OFlag::O_RDONLY)?.read_to_string(&mut text)?;
        Ok(text)
    }

    /// Writes one of its files.
    ///
    /// # Errors
    /// As [`read`](Self::read), and EINVAL for a value that the kernel refuses.
    pub fn write(&self, file: &str, value: &str) -> io::Result<()> {
        self.file(file, OFlag::O_WRONLY)?.write_all(value.as_bytes())
    }

    fn file(&self, name: &str, access: OFlag) -> io::Result<File> {
        let flags = access | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        Ok(File::from(openat(&self.dir, name, flags, Mode::empty())?))
    }

    /// The controllers that groups below this one may have.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn controllers(&self) -> io::Result<Vec<String>> {
        Ok(self.read("cgroup.controllers")?.split_whitespace().map(str::to_owned).collect())
    }

    /// Enables a controller for the groups below this one.
    ///
    /// # Errors
    /// As [`write`](Self::write), and EBUSY while this group has members of its own.
    pub fn enable(&self, controller: &str) -> io::Result<()> {
        self.write("cgroup.subtree_control", &format!("+{controller}"))
    }

    /// Moves a process into the group; pid 0 is the writing process. It takes a lock of the kernel
    /// against every fork and exit: creating a process in the group is cheaper.
    ///
    /// # Errors
    /// As [`write`](Self::write), and EACCES if the common ancestor is not ours to write.
    pub fn enter(&self, pid: i32) -> io::Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// The file that a process enters the group by, when it writes `0` to it.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn entrance(&self) -> io::Result<OwnedFd> {
        Ok(self.file("cgroup.procs", OFlag::O_WRONLY)?.into())
    }

    /// Its members, those of the groups below left out. A zombie is not a member.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn members(&self) -> io::Result<Vec<i32>> {
        Ok(self.read("cgroup.procs")?.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Its members and those of the groups below.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn all_members(&self) -> io::Result<Vec<i32>> {
        let mut members = Vec::new();
        self.add_members(&mut members, MAX_DEPTH)?;
        Ok(members)
    }

    fn add_members(&self, members: &mut Vec<i32>, depth: usize) -> io::Result<()> {
        members.extend(self.members()?);
        for name in if depth > 0 { self.names()? } else { Vec::new() } {
            match self.child(&name) {
                Ok(group) => group.add_members(members, depth - 1)?,
                // Removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether a process lives in it, or in a group below it.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn is_populated(&self) -> io::Result<bool> {
        Ok(self.read("cgroup.events")?.lines().any(|line| line == "populated 1"))
    }

    /// The file that reports POLLPRI when [`is_populated`](Self::is_populated) changes.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn events(&self) -> io::Result<OwnedFd> {
        Ok(self.file("cgroup.events", OFlag::O_RDONLY)?.into())
    }

    /// Kills every member, and those of the groups below. Members that fork meanwhile do not
    /// escape.
    ///
    /// # Errors
    /// As [`write`](Self::write), and the OS error of a signal.
    pub fn kill(&self) -> io::Result<()> {
        match self.write("cgroup.kill", "1") {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => self.kill_each(),
            done => done,
        }
    }

    /// Kills the members one by one while they are frozen, for kernels without `cgroup.kill`.
    fn kill_each(&self) -> io::Result<()> {
        self.freeze(true)?;
        let killed = self.kill_until_none();
        // A killed member dies only after the thaw.
        self.freeze(false)?;
        killed
    }

    fn kill_until_none(&self) -> io::Result<()> {
        let mut before = Vec::new();
        // Freezing is not instantaneous: repeat until the list of members no longer changes.
        for _ in 0..KILL_ATTEMPTS {
            let members = self.members()?;
            for pid in &members {
                match nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(*pid),
                    nix::sys::signal::SIGKILL,
                ) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if members == before {
                return Ok(());
            }
            before = members;
        }
        Err(io::Error::from_raw_os_error(libc::EAGAIN))
    }

    /// Stops every member, or lets all run on.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn freeze(&self, frozen: bool) -> io::Result<()> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::fd::AsRawFd;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;
    use crate::cgroup::{Layout, Usage};

    /// A group for one test, below the group of this process.
    pub(crate) struct TestGroup {
        parent: Group,
        name: String,
        group: Group,
    }

    impl TestGroup {
        /// `None` where the user of the test may create no group; in CI that is an error.
        pub(crate) fn new(name: &str) -> Option<TestGroup> {
            let name = format!("procstar-test-{name}-{}", std::process::id());
            let (parent, group) = made(&name)
                .inspect_err(|error| {
                    assert!(std::env::var_os("CI_NO_SKIP").is_none(), "no control groups: {error}");
                    eprintln!("skipped: no control groups here: {error}");
                })
                .ok()?;
            Some(TestGroup { parent, name, group })
        }

        pub(crate) fn group(&self) -> &Group {
            &self.group
        }

        /// A shell that runs a script once it is a member of the group.
        fn start(&self, script: &str) -> Child {
            let script = format!("read _; {script}");
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", &script]).stdin(Stdio::piped());
            let mut child = shell.spawn().unwrap();
            self.group.enter(child.id() as i32).unwrap();
            child.stdin.take().unwrap().write_all(b"\n").unwrap();
            child
        }

        fn await_populated(&self, wanted: bool) {
            let events = self.group.events().unwrap();
            let deadline = Instant::now() + Duration::from_secs(60);
            while self.group.is_populated().unwrap() != wanted {
                assert!(Instant::now() < deadline, "still populated: {}", !wanted);
                let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
                poll(&mut fds, PollTimeout::from(1000_u16)).unwrap();
            }
        }
    }

    /// Creates a group below that of this process.
    fn made(name: &str) -> io::Result<(Group, Group)> {
        let own = Layout::read(Path::new("/proc")).own_group().ok_or(io::ErrorKind::NotFound)?;
        let parent = Group::open(&own)?;
        let group = parent.create(name)?;
        Ok((parent, group))
    }

    impl Drop for TestGroup {
        fn drop(&mut self) {
            let _ = self.group.kill();
            if !std::thread::panicking() {
                self.await_populated(false);
                self.parent.remove(&self.name).unwrap();
            }
        }
    }

    #[test]
    fn a_daemon_in_a_session_of_its_own_dies_with_its_group() {
        let Some(test) = TestGroup::new("daemon") else { return };
        assert!(!test.group.is_populated().unwrap());
        let mut child = test.start("setsid sleep 1000 & wait");
        let deadline = Instant::now() + Duration::from_secs(60);
        while test.group.members().unwrap().len() < 2 {
            assert!(Instant::now() < deadline, "the daemon is no member");
            std::thread::yield_now();
        }
        test.group.kill().unwrap();
        child.wait().unwrap();
        test.await_populated(false);
        assert!(test.group.members().unwrap().is_empty());
    }

    #[test]
    fn members_are_killed_one_by_one_without_the_kernels_file() {
        let Some(test) = TestGroup::new("each") else { return };
        let mut child = test.start("while :; do (:); done");
        test.await_populated(true);
        test.group.kill_each().unwrap();
        child.wait().unwrap();
        test.await_populated(false);
    }

    #[test]
    fn figures_last_until_the_group_is_removed() {
        let Some(test) = TestGroup::new("figures") else { return };
        let mut child = test.start("for i in 1 2 3; do (:); done");
        child.wait().unwrap();
        let cpu = Usage::read(&test.group).cpu.expect("cpu.stat");
        assert!(cpu.usage > 0, "{cpu:?}");
        let other = test.parent.create(&format!("{}-gone", test.name)).unwrap();
        test.parent.remove(&format!("{}-gone", test.name)).unwrap();
        assert_eq!(other.read("cpu.stat").unwrap_err().raw_os_error(), Some(libc::ENOENT));
        assert_eq!(Usage::read(&other), Usage::default());
        assert!(other.as_fd().as_raw_fd() > 2);
    }

    #[test]
    fn a_group_is_created_once() {
        let Some(test) = TestGroup::new("once") else { return };
        let error = test.parent.create(&test.name).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        assert_eq!(test.parent.child(&test.name).unwrap().path(), test.group.path());
    }
}
