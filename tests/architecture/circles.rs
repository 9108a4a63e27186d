//! No room has a circle of files that use each other. A file uses the files that define what the
//! paths in its text name; imports and re-exports are followed to the definition.
//!
//! Three uses do not count: re-exports from the files below a module, uses by test modules, and the
//! use of a module's own file by [`PARTS`].

mod paths;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use crate::layering::{modules, sources};
use paths::{Found, read};

/// The path of a module, from the crate's root on.
type Module = Vec<String>;

/// Files that continue the file of their module, mostly with methods of its type. They use its
/// private names.
const PARTS: &[&str] = &[
    "actors/process/questions.rs",
    "actors/results/feed.rs",
    "actors/supervisor/progress.rs",
    "cli/client/logs/live.rs",
    "cli/client/logs/tail.rs",
    "engine/capture/codec.rs",
    "engine/capture/intact.rs",
    "engine/capture/chunk_times.rs",
    "engine/capture/record.rs",
    "engine/capture/seal.rs",
    "engine/capture/view.rs",
    "engine/child/attributes.rs",
    "engine/driver/launch.rs",
    "engine/driver/request.rs",
    "engine/driver/sealing.rs",
    "engine/process/handover.rs",
    "engine/process/signals.rs",
    "engine/spawn/clone.rs",
    "engine/spawn/helper_pool.rs",
    "keeper/run_loop/wait.rs",
];

/// Source files, and the files that each of them uses, with the line of the first use.
struct Tree {
    paths: BTreeMap<Module, PathBuf>,
    uses: BTreeMap<Module, BTreeMap<Module, usize>>,
}

impl Tree {
    /// Reads the sources. Uses of an ancestor by one of the files `parts` do not count.
    fn of(sources: &BTreeMap<PathBuf, String>, parts: &[&str]) -> Tree {
        let mut paths: BTreeMap<Module, PathBuf> =
            sources.keys().map(|path| (modules(path), path.clone())).collect();
        let mut found: BTreeMap<Module, Found> = BTreeMap::new();
        for (path, text) in sources {
            let module = modules(path);
            found.insert(module.clone(), read(text, &module, &|at| paths.contains_key(at)));
        }
        let tests: Vec<Module> =
            found.values().flat_map(|found| found.test_modules.iter().cloned()).collect();
        let is_test = |module: &Module| {
            let is_named_so = module.last().is_some_and(|last| last.ends_with("_tests"));
            is_named_so || tests.iter().any(|test| module.starts_with(test))
        };
        paths.retain(|module, _| !is_test(module));
        found.retain(|module, _| !is_test(module));
        let names: BTreeMap<Module, Module> =
            found.values().flat_map(|found| found.names.clone()).collect();
        let is_part = |module: &Module| {
            paths.get(module).is_some_and(|path| parts.iter().any(|part| path == Path::new(part)))
        };
        let uses = found.into_iter().map(|(module, found)| {
            let mut uses = BTreeMap::new();
            for (line, path) in found.paths {
                let used = file_of(&path, &paths, &names, 0);
                let Some(used) = used.filter(|used| module != *used) else { continue };
                let is_own = module.starts_with(&used) && is_part(&module);
                if used.first() == module.first() && !is_own {
                    uses.entry(used).or_insert(line);
                }
            }
            (module, uses)
        });
        Tree { uses: uses.collect(), paths }
    }

    /// A shortest circle of each group of files that use each other, as
    /// `FILE:LINE uses FILE:LINE uses ... FILE`.
    fn circles(&self) -> Vec<String> {
        let (mut known, mut found) = (BTreeSet::new(), Vec::new());
        for start in self.uses.keys() {
            if known.contains(start) {
                continue;
            }
            if let Some(circle) = self.circle_from(start) {
                found.push(self.shown(&circle));
                known.extend(circle);
            }
        }
        found
    }

    /// The shortest path from a file to itself, without its end.
    fn circle_from(&self, start: &Module) -> Option<Vec<Module>> {
        let mut ways = VecDeque::from([vec![start.clone()]]);
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            for next in self.uses.get(way.last()?).into_iter().flat_map(BTreeMap::keys) {
                if next == start {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    ways.push_back(way.iter().chain([next]).cloned().collect());
                }
            }
        }
        None
    }

    /// Whether one file uses another, directly or through others.
    fn reaches(&self, from: &Module, to: &Module) -> bool {
        let (mut seen, mut open) = (BTreeSet::from([from]), vec![from]);
        while let Some(module) = open.pop() {
            let uses = self.uses.get(module).into_iter().flat_map(BTreeMap::keys);
            open.extend(uses.filter(|used| seen.insert(used)));
        }
        seen.contains(to)
    }

    fn shown(&self, circle: &[Module]) -> String {
        let mut shown = String::new();
        for (module, next) in circle.iter().zip(circle.iter().cycle().skip(1)) {
            let (file, line) = (self.paths[module].display(), self.uses[module][next]);
            shown.push_str(&format!("src/{file}:{line} uses "));
        }
        shown + &format!("src/{}", self.paths[&circle[0]].display())
    }
}

