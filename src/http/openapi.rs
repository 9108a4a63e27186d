//! The description of the API, generated from the code: paths from the handlers, schemas from the
//! types of the bodies ([`api`](crate::api)).
//!
//! OpenAPI 3.1 accepts JSON Schema unchanged. So the schemas are inserted under names that the
//! paths refer to.

use std::borrow::Cow;

use serde_json::Value;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{OpenApi, PartialSchema, ToSchema};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "procstar",
        description = "Start, monitor, stop and delete processes on one machine, and read their output.",
    ),
    components(schemas(OutputShown))
)]
struct Description;

/// The description with the paths of the routes, as JSON.
pub(super) fn json(paths: utoipa::openapi::OpenApi) -> String {
    let mut description = Description::openapi();
    description.merge(paths);
    let mut description = serde_json::to_value(description).unwrap_or_default();
    let schemas = description.pointer_mut("/components/schemas").and_then(Value::as_object_mut);
    if let Some(schemas) = schemas {
        schemas.extend(crate::api::definitions());
    }
    description.to_string()
}

/// Names, for the paths, of the schemas that [`json`] inserts.
macro_rules! published {
    ($($type:ident)*) => {$(
        /// Described by the schema of this name.
        pub(super) struct $type;

        impl PartialSchema for $type {
            fn schema() -> RefOr<Schema> {
                RefOr::T(Schema::default())
            }
        }

        impl ToSchema for $type {
            fn name() -> Cow<'static, str> {
                stringify!($type).into()
            }
        }
    )*};
}

published! {
    StatusAnswer CodeAnswer EmptyAnswer Errors EventBody LogLevelAnswer NamedAnswer Problem ProcsAnswer ResultProcState SessionAnswer SetLevel SpecsBody StopBody Trade
}

/// How much captured output results contain.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what is parsed elsewhere")]
pub(super) enum OutputShown {
    Inline,
    None,
    Tail,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::http::routes::{self, description as json};

    /// Compares paths and methods, without HEAD: every path with GET has it.
    #[test]
    fn description_has_exactly_the_routes() {
        let description: Value = serde_json::from_str(&json()).unwrap();
        let mut described = BTreeSet::new();
        for (path, operations) in description["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                described.insert((path.clone(), method.to_uppercase()));
                let responses = operation["responses"].as_object().unwrap();
                assert!(responses.contains_key("403"), "{method} {path}: no 403");
                assert!(!operation["summary"].as_str().unwrap().is_empty(), "{method} {path}");
            }
        }
        let served = routes::all().map(|(path, method)| (path.to_owned(), method.to_owned()));
        assert_eq!(described, served.collect());
    }

    #[test]
    fn every_reference_has_a_schema() {
        let text = json();
        let description: Value = serde_json::from_str(&text).unwrap();
        let schemas = description["components"]["schemas"].as_object().unwrap();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(schemas.contains_key(name), "{name}");
        }
        assert!(schemas.contains_key("Problem") && !text.contains("$defs"));
    }

    #[test]
    fn results_and_specs_have_the_published_schemas() {
        let description: Value = serde_json::from_str(&json()).unwrap();
        let schemas = &description["components"]["schemas"];
        let keys = |value: &Value| {
            let properties = value["properties"].as_object().unwrap();
            properties.keys().cloned().collect::<BTreeSet<_>>()
        };
        let published = Value::from(crate::report::schema());
        let result = &published["$defs"]["Result"];
        assert!(keys(result).contains("survivor_count"));
        assert_eq!(keys(&schemas["ProcResult"]), keys(result));
        assert_eq!(schemas["ProcResult"]["required"], result["required"]);
        let spec = &Value::from(crate::spec::schema())["$defs"]["ProcSpec"];
        assert_eq!(keys(&schemas["SpecProcSpec"]), keys(spec));
        // The status of the service and the agent in a result have schemas of their own.
        assert!(keys(&schemas["ServiceStatus"]).contains("hostname"));
        assert!(keys(&schemas["ResultAgentInfo"]).contains("host"));
        assert!(
            schemas["ResultProcState"]["enum"].is_array()
                || schemas["ResultProcState"]["oneOf"].is_array()
        );
        assert_eq!(keys(&schemas["SpecsBody"]).len(), 3);
    }
}
