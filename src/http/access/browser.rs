//! The browser's description of a request (Fetch Metadata), and the conditions for a change.
//!
//! Browsers set these headers themselves, and let no script change them. A service worker that
//! another program has left at our address sends the same headers as our page. Only the
//! [session](super::session) distinguishes the two.

use super::refusal::Refusal;
use super::request::{AccessRequest, Act, Fetch, Header, quote};

/// Whether a browser may send this request, by its own description.
///
/// # Errors
/// The request comes from another site's page, changes something without being sent by script, or
/// is for a service worker.
pub(super) fn check(request: &AccessRequest<'_>) -> Result<(), Refusal> {
    let Fetch { site, mode, dest, service_worker } = request.fetch;
    if service_worker != Header::Absent || dest == Header::One(b"serviceworker") {
        return Err(Refusal::ServiceWorker);
    }
    if request.fetch.is_absent() {
        return Ok(());
    }
    let changes = matches!(request.act, Act::Write | Act::Trade);
    // A link may lead to the page from everywhere: the page that opens it can neither read nor
    // control it.
    let is_opened = request.act == Act::Page
        && mode == Header::One(b"navigate")
        && dest == Header::One(b"document");
    match site {
        Header::One(b"same-origin") => {}
        // The user has typed or chosen the address; or the browser is older than this header.
        Header::One(b"none") | Header::Absent if !changes => {}
        Header::One(b"same-site" | b"cross-site") if is_opened => {}
        Header::One(site) => return Err(Refusal::ForeignSite { site: quote(site) }),
        Header::Absent => return Err(Refusal::NotByScript),
        Header::Several => return Err(Refusal::ForeignSite { site: "(several)".to_owned() }),
    }
    let by_script =
        matches!(mode, Header::One(b"cors" | b"same-origin")) && dest == Header::One(b"empty");
    if changes && !by_script { Err(Refusal::NotByScript) } else { Ok(()) }
}

