//! Retries while an instance replaces its worker: after an upgrade or a crash, the keeper starts
//! another.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::error::ClientError;

/// How long a client waits for the next worker.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// Time between two attempts.
pub(super) const AGAIN: Duration = Duration::from_millis(200);

/// The repeatability of a request whose connection broke, so that the client cannot know whether it
/// was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// The request changes nothing, or repeating it changes nothing more: it is sent again.
    Safe,
    /// It is sent again; a refusal with this status then means that it was carried out before.
    UntilRefused(u16),
    /// It is not sent again.
    Never,
}

/// Attempts at one request.
pub(super) struct Persistence {
    repeat: Repeat,
    /// How long to retry after the first failure.
    patience: Duration,
    failed: Option<Instant>,
    /// Whether an attempt may have been carried out.
    doubtful: bool,
}

impl Persistence {
    pub(super) fn new(repeat: Repeat, patience: Duration) -> Persistence {
        Persistence { repeat, patience, failed: None, doubtful: false }
    }

    /// Whether this refusal says that an earlier attempt was carried out.
    pub(super) fn is_done(&self, error: &ClientError) -> bool {
        match (self.repeat, error) {
            (Repeat::UntilRefused(wanted), ClientError::Refused { status, .. }) => {
                self.doubtful && wanted == *status
            }
            _ => false,
        }
    }

    /// Waits before the next attempt. An instance is `known` if it has responded before or runs:
    /// its worker comes back soon.
    ///
    /// # Errors
    /// The error of the last attempt, if no other one is to follow.
    pub(super) async fn pause(
        &mut self,
        error: ClientError,
        known: bool,
    ) -> Result<(), ClientError> {
        let again = match error {
            ClientError::Unreachable { .. } => known,
            ClientError::Lost { .. } => self.repeat != Repeat::Never,
            _ => false,
        };
        if !again {
            return Err(error);
        }
        self.doubtful |= matches!(error, ClientError::Lost { .. });
        if self.failed.get_or_insert_with(Instant::now).elapsed() >= self.patience {
            return Err(error);
        }
        sleep(AGAIN).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> ClientError {
        ClientError::Lost { place: "x".into(), reason: "y".into() }
    }

    fn unreachable() -> ClientError {
        ClientError::Unreachable { place: "x".into(), reason: "y".into() }
    }

    fn refused(status: u16) -> ClientError {
        ClientError::Refused { status, details: Vec::new() }
    }

    #[actix_rt::test]
    async fn only_safe_requests_are_repeated() {
        tokio::time::pause();
        let new = |repeat| Persistence::new(repeat, PATIENCE);
        for repeat in [Repeat::Safe, Repeat::UntilRefused(404)] {
            assert!(new(repeat).pause(lost(), true).await.is_ok());
        }
        assert!(new(Repeat::Never).pause(lost(), true).await.is_err());
        // Nothing was sent.
        assert!(new(Repeat::Never).pause(unreachable(), true).await.is_ok());
        // Possibly no instance exists at all.
        assert!(new(Repeat::Safe).pause(unreachable(), false).await.is_err());
        assert!(new(Repeat::Safe).pause(refused(500), true).await.is_err());
    }

    #[actix_rt::test]
    async fn patience_ends() {
        tokio::time::pause();
        let mut attempts = Persistence::new(Repeat::Safe, PATIENCE);
        let begin = Instant::now();
        while attempts.pause(unreachable(), true).await.is_ok() {}
        assert!(begin.elapsed() >= PATIENCE && begin.elapsed() < PATIENCE + 2 * AGAIN);
        let mut none = Persistence::new(Repeat::Safe, Duration::ZERO);
        assert!(none.pause(lost(), true).await.is_err());
    }

    #[actix_rt::test]
    async fn a_refusal_is_success_only_after_an_attempt_that_may_have_been_carried_out() {
        tokio::time::pause();
        let mut attempts = Persistence::new(Repeat::UntilRefused(404), PATIENCE);
        attempts.pause(unreachable(), true).await.unwrap();
        assert!(!attempts.is_done(&refused(404)));
        attempts.pause(lost(), true).await.unwrap();
        assert!(attempts.is_done(&refused(404)) && !attempts.is_done(&refused(409)));
    }
}
