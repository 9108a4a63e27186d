//! Reports the growth of files: one inotify of the whole program for all followers of output.
//!
//! The inotify and its thread exist only while somebody follows output. Followers of the same file
//! share one watch of the kernel.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use tokio::sync::watch;

/// The stack of the thread, which needs little.
const STACK: usize = 64 * 1024;

/// Reports growing files.
#[derive(Default)]
pub struct Watcher(Mutex<WatchedFiles>);

#[derive(Default)]
struct WatchedFiles {
    /// None without followers.
    inotify: Option<Arc<Inotify>>,
    files: HashMap<WatchDescriptor, Watched>,
}

struct Watched {
    changed: watch::Sender<()>,
    readers: usize,
}

/// A watched file, until this is dropped.
pub(super) struct Watch {
    watcher: Arc<Watcher>,
    file: WatchDescriptor,
    changes: watch::Receiver<()>,
}

impl Watch {
    /// Waits for a write since the last time, or since the creation of this watch. False if the
    /// kernel reports nothing any more.
    pub(super) async fn written(&mut self) -> bool {
        self.changes.changed().await.is_ok()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.watcher.state();
        let Some(watched) = state.files.get_mut(&self.file) else { return };
        watched.readers -= 1;
        if watched.readers == 0 {
            state.files.remove(&self.file);
            if let Some(inotify) = &state.inotify {
                // The kernel's event for it wakes the thread, which may end. An error means that
                // the file is gone, and the watch with it.
                let _ = inotify.rm_watch(self.file);
            }
        }
    }
}

impl Watcher {
    fn state(&self) -> MutexGuard<'_, WatchedFiles> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a file from now on.
    ///
    /// # Errors
    /// The OS error: the user has too many watches, or the file does not exist.
    pub(super) fn watch(self: &Arc<Self>, path: &Path) -> io::Result<Watch> {
        let mut state = self.state();
        let inotify = match &state.inotify {
            Some(inotify) => Arc::clone(inotify),
            None => {
                let inotify = Arc::new(Inotify::init(InitFlags::IN_CLOEXEC)?);
                let (watcher, reader) = (Arc::clone(self), Arc::clone(&inotify));
                std::thread::Builder::new()
                    .name("procstar-follow".to_owned())
                    .stack_size(STACK)
                    .spawn(move || watcher.read(&reader))?;
                state.inotify = Some(Arc::clone(&inotify));
                inotify
            }
        };
        let file = inotify.add_watch(path, AddWatchFlags::IN_MODIFY);
        if file.is_err() && state.files.is_empty() {
            // Adding and removing a watch wakes the thread, which then ends.
            if let Ok(root) = inotify.add_watch("/", AddWatchFlags::IN_MODIFY) {
                let _ = inotify.rm_watch(root);
            }
        }
        let file = file?;
        let watched = state
            .files
            .entry(file)
            .or_insert_with(|| Watched { changed: watch::Sender::new(()), readers: 0 });
        watched.readers += 1;
        let changes = watched.changed.subscribe();
        Ok(Watch { watcher: Arc::clone(self), file, changes })
    }

    /// The thread: passes the kernel's events on until nobody follows any more.
    fn read(&self, inotify: &Inotify) {
        loop {
            let events = match inotify.read_events() {
                Err(Errno::EINTR) => continue,
                events => events,
            };
            let mut state = self.state();
            let Ok(events) = events else {
                // The followers check at intervals from now on.
                *state = WatchedFiles::default();
                return;
            };
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    state.files.values().for_each(|watched| watched.changed.send_replace(()));
                } else if let Some(watched) = state.files.get(&event.wd) {
                    watched.changed.send_replace(());
                }
            }
            if state.files.is_empty() {
                state.inotify = None;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    async fn soon<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(10), what).await.expect("no event")
    }

    fn followers(watcher: &Watcher) -> (usize, bool) {
        let state = watcher.state();
        (state.files.len(), state.inotify.is_some())
    }

    #[actix::test]
    async fn all_who_watch_a_file_are_told_and_nothing_is_left_of_it() {
        let watcher = Arc::new(Watcher::default());
        let mut files =
            [tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap()];
        let mut one = watcher.watch(files[0].path()).unwrap();
        let mut same = watcher.watch(files[0].path()).unwrap();
        let mut other = watcher.watch(files[1].path()).unwrap();
        assert_eq!(followers(&watcher), (2, true));
        files[0].write_all(b"x").unwrap();
        assert!(soon(one.written()).await);
        assert!(soon(same.written()).await);
        drop(one);
        files[0].write_all(b"x").unwrap();
        assert!(soon(same.written()).await);
        assert!(!other.changes.has_changed().unwrap());
        files[1].write_all(b"x").unwrap();
        assert!(soon(other.written()).await);
        drop((same, other));
        soon(async {
            while followers(&watcher).1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(followers(&watcher), (0, false));
        // A second use starts another thread.
        let mut again = watcher.watch(files[0].path()).unwrap();
        files[0].write_all(b"x").unwrap();
        assert!(soon(again.written()).await);
    }

    #[actix::test]
    async fn a_file_that_is_not_there_leaves_nothing() {
        let watcher = Arc::new(Watcher::default());
        assert!(watcher.watch(Path::new("/no/such/file")).is_err());
        soon(async {
            while followers(&watcher).1 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}
