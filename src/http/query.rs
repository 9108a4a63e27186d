//! The query of a request.
//!
//! Names and values are decoded like those of a form: `+` is a space, `%2B` a plus sign. An unknown
//! name is an error, because the client's intention would be ignored; except on endpoints where
//! existing clients may have sent arbitrary names.

use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::actors::messages::Cursor;
use crate::clock::TimePoint;
use crate::quantity::{ByteSize, Seconds};
use crate::report::status::ProcState;
use crate::report::{OutputView, ProcessRecord};

/// Maximum of `wait`.
const LONGEST_WAIT: Seconds = Seconds::whole(3600);
/// The default length of `output=tail` for each capture.
const TAIL: u64 = 4096;
/// Maximum number of processes on one page.
const LIMIT: usize = 10_000;

/// An invalid query; the text names the fault and the valid values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct QueryError(String);

fn error(text: impl Into<String>) -> QueryError {
    QueryError(text.into())
}

impl QueryError {
    /// An error with this text.
    pub(super) fn new(text: impl Into<String>) -> QueryError {
        error(text)
    }
}

/// The names and values of a query, in their order.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses a query, in which only the names in `known` are valid.
    ///
    /// # Errors
    /// An unknown name, or text that is not UTF-8 once decoded.
    pub(super) fn parse(query: Option<&str>, known: &[&str]) -> Result<Query, QueryError> {
        let query = Query::lenient(query)?;
        match query.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(query),
            Some((name, _)) => {
                let known = match known {
                    [] => "none is known here".to_owned(),
                    _ => format!("known here: {}", known.join(", ")),
                };
                Err(error(format!("unknown query parameter {name:?}; {known}")))
            }
        }
    }

    /// Parses a query of an endpoint that ignores unknown names.
    ///
    /// # Errors
    /// Text that is not UTF-8 once decoded.
    pub(super) fn lenient(query: Option<&str>) -> Result<Query, QueryError> {
        let decode = |text: &str| {
            let text = text.replace('+', " ");
            let text = percent_decode_str(&text).decode_utf8();
            text.map(String::from)
                .map_err(|_| error("malformed query: it is not UTF-8 once decoded; percent-encode the text as UTF-8"))
        };
        let mut pairs = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            pairs.push((name, value));
        }
        Ok(Query(pairs))
    }

    /// The values of a name that may be repeated.
    pub(super) fn all<'q>(&'q self, name: &str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a name that must not be repeated.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, QueryError> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(error(format!("query parameter {name:?} is given twice"))),
            (value, None) => Ok(value),
        }
    }

    /// The value of a name, parsed.
    pub(super) fn parsed<T: FromStr>(
        &self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, QueryError> {
        let wrong = |value: &str| error(format!("{name}: expected {expected}, found {value:?}"));
        let parse = |value: &str| value.parse().map_err(|_| wrong(value));
        self.one(name)?.map(parse).transpose()
    }

    /// A switch: absent is off; present without a value is on.
    pub(super) fn switch(&self, name: &str) -> Result<bool, QueryError> {
        match self.one(name)? {
            None | Some("false" | "0") => Ok(false),
            Some("" | "true" | "1") => Ok(true),
            Some(other) => Err(error(format!("{name}: expected true or false, found {other:?}"))),
        }
    }

    /// A duration of at most `most`.
    pub(super) fn duration(
        &self,
        name: &str,
        most: Seconds,
    ) -> Result<Option<Duration>, QueryError> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        let duration: Seconds =
            text.parse().map_err(|reason| error(format!("{name}: {reason}")))?;
        if duration > most {
            return Err(error(format!(
                "{name}: invalid duration {text:?}: expected at most {most}"
            )));
        }
        Ok(Some(duration.duration()))
    }
}

/// A selection of processes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ProcFilter {
    /// In any of these states; in all states if empty.
    states: Vec<ProcState>,
    /// With all of these labels; `None` admits any value.
    labels: Vec<(String, Option<String>)>,
    /// Ended at least this long ago.
    older_than: Option<Duration>,
}

impl ProcFilter {
    /// The names that it reads from a query.
    pub(super) const NAMES: [&'static str; 3] = ["state", "label", "older_than"];

    /// The filter of a query.
    pub(super) fn of(query: &Query) -> Result<ProcFilter, QueryError> {
        let state = |name: &str| match name {
            "running" => Ok(ProcState::Running),
            "terminated" => Ok(ProcState::Terminated),
            "error" => Ok(ProcState::Error),
            _ => {
                Err(error(format!("state: expected running, terminated or error, found {name:?}")))
            }
        };
        let label = |text: &str| match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (text.to_owned(), None),
        };
        Ok(ProcFilter {
            states: query
                .all("state")
                .flat_map(|value| value.split(','))
                .map(state)
                .collect::<Result<_, _>>()?,
            labels: query.all("label").map(label).collect(),
            older_than: query.duration("older_than", Seconds::LONGEST)?,
        })
    }

    /// Whether it admits all processes.
    pub(super) fn is_empty(&self) -> bool {
        *self == ProcFilter::default()
    }

