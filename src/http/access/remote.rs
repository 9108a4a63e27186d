//! Access from other machines: with the token or a certificate, and for a name of ours.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;

use crate::net::tls_server::ServerTls;
use crate::rotating::Rotating;

use super::session::site_of;
use super::{AccessRequest, Bearer, Header, Policy, Refusal, browser, quote};

/// The input, besides the token, of the decision on a request from another machine.
#[derive(Clone)]
pub struct Remote {
    /// Our certificate: requests must be for one of its names.
    certificate: Arc<dyn Fn() -> CertificateDer<'static> + Send + Sync>,
}

impl Remote {
    /// Admits requests for a name of this certificate.
    pub fn new(certificate: CertificateDer<'static>) -> Self {
        Remote { certificate: Arc::new(move || certificate.clone()) }
    }

    /// Admits requests for a name of the certificate that is current at the time.
    pub fn rotating(tls: Rotating<ServerTls>) -> Self {
        Remote { certificate: Arc::new(move || tls.get().certificate.clone()) }
    }

    /// Whether our certificate covers `host`, a name or an address, with or without a port.
    fn is_ours(&self, host: &[u8]) -> bool {
        let name = std::str::from_utf8(host).ok().and_then(server_name);
        let certificate = (self.certificate)();
        let parsed = ParsedCertificate::try_from(&certificate);
        match (name, parsed) {
            (Some(name), Ok(parsed)) => verify_server_name(&parsed, &name).is_ok(),
            _ => false,
        }
    }
}

/// The host of `HOST` or `HOST:PORT`.
fn server_name(authority: &str) -> Option<ServerName<'_>> {
    let port_is_one = |port: &str| {
        port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok())
    };
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address = address.parse::<Ipv6Addr>().ok()?;
        return port_is_one(port).then(|| IpAddr::V6(address).into());
    }
    let (host, port) =
        authority.split_at_checked(authority.find(':').unwrap_or(authority.len()))?;
    if !port_is_one(port) {
        return None;
    }
    ServerName::try_from(host).ok()
}

impl Policy {
    /// Whether our certificate covers a name, which is without a port.
    pub fn serves_as(&self, name: &str) -> bool {
        self.remote.as_ref().is_some_and(|remote| remote.is_ours(name.as_bytes()))
    }

    /// Decides whether a request from another machine, over TLS, is answered. `certified` says
    /// whether its connection has a verified certificate. `port`, the one that we listen on, is for
    /// the texts of refusals.
    ///
    /// # Errors
    /// The refusal, for the body of a 403.
    pub fn decide_remote(
        &self,
        request: &AccessRequest<'_>,
        certified: bool,
        port: u16,
    ) -> Result<(), Refusal> {
        let host = match request.host {
            Header::Absent => return Err(Refusal::NoHost { port }),
            Header::Several => return Err(Refusal::SeveralHosts { port }),
            Header::One(host) => host,
        };
        if !self.remote.as_ref().is_some_and(|remote| remote.is_ours(host)) {
            return Err(Refusal::UncertifiedHost { host: quote(host) });
        }
        let same = |origin: &[u8]| {
            let site = origin.split_at_checked(b"https://".len());
            site.is_some_and(|(scheme, authority)| {
                scheme.eq_ignore_ascii_case(b"https://") && authority.eq_ignore_ascii_case(host)
            })
        };
        match request.origin {
            Header::Absent => {}
            Header::One(origin) if same(origin) => {}
            Header::One(origin) => return Err(Refusal::ForeignOrigin { origin: quote(origin) }),
            Header::Several => {
                return Err(Refusal::ForeignOrigin { origin: "(several)".to_owned() });
            }
        }
        browser::check(request)?;
        if !certified {
            super::check_bearer(self, request.authorization).map_err(|bearer| match bearer {
                Bearer::NotConfigured => Refusal::NoCertificate,
                bearer => Refusal::NoToken { bearer },
            })?;
        }
        // A browser sends its certificate to any program at this address.
        self.check_session(request, Some(&site_of(host)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::access::PeerUser;

    fn policy(token: Option<&str>) -> Policy {
        let names = ["agent.example", "*.wild.example", "192.0.2.7", "2001:db8::7"];
        let made = rcgen::generate_simple_self_signed(names.map(str::to_owned)).unwrap();
        Policy::new(1000, token.map(str::to_owned))
            .with_remote(Remote::new(made.cert.der().clone()))
    }

    fn ask(
        policy: &Policy,
        host: &[u8],
        origin: Header<'_>,
        bearer: Header<'_>,
    ) -> Result<(), String> {
        // Its user on this machine does not matter.
        let peer = Some(PeerUser { uid: 1000, is_here: true });
        let host = Header::One(host);
        let request =
            AccessRequest { peer, host, origin, authorization: bearer, ..AccessRequest::default() };
        policy.decide_remote(&request, false, 3000).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn names_are_those_of_our_certificate() {
        let policy = policy(Some("s3cret"));
        let bearer = Header::One(b"Bearer s3cret");
        for host in [
            "agent.example",
            "AGENT.example:3000",
            "a.wild.example",
            "192.0.2.7:1",
            "[2001:db8::7]",
        ] {
            assert_eq!(ask(&policy, host.as_bytes(), Header::Absent, bearer), Ok(()), "{host}");
        }
        for host in [
            "localhost",
            "127.0.0.1",
            "evil.example",
            "agent.example.evil",
            "a.b.wild.example",
            "192.0.2.8",
            "[2001:db8::8]",
            "agent.example:x",
            "agent.example:1:2",
            "[2001:db8::7",
            "",
            "\u{fffd}",
        ] {
            let refusal = ask(&policy, host.as_bytes(), Header::Absent, bearer).unwrap_err();
            assert!(refusal.contains("certificate"), "{host}: {refusal}");
        }
    }

    #[test]
    fn origins_are_our_own() {
        let policy = policy(Some("s3cret"));
        let bearer = Header::One(b"Bearer s3cret");
        let host = b"agent.example:3000";
        assert_eq!(ask(&policy, host, Header::One(b"https://agent.example:3000"), bearer), Ok(()));
        for origin in [
            "http://agent.example:3000",
            "https://agent.example",
            "https://evil.example",
            "null",
            "",
        ] {
            let refusal = ask(&policy, host, Header::One(origin.as_bytes()), bearer).unwrap_err();
            assert!(refusal.starts_with("origin "), "{origin}: {refusal}");
        }
        assert!(ask(&policy, host, Header::Several, bearer).is_err());
    }

    #[test]
    fn a_token_or_a_certificate_is_needed() {
        let host = b"agent.example";
        for (token, bearer, words) in [
            (Some("s3cret"), Header::Absent, "send the configured HTTP token"),
            (Some("s3cret"), Header::One(&b"Bearer wrong"[..]), "another token than http.token"),
            (Some("s3cret"), Header::One(&b"Bearer s3cre"[..]), "another token than http.token"),
            (Some("s3cret"), Header::Several, "another token than http.token"),
            (None, Header::One(&b"Bearer "[..]), "client certificate"),
        ] {
            let refusal = ask(&policy(token), host, Header::Absent, bearer).unwrap_err();
            assert!(refusal.contains(words) && !refusal.contains("s3cret"), "{refusal}");
        }
        let request = AccessRequest { host: Header::One(host), ..AccessRequest::default() };
        assert_eq!(policy(None).decide_remote(&request, true, 3000), Ok(()));
        // Without a certificate of our own, no other machine is admitted.
        let none = Policy::new(1000, Some("s3cret".to_owned()));
        assert!(none.decide_remote(&request, true, 3000).is_err());
    }
}
