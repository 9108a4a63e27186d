//! The HTTP service's paths and responses, as far as commands use them.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use awc::http::{Method, header};
use indexmap::IndexMap;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::address::InstanceAddress;
use super::error::ClientError;
use super::options::Selector;
use super::persist::{PATIENCE, Persistence, Repeat};
use super::transport::{Answer, Transport};
use crate::api::{CodeBody, Data, Levels, LogLevelBody, Named, Nothing, Procs};
use crate::keeper::registry;

/// Maximum number of results on a page.
const PAGE: usize = 1000;
/// Seconds for which one request waits for an end, before another one continues.
const WAIT: f64 = 600.0;
/// The status for a process that has ended, and the one for an unknown process.
const GONE: u16 = 409;
const UNKNOWN: u16 = 404;

/// Results by ID, in the order and spelling of the response.
pub type Results = IndexMap<String, Box<RawValue>>;

/// The answer to `GET /status`, with the status unread.
#[derive(Deserialize)]
struct RawStatusBody {
    status: Box<RawValue>,
}

/// A client of one instance.
pub struct Api {
    transport: Transport,
    /// The directory of its socket, if it has one.
    dir: Option<PathBuf>,
    /// Whether it has responded.
    known: Cell<bool>,
    /// How long to retry while it does not respond.
    patience: Cell<Duration>,
}

impl Api {
    /// A client that sends by `transport`, to the instance at `place`.
    pub fn new(transport: Transport, place: &InstanceAddress) -> Api {
        let dir = match place {
            InstanceAddress::Socket(path) => path.parent().map(Path::to_path_buf),
            InstanceAddress::Url { .. } => None,
        };
        Api { transport, dir, known: Cell::new(false), patience: Cell::new(PATIENCE) }
    }

    /// The instance's address, for messages.
    pub fn place(&self) -> &str {
        &self.transport.place
    }

    /// Whether it may be on another machine.
    pub fn is_remote(&self) -> bool {
        self.transport.is_remote()
    }

    /// From now on each request fails at once if no worker responds: the caller retries by itself.
    pub fn fail_at_once(&self) {
        self.patience.set(Duration::ZERO);
    }

    /// Repeats a request until it succeeds or is refused, while the instance may be replacing its
    /// worker.
    async fn persist<T>(
        &self,
        repeat: Repeat,
        attempt: impl AsyncFn() -> Result<T, ClientError>,
    ) -> Result<Option<T>, ClientError> {
        let mut attempts = Persistence::new(repeat, self.patience.get());
        loop {
            let error = match attempt().await {
                Ok(answer) => {
                    self.known.set(true);
                    return Ok(Some(answer));
                }
                Err(error) if attempts.is_done(&error) => return Ok(None),
                Err(error) => error,
            };
            attempts.pause(error, self.is_known()).await?;
        }
    }

    /// Whether the instance exists, though it does not respond now.
    fn is_known(&self) -> bool {
        // The lock beside its socket proves that it runs.
        let runs = self.dir.as_ref().and_then(|dir| registry::is_running_in(dir));
        runs.unwrap_or_else(|| self.known.get())
    }

