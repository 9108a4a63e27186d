//! `procstar config show`: the effective configuration with the source of each value. `procstar
//! schema`: the JSON Schemas.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use crate::cli::arguments::Described;
use crate::config::keys::KEYS;
use crate::config::{FileState, Loaded, Origin};

/// Renders `loaded`, secrets masked, with a newline at the end.
///
/// As text: the files, then one line for each setting, `NAME = VALUE # ORIGIN`, aligned. As JSON,
/// one object: `files` is an array of `{path, state: "read"|"absent"|"denied"}` in the order of the
/// layers, and `settings` an object of `{value, source, ...}` by dotted name. `value` is null if
/// unset. `source` is `"default"`, `"file"` (with `path` and `line`), `"environment"`
/// (`name`), `"secret-file"` (`name`, `path`), `"credential"` (`path`) or `"flag"` (`name`).
pub fn render(loaded: &Loaded, as_json: bool) -> String {
    if as_json { json(loaded) } else { text(loaded) }
}

/// The JSON Schema of specs or of results, with a newline at the end.
pub fn schema(of: Described) -> String {
    let schema = match of {
        Described::Specs => crate::spec::schema(),
        Described::Results => crate::report::schema(),
    };
    format!("{:#}\n", schema.as_value())
}

fn text(loaded: &Loaded) -> String {
    let mut out = String::from("# files, the later ones win\n");
    let width = loaded.files.iter().map(|(path, _)| path.display().to_string().len()).max();
    for (path, state) in &loaded.files {
        let path = path.display().to_string();
        let state = match state {
            FileState::Read => "read",
            FileState::Absent => "not there",
            FileState::Denied => "skipped, this user may not read it",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "#   {path:width$}  {state}", width = width.unwrap_or_default());
    }
    out.push('\n');
    let rows: Vec<_> = KEYS
        .iter()
        .map(|key| (key.path, shown(loaded.settings.shown(key.path)), origin(loaded, key.path)))
        .collect();
    let names = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or_default();
    let values = rows.iter().map(|(_, value, _)| value.chars().count()).max().unwrap_or_default();
    for (name, value, origin) in rows {
        let _ = writeln!(out, "{name:names$} = {value:values$}  # {origin}");
    }
    out
}

/// A value in the syntax of TOML, so that control characters are escaped.
fn shown(value: Value) -> String {
    match value {
        Value::Null => "(unset)".to_owned(),
        value => value.to_string(),
    }
}

fn origin<'l>(loaded: &'l Loaded, path: &str) -> &'l Origin {
    loaded.origins.get(path).unwrap_or(&Origin::Default)
}

fn json(loaded: &Loaded) -> String {
    let files: Vec<_> = loaded
        .files
        .iter()
        .map(|(path, state)| {
            let state = match state {
                FileState::Read => "read",
                FileState::Absent => "absent",
                FileState::Denied => "denied",
            };
            json!({"path": path.to_string_lossy(), "state": state})
        })
        .collect();
    let settings: Map<_, _> = KEYS
        .iter()
        .map(|key| {
            let mut entry = source(origin(loaded, key.path));
            entry.insert("value".to_owned(), loaded.settings.shown(key.path));
            (key.path.to_owned(), Value::Object(entry))
        })
        .collect();
    format!("{:#}\n", json!({"files": files, "settings": settings}))
}

fn source(origin: &Origin) -> Map<String, Value> {
    let fields = match origin {
        Origin::Default => json!({"source": "default"}),
        Origin::File { path, line } => {
            json!({"source": "file", "path": path.to_string_lossy(), "line": line})
        }
        Origin::Variable { name } => json!({"source": "environment", "name": name}),
        Origin::SecretFile { name, path } => {
            json!({"source": "secret-file", "name": name, "path": path.to_string_lossy()})
        }
        Origin::Credential { path } => {
            json!({"source": "credential", "path": path.to_string_lossy()})
        }
        Origin::Flag { name } => json!({"source": "flag", "name": name}),
    };
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
