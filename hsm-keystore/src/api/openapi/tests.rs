//! Makes the description of the API, and compares the one in the repository with it. `EDS_WRITE_OPENAPI=1` writes it.

use std::collections::BTreeMap;

use eds_core::api::{self as wire, Binary, Problem, access};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use super::DOCUMENT;
use crate::api::{ROUTES, Route, Word};

/// A proof of the Merkle tree of the audit log: RFC 9162, sections 2.1.3 and 2.1.4.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "stands for api::AuditProof, which has no schema of its own outside of tests")]
struct AuditProof {
    /// The hashes, in the order of the RFC.
    hashes: Vec<Binary>,
}

/// What the table of routes does not say of a route.
struct Described {
    id: &'static str,
    summary: &'static str,
    takes: Option<Value>,
    answers: (&'static str, Value),
    /// Statuses of refusals, beside those that every call may have.
    refusals: &'static [u16],
}

/// Every route by its path. A route that is not here fails the test.
fn describe(route: &Route, schemas: &mut SchemaGenerator) -> Described {
    const JSON: &str = "application/json";
    let text = || json!({ "type": "string" });
    macro_rules! schema {
        ($type:ty) => {
            schemas.subschema_for::<$type>().to_value()
        };
    }
    macro_rules! call {
        ($id:literal, $summary:literal, $takes:ty => $answer:ty, $refusals:expr) => {
            Described {
                id: $id,
                summary: $summary,
                takes: Some(schema!($takes)),
                answers: (JSON, schema!($answer)),
                refusals: $refusals,
            }
        };
    }
    macro_rules! read {
        ($id:literal, $summary:literal => $kind:expr, $answer:expr, $refusals:expr) => {
            Described { id: $id, summary: $summary, takes: None, answers: ($kind, $answer), refusals: $refusals }
        };
    }
    match route.path {
        "/v1/register" => call!(
            "register", "Stores this node's shares of new keys, all or none; they are pending until confirmed",
            wire::RegisterRequest => wire::KeysAnswer, &[403, 409, 410]
        ),
        "/v1/confirm" => call!(
            "confirm", "Pending keys become active; only for their registrant",
            wire::KeysRequest => wire::KeysAnswer, &[]
        ),
        "/v1/withdraw" => call!(
            "withdraw", "Takes back pending keys; only for their registrant",
            wire::KeysRequest => wire::KeysAnswer, &[]
        ),
        "/v1/unregister" => call!(
            "unregister", "Deletes keys for ever; needs the permission d",
            wire::KeysRequest => wire::KeysAnswer, &[]
        ),
        "/v1/device/register" => call!(
            "registerOfDevice", "Stores this node's share of a key that an enrolled device made; for couriers",
            wire::device::DeviceRegisterRequest => wire::KeysAnswer, &[403, 409, 410]
        ),
        "/v1/device/confirm" => call!(
            "confirmOfDevice", "Pending keys of devices become active; for couriers",
            wire::KeysRequest => wire::KeysAnswer, &[403]
        ),
        "/v1/resolve" => call!(
            "resolve", "The keys of names, for callers who may do something with them",
            wire::name::ResolveRequest => wire::name::ResolveAnswer, &[]
        ),
        "/v1/fetch" => call!(
            "fetch", "Releases shares, sealed to a one-time key; needs the permission g",
            wire::FetchRequest => wire::FetchAnswer, &[]
        ),
        "/v1/access/read" => call!(
            "readAccess", "Access lists; needs the permission l",
            wire::KeysRequest => access::AccessAnswer, &[]
        ),
        "/v1/access/change" => call!(
            "changeAccess", "Puts other access lists in the place of those that the caller saw; needs the permission p",
            access::ChangeRequest => wire::KeysAnswer, &[]
        ),
        "/v1/list" => call!(
            "list", "Keys that the caller may list, a page at a time",
            access::ListRequest => access::ListAnswer, &[]
        ),
        "/v1/why" => call!(
            "why", "Which rule allows or refuses what with a key; for administrators, for others too",
            access::WhyRequest => access::WhyAnswer, &[403, 404, 410]
        ),
        "/v1/keys/{id}" => read!(
            "key", "What the node holds of a key, never the share; needs l or g"
            => JSON, schema!(wire::KeyInfo), &[403, 404, 409]
        ),
        "/v1/whoami" => read!(
            "whoami", "Whom the node takes the caller for, and what its configuration lets them do"
            => JSON, schema!(wire::whoami::WhoAmI), &[]
        ),
        "/v1/node" => {
            read!("node", "Who the node is, and whom it takes the caller for" => JSON, schema!(wire::NodeInfo), &[])
        }
        "/v1/audit/checkpoint" => read!(
            "checkpoint", "The last signed head of the audit log, a C2SP signed note" => "text/plain", text(), &[]
        ),
        "/v1/audit/proof/inclusion/{index}/{size}" => read!(
            "inclusionProof", "The entry `index` is among the first `size` of the audit log"
            => JSON, schema!(AuditProof), &[422]
        ),
        "/v1/audit/proof/consistency/{old}/{new}" => read!(
            "consistencyProof", "The first `new` entries of the audit log continue the first `old`"
            => JSON, schema!(AuditProof), &[422]
        ),
        "/v1/openapi.json" => read!("openapi", "This description" => JSON, json!({ "type": "object" }), &[]),
        "/metrics" => read!(
            "metrics", "What Prometheus reads; for administrators of the node"
            => "application/openmetrics-text", text(), &[403]
        ),
        "/healthz" => read!("health", "The process answers" => "text/plain", text(), &[]),
        "/readyz" => {
            read!("ready", "The token encrypts and decrypts, and the database answers" => "text/plain", text(), &[])
        }
        other => panic!("{other} is not described"),
    }
}

fn operation(route: &Route, schemas: &mut SchemaGenerator) -> Value {
    let described = describe(route, schemas);
    let mut statuses = vec![400, 431, 500, 503];
    if route.operation.is_some() {
        statuses.push(401);
    }
    if described.takes.is_some() {
        statuses.extend([408, 413, 415, 422]);
    }
    statuses.extend(described.refusals);
    let request_id = json!({ "X-Request-Id": { "$ref": "#/components/headers/RequestId" } });
    let (kind, schema) = described.answers;
    let mut responses = BTreeMap::from([(
        "200".to_owned(),
        json!({ "description": "Done", "headers": request_id, "content": { kind: { "schema": schema } } }),
    )]);
    for status in statuses {
        responses.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{status}") }));
    }
    let parameters: Vec<Value> = route
        .path
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split_once('}'))
        .map(|(name, _)| {
            let schema = if name == "id" {
                schemas.subschema_for::<wire::KeyText>().to_value()
            } else {
                json!({ "type": "integer", "format": "uint64", "minimum": 0, "maximum": u64::MAX })
            };
            json!({ "name": name, "in": "path", "required": true, "schema": schema })
        })
        .collect();
    let mut operation = json!({
        "operationId": described.id,
        "summary": described.summary,
        "responses": responses,
    });
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(schema) = described.takes {
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
    }
    if route.operation.is_none() {
        operation["security"] = json!([{}]);
    }
    operation
}

