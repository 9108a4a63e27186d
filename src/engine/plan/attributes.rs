//! The attributes of a process, in the order in which the child sets them.

use std::os::fd::RawFd;

use super::accounts::Switch;
use super::child_attribute::{AttributeValue, ChildAttribute};
use super::privileges::{Privileges, Shed};
use super::sandbox::SandboxSteps;
use super::strings::c_string;
use crate::engine::failure::Stage;
use crate::spec::{Attribute, Attributes, Bound, IoClass, IoPriority, LimitPair, Resource};

/// The file for each of the fds 0 to 2 that the spec of another user's process does not name, so
/// that it gets no file or terminal of ours.
const NULL: &str = "/dev/null";

/// The attributes before and after the fds.
#[derive(Default)]
pub(super) struct ChildAttributes {
    pub(super) early: Vec<ChildAttribute>,
    pub(super) late: Vec<ChildAttribute>,
}

/// Plans the attributes in this order: those that may need privilege, limits first; groups, group,
/// user, and dropped capabilities; then those that the user's permissions decide. Changing the user
/// clears the death signal, so that comes later. The open-file limit comes after the fds, whose
/// numbers are in `fds`.
pub(super) fn plan(
    attributes: &Attributes,
    (switch, sandbox): (Switch, SandboxSteps),
    privileges: &Privileges,
    nofile: Option<libc::rlimit>,
    fds: &[RawFd],
) -> ChildAttributes {
    let mut planned = limits(attributes, nofile);
    let early = &mut planned.early;
    scheduling(attributes, early);
    let Switch { attributes: accounts, other } = switch;
    let shed = if sandbox.capabilities {
        Shed::default()
    } else {
        privileges.shed(other.as_ref().map(|other| other.uid))
    };
    early.extend(sandbox.before);
    let mut set = |stage, what| early.push(ChildAttribute { stage, path: None, what });
    if shed.bounding != 0 {
        set(Stage::Attribute(Attribute::Capabilities), AttributeValue::Bounding(shed.bounding));
    }
    if other.is_some() {
        // As our own user, whose key quota it uses: that of the other user may be exhausted by its
        // processes.
        set(Stage::Attribute(Attribute::Keyring), AttributeValue::Keyring);
    }
    early.extend(accounts);
    early.extend(sandbox.after);
    let mut set = |stage, path, what| early.push(ChildAttribute { stage, path, what });
    if shed.sets {
        let Shed { no_new_privileges, .. } = shed;
        set(
            Stage::Attribute(Attribute::Capabilities),
            None,
            AttributeValue::NoCapabilities { no_new_privileges },
        );
    }
    if other.is_some() {
        for (fd, flags) in [(0, libc::O_RDONLY), (1, libc::O_WRONLY), (2, libc::O_WRONLY)] {
            if !fds.contains(&fd) {
                set(Stage::Fd(fd), Some(NULL.to_owned()), AttributeValue::Null(fd, flags));
            }
        }
    }
    by_permissions(attributes, early);
    early.extend(sandbox.last);
    planned
}

/// The limits; the open-file limit comes after the fds, which need room.
fn limits(attributes: &Attributes, nofile: Option<libc::rlimit>) -> ChildAttributes {
    let mut early = Vec::new();
    let mut late = Vec::new();
    let mut set = |stage, what| early.push(ChildAttribute { stage, path: None, what });
    for (resource, pair) in &attributes.limits {
        let stage = Stage::Limits(*resource);
        let what = AttributeValue::Limit(number(*resource), limit(*pair));
        if *resource == Resource::Nofile {
            if let Some(raised) = room_for(limit(*pair)) {
                set(stage, AttributeValue::Limit(number(*resource), raised));
            }
            late.push(ChildAttribute { stage, path: None, what });
        } else {
            set(stage, what);
        }
    }
    if late.is_empty()
        && let Some(libc::rlimit { rlim_cur, rlim_max }) = nofile
    {
        let what =
            AttributeValue::Limit(number(Resource::Nofile), libc::rlimit64 { rlim_cur, rlim_max });
        late.push(ChildAttribute { stage: Stage::Limits(Resource::Nofile), path: None, what });
    }
    ChildAttributes { early, late }
}