    /// Whether it selects a process.
    pub(super) fn admits(&self, record: &ProcessRecord, now: TimePoint) -> bool {
        let labels = record.labels();
        let has = |(key, value): &(String, Option<String>)| match (labels.get(key), value) {
            (Some(has), Some(value)) => has == value,
            (has, _) => has.is_some(),
        };
        let old = |age: Duration| {
            record.stop().is_some_and(|stop| now.seconds_since(stop) >= age.as_secs_f64())
        };
        (self.states.is_empty() || self.states.contains(&record.state))
            && self.labels.iter().all(has)
            && self.older_than.is_none_or(old)
    }
}

fn output_view(query: &Query) -> Result<OutputView, QueryError> {
    let tail = query.parsed::<ByteSize>("tail", "a size")?.map(|size| size.0);
    match (query.one("output")?, tail) {
        (None | Some("inline"), None) => Ok(OutputView::Inline),
        (Some("none"), None) => Ok(OutputView::None),
        (Some("tail"), tail) => Ok(OutputView::Tail(tail.unwrap_or(TAIL))),
        (None | Some("inline" | "none"), Some(_)) => Err(error("tail: only with output=tail")),
        (Some(other), _) => {
            Err(error(format!("output: expected inline, none or tail, found {other:?}")))
        }
    }
}

/// The query of `GET /procs`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ListQuery {
    pub(super) filter: ProcFilter,
    pub(super) output: OutputView,
    /// Maximum number of results; `None` for all.
    pub(super) limit: Option<usize>,
    /// The cursor after which the list continues.
    pub(super) cursor: Option<Cursor>,
}

impl ListQuery {
    /// The listing of a query.
    pub(super) fn of(query: Option<&str>) -> Result<ListQuery, QueryError> {
        let query = Query::lenient(query)?;
        let limit = query.parsed("limit", "a number")?;
        if limit.is_some_and(|limit| limit == 0 || limit > LIMIT) {
            return Err(error(format!("limit: expected a number from 1 to {LIMIT}")));
        }
        let cursor = query.parsed("cursor", "what an earlier answer gave as `next`")?;
        if cursor.is_some() && limit.is_none() {
            return Err(error("cursor: only with limit"));
        }
        Ok(ListQuery {
            filter: ProcFilter::of(&query)?,
            output: output_view(&query)?,
            limit,
            cursor,
        })
    }
}

/// The query of `GET /procs/ID`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ResultQuery {
    pub(super) output: OutputView,
    /// How long to wait for the end.
    pub(super) wait: Option<Duration>,
}

impl ResultQuery {
    /// Parses the query.
    pub(super) fn of(query: Option<&str>) -> Result<ResultQuery, QueryError> {
        let query = Query::lenient(query)?;
        Ok(ResultQuery {
            output: output_view(&query)?,
            wait: query.duration("wait", LONGEST_WAIT)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded_and_unknown_names_refused() {
        let query = Query::parse(Some("a=1&b=x+y%2Bz&&a=%C3%A4&c"), &["a", "b", "c"]).unwrap();
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "ä"]);
        assert_eq!(query.one("b").unwrap(), Some("x y+z"));
        assert_eq!(query.one("a").unwrap_err().to_string(), "query parameter \"a\" is given twice");
        assert!(query.switch("c").unwrap() && !query.switch("d").unwrap());
        for (text, message) in [
            ("x=1", "unknown query parameter \"x\"; known here: a"),
            (
                "a=%FF",
                "malformed query: it is not UTF-8 once decoded; percent-encode the text as UTF-8",
            ),
        ] {
            let error = Query::parse(Some(text), &["a"]).err().unwrap();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn list_queries_are_parsed_and_invalid_values_refused() {
        let listing = |text| ListQuery::of(Some(text));
        assert_eq!(ListQuery::of(None).unwrap(), ListQuery::default());
        let full = "state=running,error&state=terminated&label=a%3Db&label=c&older_than=1.5&output=tail\
                    &tail=10&limit=5&cursor=01-2";
        assert_eq!(
            listing(full).unwrap(),
            ListQuery {
                filter: ProcFilter {
                    states: vec![ProcState::Running, ProcState::Error, ProcState::Terminated],
                    labels: vec![("a".into(), Some("b".into())), ("c".into(), None)],
                    older_than: Some(Duration::from_millis(1500)),
                },
                output: OutputView::Tail(10),
                limit: Some(5),
                cursor: Some(Cursor { run: 1, at: 2 }),
            }
        );
        assert_eq!(listing("output=tail").unwrap().output, OutputView::Tail(TAIL));
        for (text, message) in [
            ("state=dead", "state: expected running, terminated or error, found \"dead\""),
            ("limit=0", "limit: expected a number from 1 to 10000"),
            ("limit=-1", "limit: expected a number, found \"-1\""),
            ("limit=10001", "limit: expected a number from 1 to 10000"),
            ("cursor=01-2", "cursor: only with limit"),
            (
                "limit=1&cursor=x",
                "cursor: expected what an earlier answer gave as `next`, found \"x\"",
            ),
            ("output=some", "output: expected inline, none or tail, found \"some\""),
            ("output=none&tail=1", "tail: only with output=tail"),
            ("older_than=nan", "older_than: invalid duration nan: expected 0 to 1e10 seconds"),
        ] {
            assert_eq!(listing(text).unwrap_err().to_string(), message, "{text}");
        }
    }
}
