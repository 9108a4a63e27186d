//! A scheduler's answer to the request for a WebSocket: heads of HTTP, of which the last one
//! counts.

use std::fmt;

use actix_web::http::StatusCode;

/// Maximum number of headers, more than any server or gateway sends.
const HEADERS: usize = 100;
/// Maximum length of a redirect's target in messages.
const LOCATION: usize = 200;

/// A final answer that is not a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Its reason, as sent by the server, or the standard one.
    pub reason: String,
    /// The target of a redirect.
    pub location: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { status, reason, location } = self;
        write!(f, "server answered {}", format!("{status} {reason}").trim_end())?;
        match (status, location) {
            (300..=399, Some(to)) => write!(
                f,
                ", a redirect to {to}; redirects are not followed: set agent.host and agent.port to that server"
            ),
            (300..=399, None) => f.write_str("; redirects are not followed"),
            (401 | 403 | 407, _) => f.write_str(
                "; access refused: a gateway before the server wants credentials, or does not let this host in",
            ),
            (408 | 425 | 429 | 500 | 502..=599, _) => {
                f.write_str("; it, or a gateway before it, is not ready")
            }
            _ => f.write_str("; it is not a websocket server: check agent.host and agent.port"),
        }
    }
}

/// The result of parsing an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Parsed {
    /// More bytes are needed.
    Partial,
    /// A head of this length that announces another.
    Interim(usize),
    /// The acceptance, of this length.
    Switched(usize),
    /// Something else.
    Refused(Refusal),
    /// An invalid answer, and the reason.
    Bad(String),
}

/// Parses the first head of `bytes`; `accept` proves that the server has understood our key.
pub(super) fn parse(bytes: &[u8], accept: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let len = match head.parse(bytes) {
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Ok(httparse::Status::Complete(len)) => len,
        Err(error) => return Parsed::Bad(format!("the server's answer is not HTTP: {error}")),
    };
    let status = head.code.unwrap_or_default();
    match status {
        101 => match consents(&head, accept) {
            Ok(()) => Parsed::Switched(len),
            Err(wrong) => Parsed::Bad(format!("the server switches protocols, but {wrong}")),
        },
        100..=199 => Parsed::Interim(len),
        _ => Parsed::Refused(Refusal {
            status,
            reason: reason(status, head.reason),
            location: location(&head),
        }),
    }
}

fn reason(status: u16, given: Option<&str>) -> String {
    let known = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    given.filter(|given| !given.is_empty()).or(known).unwrap_or_default().to_owned()
}

fn location(head: &httparse::Response<'_, '_>) -> Option<String> {
    let to = values(head, "location").next()?;
    Some(String::from_utf8_lossy(to).escape_debug().take(LOCATION).collect())
}

fn values<'h>(
    head: &'h httparse::Response<'_, '_>,
    name: &'h str,
) -> impl Iterator<Item = &'h [u8]> {
    let named = move |header: &&httparse::Header<'_>| header.name.eq_ignore_ascii_case(name);
    head.headers.iter().filter(named).map(|header| header.value)
}

fn consents(head: &httparse::Response<'_, '_>, accept: &[u8]) -> Result<(), &'static str> {
    let has = |name, word: &[u8]| {
        let mut words = values(head, name).flat_map(|value| value.split(|byte| *byte == b','));
        words.any(|found| found.trim_ascii().eq_ignore_ascii_case(word))
    };
    if !has("upgrade", b"websocket") {
        return Err("not to websocket");
    }
    if !has("connection", b"upgrade") {
        return Err("its header Connection lacks `upgrade`");
    }
    if !values(head, "sec-websocket-accept").any(|found| found.trim_ascii() == accept) {
        return Err("its header Sec-WebSocket-Accept is wrong");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
                          sec-websocket-accept: right\r\n\r\n";

    fn refusal(head: &str) -> String {
        match parse(format!("{head}\r\n\r\n").as_bytes(), b"right") {
            Parsed::Refused(refusal) => refusal.to_string(),
            other => panic!("{head}: {other:?}"),
        }
    }

    #[test]
    fn a_refusal_names_status_reason_and_remedy() {
        for (head, expected) in [
            ("HTTP/1.1 503 Service Unavailable", "503 Service Unavailable; it, or a gateway"),
            ("HTTP/1.1 503 ", "503 Service Unavailable; it, or a gateway"),
            ("HTTP/1.1 502 Upstream Away", "502 Upstream Away; it, or a gateway"),
            ("HTTP/1.1 401 Unauthorized", "401 Unauthorized; access refused"),
            ("HTTP/1.0 403 Forbidden", "403 Forbidden; access refused"),
            (
                "HTTP/1.1 302 Found\r\nLocation: https://other.test/x",
                "302 Found, a redirect to https://other.test/x; redirects are not followed",
            ),
            ("HTTP/1.1 308 Permanent Redirect", "308 Permanent Redirect; redirects are not"),
            ("HTTP/1.1 404 Not Found", "404 Not Found; it is not a websocket server"),
            ("HTTP/1.1 200 OK", "200 OK; it is not a websocket server"),
            ("HTTP/1.1 599", "599; it, or a gateway"),
        ] {
            let text = refusal(head);
            assert!(text.starts_with(&format!("server answered {expected}")), "{text}");
        }
        for head in ["HTTP/1.1 503 Service Unavailable", "HTTP/1.1 502 Bad Gateway"] {
            assert!(!refusal(head).contains("websocket server"));
        }
    }

    #[test]
    fn only_the_last_head_counts_and_only_a_proper_one_is_a_consent() {
        assert_eq!(parse(SWITCH.as_bytes(), b"right"), Parsed::Switched(SWITCH.len()));
        let interim = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n";
        let both = format!("{interim}{SWITCH}");
        assert_eq!(parse(both.as_bytes(), b"right"), Parsed::Interim(interim.len()));
        for at in 0..SWITCH.len() {
            assert_eq!(parse(&SWITCH.as_bytes()[..at], b"right"), Parsed::Partial);
        }
        for (wrong, by) in [("right", "left"), ("WebSocket", "h2c"), ("keep-alive, Upgrade", "x")] {
            let head = SWITCH.replace(wrong, by);
            assert!(matches!(parse(head.as_bytes(), b"right"), Parsed::Bad(_)), "{head}");
        }
        assert!(matches!(parse(b"220 mail.test ESMTP\r\n\r\n", b"right"), Parsed::Bad(_)));
    }
}
