//! The JSON Schema of the protocol, made of the types themselves.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::work::{Execute, Fork, Stop};
use super::{Event, method_schemas};
use crate::model::{ExecutionId, Id, Json, RunId, StepId, Word};

/// Everything that is said over the socket in JSON: `methods` with `params` and `result`, `notifications` with
/// `params`, and the records that they are made of under `$defs`.
#[must_use]
pub fn document() -> serde_json::Value {
    // As they are written: a member that may be absent in a request is always there in a reply.
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let methods: serde_json::Map<_, _> = method_schemas(&mut generator)
        .into_iter()
        .map(|(name, params, result)| (name.to_owned(), serde_json::json!({"params": params, "result": result})))
        .collect();
    let notifications = serde_json::json!({
        "event": {"params": generator.subschema_for::<Event>()},
        "execute": {"params": generator.subschema_for::<Execute>()},
        "fork": {"params": generator.subschema_for::<Fork>()},
        "stop": {"params": generator.subschema_for::<Stop>()},
    });
    serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The JSON-RPC protocol of ibid",
        "methods": methods,
        "notifications": notifications,
        "$defs": generator.take_definitions(true),
    })
}

macro_rules! text_schema {
    ($type:ty, $name:literal, $pattern:literal, $about:literal) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"type": "string", "pattern": $pattern, "description": $about})
            }
        }
    };
}

text_schema!(RunId, "RunId", "^[Rr]?[0-9]+$", "A run, e.g. R12.");
text_schema!(StepId, "StepId", "^[Rr]?[0-9]+:[0-9]+$", "A step, e.g. R12:3.");
text_schema!(ExecutionId, "ExecutionId", "^[Rr]?[0-9]+:[0-9]+\\.[0-9]+$", "An execution, e.g. R12:3.1.");
text_schema!(Id, "Id", "^[Rr]?[0-9]+(:[0-9]+(\\.[0-9]+)?)?$", "A run, step or execution.");

impl JsonSchema for Json {
    fn schema_name() -> Cow<'static, str> {
        "Value".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"description": "Any JSON; types that JSON lacks are objects with a member $type."})
    }
}

impl JsonSchema for Word {
    fn schema_name() -> Cow<'static, str> {
        "Word".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A word of the system: a text, or bytes where it is not UTF-8.",
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {"$type": {"const": "bytes"}, "base64": {"type": "string"}},
                    "required": ["$type", "base64"]
                }
            ]
        })
    }
}
