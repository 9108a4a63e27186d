//! An upgrade that is waiting for the new program's first agent: whoever has asked for it is answered once that is ready, or cannot start.

use std::time::{Duration, Instant};

/// How long an agent may take until its services listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// An upgrade whose outcome is not known yet.
pub(super) struct Awaited {
    /// What the user is told of the new program.
    program: String,
    until: Instant,
}

impl Awaited {
    /// An upgrade that was just made, to a program of this name and version.
    pub(super) fn new(program: String) -> Awaited {
        Awaited { program, until: Instant::now() + PATIENCE }
    }

    /// When to look whether it is [overdue](Self::is_overdue).
    pub(super) fn deadline(&self) -> Instant {
        self.until
    }

    /// Whether the agent has taken too long.
    pub(super) fn is_overdue(&self) -> bool {
        self.until <= Instant::now()
    }

    /// The answer once the agent is ready.
    pub(super) fn ready(self) -> String {
        format!("now runs {}", self.program)
    }

    /// The answer where the agent has said why it cannot start, or nothing in time.
    pub(super) fn failed(self, why: Option<&str>) -> String {
        let why = why.map_or_else(
            || format!("is not ready after {} s", PATIENCE.as_secs()),
            |why| format!("cannot start: {why}"),
        );
        format!(
            "now runs {}, but its agent {why}; processes run on, and it is started again",
            self.program
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_names_the_outcome() {
        let awaited = || Awaited::new("/bin/procstar, version 3".into());
        assert!(!awaited().is_overdue());
        assert_eq!(awaited().ready(), "now runs /bin/procstar, version 3");
        assert_eq!(
            awaited().failed(Some("port taken")),
            "now runs /bin/procstar, version 3, but its agent cannot start: port taken; processes run on, and it is started again"
        );
        let late = Awaited { until: Instant::now(), ..awaited() };
        assert!(late.is_overdue());
        assert!(late.failed(None).contains("its agent is not ready after 10 s;"));
    }
}