/// Whether a request needs a session, or the token: a browser sends it, and it changes something.
pub(super) fn needs_session(request: &AccessRequest<'_>) -> bool {
    let by_browser = request.origin != Header::Absent || !request.fetch.is_absent();
    request.act == Act::Write && by_browser
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::access::{PeerUser, Policy, decide};
    use crate::page_key::PageKey;

    const HOST: &[u8] = b"127.0.0.1:3000";
    const ORIGIN: Header<'static> = Header::One(b"http://127.0.0.1:3000");
    const TOKEN: &str = "8ePqYiqbZ4AnXB2hWx8WQg";

    /// The policy of a service whose user sends requests, with a token.
    fn policy() -> Policy {
        Policy::new(1000, Some(TOKEN.to_owned())).with_page_key(&PageKey::random())
    }

    fn fetch(site: &'static str, mode: &'static str, dest: &'static str) -> Fetch<'static> {
        let one = |text: &'static str| Header::One(text.as_bytes());
        Fetch { site: one(site), mode: one(mode), dest: one(dest), ..Fetch::default() }
    }

    /// A request as sent by the page's script, or by a service worker of its origin.
    fn by_script(act: Act) -> AccessRequest<'static> {
        let peer = Some(PeerUser { uid: 1000, is_here: true });
        let fetch = fetch("same-origin", "cors", "empty");
        AccessRequest {
            peer,
            host: Header::One(HOST),
            origin: ORIGIN,
            fetch,
            act,
            ..AccessRequest::default()
        }
    }

    fn decided(request: &AccessRequest<'_>) -> Result<(), Refusal> {
        decide(&policy(), request, 3000, false)
    }

    #[test]
    fn a_browser_without_a_session_reads_and_changes_nothing() {
        for act in [Act::Page, Act::Asset, Act::Read, Act::Trade] {
            assert_eq!(decided(&by_script(act)), Ok(()), "{act:?}");
        }
        let write = by_script(Act::Write);
        assert_eq!(decided(&write), Err(Refusal::NoSession));
        // Each of these headers alone identifies a browser.
        let only_origin = AccessRequest { fetch: Fetch::default(), ..write };
        assert_eq!(decided(&only_origin), Err(Refusal::NoSession));
        let no_origin = AccessRequest { origin: Header::Absent, ..write };
        assert_eq!(decided(&no_origin), Err(Refusal::NoSession));
        let program = AccessRequest { origin: Header::Absent, fetch: Fetch::default(), ..write };
        assert_eq!(decided(&program), Ok(()));
        let session = Header::One(b"ffffffff.00");
        assert_eq!(decided(&AccessRequest { session, ..write }), Err(Refusal::WrongSession));
        let session = Header::Several;
        assert_eq!(decided(&AccessRequest { session, ..write }), Err(Refusal::WrongSession));
        let token = format!("Bearer {TOKEN}");
        let authorization = Header::One(token.as_bytes());
        assert_eq!(decided(&AccessRequest { authorization, ..write }), Ok(()));
        let authorization = Header::One(b"Bearer x");
        assert_eq!(decided(&AccessRequest { authorization, ..write }), Err(Refusal::NoSession));
    }

    #[test]
    fn a_session_is_for_its_host_alone() {
        let policy = policy();
        let code = policy.new_code(false).unwrap();
        let host = format!("{}:3000", code.host.unwrap());
        assert!(policy.trade(&code.text, HOST, false).is_err(), "not at a shared origin");
        let session = policy.trade(&code.text, host.as_bytes(), false).unwrap();
        let origin = format!("http://{host}");
        let there = |act, session| AccessRequest {
            host: Header::One(host.as_bytes()),
            origin: Header::One(origin.as_bytes()),
            session,
            ..by_script(act)
        };
        let with = Header::One(session.as_bytes());
        for act in [Act::Page, Act::Asset, Act::Read, Act::Trade, Act::Write] {
            assert_eq!(decide(&policy, &there(act, with), 3000, false), Ok(()), "{act:?}");
        }
        assert_eq!(decide(&policy, &there(Act::Read, Header::Absent), 3000, false), Ok(()));
        let without = there(Act::Write, Header::Absent);
        assert_eq!(decide(&policy, &without, 3000, false), Err(Refusal::NoSession));
        // The session of that host does not count at another address of this service, which an
        // earlier program may have used.
        let here = AccessRequest { session: with, ..by_script(Act::Write) };
        assert_eq!(decide(&policy, &here, 3000, false), Err(Refusal::WrongSession));
        let other = format!("{}:3000", policy.new_code(false).unwrap().host.unwrap());
        let request =
            AccessRequest { host: Header::One(other.as_bytes()), ..there(Act::Write, with) };
        assert!(matches!(
            decide(&policy, &request, 3000, false),
            Err(Refusal::ForeignOrigin { .. })
        ));
        let other_origin = format!("http://{other}");
        let request = AccessRequest { origin: Header::One(other_origin.as_bytes()), ..request };
        assert_eq!(decide(&policy, &request, 3000, false), Err(Refusal::WrongSession));
        // A session admits no other user.
        let peer = Some(PeerUser { uid: 1001, is_here: true });
        let stranger = AccessRequest { peer, ..there(Act::Write, with) };
        assert!(matches!(decide(&policy, &stranger, 3000, false), Err(Refusal::Stranger { .. })));
        // Another service, or one with another keeper, does not recognize the host name.
        assert!(matches!(decided(&there(Act::Page, with)), Err(Refusal::ForeignHost { .. })));
    }

    #[test]
    fn over_tls_a_session_is_for_the_name_of_the_service() {
        let policy = policy();
        let code = policy.new_code(true).unwrap();
        let session = policy.trade(&code.text, HOST, true).unwrap();
        let write = AccessRequest {
            origin: Header::One(b"https://127.0.0.1:3000"),
            session: Header::One(session.as_bytes()),
            ..by_script(Act::Write)
        };
        assert_eq!(decide(&policy, &write, 3000, true), Ok(()));
        let plain = AccessRequest { origin: ORIGIN, ..write };
        assert_eq!(decide(&policy, &plain, 3000, false), Err(Refusal::WrongSession));
        let none = AccessRequest { session: Header::Absent, ..write };
        assert_eq!(decide(&policy, &none, 3000, true), Err(Refusal::NoSession));
    }

    #[test]
    fn pages_of_other_sites_send_nothing_and_may_only_link_to_the_page() {
        for site in ["cross-site", "same-site", "unheard-of", ""] {
            for act in [Act::Page, Act::Asset, Act::Read, Act::Write, Act::Trade] {
                for (mode, dest) in [
                    ("cors", "empty"),
                    ("no-cors", "image"),
                    ("navigate", "document"),
                    ("navigate", "iframe"),
                ] {
                    let request = AccessRequest {
                        origin: Header::Absent,
                        fetch: fetch(site, mode, dest),
                        ..by_script(act)
                    };
                    let linked = act == Act::Page && dest == "document" && site.ends_with("-site");
                    let expected = if linked {
                        Ok(())
                    } else {
                        Err(Refusal::ForeignSite { site: site.to_owned() })
                    };
                    assert_eq!(decided(&request), expected, "{site} {mode} {dest} {act:?}");
                }
            }
        }
        let several = Fetch { site: Header::Several, ..by_script(Act::Read).fetch };
        let request = AccessRequest { fetch: several, ..by_script(Act::Read) };
        assert!(matches!(decided(&request), Err(Refusal::ForeignSite { .. })));
    }

    #[test]
    fn only_a_script_of_the_page_changes_something_and_no_worker_is_registered() {
        let token = format!("Bearer {TOKEN}");
        let with = |act, fetch| {
            decided(&AccessRequest {
                fetch,
                authorization: Header::One(token.as_bytes()),
                ..by_script(act)
            })
        };
        for act in [Act::Write, Act::Trade] {
            for (mode, dest) in [
                ("navigate", "document"),
                ("no-cors", "empty"),
                ("cors", "script"),
                ("websocket", "empty"),
                ("cors", ""),
            ] {
                let fetch = fetch("same-origin", mode, dest);
                assert_eq!(with(act, fetch), Err(Refusal::NotByScript), "{mode} {dest}");
            }
            let typed = fetch("none", "navigate", "document");
            assert!(matches!(with(act, typed), Err(Refusal::ForeignSite { .. })));
            let half = Fetch { site: Header::Absent, ..fetch("", "cors", "empty") };
            assert_eq!(with(act, half), Err(Refusal::NotByScript));
            assert_eq!(with(act, fetch("same-origin", "same-origin", "empty")), Ok(()));
        }
        assert_eq!(with(Act::Read, fetch("none", "navigate", "document")), Ok(()), "typed");
        let worker = fetch("same-origin", "same-origin", "serviceworker");
        assert_eq!(with(Act::Asset, worker), Err(Refusal::ServiceWorker));
        let service_worker = Header::One(b"script");
        let older = Fetch { service_worker, ..Fetch::default() };
        assert_eq!(with(Act::Asset, older), Err(Refusal::ServiceWorker));
    }
}
