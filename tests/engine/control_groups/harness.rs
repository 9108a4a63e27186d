//! A group of its own for each test, in the hierarchy of version 2 of this host.

use std::path::Path;
use std::sync::Arc;

use procstar::cgroup::{Group, Layout};
use procstar::engine::EngineOptions;

use crate::support::engine::options;
use crate::support::wait::eventually;

/// The parent of the groups of one test. Dropping it kills what is left in it.
pub struct Parent {
    above: Group,
    name: String,
    group: Arc<Group>,
}

impl Parent {
    pub fn new() -> Parent {
        let own = Layout::read(Path::new("/proc")).own_group().expect("no cgroup2 is mounted");
        let above = Group::open(&own).unwrap();
        let name = format!("procstar-test-{}", std::process::id());
        let group = above.create(&name).unwrap_or_else(|error| {
            panic!("cannot create {}: {error}; run the tests as root", own.join(&name).display())
        });
        Parent { above, name, group: Arc::new(group) }
    }

    pub fn group(&self) -> &Group {
        &self.group
    }

    /// The options of an engine whose processes get groups below this one.
    pub fn options(&self) -> EngineOptions {
        EngineOptions { groups: Some(Arc::clone(&self.group)), ..options() }
    }

    pub fn members(&self, name: &str) -> Vec<i32> {
        self.group.child(name).and_then(|group| group.members()).unwrap_or_default()
    }

    /// Waits until exactly these groups are below this one.
    pub fn await_groups(&self, wanted: &[&str]) {
        let mut names = Vec::new();
        eventually(&format!("the groups {wanted:?}"), || {
            names = self.group.names().unwrap();
            names.sort();
            names == wanted
        });
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        let _ = self.group.kill();
        eventually("the end of all members", || !self.group.is_populated().unwrap_or(false));
        let _ = self.above.remove_all(&self.name);
    }
}
