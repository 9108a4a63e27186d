//! A configuration file's text to a checked layer, with the place of every error.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use crate::config::error::{ConfigError, Problem};
use crate::config::keys;
use crate::config::layer::{Layer, Origin};

/// Reads a TOML text; `path` is only for messages and origins.
///
/// # Errors
/// [`ConfigError::File`] with every unknown key and invalid value, or else the first places of
/// invalid TOML. It shows only keys, and values that are not secret.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Layer, ConfigError> {
    let fail = |problems| ConfigError::File { path: path.to_path_buf(), problems };
    let bytes = crate::text::utf8(bytes)
        .map_err(|message| fail(vec![problem("", 0, message.to_owned())]))?;
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let before = String::from_utf8_lossy(before);
        fail(vec![problem(&before, before.len(), "is not valid UTF-8".to_owned())])
    })?;
    let root = DeTable::parse(text).map_err(|error| {
        // The error's own display shows the line, which may hold a secret.
        let at = error.span().map_or(0, |span| span.start);
        fail(vec![problem(text, at, error.message().trim().to_owned())])
    })?;
    let mut reader = Reader { path, text, layer: Layer::default(), problems: Vec::new() };
    reader.table("", root.get_ref());
    if reader.problems.is_empty() {
        Ok(reader.layer)
    } else {
        reader.problems.sort_by_key(|problem| (problem.line, problem.column));
        Err(fail(reader.problems))
    }
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    layer: Layer,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn table(&mut self, section: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let path = match section {
                "" => shown(name.get_ref()),
                _ => format!("{section}.{}", shown(name.get_ref())),
            };
            match value.get_ref() {
                DeValue::Table(inner) if keys::is_section(&path) => self.table(&path, inner),
                _ if keys::is_section(&path) => {
                    self.report(value.span(), format!("{path}: expected a table"));
                }
                inner => match keys::find(&path) {
                    Some(key) if self.layer.has(key) => {
                        let message =
                            format!("{path}: this file also sets it by its other name; remove one");
                        self.report(name.span(), message);
                    }
                    Some(key) => self.value(key, name.span(), value.span(), inner),
                    None => self.unknown(name.span(), &path),
                },
            }
        }
    }

    fn value(
        &mut self,
        key: &'static keys::Key,
        name_at: Range<usize>,
        value_at: Range<usize>,
        value: &DeValue<'_>,
    ) {
        match key.kind.read_toml(value) {
            Ok(value) => {
                let (line, _) = position(self.text, name_at.start);
                let origin = Origin::File { path: self.path.to_path_buf(), line };
                self.layer.push(key, value, origin);
            }
            Err(message) => self.report(value_at, format!("{}: {message}", key.path)),
        }
    }

    fn unknown(&mut self, at: Range<usize>, path: &str) {
        let hint = keys::hint(path).map(|known| format!("; did you mean {known}?"));
        self.report(at, format!("unknown key {path}{}", hint.unwrap_or_default()));
    }

    fn report(&mut self, at: Range<usize>, message: String) {
        self.problems.push(problem(self.text, at.start, message));
    }
}

/// A name in TOML's notation. A quoted name is never a known one, even if it contains a dot and
/// would look like a path.
fn shown(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.chars().all(bare) { name.to_owned() } else { format!("{name:?}") }
}

fn problem(text: &str, offset: usize, message: String) -> Problem {
    let (line, column) = position(text, offset);
    Problem { line, column, message }
}

