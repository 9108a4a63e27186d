//! A word of a result: one known to this version, or one of another version.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// A word, written as one of `T`. A reader of another version keeps a word that its own `T` lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Word<T> {
    /// A word of this version.
    Known(T),
    /// A word of another version.
    Other(String),
}

impl<T> From<T> for Word<T> {
    fn from(word: T) -> Self {
        Word::Known(word)
    }
}

impl<T: PartialEq> PartialEq<T> for Word<T> {
    fn eq(&self, other: &T) -> bool {
        matches!(self, Word::Known(word) if word == other)
    }
}

impl<T: Serialize> fmt::Display for Word<T> {
    /// The word as written in results.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Word::Known(word) => word.serialize(f),
            Word::Other(word) => f.write_str(word),
        }
    }
}

/// Only words of this version are written, so the schema is that of `T`.
impl<T: JsonSchema> JsonSchema for Word<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Reason;

    #[test]
    fn words_of_another_version_are_kept() {
        let known: Word<Reason> = serde_json::from_str(r#""out_of_memory""#).unwrap();
        assert_eq!(
            (&known, known.to_string().as_str()),
            (&Reason::OutOfMemory.into(), "out_of_memory")
        );
        let other: Word<Reason> = serde_json::from_str(r#""eaten""#).unwrap();
        assert_eq!((&other, other.to_string().as_str()), (&Word::Other("eaten".into()), "eaten"));
        assert!(known == Reason::OutOfMemory && other != Reason::OutOfMemory);
        assert_eq!(serde_json::to_string(&other).unwrap(), r#""eaten""#);
        assert!(serde_json::from_str::<Word<Reason>>("7").is_err());
    }
}
