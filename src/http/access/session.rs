//! Sessions of the page, which a browser needs to make changes.
//!
//! A program that had our port before us can have left a service worker, cached files or an open
//! page in the user's browser, for every origin by which it was reached: `http://127.0.0.1:PORT`,
//! `http://localhost:PORT`. Such a worker answers the browser in our place, and its requests look
//! like our own page's. So a session has an origin that no earlier program can have had: a host
//! name below `localhost` with 128 random bits, which browsers resolve to the loopback interface
//! without a name server. Over TLS, our certificate already makes the origin ours alone.
//!
//! Names and sessions are derived from a key, and need no list. Only codes are kept, until they are
//! used or expire: `procstar ui` requests one over an authenticated connection, and the page that
//! it opens trades the code for a session.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ring::hmac;
use subtle::ConstantTimeEq as _;

use crate::page_key::{PageKey, random_bytes};

/// The lifetime of a code.
pub const CODE_LIFETIME: Duration = Duration::from_secs(60);
/// The lifetime of a session.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Maximum number of codes; the oldest makes room.
const CODES: usize = 32;
/// Number of random bytes in a code, and in a host name.
const RANDOM: usize = 16;
/// Number of bytes that prove that we made a host name: together with the random ones they fit into
/// a label of DNS.
const PROOF: usize = 15;

/// The sessions of one service.
pub struct Sessions {
    /// `None` if sessions are disabled.
    key: Option<hmac::Key>,
    codes: Mutex<Vec<Code>>,
}

struct Code {
    text: String,
    /// The host name that it is for, without `.localhost`; `None` over TLS.
    label: Option<String>,
    made: Instant,
}

/// A code, and the place to trade it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCode {
    /// The code.
    pub text: String,
    /// The host name at which to open the page; `None` over TLS.
    pub host: Option<String>,
}

impl Sessions {
    /// Sessions with this key; an empty key disables them.
    pub(super) fn new(key: &PageKey) -> Sessions {
        let key = key.expose().map(|key| hmac::Key::new(hmac::HMAC_SHA256, key));
        Sessions { key, codes: Mutex::default() }
    }

    /// Whether we made a label before `.localhost`.
    pub(super) fn is_label(&self, label: &str) -> bool {
        let Some((random, _)) = label.split_at_checked(2 * RANDOM) else { return false };
        let made = self.label(random);
        made.is_some_and(|made| made.as_bytes().ct_eq(label.as_bytes()).into())
    }

    /// The label that begins with these random digits.
    fn label(&self, random: &str) -> Option<String> {
        let proof = hmac::sign(self.key.as_ref()?, format!("host {random}").as_bytes());
        Some(format!("{random}{}", hex(proof.as_ref().get(..PROOF)?)))
    }

    /// A new code: for a host name of its own, or, with `tls`, for any host of ours. `None` if
    /// sessions are disabled.
    pub(super) fn new_code(&self, tls: bool, now: Instant) -> Option<NewCode> {
        self.key.as_ref()?;
        let text = hex(&random_bytes::<RANDOM>()?);
        let label = if tls { None } else { Some(self.label(&hex(&random_bytes::<RANDOM>()?))?) };
        let host = label.as_ref().map(|label| format!("{label}.localhost"));
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|code| is_fresh(code, now));
        if codes.len() >= CODES {
            codes.remove(0);
        }
        codes.push(Code { text: text.clone(), label, made: now });
        Some(NewCode { text, host })
    }

    /// Returns the session for a code, and deletes the code. `None` if the code is unknown, has
    /// expired, or was issued for another site. A code without a host name is for every site over
    /// TLS.
    pub(super) fn trade(
        &self,
        code: &str,
        site: &str,
        tls: bool,
        now: Instant,
        uptime: Duration,
    ) -> Option<String> {
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        codes.retain(|code| is_fresh(code, now));
        let at = codes.iter().position(|known| {
            let is_for = known.label.as_deref().map_or(tls, |label| label == site);
            bool::from(known.text.as_bytes().ct_eq(code.as_bytes())) && is_for
        })?;
        codes.remove(at);
        let expires = uptime + SESSION_LIFETIME;
        self.session(site, &format!("{:x}", expires.as_secs()))
    }

    /// The session for a site, with its expiry: seconds since the boot, in base 16.
    fn session(&self, site: &str, expires: &str) -> Option<String> {
        let proof = hmac::sign(self.key.as_ref()?, format!("session {expires} {site}").as_bytes());
        Some(format!("{expires}.{}", hex(proof.as_ref())))
    }

    /// Whether this is a session at that site that has not expired.
    pub(super) fn is_session(&self, session: &[u8], site: &str, uptime: Duration) -> bool {
        let expires = std::str::from_utf8(session).ok().and_then(|text| text.split_once('.'));
        let Some((expires, _)) = expires else { return false };
        let Ok(seconds) = u64::from_str_radix(expires, 16) else { return false };
        let is_over = uptime.as_secs() >= seconds;
        let made = self.session(site, expires);
        !is_over && made.is_some_and(|made| made.as_bytes().ct_eq(session).into())
    }
}

