//! The paths in a source that can name other files of the crate.

use crate::layering::tokens;

/// What a source says, with all paths from the crate's root on.
#[derive(Default)]
pub struct Found {
    /// The paths that it uses, with their lines; re-exports of the files below it are none.
    pub paths: Vec<(usize, Vec<String>)>,
    /// Names that it imports or re-exports, and what they mean.
    pub names: Vec<(Vec<String>, Vec<String>)>,
    /// Modules in other files that are compiled for tests only.
    pub test_modules: Vec<Vec<String>>,
}

/// Reads the text of the module `module`. `is_file` says whether a module has a file.
pub fn read(text: &str, module: &[String], is_file: &dyn Fn(&[String]) -> bool) -> Found {
    let tokens = tokens(text);
    let mut reader =
        Reader { tokens: &tokens, at: 0, here: module.to_vec(), is_file, found: Found::default() };
    // The inline modules that are open, each with how many braces are open outside it.
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
    /// The module that is open.
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

    /// Whether a path begins that can name a file; `pub(in PATH)` uses nothing.
    fn begins_path(&self) -> bool {
        self.word(1) == "::"
            && !["::", "in"].contains(&self.before())
            && self.absolute(&[self.word(0).to_owned()]).is_some()
    }

    /// Passes an item below `#[cfg(test)]`, and notes it if it is a module in another file.
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

    /// Reads a path, or a tree of paths, below `start`: each with the name that it gets in an
    /// import.
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
                // A generic argument, or no path at all.
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

    /// A path from the crate's root on; none for one of another crate, and for a local name.
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
