//! `config/procstar.toml` has the keys and the defaults of the code.

use std::collections::BTreeSet;

use procstar::config::Settings;
use procstar::config::keys::KEYS;

use super::harness::{FakeHost, SYSTEM};

const SHIPPED: &str = include_str!("../../../config/procstar.toml");

/// The keys of a TOML text, dotted.
fn keys_of(text: &str) -> BTreeSet<String> {
    fn walk(prefix: &str, table: &toml::Table, into: &mut BTreeSet<String>) {
        for (name, value) in table {
            match value {
                toml::Value::Table(table) => walk(&format!("{prefix}{name}."), table, into),
                _ => assert!(into.insert(format!("{prefix}{name}"))),
            }
        }
    }
    let mut keys = BTreeSet::new();
    walk("", &text.parse().unwrap(), &mut keys);
    keys
}

/// The text with each line `MARK key = value` uncommented.
fn uncomment(text: &str, mark: &str) -> String {
    let is_setting = |line: &str| {
        line.split_once(" = ").is_some_and(|(key, _)| {
            key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && !key.is_empty()
        })
    };
    let lines = text.lines().map(|line| match line.strip_prefix(mark) {
        Some(rest) if is_setting(rest) => rest,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_file_is_the_defaults_and_changes_nothing() {
    let defaults = uncomment(SHIPPED, "# ");
    assert_eq!(FakeHost::default().file(SYSTEM, &defaults).settings(&[]), Settings::default());
    assert_eq!(FakeHost::default().file(SYSTEM, SHIPPED).settings(&[]), Settings::default());
    assert_eq!(keys_of(SHIPPED), BTreeSet::new());
}

#[test]
fn the_shipped_file_lists_every_setting_and_its_names() {
    let defaults = keys_of(&uncomment(SHIPPED, "# "));
    let examples = keys_of(&uncomment(SHIPPED, "#"));
    let both = uncomment(&uncomment(SHIPPED, "# "), "#");
    let all: BTreeSet<_> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(keys_of(&both), all);
    // The example is not usable unchanged.
    assert!(FakeHost::default().file(SYSTEM, &both).refused(&["--exit"]).contains("http.token: "));
    let both = both.replace("CHANGE ME", "8ePqYiqbZ4AnXB2hWx8WQg");
    FakeHost::default().file(SYSTEM, &both).settings(&[]);
    for key in KEYS {
        let unset = Settings::default().shown(key.path).is_null();
        assert_eq!(examples.contains(key.path), unset, "{}", key.path);
        assert_eq!(defaults.contains(key.path), !unset, "{}", key.path);
        assert!(SHIPPED.contains(key.variable), "{}", key.variable);
        assert!(key.flag.is_none_or(|flag| SHIPPED.contains(flag)), "{}", key.path);
    }
}

/// A length that wraps would be a wrong length, and a panic is an error of one process at worst.
#[test]
fn release_builds_check_overflows() {
    let manifest: toml::Table = include_str!("../../../Cargo.toml").parse().unwrap();
    assert_eq!(manifest["profile"]["release"]["overflow-checks"].as_bool(), Some(true));
}