/// Line and column, both from 1, of a byte offset; the end of the text for one beyond it.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Layer, String> {
        parse(Path::new("f.toml"), text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn values_know_their_lines() {
        let layer = read("[agent]\nhost = \"h\"\n\n[agent.connect]\ncount_max = 3\n").unwrap();
        let mut found: Vec<_> = layer.entries().iter().map(|e| format!("{e:?}")).collect();
        found.sort();
        assert_eq!(found, ["agent.connect.count_max from f.toml:5", "agent.host from f.toml:2"]);
    }

    #[test]
    fn every_error_has_its_place() {
        for (text, expected) in [
            ("[agent]\nhots = 1", "f.toml:2:1: unknown key agent.hots; did you mean agent.host?"),
            ("colour = 1", "f.toml:1:1: unknown key colour"),
            (
                "[http]\n  port = 70000",
                "f.toml:2:10: http.port: expected a port from 0 to 65535, found 70000",
            ),
            ("agent = 3", "f.toml:1:9: agent: expected a table"),
            (
                "\"agent.port\" = 3",
                "f.toml:1:1: unknown key \"agent.port\"; did you mean agent.port?",
            ),
            (
                "[log]\nlevel = \"loud\"",
                "f.toml:2:9: log.level: expected one of trace, debug, info, warn, error, \
                 found \"loud\"",
            ),
            (
                "[log.level]\nx = 1",
                "f.toml:1:1: log.level: expected one of trace, debug, info, warn, error, \
                 found a table",
            ),
            (
                "[agent]\nping_interval = 0",
                "f.toml:2:17: agent.ping_interval: expected a duration from 0.001 to \
                 1e10 seconds, such as 90, 500ms or 1h30m, found 0",
            ),
            (
                "[http]\ntoken = \"\"",
                "f.toml:2:9: http.token: expected a token of at least 128 random bits, such as \
                 `openssl rand -base64 24` prints, found an empty string",
            ),
            (
                "[http]\ntoken = \"hunter2\"",
                "f.toml:2:9: http.token: expected a token of at least 128 random bits, such as \
                 `openssl rand -base64 24` prints, found another string of 42 bits at most",
            ),
            ("é = 1\n", "f.toml:1:1: "),
        ] {
            let error = read(text).expect_err(text);
            if expected.ends_with(' ') {
                assert!(error.starts_with(expected), "{error}");
            } else {
                assert_eq!(error, expected);
            }
        }
    }

    #[test]
    fn an_alias_sets_the_setting_and_not_twice() {
        let layer = read("[run]\nrestrict_exe = \"/bin/true\"\n").unwrap();
        assert_eq!(format!("{:?}", layer.entries()), "[run.allowed_executables from f.toml:2]");
        let twice = "[run]\nrestrict_exe = \"/a\"\nallowed_executables = \"/b\"\n";
        assert!(read(twice).unwrap_err().ends_with("by its other name; remove one"));
    }

    #[test]
    fn all_errors_are_reported_in_order() {
        let error = read("[run]\nx = 1\n[http]\nport = true\n[agent]\ny = 2\n").unwrap_err();
        let places: Vec<_> = error.lines().map(|l| l.split(": ").next().unwrap()).collect();
        assert_eq!(places, ["f.toml:2:1", "f.toml:4:8", "f.toml:6:1"]);
    }

    #[test]
    fn bytes_and_secrets() {
        let error = parse(Path::new("f"), b"[log]\nlevel = \"\xff\"").unwrap_err().to_string();
        assert_eq!(error, "f:2:10: is not valid UTF-8");
        for text in ["[agent]\ntoken = 31337", "[agent]\ntoken = \"hunter2\" x", "token=\"hunter2"]
        {
            let error = read(text).unwrap_err();
            assert!(!error.contains("31337") && !error.contains("hunter2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_layer_or_has_a_place(
            text in "(\\[(agent|http|agent\\.connect)\\]\n|(host|port|token|x) ?= ?(1|-2\\.5|nan|\"é\"|\\[\\])\n|\\PC{0,6}\n){0,6}"
        ) {
            if let Err(ConfigError::File { problems, .. }) = parse(Path::new("f"), text.as_bytes()) {
                prop_assert!(!problems.is_empty());
                for problem in problems {
                    prop_assert!(problem.line >= 1 && problem.line <= text.lines().count() + 1);
                    prop_assert!(problem.column >= 1);
                }
            }
        }
    }
}
