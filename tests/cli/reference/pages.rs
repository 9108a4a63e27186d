//! Reading and writing the pages.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

pub fn page(name: &str) -> String {
    std::fs::read_to_string(root().join("docs").join(name)).unwrap()
}

/// A page's text before, in and after a generated part.
fn parts(name: &str, part: &str) -> [String; 3] {
    let text = page(name);
    let begin = format!("<!-- generated: {part} -->\n");
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{name} has no {part}"));
    let (inside, after) = rest.split_once("<!-- end -->").unwrap();
    [format!("{before}{begin}"), inside.to_owned(), format!("<!-- end -->{after}")]
}

/// Compares a generated part with what it should be; writes it if asked to.
pub fn publish(name: &str, part: &str, wanted: &str) {
    // Tests write several parts of a page at the same time.
    let lock = std::fs::File::open(root().join("docs")).unwrap();
    lock.lock().unwrap();
    let [before, inside, after] = parts(name, part);
    let wanted = format!("\n{}\n\n", wanted.trim());
    if std::env::var_os("PROCSTAR_PUBLISH").is_some() {
        let path = root().join("docs").join(name);
        std::fs::write(path, format!("{before}{wanted}{after}")).unwrap();
        return;
    }
    let all: BTreeSet<&str> = inside.lines().collect();
    let new: Vec<&str> = wanted.lines().filter(|line| !all.contains(line)).collect();
    assert!(
        inside == wanted,
        "docs/{name} is out of date: run with PROCSTAR_PUBLISH=1. New lines:\n{}",
        new.join("\n")
    );
}

/// All words in backticks.
pub fn backticked(text: &str) -> BTreeSet<&str> {
    let spans = text.split('`').skip(1).step_by(2);
    spans
        .flat_map(|span| span.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-'))
        .collect()
}

/// What stands in backticks in the first column of the tables whose first header is one of these.
pub fn tables(text: &str, headers: &[&str]) -> Vec<String> {
    let (mut found, mut wanted, mut inside) = (Vec::new(), false, false);
    for line in text.lines() {
        let Some(cell) = line.strip_prefix('|').and_then(|line| line.split('|').next()) else {
            inside = false;
            continue;
        };
        if !inside {
            (inside, wanted) = (true, headers.contains(&cell.trim()));
        } else if wanted {
            found.extend(cell.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// Reads every source below a directory, except files of tests.
pub fn visit(dir: &Path, each: &mut impl FnMut(&Path, &str)) {
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
