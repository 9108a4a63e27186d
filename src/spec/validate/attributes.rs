//! Validation of a process's attributes.

use super::Check;
use crate::spec::attributes::invalid_id;
use crate::spec::{
    Account, Attributes, Bound, IoClass, ProcSpec, SignalRef, SignalSets, SpecPath, Stopping,
};

impl Check {
    pub(super) fn attributes(&mut self, place: &SpecPath, spec: &ProcSpec) -> Attributes {
        if let Some(cwd) = &spec.cwd {
            let place = place.key("cwd");
            self.no_nul(&place, "the path", cwd);
            if cwd.is_empty() {
                self.error(&place, "the path is empty; give a directory, or leave out cwd");
            }
        }
        self.accounts(place, spec);
        for (resource, limit) in &spec.rlimits {
            if value(limit.soft) > value(limit.hard) {
                let place = place.key("rlimits").key(resource.name());
                self.error(&place, "the soft limit is above the hard one; exchange them");
            }
        }
        self.range(&place.key("nice"), spec.nice, -20, 19);
        self.range(&place.key("oom_score_adj"), spec.oom_score_adj, -1000, 1000);
        self.cpus(&place.key("cpu_affinity"), spec.cpu_affinity.as_deref());
        if let Some(priority) = spec.io_priority {
            let place = place.key("io_priority").key("level");
            match (priority.class, priority.level) {
                (IoClass::Idle, Some(_)) => {
                    self.error(&place, "the idle class has no levels; leave out level")
                }
                (_, Some(level)) if level > 7 => {
                    self.error(&place, format!("{level} is out of range: expected 0 to 7"));
                }
                _ => {}
            }
        }
        Attributes {
            cwd: spec.cwd.clone(),
            umask: self.umask(&place.key("umask"), spec.umask.as_deref()),
            user: spec.user.clone(),
            group: spec.group.clone(),
            groups: spec.groups.clone(),
            limits: spec.rlimits.clone(),
            nice: spec.nice,
            oom_score_adj: spec.oom_score_adj,
            cpu_affinity: spec.cpu_affinity.clone(),
            io_priority: spec.io_priority,
            pdeath_signal: spec.pdeath_signal.map(SignalRef::number),
            signals: self.signals(&place.key("signals"), spec),
            sandbox: self.sandbox(&place.key("sandbox"), &spec.sandbox),
        }
    }

    pub(super) fn stopping(&mut self, place: &SpecPath, spec: &ProcSpec) -> Stopping {
        if spec.timeout.is_some_and(|timeout| timeout.get() <= 0.0) {
            self.error(&place.key("timeout"), "invalid timeout 0: expected more than 0 seconds");
        }
        let stop = spec.stop.unwrap_or_default();
        let grace = stop.grace.get();
        Stopping { signum: stop.signal.number(), grace, given: spec.stop.is_some() }
    }

    fn accounts(&mut self, place: &SpecPath, spec: &ProcSpec) {
        let groups = spec.groups.iter().flatten().enumerate();
        let listed = groups.map(|(i, group)| (place.key("groups").index(i), group));
        let single = [("user", &spec.user), ("group", &spec.group)];
        let single = single
            .into_iter()
            .filter_map(|(key, account)| account.as_ref().map(|account| (place.key(key), account)));
        for (place, account) in single.chain(listed) {
            match account {
                Account::Name(name) if name.is_empty() => {
                    self.error(&place, "the name is empty; give a name or an ID")
                }
                Account::Name(name) => self.no_nul(&place, "the name", name),
                // The kernel takes it for "no change".
                Account::Id(u32::MAX) => self.error(&place, invalid_id(u32::MAX)),
                Account::Id(_) => {}
            }
        }
    }

    fn range(&mut self, place: &SpecPath, value: Option<i32>, least: i32, most: i32) {
        if let Some(value) = value
            && !(least..=most).contains(&value)
        {
            self.error(place, format!("{value} is out of range: expected {least} to {most}"));
        }
    }

    fn cpus(&mut self, place: &SpecPath, cpus: Option<&[u32]>) {
        let Some(cpus) = cpus else { return };
        if cpus.is_empty() {
            self.error(place, "no CPU is given; list at least one, or leave out cpu_affinity");
        }
        for (i, cpu) in cpus.iter().enumerate() {
            if *cpu >= Attributes::MAX_CPUS {
                let most = Attributes::MAX_CPUS - 1;
                self.error(
                    &place.index(i),
                    format!("CPU {cpu} is out of range: expected 0 to {most}"),
                );
            }
        }
    }

    fn umask(&mut self, place: &SpecPath, umask: Option<&str>) -> Option<u32> {
        let text = umask?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let value = u32::from_str_radix(text, 8).ok().filter(|value| digits && *value <= 0o777);
        if value.is_none() {
            self.error(
                place,
                format!(
                    "invalid umask {text:?}: expected octal digits up to \"777\", such as \"027\""
                ),
            );
        }
        value
    }

    fn signals(&mut self, place: &SpecPath, spec: &ProcSpec) -> SignalSets {
        let ignore = set(&spec.signals.ignore);
        let both = ignore & set(&spec.signals.default);
        for signal in spec.signals.ignore.iter().filter(|signal| both & bit(**signal) != 0) {
            self.error(&place.key("ignore"), format!("{signal} is also in default; list it once"));
        }
        for signal in &spec.signals.ignore {
            if matches!(signal.number(), libc::SIGKILL | libc::SIGSTOP) {
                self.error(&place.key("ignore"), format!("{signal} cannot be ignored; remove it"));
            }
        }
        for signal in &spec.signals.block {
            if matches!(signal.number(), libc::SIGKILL | libc::SIGSTOP) {
                self.error(&place.key("block"), format!("{signal} cannot be blocked; remove it"));
            }
        }
        SignalSets { ignore, block: set(&spec.signals.block) }
    }
}

fn bit(signal: SignalRef) -> u64 {
    1 << (signal.number() - 1)
}

fn set(signals: &[SignalRef]) -> u64 {
    signals.iter().fold(0, |set, signal| set | bit(*signal))
}

fn value(bound: Bound) -> u64 {
    match bound {
        Bound::Value(value) => value,
        Bound::Unlimited => u64::MAX,
    }
}
