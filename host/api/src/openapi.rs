//! The OpenAPI document: made from the handlers themselves, so that it cannot miss a route.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::problem::{FieldProblem, MEDIA_TYPE, Problem, ProblemFault};
use crate::state::Api;
use crate::{
    accounts, backup, consent, ingest, instances, keys, letters, observe, probes, records, releases, shared, triage,
};

/// Every route, with its description.
pub(crate) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(document())
        .routes(routes!(observe::get_health))
        .routes(routes!(observe::get_ready))
        .routes(routes!(get_openapi))
        .routes(routes!(accounts::put_site, accounts::delete_site))
        .routes(routes!(accounts::post_operator))
        .routes(routes!(accounts::post_ingest_key))
        .routes(routes!(accounts::delete_ingest_key))
        .routes(routes!(ingest::post_events))
        .routes(routes!(releases::get_catalog))
        .routes(routes!(releases::post_activate))
        .routes(routes!(instances::get_instances, instances::post_instance))
        .routes(routes!(instances::get_instance, instances::patch_instance))
        .routes(routes!(instances::post_enable))
        .routes(routes!(instances::post_disable))
        .routes(routes!(instances::put_credential, consent::delete_credential))
        .routes(routes!(consent::post_authorize))
        .routes(routes!(consent::get_callback))
        .routes(routes!(probes::post_check))
        .routes(routes!(probes::get_options))
        .routes(routes!(letters::get_dead_letters))
        .routes(routes!(letters::post_replay))
        .routes(routes!(letters::post_discard))
        .routes(routes!(letters::get_dead_letter))
        .routes(routes!(letters::delete_job))
        .routes(routes!(letters::get_log))
        .routes(routes!(triage::get_triage))
        .routes(routes!(triage::get_instance_triage))
        .routes(routes!(triage::post_escalate))
        .routes(routes!(triage::get_escalations))
        .routes(routes!(triage::post_erase))
        .routes(routes!(records::get_captures))
        .routes(routes!(records::get_trace))
        .routes(routes!(records::get_audit))
        .routes(routes!(records::get_audit_verification))
        .routes(routes!(backup::get_backup))
        .routes(routes!(shared::get_shared))
        .routes(routes!(shared::put_shared, shared::delete_shared))
        .routes(routes!(shared::put_reference, shared::delete_reference))
        .routes(routes!(keys::get_keys))
        .routes(routes!(keys::post_rotate))
        .routes(routes!(keys::post_rewrap))
}

fn document() -> OpenApi {
    let info = InfoBuilder::new().title("SGEN Connectors").version(env!("CARGO_PKG_VERSION")).description(Some(
        "Captures events of sites and delivers them to downstream services through sandboxed connectors. Errors are \
             problem details (RFC 9457): `fault` says who must act, `problems` names the fields.",
    ));
    let mut components = Components::new();
    for (name, says) in [
        ("platform", "The platform's own token."),
        ("operator", "An operator's token (`sgo_…`): acts on every site of one account."),
        ("ingest", "A site's ingest key (`sgi_…`): posts events into one environment."),
    ] {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(says)).build();
        components.add_security_scheme(name, SecurityScheme::Http(scheme));
    }
    components.schemas.insert(Problem::name().into_owned(), Problem::schema());
    components.schemas.insert(FieldProblem::name().into_owned(), FieldProblem::schema());
    components.schemas.insert(ProblemFault::name().into_owned(), ProblemFault::schema());
    OpenApiBuilder::new().info(info.build()).components(Some(components)).build()
}

/// Adds what every operation has in common: an error is a problem details document.
pub(crate) fn complete(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            add_problem(operation);
        }
    }
}

fn add_problem(operation: &mut Operation) {
    let schema = RefOr::Ref(Ref::from_schema_name(Problem::name()));
    let response = ResponseBuilder::new()
        .description("What is wrong, and who must act.")
        .content(MEDIA_TYPE, ContentBuilder::new().schema(Some(schema)).build())
        .build();
    operation.responses.responses.insert("default".to_owned(), RefOr::T(response));
}