/// The attributes that may need privilege, and depend on no other.
fn scheduling(attributes: &Attributes, early: &mut Vec<ChildAttribute>) {
    let mut set = |stage, what| early.push(ChildAttribute { stage, path: None, what });
    if let Some(adjustment) = attributes.oom_score_adj {
        set(
            Stage::Attribute(Attribute::OomScoreAdj),
            AttributeValue::OomScoreAdj(adjustment.to_string()),
        );
    }
    if let Some(nice) = attributes.nice {
        set(Stage::Attribute(Attribute::Nice), AttributeValue::Nice(nice));
    }
    if let Some(priority) = attributes.io_priority {
        set(
            Stage::Attribute(Attribute::IoPriority),
            AttributeValue::IoPriority(io_priority(priority)),
        );
    }
    if let Some(cpus) = &attributes.cpu_affinity {
        set(Stage::Attribute(Attribute::CpuAffinity), AttributeValue::CpuAffinity(cpu_set(cpus)));
    }
}

/// The attributes that the user's permissions decide, or that a change of user would clear.
fn by_permissions(attributes: &Attributes, early: &mut Vec<ChildAttribute>) {
    let mut set = |stage, path, what| early.push(ChildAttribute { stage, path, what });
    if let Some(signum) = attributes.pdeath_signal {
        let pid = std::process::id().cast_signed();
        set(
            Stage::Attribute(Attribute::PdeathSignal),
            None,
            AttributeValue::DeathSignal(signum, pid),
        );
    }
    if let Some(umask) = attributes.umask {
        set(Stage::Attribute(Attribute::Cwd), None, AttributeValue::Umask(umask));
    }
    if let Some(cwd) = &attributes.cwd {
        set(
            Stage::Attribute(Attribute::Cwd),
            Some(cwd.clone()),
            AttributeValue::Cwd(c_string(cwd)),
        );
    }
}

/// The open-file limit during the set-up of the fds, if ours does not suffice: the process is to
/// have a higher hard limit, which it could not set after the change of user.
fn room_for(wanted: libc::rlimit64) -> Option<libc::rlimit64> {
    let ours = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE);
    let (rlim_cur, rlim_max) = ours.unwrap_or((wanted.rlim_cur, wanted.rlim_max));
    (wanted.rlim_max > rlim_max).then_some(libc::rlimit64 { rlim_cur, rlim_max: wanted.rlim_max })
}

fn limit(pair: LimitPair) -> libc::rlimit64 {
    let value = |bound| match bound {
        Bound::Value(value) => value,
        Bound::Unlimited => libc::RLIM64_INFINITY,
    };
    libc::rlimit64 { rlim_cur: value(pair.soft), rlim_max: value(pair.hard) }
}

/// The kernel's number of a resource.
fn number(resource: Resource) -> u32 {
    match resource {
        Resource::As => libc::RLIMIT_AS,
        Resource::Core => libc::RLIMIT_CORE,
        Resource::Cpu => libc::RLIMIT_CPU,
        Resource::Data => libc::RLIMIT_DATA,
        Resource::Fsize => libc::RLIMIT_FSIZE,
        Resource::Locks => libc::RLIMIT_LOCKS,
        Resource::Memlock => libc::RLIMIT_MEMLOCK,
        Resource::Msgqueue => libc::RLIMIT_MSGQUEUE,
        Resource::Nice => libc::RLIMIT_NICE,
        Resource::Nofile => libc::RLIMIT_NOFILE,
        Resource::Nproc => libc::RLIMIT_NPROC,
        Resource::Rss => libc::RLIMIT_RSS,
        Resource::Rtprio => libc::RLIMIT_RTPRIO,
        Resource::Rttime => libc::RLIMIT_RTTIME,
        Resource::Sigpending => libc::RLIMIT_SIGPENDING,
        Resource::Stack => libc::RLIMIT_STACK,
    }
}

