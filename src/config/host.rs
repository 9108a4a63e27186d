//! The host of a scheduler: a name or an address, and neither a URL nor a port.

use std::net::{Ipv4Addr, Ipv6Addr};

use rustls::pki_types::DnsName;

/// A value of `PROCSTAR_AGENT_HOST` for the scheduler itself, which listens in the same
/// environment. It is an error only once an agent dials it.
pub const EVERY_INTERFACE: &str = "*";

/// Whether this can be dialled, or is [`EVERY_INTERFACE`].
pub(super) fn is_host(text: &str) -> bool {
    text == EVERY_INTERFACE || is_address(text) || DnsName::try_from(text).is_ok()
}

/// An IPv4 address, or an IPv6 one, which may have brackets and a zone.
fn is_address(text: &str) -> bool {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = match bare.split_once('%') {
        Some((address, zone)) if !zone.is_empty() => address,
        _ => bare,
    };
    address.parse::<Ipv6Addr>().is_ok() || text.parse::<Ipv4Addr>().is_ok()
}

/// The likely correct value, if it can be guessed.
pub(super) fn remedy(text: &str) -> String {
    let rest = text.trim();
    let rest = rest.split_once("://").map_or(rest, |(_, rest)| rest);
    let rest = rest.split(['/', '?', '#']).next().unwrap_or_default().trim();
    let (host, port) = if is_host(rest) { (rest, None) } else { split_port(rest) };
    if !is_host(host) || host == EVERY_INTERFACE {
        return if text.is_ascii() {
            String::new()
        } else {
            "; write an international name in its ASCII form, xn--...".to_owned()
        };
    }
    let port = port.map_or_else(String::new, |port| {
        format!(", and its port {port} as agent.port (--agent-port {port}, PROCSTAR_AGENT_PORT)")
    });
    format!("; write the host alone, {host:?}{port}")
}

fn split_port(text: &str) -> (&str, Option<u16>) {
    match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses() {
        for host in [
            "h",
            "scheduler.example.com",
            "a_b.test",
            "h.test.",
            "192.0.2.7",
            "::1",
            "[2001:db8::7]",
            "fe80::1%eth0",
            "[fe80::1%2]",
            "*",
        ] {
            assert!(is_host(host), "{host}");
        }
        for no in [
            "",
            "wss://h",
            "h:59789",
            "h/path",
            "a b",
            " h",
            "h ",
            "[::1]:59789",
            "[h]",
            "1.2.3.4:5",
            "fe80::1%",
            "é.test",
            "1.2.3.999",
            "-h.test",
            "h..test",
            "a,b",
            "user@h",
            "[192.0.2.7]",
        ] {
            assert!(!is_host(no), "{no}");
        }
    }

    #[test]
    fn a_remedy_is_the_host_alone_and_where_its_port_goes() {
        for (text, host, port) in [
            ("wss://h.test:7000/x?y", "h.test", "--agent-port 7000"),
            ("https://h.test", "h.test", ""),
            ("h.test:59789", "h.test", "--agent-port 59789"),
            ("h.test/path", "h.test", ""),
            (" h.test ", "h.test", ""),
            ("[::1]:59789", "[::1]", "--agent-port 59789"),
        ] {
            let remedy = remedy(text);
            assert!(remedy.contains(&format!("host alone, \"{host}\"")), "{text}: {remedy}");
            assert!(remedy.contains(port), "{text}: {remedy}");
        }
        assert_eq!(remedy("a b"), "");
        assert!(remedy("é.test").contains("xn--"));
    }
}
