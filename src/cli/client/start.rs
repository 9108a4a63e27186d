//! `procstar start`: a spec's processes, or one process, in a running instance.

use std::io::{self, Read};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::api::Api;
use super::error::ClientError;
use super::forms;
use super::options::StartArgs;
use super::out::Out;

/// Starts, and prints the IDs.
///
/// # Errors
/// The spec cannot be read, or is refused: each error names its place.
pub async fn start(args: &StartArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    let (named, spec) = match &args.spec {
        Some(path) => (Some(name(path)), read(path)?),
        None => (None, of_argv(args).to_string().into_bytes()),
    };
    let ids = api.start(spec).await.map_err(|error| match (error, named) {
        (ClientError::Refused { status: status @ 400, details }, Some(name)) => {
            let details = details.into_iter().map(|detail| format!("{name}: {detail}")).collect();
            ClientError::Refused { status, details }
        }
        (error, _) => error,
    })?;
    forms::ids(&ids, args.form, out)?;
    Ok(0)
}

fn name(path: &Path) -> String {
    if path == Path::new("-") { "<stdin>".into() } else { path.display().to_string() }
}

fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    let failed = |source: io::Error| ClientError::Read { path: name(path), source };
    if path != Path::new("-") {
        return std::fs::read(path).map_err(failed);
    }
    let mut spec = Vec::new();
    io::stdin().read_to_end(&mut spec).map_err(failed)?;
    Ok(spec)
}

/// The spec of one process.
fn of_argv(args: &StartArgs) -> Value {
    let id = args.id.clone().unwrap_or_else(|| {
        let program = args.argv.first().and_then(|program| program.rsplit('/').next());
        format!("{}-{:08x}", program.unwrap_or_default(), fastrand::u32(..))
    });
    let capture = json!({"capture": {"encoding": "utf-8", "pieces": true}});
    let mut proc = json!({
        "argv": args.argv,
        "search_path": true,
        "fds": [["stdin", {"null": {}}], ["stdout", capture.clone()], ["stderr", capture]],
    });
    let map = |pairs: &[(String, String)]| {
        Value::Object(pairs.iter().map(|(k, v)| (k.clone(), v.clone().into())).collect())
    };
    if let Some(proc) = proc.as_object_mut() {
        add(proc, "env", !args.env.is_empty(), || json!({"inherit": true, "vars": map(&args.env)}));
        add(proc, "labels", !args.label.is_empty(), || map(&args.label));
        add(proc, "cwd", args.cwd.is_some(), || json!(args.cwd));
        let timeout = || json!(args.timeout.unwrap_or_default().as_secs_f64());
        add(proc, "timeout", args.timeout.is_some(), timeout);
    }
    json!({"specs": {id: proc}})
}

fn add(proc: &mut Map<String, Value>, key: &str, given: bool, value: impl FnOnce() -> Value) {
    if given {
        proc.insert(key.to_owned(), value());
    }
}
