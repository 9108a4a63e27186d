//! Reasons for failures of TLS, in words for people: rustls and webpki name only their own
//! variants.

use std::io;

use jiff::Timestamp;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, Error};

/// Why a TLS handshake with a server failed; `trust` names the setting of certificates to trust.
pub fn handshake(error: &io::Error, trust: &str) -> String {
    match rustls_error(error) {
        Some(Error::InvalidCertificate(reason)) => {
            format!("server certificate refused: {}", certificate(reason, trust))
        }
        Some(error) => tls(error),
        None => match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                "the server closed the connection; does it speak TLS on this port?".to_owned()
            }
            io::ErrorKind::ConnectionReset => {
                "the server reset the connection; does it speak TLS on this port?".to_owned()
            }
            _ => error.to_string(),
        },
    }
}

/// The error of rustls within an error of the stream.
pub(super) fn rustls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref::<Error>()
}

/// The reason for a failure of TLS, certificates apart.
pub(super) fn tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(reason) => certificate(reason, "the trusted certificates"),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
            "the server's answer is not TLS; does it speak TLS on this port?".to_owned()
        }
        Error::AlertReceived(alert) => format!(
            "the server refused it with the TLS alert \"{}\"{}",
            words(&format!("{alert:?}")),
            alert_remedy(*alert)
        ),
        Error::PeerIncompatible(why) => format!(
            "the server supports no TLS version or cipher that this program has ({})",
            words(&format!("{why:?}"))
        ),
        Error::NoCertificatesPresented => "the server presented no certificate".to_owned(),
        Error::InconsistentKeys(_) => "certificate and private key do not match".to_owned(),
        Error::General(text) => text.clone(),
        error => words(&error.to_string()),
    }
}

fn alert_remedy(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::UnknownCA => {
            "; it asks for a client certificate, which agents do not have"
        }
        AlertDescription::UnrecognisedName => "; use a host name that the server knows",
        _ => "",
    }
}

/// The reason for rejecting a server's certificate, and the remedy.
pub(super) fn certificate(reason: &CertificateError, trust: &str) -> String {
    use CertificateError as E;
    let text = match reason {
        E::UnknownIssuer => format!(
            "its issuer is not trusted; if it is self-signed or issued by a private authority, name the PEM file in {trust}"
        ),
        E::Expired => expired(None),
        E::ExpiredContext { not_after, .. } => expired(Some(*not_after)),
        E::NotValidYet => not_valid_yet(None),
        E::NotValidYetContext { not_before, .. } => not_valid_yet(Some(*not_before)),
        E::NotValidForName => wrong_name("the host that was dialled", &[]),
        E::NotValidForNameContext { expected, presented } => {
            wrong_name(&name_of(expected), presented)
        }
        E::Revoked => "its issuer has revoked it; have the server's certificate replaced".to_owned(),
        E::BadSignature => {
            "its signature is wrong; the server does not hold its key, or a connection in between was tampered with"
                .to_owned()
        }
        E::BadEncoding => "it is damaged; have the server's certificate replaced".to_owned(),
        E::UnsupportedSignatureAlgorithmContext { .. }
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "it is signed by an algorithm that is not supported, such as SHA-1; have the server's certificate replaced"
                .to_owned()
        }
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => {
            "it is not meant for a TLS server (extended key usage `serverAuth`); have the server's certificate replaced"
                .to_owned()
        }
        E::UnhandledCriticalExtension => {
            "it has a critical extension that is not supported; have the server's certificate replaced".to_owned()
        }
        E::Other(other) => unusual(other.0.downcast_ref::<webpki::Error>(), trust),
        other => words(&format!("{other:?}")),
    };
    // A server chooses the content of its certificate.
    text.replace(char::is_control, "?")
}

fn unusual(error: Option<&webpki::Error>, trust: &str) -> String {
    match error {
        Some(webpki::Error::CaUsedAsEndEntity) => format!(
            "it is a CA certificate and not trusted as the server's own; name this very certificate in {trust}, or have \
             the server use one that an authority issued"
        ),
        Some(webpki::Error::EndEntityUsedAsCa) => {
            "its issuer is not an authority; have the server's certificate replaced".to_owned()
        }
        Some(webpki::Error::UnsupportedCertVersion) => {
            "it is of an old version, and only X.509 version 3 is supported; have the server's certificate replaced"
                .to_owned()
        }
        Some(error) => format!("it is not valid: {}", words(&format!("{error:?}"))),
        None => "it is not valid".to_owned(),
    }
}

fn expired(at: Option<UnixTime>) -> String {
    format!(
        "it expired{}; renew it, or set this machine's clock ({} now)",
        at.map_or_else(String::new, |at| format!(" at {}", time(at))),
        time(UnixTime::now())
    )
}

