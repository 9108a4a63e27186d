//! Sessions by the policy: codes for them, the trade of a code, and the check of a request that
//! needs a session.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::session::{CODE_LIFETIME, NewCode, site_of};
use super::{AccessRequest, Authority, Header, Policy, Refusal, browser, check_bearer};

impl Policy {
    /// Returns a new code for a session, and the host to open the page at; `None` if sessions are
    /// disabled.
    pub fn new_code(&self, tls: bool) -> Option<NewCode> {
        self.sessions.new_code(tls, Instant::now())
    }

    /// Trades a code for a session at `host`, the value of the request's `Host` header.
    ///
    /// # Errors
    /// The code is invalid, has expired, or was issued for another host.
    pub fn trade(&self, code: &str, host: &[u8], tls: bool) -> Result<String, Refusal> {
        let local = || Authority::parse_loopback(host, &self.sessions)?.session_site(tls);
        let site = local().or_else(|| tls.then(|| site_of(host)));
        site.and_then(|site| self.sessions.trade(code, &site, tls, Instant::now(), uptime()?))
            .ok_or(Refusal::WrongCode { seconds: CODE_LIFETIME.as_secs() })
    }

    /// Checks that a request has a session for this site, if it needs one. The token replaces a
    /// session.
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

/// The time since the machine's boot, suspension included. It is the same in successive workers of
/// a keeper, and cannot be set.
fn uptime() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_BOOTTIME).ok().map(Duration::from)
}
