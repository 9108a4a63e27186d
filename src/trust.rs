//! Whether another user can change a file that this program relies on, or read a secret in it.
//!
//! A file is trusted by its owner and mode, and by those of every directory and link that its path
//! leads through:
//!
//! - The owner is root or the user whom this program runs as.
//! - Others cannot write it. A group can if it is root's, or the user's private group: one of the
//!   user's name and without other members.
//! - In a directory with the sticky bit, such as `/tmp`, others cannot replace our files, so that
//!   directory may be writable. They can make links there: a link must be ours or root's.
//! - A secret cannot be read by others. A group can read it if root owns the file, and so has
//!   chosen the group, or as above.
//!
//! A descriptor that the caller has opened, as `/dev/fd/3` or by `<(...)`, is the caller's choice,
//! and is trusted.
//!
//! In a user namespace without a number for every user, the kernel shows root outside it and all
//! other users as the same one. There, the directories of that user are trusted, and its files
//! below `/etc` and `/usr`, where only root makes any.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use crate::users::{group_name, is_ambiguous, is_private_group, user_name};

/// How many links a path may lead through, as in the kernel.
const MOST_LINKS: usize = 40;
/// Where only root makes files.
const SYSTEM: [&str; 2] = ["/etc", "/usr"];

/// What others must not be able to do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Change it, or put another one in its place.
    Integrity,
    /// That, and read it.
    Secrecy,
}

/// Why a file is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// It, or a directory of its path, cannot be examined.
    #[error(transparent)]
    Unknown(#[from] io::Error),
    /// Others could change or read it.
    #[error("{0}")]
    Exposed(#[from] Exposure),
}

impl Untrusted {
    /// The error of reading a file that is not trusted.
    pub fn into_io(self) -> io::Error {
        match self {
            Untrusted::Unknown(error) => error,
            Untrusted::Exposed(exposure) => {
                io::Error::new(io::ErrorKind::PermissionDenied, exposure)
            }
        }
    }
}

/// How others could change or read a file. Its text is the end of a sentence that has named the
/// file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// The file, or the directory or link on its way, that is at fault.
    at: PathBuf,
    part: Part,
    fault: Fault,
    owner: u32,
    mode: u32,
    user: u32,
}

impl std::error::Error for Exposure {}

/// The untrusted part, as seen from the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Itself,
    /// What the path leads to by a link.
    Target,
    Directory,
    Link,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Owner,
    Writable(Who),
    Readable(Who),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Everybody,
    Group(u32),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Everybody => f.write_str("every user"),
            Who::Group(gid) => write!(f, "group {}", group_name(*gid)),
        }
    }
}

impl Exposure {
    /// The fault, with owner and mode.
    pub fn found(&self) -> String {
        let at = self.at.display();
        let part = match self.part {
            Part::Itself => "it".to_owned(),
            Part::Target => format!("the file that it leads to, {at},"),
            Part::Directory => format!("its directory {at}"),
            Part::Link => format!("the link {at}"),
        };
        let (owner, mode) = (user_name(self.owner), self.mode & 0o7777);
        match self.fault {
            Fault::Owner => format!(
                "{part} belongs to {owner}, who is neither root nor {} (mode {mode:04o})",
                user_name(self.user)
            ),
            Fault::Writable(who) => {
                format!("{who} can write {part} (mode {mode:04o}, owner {owner})")
            }
            Fault::Readable(who) => {
                format!("{who} can read {part} (mode {mode:04o}, owner {owner})")
            }
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        let at = self.at.display();
        match (self.fault, self.part) {
            (Fault::Writable(_), _) => format!("run `chmod go-w {at}`"),
            (Fault::Readable(_), _) => format!("run `chmod go-r {at}`"),
            (Fault::Owner, Part::Link) => format!("name the file itself, or remove {at}"),
            (Fault::Owner, Part::Directory) => {
                "use a file below directories of this user or root".to_owned()
            }
            (Fault::Owner, _) => {
                format!("use a file of this user or root, or run `chown {} {at}`", self.user)
            }
        }
    }
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.found(), self.remedy())
    }
}

/// Checks a file, or a directory, with all that its path leads through.
///
/// # Errors
/// That others could change or read it; or it cannot be examined, for example because it is not
/// there.
pub fn check(path: &Path, need: Need) -> Result<(), Untrusted> {
    Judge::of(nix::unistd::geteuid().as_raw()).check(path, need)
}

