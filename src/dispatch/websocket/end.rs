//! The end of a connection, and its likely cause for the user.

use std::fmt;
use std::time::Duration;

/// The end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The scheduler did not answer the registration within this time.
    Unanswered(Duration),
    /// No bytes came for this time.
    Silent(Duration),
    /// The scheduler closed it.
    Closed { code: Option<u16>, reason: String },
    /// The socket failed.
    Lost(String),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Unanswered(limit) => write!(f, "no answer to the registration within {limit:?}"),
            End::Silent(limit) => write!(f, "nothing received for {limit:?}"),
            End::Closed { code, reason } => {
                f.write_str("scheduler closed the connection")?;
                if let Some(code) = code {
                    write!(f, " with code {code}")?;
                }
                if reason.is_empty() { Ok(()) } else { write!(f, ": {reason}") }
            }
            End::Lost(error) => f.write_str(error),
        }
    }
}

impl End {
    /// Whether the scheduler reported that it goes away, as it does for a restart.
    pub(super) fn is_restart(&self) -> bool {
        matches!(self, End::Closed { code: Some(1001 | 1012), .. })
    }

    /// The reason of a failed registration, with the remedy.
    pub(super) fn of_registration(&self, conn_id: &str) -> String {
        match self {
            End::Unanswered(_) | End::Silent(_) => format!(
                "registration timed out: {self}; the scheduler is overloaded or hangs, or it is not a procstar scheduler"
            ),
            End::Closed { .. } => format!(
                "registration refused: {self}; is the access token (PROCSTAR_AGENT_TOKEN) the scheduler's? Does another \
                 agent use the connection ID {conn_id:?}?"
            ),
            End::Lost(_) => format!(
                "registration failed: {self}; the scheduler failed, or refused the access token (PROCSTAR_AGENT_TOKEN) \
                 without a reason: see its log"
            ),
        }
    }

    /// The likely cause of registered connections that repeatedly end young.
    pub(super) fn likely_cause(&self, conn_id: &str) -> String {
        match self {
            End::Closed { code: Some(1001 | 1012 | 1013), .. } => {
                "the scheduler restarts again and again, or is overloaded: see its log".to_owned()
            }
            End::Closed { code: Some(1002 | 1003 | 1007 | 1009 | 1011), .. } => {
                "the scheduler fails on a message of this agent: see its log".to_owned()
            }
            End::Closed { .. } => format!(
                "another agent may use the connection ID {conn_id:?} (agent.conn_id must differ between agents), or the \
                 scheduler does not accept this agent any more: see its log"
            ),
            End::Lost(_) => format!(
                "the scheduler, or a proxy before it, ends connections, or another agent uses the connection ID {conn_id:?}: \
                 see the scheduler's log"
            ),
            End::Unanswered(_) | End::Silent(_) => {
                "the scheduler, or the network on the way, stops after the registration".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: u16, reason: &str) -> End {
        End::Closed { code: Some(code), reason: reason.to_owned() }
    }

    #[test]
    fn a_stalled_registration_is_not_reported_as_a_refused_token() {
        let text = End::Unanswered(Duration::from_secs(10)).of_registration("me");
        assert!(
            text.starts_with("registration timed out: no answer to the registration within 10s")
        );
        assert!(!text.contains("token") && !text.contains("refused"), "{text}");
        let text = closed(1008, "no").of_registration("me");
        assert!(text.starts_with(
            "registration refused: scheduler closed the connection with code 1008: no"
        ));
        assert!(text.contains("PROCSTAR_AGENT_TOKEN") && text.contains("\"me\""), "{text}");
        let text = End::Lost("connection ended".to_owned()).of_registration("me");
        assert!(text.starts_with("registration failed: connection ended; "), "{text}");
    }

    #[test]
    fn a_scheduler_that_goes_away_restarts() {
        for (end, restarts) in [
            (closed(1001, ""), true),
            (closed(1012, ""), true),
            (closed(1000, ""), false),
            (End::Lost("reset".to_owned()), false),
        ] {
            assert_eq!(end.is_restart(), restarts, "{end:?}");
        }
    }

    #[test]
    fn the_likely_cause_follows_from_the_end() {
        for (end, cause) in [
            (closed(1000, ""), "another agent may use the connection ID \"me\""),
            (closed(1001, "bye"), "restarts"),
            (closed(1011, ""), "fails on a message of this agent"),
            (End::Lost("reset".to_owned()), "a proxy before it"),
        ] {
            assert!(end.likely_cause("me").contains(cause), "{end:?}");
        }
    }
}
