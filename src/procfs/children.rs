//! The children of a process: `/proc/PID/task/TID/children`.

use super::ProcFs;

impl ProcFs {
    /// The children of all threads of a process; none if it is gone, or the kernel does not list
    /// them (it was built without `CONFIG_PROC_CHILDREN`).
    ///
    /// Children that come or go meanwhile may be missing: to get all, stop the process first.
    pub fn children(&self, pid: i32) -> Vec<i32> {
        let mut children = Vec::new();
        let tasks = std::fs::read_dir(self.root.join(format!("{pid}/task")));
        for task in tasks.into_iter().flatten().flatten() {
            let text = std::fs::read(task.path().join("children")).unwrap_or_default();
            children.extend(parse_children(&text));
        }
        children
    }
}

/// The pids in the text of a `children` file. Skips invalid ones.
pub fn parse_children(text: &[u8]) -> impl Iterator<Item = i32> {
    text.split(|byte| *byte == b' ')
        .filter_map(|pid| std::str::from_utf8(pid).ok()?.trim_end().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_one_after_another() {
        let pids = |text: &[u8]| parse_children(text).collect::<Vec<_>>();
        assert!(pids(b"").is_empty());
        assert_eq!(pids(b"12 345 6 "), [12, 345, 6]);
        assert_eq!(pids(b"12 x 99999999999 \xff 7"), [12, 7]);
    }

    #[test]
    fn a_child_of_this_process() {
        let procfs = ProcFs::default();
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        assert!(procfs.children(std::process::id() as i32).contains(&pid));
        assert!(procfs.children(pid).is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!procfs.children(std::process::id() as i32).contains(&pid));
    }
}
