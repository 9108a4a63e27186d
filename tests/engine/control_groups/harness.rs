//! A group of its own for each test, in the hierarchy of version 2 of this host.

use std::io;
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
    /// `None` where the user of the test may create no group; in CI that is an error.
    pub fn new() -> Option<Parent> {
        let name = format!("procstar-test-{}", std::process::id());
        let (above, group) = made(&name)
            .inspect_err(|error| {
                assert!(std::env::var_os("CI_NO_SKIP").is_none(), "no control groups: {error}");
                eprintln!("skipped: no control groups here: {error}");
            })
            .ok()?;
        Some(Parent { above, name, group: Arc::new(group) })
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

/// Creates a group below that of this process.
fn made(name: &str) -> io::Result<(Group, Group)> {
    let own = Layout::read(Path::new("/proc")).own_group().ok_or(io::ErrorKind::NotFound)?;
    let above = Group::open(&own)?;
    let group = above.create(name)?;
    Ok((above, group))
}
