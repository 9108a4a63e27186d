//! Whether a process of our own namespaces holds the peer's end of a connection.
//!
//! A user ID alone proves little: a sandbox that shares the host's network may have a process of
//! user 0 without any capability, or of our own user, in namespaces of its own. Such a process can
//! connect to the loopback interface, but it must not control this service.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use super::cpu_budget::CpuBudget;

/// Maximum CPU time of the search: the thread that accepts connections waits for it. On a busy
/// machine it takes longer than that, but the owner's connection is recognized there, too.
const CPU_TIME: Duration = Duration::from_millis(250);
/// The namespaces that a trusted peer shares with us. The network namespace is shared by every peer
/// on the loopback interface.
const NAMESPACES: [&str; 3] = ["user", "mnt", "pid"];

/// The process that held the last peer's socket: clients connect again and again.
static LAST_HOLDER: AtomicI32 = AtomicI32::new(0);

/// Searches `/proc` for a process in our own user, mount and pid namespaces that has the socket
/// `inode` open. A process that we may not inspect does not count, and neither does one that is not
/// found in time.
pub fn is_held_here(inode: u64) -> bool {
    let search = Search::new(Path::new("/proc"), inode);
    let found = search.and_then(|search| search.run(LAST_HOLDER.load(Ordering::Relaxed)));
    if let Some(pid) = found {
        LAST_HOLDER.store(pid, Ordering::Relaxed);
    }
    found.is_some()
}

struct Search {
    proc: PathBuf,
    /// The target of the link in /proc for the open socket.
    link: PathBuf,
    /// Device and inode of each of our [`NAMESPACES`].
    ours: [(u64, u64); NAMESPACES.len()],
    budget: CpuBudget,
}

impl Search {
    fn new(proc: &Path, inode: u64) -> Option<Search> {
        let ours = namespaces(&proc.join("self"))?;
        let link = PathBuf::from(format!("socket:[{inode}]"));
        Some(Search { proc: proc.to_path_buf(), link, ours, budget: CpuBudget::new(CPU_TIME) })
    }

    /// The holder's pid. The search begins with `hint`, and continues with the newest pids: most
    /// clients have just started.
    fn run(&self, hint: i32) -> Option<i32> {
        if hint > 0 && self.holds(hint) {
            return Some(hint);
        }
        let entries = fs::read_dir(&self.proc).ok()?;
        let name = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<i32>().ok();
        let mut pids: Vec<i32> = entries.flatten().filter_map(name).collect();
        pids.sort_unstable_by(|a, b| b.cmp(a));
        pids.into_iter().take_while(|_| !self.budget.is_spent()).find(|pid| self.holds(*pid))
    }

    fn holds(&self, pid: i32) -> bool {
        let dir = self.proc.join(pid.to_string());
        let Ok(fds) = fs::read_dir(dir.join("fd")) else { return false };
        let is_it = |entry: fs::DirEntry| fs::read_link(entry.path()).is_ok_and(|l| l == self.link);
        fds.flatten().take_while(|_| !self.budget.is_spent()).any(is_it)
            && namespaces(&dir) == Some(self.ours)
    }
}

/// Device and inode of a process's namespaces; `None` if we may not inspect them.
fn namespaces(process: &Path) -> Option<[(u64, u64); NAMESPACES.len()]> {
    let mut found = [(0, 0); NAMESPACES.len()];
    for (name, found) in NAMESPACES.iter().zip(&mut found) {
        let meta = fs::metadata(process.join("ns").join(name)).ok()?;
        *found = (meta.dev(), meta.ino());
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use super::*;

    fn inode(stream: &TcpStream) -> u64 {
        fs::metadata(format!("/proc/self/fd/{}", stream.as_raw_fd())).unwrap().ino()
    }

    #[test]
    fn an_open_socket_of_this_process_is_held_here_and_a_closed_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let inode = inode(&stream);
        assert!(is_held_here(inode));
        drop(stream);
        assert!(!is_held_here(inode));
    }

    #[test]
    fn the_hint_is_tried_first_and_a_wrong_one_does_no_harm() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let own = std::process::id().cast_signed();
        let search = Search::new(Path::new("/proc"), inode(&stream)).unwrap();
        for hint in [own, 1, 0, -1, i32::MAX] {
            assert_eq!(search.run(hint), Some(own), "{hint}");
        }
        let late = Search { budget: CpuBudget::new(Duration::ZERO), ..search };
        assert_eq!(late.run(0), None);
    }

    #[test]
    fn a_holder_in_another_namespace_does_not_count() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let search = Search::new(Path::new("/proc"), inode(&stream)).unwrap();
        for at in 0..NAMESPACES.len() {
            let mut ours = search.ours;
            ours[at].1 += 1;
            let other = Search { ours, link: search.link.clone(), proc: "/proc".into(), ..search };
            assert_eq!(other.run(std::process::id().cast_signed()), None, "{}", NAMESPACES[at]);
        }
    }
}