/// Checks a path that something is written to: no link on its way may be another user's, made in a
/// sticky directory such as `/tmp`. What cannot be examined, or is not there, is no fault.
///
/// # Errors
/// The link, as an error of kind `PermissionDenied`.
pub fn check_links(path: &Path) -> io::Result<()> {
    let judge = Judge::of(nix::unistd::geteuid().as_raw());
    match judge.foreign_link(path) {
        Ok(Some(exposure)) => Err(Untrusted::from(exposure).into_io()),
        _ => Ok(()),
    }
}

/// The owner of the file at a path, if that is another user and the directory is sticky: that user
/// may have planted the file.
pub fn planted_by(path: &Path, meta: &Metadata) -> Option<u32> {
    let owner = meta.uid();
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_sticky = dir.metadata().is_ok_and(|dir| dir.mode() & libc::S_ISVTX != 0);
    (is_sticky && !Judge::of(nix::unistd::geteuid().as_raw()).owns(owner)).then_some(owner)
}

/// Decides for one user.
struct Judge {
    user: u32,
    /// The last group that was looked up, and whether it is private.
    private: OnceCell<(u32, bool)>,
}

impl Judge {
    fn of(user: u32) -> Judge {
        Judge { user, private: OnceCell::new() }
    }

    fn check(&self, path: &Path, need: Need) -> Result<(), Untrusted> {
        if is_descriptor(path) {
            return Ok(());
        }
        let mut walk = Walk::new(path)?;
        let mut exposed = None;
        // To the end: if the file is not there, that matters more.
        while let Some(step) = walk.step()? {
            let Some(Step { at, meta, part, shared }) = step else { return Ok(()) };
            let fault = match part {
                Part::Link => self.link(&meta, shared),
                Part::Directory => self.directory(&meta),
                Part::Itself | Part::Target => self.file(&at, &meta, need),
            };
            if let (Some(fault), None) = (fault, &exposed) {
                let (owner, mode, user) = (meta.uid(), meta.mode(), self.user);
                exposed = Some(Exposure { at, part, fault, owner, mode, user });
            }
        }
        exposed.map_or(Ok(()), |exposure| Err(exposure.into()))
    }

    fn foreign_link(&self, path: &Path) -> io::Result<Option<Exposure>> {
        if is_descriptor(path) {
            return Ok(None);
        }
        let mut walk = Walk::new(path)?;
        while let Some(Some(Step { at, meta, part, shared })) = walk.step()? {
            let fault = if part == Part::Link { self.link(&meta, shared) } else { None };
            if let Some(fault) = fault {
                let (owner, mode, user) = (meta.uid(), meta.mode(), self.user);
                return Ok(Some(Exposure { at, part, fault, owner, mode, user }));
            }
        }
        Ok(None)
    }

    fn owns(&self, uid: u32) -> bool {
        uid == 0 || uid == self.user
    }

    fn link(&self, meta: &Metadata, shared: bool) -> Option<Fault> {
        (shared && !self.owns(meta.uid())).then_some(Fault::Owner)
    }

    fn directory(&self, meta: &Metadata) -> Option<Fault> {
        if !self.owns(meta.uid()) && !is_ambiguous(meta.uid()) {
            return Some(Fault::Owner);
        }
        if meta.mode() & libc::S_ISVTX != 0 { None } else { self.writable(meta) }
    }

    fn file(&self, at: &Path, meta: &Metadata, need: Need) -> Option<Fault> {
        if meta.is_dir() {
            return self.directory(meta);
        }
        let of_the_system = || SYSTEM.iter().any(|dir| at.starts_with(dir));
        if !(self.owns(meta.uid()) || is_ambiguous(meta.uid()) && of_the_system()) {
            return Some(Fault::Owner);
        }
        if meta.file_type().is_char_device() {
            // Data that others write to `/dev/null` is never read from it.
            return None;
        }
        self.writable(meta).or_else(|| match need {
            Need::Integrity => None,
            Need::Secrecy => self.readable(meta),
        })
    }

    fn writable(&self, meta: &Metadata) -> Option<Fault> {
        let (mode, gid) = (meta.mode(), meta.gid());
        if mode & 0o002 != 0 {
            Some(Fault::Writable(Who::Everybody))
        } else if mode & 0o020 != 0 && !self.trusts_group(gid) {
            Some(Fault::Writable(Who::Group(gid)))
        } else {
            None
        }
    }

    fn readable(&self, meta: &Metadata) -> Option<Fault> {
        let (mode, gid) = (meta.mode(), meta.gid());
        if mode & 0o004 != 0 {
            Some(Fault::Readable(Who::Everybody))
        } else if mode & 0o040 != 0 && meta.uid() != 0 && !self.trusts_group(gid) {
            Some(Fault::Readable(Who::Group(gid)))
        } else {
            None
        }
    }

