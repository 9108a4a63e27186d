//! `procstar start`: a spec's processes, or one process, in a running instance.

use std::io::{self, Read};
use std::path::Path;

use serde_json::{Value, json};

use super::api::Api;
use super::error::ClientError;
use super::format;
use super::options::StartArgs;
use super::out::Out;
use crate::cli::descriptor;
use crate::cli::process_options::Environment;
use crate::spec::{CaptureSpec, Encoding, FdEntry, FdName, FdSpec, Fds, NullSpec, ProcSpec};

/// Starts the processes, and prints their IDs.
///
/// # Errors
/// The spec cannot be read, or is refused: each error names its place.
pub async fn start(args: &StartArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    let (named, spec) = match &args.spec {
        Some(path) => (Some(name(path)), read(path)?),
        None => (None, of_argv(args, api.is_remote())?.to_string().into_bytes()),
    };
    let ids = api.start(spec).await.map_err(|error| match (error, named) {
        (ClientError::Refused { status: status @ 400, details }, Some(name)) => {
            let details = details.into_iter().map(|detail| in_file(&name, &detail)).collect();
            ClientError::Refused { status, details }
        }
        (error, _) => error,
    })?;
    format::ids(&ids, args.format, args.null, out)?;
    Ok(0)
}

/// An error of the instance with the spec's name in front, as `validate` has it:
/// `FILE:LINE:COLUMN: ...`.
fn in_file(name: &str, detail: &str) -> String {
    let mut parts = detail.splitn(3, ':');
    let is_number = |part: Option<&str>| part.is_some_and(|part| part.parse::<usize>().is_ok());
    let has_position = is_number(parts.next()) && is_number(parts.next());
    format!("{name}:{}{detail}", if has_position { "" } else { " " })
}

fn name(path: &Path) -> String {
    if path == Path::new("-") { "<stdin>".into() } else { path.display().to_string() }
}

fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    let failed = |source: io::Error| ClientError::Read { path: name(path), source };
    if path != Path::new("-") {
        return descriptor::read(path).map_err(failed);
    }
    let mut spec = Vec::new();
    io::stdin().read_to_end(&mut spec).map_err(failed)?;
    Ok(spec)
}

/// Makes a path of the command line absolute: it is relative to our directory, which differs from
/// the instance's.
fn absolute(what: &str, path: &str, remote: bool) -> Result<String, ClientError> {
    if Path::new(path).is_absolute() {
        return Ok(path.to_owned());
    }
    if remote {
        return Err(ClientError::Usage(format!(
            "{what}: {path:?} is relative, and the instance may be on another machine; give an absolute path"
        )));
    }
    let named = |source: io::Error| ClientError::Read { path: path.to_owned(), source };
    let absolute = std::path::absolute(path).map_err(named)?;
    absolute.into_os_string().into_string().map_err(|absolute| {
        ClientError::Usage(format!("{what}: {absolute:?} is not UTF-8; give a path that is"))
    })
}

/// The spec of one process; `remote` if the instance may be on another machine.
fn of_argv(args: &StartArgs, remote: bool) -> Result<Value, ClientError> {
    let id = args.options.id().map(str::to_owned).unwrap_or_else(|| {
        let program = args.argv.first().and_then(|program| program.rsplit('/').next());
        format!("{}-{:08x}", program.unwrap_or_default(), fastrand::u32(..))
    });
    let mut spec =
        args.options.clone().spec(Environment::OfInstance).map_err(ClientError::Usage)?;
    if let Some(cwd) = &spec.cwd {
        spec.cwd = Some(absolute("--cwd", cwd, remote)?);
    }
    if let Some(program) = args.argv.first().filter(|program| program.contains('/')) {
        spec.exe = Some(absolute("CMD", program, remote)?);
    }
    let capture = FdSpec::Capture(CaptureSpec {
        encoding: Some(Encoding::Utf8),
        chunk_times: true,
        ..CaptureSpec::default()
    });
    let fds = [
        FdEntry(FdName::STDIN, FdSpec::Null(NullSpec::default())),
        FdEntry(FdName::STDOUT, capture.clone()),
        FdEntry(FdName::STDERR, capture),
    ];
    let spec = ProcSpec { argv: args.argv.clone(), fds: Fds::InOrder(fds.into()), ..spec };
    Ok(json!({"specs": {id: spec}}))
}
