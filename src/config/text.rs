//! The representation of durations and paths in the merge and in `config show`.
//!
//! In: seconds as a number, a path as a string, or as an array of bytes if it is not UTF-8 (in the
//! form of [`super::layer`]; files cannot contain it). Out, for `config show`: whole seconds as
//! integers, others as fractions; paths as text, with bytes that are not UTF-8 replaced.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `Duration` as seconds.
pub(super) mod seconds {
    use super::*;
    use std::time::Duration;

    pub(crate) fn serialize<S: Serializer>(time: &Duration, s: S) -> Result<S::Ok, S::Error> {
        if time.subsec_nanos() == 0 {
            s.serialize_u64(time.as_secs())
        } else {
            s.serialize_f64(time.as_secs_f64())
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

/// `Option<Duration>` as seconds or null.
pub(super) mod optional_seconds {
    use super::*;
    use std::time::Duration;

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Seconds(#[serde(with = "super::seconds")] Duration);

    pub(crate) fn serialize<S: Serializer>(
        time: &Option<Duration>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(Seconds).serialize(s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Seconds>::deserialize(d)?.map(|seconds| seconds.0))
    }
}

/// `Option<PathBuf>` as a string, or as bytes.
pub(super) mod path {
    use super::*;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::path::PathBuf;

    #[derive(Deserialize)]
    #[serde(untagged)]
    pub(super) enum PathValue {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(crate) fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        path.as_ref().map(|path| path.to_string_lossy()).serialize(s)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        Ok(Option::<PathValue>::deserialize(d)?.map(PathBuf::from))
    }

    impl From<PathValue> for PathBuf {
        fn from(form: PathValue) -> Self {
            match form {
                PathValue::Text(text) => text.into(),
                PathValue::Bytes(bytes) => OsString::from_vec(bytes).into(),
            }
        }
    }
}

/// `Vec<PathBuf>` as an array; shown as null if it is empty, and as the element if it has one.
pub(super) mod paths {
    use super::*;
    use std::path::PathBuf;

    pub(crate) fn serialize<S: Serializer>(paths: &[PathBuf], s: S) -> Result<S::Ok, S::Error> {
        match paths {
            [] => s.serialize_none(),
            [one] => one.to_string_lossy().serialize(s),
            more => s.collect_seq(more.iter().map(|path| path.to_string_lossy())),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<PathBuf>, D::Error> {
        let forms = Vec::<super::path::PathValue>::deserialize(d)?;
        Ok(forms.into_iter().map(PathBuf::from).collect())
    }
}

/// `Vec<String>`, shown as [`paths`] are.
pub(super) mod names {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(names: &[String], s: S) -> Result<S::Ok, S::Error> {
        match names {
            [] => s.serialize_none(),
            [one] => one.serialize(s),
            more => s.collect_seq(more),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
        Vec::deserialize(d)
    }
}
