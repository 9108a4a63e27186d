//! `procstar show`: processes in detail.

use super::api::{Api, Results};
use super::each::for_each;
use super::error::ClientError;
use super::options::{Captures, ListFormat, ShowArgs};
use super::out::Out;
use super::proc::Proc;
use super::{format, humanize};
use crate::cli::printable::printable;
use crate::report::capture::CaptureReport;
use crate::report::times::Rfc3339;
use crate::spec::{NetworkAccess, Sandbox};

/// Prints each process in detail.
///
/// # Errors
/// No response, or a failure to write.
pub async fn show(args: &ShowArgs, api: &Api, out: &mut Out) -> Result<u8, ClientError> {
    let people = matches!(args.format, ListFormat::Table | ListFormat::Wide);
    if people && args.captures != Captures::None {
        return Err(ClientError::Usage(
            "--captures is for -o json and jsonl; `procstar logs ID` prints output".into(),
        ));
    }
    let captures = match args.captures {
        Captures::None => "none",
        Captures::Inline => "inline",
        Captures::Tail => "tail",
    };
    let mut results = Results::new();
    let code = for_each(&args.ids, async |id| {
        let result = api.one(id, captures).await?;
        results.insert(id.to_owned(), result);
        Ok(())
    })
    .await?;
    match args.format {
        ListFormat::Json => format::json(&results, out)?,
        ListFormat::Jsonl => format::jsonl(&results, out)?,
        ListFormat::Table | ListFormat::Wide => {
            for (at, (id, result)) in results.iter().enumerate() {
                let proc = Proc::of(result).map_err(|reason| api.nonsense(reason))?;
                let gap = if at == 0 { "" } else { "\n" };
                let lines = lines(id, &proc, args.format == ListFormat::Wide, out);
                out.write(format!("{gap}{}\n", lines.join("\n")))?;
            }
        }
    }
    Ok(code)
}

fn lines(id: &str, proc: &Proc, wide: bool, out: &Out) -> Vec<String> {
    let mut lines = Vec::new();
    let mut add = |name: &str, value: String| {
        if value != "-" && !value.is_empty() {
            lines.push(format::entry(name, &printable(&value), out));
        }
    };
    add("ID", id.to_owned());
    add("state", proc.state_name());
    add("status", proc.ending());
    if proc.status.as_ref().is_some_and(|status| status.core_dump) {
        add("", "dumped core".into());
    }
    for error in proc.errors.iter() {
        add("error", error.clone());
    }
    add("command", proc.command());
    let exe = proc.exe.as_deref();
    let first = proc.argv.as_ref().and_then(|argv| argv.first());
    if wide || exe != first.map(String::as_str) {
        add("executable", exe.unwrap_or_default().to_owned());
    }
    add("directory", proc.cwd.as_deref().unwrap_or_default().to_owned());
    add("labels", proc.labels());
    add("sandbox", proc.sandbox.as_deref().map(sandbox).unwrap_or_default());
    add("pid", proc.pid.map_or_else(String::new, |pid| pid.to_string()));
    times(proc, &mut add);
    resources(proc, wide, &mut add);
    for (fd, capture) in &proc.captures {
        add(fd, captured(capture, proc.is_running()));
    }
    for failure in &proc.stop_failures {
        add("not stopped", failure.message.clone());
    }
    add("survivors", survivors(proc));
    lines
}

/// What a sandbox takes away, in the words of a spec.
fn sandbox(sandbox: &Sandbox) -> String {
    let mut parts = Vec::new();
    if sandbox.no_new_privs {
        parts.push("no_new_privs".to_owned());
    }
    if let Some(capabilities) = &sandbox.capabilities {
        let names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(" ") };
        parts.push(format!("capabilities: {names}"));
    }
    if sandbox.private_tmp {
        parts.push("private_tmp".to_owned());
    }
    for (what, paths) in [
        ("read-only", &sandbox.read_only_paths),
        ("writable", &sandbox.writable_paths),
        ("hidden", &sandbox.hidden_paths),
    ] {
        if !paths.is_empty() {
            parts.push(format!("{what}: {}", paths.join(" ")));
        }
    }
    match sandbox.network {
        NetworkAccess::Host => {}
        NetworkAccess::Loopback => parts.push("network: loopback".to_owned()),
        NetworkAccess::None => parts.push("network: none".to_owned()),
    }
    parts.join("; ")
}

fn survivors(proc: &Proc) -> String {
    match (proc.survivor_count, &proc.survivors) {
        (Some(0), _) => String::new(),
        (Some(count), _) => format!("{count}; show -o json names them"),
        (None, Some(known)) => {
            format!("{}, and there may be others; show -o json names them", known.len())
        }
        (None, None) if proc.is_running() => String::new(),
        (None, None) => "not known: an orphan may come from this process or from another".into(),
    }
}

fn times(proc: &Proc, add: &mut impl FnMut(&str, String)) {
    let times = &proc.times;
    let ago = |time: Rfc3339| {
        format!("{time}, {} ago", humanize::span(humanize::between(time, times.now)))
    };
    add("started", ago(times.start));
    add("ended", times.stop.map_or(String::new(), ago));
    add("time", humanize::span(times.elapsed));
}

fn resources(proc: &Proc, wide: bool, add: &mut impl FnMut(&str, String)) {
    if let Some(usage) = &proc.usage {
        add("CPU", humanize::span(usage.cpu));
    }
    if let Some(memory) = proc.memory() {
        let which = if proc.is_running() { "" } else { " at most" };
        add("memory", format!("{}{which}", humanize::bytes(memory)));
    }
    if let (true, Some(stat)) = (wide && proc.is_running(), &proc.proc_stat) {
        add("kernel", format!("state {}, {} threads", stat.state, stat.num_threads));
    }
}

fn captured(capture: &CaptureReport, running: bool) -> String {
    let mut text = format!("{} captured", humanize::bytes(capture.length));
    if capture.dropped > 0 {
        text.push_str(&format!(", {} dropped", humanize::bytes(capture.dropped)));
    }
    if !running && !capture.complete {
        let why = capture.reason.as_ref().map_or("unknown".into(), ToString::to_string);
        text.push_str(&format!(", not complete: {why}"));
    }
    if let Some(path) = &capture.path {
        text.push_str(&format!(", in {path}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::proc::sample;
    use crate::spec::SandboxProfile;

    #[test]
    fn a_sandbox_is_shown_by_what_it_takes_away() {
        let strict = Sandbox {
            writable_paths: vec!["/w".into(), "/x".into()],
            ..Sandbox::of(SandboxProfile::Strict)
        };
        assert_eq!(
            sandbox(&strict),
            "no_new_privs; capabilities: none; private_tmp; read-only: /; writable: /w /x; network: none"
        );
    }

    #[test]
    fn unknown_survivors_are_not_reported_as_none() {
        let shown = |keys: &str| survivors(&sample(&serde_json::from_str(keys).unwrap()));
        let one = r#"[{"pid": 7, "comm": "x", "session": 7, "relation": "inferred"}]"#;
        for (count, known, said) in [
            ("0", "[]", ""),
            ("1", one, "1; show -o json names them"),
            ("null", one, "1, and there may be others; show -o json names them"),
            ("null", "null", "not known: an orphan may come from this process or from another"),
        ] {
            let keys = format!(r#""survivor_count": {count}, "survivors": {known}"#);
            assert_eq!(shown(&format!(r#"{{"state": "terminated", {keys}}}"#)), said);
        }
        assert_eq!(shown(r#"{"state": "running", "survivor_count": null}"#), "");
    }
}
