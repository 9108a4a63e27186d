//! What a request's path asks for.
//!
//! Paths are read here and not by actix-web's router: that one decodes a path partly before it looks for a match, so that neither
//! `%2F` nor `%25` in an ID would come through as sent. Here a path is split where it has a slash, and then each
//! segment is decoded, once. Nothing is normalised: `..`, an empty segment and a slash at the end are what they are.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::spec::ProcId;

/// The kinds of places that the service has, each with its path as the API's description has it, and its methods as the header
/// `Allow` lists them.
macro_rules! places {
    ($($name:ident, $template:literal, $allow:literal;)*) => {
        /// A kind of place.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Endpoint {
            $(#[doc = $template] $name,)*
        }

        impl Endpoint {
            /// Every one.
            #[cfg(test)]
            pub(super) const ALL: &'static [Endpoint] = &[$(Endpoint::$name,)*];

            /// The path, with `{id}`, `{fd}` and `{signal}` for what differs.
            #[cfg(test)]
            pub(super) fn template(self) -> &'static str {
                match self {
                    $(Endpoint::$name => $template,)*
                }
            }

            /// The methods.
            pub(super) fn allow(self) -> &'static str {
                match self {
                    $(Endpoint::$name => $allow,)*
                }
            }
        }
    };
}

places! {
    Procs, "/procs", "GET, HEAD, POST, DELETE";
    Proc, "/procs/{id}", "GET, HEAD, DELETE";
    Stop, "/procs/{id}/stop", "POST";
    Signal, "/procs/{id}/signals/{signal}", "POST";
    Data, "/procs/{id}/output/{fd}/data", "GET, HEAD";
    Follow, "/procs/{id}/output/{fd}/follow", "GET, HEAD";
    Events, "/events", "GET, HEAD";
    EventsSocket, "/events/ws", "GET";
    Agent, "/agent", "GET, HEAD";
    LogLevel, "/log-level", "GET, HEAD, PUT";
    Healthz, "/healthz", "GET, HEAD";
    Readyz, "/readyz", "GET, HEAD";
    Metrics, "/metrics", "GET, HEAD";
    OpenApi, "/openapi.json", "GET, HEAD";
    SessionCodes, "/session-codes", "POST";
    Sessions, "/sessions", "POST";
    Page, "/", "GET, HEAD";
    Asset, "/ui/{file}", "GET, HEAD";
}

/// A place that the service has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// One without anything that differs.
    Plain(Endpoint),
    /// `/procs/ID`.
    Proc(ProcId),
    /// `/procs/ID/stop`.
    Stop(ProcId),
    /// `/procs/ID/signals/SIGNAL`.
    Signal {
        /// The process.
        id: ProcId,
        /// The signal, by name or number, as the client wrote it.
        signal: String,
    },
    /// `/procs/ID/output/FD/data`.
    Data {
        /// The process.
        id: ProcId,
        /// The fd, as the client wrote it.
        fd: String,
    },
    /// `/ui/FILE`: a file of the page.
    Asset(String),
    /// `/procs/ID/output/FD/follow`.
    Follow {
        /// The process.
        id: ProcId,
        /// The fd, as the client wrote it.
        fd: String,
    },
}

/// A path that leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RouteError {
    /// There is no such place.
    #[error("unknown path: this service has /procs, /events, /agent, and what /openapi.json lists")]
    Unknown,
    /// A `%` without two hexadecimal digits after it.
    #[error(
        "malformed path: a `%` is not followed by two hexadecimal digits (a `%` itself is `%25`)"
    )]
    Percent,
    /// A segment that is no text.
    #[error("malformed path: it is not UTF-8 once decoded")]
    NotUtf8,
}

impl Route {
    /// Reads a path as it stands in the request line, without its query.
    ///
    /// # Errors
    /// Where it leads nowhere, or cannot be decoded.
    pub(super) fn parse(path: &str) -> Result<Route, RouteError> {
        let segments = path.strip_prefix('/').ok_or(RouteError::Unknown)?.split('/');
        let segments = segments.map(decode).collect::<Result<Vec<_>, _>>()?;
        let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        let plain = |endpoint| Ok(Route::Plain(endpoint));
        match *segments.as_slice() {
            ["procs"] => plain(Endpoint::Procs),
            ["procs", id] => Ok(Route::Proc(id.into())),
            ["procs", id, "stop"] => Ok(Route::Stop(id.into())),
            ["procs", id, "signals", signal] => {
                Ok(Route::Signal { id: id.into(), signal: signal.to_owned() })
            }
            ["procs", id, "output", fd, "data"] => {
                Ok(Route::Data { id: id.into(), fd: fd.to_owned() })
            }
            ["procs", id, "output", fd, "follow"] => {
                Ok(Route::Follow { id: id.into(), fd: fd.to_owned() })
            }
            ["events"] => plain(Endpoint::Events),
            ["events", "ws"] => plain(Endpoint::EventsSocket),
            ["agent"] => plain(Endpoint::Agent),
            ["log-level"] => plain(Endpoint::LogLevel),
            ["healthz"] => plain(Endpoint::Healthz),
            ["readyz"] => plain(Endpoint::Readyz),
            ["metrics"] => plain(Endpoint::Metrics),
            ["openapi.json"] => plain(Endpoint::OpenApi),
            ["session-codes"] => plain(Endpoint::SessionCodes),
            ["sessions"] => plain(Endpoint::Sessions),
            [""] => plain(Endpoint::Page),
            ["ui", file] => Ok(Route::Asset(file.to_owned())),
            _ => Err(RouteError::Unknown),
        }
    }

