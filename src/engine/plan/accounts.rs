//! Users and groups, by name or number, to what the kernel takes.
//!
//! A lookup may ask a directory service, and wait for it: it is made in the thread that is to clone the child, and holds nobody else.

use std::collections::BTreeSet;
use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist, getgroups, getresgid, getresuid};

use super::super::faults::{self, Call};
use super::super::{Stage, StartFailure};
use super::attributes::{Setting, What};
use crate::spec::{Account, Attributes};

/// The settings of groups, group and user, in the order in which a privileged child makes them; none of what is so already.
///
/// # Errors
/// One for each user or group that is unknown, or that cannot be looked up.
pub(super) fn settings(attributes: &Attributes) -> Result<Vec<Setting>, Vec<StartFailure>> {
    let Attributes { user, group, groups, .. } = attributes;
    let found = user.as_ref().map(find_user).transpose();
    let gid = group.as_ref().map(|group| find_group(group, Stage::Group)).transpose();
    let gids: Vec<_> =
        groups.iter().flatten().map(|group| find_group(group, Stage::Groups)).collect();
    let failures: Vec<StartFailure> = (found.as_ref().err().into_iter())
        .chain(gid.as_ref().err())
        .chain(gids.iter().filter_map(|gid| gid.as_ref().err()))
        .cloned()
        .collect();
    if !failures.is_empty() {
        return Err(failures);
    }
    let (found, gid) = (found.ok().flatten(), gid.ok().flatten());
    let mut all = groups.as_ref().map(|_| gids.into_iter().flatten().collect::<Vec<Gid>>());
    let (mut groups_of, mut group_of) = (Stage::Groups, Stage::Group);
    let mut chosen = gid;
    let mut settings = Vec::new();
    if let (Some(found), Some(account)) = (&found, user) {
        let failed = |errno| vec![failure(Stage::User, errno, account)];
        let gid = match chosen {
            Some(gid) => gid,
            None => {
                group_of = Stage::User;
                // Nobody can tell which group goes with a number that has no entry.
                found.gid.ok_or_else(|| failed(Errno::ENOENT))?
            }
        };
        chosen = Some(gid);
        if all.is_none() {
            groups_of = Stage::User;
            all = Some(member_of(found.name.as_deref(), gid).map_err(failed)?);
        }
    }
    let of_user = user.as_ref().map(text);
    if let Some(all) = all {
        let path = of_user.clone().filter(|_| groups_of == Stage::User);
        settings.extend(set_groups(&all, groups_of, path));
    }
    if let Some(gid) = chosen {
        let path = if group_of == Stage::User { of_user.clone() } else { group.as_ref().map(text) };
        settings.extend(set_group(gid, group_of, path));
    }
    if let Some(found) = found {
        settings.extend(set_user(found.uid, of_user));
    }
    Ok(settings)
}

/// A user that was looked up.
struct Found {
    uid: Uid,
    /// Its primary group, where it has an entry.
    gid: Option<Gid>,
    /// Its name, where it has an entry.
    name: Option<String>,
}

fn find_user(account: &Account) -> Result<Found, StartFailure> {
    let entry = pass().and_then(|()| match account {
        Account::Name(name) => User::from_name(name),
        Account::Id(uid) => User::from_uid(Uid::from_raw(*uid)),
    });
    match (entry, account) {
        (Ok(Some(User { uid, gid, name, .. })), _) => {
            Ok(Found { uid, gid: Some(gid), name: Some(name) })
        }
        (Ok(None), Account::Id(uid)) => {
            Ok(Found { uid: Uid::from_raw(*uid), gid: None, name: None })
        }
        (Ok(None), Account::Name(_)) => Err(failure(Stage::User, Errno::ENOENT, account)),
        (Err(errno), _) => Err(failure(Stage::User, errno, account)),
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

/// The groups of a user by the group database; that one group, where the user has no entry.
fn member_of(name: Option<&str>, gid: Gid) -> nix::Result<Vec<Gid>> {
    let Some(name) = name else { return Ok(vec![gid]) };
    pass()?;
    getgrouplist(&CString::new(name).map_err(|_| Errno::EINVAL)?, gid)
}

fn pass() -> nix::Result<()> {
    faults::due(Call::Account).map_or(Ok(()), |errno| Err(Errno::from_raw(errno)))
}

fn failure(stage: Stage, errno: Errno, account: &Account) -> StartFailure {
    StartFailure { stage, errno: errno as i32, path: Some(text(account)) }
}

fn text(account: &Account) -> String {
    match account {
        Account::Name(name) => name.clone(),
        Account::Id(id) => id.to_string(),
    }
}

/// Setting the groups: nothing where these are ours, for then no privilege is needed.
fn set_groups(groups: &[Gid], stage: Stage, path: Option<String>) -> Option<Setting> {
    let set = |gids: &[Gid]| gids.iter().map(|gid| gid.as_raw()).collect::<BTreeSet<u32>>();
    let wanted = set(groups);
    let so = getgroups().is_ok_and(|ours| set(&ours) == wanted);
    let what = What::Groups(wanted.into_iter().collect());
    (!so).then_some(Setting { stage, path, what })
}

fn set_group(gid: Gid, stage: Stage, path: Option<String>) -> Option<Setting> {
    let so = getresgid().is_ok_and(|is| [is.real, is.effective, is.saved] == [gid; 3]);
    (!so).then_some(Setting { stage, path, what: What::Group(gid.as_raw()) })
}

fn set_user(uid: Uid, path: Option<String>) -> Option<Setting> {
    let so = getresuid().is_ok_and(|is| [is.real, is.effective, is.saved] == [uid; 3]);
    (!so).then_some(Setting { stage: Stage::User, path, what: What::User(uid.as_raw()) })
}
