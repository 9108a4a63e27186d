//! Finds every error of a spec at once, even those that prevent reading it.
//!
//! serde stops at the first value that does not fit. So such a value is recorded and removed, and
//! the rest is read again, until it can be read as a whole and validated. Errors that are caused
//! only by a removal are not reported: a key that is missing for that reason gets a stub.

use std::collections::HashMap;

use super::parse::{NO_OBJECT, is_syntax_error, parse, syntax_error};
use super::tree::{Node, Value};
use super::unique_keys::given_twice;
use super::{MAX_FD, Segment, SpecError, SpecErrors, SpecPath};

/// Maximum number of reported errors.
pub(super) const ERRORS: usize = 100;
/// Maximum number of times that the rest is read again.
const ROUNDS: usize = 4 * ERRORS;
/// The budget of the search for errors in a client's request. A valid request is read once, and
/// needs none of it.
pub(super) const BUDGET: Budget = Budget { text: 1 << 20, again: 4 << 20 };
/// No limit, for a user's own file: the search uses only the user's own CPU time.
pub(super) const UNLIMITED: Budget = Budget { text: usize::MAX, again: usize::MAX };

/// The limits of the search for errors.
#[derive(Clone, Copy)]
pub(super) struct Budget {
    /// Maximum length of a text to search, in bytes: its tree takes some tens of times as much.
    text: usize,
    /// Maximum number of bytes that are read again in total.
    again: usize,
}

/// The note for a request beyond that budget.
const TOO_LARGE: &str =
    "the request is too large to be searched for further errors; correct these, and check again";

/// Values that are tried in turn in place of a missing one.
const STUBS: [&str; 4] = ["\"-\"", "0", "[\"-\"]", "{}"];

/// All errors of a request in JSON. `first` is the error for which the reader rejected it, and is
/// returned if the search finds none.
pub(super) fn diagnose_within(text: &[u8], mut first: SpecErrors, budget: Budget) -> SpecErrors {
    if let Some(error) = syntax_error(text) {
        // The reader may have stopped before; if it has not, it knows the place, too.
        let is_known = first.0.iter().any(is_syntax_error) && error.message != NO_OBJECT;
        return if is_known { first } else { error.into() };
    }
    if text.len() > budget.text {
        first.0.truncate(ERRORS);
        first.0.push(SpecError::new(SpecPath::root(), TOO_LARGE));
        return first;
    }
    let Some(tree) = Node::read(text) else { return first };
    let errors = Diagnosis::of(tree, budget).located(text);
    if errors.is_empty() { first } else { SpecErrors(errors) }
}

/// All errors of `specs` in MessagePack, in its order, as far as it can be represented as JSON.
pub(super) fn diagnose_msgpack(specs: &[u8], first: SpecErrors) -> SpecErrors {
    let tree = (specs.len() <= BUDGET.text).then(|| rmp_serde::from_slice::<Node<'static>>(specs));
    let Some(Ok(specs)) = tree else { return first };
    let mut tree = Node::object_of("specs", specs);
    tree.number(&mut 0);
    let errors = Diagnosis::of(tree, BUDGET).in_order();
    if errors.is_empty() { first } else { SpecErrors(errors) }
}

/// The findings so far.
struct Diagnosis<'a> {
    tree: Node<'a>,
    /// Errors with their offsets.
    errors: Vec<(usize, SpecError)>,
    /// The places that were removed from the text.
    removed: Vec<SpecPath>,
    /// The places that were filled, each with the number of values tried there.
    stubs: HashMap<SpecPath, usize>,
    /// The reason why there may be more errors than those found.
    cut_short: Option<String>,
}

