//! Resolution of users and groups, by name or number, to the kernel's IDs.
//!
//! A lookup may wait for a directory service. It runs in the thread that will clone the child, and
//! delays no other process.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist, getgroups, getresgid, getresuid};

use super::child_attribute::{AttributeValue, ChildAttribute};
use crate::engine::failpoints::{self, Call};
use crate::engine::failure::{Stage, StartFailure};
use crate::spec::{Account, Attribute, Attributes};

/// Lifetime of a cached lookup.
const BELIEVED: Duration = Duration::from_secs(1);
/// Most cached lookups.
const KEPT: usize = 256;
/// Files whose change makes cached lookups stale.
const DATABASES: [&str; 2] = ["/etc/passwd", "/etc/group"];

/// A cache of lookups. Many processes start as one user, and a lookup costs a tenth of the start of
/// a small process, or a directory service's response time.
pub(in crate::engine) struct Accounts {
    found: Mutex<Vec<Finding>>,
    ours: Ours,
}

/// The IDs of this program, which it keeps; `None` if the kernel does not report them.
struct Ours {
    groups: Option<BTreeSet<libc::gid_t>>,
    group: Option<Gid>,
    user: Option<Uid>,
}

impl Ours {
    /// Real, effective and saved IDs must be equal: otherwise even a change to the current ID
    /// changes something.
    fn now() -> Ours {
        let groups = getgroups().ok();
        let group = getresgid().ok().filter(|is| [is.real, is.effective] == [is.saved; 2]);
        let user = getresuid().ok().filter(|is| [is.real, is.effective] == [is.saved; 2]);
        Ours {
            groups: groups.map(|gids| gids.into_iter().map(Gid::as_raw).collect()),
            group: group.map(|is| is.saved),
            user: user.map(|is| is.saved),
        }
    }
}

/// A cached lookup of users and groups.
struct Finding {
    wanted: Wanted,
    accounts: Found,
    since: Instant,
    databases: [Option<Stamp>; 2],
}

/// The users and groups of a spec.
#[derive(Clone, PartialEq, Eq)]
struct Wanted {
    user: Option<Account>,
    group: Option<Account>,
    groups: Option<Vec<Account>>,
}

/// The IDs of a process; `None` for those that stay unchanged.
#[derive(Clone)]
struct Found {
    groups: Option<BTreeSet<libc::gid_t>>,
    group: Option<Gid>,
    user: Option<FoundUser>,
}

impl Found {
    /// Whether the databases have all entries. A missing entry may be added at any time.
    fn is_entered(&self) -> bool {
        self.user.as_ref().is_none_or(|user| user.entry.is_some())
    }
}

/// The attributes that set groups, group and user, and the new user.
#[derive(Default)]
pub(super) struct Switch {
    /// In the order in which a privileged child sets them; without those that change nothing.
    pub(super) attributes: Vec<ChildAttribute>,
    /// The user of the process, if it differs from this program's own.
    pub(super) other: Option<OtherUser>,
}

/// A user other than this program's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OtherUser {
    pub(super) uid: libc::uid_t,
    /// Its entry in the user database, if it has one.
    pub(super) entry: Option<Entry>,
}

/// The entry of a user in the user database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) home: PathBuf,
    pub(super) shell: PathBuf,
}

/// The version of a file.
type Stamp = (u64, u64, i64, i64);

fn stamps() -> [Option<Stamp>; 2] {
    let stamp = |meta: Metadata| (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec());
    DATABASES.map(|path| std::fs::metadata(path).ok().map(stamp))
}

impl Accounts {
    pub(in crate::engine) fn new() -> Accounts {
        Accounts { found: Mutex::default(), ours: Ours::now() }
    }

    /// Resolves the user and the groups of a spec; returns the attributes that switch to them.
    ///
    /// # Errors
    /// One for each user or group that is unknown, or that cannot be looked up.
    pub(super) fn switch(&self, attributes: &Attributes) -> Result<Switch, Vec<StartFailure>> {
        let Attributes { user, group, groups, .. } = attributes;
        if user.is_none() && group.is_none() && groups.is_none() {
            return Ok(Switch::default());
        }
        let (user, group, groups) = (user.clone(), group.clone(), groups.clone());
        let wanted = Wanted { user, group, groups };
        let found = self.find(&wanted)?;
        let of_user = wanted.user.as_ref().map(text);
        let of_group = wanted.group.as_ref().map(text);
        // Groups that follow from the user are reported as failures of the user.
        let (groups_stage, groups_path) = match (&wanted.groups, &of_user) {
            (None, Some(user)) => (Stage::Attribute(Attribute::User), Some(user.clone())),
            _ => (Stage::Attribute(Attribute::Groups), None),
        };
        let (group_stage, group_path) = match of_group {
            Some(group) => (Stage::Attribute(Attribute::Group), Some(group)),
            None => (Stage::Attribute(Attribute::User), of_user.clone()),
        };
        let Ours { groups, group, user } = &self.ours;
        let set = |stage, path, what| ChildAttribute { stage, path, what };
        // Setting the present groups needs no privilege, so it is skipped.
        let groups = found.groups.filter(|gids| groups.as_ref() != Some(gids)).map(|gids| {
            set(groups_stage, groups_path, AttributeValue::Groups(gids.into_iter().collect()))
        });
        let group = found.group.filter(|gid| group.as_ref() != Some(gid));
        let group =
            group.map(|gid| set(group_stage, group_path, AttributeValue::Group(gid.as_raw())));
        let other = found
            .user
            .filter(|found| user.as_ref() != Some(&found.uid))
            .map(|FoundUser { uid, entry, .. }| OtherUser { uid: uid.as_raw(), entry });
        let user = other.as_ref().map(|other| {
            set(Stage::Attribute(Attribute::User), of_user, AttributeValue::User(other.uid))
        });
        let attributes = groups.into_iter().chain(group).chain(user).collect();
        Ok(Switch { attributes, other })
    }

