//! The JSON Schema of results, made from the types.

use std::borrow::Cow;

use indexmap::IndexMap;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::body::ResultBody;
use super::record::{Stats, Summary};
use super::times::Rfc3339;

/// Results by proc ID, as `--print` and `--output` write them.
#[derive(JsonSchema)]
#[schemars(title = "Results", transparent)]
#[expect(dead_code, reason = "the schema is made of it; results are streamed one by one")]
struct Results(IndexMap<String, ResultBody<'static, String>>);

/// The JSON Schema (draft 2020-12) of an object of results by proc ID.
pub fn schema() -> Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    settings.into_generator().into_root_schema_for::<Results>()
}

/// The JSON Schema of results in events, which include a process's summary and stats in addition.
pub fn http_schema() -> Schema {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    generator.subschema_for::<Summary<'_>>();
    generator.subschema_for::<Stats>();
    generator.into_root_schema_for::<Results>()
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

#[cfg(test)]
mod random;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::TimePoint;
    use crate::engine::{Captures, Started};
    use crate::procfs::ProcFs;
    use crate::report::samples::SampleHistory;
    use crate::report::{
        AgentInfo, AsOf, ProcessRecord, ResultContext, ResultFormat, ResultStream,
    };
    use crate::sampler::ProcReader;
    use crate::spec::Identity;

    fn bytes(mut stream: ResultStream) -> Vec<u8> {
        let mut out = Vec::new();
        while stream.fill(&mut out).unwrap() {}
        out
    }

    /// The result is of this very process, and the same in both formats.
    #[test]
    fn a_running_process_has_a_result_with_every_optional_part() {
        let procfs = ProcFs::default();
        let pid = std::process::id() as i32;
        let stat = procfs.read_stat(pid).unwrap();
        let start = TimePoint::now();
        let history = SampleHistory::new(pid, Some(&stat), start, 3);
        history.add(start, &stat);
        history.repeat(TimePoint::now());
        let (captures, statm) = (Captures::none(), procfs.read_statm(pid).ok());
        let started = Started {
            id: "me".into(),
            pid,
            start,
            stat: Some(stat),
            statm,
            captures,
            policy: Default::default(),
            resolved: Default::default(),
            group: None,
        };
        let identity = Identity { argv: vec!["x".into()], exe: "/x".into(), ..Identity::default() };
        let agent = AgentInfo { pid: 7, host: "h".into(), user: "u".into(), version: "2".into() };
        let record = ProcessRecord::of_start(started)
            .with_identity(Some(Arc::new(identity)))
            .with_history(Some(Arc::new(history)));
        let context = ResultContext::new(ProcReader::new(procfs)).with_agent(agent, "g".into());
        let validator = jsonschema::validator_for(schema().as_value()).unwrap();
        for as_of in [AsOf::AtStart, AsOf::Now] {
            let stream =
                |format| bytes(ResultStream::new(&record, as_of, &context, format).unwrap());
            let json: serde_json::Value =
                serde_json::from_slice(&stream(ResultFormat::Json)).unwrap();
            let results = serde_json::json!({"me": json});
            let errors: Vec<String> = validator
                .iter_errors(&results)
                .map(|error| format!("{} {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{errors:#?}");
            let packed: serde_json::Value =
                rmp_serde::from_slice(&stream(ResultFormat::MessagePack)).unwrap();
            let keys = |value: &serde_json::Value| {
                value.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
            };
            assert_eq!(keys(&json), keys(&packed));
            assert_eq!(json["samples"], packed["samples"]);
            assert_eq!((&json["agent"]["host"], &json["group_id"]), (&"h".into(), &"g".into()));
            let live = as_of == AsOf::Now;
            assert_eq!((json["io"].is_object(), json["usage"]["maxrss"].is_u64()), (live, live));
            assert_eq!(json["samples"].as_array().unwrap().len(), 2);
            assert!(json["peak"]["rss"].as_u64() > Some(0) && json["status"].is_null());
        }
    }
}
