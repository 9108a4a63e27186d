//! The JSON Schema of results, made from the types.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::facts::Head;
use super::times::Rfc3339;
use crate::spec::Compression;

/// Results by proc ID, as `--print` and `--output` write them.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "Results", transparent)]
struct Results(IndexMap<String, ProcResult>);

/// A result.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Result")]
struct ProcResult {
    #[serde(flatten)]
    head: Head<'static>,
    /// Every fd of its spec; null for one that is not captured.
    fds: IndexMap<String, Option<FdResult>>,
}

/// What was captured of an fd.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Fd")]
#[serde(tag = "type", rename_all = "lowercase")]
#[expect(dead_code, reason = "the schema is made of it; the document writes what it describes")]
enum FdResult {
    /// As text, invalid bytes replaced.
    Text {
        /// The text.
        text: String,
        /// `utf-8`.
        encoding: String,
    },
    /// As data.
    Data {
        /// The data, encoded.
        data: String,
        /// `base64` or `base2048`.
        encoding: String,
        /// What the data is compressed with; only there where the spec asks for it.
        #[serde(skip_serializing_if = "Option::is_none")]
        compression: Option<Compression>,
    },
    /// Not part of the result.
    Detached {
        /// Bytes captured.
        length: u64,
        /// How it would be shown: `utf-8`, `base64` or `base2048`.
        encoding: String,
    },
}

/// The JSON Schema (draft 2020-12) of an object of results by proc ID.
pub fn schema() -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<Results>()
}

impl JsonSchema for Rfc3339 {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "RFC 3339, in UTC, with six digits of fraction.",
            "type": "string", "format": "date-time",
        })
    }
}