    /// Sends a request that changes nothing; returns the response with its body unread.
    async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        let attempt = async || self.transport.send(Method::GET, path, &[], None).await;
        self.answered(self.persist(Repeat::Safe, attempt).await?)
    }

    /// Sends a request that changes nothing; returns the body.
    async fn read<T: DeserializeOwned>(&self, path: impl Fn() -> String) -> Result<T, ClientError> {
        let attempt = async || {
            let answer = self.transport.send(Method::GET, &path(), &[], None).await?;
            answer.json::<Data<T>>().await
        };
        Ok(self.answered(self.persist(Repeat::Safe, attempt).await?)?.data)
    }

    /// Sends a request whose response has no content of interest.
    async fn act(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
        repeat: Repeat,
    ) -> Result<(), ClientError> {
        let attempt = async || {
            let sent = self.transport.send(method.clone(), path, &[], body.clone()).await?;
            sent.json::<Data<Nothing>>().await
        };
        self.persist(repeat, attempt).await.map(drop)
    }

    fn answered<T>(&self, answer: Option<T>) -> Result<T, ClientError> {
        answer.ok_or_else(|| self.nonsense("no answer"))
    }

    /// A page of results, and the position of the next page.
    ///
    /// # Errors
    /// As in this whole module: no response, a refusal, or an unexpected response.
    pub async fn page(
        &self,
        selector: &Selector,
        after: Option<&str>,
    ) -> Result<(Results, Option<String>), ClientError> {
        let mut path = format!("/procs?output=none&limit={PAGE}{}", query(selector));
        if let Some(cursor) = after {
            path.push_str(&format!("&cursor={}", encoded(cursor)));
        }
        let page: Procs<Box<RawValue>> = self.read(|| path.clone()).await?;
        Ok((page.procs, page.next))
    }

    /// All selected results.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn list(&self, selector: &Selector) -> Result<Results, ClientError> {
        let (mut all, mut next) = self.page(selector, None).await?;
        while let Some(cursor) = next {
            let (more, after) = self.page(selector, Some(&cursor)).await?;
            all.extend(more);
            next = after;
        }
        Ok(all)
    }

    /// The result of a process, including its output as `output` says.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn one(&self, id: &str, output: &str) -> Result<Box<RawValue>, ClientError> {
        self.result(|| format!("{}?output={output}", proc_path(id))).await
    }

    /// The result of a process once it has ended, or its present result at `deadline` or after a
    /// while.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn ended(
        &self,
        id: &str,
        deadline: Option<Instant>,
    ) -> Result<Box<RawValue>, ClientError> {
        self.result(|| {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let wait = left.map_or(WAIT, |left| left.as_secs_f64().min(WAIT));
            format!("{}?output=none&wait={wait}", proc_path(id))
        })
        .await
    }

    async fn result(&self, path: impl Fn() -> String) -> Result<Box<RawValue>, ClientError> {
        let mut found: Procs<Box<RawValue>> = self.read(path).await?;
        match found.procs.pop() {
            Some((_, result)) => Ok(result),
            None => Err(self.nonsense("no result")),
        }
    }

    /// Starts the processes of a spec; returns their IDs.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn start(&self, spec: Vec<u8>) -> Result<Vec<String>, ClientError> {
        let attempt = async || {
            let sent =
                self.transport.send_confidential(Method::POST, "/procs", spec.clone()).await?;
            sent.json::<Data<Named<Vec<String>>>>().await
        };
        // If the response is lost, the client cannot know whether they were started.
        let started = self.persist(Repeat::Never, attempt).await.map_err(|error| match error {
            ClientError::Lost { place, reason } => {
                let reason =
                    format!("{reason}; the processes may have been started, see procstar ps");
                ClientError::Lost { place, reason }
            }
            error => error,
        });
        Ok(self.answered(started?)?.data.proc_ids)
    }

    /// Stops a process. A repeated request is harmless, and one for a process that has ended
    /// succeeds.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn stop(&self, id: &str, how: &serde_json::Value) -> Result<(), ClientError> {
        let body = how.to_string().into_bytes();
        let path = format!("{}/stop", proc_path(id));
        self.act(Method::POST, &path, Some(body), Repeat::UntilRefused(GONE)).await
    }

    /// The log level.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn log_level(&self) -> Result<Levels, ClientError> {
        let found: LogLevelBody = self.read(|| "/log-level".to_owned()).await?;
        Ok(found.log_level)
    }

    /// Sets the log level, or restores the configured one if `level` is `None`; returns the new
    /// level.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn set_log_level(&self, level: Option<&str>) -> Result<Levels, ClientError> {
        let body = serde_json::json!({ "level": level }).to_string().into_bytes();
        let attempt = async || {
            let sent =
                self.transport.send(Method::PUT, "/log-level", &[], Some(body.clone())).await?;
            sent.json::<Data<LogLevelBody>>().await
        };
        Ok(self.answered(self.persist(Repeat::Safe, attempt).await?)?.data.log_level)
    }

    /// A URL of the web page with a code for a session. The instance chooses the host name if
    /// `host` is `None`.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn page_url(&self, host: Option<&str>) -> Result<CodeBody, ClientError> {
        let query = host.map(|host| format!("?host={}", encoded(host))).unwrap_or_default();
        let path = format!("/session-codes{query}");
        let attempt = async || {
            // Another user's server must not choose the URL that the browser opens.
            let sent = self.transport.send_confidential(Method::POST, &path, Vec::new()).await?;
            sent.json::<Data<CodeBody>>().await
        };
        Ok(self.answered(self.persist(Repeat::Safe, attempt).await?)?.data)
    }

    /// Sends a signal. Of all signals, only SIGKILL is ever sent twice.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn signal(&self, id: &str, signal: &str) -> Result<(), ClientError> {
        let path = format!("{}/signals/{}", proc_path(id), encoded(signal));
        let repeat = match signal {
            "SIGKILL" | "KILL" | "9" => Repeat::UntilRefused(GONE),
            _ => Repeat::Never,
        };
        self.act(Method::POST, &path, None, repeat).await.map_err(|error| match error {
            ClientError::Lost { place, reason } => ClientError::Lost {
                place,
                reason: format!("{reason}; the signal may have been sent"),
            },
            error => error,
        })
    }

    /// Deletes a process.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn delete(&self, id: &str) -> Result<(), ClientError> {
        self.act(Method::DELETE, &proc_path(id), None, Repeat::UntilRefused(UNKNOWN)).await
    }

    /// Deletes all selected processes that have ended; returns their IDs.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn prune(&self, selector: &Selector) -> Result<Vec<String>, ClientError> {
        let query = query(selector);
        let path = format!("/procs?{}", query.trim_start_matches('&'));
        let attempt = async || {
            let sent = self.transport.send(Method::DELETE, &path, &[], None).await?;
            sent.json::<Data<Named<Vec<String>>>>().await
        };
        // If the response is lost, a second one would not list the processes that are deleted
        // already.
        Ok(self.answered(self.persist(Repeat::Never, attempt).await?)?.data.proc_ids)
    }

    /// Captured bytes of `fd` from `from` up to, not including, `end`; `None` if the range is
    /// empty.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn data(
        &self,
        id: &str,
        fd: &str,
        from: u64,
        end: u64,
    ) -> Result<Option<Answer>, ClientError> {
        let Some(last) = end.checked_sub(1).filter(|last| *last >= from) else { return Ok(None) };
        let path = format!("{}/output/{}/data", proc_path(id), encoded(fd));
        let range = [(header::RANGE, format!("bytes={from}-{last}"))];
        let attempt = async || self.transport.send(Method::GET, &path, &range, None).await;
        match self.persist(Repeat::Safe, attempt).await {
            Ok(answer) => Ok(answer),
            // Somebody has truncated the capture.
            Err(ClientError::Refused { status: 416, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Checks that the capture of `fd`, which may be empty, can be read.
    ///
    /// # Errors
    /// As [`page`](Api::page); its file is gone.
    pub async fn check_output(&self, id: &str, fd: &str) -> Result<(), ClientError> {
        self.data(id, fd, 0, 1).await.map(drop)
    }

    /// Captured bytes of `fd` from `from` on, as the process writes them, until the end.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn follow(&self, id: &str, fd: &str, from: u64) -> Result<Answer, ClientError> {
        self.get(&format!("{}/output/{}/follow?from={from}", proc_path(id), encoded(fd))).await
    }

    /// Events, after the one with the cursor `after`.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn events(&self, after: Option<&str>) -> Result<Answer, ClientError> {
        match after {
            Some(cursor) => self.get(&format!("/events?after={}", encoded(cursor))).await,
            None => self.get("/events").await,
        }
    }

    /// The instance's status, with keys that only a newer version knows.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn status(&self) -> Result<Box<RawValue>, ClientError> {
        let answer: RawStatusBody = self.read(|| "/status".to_owned()).await?;
        Ok(answer.status)
    }

    /// The error for an unexpected response.
    pub fn nonsense(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Nonsense { place: self.transport.place.clone(), reason: reason.into() }
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn proc_path(id: &str) -> String {
    format!("/procs/{}", encoded(id))
}

fn query(selector: &Selector) -> String {
    let states = selector.state.iter().map(|state| format!("&state={}", encoded(state)));
    let labels = selector.label.iter().map(|label| format!("&label={}", encoded(label)));
    let age = selector.older_than.map(|age| format!("&older_than={}", age.as_secs_f64()));
    states.chain(labels).chain(age).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_filters_stand_encoded() {
        assert_eq!(proc_path("a/b 100%"), "/procs/a%2Fb%20100%25");
        assert_eq!(proc_path(".."), "/procs/%2E%2E");
        let selector = Selector {
            state: vec!["running".into(), "error".into()],
            label: vec!["a=b&c".into()],
            older_than: Some(std::time::Duration::from_millis(1500)),
        };
        assert_eq!(query(&selector), "&state=running&state=error&label=a%3Db%26c&older_than=1.5");
    }
}
