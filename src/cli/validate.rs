//! `procstar validate`: every error of a spec at once, with its place and its remedy, if any.

use serde_json::json;

use super::input::{InputError, name_of, read_text};
use crate::cli::invocation::Input;
use crate::spec::{self, SpecError};

/// The result of a check.
pub struct Verdict {
    /// For standard output, with a newline at its end.
    pub text: String,
    /// Whether the spec is valid.
    pub valid: bool,
}

/// Reads a spec and validates it, without starting processes.
///
/// As text: `FILE: valid, N processes`, or a line `FILE:LINE:COLUMN: PLACE: MESSAGE` for each
/// error. As JSON, one object: `{valid, processes, errors: [{place, message, line, column,
/// remedy}]}`; `processes` is null if the spec is not valid, `remedy` if the error has none.
///
/// # Errors
/// `InputError` if the spec cannot be read.
pub fn validate(input: &Input, as_json: bool) -> Result<Verdict, InputError> {
    let text = read_text(input)?;
    let name = name_of(input);
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
        errors.iter().map(|error| format!("{}\n", error.in_file(&name))).collect()
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
        "remedy": error.remedy(),
    })
}
