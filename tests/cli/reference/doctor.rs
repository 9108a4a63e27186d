//! The checks of `procstar doctor`, with their findings and remedies, as they stand in the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::pages::{root, visit};
use super::source::{
    calls, functions, literals, shown, unescaped, without_comments, without_tests,
};

/// The position of an argument.
type Position = Option<usize>;

/// Calls that make a check: the positions of name, finding and remedy among their arguments.
const MAKERS: [(&str, Position, Position, Position); 6] = [
    ("Check::ok(", Some(0), Some(1), None),
    ("Check::note(", Some(0), Some(1), None),
    ("Check::with(", Some(0), Some(2), Some(3)),
    ("tried(", Some(0), None, Some(3)),
    ("lacking(", None, Some(0), Some(1)),
    ("room(", Some(0), None, None),
];

/// Functions that make several checks, with the names of these.
const NAMES: [(&str, &str); 4] = [
    ("room", "capture directory"),
    ("file", "each file, each directory"),
    ("tokens", "strength of http.token, of agent.token"),
    ("kernel", "each setting of the kernel"),
];

/// Literals that are no finding of their own: names of controllers, and what a file is.
const PARTS: [&str; 7] = [
    "cpu",
    "memory",
    "pids",
    "it",
    "its directory …",
    "the file that it leads to, …,",
    "the link …",
];

#[derive(Default)]
struct Texts {
    found: BTreeSet<String>,
    remedies: BTreeSet<String>,
}

/// The tables of the page.
pub fn tables() -> String {
    let mut checks: BTreeMap<(bool, String), Texts> = BTreeMap::new();
    let constants = constants();
    visit(&root().join("src/cli/doctor"), &mut |path, source| {
        let is_security = path.ends_with("security.rs");
        let code = without_comments(without_tests(source));
        for (signature, body) in functions(&code) {
            let name = signature.trim_start_matches("fn ").split(['(', '<']).next();
            let function = name.unwrap_or_default();
            for (maker, name, found, remedy) in MAKERS {
                for (_, arguments) in calls(body, maker) {
                    let texts = |at: Option<usize>| {
                        let argument = at.and_then(|at| arguments.get(at).copied());
                        argument.map_or(Vec::new(), |argument| resolved(argument, body, &constants))
                    };
                    let named = match NAMES.iter().find(|(of, _)| *of == function) {
                        Some((_, name)) => vec![(*name).to_owned()],
                        None if name.is_some() => texts(name),
                        None => resolved("NAME", body, &constants),
                    };
                    for name in named {
                        let all = checks.entry((is_security, name)).or_default();
                        all.found.extend(texts(found));
                        // The keys of a `match` are not remedies.
                        let words = |text: &String| text.contains(' ');
                        all.remedies.extend(texts(remedy).into_iter().filter(words));
                    }
                }
            }
        }
    });
    add_elsewhere(&mut checks);
    let mut page = String::new();
    for (is_security, command) in [(false, "procstar doctor"), (true, "procstar doctor --security")]
    {
        let header = "| check | finding | remedy |\n| --- | --- | --- |";
        writeln!(page, "### Findings of `{command}`\n\n{header}").unwrap();
        for ((_, name), texts) in checks.iter().filter(|((of, _), _)| *of == is_security) {
            let cell = |texts: &BTreeSet<String>| {
                let texts = texts.iter().filter(|text| !PARTS.contains(&text.as_str()));
                texts.map(|text| format!("`{text}`")).collect::<Vec<_>>().join("<br>")
            };
            let found = match cell(&texts.found) {
                none if none.is_empty() => "`works`, or the error".to_owned(),
                found => found,
            };
            writeln!(page, "| {name} | {found} | {} |", cell(&texts.remedies)).unwrap();
        }
        page.push('\n');
    }
    page
}

/// Adds the findings about files, from `trust.rs`, and those about settings of the kernel.
fn add_elsewhere(checks: &mut BTreeMap<(bool, String), Texts>) {
    let trust = std::fs::read_to_string(root().join("src/trust.rs")).unwrap();
    let trust = without_comments(without_tests(&trust));
    let files = checks.entry((true, NAMES[1].1.to_owned())).or_default();
    for (signature, body) in functions(&trust) {
        if signature.starts_with("fn found(") {
            files.found.extend(literals(body).iter().map(|text| shown(text)));
        } else if signature.starts_with("fn remedy(") {
            files.remedies.extend(literals(body).iter().map(|text| shown(text)));
        }
    }
    let security = std::fs::read_to_string(root().join("src/cli/doctor/security.rs")).unwrap();
    let without = without_tests(&security).split("without: \"").skip(1);
    let kernel = checks.entry((true, NAMES[3].1.to_owned())).or_default();
    kernel.found.extend(without.map(|rest| format!("…: {}", unescaped(rest))));
}

/// Texts of constants that stand outside the functions that use them.
fn constants() -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut collect = |file: &str, prefix: &str| {
        let source = std::fs::read_to_string(root().join("src").join(file)).unwrap();
        for (at, _) in source.match_indices("const ") {
            let rest = &source[at + 6..];
            let Some((name, rest)) = rest.split_once(": &str =") else { continue };
            if name.chars().all(|c| c.is_ascii_uppercase() || c == '_') && name != "NAME" {
                all.insert(format!("{prefix}{name}"), literals(rest).remove(0));
            }
        }
    };
    collect("cli/doctor/kernel.rs", "");
    collect("cli/doctor/procfs.rs", "");
    collect("engine/permitted.rs", "permitted::");
    all
}

/// The texts of an expression: its literals, those of the variables of the function that it names,
/// and those of constants.
fn resolved(expression: &str, body: &str, constants: &BTreeMap<String, String>) -> Vec<String> {
    let mut all: Vec<String> = literals(&without_joins(expression));
    let bare = without_literals(&without_joins(expression));
    for word in bare.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':') {
        if let Some(text) = constants.get(word) {
            all.push(text.clone());
        } else if !word.is_empty() && !word.contains(':') {
            for opening in
                [format!("let {word} ="), format!("let ({word}, "), format!("const {word}: &str =")]
            {
                for (at, _) in body.match_indices(&opening) {
                    let rest = &body[at + opening.len()..];
                    all.extend(literals(&without_joins(statement(rest))));
                }
            }
        }
    }
    let texts = all.iter().map(|text| {
        let with = constants.iter().filter(|(name, _)| !name.contains(':'));
        let text = with
            .fold(text.clone(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value));
        shown(&text)
    });
    texts.filter(|text| text.chars().any(char::is_alphabetic) && text.len() > 2).collect()
}

fn without_literals(code: &str) -> String {
    let mut parts = code.split('"').step_by(2).collect::<Vec<_>>();
    parts.dedup();
    parts.join(" ")
}

/// Code up to the semicolon that ends a statement.
fn statement(code: &str) -> &str {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in code.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            ';' if depth <= 0 => return &code[..at],
            _ => {}
        }
    }
    code
}

/// Code without the separators of joined lists and the parts of joined paths.
fn without_joins(code: &str) -> String {
    let mut parts = code.split(".join(\"");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once('"').map_or("", |(_, rest)| rest));
    }
    text
}
