//! The search for the target instance.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use awc::http::Uri;

use super::address::{InstanceAddress, is_loopback};
use super::error::ClientError;
use super::options::Target;
use crate::cli::instances::{SEARCH_INTERVAL, START_TIMEOUT, Search};
use crate::config::{Env, Settings};
use crate::http::SocketPath;
use crate::trust::{self, Need, Untrusted};

/// The address of the target instance: the first of `--socket`, `--url`, `--pid`, `$PROCSTAR_URL`,
/// `http.socket`, `run.state_dir`, and the only instance that this user runs.
///
/// # Errors
/// No instance, or several; an invalid URL; a token that cannot be read.
pub fn find(
    target: &Target,
    settings: &Settings,
    env: &Env,
) -> Result<InstanceAddress, ClientError> {
    let search = Search::new(target.pid, settings, env);
    let place = named(target, settings, env, &search)?;
    await_listener(&place, &search);
    Ok(place)
}

fn named(
    target: &Target,
    settings: &Settings,
    env: &Env,
    search: &Search,
) -> Result<InstanceAddress, ClientError> {
    if let Some(path) = &target.socket {
        return no_url_options(target).map(|()| InstanceAddress::Socket(path.clone()));
    }
    let variable = || env.get(std::ffi::OsStr::new("PROCSTAR_URL")).filter(|url| !url.is_empty());
    let url = match (&target.url, target.pid) {
        (Some(url), _) => Some(url.clone()),
        (None, None) => variable()
            .map(|url| url.clone().into_string())
            .transpose()
            .map_err(|_| ClientError::Usage("PROCSTAR_URL: not UTF-8".into()))?,
        (None, Some(_)) => None,
    };
    if let Some(url) = url {
        return at_url(&url, target, settings);
    }
    no_url_options(target)?;
    if let (Some(path), None) = (&settings.http.socket, target.pid) {
        return Ok(InstanceAddress::Socket(path.clone()));
    }
    match search.one_to_ask() {
        Ok(running) => Ok(InstanceAddress::Socket(running.socket())),
        Err(unfound) => Err(ClientError::Nowhere(unfound.to_string())),
    }
}

fn no_url_options(target: &Target) -> Result<(), ClientError> {
    let given = [
        ("--token", target.token.is_some()),
        ("--token-file", target.token_file.is_some()),
        ("--ca", target.ca.is_some()),
    ];
    match given.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((name, _)) => {
            Err(ClientError::Usage(format!("{name} needs a URL; add --url, or set PROCSTAR_URL")))
        }
    }
}

fn at_url(url: &str, target: &Target, settings: &Settings) -> Result<InstanceAddress, ClientError> {
    let wrong = |why: &str| {
        ClientError::Usage(format!(
            "invalid URL {url:?}: {why}; expected http://HOST:PORT or https://HOST:PORT"
        ))
    };
    let base: Uri = url.parse().map_err(|_| wrong("malformed"))?;
    let encrypted = match base.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(wrong("missing http:// or https://")),
    };
    let host = base.host().ok_or_else(|| wrong("missing host"))?;
    if !matches!(base.path(), "" | "/") || base.query().is_some() {
        return Err(wrong("unexpected path"));
    }
    if base.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(wrong("contains a name or password; use --token-file"));
    }
    let token = token(target, settings)?;
    if token.is_some() && !encrypted && !is_loopback(host) {
        return Err(ClientError::Usage(format!(
            "refusing to send a token to {host} unencrypted, where others can read it; use https://"
        )));
    }
    Ok(InstanceAddress::Url { base, token, ca: target.ca.clone() })
}

/// The token: from the command line, else from the configuration with its variables and files.
fn token(target: &Target, settings: &Settings) -> Result<Option<String>, ClientError> {
    if let Some(token) = &target.token {
        return Ok(Some(token.clone()));
    }
    let Some(path) = &target.token_file else {
        return Ok(settings.http.token.as_ref().map(|token| token.expose().to_owned()));
    };
    trust::check(path, Need::Secrecy).map_err(|error| unread(path, error))?;
    let text =
        std::fs::read_to_string(path).map_err(|error| unread(path, Untrusted::Unknown(error)))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    if text.is_empty() || text.contains(char::is_control) {
        return Err(ClientError::Usage(format!(
            "{}: invalid token file: expected one line",
            path.display()
        )));
    }
    Ok(Some(text.to_owned()))
}

