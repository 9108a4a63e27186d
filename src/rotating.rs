//! A value made of files that others replace while the program runs, such as certificates and
//! tokens: it is made again by the first use after one of its files has changed. What cannot be
//! used keeps the former value in place.
//!
//! A use costs one `stat` for each file. That holds on every file system and for every way of
//! replacing: in place, by a rename, and by a link that leads elsewhere, as Kubernetes does it.
//! inotify would have to watch each directory on the way.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// The value; clones are the same one.
pub struct Rotating<T>(Arc<Inner<T>>);

struct Inner<T> {
    /// Its name for the user: `agent.cert`.
    what: &'static str,
    files: Vec<PathBuf>,
    make: Box<Make<T>>,
    state: Mutex<Cached<T>>,
}

type Make<T> = dyn Fn() -> Result<T, String> + Send + Sync;

struct Cached<T> {
    value: Arc<T>,
    /// The files that it was read from; `None` if they are unknown.
    stamps: Option<Vec<Stamp>>,
}

/// Identifies one version of a file; `None` if there is no such file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp(Option<[i128; 5]>);

impl Stamp {
    fn of(path: &PathBuf) -> Stamp {
        let nanos =
            |seconds: i64, nanos: i64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        Stamp(std::fs::metadata(path).ok().map(|meta| {
            [
                meta.dev().into(),
                meta.ino().into(),
                meta.size().into(),
                nanos(meta.mtime(), meta.mtime_nsec()),
                nanos(meta.ctime(), meta.ctime_nsec()),
            ]
        }))
    }
}

impl<T> Rotating<T> {
    /// A value made of `files` by `make`.
    ///
    /// # Errors
    /// What `make` says.
    pub fn new<E: fmt::Display>(
        what: &'static str,
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        // Before: what changes meanwhile is seen by the next use.
        let stamps = Some(files.iter().map(Stamp::of).collect());
        let value = Arc::new(make()?);
        Ok(Self::of(what, files, make, Cached { value, stamps }))
    }

    /// A value that was made of `files` some time ago, as `make` makes it.
    pub fn made_before<E: fmt::Display>(
        value: T,
        what: &'static str,
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Self {
        Self::of(what, files, make, Cached { value: Arc::new(value), stamps: None })
    }

    fn of<E: fmt::Display>(
        what: &'static str,
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, E> + Send + Sync + 'static,
        state: Cached<T>,
    ) -> Self {
        let make = Box::new(move || make().map_err(|error| error.to_string()));
        Rotating(Arc::new(Inner { what, files, make, state: Mutex::new(state) }))
    }

    /// The value from the current files, or the last good value if they cannot be used.
    pub fn get(&self) -> Arc<T> {
        let Inner { what, files, make, state } = &*self.0;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps: Vec<Stamp> = files.iter().map(Stamp::of).collect();
        let known = state.stamps.replace(stamps.clone());
        if known.as_ref() != Some(&stamps) {
            match make() {
                Ok(value) => {
                    state.value = Arc::new(value);
                    if known.is_some() {
                        tracing::info!("read {what} again: its files have changed");
                    }
                }
                Err(error) => {
                    tracing::error!(
                        "keeping the former {what}, for its changed files cannot be used: {error}"
                    );
                }
            }
        }
        Arc::clone(&state.value)
    }
}

impl<T: Send + Sync + 'static> From<Arc<T>> for Rotating<T> {
    /// A value that never changes.
    fn from(value: Arc<T>) -> Self {
        let none = || Err::<T, _>("no files");
        Self::of("", Vec::new(), none, Cached { value, stamps: Some(Vec::new()) })
    }
}

impl<T> Clone for Rotating<T> {
    fn clone(&self) -> Self {
        Rotating(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for Rotating<T> {
    /// Without the value, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rotating").field("files", &self.0.files).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn text(path: &Path) -> Rotating<String> {
        let file = path.to_owned();
        let make = move || {
            let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
            if text.contains("bad") { Err("it is bad".to_owned()) } else { Ok(text) }
        };
        Rotating::new("text", vec![path.to_owned()], make).unwrap()
    }

    #[test]
    fn a_changed_file_is_read_again_by_the_next_use() {
        let dir = tempfile::tempdir().unwrap();
        let (path, beside) = (dir.path().join("file"), dir.path().join("beside"));
        std::fs::write(&path, "one").unwrap();
        let value = text(&path);
        let first = value.get();
        assert!(Arc::ptr_eq(&first, &value.get()), "not read again without a change");
        // In place; by a rename, of the same length; by a link that is turned.
        std::fs::write(&path, "one and a half").unwrap();
        assert_eq!(*value.get(), "one and a half");
        std::fs::write(&beside, "two and a half").unwrap();
        std::fs::rename(&beside, &path).unwrap();
        assert_eq!(*value.get(), "two and a half");
        std::fs::write(&beside, "three").unwrap();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&beside, &path).unwrap();
        assert_eq!(*value.get(), "three");
    }

    #[test]
    fn a_file_that_is_gone_or_of_no_use_keeps_the_former_value() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "good").unwrap();
        let value = text(&path);
        std::fs::write(&path, "bad file").unwrap();
        assert_eq!(*value.get(), "good");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*value.get(), "good");
        std::fs::write(&path, "better").unwrap();
        assert_eq!(*value.get(), "better");
        assert!(!format!("{value:?}").contains("better"));
    }

    #[test]
    fn a_value_made_before_is_checked_by_its_first_use() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "new").unwrap();
        let make = {
            let path = path.clone();
            move || std::fs::read_to_string(&path)
        };
        let value = Rotating::made_before("old".to_owned(), "text", vec![path.clone()], make);
        assert_eq!(*value.get(), "new");
        let missing = dir.path().join("missing");
        let make = {
            let missing = missing.clone();
            move || std::fs::read_to_string(&missing)
        };
        let value = Rotating::made_before("old".to_owned(), "text", vec![missing], make);
        assert_eq!(*value.get(), "old");
    }
}
