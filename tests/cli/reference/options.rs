//! The options of each command, as its `--help` has them.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::pages::{root, visit};
use super::source::arguments;

/// Headings of help texts whose lines are options.
type Sections = Vec<(String, Vec<(String, String)>)>;

/// A table of options for each command, and one for those that many commands share.
pub fn tables(help: impl Fn(&[&str]) -> String) -> String {
    let top = help(&["--help"]);
    let names: Vec<&str> = commands(&top);
    assert!(names.len() > 15, "{names:?}");
    let mut all = vec![("procstar".to_owned(), sections(&top))];
    for name in &names {
        let text = help(&[name, "--help"]);
        let subcommands = commands(&text);
        all.push((format!("procstar {name}"), sections(&text)));
        for subcommand in subcommands.iter().filter(|one| **one != "help") {
            let text = help(&[name, subcommand, "--help"]);
            all.push((format!("procstar {name} {subcommand}"), sections(&text)));
        }
    }
    // Rows that several commands have word by word are shown once.
    let mut users: BTreeMap<(String, String), usize> = BTreeMap::new();
    for row in all.iter().flat_map(|(_, sections)| sections).flat_map(|(_, rows)| rows) {
        *users.entry(row.clone()).or_default() += 1;
    }
    let mut text = String::new();
    for (command, sections) in &all {
        let rows: Vec<_> = sections.iter().flat_map(|(_, rows)| rows).collect();
        let own: Vec<_> = rows.iter().filter(|row| users[**row] < 5).collect();
        writeln!(text, "### `{command}`\n").unwrap();
        match own.as_slice() {
            [] => writeln!(text, "No options of its own.").unwrap(),
            own => table(&mut text, own.iter().map(|row| **row)),
        }
        text.push('\n');
    }
    writeln!(text, "### Options that several commands share\n").unwrap();
    let mut shared: Vec<&(String, String)> = Vec::new();
    for row in all.iter().flat_map(|(_, sections)| sections).flat_map(|(_, rows)| rows) {
        if users[row] >= 5 && !shared.contains(&row) {
            shared.push(row);
        }
    }
    table(&mut text, shared.into_iter());
    text
}

fn table<'a>(text: &mut String, rows: impl Iterator<Item = &'a (String, String)>) {
    writeln!(text, "| option | meaning |\n| --- | --- |").unwrap();
    for (option, meaning) in rows {
        let meaning = meaning.replace('|', "\\|").replace('<', "&lt;");
        writeln!(text, "| `{}` | {meaning} |", option.replace('|', "\\|")).unwrap();
    }
}

/// The names below `Commands:`.
fn commands(help: &str) -> Vec<&str> {
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let list = list.split("\n\n").next().unwrap();
    list.lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("    "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect()
}

/// The options below each heading, with their descriptions.
fn sections(help: &str) -> Sections {
    let mut all: Sections = Vec::new();
    for line in help.lines() {
        let trimmed = line.trim();
        let indent = line.len() - line.trim_start().len();
        if indent == 0 && trimmed.ends_with(':') {
            all.push((trimmed.to_owned(), Vec::new()));
        } else if indent == 0 && !trimmed.is_empty() {
            all.push((String::new(), Vec::new()));
        } else if (2..10).contains(&indent)
            && trimmed.starts_with('-')
            && let Some((heading, rows)) = all.last_mut()
            && !heading.starts_with("Examples")
        {
            let (option, meaning) = trimmed.split_once("  ").unwrap_or((trimmed, ""));
            rows.push((option.to_owned(), meaning.trim().to_owned()));
        } else if indent >= 10
            && let Some((_, rows)) = all.last_mut()
            && let Some((_, meaning)) = rows.last_mut()
            && !trimmed.is_empty()
        {
            let gap = if meaning.is_empty() { "" } else { " " };
            *meaning = format!("{meaning}{gap}{trimmed}");
        }
    }
    all
}

/// A table of the options and commands that no help shows, from the definitions in the sources.
///
/// Copies of global options that a command hides are options of the program, and in the other tables.
pub fn hidden() -> String {
    let mut rows = Vec::new();
    visit(&root().join("src/cli"), &mut |_, source| {
        let lines: Vec<&str> = source.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            let is_attribute = line.starts_with("#[arg(") || line.starts_with("#[command(");
            if is_attribute && line.contains("hide = true") {
                rows.extend(hidden_option(&lines, at));
            }
        }
    });
    assert!(rows.len() > 2, "{rows:?}");
    rows.dedup();
    rows.sort();
    let mut text = String::new();
    table(&mut text, rows.iter());
    text
}

/// The option or command whose attributes include that of a line; `None` for a positional argument.
fn hidden_option(lines: &[&str], at: usize) -> Option<(String, String)> {
    let of_it = |line: &&str| line.starts_with("///") || line.starts_with("#[");
    let from = lines[..at].iter().rposition(|line| !of_it(line)).map_or(0, |line| line + 1);
    let to = at + lines[at..].iter().position(|line| !of_it(line))?;
    let docs = lines[from..to].iter().filter_map(|line| line.strip_prefix("/// "));
    let meaning = docs.collect::<Vec<_>>().join(" ");
    let attributes: Vec<&str> = lines[from..to]
        .iter()
        .filter_map(|line| line.strip_prefix("#[arg("))
        .flat_map(|line| arguments(line, 0).0)
        .collect();
    let name = lines[to].trim_start_matches("pub(super) ").trim_start_matches("pub ");
    let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    if lines[at].starts_with("#[command(") {
        return Some((format!("procstar __{}", name.to_lowercase()), meaning));
    }
    attributes.contains(&"long").then(|| {
        let value = attributes.iter().find_map(|one| one.strip_prefix("value_name = "));
        let value = value.map_or(String::new(), |value| format!(" <{}>", value.trim_matches('"')));
        let short = if attributes.contains(&"short") {
            format!("-{}, ", &name[..1])
        } else {
            String::new()
        };
        (format!("{short}--{}{value}", name.replace('_', "-")), meaning)
    })
}