/// The error of a token file.
fn unread(path: &Path, error: Untrusted) -> ClientError {
    match error {
        Untrusted::Unknown(source) => {
            ClientError::Read { path: path.display().to_string(), source }
        }
        Untrusted::Exposed(exposure) => {
            ClientError::Usage(format!("refusing token file {}: {exposure}", path.display()))
        }
    }
}

/// Waits until somebody listens at an address, as long as an instance is evidently starting.
fn await_listener(place: &InstanceAddress, search: &Search) {
    let deadline = Instant::now() + START_TIMEOUT;
    let is_pending = || match place {
        InstanceAddress::Socket(_) => is_refused(place) && search.is_one_starting(),
        // A server of another kind could mistake a probe for a client.
        InstanceAddress::Url { .. } => search.is_one_starting() && is_refused(place),
    };
    while is_pending() && Instant::now() < deadline {
        std::thread::sleep(SEARCH_INTERVAL);
    }
}

/// Whether nobody listens at an address of this machine.
fn is_refused(place: &InstanceAddress) -> bool {
    let connected = match place {
        InstanceAddress::Socket(path) => {
            SocketPath::new(path).and_then(|short| UnixStream::connect(short.path()).map(drop))
        }
        InstanceAddress::Url { base, .. } => match base.host().filter(|host| is_loopback(host)) {
            Some(host) => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let usual = if base.scheme_str() == Some("https") { 443 } else { 80 };
                TcpStream::connect((host, base.port_u16().unwrap_or(usual))).map(drop)
            }
            None => Ok(()),
        },
    };
    let kinds = [ErrorKind::NotFound, ErrorKind::ConnectionRefused];
    connected.is_err_and(|error| kinds.contains(&error.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(target: &Target, env: &[(&str, &str)]) -> Result<InstanceAddress, String> {
        let env = env.iter().map(|(name, value)| (name.into(), value.into())).collect();
        let mut settings = Settings::default();
        let named = |env: &Env| env.get(std::ffi::OsStr::new("PROCSTAR_RUN_RUNTIME_DIR")).cloned();
        settings.run.runtime_dir = named(&env).map(Into::into);
        find(target, &settings, &env).map_err(|error| error.to_string())
    }

    #[test]
    fn urls_are_checked_before_a_token_is_sent() {
        for (url, wanted) in [
            ("localhost:3000", "missing http:// or https://"),
            ("ftp://x", "missing http:// or https://"),
            ("http://x/procs", "unexpected path"),
            ("https://me:secret@x", "use --token-file"),
            ("http://example.com:3000", "refusing to send a token to example.com unencrypted"),
            ("https://example.com:3000", ""),
            ("http://localhost:3000", ""),
            ("http://127.0.0.7:3000", ""),
            ("http://[::1]:3000/", ""),
        ] {
            let target =
                Target { url: Some(url.into()), token: Some("t".into()), ..Target::default() };
            match found(&target, &[]) {
                Ok(InstanceAddress::Url { token, .. }) => {
                    assert_eq!((wanted, token.as_deref()), ("", Some("t")), "{url}");
                }
                other => {
                    let error = other.unwrap_err();
                    assert!(!wanted.is_empty() && error.contains(wanted), "{url}: {error}");
                }
            }
        }
    }

    #[test]
    fn a_named_address_precedes_a_discovered_one() {
        let base = tempfile::tempdir().unwrap();
        let tmp = base.path().to_str().unwrap();
        let socket = Target { socket: Some("/x.sock".into()), ..Target::default() };
        let env = [("PROCSTAR_URL", "http://localhost:1"), ("PROCSTAR_RUN_RUNTIME_DIR", tmp)];
        assert_eq!(found(&socket, &env), Ok(InstanceAddress::Socket("/x.sock".into())));
        assert!(matches!(found(&Target::default(), &env), Ok(InstanceAddress::Url { .. })));
        // A pid belongs to this machine, even if the variable names another.
        let pid = Target { pid: Some(7), ..Target::default() };
        let error = found(&pid, &env).unwrap_err();
        assert!(error.starts_with(&format!("no instance of this user with pid 7 runs in {tmp};")));
        let token = Target { token: Some("t".into()), ..Target::default() };
        assert!(found(&token, &env[1..]).unwrap_err().starts_with("--token needs a URL"));
    }
}
