//! Remedies for errors in specs, if they can be guessed.

use super::error::{Segment, SpecError};
use super::parse::{INVALID_JSON, NO_OBJECT};
use crate::text::distance;

impl SpecError {
    /// The remedy for the error, if it can be guessed.
    pub fn remedy(&self) -> Option<String> {
        let meant = || meant(&self.message).map(|(_, name)| format!("did you mean `{name}`?"));
        of_type(self).or_else(|| of_json(&self.message)).or_else(meant)
    }

    /// The message, and the remedy after it. If an unknown name has a similar one, that one is
    /// printed instead of the list of all names.
    pub fn advice(&self) -> String {
        let problem = meant(&self.message).map_or(self.message.as_str(), |(problem, _)| problem);
        match self.remedy() {
            Some(remedy) => format!("{problem}; {remedy}"),
            None => problem.to_owned(),
        }
    }
}

/// The remedy of a value of the wrong type.
fn of_type(error: &SpecError) -> Option<String> {
    let last = error.place.segments().last()?;
    if let Segment::Key(key) = last
        && key == "labels"
        && error.message.starts_with("invalid type: ")
    {
        return Some(r#"write it as {"NAME": "VALUE"}"#.to_owned());
    }
    let number = error.message.strip_suffix("`, expected a string");
    if let Some(number) = number.and_then(|rest| rest.strip_prefix("invalid type: integer `")) {
        return Some(format!("write it in quotes: \"{number}\""));
    }
    let given = error.message.strip_prefix("invalid type: string ")?;
    let text = given.split_once(", expected").map_or(given, |(text, _)| text);
    let text: String = serde_json::from_str(text).ok()?;
    match last {
        Segment::Key(key) if key == "argv" => {
            let words: Vec<&str> = text.split_whitespace().collect();
            Some(format!("write it as {}", serde_json::json!(words)))
        }
        _ if text.parse::<f64>().is_ok() => Some(format!("write it without quotes: {text}")),
        _ => None,
    }
}

/// The remedy of a text that is not JSON.
fn of_json(message: &str) -> Option<String> {
    if message == NO_OBJECT {
        let remedy = r#"a spec is JSON, not YAML or TOML: write it as {"specs": {"ID": {"argv": ["PROGRAM"]}}}"#;
        return Some(remedy.to_owned());
    }
    let remedy = match message.strip_prefix(INVALID_JSON)? {
        "trailing comma" => "remove the comma",
        "trailing characters" => "remove the text after the object",
        "expected value" | "expected ident" => {
            "write a string in double quotes, a number, true, false, null, [...] or {...} there"
        }
        "key must be a string" => "write the key in double quotes; JSON has no comments",
        problem if problem.starts_with("EOF") => "complete the text; a bracket or a quote is open",
        _ => "correct the text there",
    };
    Some(remedy.to_owned())
}

/// Keys of earlier versions and of similar tools, with those of today.
const RENAMED: [(&str, &str); 7] = [
    ("procs", "specs"),
    ("pieces", "chunk_times"),
    ("search_path", "lookup_path"),
    ("limits", "rlimits"),
    ("limit", "keep"),
    ("report", "in_result"),
    ("keep", "delete_with_process"),
];

/// For an error about an unknown name: the error without the list of known names, and the name most
/// likely meant.
fn meant(message: &str) -> Option<(&str, &str)> {
    let rest = message.strip_prefix("unknown ").filter(|rest| !rest.starts_with("signal "))?;
    let (what, expected) = rest.rsplit_once("expected ")?;
    let given = what.split(['`', '"']).nth(1)?;
    let problem = message.strip_suffix(expected)?.strip_suffix("expected ")?;
    let problem = problem.trim_end_matches([',', ':', ' ']);
    let normal = given.to_lowercase().replace('-', "_");
    let names = expected.trim_start_matches("one of ").split([',', ' ', '`']);
    let names: Vec<_> = names.filter(|name| !name.is_empty() && *name != "or").collect();
    let renamed = |(old, new): &&(&str, &str)| *old == normal && names.contains(new);
    if let Some((_, new)) = RENAMED.iter().find(renamed) {
        return Some((problem, new));
    }
    let near = names
        .into_iter()
        .map(|name| (distance(&normal, &name.replace('-', "_")), name))
        .min_by_key(|(distance, _)| *distance)?;
    // The distance of a typing error.
    (near.0 <= (normal.len() / 4).clamp(1, 3)).then_some((problem, near.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::SpecPath;

    #[test]
    fn remedies_name_the_nearest_name() {
        for (message, wanted) in [
            ("unknown key `argvv`, expected one of `argv`, `exe`", Some("argv")),
            (
                "unknown key `lookup-path`, expected one of `argv`, `lookup_path`",
                Some("lookup_path"),
            ),
            ("unknown key `pieces`, expected one of `mode`, `chunk_times`", Some("chunk_times")),
            ("unknown key `limit`, expected one of `mode`, `keep`", Some("keep")),
            ("unknown key `limits`, expected one of `argv`, `rlimits`", Some("rlimits")),
            (
                "unknown key `keep`, expected one of `path`, `delete_with_process`",
                Some("delete_with_process"),
            ),
            ("unknown variant `memry`, expected `tempfile` or `memory`", Some("memory")),
            (
                "unknown variant `pipe_write`, expected one of `null`, `pipe-write`",
                Some("pipe-write"),
            ),
            ("unknown resource \"cpus\": expected one of as, core, cpu", Some("cpu")),
            ("unknown key `colour`, expected one of `argv`, `exe`", None),
            ("unknown signal \"FOO\": expected a name such as TERM or SIGTERM", None),
            ("unknown key `procs`, expected one of `specs`, `idempotent`", Some("specs")),
            ("missing key `argv`", None),
        ] {
            assert_eq!(meant(message).map(|(_, name)| name), wanted, "{message}");
        }
    }

    #[test]
    fn a_similar_name_is_printed_instead_of_all_names() {
        for (message, wanted) in [
            (
                "unknown key `argvv`, expected one of `argv`, `exe`",
                "unknown key `argvv`; did you mean `argv`?",
            ),
            (
                "unknown resource \"cpus\": expected one of as, core, cpu",
                "unknown resource \"cpus\"; did you mean `cpu`?",
            ),
            (
                "unknown key `colour`, expected one of `argv`, `exe`",
                "unknown key `colour`, expected one of `argv`, `exe`",
            ),
            // The key is the client's text.
            (
                "unknown key `x, expected `, expected `argv` or `exe`",
                "unknown key `x, expected `, expected `argv` or `exe`",
            ),
        ] {
            assert_eq!(SpecError::new(SpecPath::root(), message).advice(), wanted);
        }
    }

    #[test]
    fn remedies_of_types_show_the_right_form() {
        let at = |key: &str| SpecPath::root().key("specs").key("a").key(key);
        for (key, message, wanted) in [
            (
                "argv",
                "invalid type: string \"ls -l\", expected an array",
                Some("write it as [\"ls\",\"-l\"]"),
            ),
            (
                "nice",
                "invalid type: string \"5\", expected an integer",
                Some("write it without quotes: 5"),
            ),
            ("nice", "invalid type: string \"low\", expected an integer", None),
            (
                "labels",
                "invalid type: array, expected an object",
                Some(r#"write it as {"NAME": "VALUE"}"#),
            ),
            (
                "cwd",
                "invalid type: integer `7`, expected a string",
                Some("write it in quotes: \"7\""),
            ),
            ("specs", "invalid JSON: trailing comma", Some("remove the comma")),
        ] {
            let error = SpecError::new(at(key), message);
            assert_eq!(error.remedy().as_deref(), wanted, "{message}");
        }
    }
}
