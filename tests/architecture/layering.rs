//! The rooms of `src/` and their dependencies are those of the table in docs/architecture.md: a row
//! for each room, with all rooms that it may use.

mod page;
mod uses;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use page::{Table, rooms_of};
pub use uses::tokens;
use uses::uses;

/// Maximum length of a file of `src/`.
const MAX_LINES: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source of `src/`, by its path relative to `src/`.
pub fn sources() -> BTreeMap<PathBuf, String> {
    let src = root().join("src");
    let (mut pending, mut found) = (vec![src.clone()], BTreeMap::new());
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.insert(path.strip_prefix(&src).unwrap().to_owned(), text);
        }
    }
    found
}

fn table() -> Table {
    rooms_of(&fs::read_to_string(root().join("docs/architecture.md")).unwrap())
}

/// The module path of a file, from the crate's root on; empty for the root itself.
pub fn modules(path: &Path) -> Vec<String> {
    let mut modules: Vec<String> =
        path.with_extension("").iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if modules.len() > 1 && modules.last().is_some_and(|last| last == "mod") {
        modules.pop();
    }
    if modules == ["lib"] { Vec::new() } else { modules }
}

/// The uses in these sources that the table does not allow, as `FILE:LINE: ...`.
fn violations(table: &Table, sources: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources {
        let modules = modules(path);
        let Some(room) = modules.first() else { continue };
        let Some(allowed) = table.get(room) else {
            found.push(format!("src/{}: room `{room}` is not in the table", path.display()));
            continue;
        };
        for (line, used) in uses(text, &modules) {
            if used != *room && table.contains_key(&used) && !allowed.contains(&used) {
                let allowed = Vec::from_iter(allowed.iter().map(String::as_str)).join(", ");
                found.push(format!(
                    "src/{}:{line}: `{room}` uses `{used}`; it may use: {allowed}",
                    path.display()
                ));
            }
        }
    }
    found
}

/// The uses that the table allows and no source needs, as `ROOM: OTHER`.
fn unused(table: &Table, sources: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let mut left = table.clone();
    for (path, text) in sources {
        let modules = modules(path);
        let Some(allowed) = modules.first().and_then(|room| left.get_mut(room)) else { continue };
        uses(text, &modules).iter().for_each(|(_, used)| {
            allowed.remove(used);
        });
    }
    let pairs = left.iter().flat_map(|(room, others)| others.iter().map(move |to| (room, to)));
    pairs.map(|(room, other)| format!("{room}: {other}")).collect()
}

/// The rooms that use themselves, directly or through other rooms.
fn circles(table: &Table) -> Vec<&str> {
    let on_a_circle = |start: &String| {
        let (mut pending, mut seen) = (vec![start], BTreeSet::new());
        while let Some(room) = pending.pop() {
            for next in table.get(room).into_iter().flatten() {
                if next == start {
                    return true;
                }
                if seen.insert(next) {
                    pending.push(next);
                }
            }
        }
        false
    };
    table.keys().filter(|room| on_a_circle(room)).map(String::as_str).collect()
}

#[test]
fn rooms_use_only_the_rooms_that_the_table_allows() {
    let found = violations(&table(), &sources());
    assert!(found.is_empty(), "docs/architecture.md does not allow:\n{}", found.join("\n"));
}

#[test]
fn the_table_allows_no_unused_dependency() {
    let found = unused(&table(), &sources());
    assert!(found.is_empty(), "unused rows of docs/architecture.md:\n{}", found.join("\n"));
}

#[test]
fn the_table_has_exactly_the_existing_rooms() {
    let existing: BTreeSet<String> =
        sources().keys().filter_map(|path| modules(path).into_iter().next()).collect();
    let documented: BTreeSet<String> = table().into_keys().collect();
    assert_eq!(documented, existing);
}

#[test]
fn the_rooms_form_no_circle() {
    assert_eq!(circles(&table()), [""; 0]);
}

#[test]
fn no_source_is_too_long() {
    let lines = sources().into_iter().map(|(path, text)| (path, text.lines().count()));
    let long: Vec<_> = lines.filter(|(_, lines)| *lines > MAX_LINES).collect();
    assert!(long.is_empty(), "more than {MAX_LINES} lines: {long:#?}");
}

/// A page with the rooms `main`, `high` and `low`; `low` may use no other room.
const PAGE: &str = "\
# A page

| room | what it does | may use |
| --- | --- | --- |
| `src/main.rs` | starts | `high`, `low` |
| `src/high/` | decides, by way of `elsewhere` | `low` |
| `src/low.rs`, `src/low/` | works | nothing |

| room | what else |
| --- | --- |
| `src/other/` | is of another table |
";

fn sample(path: &str, text: &str) -> Vec<String> {
    violations(&rooms_of(PAGE), &BTreeMap::from([(path.into(), text.to_owned())]))
}

#[test]
fn a_forbidden_use_is_reported_with_its_line() {
    let found = sample("low/part.rs", "//! Words.\n\nuse std::io;\nuse crate::high::Boss;\n");
    assert_eq!(found, ["src/low/part.rs:4: `low` uses `high`; it may use: "]);
    let found = sample("high/mod.rs", "fn f() {\n    crate::main::g();\n}\n");
    assert_eq!(found, ["src/high/mod.rs:2: `high` uses `main`; it may use: low"]);
    assert_eq!(sample("unknown.rs", ""), ["src/unknown.rs: room `unknown` is not in the table"]);
}

#[test]
fn every_form_of_a_path_is_recognized() {
    for text in [
        "use crate::{low::Part,\n    high::Boss};",
        "pub(crate) use crate::{self as root, high};",
        "type B = Box<crate :: high :: Boss>;",
        "use super::super::high::Boss;",
        "use super::super::{low, high::{Boss, Aide}};",
        "mod tests {\n    use super::super::super::high;\n}",
        "fn f() { if x { y } }\nmod tests { fn g() {} }\nuse super::super::high;",
    ] {
        assert_eq!(sample("low/part.rs", text).len(), 1, "{text}");
    }
    for text in [
        "use super::high;",
        "use crate::low::high;",
        "use crate::{low::{high, x}};",
        "// use crate::high;",
        "/* crate::high /* nested */ crate::high */",
        "const A: &str = \"crate::high\";",
        "const A: &str = r#\"\"crate::high\"#;",
        "const A: char = '\"'; // crate::high",
        "fn f<'a>(x: &'a str) {}\nconst A: &str = \"crate::high\";",
        "mod tests {\n    use super::super::high;\n}",
        "let mycrate::high = x;",
    ] {
        assert_eq!(sample("low/part.rs", text), [""; 0], "{text}");
    }
    assert_eq!(sample("low.rs", "use super::high;").len(), 1);
    assert_eq!(sample("high/mod.rs", "use crate::low;"), [""; 0]);
    assert_eq!(sample("low.rs", "#[test]\nfn f() { $crate::high::g!() }").len(), 1);
    let main = "use procstar::low;\nuse procstar::{high, main};";
    assert_eq!(sample("main.rs", main), [""; 0], "`main` uses the library by the crate's name");
    assert_eq!(uses(main, &["main".to_owned()]).len(), 3);
}

#[test]
fn circles_and_unused_dependencies_are_found() {
    assert_eq!(circles(&rooms_of(PAGE)), [""; 0]);
    assert_eq!(circles(&rooms_of(&PAGE.replace("nothing", "`main`"))), ["high", "low", "main"]);
    let sources = BTreeMap::from([("high/mod.rs".into(), "use crate::low;".to_owned())]);
    assert_eq!(unused(&rooms_of(PAGE), &sources), ["main: high", "main: low"]);
}