/// The format of the kernel's `ioprio.h`: the class in the bits from 13 up, the level below.
fn io_priority(priority: IoPriority) -> i32 {
    let class = match priority.class {
        IoClass::Realtime => 1,
        IoClass::BestEffort => 2,
        IoClass::Idle => return 3 << 13,
    };
    (class << 13) | i32::from(priority.level.unwrap_or(4))
}

fn cpu_set(cpus: &[u32]) -> Vec<u64> {
    let words = cpus.iter().max().map_or(0, |most| *most as usize / 64 + 1);
    let mut set = vec![0u64; words];
    for cpu in cpus {
        if let Some(word) = set.get_mut(*cpu as usize / 64) {
            *word |= 1 << (cpu % 64);
        }
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::accounts::Accounts;

    #[test]
    fn attributes_have_the_kernels_encoding() {
        let priority = |class, level| io_priority(IoPriority { class, level });
        assert_eq!(priority(IoClass::Realtime, Some(0)), 1 << 13);
        assert_eq!(priority(IoClass::BestEffort, None), (2 << 13) | 4);
        assert_eq!(priority(IoClass::Idle, None), 3 << 13);
        assert_eq!(cpu_set(&[0, 1, 64]), [3, 1]);
        assert_eq!(cpu_set(&[8191]).len(), 128);
        let pair = LimitPair { soft: Bound::Value(3), hard: Bound::Unlimited };
        assert_eq!((limit(pair).rlim_cur, limit(pair).rlim_max), (3, u64::MAX));
    }

    #[test]
    fn the_order() {
        let text = br#"{"specs": {"a": {"argv": ["x"], "cwd": "/", "umask": "77", "pdeath_signal": 9, "nice": 1,
            "oom_score_adj": 5, "rlimits": {"nofile": 10, "core": 0}, "cpu_affinity": [0], "user": 12345, "group": 12346}}}"#;
        let validated = crate::spec::from_json(text).unwrap();
        let mut attributes = validated.procs[0].attributes.clone();
        let plan = |attributes: &Attributes| {
            let switch = Accounts::new().switch(attributes).unwrap();
            let sandbox = SandboxSteps::default();
            super::plan(attributes, (switch, sandbox), &Privileges::of_root(), None, &[1])
        };
        let stages = |all: &[ChildAttribute]| {
            all.iter().map(|attribute| attribute.stage).collect::<Vec<Stage>>()
        };
        let ChildAttributes { early, late } = plan(&attributes);
        assert_eq!(
            stages(&early),
            [
                Stage::Limits(Resource::Core),
                Stage::Attribute(Attribute::OomScoreAdj),
                Stage::Attribute(Attribute::Nice),
                Stage::Attribute(Attribute::CpuAffinity),
                Stage::Attribute(Attribute::Capabilities),
                Stage::Attribute(Attribute::Keyring),
                Stage::Attribute(Attribute::User),
                Stage::Attribute(Attribute::Group),
                Stage::Attribute(Attribute::User),
                Stage::Attribute(Attribute::Capabilities),
                Stage::Fd(0),
                Stage::Fd(2),
                Stage::Attribute(Attribute::PdeathSignal),
                Stage::Attribute(Attribute::Cwd),
                Stage::Attribute(Attribute::Cwd),
            ]
        );
        let [ChildAttribute { what: AttributeValue::Limit(_, limit), .. }] = late.as_slice() else {
            panic!()
        };
        assert_eq!((limit.rlim_cur, limit.rlim_max), (10, 10));
        // A limit above this program's own is raised while there is privilege.
        let unlimited = LimitPair { soft: Bound::Value(10), hard: Bound::Unlimited };
        attributes.limits.iter_mut().for_each(|(_, pair)| *pair = unlimited);
        let higher = plan(&attributes);
        assert_eq!(
            stages(&higher.early)[..2],
            [Stage::Limits(Resource::Nofile), Stage::Limits(Resource::Core)]
        );
        assert_eq!(stages(&higher.late), [Stage::Limits(Resource::Nofile)]);
    }
}
