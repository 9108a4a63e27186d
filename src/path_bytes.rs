//! Paths in messages, journals and upgrades: serde's own form of a path refuses one that is not
//! UTF-8.
//!
//! A path that is UTF-8 is a string, as serde has it, so what was written before is read and
//! nothing changes; any other is its bytes. For `#[serde(with = "path_bytes")]`,
//! `path_bytes::optional` and `path_bytes::list`.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// Writes a path.
///
/// # Errors
/// The serializer's.
pub fn serialize<S: Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    match path.to_str() {
        Some(text) => to.serialize_str(text),
        None => to.serialize_bytes(path.as_os_str().as_bytes()),
    }
}

/// Reads a path: a string, bytes, or a sequence of numbers, which bytes are in JSON.
///
/// # Errors
/// Where it is something else.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PathBuf, D::Error> {
    from.deserialize_any(PathVisitor)
}

struct PathVisitor;

impl<'de> Visitor<'de> for PathVisitor {
    type Value = PathBuf;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PathBuf, E> {
        Ok(text.into())
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<PathBuf, E> {
        Ok(OsString::from_vec(bytes.to_vec()).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<PathBuf, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok(OsString::from_vec(bytes).into())
    }
}

/// A path in this form, where a type is asked for.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct Bytes(#[serde(with = "self")] PathBuf);

/// A path or none.
pub mod optional {
    use super::{Bytes, Deserialize, Deserializer, Path, PathBuf, Serialize, Serializer};

    /// Writes a path or none.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(path: &Option<PathBuf>, to: S) -> Result<S::Ok, S::Error> {
        path.as_deref().map(Path::to_path_buf).map(Bytes).serialize(to)
    }

    /// Reads a path or none.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<Bytes>::deserialize(from)?.map(|path| path.0))
    }
}

/// Several paths.
pub mod list {
    use super::{Bytes, Deserialize, Deserializer, PathBuf, Serializer};

    /// Writes several paths.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(paths.iter().map(|path| Bytes(path.clone())))
    }

    /// Reads several paths.
    ///
    /// # Errors
    /// Where they are something else.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
        Ok(Vec::<Bytes>::deserialize(from)?.into_iter().map(|path| path.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde::de::DeserializeOwned;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Paths {
        #[serde(with = "super")]
        one: PathBuf,
        #[serde(with = "super::optional", default)]
        maybe: Option<PathBuf>,
        #[serde(with = "super::list")]
        several: Vec<PathBuf>,
    }

    fn paths(bytes: &[u8]) -> Paths {
        let path = PathBuf::from(OsString::from_vec(bytes.to_vec()));
        Paths { one: path.clone(), maybe: Some(path.clone()), several: vec![path, "x".into()] }
    }

    fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> T {
        rmp_serde::from_slice(bytes).unwrap()
    }

    proptest! {
        #[test]
        fn every_path_comes_back(bytes: Vec<u8>) {
            let paths = paths(&bytes);
            prop_assert_eq!(&from_slice::<Paths>(&rmp_serde::to_vec(&paths).unwrap()), &paths);
            prop_assert_eq!(&from_slice::<Paths>(&rmp_serde::to_vec_named(&paths).unwrap()), &paths);
            let json = serde_json::to_string(&paths).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Paths>(&json).unwrap(), &paths);
        }
    }

    /// What a program before has written, or will read.
    #[test]
    fn utf8_has_the_form_that_serde_gives_a_path() {
        #[derive(Serialize)]
        struct Plain {
            one: PathBuf,
            maybe: Option<PathBuf>,
            several: Vec<PathBuf>,
        }
        let Paths { one, maybe, several } = paths("/tmp/ä".as_bytes());
        let plain = Plain { one: one.clone(), maybe: maybe.clone(), several: several.clone() };
        let paths = Paths { one, maybe, several };
        assert_eq!(rmp_serde::to_vec(&paths).unwrap(), rmp_serde::to_vec(&plain).unwrap());
        assert_eq!(serde_json::to_vec(&paths).unwrap(), serde_json::to_vec(&plain).unwrap());
        let none = Paths { maybe: None, ..paths };
        assert_eq!(from_slice::<Paths>(&rmp_serde::to_vec(&none).unwrap()), none);
    }
}
