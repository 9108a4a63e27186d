//! The texts of errors, as they stand in the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use super::pages::root;

/// A title, the directories below `src/` whose errors belong there, and the remedy of those without one of their own.
const SECTIONS: [(&str, &[&str], &str); 7] = [
    (
        "Specs",
        &["spec"],
        "Correct the spec at the place that the message names; `procstar validate` checks it without starting anything.",
    ),
    (
        "Configuration and start",
        &[
            "config",
            "app",
            "logging",
            "trust",
            "rotating",
            "cli/starting",
            "cli/parse",
            "cli/input",
            "cli/invocation",
        ],
        "Correct the setting or file that the message names; `procstar config show` prints what is in effect and where it comes from.",
    ),
    (
        "Commands",
        &["cli"],
        "The message names the remedy; `procstar COMMAND --help` has the options and examples.",
    ),
    (
        "HTTP",
        &["http", "api", "output"],
        "Correct the request as the message says; [HTTP](http.md) describes each request.",
    ),
    (
        "Processes and their output",
        &["actors", "engine", "report", "procfs", "sampler", "mem"],
        "See `errors` and `failures` in the result, and the log of the instance.",
    ),
    (
        "Agent protocol and network",
        &["dispatch", "net", "wire"],
        "The agent tries again by itself. If it does not succeed, compare host, port, certificate and token with the scheduler's; the log names the cause.",
    ),
    (
        "Keeper",
        &["keeper"],
        "Shown in the log or by `procstar upgrade`; the running instance goes on. Check the disk and the state directory, then try again.",
    ),
];

/// The rows of the page: remedies by text.
pub fn rows(page: &str) -> BTreeMap<String, String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| {
        let (text, remedy) = row.split_once("` | ")?;
        Some((text.to_owned(), remedy.trim_end_matches('|').trim().to_owned()))
    })
    .collect()
}

/// The page's tables, with the remedies that are known.
pub fn page(known: &BTreeMap<String, String>) -> String {
    let mut by_section: Vec<BTreeSet<String>> = vec![BTreeSet::new(); SECTIONS.len()];
    let source = root().join("src");
    visit(&source, &mut |path, text| {
        let path = path.strip_prefix(&source).unwrap().to_str().unwrap();
        let everything = path.starts_with("spec/") || path.starts_with("config/");
        let texts = texts(text, everything);
        if texts.is_empty() {
            return;
        }
        // The longest directory that fits.
        let fits = |(at, (_, dirs, _)): (usize, &(&str, &[&str], &str))| {
            let dirs = dirs.iter().filter(|dir| path.starts_with(**dir));
            dirs.map(|dir| dir.len()).max().map(|len| (len, at))
        };
        let section = SECTIONS.iter().enumerate().filter_map(fits).max();
        let (_, section) = section.unwrap_or_else(|| panic!("no section for {path}"));
        by_section[section].extend(texts);
    });
    let mut page = String::new();
    for ((title, _, remedy), texts) in SECTIONS.iter().zip(by_section) {
        writeln!(page, "## {title}\n\n{remedy}\n\n| error | remedy |\n| --- | --- |").unwrap();
        for text in texts {
            let remedy = known.get(&text).map_or("as above", String::as_str);
            writeln!(page, "| `{text}` | {remedy} |").unwrap();
        }
        page.push('\n');
    }
    page
}

fn visit(dir: &Path, each: &mut impl FnMut(&Path, &str)) {
    let mut entries: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "tests" {
            visit(&path, each);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            each(&path, &std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// The texts of a file: those of `#[error("...")]`, and, if asked for, of `format!` and `custom`.
fn texts(source: &str, everything: bool) -> BTreeSet<String> {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap();
    let mut openings = vec!["#[error("];
    if everything {
        openings.extend(["format!(", "custom("]);
    }
    let mut found = BTreeSet::new();
    for opening in openings {
        for rest in source.split(opening).skip(1) {
            if let Some(literal) = rest.trim_start().strip_prefix('"') {
                let text = shown(&unescaped(literal));
                let words = text.split(' ').filter(|word| word.len() > 2).count();
                if words > 1 && !text.starts_with(['{', '/', '<']) && is_a_sentence(&text) {
                    found.insert(text);
                }
            }
        }
    }
    found
}

/// Whether it is more than a place or a list.
fn is_a_sentence(text: &str) -> bool {
    text.split(' ').filter(|word| word.chars().all(|c| c.is_ascii_alphabetic())).count() > 1
}

/// A string literal up to its end, its escapes resolved.
fn unescaped(literal: &str) -> String {
    let (mut text, mut chars) = (String::new(), literal.chars());
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => match chars.next() {
                Some('n') => text.push(' '),
                Some('\n') => chars = chars.as_str().trim_start().chars(),
                Some(other) => text.push(other),
                None => break,
            },
            other => text.push(other),
        }
    }
    text
}

/// A format string with `…` for what is put in.
fn shown(text: &str) -> String {
    let (mut shown, mut depth) = (String::new(), 0);
    let text = text.replace("{{", "\u{1}").replace("}}", "\u{2}");
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                shown.push('…');
            }
            other if depth == 0 => shown.push(other),
            _ => {}
        }
    }
    // In a table's cell, in backticks.
    let shown = shown.replace('\u{1}', "{").replace('\u{2}', "}").replace('|', "\\|");
    shown.replace('`', "'").split_whitespace().collect::<Vec<_>>().join(" ")
}