impl<'a> Diagnosis<'a> {
    fn of(tree: Node<'a>, budget: Budget) -> Self {
        let (errors, removed, stubs) = (Vec::new(), Vec::new(), HashMap::new());
        let mut diagnosis = Diagnosis { tree, errors, removed, stubs, cut_short: None };
        let mut left = budget.again;
        for _ in 0..ROUNDS {
            let mut text = Vec::new();
            diagnosis.tree.write(&mut text);
            let go_on = match parse(&text) {
                Err(error) => diagnosis.mend(error),
                Ok(request) => {
                    let errors = request.validate().err();
                    errors.into_iter().flat_map(|e| e.0).for_each(|e| diagnosis.invalid(e));
                    false
                }
            };
            if diagnosis.errors.len() > ERRORS {
                let message = format!(
                    "only the first {ERRORS} errors are shown; correct them, and check again"
                );
                diagnosis.cut_short = Some(message);
                break;
            }
            if !go_on {
                break;
            }
            left = left.saturating_sub(text.len());
            if left == 0 {
                diagnosis.cut_short = Some(TOO_LARGE.to_owned());
                break;
            }
        }
        diagnosis
    }

    /// The errors with their offsets, in the order of the text, and then the reason why there may
    /// be more.
    fn sorted(mut self) -> Vec<(usize, SpecError)> {
        self.errors.sort_by_key(|(at, _)| *at);
        self.errors.truncate(ERRORS);
        if let Some(message) = self.cut_short.take() {
            let at = self.errors.last().map_or(0, |(at, _)| *at);
            self.note(at, SpecPath::root(), message);
        }
        self.errors
    }

    /// The errors in the order of the text.
    fn in_order(self) -> Vec<SpecError> {
        self.sorted().into_iter().map(|(_, error)| error).collect()
    }

    /// The errors with line and column.
    fn located(self, text: &[u8]) -> Vec<SpecError> {
        let (mut line, mut line_at, mut seen) = (1, 0, 0);
        let mut errors = Vec::new();
        for (at, mut error) in self.sorted() {
            for (i, _) in text.iter().enumerate().take(at).skip(seen).filter(|(_, b)| **b == b'\n')
            {
                (line, line_at) = (line + 1, i + 1);
            }
            seen = at;
            error.position = Some((line, at - line_at + 1));
            errors.push(error);
        }
        errors
    }

    fn note(&mut self, at: usize, place: SpecPath, message: impl Into<String>) {
        self.errors.push((at, SpecError::new(place, message)));
    }

    /// Records the error that prevents reading the text, and removes the value or fills in the
    /// missing one. False if neither is possible.
    fn mend(&mut self, error: SpecError) -> bool {
        let SpecError { place: path, message, .. } = error;
        let found = self.tree.follow(path.segments());
        let (place, at, key_at, steps) =
            (found.place.clone(), found.node.at, found.key_at, found.steps.clone());
        let message = reworded(&message, found.node);
        if let Some(key) = quoted(&message, "missing field `", '`') {
            let missing = place.key(key);
            if !self.removed.contains(&missing) {
                self.note(at, place, format!("missing key `{key}`; add it"));
            }
            return self.put_stub(&steps, &missing, key, at);
        }
        let twice = quoted(&message, "duplicate field `", '`').or_else(|| {
            quoted(&message, "key \"", '"').filter(|_| message.contains("\" given twice"))
        });
        if let Some(key) = twice {
            let last = found.node.last_of(key).map(Segment::Key);
            let steps: Vec<Segment> = steps.into_iter().chain(last).collect();
            let at = self.tree.follow(&steps).key_at;
            self.note(at, place, given_twice(&key));
            return self.take_out(&steps);
        }
        if let Some(tried) = self.stubs.get(&place).copied() {
            // The stub does not fit: try another one, or remove its parent.
            return match (steps.split_last(), place.segments().last()) {
                (Some((_, above)), Some(Segment::Key(key))) if tried < STUBS.len() => {
                    let (above, key) = (above.to_vec(), key.clone());
                    self.put_stub(&above, &place, &key, at)
                }
                (Some((_, above)), _) => self.take_out(above),
                _ => false,
            };
        }
        let incomplete = self.removed.iter().any(|removed| is_just_below(removed, &place));
        if !(incomplete && message.starts_with("invalid length")) {
            self.note(if is_about_the_key(&message) { key_at } else { at }, place.clone(), message);
        }
        self.removed.push(place);
        self.replace_in_fd(&steps, at) || self.take_out(&steps)
    }

