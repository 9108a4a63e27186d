//! `procstar validate`: every error of a spec at once, with its place and, where there is one, its remedy.

use serde_json::json;

use super::input::{InputError, read_text};
use crate::cli::invocation::Input;
use crate::config::keys::distance;
use crate::spec::{self, SpecError, SpecPath};

/// What is said of a spec.
pub struct Verdict {
    /// For standard output, with a newline at its end.
    pub text: String,
    /// Whether there is nothing to object to.
    pub valid: bool,
}

/// Reads a spec and checks it; nothing is started.
///
/// As text: `FILE: valid, N processes`, or a line `FILE:LINE:COLUMN: PLACE: MESSAGE` for each error. As JSON, one object: `{valid, processes,
/// errors: [{place, message, line, column, remedy}]}`; `processes` is null where the spec is not valid, `remedy` where there is none.
///
/// # Errors
/// `InputError`, if it cannot be read.
pub fn validate(input: &Input, as_json: bool) -> Result<Verdict, InputError> {
    let text = read_text(input)?;
    let name = match input {
        Input::Stdin => "<stdin>".to_owned(),
        Input::File(path) => path.display().to_string(),
    };
    let (processes, errors) = match spec::diagnose(&text) {
        Ok(request) => (Some(request.procs.len()), Vec::new()),
        Err(errors) => (None, errors.0),
    };
    let text = if as_json {
        let errors: Vec<_> = errors.iter().map(error_as_json).collect();
        let valid = processes.is_some();
        format!("{:#}\n", json!({"valid": valid, "processes": processes, "errors": errors}))
    } else if let Some(n) = processes {
        format!("{name}: valid, {n} {}\n", if n == 1 { "process" } else { "processes" })
    } else {
        errors.iter().map(|error| format!("{name}:{}\n", line(error))).collect()
    };
    Ok(Verdict { text, valid: processes.is_some() })
}

fn error_as_json(error: &SpecError) -> serde_json::Value {
    let (line, column) = error.position.unzip();
    json!({
        "place": error.place.to_string(),
        "message": error.message,
        "line": line,
        "column": column,
        "remedy": remedy(&error.message),
    })
}

fn line(error: &SpecError) -> String {
    let SpecError { place, message, position } = error;
    let at = position.map_or(String::new(), |(line, column)| format!("{line}:{column}: "));
    let place = if *place == SpecPath::root() { String::new() } else { format!("{place}: ") };
    let remedy = remedy(message).map_or(String::new(), |remedy| format!("; {remedy}"));
    format!("{at}{place}{message}{remedy}")
}

/// Keys of earlier versions and of similar tools, with those of today.
const RENAMED: [(&str, &str); 6] = [
    ("pieces", "chunk_times"),
    ("search_path", "lookup_path"),
    ("limits", "rlimits"),
    ("limit", "keep"),
    ("report", "in_result"),
    ("keep", "delete_with_process"),
];

/// A suggestion for an unknown name: the name most likely meant.
fn remedy(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown ")?;
    let (what, expected) = rest.split_once("expected ")?;
    let given = what.split(['`', '"']).nth(1)?;
    let normal = given.to_lowercase().replace('-', "_");
    let names = expected.trim_start_matches("one of ").split([',', ' ', '`']);
    let names: Vec<_> = names.filter(|name| !name.is_empty() && *name != "or").collect();
    let renamed = |(old, new): &&(&str, &str)| *old == normal && names.contains(new);
    if let Some((_, new)) = RENAMED.iter().find(renamed) {
        return Some(format!("did you mean `{new}`?"));
    }
    let near = names
        .into_iter()
        .map(|name| (distance(&normal, &name.replace('-', "_")), name))
        .min_by_key(|(distance, _)| *distance)?;
    // As far as a slip of the finger goes.
    (near.0 <= (normal.len() / 4).clamp(1, 3)).then(|| format!("did you mean `{}`?", near.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_name_what_was_meant() {
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
            ("unknown signal \"FOO\"", None),
            ("missing key `argv`", None),
        ] {
            let wanted = wanted.map(|name| format!("did you mean `{name}`?"));
            assert_eq!(remedy(message), wanted, "{message}");
        }
    }
}
