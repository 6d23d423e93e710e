//! The API as OpenAPI has it, at `/v1/openapi.json`.
//! Knows no route: they bring their own descriptions. What holds for all of them is added here: problems, and fields that are always there.

use std::sync::Arc;

use axum::Extension;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::api;
use super::extract::Params;
use super::problem;
use super::read::Nothing;

/// What no route names by itself.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Swarm",
        description = "What a node of a swarm says and hears on the unix socket `control.sock` in its data directory. Only its own user and root \
                       get an answer. Fields of answers are always there, and what is unknown is null; unknown fields of requests are refused. \
                       Instants are RFC 3339 in UTC."
    ),
    components(schemas(
        problem::Document,
        api::NewLetter,
        api::NewOrder,
        api::BatchAccepted,
        api::BatchPlaced,
        api::OutcomePayload,
        api::Seen,
        api::Statistics
    ))
)]
struct Api;

/// What the descriptions of the routes are added to.
pub(super) fn begun() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

/// The whole, as it is served.
pub(super) fn finished(described: &utoipa::openapi::OpenApi) -> Arc<str> {
    let mut document = serde_json::to_value(described).expect("a description is texts");
    let problem = |which: &str| {
        json!({
            "description": which,
            "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } }
        })
    };
    for operation in members(&mut document["paths"]).flat_map(members) {
        if let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) {
            responses.insert("4XX".to_owned(), problem("It was refused"));
            responses.insert("5XX".to_owned(), problem("It cannot be done now"));
        }
    }
    for schema in members(&mut document["components"]["schemas"]) {
        all_there(schema);
    }
    whole_numbers(&mut document);
    document.to_string().into()
}

fn members(of: &mut Value) -> impl Iterator<Item = &mut Value> {
    of.as_object_mut().into_iter().flat_map(|object| object.values_mut())
}

/// Where unknown fields are refused, it is a request, and says itself what may be left out. All else is an answer, whose fields
/// are always there.
fn all_there(schema: &mut Value) {
    if let Some(items) = schema.as_array_mut() {
        items.iter_mut().for_each(all_there);
        return;
    }
    let Some(object) = schema.as_object_mut() else { return };
    let request = object.get("additionalProperties") == Some(&Value::Bool(false));
    if let Some(Value::Object(properties)) = object.get("properties")
        && !request
    {
        // The one exception: which line of a batch a problem is about.
        let names: Vec<Value> =
            properties.keys().filter(|name| *name != "line" || !properties.contains_key("hint")).map(|name| json!(name)).collect();
        object.insert("required".to_owned(), names.into());
    }
    for part in ["oneOf", "allOf", "anyOf", "items"] {
        if let Some(inner) = object.get_mut(part) {
            all_there(inner);
        }
    }
}

/// What cannot be negative may be as great as its bits allow; the formats of OpenAPI know only numbers with a sign.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(object) => {
            let most = match object.get("format").and_then(Value::as_str) {
                Some("int32") => u64::from(u32::MAX),
                Some("int64") => u64::MAX,
                _ => 0,
            };
            if most > 0 && object.get("minimum").and_then(Value::as_u64) == Some(0) {
                object.remove("format");
                object.insert("maximum".to_owned(), most.into());
            }
            object.values_mut().for_each(whole_numbers);
        }
        _ => {}
    }
}

/// The API as OpenAPI has it: this document.
#[utoipa::path(get, path = "/v1/openapi.json", responses((status = 200, description = "Done", body = Object)))]
pub(super) async fn document(_: Params<Nothing>, Extension(document): Extension<Arc<str>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document.to_string())
}
