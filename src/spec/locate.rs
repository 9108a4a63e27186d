//! Finds the line and column of a path in a JSON text.
//!
//! serde_json has already accepted the text, so the scanner does not check the grammar. It never
//! reads beyond the end.

use super::Segment;

/// Line and column, both from 1, of the value at `path` in `text`. If the path does not exist, those of
/// the last existing value on it.
pub(super) fn locate(text: &[u8], path: &[Segment]) -> Option<(usize, usize)> {
    let mut scanner = Scanner { text, at: 0 };
    scanner.space();
    for segment in path {
        let value = scanner.at;
        let found = match segment {
            Segment::Key(key) => scanner.enter_key(key),
            Segment::Index(index) => scanner.enter_index(*index),
        };
        if found.is_none() {
            scanner.at = value;
            break;
        }
    }
    let before = text.get(..scanner.at)?;
    let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|&&b| b != b'\n').count() + 1;
    Some((line, column))
}

/// A position in a JSON text, always at the first byte of a token after [`Scanner::space`].
struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Moves from the start of an object to the value of the key `wanted`.
    fn enter_key(&mut self, wanted: &str) -> Option<()> {
        self.take(b'{')?;
        loop {
            self.space();
            let start = self.at;
            self.string()?;
            let key: String = serde_json::from_slice(self.text.get(start..self.at)?).ok()?;
            self.space();
            self.take(b':')?;
            self.space();
            if key == wanted {
                return Some(());
            }
            self.value()?;
            self.space();
            self.take(b',')?;
        }
    }

    /// Moves from the start of an array to the element `index`.
    fn enter_index(&mut self, index: usize) -> Option<()> {
        self.take(b'[')?;
        self.space();
        for _ in 0..index {
            self.value()?;
            self.space();
            self.take(b',')?;
            self.space();
        }
        Some(())
    }

    /// Moves to the end of a string.
    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            match self.peek()? {
                b'\\' => self.at += 2,
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                _ => self.at += 1,
            }
        }
    }

    /// Moves to the end of a value: its closing bracket, or the end of its token.
    fn value(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => self.string()?,
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                    continue;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => {
                    self.at += 1;
                    continue;
                }
                _ => {
                    while self.peek().is_some_and(|b| !b" \t\r\n,:]}".contains(&b)) {
                        self.at += 1;
                    }
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_values() {
        let text = br#"{
  "specs": {
    "b\"": {"argv": [[], {"x": "]"}, -1e5], "fds": []},
    "a": {
      "fds": [["stdout", "close"],
              ["stdout", "close"]]
    }
  }
}"#;
        let key = |k: &str| Segment::Key(k.into());
        let cases = [
            (vec![], (1, 1)),
            (vec![key("specs"), key("a"), key("fds"), Segment::Index(1)], (6, 15)),
            (vec![key("specs"), key("b\""), key("argv"), Segment::Index(2)], (3, 38)),
            (vec![key("specs"), key("b\""), key("fds")], (3, 52)),
            // The last existing value on the path.
            (vec![key("specs"), key("a"), key("exe")], (4, 10)),
        ];
        for (path, position) in cases {
            assert_eq!(locate(text, &path), Some(position), "{path:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_runs_past_the_end(text: Vec<u8>, key: String, index in 0usize..5) {
            locate(&text, &[Segment::Key(key), Segment::Index(index)]);
        }
    }
}
