//! Errors of specs, with their places.

use std::borrow::Cow;
use std::fmt;

/// Maximum number of characters of a key in an error.
const KEY: usize = 100;

/// One step of a path in a spec.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Segment {
    /// A key of a map.
    Key(String),
    /// An index of an array.
    Index(usize),
}

/// A path in a spec, written like `specs.a.fds[1]`. A key with special characters is written in
/// brackets and quotes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SpecPath(Vec<Segment>);

impl SpecPath {
    /// The whole document.
    pub fn root() -> Self {
        SpecPath::default()
    }

    /// The path of the value of `key` below this one.
    pub fn key(&self, key: impl Into<String>) -> Self {
        self.step(Segment::Key(key.into()))
    }

    /// The path of the element `index` below this one.
    pub fn index(&self, index: usize) -> Self {
        self.step(Segment::Index(index))
    }

    /// The steps from the root.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    fn step(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        SpecPath(segments)
    }
}

impl FromIterator<Segment> for SpecPath {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        SpecPath(segments.into_iter().collect())
    }
}

impl fmt::Display for SpecPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |key: &str| {
            !key.is_empty()
                && key.len() <= KEY
                && key.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-')
        };
        for (i, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if plain(key) && i == 0 => f.write_str(key)?,
                Segment::Key(key) if plain(key) => write!(f, ".{key}")?,
                Segment::Key(key) => write!(f, "[{:?}]", cut(key))?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// A key, shortened for an error: a client's key can have any length.
fn cut(key: &str) -> Cow<'_, str> {
    match key.char_indices().nth(KEY) {
        Some((end, _)) => format!("{}...", key.get(..end).unwrap_or_default()).into(),
        None => key.into(),
    }
}

/// One error of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// The place; the root for text that is not a document at all.
    pub place: SpecPath,
    /// The fault.
    pub message: String,
    /// Line and column in the text, both from 1; `None` if the spec was not a text.
    pub position: Option<(usize, usize)>,
}

impl SpecError {
    /// An error at `place`, with no position yet.
    pub fn new(place: SpecPath, message: impl Into<String>) -> Self {
        SpecError { place, message: message.into(), position: None }
    }

    /// The error of a spec with that name: `FILE:LINE:COLUMN: PLACE: MESSAGE`.
    pub fn in_file(&self, file: &str) -> String {
        let space = if self.position.is_some() { "" } else { " " };
        format!("{file}:{space}{self}")
    }

    /// Place and [advice](Self::advice), without the position.
    fn text(&self) -> String {
        let advice = self.advice();
        if self.place.segments().is_empty() { advice } else { format!("{}: {advice}", self.place) }
    }
}

/// As compilers write it: `LINE:COLUMN: PLACE: MESSAGE`.
impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.position {
            write!(f, "{line}:{column}: ")?;
        }
        f.write_str(&self.text())
    }
}

/// All errors of a request, in the order of the text; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecErrors(pub Vec<SpecError>);

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecErrors {}

impl From<SpecError> for SpecErrors {
    fn from(error: SpecError) -> Self {
        SpecErrors(vec![error])
    }
}