    /// The kind of place that it is.
    pub(super) fn endpoint(&self) -> Endpoint {
        match self {
            Route::Plain(endpoint) => *endpoint,
            Route::Proc(_) => Endpoint::Proc,
            Route::Stop(_) => Endpoint::Stop,
            Route::Signal { .. } => Endpoint::Signal,
            Route::Data { .. } => Endpoint::Data,
            Route::Follow { .. } => Endpoint::Follow,
            Route::Asset(_) => Endpoint::Asset,
        }
    }

    /// The methods that the place takes, as the header `Allow` lists them.
    pub(super) fn allow(&self) -> &'static str {
        self.endpoint().allow()
    }
}

fn decode(segment: &str) -> Result<Cow<'_, str>, RouteError> {
    // The decoder leaves a `%` that encodes nothing as it is; then one ID could be written in two ways.
    let mut after_percents = segment.split('%').skip(1);
    if !after_percents.all(|rest| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2) {
        return Err(RouteError::Percent);
    }
    percent_decode_str(segment).decode_utf8().map_err(|_| RouteError::NotUtf8)
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths() {
        let proc = |id: &str| Ok(Route::Proc(id.into()));
        let output = |id: &str, fd: &str| Ok(Route::Data { id: id.into(), fd: fd.to_owned() });
        let signal =
            |id: &str, name: &str| Ok(Route::Signal { id: id.into(), signal: name.to_owned() });
        for (path, route) in [
            ("/procs", Ok(Route::Plain(Endpoint::Procs))),
            ("/%70rocs", Ok(Route::Plain(Endpoint::Procs))),
            ("/procs/", proc("")),
            ("/procs/a", proc("a")),
            ("/procs/a%2Fb", proc("a/b")),
            ("/procs/a%2fb", proc("a/b")),
            ("/procs/%25", proc("%")),
            ("/procs/%252F", proc("%2F")),
            ("/procs/a+b%20c", proc("a+b c")),
            ("/procs/..", proc("..")),
            ("/procs/%2e%2e", proc("..")),
            ("/procs/%C3%A4%00", proc("ä\0")),
            ("/procs/procs", proc("procs")),
            ("/procs/%FF", Err(RouteError::NotUtf8)),
            ("/procs/%ED%A0%80", Err(RouteError::NotUtf8)),
            ("/procs/%", Err(RouteError::Percent)),
            ("/procs/%2", Err(RouteError::Percent)),
            ("/procs/%+2", Err(RouteError::Percent)),
            ("/procs/%%32", Err(RouteError::Percent)),
            ("/procs/a/", Err(RouteError::Unknown)),
            ("/procs/a/signals", Err(RouteError::Unknown)),
            ("/procs/a/stop", Ok(Route::Stop("a".into()))),
            ("/procs//stop", Ok(Route::Stop("".into()))),
            ("/procs/stop", proc("stop")),
            ("/events", Ok(Route::Plain(Endpoint::Events))),
            ("/events/", Err(RouteError::Unknown)),
            ("/events/ws", Ok(Route::Plain(Endpoint::EventsSocket))),
            ("/openapi%2Ejson", Ok(Route::Plain(Endpoint::OpenApi))),
            ("/procs/a/signals/TERM", signal("a", "TERM")),
            ("/procs/a/signals/SIGRTMIN%2B3", signal("a", "SIGRTMIN+3")),
            ("/procs/a/signals/TERM/", Err(RouteError::Unknown)),
            ("/procs//signals/9", signal("", "9")),
            ("/procs/a/output/stdout", Err(RouteError::Unknown)),
            ("/procs/a/output/stdout/data", output("a", "stdout")),
            ("/procs/a/output/1%2F2/data", output("a", "1/2")),
            ("/procs/a/output/stdout/data/x", Err(RouteError::Unknown)),
            ("/procs%2Fa", Err(RouteError::Unknown)),
            ("/Procs", Err(RouteError::Unknown)),
            ("/", Ok(Route::Plain(Endpoint::Page))),
            ("/ui", Err(RouteError::Unknown)),
            ("/ui/a%2Fb", Ok(Route::Asset("a/b".to_owned()))),
            ("/ui/app.js/", Err(RouteError::Unknown)),
            ("", Err(RouteError::Unknown)),
            ("*", Err(RouteError::Unknown)),
        ] {
            assert_eq!(Route::parse(path), route, "{path}");
        }
    }

    #[test]
    fn every_place_is_reached_by_its_path() {
        for endpoint in Endpoint::ALL {
            let path = endpoint.template().replace("{id}", "a%2Fb").replace("{fd}", "stdout");
            let path = path.replace("{file}", "app.js");
            let route = Route::parse(&path.replace("{signal}", "TERM")).unwrap();
            assert_eq!((route.endpoint(), route.allow()), (*endpoint, endpoint.allow()), "{path}");
        }
    }

    proptest! {
        /// As the existing client sends them: everything but letters and digits encoded.
        #[test]
        fn any_text_is_an_id_an_fd_or_a_signal(id: String, other: String) {
            let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let (sent, also_sent) = (encode(&id), encode(&other));
            let id = ProcId::from(id);
            prop_assert_eq!(Route::parse(&format!("/procs/{sent}")), Ok(Route::Proc(id.clone())));
            prop_assert_eq!(
                Route::parse(&format!("/procs/{sent}/output/{also_sent}/data")),
                Ok(Route::Data { id: id.clone(), fd: other.clone() })
            );
            prop_assert_eq!(
                Route::parse(&format!("/procs/{sent}/signals/{also_sent}")),
                Ok(Route::Signal { id, signal: other })
            );
        }

        #[test]
        fn no_path_panics(path in "/procs(/[%/a-fA-F0-9]{0,8}){0,4}") {
            let _ = Route::parse(&path);
        }
    }
}
