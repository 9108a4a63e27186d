//! Checks what becomes known of processes whose keeper is killed: the rows of the failure model that
//! depend on the host.

use std::io;

use super::check::{Check, Level};
use crate::engine::{ForeignStatus, foreign_status_source};

/// All checks of this kind.
pub(super) fn checks() -> Vec<Check> {
    vec![killed_keeper(foreign_status_source())]
}

fn killed_keeper(source: io::Result<ForeignStatus>) -> Check {
    const NAME: &str = "death of the keeper";
    let missing = |reason: io::Error| {
        Check::with(
            NAME,
            Level::Note,
            format!(
                "processes run on; one that ends and is reaped before the next keeper looks is lost ({reason})"
            ),
            "run Linux 6.15 or later, or run procstar as root in the initial namespaces",
        )
    };
    match source {
        Ok(ForeignStatus::Pidfd) => Check::ok(
            NAME,
            "processes run on; the kernel keeps exact exit statuses for the next keeper",
        ),
        Ok(ForeignStatus::Connector) => Check::ok(
            NAME,
            "processes run on; the process connector reports exact exit statuses to the next keeper",
        ),
        Ok(ForeignStatus::None(reason)) | Err(reason) => missing(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_source_gets_the_consequence_and_the_remedy() {
        let reason = || io::Error::from_raw_os_error(libc::EPERM);
        for source in [Ok(ForeignStatus::None(reason())), Err(reason())] {
            let check = killed_keeper(source);
            assert_eq!(check.level, Level::Note);
            assert!(check.found.contains("is lost (Operation not permitted"), "{check:?}");
            assert!(check.remedy.is_some());
        }
    }

    #[test]
    fn each_source_is_named() {
        for (source, word) in
            [(ForeignStatus::Pidfd, "the kernel keeps"), (ForeignStatus::Connector, "connector")]
        {
            let check = killed_keeper(Ok(source));
            assert_eq!((check.level, check.remedy.is_none()), (Level::Ok, true));
            assert!(check.found.contains(word), "{check:?}");
        }
    }

    #[test]
    fn this_host_is_examined() {
        assert!(foreign_status_source().is_ok());
    }
}