/// The refusals with one status: all of its words, and the headers that come with them.
fn refusal(status: u16, words: &[Word]) -> Value {
    let words: Vec<String> = words.iter().map(|word| format!("`{}`", word.as_str())).collect();
    let header =
        |description: &str| json!({ "description": description, "required": true, "schema": { "type": "string" } });
    let mut headers = json!({ "X-Request-Id": { "$ref": "#/components/headers/RequestId" } });
    match status {
        401 => headers["WWW-Authenticate"] = header("How a caller may prove who it is"),
        405 => headers["Allow"] = header("The methods that the path knows"),
        415 => headers["Accept"] = header("application/json"),
        503 => headers["Retry-After"] = header("Seconds until it is worth another try"),
        _ => {}
    }
    json!({
        "description": words.join(", "),
        "headers": headers,
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    })
}

fn document() -> String {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.meta_schema = None;
    let mut schemas = settings.into_generator();
    schemas.subschema_for::<Problem>();
    let mut paths = serde_json::Map::new();
    for route in ROUTES {
        let operation = operation(route, &mut schemas);
        paths.insert(route.path.to_owned(), json!({ route.method: operation }));
    }
    let mut by_status: BTreeMap<u16, Vec<Word>> = BTreeMap::new();
    for word in Word::ALL {
        by_status.entry(word.status().as_u16()).or_default().push(*word);
    }
    let responses: BTreeMap<String, Value> =
        by_status.iter().map(|(status, words)| (status.to_string(), refusal(*status, words))).collect();
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "EDS key server",
            "version": "1",
            "summary": "One node of a cluster that holds the shares of keys.",
            "description": "Every error is a problem document (RFC 9457); its words are in docs/keystore.md.",
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "security": [{ "certificate": [] }, { "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas.take_definitions(true),
            "responses": responses,
            "headers": {
                "RequestId": {
                    "description": "The request's id, as in the node's log and audit log",
                    "required": true,
                    "schema": { "type": "string", "pattern": "^[0-9a-f]{32}$" },
                },
            },
            "securitySchemes": {
                "certificate": { "type": "mutualTLS", "description": "A client certificate or proxy (docs/authentication.md)" },
                "token": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "A token of a configured issuer" },
            },
        },
    });
    serde_json::to_string_pretty(&document).expect("JSON") + "\n"
}

#[test]
fn the_description_is_the_one_of_the_types_and_routes() {
    let made = document();
    if std::env::var_os("EDS_WRITE_OPENAPI").is_some() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        std::fs::write(file, &made).expect("writes");
        return;
    }
    assert!(
        made == DOCUMENT,
        "docs/openapi.json is not what the types say: run `make openapi` and look at the difference"
    );
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let document: Value = serde_json::from_str(DOCUMENT).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    let described: Vec<(&str, &str)> = paths
        .iter()
        .flat_map(|(path, methods)| {
            methods.as_object().expect("methods").keys().map(move |method| (path.as_str(), method.as_str()))
        })
        .collect();
    let mut served: Vec<(&str, &str)> = ROUTES.iter().map(|route| (route.path, route.method)).collect();
    served.sort_unstable();
    let mut sorted = described;
    sorted.sort_unstable();
    assert_eq!(sorted, served);
}
