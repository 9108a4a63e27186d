//! An upgrade that waits for the new program's first worker: its requester is answered once that
//! worker is ready or cannot start.

use std::time::{Duration, Instant};

use super::listeners::MissingListener;

/// Timeout for the services of the worker to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// An upgrade whose outcome is not known yet.
pub(super) struct AwaitedUpgrade {
    /// The description of the new program for the user.
    program: String,
    until: Instant,
}

impl AwaitedUpgrade {
    /// An upgrade that has just replaced the program by this one (name and version).
    pub(super) fn new(program: String) -> AwaitedUpgrade {
        AwaitedUpgrade { program, until: Instant::now() + PATIENCE }
    }

    /// The time at which it is [overdue](Self::is_overdue).
    pub(super) fn deadline(&self) -> Instant {
        self.until
    }

    /// Whether the worker has taken too long.
    pub(super) fn is_overdue(&self) -> bool {
        self.until <= Instant::now()
    }

    /// Returns the answer once the worker is ready.
    ///
    /// # Errors
    /// The listeners that are missing.
    pub(super) fn ready(self, missing: &[MissingListener]) -> Result<String, String> {
        if missing.is_empty() {
            return Ok(format!("now runs {}", self.program));
        }
        let errors: Vec<&str> = missing.iter().map(|missing| missing.error.as_str()).collect();
        Err(format!(
            "now runs {}, but its worker {}; it serves everything else and tries again; processes run on",
            self.program,
            errors.join(", and ")
        ))
    }

    /// The answer if the worker has reported why it cannot start, or nothing in time.
    pub(super) fn failed(self, why: Option<&str>) -> String {
        let why = why.map_or_else(
            || format!("is not ready after {} s", PATIENCE.as_secs()),
            |why| format!("cannot start: {why}"),
        );
        format!(
            "now runs {}, but its worker {why}; processes run on, and it is started again",
            self.program
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keeper::listeners::Address;

    #[test]
    fn the_answer_names_the_outcome() {
        let awaited = || AwaitedUpgrade::new("/bin/procstar, version 3".into());
        assert!(!awaited().is_overdue());
        assert_eq!(awaited().ready(&[]), Ok("now runs /bin/procstar, version 3".into()));
        let missing = |port: u16| MissingListener {
            address: Address::Tcp(([127, 0, 0, 1], port).into()),
            error: format!("failed to listen on port {port}"),
        };
        assert_eq!(
            awaited().ready(&[missing(1), missing(2)]).unwrap_err(),
            "now runs /bin/procstar, version 3, but its worker failed to listen on port 1, and failed to listen on port 2; \
             it serves everything else and tries again; processes run on"
        );
        assert_eq!(
            awaited().failed(Some("port taken")),
            "now runs /bin/procstar, version 3, but its worker cannot start: port taken; processes run on, and it is started again"
        );
        let late = AwaitedUpgrade { until: Instant::now(), ..awaited() };
        assert!(late.is_overdue());
        assert!(late.failed(None).contains("its worker is not ready after 10 s;"));
    }
}