/// Shows this document
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "health",
    responses((status = 200, description = "The OpenAPI document of this API.", body = Object))
)]
pub(crate) async fn get_openapi(State(api): State<Arc<Api>>) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], api.openapi.clone()).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use serde_json::Value;

    /// Every route of the API, as promised to those who call it.
    const ROUTES: [(&str, &str); 47] = [
        ("get", "/healthz"),
        ("get", "/readyz"),
        ("get", "/openapi.json"),
        ("put", "/v1/accounts/{account}/sites/{site}"),
        ("delete", "/v1/accounts/{account}/sites/{site}"),
        ("post", "/v1/accounts/{account}/operators"),
        ("post", "/v1/sites/{site}/environments/{environment}/ingest-keys"),
        ("delete", "/v1/sites/{site}/environments/{environment}/ingest-keys/{id}"),
        ("post", "/v1/sites/{site}/environments/{environment}/events"),
        ("get", "/v1/catalog"),
        ("get", "/v1/sites/{site}/environments/{environment}/instances"),
        ("post", "/v1/sites/{site}/environments/{environment}/instances"),
        ("get", "/v1/instances/{id}"),
        ("patch", "/v1/instances/{id}"),
        ("post", "/v1/instances/{id}/enable"),
        ("post", "/v1/instances/{id}/disable"),
        ("put", "/v1/instances/{id}/credentials/{slot}"),
        ("delete", "/v1/instances/{id}/credentials/{slot}"),
        ("post", "/v1/instances/{id}/credentials/{slot}/authorize"),
        ("get", "/v1/oauth/callback"),
        ("post", "/v1/instances/{id}/check"),
        ("get", "/v1/instances/{id}/options"),
        ("get", "/v1/instances/{id}/dead-letters"),
        ("get", "/v1/instances/{id}/dead-letters/{sequence}"),
        ("post", "/v1/instances/{id}/dead-letters/replay"),
        ("post", "/v1/instances/{id}/dead-letters/discard"),
        ("delete", "/v1/instances/{id}/jobs/{job}"),
        ("get", "/v1/instances/{id}/log"),
        ("get", "/v1/instances/{id}/triage"),
        ("post", "/v1/instances/{id}/escalate"),
        ("get", "/v1/sites/{site}/environments/{environment}/triage"),
        ("post", "/v1/sites/{site}/environments/{environment}/captures/erase"),
        ("get", "/v1/platform/escalations"),
        ("get", "/v1/sites/{site}/environments/{environment}/captures"),
        ("get", "/v1/sites/{site}/environments/{environment}/captures/{event}/trace"),
        ("get", "/v1/sites/{site}/audit"),
        ("get", "/v1/sites/{site}/audit/verify"),
        ("post", "/v1/platform/releases/activate"),
        ("get", "/v1/store/backup"),
        ("get", "/v1/accounts/{account}/credentials"),
        ("put", "/v1/accounts/{account}/credentials/{id}"),
        ("delete", "/v1/accounts/{account}/credentials/{id}"),
        ("put", "/v1/instances/{id}/credentials/{slot}/reference"),
        ("delete", "/v1/instances/{id}/credentials/{slot}/reference"),
        ("get", "/v1/platform/keys"),
        ("post", "/v1/platform/keys/rotate"),
        ("post", "/v1/platform/keys/rewrap"),
    ];

    fn described() -> Value {
        let (_, mut document) = routes().split_for_parts();
        complete(&mut document);
        serde_json::to_value(&document).unwrap()
    }

    #[test]
    fn every_route_is_described_and_nothing_else_is() {
        let document = described();
        let mut found: Vec<(String, String)> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| (method.clone(), path.clone())))
            .collect();
        let mut promised: Vec<(String, String)> =
            ROUTES.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())).collect();
        found.sort();
        promised.sort();
        assert_eq!(found, promised);
    }

    #[test]
    fn every_operation_says_what_it_is_who_may_and_how_it_fails() {
        let document = described();
        for (method, path) in ROUTES {
            let operation = &document["paths"][path][method];
            assert!(operation["summary"].is_string(), "{method} {path} has no summary");
            let content = &operation["responses"]["default"]["content"][MEDIA_TYPE];
            assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem", "{method} {path}");
            assert_eq!(operation["security"].is_array(), path.starts_with("/v1/"), "{method} {path}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = described();
        let mut references = Vec::new();
        collect(&document, &mut references);
        assert!(!references.is_empty());
        for reference in references {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
    }

    fn collect(value: &Value, references: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                references.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
                map.values().for_each(|value| collect(value, references));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
            _ => {}
        }
    }
}