fn is_fresh(code: &Code, now: Instant) -> bool {
    now.saturating_duration_since(code.made) < CODE_LIFETIME
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The site that a session at a host of our certificate is bound to: the host without its port.
pub(super) fn site_of(host: &[u8]) -> String {
    let text = String::from_utf8_lossy(host).to_ascii_lowercase();
    match text.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions() -> Sessions {
        Sessions::new(&PageKey::random())
    }

    #[test]
    fn a_code_is_traded_once_in_time_and_at_its_host() {
        let (sessions, now, uptime) = (sessions(), Instant::now(), Duration::from_secs(1000));
        let new = || {
            let NewCode { text, host } = sessions.new_code(false, now).unwrap();
            (text, host.unwrap().strip_suffix(".localhost").unwrap().to_owned())
        };
        let trade = |code: &str, site: &str, at| sessions.trade(code, site, false, at, uptime);
        let (code, label) = new();
        let (other_code, other_label) = new();
        assert_eq!(code.len(), 32);
        assert_eq!(trade(&code, &other_label, now), None, "another host");
        assert_eq!(trade(&code, "127.0.0.1", now), None);
        assert_eq!(trade("", &label, now), None);
        let session = trade(&code, &label, now).unwrap();
        assert_eq!(trade(&code, &label, now), None, "used");
        assert_eq!(trade(&other_code, &other_label, now + CODE_LIFETIME), None, "too old");
        let is = |site: &str, at| sessions.is_session(session.as_bytes(), site, at);
        assert!(is(&label, uptime) && !is(&other_label, uptime) && !is("localhost", uptime));
        assert!(!is(&label, uptime + SESSION_LIFETIME));
    }

    #[test]
    fn over_tls_a_code_is_for_every_host_of_ours() {
        let (sessions, now, uptime) = (sessions(), Instant::now(), Duration::from_secs(1000));
        let NewCode { text, host } = sessions.new_code(true, now).unwrap();
        assert_eq!(host, None);
        assert_eq!(sessions.trade(&text, "agent.example", false, now, uptime), None);
        let session = sessions.trade(&text, "agent.example", true, now, uptime).unwrap();
        assert!(sessions.is_session(session.as_bytes(), "agent.example", uptime));
        assert!(!sessions.is_session(session.as_bytes(), "other.example", uptime));
        assert_eq!(site_of(b"Agent.example:3000"), "agent.example");
        assert_eq!(site_of(b"[::1]:3000"), site_of(b"[::1]"));
    }

    #[test]
    fn only_our_own_names_and_sessions_count() {
        let (ours, theirs, uptime) = (sessions(), sessions(), Duration::ZERO);
        let code = ours.new_code(false, Instant::now()).unwrap();
        let host = code.host.unwrap();
        let label = host.strip_suffix(".localhost").unwrap();
        assert!(label.len() <= 63, "as long as DNS takes");
        assert!(ours.is_label(label) && !theirs.is_label(label));
        for bad in ["", "x", &label[1..], &label[..61], &format!("{label}0"), &"0".repeat(62)] {
            assert!(!ours.is_label(bad), "{bad}");
        }
        let session = ours.trade(&code.text, label, false, Instant::now(), uptime).unwrap();
        assert!(!theirs.is_session(session.as_bytes(), label, uptime));
        let (expires, proof) = session.split_once('.').unwrap();
        let longer = format!("f{expires}.{proof}");
        for bad in ["", ".", expires, &longer, &format!("{expires}."), "+1.00"] {
            assert!(!ours.is_session(bad.as_bytes(), label, uptime), "{bad}");
        }
        assert!(!ours.is_session(b"\xff.\xff", label, uptime));
    }

    #[test]
    fn codes_are_bounded_and_need_a_key() {
        let (sessions, now) = (sessions(), Instant::now());
        let codes: Vec<_> =
            (0..=CODES).map(|_| sessions.new_code(true, now).unwrap().text).collect();
        let trade = |code: &String| sessions.trade(code, "a", true, now, Duration::ZERO);
        assert!(trade(&codes[0]).is_none() && trade(&codes[1]).is_some());
        let none = Sessions::new(&PageKey::default());
        assert_eq!(none.new_code(true, now), None);
        assert!(!none.is_label(&"0".repeat(62)) && none.session("a", "f").is_none());
    }
}
