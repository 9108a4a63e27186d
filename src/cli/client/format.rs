//! Results in the chosen format.

use super::api::{Api, Results};
use super::error::ClientError;
use super::humanize;
use super::options::ListFormat;
use super::out::{Out, Style};
use super::proc::Proc;
use super::table::{Cell, Head, TextTable};
use crate::cli::printable::printable_json;
use crate::report::times::Rfc3339;

/// Prints processes.
///
/// # Errors
/// Invalid results, or a failure to write.
pub fn list(
    results: &Results,
    format: ListFormat,
    api: &Api,
    out: &mut Out,
) -> Result<(), ClientError> {
    match format {
        ListFormat::Json => json(results, out),
        ListFormat::Jsonl => jsonl(results, out),
        ListFormat::Table | ListFormat::Wide => {
            let wide = format == ListFormat::Wide;
            let mut table = TextTable::new(heads(wide));
            for (id, result) in results {
                let proc = Proc::of(result).map_err(|reason| api.nonsense(reason))?;
                table.push(row(id, &proc, wide));
            }
            lines(&table, out)
        }
    }
}

/// Prints a table.
///
/// # Errors
/// A failure to write.
pub fn lines(table: &TextTable, out: &mut Out) -> Result<(), ClientError> {
    let mut text = table.lines(out).join("\n");
    text.push('\n');
    out.write(text)
}

/// Prints one object of results by ID.
///
/// # Errors
/// A failure to write.
pub fn json(results: &Results, out: &mut Out) -> Result<(), ClientError> {
    out.write("{")?;
    for (at, (id, result)) in results.iter().enumerate() {
        let comma = if at == 0 { "" } else { ",\n " };
        out.write(printable_json(&format!("{comma}{}: {}", as_json(id), result.get())))?;
    }
    out.write("}\n")
}

/// Prints each result as an object on its own line.
///
/// # Errors
/// A failure to write.
pub fn jsonl(results: &Results, out: &mut Out) -> Result<(), ClientError> {
    for (id, result) in results {
        let line = format!("{{\"id\":{},\"result\":{}}}\n", as_json(id), result.get());
        out.write(printable_json(&line))?;
    }
    Ok(())
}

/// Prints IDs: one on each line, or each followed by a NUL byte with `null`, or as JSON: one
/// object, or a string on each line.
///
/// # Errors
/// A failure to write.
pub fn ids(
    ids: &[String],
    format: ListFormat,
    null: bool,
    out: &mut Out,
) -> Result<(), ClientError> {
    match format {
        _ if null => ids.iter().try_for_each(|id| out.write(format!("{id}\0"))),
        ListFormat::Json => {
            let object = serde_json::json!({ "proc_ids": ids });
            out.write(printable_json(&format!("{object}\n")))
        }
        ListFormat::Jsonl => ids.iter().try_for_each(|id| {
            let object = serde_json::json!({ "id": id });
            out.write(printable_json(&format!("{object}\n")))
        }),
        ListFormat::Table | ListFormat::Wide => ids.iter().try_for_each(|id| out.id(id)),
    }
}

fn as_json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn heads(wide: bool) -> Vec<Head> {
    let mut heads = vec![
        Head::Left("ID"),
        Head::Left("STATE"),
        Head::Left("STATUS"),
        Head::Right("PID"),
        Head::Right("AGE"),
        Head::Right("TIME"),
    ];
    if wide {
        heads.extend([
            Head::Right("CPU"),
            Head::Right("MEMORY"),
            Head::Right("OUTPUT"),
            Head::Left("STARTED"),
            Head::Left("LABELS"),
        ]);
    }
    heads.push(Head::Left("COMMAND"));
    heads
}

fn row(id: &str, proc: &Proc, wide: bool) -> Vec<Cell> {
    let dash = || "-".to_owned();
    let mut row = vec![
        Cell::from(id),
        proc.state(),
        proc.ending().into(),
        proc.pid.map_or_else(dash, |pid| pid.to_string()).into(),
        humanize::span(proc.age()).into(),
        humanize::span(proc.times.elapsed).into(),
    ];
    if wide {
        row.extend([
            proc.usage.as_ref().map_or_else(dash, |usage| humanize::span(usage.cpu)).into(),
            proc.memory().map_or_else(dash, humanize::bytes).into(),
            proc.captured().into(),
            to_the_second(proc.times.start).into(),
            proc.labels().into(),
        ]);
    }
    row.push(proc.command().into());
    row
}

/// A time, to the second.
pub fn to_the_second(time: Rfc3339) -> String {
    time.timestamp().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A heading and its value, aligned.
pub fn entry(name: &str, value: &str, out: &Out) -> String {
    let name = format!("{name:<10}");
    format!("{}  {value}", out.paint(Style::Dim, &name))
}