    /// Replaces an fd's name or description, in an array, by a valid one.
    fn replace_in_fd(&mut self, steps: &[Segment], at: usize) -> bool {
        let [_, _, Segment::Key(fds), Segment::Index(entry), Segment::Index(part)] = steps else {
            return false;
        };
        // An unused name for each.
        let name = (MAX_FD as usize).saturating_sub(*entry).to_string();
        let text = if *part == 0 { name.as_str() } else { "close" };
        let node = self.tree.at_mut(steps).filter(|_| fds == "fds" && *part < 2);
        node.map(|node| *node = Node::string(text, at)).is_some()
    }

    /// Removes the value at `steps`; false for the whole document.
    fn take_out(&mut self, steps: &[Segment]) -> bool {
        let Some((last, above)) = steps.split_last() else { return false };
        self.tree.at_mut(above).map(|node| node.remove(last)).is_some()
    }

    /// Puts the next stub under `key` of the object at `steps`.
    fn put_stub(&mut self, steps: &[Segment], place: &SpecPath, key: &str, at: usize) -> bool {
        let tried = self.stubs.entry(place.clone()).or_default();
        let stub = STUBS.get(*tried).copied().unwrap_or("null");
        *tried += 1;
        match self.tree.at_mut(steps) {
            Some(node) => node.put(key, Node::stub(stub, at)),
            None => false,
        }
    }

    /// Records an error of validation, unless a removal has caused it.
    fn invalid(&mut self, error: SpecError) {
        let path = error.place.segments();
        let found = self.tree.follow(path);
        let at = found.node.at;
        let rest = path.get(path.len() - found.rest..).unwrap_or_default();
        let place: SpecPath = found.place.segments().iter().chain(rest).cloned().collect();
        let ours = self.stubs.keys().chain(&self.removed);
        let follows = ours.into_iter().any(|changed| {
            let incomplete = changed.segments().starts_with(place.segments());
            place.segments().starts_with(changed.segments())
                || (incomplete && error.message.starts_with("expected exactly one"))
                || (incomplete && error.message.starts_with("neither"))
                || (concerns_pipes(changed) && error.message.contains("pipe-"))
        });
        if !follows {
            self.note(at, place, error.message);
        }
    }
}

/// Whether `place` is one step below `above`.
fn is_just_below(place: &SpecPath, above: &SpecPath) -> bool {
    place.segments().split_last().is_some_and(|(_, parent)| parent == above.segments())
}

/// Whether the value there can be one end of a pipe, or contain one.
fn concerns_pipes(place: &SpecPath) -> bool {
    matches!(place.segments(), [_, _] | [_, _, Segment::Key(_), ..])
        && place.segments().get(2).is_none_or(|key| *key == Segment::Key("fds".into()))
}

/// Whether an error concerns a key, not its value.
fn is_about_the_key(message: &str) -> bool {
    ["unknown key", "unknown resource", "invalid fd name"].iter().any(|s| message.starts_with(s))
}

/// The text between `start` and the next `end`, for a text that begins with `start`.
fn quoted<'t>(text: &'t str, start: &str, end: char) -> Option<&'t str> {
    text.strip_prefix(start)?.split(end).next()
}

