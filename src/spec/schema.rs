//! The JSON Schema of specs, generated from the types.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{
    Account, Bound, Capability, FdEntry, FdName, FdSpec, Fds, Inherit, LimitPair, ProcId, ProcSpec,
    Resource, SignalRef, StartRequest, VarSpec, VarValue,
};

/// The JSON Schema (draft 2020-12) of a whole request.
pub fn schema() -> Schema {
    schemars::schema_for!(StartRequest)
}

/// Processes by their IDs.
pub(super) fn processes(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "propertyNames": generator.subschema_for::<ProcId>(),
        "additionalProperties": generator.subschema_for::<ProcSpec>(),
    })
}

/// Limits by resource.
pub(super) fn limits(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "propertyNames": generator.subschema_for::<Resource>(),
        "additionalProperties": generator.subschema_for::<LimitPair>(),
    })
}

/// Implements `JsonSchema` for types with hand-written serde implementations: a name, and the accepted
/// values.
macro_rules! schema_of {
    ($($type:ty as $name:literal: |$generator:pat_param| $schema:expr;)*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

schema_of! {
    ProcId as "ProcId": |_| json_schema!({
        "description": "A process's ID, of at most 4096 bytes in UTF-8.",
        "type": "string", "minLength": 1, "maxLength": ProcId::MAX_LEN,
    });
    FdName as "FdName": |_| json_schema!({
        "description": "stdin, stdout, stderr or a decimal number.",
        "type": "string", "pattern": "^(stdin|stdout|stderr|[0-9]+)$",
    });
    SignalRef as "Signal": |_| json_schema!({
        "description": "A signal's name, with or without SIG, or its number.",
        "oneOf": [
            {"type": "string"},
            {"type": "integer", "minimum": 1, "maximum": 64},
        ],
    });
    Account as "Account": |_| json_schema!({
        "description": "A user's or group's name or number.",
        "oneOf": [
            {"type": "string"},
            {"type": "integer", "minimum": 0, "maximum": 4294967295u32},
        ],
    });
    Capability as "Capability": |_| json_schema!({
        "description": "A capability's name, with or without CAP_, or its number.",
        "oneOf": [
            {"type": "string"},
            {"type": "integer", "minimum": 0, "maximum": Capability::MAX},
        ],
    });
    Bound as "Bound": |_| json_schema!({
        "description": "A number, a size such as 64M, or unlimited.",
        "oneOf": [{"type": "integer", "minimum": 0}, {"type": "string"}],
    });
    LimitPair as "Limit": |generator| {
        let bound = generator.subschema_for::<Bound>();
        json_schema!({
            "description": "One value for both limits, or the soft and the hard one.",
            "oneOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string"},
                {"type": "array", "items": bound, "minItems": 2, "maxItems": 2},
            ],
        })
    };
    Inherit as "Inherit": |_| json_schema!({
        "description": "All, none, or the names of the variables that are inherited.",
        "oneOf": [
            {"type": "boolean"},
            {"type": "array", "items": {"type": "string"}},
        ],
    });
    VarSpec as "Variable": |generator| {
        let detailed = generator.subschema_for::<VarValue>();
        json_schema!({
            "description": "A value, null to remove the variable, or an object that says more.",
            "anyOf": [{"type": ["string", "null"]}, detailed],
        })
    };
    FdEntry as "FdEntry": |generator| {
        let name = generator.subschema_for::<FdName>();
        let spec = generator.subschema_for::<FdSpec>();
        json_schema!({
            "description": "An fd and what it shall be.",
            "type": "array", "prefixItems": [name, spec], "minItems": 2, "maxItems": 2,
        })
    };
    Fds as "Fds": |generator| {
        let entry = generator.subschema_for::<FdEntry>();
        let spec = generator.subschema_for::<FdSpec>();
        json_schema!({
            "description": "In the order of set-up, or by name where the order is of no matter.",
            "oneOf": [
                {"type": "array", "items": entry},
                {
                    "type": "object",
                    "propertyNames": generator.subschema_for::<FdName>(),
                    "additionalProperties": spec,
                },
            ],
        })
    };
}