/// The file that defines what a path names; none if it is not among the sources.
fn file_of(
    path: &[String],
    paths: &BTreeMap<Module, PathBuf>,
    names: &BTreeMap<Module, Module>,
    depth: usize,
) -> Option<Module> {
    for length in (1..=path.len()).rev() {
        let (start, rest) = path.split_at(length);
        if paths.contains_key(start) {
            return Some(start.to_vec());
        }
        // An import of a name under the same name would be followed endlessly.
        if let Some(meant) = names.get(start).filter(|meant| *meant != start && depth < 10) {
            return file_of(&[meant, rest].concat(), paths, names, depth + 1);
        }
    }
    None
}

#[test]
fn no_room_has_a_circle_between_its_files() {
    let circles = Tree::of(&sources(), PARTS).circles();
    assert!(
        circles.is_empty(),
        "files that use each other; move what they share to a file of its own:\n{}",
        circles.join("\n")
    );
}

#[test]
fn each_listed_part_would_form_a_circle() {
    let tree = Tree::of(&sources(), &[]);
    let needed: BTreeSet<&Path> = (tree.uses.iter())
        .filter(|(module, uses)| {
            let mut own = uses.keys().filter(|used| module.starts_with(used));
            own.any(|used| tree.reaches(used, module))
        })
        .map(|(module, _)| tree.paths[module].as_path())
        .collect();
    for part in PARTS {
        assert!(needed.contains(Path::new(part)), "{part}: remove it from the list");
    }
}

fn circles(files: &[(&str, &str)]) -> Vec<String> {
    let sources = files.iter().map(|(path, text)| (path.into(), (*text).to_owned())).collect();
    Tree::of(&sources, &["room/part.rs"]).circles()
}

#[test]
fn a_circle_is_reported_with_its_files_and_lines() {
    let found = circles(&[
        ("room/mod.rs", "mod a;\nmod b;\nmod c;\nmod d;"),
        ("room/a.rs", "//! Words.\n\nuse super::b::B;"),
        ("room/b.rs", "use crate::room::{d::D, c::{self, C}};"),
        ("room/c.rs", "fn f() {\n    super::a::g();\n}"),
        ("room/d.rs", "use std::io;"),
    ]);
    let circle = "src/room/a.rs:3 uses src/room/b.rs:1 uses src/room/c.rs:2 uses src/room/a.rs";
    assert_eq!(found, [circle]);
}

#[test]
fn every_form_of_use_is_recognized() {
    for text in [
        "use super::a::A;",
        "use super::{a, c};",
        "use super::{c, a as other};",
        "type A = Box<crate::room::a::A>;",
        "use crate::room::{c, a::{A, f}};",
        "use super::A;",
        "use super::Renamed;",
        "use crate::A;",
        "use super::Imported;",
        "mod inner {\n    use super::super::a::A;\n}",
        "#[cfg(test)]\nmod tests { use super::*; }\nuse super::a::A;",
        "#[cfg(test)]\nuse std::io;\nuse super::a::A;",
    ] {
        let found = circles(&[
            ("lib.rs", "pub mod room;\npub use room::A;"),
            ("room/mod.rs", "mod a;\nmod b;\npub use a::{A, C as Renamed};\nuse a::Imported;"),
            ("room/a.rs", "use super::b::B;"),
            ("room/b.rs", text),
        ]);
        assert_eq!(found.len(), 1, "{text}");
    }
}

#[test]
fn comments_tests_and_visibilities_form_no_circle() {
    for text in [
        "use super::c::A;",
        "use crate::a::A;",
        "// use super::a::A;",
        "const A: &str = \"super::a::A\";",
        "pub(in crate::room::a) fn f() {}",
        "#[cfg(test)]\nmod tests {\n    use super::super::a::A;\n}",
        "#[cfg(test)]\nuse super::a::A;",
        "#[cfg(test)]\n#[rustfmt::skip]\nfn f(x: [u8; 2]) { super::a::f(); }",
        "use super::own;",
    ] {
        let found = circles(&[
            ("lib.rs", "pub mod room;"),
            ("room/mod.rs", "mod a;\nmod b;\npub use a::A;\n#[cfg(test)]\nmod t;\nfn own() {}"),
            ("room/a.rs", "use super::b::B;"),
            ("room/b.rs", text),
            ("room/t.rs", "use super::a_tests::A;"),
            ("room/a_tests.rs", "use super::t::A;"),
            ("other/a.rs", "use crate::room::b::B;"),
        ]);
        assert_eq!(found, [""; 0], "{text}");
    }
}

#[test]
fn a_file_that_uses_its_modules_file_forms_a_circle_unless_it_is_a_part() {
    for (file, expected) in [("room/part.rs", 0), ("room/other.rs", 1)] {
        let found = circles(&[
            ("room/mod.rs", "mod other;\nmod part;\nuse part::A;\nuse other::B;\nfn own() {}"),
            (file, "use super::own;"),
        ]);
        assert_eq!(found.len(), expected, "{file}");
    }
}