fn not_valid_yet(at: Option<UnixTime>) -> String {
    format!(
        "it is not valid yet{}; set this machine's clock ({} now), or the server's",
        at.map_or_else(String::new, |at| format!(", but from {}", time(at))),
        time(UnixTime::now())
    )
}

fn time(at: UnixTime) -> String {
    let time = i64::try_from(at.as_secs()).ok().and_then(|at| Timestamp::from_second(at).ok());
    time.map_or_else(|| "an unknown time".to_owned(), |time| time.to_string())
}

/// Maximum number of names in a message.
const NAMES: usize = 10;

fn wrong_name(host: &str, presented: &[String]) -> String {
    let mut names: Vec<&str> = presented.iter().take(NAMES).map(|name| bare(name)).collect();
    if presented.len() > NAMES {
        names.push("...");
    }
    let names = if names.is_empty() {
        "; it names no host".to_owned()
    } else {
        format!(", but for {}", names.join(", "))
    };
    format!("it is not for {host}{names}; dial the server by a name of its certificate")
}

/// A name as webpki shows it, `DnsName("host")`, without its kind.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

fn name_of(name: &ServerName<'_>) -> String {
    match name {
        ServerName::IpAddress(address) => std::net::IpAddr::from(*address).to_string(),
        name => name.to_str().into_owned(),
    }
}

/// A variant's name as words: `PathLenConstraintViolated` is "path len constraint violated". Its
/// content is omitted.
fn words(text: &str) -> String {
    let name = text.split(['(', '{']).next().unwrap_or_default().trim();
    let mut out = String::new();
    let mut before = ' ';
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            if before.is_ascii_lowercase() || before.is_ascii_digit() {
                out.push(' ');
            }
            out.push(c.to_ascii_lowercase());
        } else {
            out.push(c);
        }
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::OtherError;

    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn other(error: webpki::Error) -> CertificateError {
        CertificateError::Other(OtherError(Arc::new(error)))
    }

    #[test]
    fn refused_certificates_in_words_with_the_remedy() {
        use CertificateError as E;
        let host = ServerName::try_from("a.test").unwrap().to_owned();
        let names = vec!["DnsName(\"b.test\")".to_owned(), "IpAddress(192.0.2.7)".to_owned()];
        for (reason, parts) in [
            (E::UnknownIssuer, ["not trusted", "name the PEM file in SETTING"]),
            (
                E::ExpiredContext { time: at(9), not_after: at(1_600_000_000) },
                ["expired at 2020-09-13T12:26:40Z", "renew it"],
            ),
            (
                E::NotValidYetContext { time: at(9), not_before: at(4_000_000_000) },
                ["not valid yet, but from 2096-10-02T07:06:40Z", "clock"],
            ),
            (
                E::NotValidForNameContext { expected: host, presented: names },
                ["not for a.test, but for b.test, 192.0.2.7", "dial the server by a name"],
            ),
            (other(webpki::Error::CaUsedAsEndEntity), ["CA certificate", "in SETTING"]),
            (
                other(webpki::Error::PathLenConstraintViolated),
                ["not valid", "path len constraint violated"],
            ),
            (E::BadEncoding, ["damaged", "replaced"]),
            (E::Revoked, ["revoked", "replaced"]),
            (E::ApplicationVerificationFailure, ["application verification failure", ""]),
            (E::NotValidForName, ["names no host", "dial"]),
        ] {
            let text = certificate(&reason, "SETTING");
            assert!(parts.iter().all(|part| text.contains(part)), "{reason:?}: {text}");
            assert!(!text.contains(['{', '(']) || text.contains(" now)"), "{text}");
        }
    }

    #[test]
    fn a_name_from_the_server_cannot_begin_a_line() {
        let host = ServerName::try_from("a.test").unwrap().to_owned();
        let presented = vec!["DnsName(\"x\nINFO forged\")".to_owned(); 30];
        let text = certificate(
            &CertificateError::NotValidForNameContext { expected: host, presented },
            "SETTING",
        );
        assert!(!text.contains('\n') && text.matches("forged").count() == NAMES, "{text}");
    }

    #[test]
    fn handshakes_in_words() {
        for (error, expected) in [
            (Error::AlertReceived(AlertDescription::HandshakeFailure), "\"handshake failure\""),
            (Error::AlertReceived(AlertDescription::CertificateRequired), "client certificate"),
            (
                Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
                "does it speak TLS",
            ),
            (
                Error::PeerIncompatible(rustls::PeerIncompatible::NoCipherSuitesInCommon),
                "no cipher suites in common",
            ),
        ] {
            let text = handshake(&io::Error::new(io::ErrorKind::InvalidData, error), "SETTING");
            assert!(text.contains(expected), "{text}");
        }
        let eof = io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof");
        assert!(handshake(&eof, "SETTING").contains("closed the connection"));
    }
}
