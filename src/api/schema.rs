//! The JSON Schemas of all bodies, by the names that the API's description gives them.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use super::{
    CodeBody, Data, Errors, Event, EventProc, EventResult, LogLevelBody, Named, Nothing, Problem,
    Procs, SessionBody, SetLevel, StatusBody, StopBody, Trade,
};

/// Where the API's description keeps schemas.
const COMPONENTS: &str = "#/components/schemas/";

/// Every body's schema, results and specs included, as the components of an OpenAPI 3.1
/// description.
pub fn definitions() -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut answers = settings.clone().for_serialize().into_generator();
    let mut all = Map::new();
    let mut add = |name: &str, schema: Schema| all.insert(name.to_owned(), schema.into());
    add("EmptyAnswer", answers.subschema_for::<Data<Nothing>>());
    add("NamedAnswer", answers.subschema_for::<Data<Named<Vec<String>>>>());
    add("ProcsAnswer", answers.subschema_for::<Data<Procs<ResultRef>>>());
    add("StatusAnswer", answers.subschema_for::<Data<StatusBody<'static>>>());
    add("LogLevelAnswer", answers.subschema_for::<Data<LogLevelBody>>());
    add("CodeAnswer", answers.subschema_for::<Data<CodeBody>>());
    add("SessionAnswer", answers.subschema_for::<Data<SessionBody>>());
    answers.subschema_for::<Event<'static, EventResult<'static>, EventProc<'static>>>();
    answers.subschema_for::<Errors>();
    answers.subschema_for::<Problem>();
    let mut requests = settings.for_deserialize().into_generator();
    requests.subschema_for::<StopBody>();
    requests.subschema_for::<SetLevel>();
    requests.subschema_for::<Trade>();
    all.extend(answers.take_definitions(true));
    all.extend(requests.take_definitions(true));
    publish(crate::report::http_schema(), "Result", None, &mut all);
    publish(crate::spec::schema(), "Spec", Some("SpecsBody"), &mut all);
    all
}

/// Adds the definitions of a published schema. They get a prefix, for others have some of their
/// names. The root is added under `root`.
fn publish(schema: Schema, prefix: &str, root: Option<&str>, all: &mut Map<String, Value>) {
    let mut schema = Value::from(schema);
    let named = |name: &str| match name {
        "Result" => ResultRef::NAME.to_owned(),
        name => format!("{prefix}{name}"),
    };
    refer(&mut schema, &|name| format!("{COMPONENTS}{}", named(name)));
    let Value::Object(mut schema) = schema else { return };
    if let Some(Value::Object(definitions)) = schema.remove("$defs") {
        all.extend(definitions.into_iter().map(|(name, value)| (named(&name), value)));
    }
    schema.remove("$schema");
    if let Some(root) = root {
        all.insert(root.to_owned(), schema.into());
    }
}

/// Turns every reference to a definition into another one.
fn refer(value: &mut Value, to: &impl Fn(&str) -> String) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| refer(value, to)),
        Value::Object(entries) => {
            for (key, value) in entries {
                match (key.as_str(), value) {
                    ("$ref", Value::String(reference)) => {
                        if let Some(name) = reference.strip_prefix("#/$defs/") {
                            *reference = to(name);
                        }
                    }
                    (_, value) => refer(value, to),
                }
            }
        }
        _ => {}
    }
}

/// References to what [`publish`] adds.
macro_rules! references {
    ($($type:ident $name:literal)*) => {$(
        pub(super) struct $type;

        impl $type {
            const NAME: &str = $name;
        }

        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                Self::NAME.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "$ref": format!("{COMPONENTS}{}", Self::NAME) })
            }
        }
    )*};
}

references! { ResultRef "ProcResult" SummaryRef "ResultSummary" StatsRef "ResultStats" }
