//! The texts of errors, as they stand in the sources.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::pages::{root, visit};
use super::remedies::{WHOLE, remedy_of};
use super::source::{
    arguments, calls, functions, literals, shown, unescaped, without_comments, without_tests,
};

/// A title, the directories below `src/` whose errors belong there, and advice that fits them all.
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

/// The page's tables.
pub fn page() -> String {
    let mut by_section: Vec<BTreeSet<String>> = vec![BTreeSet::new(); SECTIONS.len()];
    let source = root().join("src");
    visit(&source, &mut |path, text| {
        let path = path.strip_prefix(&source).unwrap().to_str().unwrap();
        let everything = path.starts_with("spec/") || path.starts_with("config/");
        let mut texts = texts(text, everything);
        if BY_CONSTRUCTION.iter().any(|dir| path.starts_with(dir)) && !path.contains("/doctor") {
            texts.extend(constructed(text));
        }
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
    for (part, whole) in WHOLE {
        for texts in &mut by_section {
            if texts.remove(*part) {
                texts.insert((*whole).to_owned());
            }
        }
    }
    let (mut page, mut without) = (String::new(), Vec::new());
    for ((title, _, remedy), texts) in SECTIONS.iter().zip(by_section) {
        writeln!(page, "## {title}\n\n{remedy}\n\n| error | remedy |\n| --- | --- |").unwrap();
        for text in texts {
            match remedy_of(&text) {
                Some(remedy) => writeln!(page, "| `{text}` | {remedy} |").unwrap(),
                None => without.push(text),
            }
        }
        page.push('\n');
    }
    assert!(without.is_empty(), "REMEDIES has none for {without:#?}");
    page
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

/// Directories whose errors are also strings in the calls that make an error.
const BY_CONSTRUCTION: [&str; 6] = ["cli/", "keeper/", "app/", "net/", "http/", "dispatch/"];

/// Calls whose strings are texts of errors.
const ERROR_CALLS: [&str; 8] = [
    "Err(",
    "Error::other(",
    "io::Error::new(",
    "Error::custom(",
    ".ok_or(",
    ".ok_or_else(",
    ".map_err(",
    "clap::Error::raw(",
];

/// Macros and calls within those calls whose strings are for the log, or are sent.
const NOT_ERRORS: [&str; 6] = ["error!(", "warn!(", "info!(", "debug!(", "trace!(", ".join("];

/// The texts of errors that a file makes without a type of their own: strings in the calls that
/// make or convert an error, in calls of variants of error types, and all `format!` of functions
/// that return a string as their error.
fn constructed(source: &str) -> BTreeSet<String> {
    let code = without_comments(without_tests(source));
    let mut pieces: Vec<&str> = Vec::new();
    for opening in ERROR_CALLS {
        pieces.extend(calls(&code, opening).into_iter().flat_map(|(_, arguments)| arguments));
    }
    for (at, _) in code.match_indices("Error::") {
        let rest = &code[at + 7..];
        let variant = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        if variant.starts_with(|c: char| c.is_uppercase()) && rest[variant.len()..].starts_with('(')
        {
            pieces.extend(arguments(&code, at + 7 + variant.len() + 1).0);
        }
    }
    for (signature, body) in functions(&code) {
        let returned = signature.split("->").nth(1).unwrap_or_default().trim();
        if returned.starts_with("Result<") && returned.trim_end().ends_with("String>") {
            // What it returns without an error is none.
            let fine: Vec<&str> = calls(body, "Ok(").into_iter().flat_map(|(_, all)| all).collect();
            let texts = calls(body, "format!(").into_iter().flat_map(|(_, all)| all);
            pieces.extend(texts.filter(|text| !fine.iter().any(|fine| fine.contains(text))));
        }
    }
    let mut found = BTreeSet::new();
    for piece in pieces {
        let mut piece = piece.to_owned();
        for opening in NOT_ERRORS {
            while let Some((at, _)) = calls(&piece, opening).into_iter().next() {
                let (_, end) = arguments(&piece, at + opening.len());
                piece.replace_range(at..end, "");
            }
        }
        let texts = literals(&piece).into_iter().map(|text| shown(&text));
        found.extend(texts.filter(|text| is_a_sentence(text) && !text.starts_with(['/', '<'])));
    }
    found
}