    fn trusts_group(&self, gid: u32) -> bool {
        if gid == 0 {
            return true;
        }
        match self.private.get() {
            Some((known, private)) if *known == gid => *private,
            _ => {
                let private = is_private_group(gid, self.user);
                // It is only there to ask the system less often.
                let _ = self.private.set((gid, private));
                private
            }
        }
    }
}

/// Whether a path names a descriptor of this process by its text.
fn is_descriptor(path: &Path) -> bool {
    let number = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit()) && !rest.is_empty();
    match path.to_str() {
        Some("/dev/stdin" | "/dev/stdout" | "/dev/stderr") => true,
        Some(text) => ["/dev/fd/", "/proc/self/fd/", "/proc/thread-self/fd/"]
            .iter()
            .any(|dir| text.strip_prefix(dir).is_some_and(number)),
        None => false,
    }
}

/// Something that a path leads through, or to.
struct Step {
    at: PathBuf,
    meta: Metadata,
    part: Part,
    /// Whether its directory has the sticky bit, so that others may make entries there.
    shared: bool,
}

/// The way from `/` to a file, link by link.
struct Walk {
    /// Where we are: a directory, without links.
    at: PathBuf,
    /// The names that are still to come, the next one last.
    rest: Vec<OsString>,
    links: usize,
    shared: bool,
    begun: bool,
}

impl Walk {
    fn new(path: &Path) -> io::Result<Walk> {
        let mut walk = Walk {
            at: PathBuf::from("/"),
            rest: Vec::new(),
            links: 0,
            shared: false,
            begun: false,
        };
        walk.push(&std::path::absolute(path)?);
        Ok(walk)
    }

    fn push(&mut self, path: &Path) {
        let names = path.components().rev().filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        });
        self.rest.extend(names);
        if path.is_absolute() {
            // The root itself was the first step.
            self.at = PathBuf::from("/");
            self.shared = false;
        }
    }

    /// The next step; `None` at the end, and `Some(None)` if the path names one of our descriptors.
    fn step(&mut self) -> io::Result<Option<Option<Step>>> {
        if !std::mem::replace(&mut self.begun, true) {
            let meta = self.at.symlink_metadata()?;
            return Ok(Some(Some(self.entered(PathBuf::from("/"), meta))));
        }
        let Some(name) = self.rest.pop() else { return Ok(None) };
        if name == ".." {
            self.at.pop();
            let (at, meta) = (self.at.clone(), self.at.symlink_metadata()?);
            return Ok(Some(Some(self.entered(at, meta))));
        }
        let at = self.at.join(&name);
        let mut meta = at.symlink_metadata()?;
        let shared = self.shared;
        if meta.is_symlink() && self.is_in_process() {
            if self.rest.is_empty() && self.is_among_our_descriptors() {
                return Ok(Some(None));
            }
            // Such a link has no target path: it leads to the open file itself.
            meta = at.metadata()?;
        } else if meta.is_symlink() {
            self.links += 1;
            if self.links > MOST_LINKS {
                return Err(io::Error::from_raw_os_error(libc::ELOOP));
            }
            let target = std::fs::read_link(&at)?;
            self.push(&target);
            return Ok(Some(Some(Step { at, meta, part: Part::Link, shared })));
        }
        if !self.rest.is_empty() {
            if !meta.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            return Ok(Some(Some(self.entered(at, meta))));
        }
        let part = if self.links == 0 { Part::Itself } else { Part::Target };
        Ok(Some(Some(Step { at, meta, part, shared })))
    }

    fn entered(&mut self, at: PathBuf, meta: Metadata) -> Step {
        let shared = std::mem::replace(&mut self.shared, meta.mode() & libc::S_ISVTX != 0);
        self.at = at.clone();
        Step { at, meta, part: Part::Directory, shared }
    }

    /// Whether we are in a process's directory of `/proc`.
    fn is_in_process(&self) -> bool {
        let mut names = self.at.components().skip(1);
        let number = |part: Component<'_>| {
            part.as_os_str().as_encoded_bytes().iter().all(u8::is_ascii_digit)
        };
        names.next().is_some_and(|part| part.as_os_str() == "proc")
            && names.next().is_some_and(number)
    }

    /// Whether we are among the descriptors of this process, or of the keeper, which has the same
    /// ones of the user's.
    fn is_among_our_descriptors(&self) -> bool {
        let own = [std::process::id(), std::os::unix::process::parent_id()];
        own.iter().any(|pid| {
            let process = Path::new("/proc").join(pid.to_string());
            self.at.starts_with(process) && self.at.ends_with("fd")
        })
    }
}

#[cfg(test)]
#[path = "trust/tests.rs"]
mod tests;