/// An error in terms of JSON instead of serde's terms of Rust.
fn reworded(message: &str, node: &Node<'_>) -> String {
    match &node.value {
        Value::Array(_) if message.contains("expected struct") => {
            return "invalid type: array, expected an object".to_owned();
        }
        Value::Object(entries) if message == "invalid JSON: expected value" => {
            let keys = entries.len();
            return format!(
                "expected an object of one key, such as {{\"capture\": {{}}}}, found {keys} keys"
            );
        }
        _ => {}
    }
    if message.ends_with("unit variant, expected newtype variant") {
        let Value::Scalar(text) = &node.value else { return message.to_owned() };
        let kind: String = serde_json::from_slice(text).unwrap_or_default();
        return format!("expected an object; write it as {{\"{kind}\": {{...}}}}");
    }
    if message.ends_with("expected unit") {
        return "this kind has no value; write it as a string, such as \"close\"".to_owned();
    }
    let message = message.strip_suffix(" with 2 elements").unwrap_or(message);
    let (what, expected) = message.rsplit_once(", expected ").unwrap_or((message, ""));
    let better = match expected {
        "a sequence" => "an array",
        "a map" => "an object",
        "tuple struct FdEntry" => "an array of an fd's name and what it shall be",
        "f64" | "f32" => "a number",
        "u8" | "u16" | "u32" | "u64" => "an integer that is not negative",
        "i8" | "i16" | "i32" | "i64" => "an integer",
        _ if expected.starts_with("struct ") => "an object",
        _ if expected.starts_with("enum ") || expected == "unit" => "one of its kinds",
        _ => expected,
    };
    let kind = [("unknown field", "unknown key"), (": sequence", ": array"), (": map", ": object")]
        .into_iter()
        .find(|(rust, _)| what.contains(rust));
    let what = kind.map_or(what.to_owned(), |(rust, json)| what.replacen(rust, json, 1));
    if better.is_empty() { what } else { format!("{what}, expected {better}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::diagnose;

    /// `LINE:COLUMN PLACE: MESSAGE` of each error.
    fn errors(text: &str) -> Vec<String> {
        let errors = diagnose(text.as_bytes()).unwrap_err().0;
        errors
            .into_iter()
            .map(|SpecError { place, message, position }| {
                let (line, column) = position.unwrap();
                format!("{line}:{column} {place}: {message}")
            })
            .collect()
    }

    #[test]
    fn all_errors_are_told_at_once() {
        let text = r#"{"specs": {
  "a": {"argvv": ["x"], "cwd": 7, "nice": 99,
        "fds": [["x1", "close"], ["1", {"capture": {"mode": "memry", "keep": {}}}],
                ["2", {"capture": {}, "close": 1}], ["stdout", "capture"], ["9", {"file": {}}]]},
  "b": {"argv": "/bin/true", "env": {"vars": {"A": {"value": 1}, "B": {"valu": "x"}}},
        "rlimits": {"cpus": 1, "cpu": [1, "y"], "nofile": [2, 1]}, "labels": {"x": "1", "x": "2"}},
  "c": [],
  "d": {"argv": [], "argv": ["x"], "fds": {"1": {"data": {"text": 7}}, "stdout": "close",
        "2": {"capture": {"file": {"path": "x"}}}}}},
  "idempotent": "yes"}"#;
        let found = errors(text);
        let wanted = [
            "2:8 specs.a: missing key `argv`",
            "2:9 specs.a.argvv: unknown key `argvv`, expected one of `argv`, ",
            "2:32 specs.a.cwd: invalid type: integer `7`, expected a string",
            "2:43 specs.a.nice: 99 is out of range: expected -20 to 19",
            "3:18 specs.a.fds[0][0]: invalid fd name \"x1\": expected stdin, ",
            "3:61 specs.a.fds[1][1].capture.mode: unknown variant `memry`, ",
            "3:78 specs.a.fds[1][1].capture.keep: neither head nor tail is given",
            "4:23 specs.a.fds[2][1]: expected an object of one key, such as {\"capture\": {}}, found 2 keys",
            "4:53 specs.a.fds[3]: fd stdout given twice",
            "4:64 specs.a.fds[3][1]: expected an object; write it as {\"capture\": {...}}",
            "4:91 specs.a.fds[4][1].file: missing key `path`",
            "5:17 specs.b.argv: invalid type: string \"/bin/true\", expected an array",
            "5:62 specs.b.env.vars.A.value: invalid type: integer `1`, expected a string",
            "5:72 specs.b.env.vars.B.valu: unknown key `valu`, expected one of `value`, ",
            "6:21 specs.b.rlimits.cpus: unknown resource \"cpus\": expected one of as, ",
            "6:43 specs.b.rlimits.cpu[1]: invalid limit \"y\": expected a number, ",
            "6:59 specs.b.rlimits.nofile: the soft limit is above the hard one",
            "6:89 specs.b.labels: key \"x\" given twice",
            "7:8 specs.c: invalid type: array, expected an object",
            "8:17 specs.d.argv: nothing to execute: argv is empty",
            "8:21 specs.d: key \"argv\" given twice",
            "8:67 specs.d.fds.1.data.text: invalid type: integer `7`, expected a string",
            "8:72 specs.d.fds: key \"stdout\" given twice",
            "9:44 specs.d.fds.2.capture.file.path: path \"x\" is not absolute",
            "10:17 idempotent: invalid type: string \"yes\", expected a boolean",
        ];
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(found.starts_with(wanted), "{found}\n{wanted}");
        }
        assert_eq!(found.len(), wanted.len(), "{found:#?}");
    }

    #[test]
    fn consequences_of_an_error_are_not_reported() {
        // A pipe whose other end was removed, a variable whose value was, and a key that is missing
        // for that reason.
        for (text, wanted) in [
            (
                r#"{"specs": {"w": {"argv": ["x"], "fds": [["1", "pipe-write"]]},
                    "r": {"argv": ["x"], "fds": [["0", {"pipe-read": {"proc_id": 7, "fd": "1"}}]]}}}"#,
                "2:82 specs.r.fds[0][1].pipe-read.proc_id: invalid type: integer `7`, expected a string",
            ),
            (
                r#"{"specs": {"a": {"argv": ["x"], "env": {"vars": {"A": {"file": null, "value": []}}}}}}"#,
                "1:79 specs.a.env.vars.A.value: invalid type: array, expected a string",
            ),
            (
                r#"{"specs": {"a": {"argv": ["x"], "io_priority": {"class": 7}}}}"#,
                "1:58 specs.a.io_priority.class: ",
            ),
            (
                r#"{"specs": {"a": {"argv": ["x"], "io_priority": {}}}}"#,
                "1:48 specs.a.io_priority: missing key `class`",
            ),
            (
                r#"{"specs": 7, "idempotent": true}"#,
                "1:11 specs: invalid type: integer `7`, expected an object",
            ),
            ("{}", "1:1 : missing key `specs`"),
            ("[]", "1:1 : invalid type: array, expected an object"),
            ("\n 7", "2:2 : invalid type: integer `7`, expected an object"),
            ("{\"specs\": {,}}", "1:12 "),
            ("", "1:1 : invalid JSON: expected an object"),
        ] {
            let found = errors(text);
            assert!(found.len() == 1 && found[0].starts_with(wanted), "{wanted}\n{found:#?}");
        }
    }

    #[test]
    fn very_many_errors_are_not_told_all() {
        let entries: Vec<String> = (0..3000).map(|i| format!("\"{i}\": 7")).collect();
        let text = format!("{{\"specs\": {{{}}}}}", entries.join(",\n"));
        let errors = diagnose(text.as_bytes()).unwrap_err().0;
        assert_eq!(errors.len(), ERRORS + 1);
        assert_eq!(errors[ERRORS - 1].position, Some((ERRORS, 7)));
        assert_eq!(
            errors[ERRORS].message,
            "only the first 100 errors are shown; correct them, and check again"
        );
        let deep = format!("{{\"specs\": {}{}}}", "[".repeat(9999), "]".repeat(9999));
        assert_eq!(diagnose(deep.as_bytes()).unwrap_err().0.len(), 1);
    }

    proptest::proptest! {
        /// The search finds errors exactly if reading or validating the text fails.
        #[test]
        fn agrees_with_the_reader(request in crate::spec::tests::request(), cut in 0usize..2000, put in "[a-z7\"{},\\[\\]:]{0,3}") {
            let mut text = serde_json::to_string(&request).unwrap();
            if let Some(at) = (0..=text.len()).find(|i| *i >= cut && text.is_char_boundary(*i)) {
                text.insert_str(at, &put);
            }
            let (read, diagnosed) = (crate::spec::from_valid_json(text.as_bytes()), diagnose(text.as_bytes()));
            proptest::prop_assert_eq!(read.is_ok(), diagnosed.is_ok());
            if let (Err(first), Err(all)) = (read, diagnosed) {
                proptest::prop_assert!(!all.0.is_empty() && all.0.len() + 1 >= first.0.len().min(ERRORS), "{first:?} {all:?}");
                proptest::prop_assert!(all.0.iter().all(|error| error.position.is_some()));
            }
        }
    }
}
