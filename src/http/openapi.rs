//! The description of the API, made from the code: paths from what answers them, the schemas of results and specs from those that the
//! program publishes by itself.
//!
//! OpenAPI 3.1 takes JSON Schema as it is. So what `procstar schema` prints is put in under names that the paths refer to.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{OpenApi, PartialSchema, ToSchema};

use super::handlers::session::{CodeBody, SessionBody};
use super::log_level::LogLevelBody;
use super::status::AgentBody;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "procstar",
        description = "What runs on one machine: start, watch, stop and clear away processes, and read their output.",
    ),
    components(schemas(OutputShown, ProcState, ProcResult, SpecsBody))
)]
struct Description;

/// The description with the paths of the routes, as JSON.
pub(super) fn json(paths: utoipa::openapi::OpenApi) -> String {
    let mut description = Description::openapi();
    description.merge(paths);
    let mut description = serde_json::to_value(description).unwrap_or_default();
    let schemas = description.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    if let Some(schemas) = schemas {
        publish(crate::report::schema(), "Result", None, schemas);
        publish(crate::spec::schema(), "Spec", Some(SpecsBody::NAME), schemas);
    }
    description.to_string()
}

/// Puts the definitions of a published schema among the description's, which may have others of the same name: so each gets a prefix.
/// The root is put in where it has a name.
fn publish(
    schema: schemars::Schema,
    prefix: &str,
    root: Option<&str>,
    schemas: &mut Map<String, Value>,
) {
    let mut schema = Value::from(schema);
    let named = |name: &str| match name {
        "Result" => ProcResult::NAME.to_owned(),
        name => format!("{prefix}{name}"),
    };
    refer(&mut schema, &|name| format!("#/components/schemas/{}", named(name)));
    let Value::Object(mut schema) = schema else { return };
    if let Some(Value::Object(definitions)) = schema.remove("$defs") {
        schemas.extend(definitions.into_iter().map(|(name, value)| (named(&name), value)));
    }
    schema.remove("$schema");
    if let Some(root) = root {
        schemas.insert(root.to_owned(), schema.into());
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

/// Names that the paths refer to, of schemas that [`json`] puts in.
macro_rules! published {
    ($($type:ident $name:literal)*) => {$(
        /// Described by the published schema.
        pub(super) struct $type;

        impl $type {
            const NAME: &str = $name;
        }

        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                RefOr::T(Schema::default())
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                Self::NAME.into()
            }
        }
    )*};
}

published! { ProcResult "ProcResult" ProcState "ResultProcState" SpecsBody "SpecsBody" }

/// A good answer without anything to tell.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what handlers answer")]
pub(super) struct EmptyAnswer {
    #[schema(value_type = Object)]
    data: Value,
}

/// A good answer that names processes.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what handlers answer")]
pub(super) struct NamedAnswer {
    data: NamedData,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what handlers answer")]
struct NamedData {
    proc_ids: Vec<String>,
}

/// A good answer with results.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is streamed")]
pub(super) struct ProcsAnswer {
    data: ProcsData,
}

#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is streamed")]
struct ProcsData {
    /// By process ID.
    procs: BTreeMap<String, ProcResult>,
    /// Only with `limit`: what to give as `cursor` for the next page; null where this is the last.
    #[schema(required = false)]
    next: Option<String>,
}

/// How much of the captures results show.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what is parsed elsewhere")]
pub(super) enum OutputShown {
    Inline,
    None,
    Tail,
}

/// One event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what is streamed")]
pub(super) struct EventBody {
    /// `snapshot`, `reset`, `started`, `ended`, `updated`, `deleted`, `shutdown` or `figures`.
    event: String,
    /// To go on after this event; null within a snapshot, for `reset` and for `figures`.
    cursor: Option<String>,
    /// How many changes before this one have been missed, if any.
    #[schema(required = false)]
    missed: u64,
    /// Which process: of `started`, `ended`, `updated` and `deleted`.
    #[schema(required = false)]
    id: String,
    /// Its result, without output or in brief: of `started`, `ended` and `updated`.
    #[schema(required = false, value_type = Object)]
    result: Value,
    /// By ID, results, without output or in brief: of `snapshot`; what is used: of `figures`.
    #[schema(required = false, value_type = BTreeMap<String, Object>)]
    procs: Value,
    /// How many processes there are: of `figures`.
    #[schema(required = false, value_type = Object)]
    counts: Value,
    /// The connection to the server, as in `/agent`: of `figures`.
    #[schema(required = false, value_type = Option<Object>)]
    connection: Value,
    /// Whether more parts of the snapshot follow: of `snapshot`.
    #[schema(required = false)]
    more: bool,
    /// `active`, `idling` or `done`: of `snapshot` and `shutdown`.
    #[schema(required = false)]
    shutdown_state: String,
}

/// A good answer of `/log-level`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what a handler answers")]
pub(super) struct LogLevelAnswer {
    #[schema(inline)]
    data: LogLevelBody,
}

/// A good answer of `/session-codes`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what a handler answers")]
pub(super) struct CodeAnswer {
    #[schema(inline)]
    data: CodeBody,
}

/// A good answer of `/sessions`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what a handler answers")]
pub(super) struct SessionAnswer {
    #[schema(inline)]
    data: SessionBody,
}

/// A good answer of `/agent`.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what a handler answers")]
pub(super) struct AgentAnswer {
    #[schema(inline)]
    data: AgentBody<'static>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::routes::{self, description as json};

    /// Every path with each of its methods, HEAD left out: it goes with GET.
    #[test]
    fn all_places_are_described_and_nothing_else() {
        let description: Value = serde_json::from_str(&json()).unwrap();
        let mut described = BTreeSet::new();
        for (path, operations) in description["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                described.insert((path.clone(), method.to_uppercase()));
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.contains_key("403"), "{method} {path}: who is not let in");
                assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path}");
            }
        }
        let served = routes::all().map(|(path, method)| (path.to_owned(), method.to_owned()));
        assert_eq!(described, served.collect());
    }

    /// Every reference leads somewhere.
    #[test]
    fn all_schemas_are_there() {
        let text = json();
        let description: Value = serde_json::from_str(&text).unwrap();
        let schemas = description["components"]["schemas"].as_object().unwrap();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        assert!(schemas.contains_key("Problem") && !text.contains("$defs"));
    }

    /// Results and specs are described as the published schemas do, whole.
    #[test]
    fn results_and_specs_are_those_of_the_published_schemas() {
        let description: Value = serde_json::from_str(&json()).unwrap();
        let schemas = &description["components"]["schemas"];
        let keys = |value: &Value| {
            let properties = value["properties"].as_object().unwrap();
            properties.keys().cloned().collect::<BTreeSet<_>>()
        };
        let published = Value::from(crate::report::schema());
        let result = &published["$defs"]["Result"];
        assert!(keys(result).contains("survivor_count"));
        assert_eq!(keys(&schemas[ProcResult::NAME]), keys(result));
        assert_eq!(schemas[ProcResult::NAME]["required"], result["required"]);
        let spec = &Value::from(crate::spec::schema())["$defs"]["ProcSpec"];
        assert_eq!(keys(&schemas["SpecProcSpec"]), keys(spec));
        // Not mixed up with ours of the same name.
        assert!(keys(&schemas["AgentInfo"]).contains("hostname"));
        assert!(keys(&schemas["ResultAgentInfo"]).contains("host"));
        assert!(
            schemas[ProcState::NAME]["enum"].is_array()
                || schemas[ProcState::NAME]["oneOf"].is_array()
        );
        assert_eq!(keys(&schemas[SpecsBody::NAME]).len(), 3);
    }
}
