//! The HTTP service's paths and answers, as far as commands use them.

use awc::http::{Method, header};
use indexmap::IndexMap;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::ClientError;
use super::log_level::Levels;
use super::options::Which;
use super::transport::{Answer, Transport};

/// How many results are asked for at once.
const PAGE: usize = 1000;
/// How long one request waits for an end, in seconds; then the next one does.
const WAIT: f64 = 600.0;

/// Results by ID, in the order of the answer, as they were written.
pub type Results = IndexMap<String, Box<RawValue>>;

/// An instance, as a command asks it.
pub struct Api(Transport);

#[derive(Deserialize)]
struct Data<T> {
    data: T,
}

#[derive(Deserialize)]
struct Procs {
    procs: Results,
    next: Option<String>,
}

#[derive(Deserialize)]
struct Ids {
    proc_ids: Vec<String>,
}

#[derive(Deserialize)]
struct LogLevel {
    log_level: Levels,
}

#[derive(Deserialize)]
struct Nothing {}

impl Api {
    /// Asks by `transport`.
    pub fn new(transport: Transport) -> Api {
        Api(transport)
    }

    /// What the instance is called.
    pub fn place(&self) -> &str {
        &self.0.place
    }

    async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.0.send(Method::GET, path, &[], None).await
    }

    /// A page of results, and where the next one begins.
    ///
    /// # Errors
    /// As everywhere here: no answer, a refusal, or an answer that makes no sense.
    pub async fn page(
        &self,
        which: &Which,
        after: Option<&str>,
    ) -> Result<(Results, Option<String>), ClientError> {
        let mut path = format!("/procs?output=none&limit={PAGE}{}", query(which));
        if let Some(cursor) = after {
            path.push_str(&format!("&cursor={}", encoded(cursor)));
        }
        let page: Data<Procs> = self.get(&path).await?.json().await?;
        Ok((page.data.procs, page.data.next))
    }

    /// All results of these processes.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn list(&self, which: &Which) -> Result<Results, ClientError> {
        let (mut all, mut next) = self.page(which, None).await?;
        while let Some(cursor) = next {
            let (more, after) = self.page(which, Some(&cursor)).await?;
            all.extend(more);
            next = after;
        }
        Ok(all)
    }

    /// The result of a process, with `output` of its captures; with `wait`, in seconds, once it has ended, or what there is then.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn one(
        &self,
        id: &str,
        output: &str,
        wait: Option<f64>,
    ) -> Result<Box<RawValue>, ClientError> {
        let wait = wait.map_or(String::new(), |wait| format!("&wait={}", wait.clamp(0.0, WAIT)));
        let path = format!("{}?output={output}{wait}", proc_path(id));
        let mut found: Data<Procs> = self.get(&path).await?.json().await?;
        match found.data.procs.pop() {
            Some((_, result)) => Ok(result),
            None => Err(self.nonsense("no result")),
        }
    }

    /// Starts what a spec asks for; gives the IDs.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn start(&self, spec: Vec<u8>) -> Result<Vec<String>, ClientError> {
        let answer = self.0.send_confidential(Method::POST, "/procs", spec).await?;
        let started: Data<Ids> = answer.json().await?;
        Ok(started.data.proc_ids)
    }

    /// Stops a process.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn stop(&self, id: &str, how: &serde_json::Value) -> Result<(), ClientError> {
        let path = format!("{}/stop", proc_path(id));
        let body = how.to_string().into_bytes();
        self.nothing(self.0.send(Method::POST, &path, &[], Some(body)).await?).await
    }

    /// The level of the log.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn log_level(&self) -> Result<Levels, ClientError> {
        let found: Data<LogLevel> = self.get("/log-level").await?.json().await?;
        Ok(found.data.log_level)
    }

    /// Sets it; none: as the instance's settings have it. Gives it as it is then.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn set_log_level(&self, level: Option<&str>) -> Result<Levels, ClientError> {
        let body = serde_json::json!({ "level": level }).to_string().into_bytes();
        let answer = self.0.send(Method::PUT, "/log-level", &[], Some(body)).await?;
        let found: Data<LogLevel> = answer.json().await?;
        Ok(found.data.log_level)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn signal(&self, id: &str, signal: &str) -> Result<(), ClientError> {
        let path = format!("{}/signals/{}", proc_path(id), encoded(signal));
        self.nothing(self.0.send(Method::POST, &path, &[], None).await?).await
    }

    /// Forgets a process.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn delete(&self, id: &str) -> Result<(), ClientError> {
        self.nothing(self.0.send(Method::DELETE, &proc_path(id), &[], None).await?).await
    }

    /// Forgets all ended processes that are meant; gives their IDs.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn prune(&self, which: &Which) -> Result<Vec<String>, ClientError> {
        let query = query(which);
        let path = format!("/procs?{}", query.trim_start_matches('&'));
        let pruned: Data<Ids> = self.0.send(Method::DELETE, &path, &[], None).await?.json().await?;
        Ok(pruned.data.proc_ids)
    }

    /// Captured bytes of `fd` from `from` up to, not including, `end`; none where there is nothing.
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
        match self.0.send(Method::GET, &path, &range, None).await {
            Ok(answer) => Ok(Some(answer)),
            // Somebody has taken away what was captured.
            Err(ClientError::Refused { status: 416, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Captured bytes of `fd` from `from` on, as they are written, until the end.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn follow(&self, id: &str, fd: &str, from: u64) -> Result<Answer, ClientError> {
        self.get(&format!("{}/output/{}/follow?from={from}", proc_path(id), encoded(fd))).await
    }

    /// Events, after one that was seen.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn events(&self, after: Option<&str>) -> Result<Answer, ClientError> {
        match after {
            Some(cursor) => self.get(&format!("/events?after={}", encoded(cursor))).await,
            None => self.get("/events").await,
        }
    }

    /// Who the agent is.
    ///
    /// # Errors
    /// As [`page`](Api::page).
    pub async fn agent(&self) -> Result<serde_json::Value, ClientError> {
        let told: Data<serde_json::Value> = self.get("/agent").await?.json().await?;
        Ok(told.data.get("agent").cloned().unwrap_or_default())
    }

    /// An answer that tells nothing but that it is done.
    async fn nothing(&self, answer: Answer) -> Result<(), ClientError> {
        let Data { data: Nothing {} } = answer.json().await?;
        Ok(())
    }

    /// What to say of an answer that is not what was asked for.
    pub fn nonsense(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Nonsense { place: self.0.place.clone(), reason: reason.into() }
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

fn proc_path(id: &str) -> String {
    format!("/procs/{}", encoded(id))
}

fn query(which: &Which) -> String {
    let states = which.state.iter().map(|state| format!("&state={}", encoded(state)));
    let labels = which.label.iter().map(|label| format!("&label={}", encoded(label)));
    let age = which.older_than.map(|age| format!("&older_than={}", age.as_secs_f64()));
    states.chain(labels).chain(age).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_filters_stand_encoded() {
        assert_eq!(proc_path("a/b 100%"), "/procs/a%2Fb%20100%25");
        assert_eq!(proc_path(".."), "/procs/%2E%2E");
        let which = Which {
            state: vec!["running".into(), "error".into()],
            label: vec!["a=b&c".into()],
            older_than: Some(std::time::Duration::from_millis(1500)),
        };
        assert_eq!(query(&which), "&state=running&state=error&label=a%3Db%26c&older_than=1.5");
    }
}
