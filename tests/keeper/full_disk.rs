//! There is no room for more in the instance's directory: its disk is full, or a limit of file sizes is reached.

use super::harness::*;
use crate::support::wait::eventually;
use procstar::keeper::format::ToWorker;
use procstar::keeper::journal;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of its own, gone with this value.
struct Mount(PathBuf);

impl Mount {
    fn new(at: &Path) -> Option<Mount> {
        std::fs::create_dir(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "procstar-test"])
            .arg(at)
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Mount(at.to_owned()));
        }
        eprintln!("skipped: only root can mount a small file system");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: the keeper may still be ending.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Fills a file system to the last byte.
fn fill(dir: &Path) -> PathBuf {
    let path = dir.join("filling");
    let mut file = std::fs::File::create(&path).unwrap();
    for size in [4096, 1] {
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
    path
}

#[test]
fn a_full_disk_costs_the_journal_and_no_result() {
    let mut keeper = TestKeeper::new();
    let disk = keeper.dir.path().join("disk");
    let Some(_mount) = Mount::new(&disk) else { return };
    keeper.settings.state_dir = Some(disk.join("state"));
    let gate = keeper.dir.path().join("gate");
    let (mut worker, _) = keeper.welcomed();
    worker.launch(json!({"before": until_exists(&gate, "exit 3")}));
    worker.until("started before");
    let filling = fill(&disk);
    // Its output has no room, which is the process's own failure; all else goes on.
    worker.launch(json!({"during": sh("echo out || exit 7")}));
    worker.until("ended during 1792");
    // The rest of the journal's last page is all the room left.
    let mut n = 0;
    eventually("the journal to fail", || {
        n += 1;
        worker.launch(json!({format!("{n}"): sh("exit 5")}));
        worker.until(&format!("ended {n} 1280"));
        keeper.log().contains("cannot write the journal")
    });
    std::fs::write(gate, "").unwrap();
    let ToWorker::Ended(before) = worker.next() else { panic!("no end") };
    assert_eq!((before.id.as_str(), before.status), ("before", 3 << 8));
    // The journal holds whole entries, from before the failed write.
    let journal = keeper.settings.state_dir.clone().unwrap().join("journal");
    let records = journal::read(&journal).unwrap();
    assert!(records[0].started.is_some() && records[0].ended.is_none());
    // With room again, everything is in it.
    std::fs::remove_file(filling).unwrap();
    eventually("the journal to be written anew", || {
        n += 1;
        worker.launch(json!({format!("{n}"): sh("")}));
        worker.until(&format!("ended {n} 0"));
        let records = journal::read(&journal).unwrap();
        records.len() == 2 + n && records.iter().all(|record| record.ended.is_some())
    });
    worker.bye(0);
    assert_eq!(keeper.ended(), Some(0));
}

#[test]
fn a_limit_of_file_sizes_costs_the_journal_and_no_result() {
    let mut keeper = TestKeeper::new();
    keeper.settings.state_dir = Some(keeper.dir.path().join("state"));
    let (mut worker, _) = keeper.welcomed();
    let limit = |bytes: u64| {
        let limit = libc::rlimit { rlim_cur: bytes, rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the kernel reads one structure, which is ours.
        let set = unsafe {
            libc::prlimit(
                keeper.pid() as i32,
                libc::RLIMIT_FSIZE,
                &raw const limit,
                std::ptr::null_mut(),
            )
        };
        assert_eq!(set, 0);
    };
    limit(8192);
    // The kernel sends SIGXFSZ at the write that goes beyond.
    let mut n = 0;
    eventually("the journal to fail", || {
        n += 1;
        worker.launch(json!({format!("{n}"): sh("exit 5")}));
        worker.until(&format!("ended {n} 1280"));
        keeper.log().contains("cannot write the journal")
    });
    assert!(keeper.log().contains("File too large"), "{}", keeper.log());
    // Without it, everything is in the journal again.
    limit(libc::RLIM_INFINITY);
    let journal = keeper.settings.state_dir.clone().unwrap().join("journal");
    eventually("the journal to be written anew", || {
        n += 1;
        worker.launch(json!({format!("{n}"): sh("")}));
        worker.until(&format!("ended {n} 0"));
        let records = journal::read(&journal).unwrap();
        records.len() == n && records.iter().all(|record| record.ended.is_some())
    });
    worker.bye(0);
    assert_eq!(keeper.ended(), Some(0));
}
