//! The paths in a source that can name other files of the crate.

use crate::layering::tokens;

/// The paths of a source. All start at the crate's root.
#[derive(Default)]
pub struct Found {
    /// The paths that the source uses, with their lines, except re-exports from the files below it.
    pub paths: Vec<(usize, Vec<String>)>,
    /// Names that the source imports or re-exports, each with the path that it stands for.
    pub names: Vec<(Vec<String>, Vec<String>)>,
    /// Modules in other files that are compiled for tests only.
    pub test_modules: Vec<Vec<String>>,
}

/// Reads the text of the module `module`. `is_file` says whether a module has a file.
pub fn read(text: &str, module: &[String], is_file: &dyn Fn(&[String]) -> bool) -> Found {
    let tokens = tokens(text);
    let mut reader =
        Reader { tokens: &tokens, at: 0, here: module.to_vec(), is_file, found: Found::default() };
    // For each open inline module, the number of open braces outside it.
    let (mut inline, mut braces) = (Vec::new(), 0);
    while reader.at < tokens.len() {
        match reader.word(0) {
            "{" => braces += 1,
            "}" => {
                braces -= 1;
                if inline.last() == Some(&braces) {
                    inline.pop();
                    reader.here.pop();
                }
            }
            "mod" if reader.word(2) == "{" => {
                inline.push(braces);
                braces += 1;
                reader.here.push(reader.word(1).to_owned());
                reader.at += 2;
            }
            "#" if reader.is_at(&["#", "[", "cfg", "(", "test", ")", "]"]) => {
                reader.skip_test_item();
                continue;
            }
            "use" => {
                reader.import();
                continue;
            }
            _ if reader.begins_path() => {
                let line = reader.tokens[reader.at].0;
                let mut paths = Vec::new();
                reader.tree(&[], &mut paths);
                let here: Vec<_> =
                    paths.iter().filter_map(|(path, _)| reader.absolute(path)).collect();
                reader.found.paths.extend(here.into_iter().map(|path| (line, path)));
                continue;
            }
            _ => {}
        }
        reader.at += 1;
    }
    reader.found
}

struct Reader<'t> {
    tokens: &'t [(usize, String)],
    at: usize,
    /// The module of the current position.
    here: Vec<String>,
    is_file: &'t dyn Fn(&[String]) -> bool,
    found: Found,
}

impl<'t> Reader<'t> {
    fn word(&self, ahead: usize) -> &'t str {
        self.tokens.get(self.at + ahead).map_or("", |(_, token)| token.as_str())
    }

    fn before(&self) -> &'t str {
        self.at.checked_sub(1).map_or("", |before| self.tokens[before].1.as_str())
    }

    fn is_at(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(ahead, word)| self.word(ahead) == *word)
    }

    /// Whether a path begins here that can name a file. `pub(in PATH)` is not a use.
    fn begins_path(&self) -> bool {
        self.word(1) == "::"
            && !["::", "in"].contains(&self.before())
            && self.absolute(&[self.word(0).to_owned()]).is_some()
    }

    /// Skips an item below `#[cfg(test)]`, and records it if it is a module in another file.
    fn skip_test_item(&mut self) {
        self.at += 7;
        let mut depth = 0;
        while self.at < self.tokens.len() {
            match self.word(0) {
                "mod" if depth == 0 && self.word(2) == ";" => {
                    let name = self.word(1).to_owned();
                    let module = [self.here.as_slice(), &[name]].concat();
                    self.found.test_modules.push(module);
                }
                "(" | "[" | "{" => depth += 1,
                ")" | "]" => depth -= 1,
                "}" => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        return;
                    }
                }
                ";" if depth == 0 => {
                    self.at += 1;
                    return;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    /// Reads `use ...;`.
    fn import(&mut self) {
        let line = self.tokens[self.at].0;
        let is_public = ["pub", ")"].contains(&self.before());
        self.at += 1;
        let mut paths = Vec::new();
        self.tree(&[], &mut paths);
        for (path, name) in paths {
            let Some(path) = self.absolute(&path) else { continue };
            if let Some(name) = name {
                self.found.names.push(([self.here.as_slice(), &[name]].concat(), path.clone()));
            }
            if !(is_public && path.starts_with(&self.here)) {
                self.found.paths.push((line, path));
            }
        }
    }

    /// Reads a path or a tree of paths below `start`, each with its name after an import.
    fn tree(&mut self, start: &[String], paths: &mut Vec<(Vec<String>, Option<String>)>) {
        let mut path = start.to_vec();
        loop {
            match self.word(0) {
                "{" => {
                    self.at += 1;
                    while !["}", ""].contains(&self.word(0)) {
                        self.tree(&path, paths);
                        if self.word(0) == "," {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                    return;
                }
                "*" => {
                    self.at += 1;
                    return paths.push((path, None));
                }
                "self" if !path.is_empty() => {}
                // A generic argument, or a character that ends the path.
                sign if !sign.starts_with(|first: char| first.is_alphabetic() || first == '_') => {
                    self.at += usize::from(!["}", ",", ";", ""].contains(&sign));
                    return paths.push((path, None));
                }
                word => path.push(word.to_owned()),
            }
            self.at += 1;
            if self.word(0) != "::" {
                break;
            }
            self.at += 1;
        }
        let mut name = path.last().cloned();
        if self.word(0) == "as" {
            name = Some(self.word(1).to_owned());
            self.at += 2;
        }
        paths.push((path, name));
    }

    /// The path from the crate's root on; none if it leads to another crate or is a local name.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let mut base = match path.first()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => self.here.clone(),
            child => {
                let module = [self.here.as_slice(), &[child.to_owned()]].concat();
                return (self.is_file)(&module).then(|| [&self.here, path].concat());
            }
        };
        for word in path {
            match word.as_str() {
                "crate" | "self" => {}
                "super" => drop(base.pop()),
                word => base.push(word.to_owned()),
            }
        }
        Some(base)
    }
}
