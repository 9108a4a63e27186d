//! The types of API bodies for the modules of the page, generated from the API description.

use std::fmt::Write;
use std::path::Path;

use serde_json::Value;

use super::harness::TestServer;

const HEAD: &str = "\
// The bodies of the API, as TypeScript reads them from the page's JSDoc comments. Generated from the
// API's description: `PROCSTAR_PUBLISH=1 cargo nextest run --test http page_types`.
";

/// Run with `PROCSTAR_PUBLISH=1` to write the file.
#[test]
fn the_types_of_the_page_are_those_of_the_description() {
    let world = TestServer::new();
    let description = world.ask("GET", "/openapi.json").json();
    let types = types(&description["components"]["schemas"]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/types.d.ts");
    if std::env::var_os("PROCSTAR_PUBLISH").is_some() {
        std::fs::write(&path, &types).unwrap();
    }
    assert!(std::fs::read_to_string(&path).unwrap() == types, "{} is out of date", path.display());
    for line in ["export interface ProcResult {", "  status: ResultStatus | null;"] {
        assert!(types.lines().any(|one| one == line), "{line}");
    }
}

/// A declaration for each schema except specs, which the page does not send.
fn types(schemas: &Value) -> String {
    let mut text = HEAD.to_owned();
    for (name, schema) in schemas.as_object().unwrap() {
        if name.starts_with("Spec") {
            continue;
        }
        text.push('\n');
        comment(&mut text, "", schema);
        match schema.get("properties") {
            Some(_) => writeln!(text, "export interface {name} {}", of(schema, "")).unwrap(),
            None => writeln!(text, "export type {name} = {};", of(schema, "")).unwrap(),
        }
    }
    text
}

/// A description as a comment.
fn comment(text: &mut String, indent: &str, schema: &Value) {
    if let Some(description) = schema["description"].as_str() {
        writeln!(text, "{indent}/** {} */", description.replace('\n', " ")).unwrap();
    }
}

/// A schema as a type.
fn of(schema: &Value, indent: &str) -> String {
    let any = |of_all: &Value| {
        let all: Vec<String> =
            of_all.as_array().unwrap().iter().map(|one| of(one, indent)).collect();
        all.join(" | ")
    };
    if let Some(reference) = schema["$ref"].as_str() {
        return reference.rsplit('/').next().unwrap().to_owned();
    }
    if let Some(value) = schema.get("const") {
        return value.to_string();
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(Value::to_string).collect::<Vec<_>>().join(" | ");
    }
    if let Some(some) = schema.get("anyOf").or(schema.get("oneOf")) {
        return any(some);
    }
    match &schema["type"] {
        Value::String(name) => named(name, schema, indent),
        Value::Array(names) => {
            let names = names.iter().map(|name| named(name.as_str().unwrap(), schema, indent));
            names.collect::<Vec<_>>().join(" | ")
        }
        _ => "unknown".to_owned(),
    }
}

/// A type of JSON.
fn named(name: &str, schema: &Value, indent: &str) -> String {
    match name {
        "integer" => "number".to_owned(),
        "array" => match schema["prefixItems"].as_array() {
            Some(items) => {
                let items: Vec<String> = items.iter().map(|item| of(item, indent)).collect();
                format!("[{}]", items.join(", "))
            }
            None => format!("Array<{}>", of(&schema["items"], indent)),
        },
        "object" => object(schema, indent),
        name => name.to_owned(),
    }
}

fn object(schema: &Value, indent: &str) -> String {
    let Some(properties) = schema["properties"].as_object() else {
        return match schema.get("additionalProperties") {
            Some(value) => format!("Record<string, {}>", of(value, indent)),
            None => "Record<string, never>".to_owned(),
        };
    };
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let deeper = format!("{indent}  ");
    let mut text = "{\n".to_owned();
    for (key, value) in properties {
        comment(&mut text, &deeper, value);
        let mark = if required.contains(&key.as_str().into()) { "" } else { "?" };
        writeln!(text, "{deeper}{key}{mark}: {};", of(value, &deeper)).unwrap();
    }
    text + indent + "}"
}
