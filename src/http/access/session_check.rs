//! Sessions by the policy: codes for them, the trade of a code, and the check of a request that
//! needs a session.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::session::{CODE_LIFETIME, NewCode, site_of};
use super::{AccessRequest, Authority, Header, Policy, Refusal, browser, check_bearer};

impl Policy {
    /// A new code for a session, and the host to open the page at. None where there are no
    /// sessions.
    pub fn new_code(&self, tls: bool) -> Option<NewCode> {
        self.sessions.new_code(tls, Instant::now())
    }

    /// Trades a code for a session at the host that a request is for, over TLS or not.
    ///
    /// # Errors
    /// The code is not one, or was made for another host.
    pub fn trade(&self, code: &str, host: &[u8], tls: bool) -> Result<String, Refusal> {
        let local = || Authority::parse_loopback(host, &self.sessions)?.session_site(tls);
        let site = local().or_else(|| tls.then(|| site_of(host)));
        site.and_then(|site| self.sessions.trade(code, &site, tls, Instant::now(), uptime()?))
            .ok_or(Refusal::WrongCode { seconds: CODE_LIFETIME.as_secs() })
    }

    /// Whether a request has the session that it needs, for this site; or the token, which proves
    /// more.
    pub(super) fn check_session(
        &self,
        request: &AccessRequest<'_>,
        site: Option<&str>,
    ) -> Result<(), Refusal> {
        if !browser::needs_session(request) || check_bearer(self, request.authorization).is_ok() {
            return Ok(());
        }
        let session = match request.session {
            Header::Absent => return Err(Refusal::NoSession),
            Header::Several => return Err(Refusal::WrongSession),
            Header::One(session) => session,
        };
        let is_one =
            |site| uptime().is_some_and(|now| self.sessions.is_session(session, site, now));
        if site.is_some_and(is_one) { Ok(()) } else { Err(Refusal::WrongSession) }
    }
}

/// The time since the machine's boot, also while it was suspended: every worker of a keeper has the
/// same, and nobody sets it.
fn uptime() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_BOOTTIME).ok().map(Duration::from)
}
