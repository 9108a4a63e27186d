//! The page's URLs for browsers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use super::error::ApiError;

/// The addresses at which the service listens for browsers.
pub(super) struct PageUrl {
    addresses: Vec<SocketAddr>,
    tls: bool,
    /// Whether this machine has an address.
    has: fn(IpAddr) -> bool,
}

/// An address of the page, without the name below `localhost` of a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Whether it is `https://`.
    pub(super) tls: bool,
    /// With TLS, host and port.
    pub(super) authority: String,
    /// The port.
    pub(super) port: u16,
}

impl PageUrl {
    pub(super) fn new(addresses: Vec<SocketAddr>, tls: bool) -> PageUrl {
        let has = |ip| TcpListener::bind((ip, 0)).is_ok();
        PageUrl { addresses, tls, has }
    }

    /// The address for a browser of the client that sends `host`, the header `Host`, which is empty
    /// on a Unix socket; over TLS with the name `wanted`. `serves_as` says which names our
    /// certificate covers.
    ///
    /// # Errors
    /// No browser can reach the page, or the name is unknown.
    pub(super) fn address(
        &self,
        host: &str,
        wanted: Option<&str>,
        serves_as: impl Fn(&str) -> bool,
    ) -> Result<Address, ApiError> {
        let first = self.addresses.first().ok_or(ApiError::NoPage(
            "this instance serves no HTTP by TCP, which browsers need: start it with --serve, or set http.enabled",
        ))?;
        let usual = if self.tls { 443 } else { 80 };
        let port = match host {
            "" => first.port(),
            host => host.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(usual),
        };
        match (self.tls, wanted, host) {
            (true, Some(name), _) if serves_as(name) => {
                Ok(Address { tls: true, authority: format!("{name}:{port}"), port })
            }
            (true, Some(_), _) => Err(ApiError::NoPage(
                "the certificate of http.tls_cert is not for that host name; give a name of the certificate: 'procstar ui --host NAME'",
            )),
            (true, None, "") => self.by_certificate(port, serves_as),
            (_, _, host) => self.local(port, host.to_owned()),
        }
    }

    /// An address with a name of this machine that our certificate covers.
    fn by_certificate(
        &self,
        port: u16,
        serves_as: impl Fn(&str) -> bool,
    ) -> Result<Address, ApiError> {
        let is_local = |ip: IpAddr| ip.is_unspecified() || ip.is_loopback();
        let localhost =
            self.addresses.iter().any(|at| is_local(at.ip())).then(|| "localhost".to_owned());
        let own = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let ips = self.addresses.iter().map(|at| at.ip()).filter(|ip| !ip.is_unspecified());
        let ips = ips.map(|ip| if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() });
        let name = localhost.into_iter().chain(own).chain(ips).find(|name| serves_as(name));
        let name = name.ok_or(ApiError::NoPage(
            "the certificate of http.tls_cert is neither for localhost nor for this machine's name: name one that it is for by \
             `procstar ui --host NAME`",
        ))?;
        Ok(Address { tls: true, authority: format!("{name}:{port}"), port })
    }

    fn local(&self, port: u16, authority: String) -> Result<Address, ApiError> {
        const LOCALHOST: [IpAddr; 2] =
            [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let is_ours = |ip: &IpAddr| self.addresses.iter().any(|at| at.ip() == *ip);
        let problem = if self.tls {
            None
        } else if !LOCALHOST.iter().any(is_ours) {
            Some(
                "browsers resolve the page's own host name to 127.0.0.1 and [::1] alone: set http.bind to one of them",
            )
        } else if LOCALHOST.iter().any(|ip| !is_ours(ip) && (self.has)(*ip)) {
            // Another program could register a service worker there before us.
            Some(
                "this instance listens on only one of 127.0.0.1 and [::1], and another program can have the other, which a browser \
                 may try first: have it listen on both",
            )
        } else {
            None
        };
        let address = Address { tls: self.tls, authority, port };
        problem.map_or(Ok(address), |problem| Err(ApiError::NoPage(problem)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(
        at: &[&str],
        tls: bool,
        host: &str,
        names: &[&str],
    ) -> Result<(String, u16), String> {
        let addresses = at.iter().map(|at| at.parse().unwrap()).collect();
        let at = PageUrl { addresses, tls, has: |_| true };
        let found = at.address(host, None, |name| names.contains(&name));
        found.map(|found| (found.authority, found.port)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_address_is_the_clients_own_or_one_that_the_certificate_has() {
        let both = &["127.0.0.1:3000", "[::1]:3000"][..];
        let ok = |authority: &str, port| Ok((authority.to_owned(), port));
        assert_eq!(address(both, false, "", &[]), ok("", 3000));
        assert_eq!(
            address(both, false, "localhost:8080", &[]).unwrap().1,
            8080,
            "a forwarded port"
        );
        assert_eq!(address(both, false, "localhost", &[]).unwrap().1, 80);
        assert_eq!(address(both, false, "[::1]:8080", &[]).unwrap().1, 8080);
        let all = &["0.0.0.0:3000"][..];
        assert_eq!(address(all, true, "a.example:3000", &[]), ok("a.example:3000", 3000));
        assert_eq!(address(all, true, "", &["localhost"]), ok("localhost:3000", 3000));
        let one = &["192.0.2.7:3000"][..];
        assert_eq!(address(one, true, "", &["localhost", "192.0.2.7"]), ok("192.0.2.7:3000", 3000));
        assert!(address(one, true, "", &["localhost"]).unwrap_err().contains("procstar ui --host"));
        let at = PageUrl::new(vec!["[::]:3000".parse().unwrap()], true);
        let wanted = |name| at.address("", Some(name), |name| name == "a.example");
        assert_eq!(wanted("a.example").unwrap().authority, "a.example:3000");
        assert!(wanted("b.example").is_err());
        for one in both {
            assert!(address(&[one], false, "", &[]).unwrap_err().contains("only one of"));
            let addresses = vec![one.parse().unwrap()];
            let at = PageUrl { addresses, tls: false, has: |_| false };
            assert_eq!(at.address("", None, |_| false).unwrap().port, 3000, "there is no other");
        }
        assert!(address(&[], false, "", &[]).unwrap_err().contains("--serve"));
        assert!(address(&["127.0.0.5:3000"], false, "", &[]).unwrap_err().contains("http.bind"));
    }
}