    fn find(&self, wanted: &Wanted) -> Result<Found, Vec<StartFailure>> {
        let lock = || self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, databases) = (Instant::now(), stamps());
        let mut findings = lock();
        findings.retain(|f| f.databases == databases && now.duration_since(f.since) < BELIEVED);
        if let Some(finding) = findings.iter().find(|finding| finding.wanted == *wanted) {
            return Ok(finding.accounts.clone());
        }
        // Release the cache before a lookup that may wait for a directory service.
        drop(findings);
        let accounts = look_up(wanted)?;
        if accounts.is_entered() {
            let (wanted, accounts) = (wanted.clone(), accounts.clone());
            let mut findings = lock();
            if findings.len() < KEPT {
                findings.push(Finding { wanted, accounts, since: now, databases });
            }
        }
        Ok(accounts)
    }
}

fn look_up(wanted: &Wanted) -> Result<Found, Vec<StartFailure>> {
    let Wanted { user, group, groups } = wanted;
    let found = user.as_ref().map(find_user).transpose();
    let gid = group
        .as_ref()
        .map(|group| find_group(group, Stage::Attribute(Attribute::Group)))
        .transpose();
    let gids: Vec<_> = groups
        .iter()
        .flatten()
        .map(|group| find_group(group, Stage::Attribute(Attribute::Groups)))
        .collect();
    let failures: Vec<StartFailure> = (found.as_ref().err().into_iter())
        .chain(gid.as_ref().err())
        .chain(gids.iter().filter_map(|gid| gid.as_ref().err()))
        .cloned()
        .collect();
    if !failures.is_empty() {
        return Err(failures);
    }
    let (found, mut gid) = (found.ok().flatten(), gid.ok().flatten());
    let mut all = groups.as_ref().map(|_| gids.into_iter().flatten().collect::<Vec<Gid>>());
    if let (Some(found), Some(account)) = (&found, user) {
        let failed = |errno| vec![failure(Stage::Attribute(Attribute::User), errno, account)];
        // A number without an entry has no known primary group.
        let primary = gid.or(found.gid).ok_or_else(|| failed(Errno::ENOENT))?;
        gid = Some(primary);
        if all.is_none() {
            let name = found.entry.as_ref().map(|entry| entry.name.as_str());
            all = Some(member_of(name, primary).map_err(failed)?);
        }
    }
    Ok(Found {
        groups: all.map(|gids| gids.into_iter().map(Gid::as_raw).collect()),
        group: gid,
        user: found,
    })
}

/// The result of looking a user up.
#[derive(Clone)]
struct FoundUser {
    uid: Uid,
    /// Its primary group, if it has an entry.
    gid: Option<Gid>,
    entry: Option<Entry>,
}

fn find_user(account: &Account) -> Result<FoundUser, StartFailure> {
    let entry = pass().and_then(|()| match account {
        Account::Name(name) => User::from_name(name),
        Account::Id(uid) => User::from_uid(Uid::from_raw(*uid)),
    });
    match (entry, account) {
        (Ok(Some(User { uid, gid, name, dir: home, shell, .. })), _) => {
            Ok(FoundUser { uid, gid: Some(gid), entry: Some(Entry { name, home, shell }) })
        }
        (Ok(None), Account::Id(uid)) => {
            Ok(FoundUser { uid: Uid::from_raw(*uid), gid: None, entry: None })
        }
        (Ok(None), Account::Name(_)) => {
            Err(failure(Stage::Attribute(Attribute::User), Errno::ENOENT, account))
        }
        (Err(errno), _) => Err(failure(Stage::Attribute(Attribute::User), errno, account)),
    }
}

fn find_group(account: &Account, stage: Stage) -> Result<Gid, StartFailure> {
    let name = match account {
        Account::Id(gid) => return Ok(Gid::from_raw(*gid)),
        Account::Name(name) => name,
    };
    match pass().and_then(|()| Group::from_name(name)) {
        Ok(Some(entry)) => Ok(entry.gid),
        Ok(None) => Err(failure(stage, Errno::ENOENT, account)),
        Err(errno) => Err(failure(stage, errno, account)),
    }
}

/// The groups of a user by the group database; only `gid` for a user without an entry.
fn member_of(name: Option<&str>, gid: Gid) -> nix::Result<Vec<Gid>> {
    let Some(name) = name else { return Ok(vec![gid]) };
    pass()?;
    getgrouplist(&CString::new(name).map_err(|_| Errno::EINVAL)?, gid)
}

fn pass() -> nix::Result<()> {
    failpoints::injected(Call::Account).map_or(Ok(()), |errno| Err(Errno::from_raw(errno)))
}

fn failure(stage: Stage, errno: Errno, account: &Account) -> StartFailure {
    StartFailure::new(stage, errno as i32, Some(text(account)))
}

fn text(account: &Account) -> String {
    match account {
        Account::Name(name) => name.clone(),
        Account::Id(id) => id.to_string(),
    }
}
