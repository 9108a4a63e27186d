//! The control group that a new process is to get, and its name.

use std::io;
use std::sync::Arc;

use crate::cgroup::Group;

/// The prefix of the groups of processes. Without it, an ID could be the name of a file that the
/// kernel puts into the directory of the parent group, such as `cgroup.procs`.
pub(super) const PREFIX: &str = "job-";
/// Most bytes of an ID in a name; names have at most 255.
const ID_BYTES: usize = 200;

/// A control group that is to be created for a process.
pub(super) struct GroupOrder {
    pub(super) parent: Arc<Group>,
    pub(super) name: String,
}

impl GroupOrder {
    /// Creates the group.
    ///
    /// # Errors
    /// The OS error of creating its directory.
    pub(super) fn carry_out(&self) -> io::Result<Group> {
        self.parent.create(&self.name)
    }
}

/// The name of the group of the process with this ID; `again` distinguishes it from earlier groups.
pub(super) fn group_name(id: &str, again: u64) -> String {
    let mut name = String::from(PREFIX);
    for byte in id.bytes() {
        let escaped = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b':' | b'@' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        };
        if name.len() + escaped.len() > ID_BYTES {
            break;
        }
        name.push_str(&escaped);
    }
    if again > 0 {
        name.push_str(&format!("~{again}"));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_a_valid_file_name() {
        assert_eq!(group_name("nightly-1.a_b:c@d", 0), "job-nightly-1.a_b:c@d");
        assert_eq!(group_name("../a b\n~%\u{e4}", 0), "job-..%2Fa%20b%0A%7E%25%C3%A4");
        assert_eq!(group_name("cgroup.procs", 2), "job-cgroup.procs~2");
        let long = group_name(&"/".repeat(4096), 123);
        assert!(long.len() <= 255 && long.ends_with("%2F~123"), "{long}");
    }
}
