//! Documents about the API itself: discovery, OpenAPI and the like. They are made when asked for and not kept: clients
//! keep them by their tags.

use edgek_api::discovery::{self, Root};
use edgek_api::openapi::{self, V2_PROTOBUF};
use edgek_api::status::Status;
use http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH, VARY};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::answer;
use crate::body::{Body, empty};
use crate::error::Rejection;
use crate::health::{VERSION, version};
use crate::negotiate::Accept;
use crate::query::Query;
use crate::server::Inner;

/// What a request for a document carries.
pub(crate) struct Ask<'a> {
    pub(crate) accept: &'a Accept,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) query: Query<'a>,
}

/// Answers a path outside the resource API that holds a document; `None` when it holds none.
pub(crate) fn answer(server: &Inner, path: &str, ask: &Ask<'_>) -> Option<Result<Response<Body>, Rejection>> {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let catalog = server.catalog;
    let found = match segments.as_slice() {
        ["api"] if ask.accept.aggregated_discovery().is_some() => {
            return Some(Ok(aggregated(server, Root::Core, ask)));
        }
        ["apis"] if ask.accept.aggregated_discovery().is_some() => {
            return Some(Ok(aggregated(server, Root::Groups, ask)));
        }
        ["api"] => Some(discovery::core_versions(catalog, &server.address)),
        ["apis"] => Some(discovery::groups(catalog)),
        ["apis", group] => discovery::group(catalog, group),
        ["api", version] => discovery::resources(catalog, "", version),
        ["apis", group, version] => discovery::resources(catalog, group, version),
        ["version"] => Some(version()),
        ["openapi", "v2"] => return Some(openapi_v2(server, ask)),
        ["openapi", "v3"] => Some(documents(server).index()),
        ["openapi", "v3", "api", version] => return openapi_v3(server, "", version, ask),
        ["openapi", "v3", "apis", group, version] => return openapi_v3(server, group, version, ask),
        [".well-known", "openid-configuration"] => {
            let issuer = server.tokens.issuer().trim_end_matches('/');
            Some(server.tokens.openid_configuration(&format!("{issuer}/openid/v1/jwks")))
        }
        ["openid", "v1", "jwks"] => {
            let keys = server.tokens.jwks().to_string();
            return Some(Ok(answer::bytes(StatusCode::OK, "application/jwk-set+json", keys)));
        }
        [""] => Some(json!({"paths": [
            "/.well-known/openid-configuration", "/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2",
            "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version",
        ]})),
        _ => None,
    };
    found.map(|document| plain(server, &document, ask.accept))
}

/// Whether a document is only there to be read. Upstream's servers of the others answer any method alike.
pub(crate) fn minds_method(path: &str) -> bool {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    !matches!(segments.as_slice(), [""] | ["apis"] | ["apis", _] | ["openapi", ..])
}

fn documents(server: &Inner) -> openapi::Documents<'_> {
    openapi::Documents { schema: server.schema, catalog: server.catalog, version: VERSION }
}

fn aggregated(server: &Inner, root: Root, ask: &Ask<'_>) -> Response<Body> {
    let body = discovery::aggregated(server.catalog, root).to_string();
    let tag = hash(body.as_bytes());
    let media_type = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let mut response = tagged(&tag, ask.headers, media_type, || body.into_bytes());
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept"));
    response
}

/// 128 bits of FNV-1a: tells documents apart; nobody gains by a collision.
fn hash(bytes: &[u8]) -> String {
    let folded = bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    format!("{folded:032X}")
}

/// A small document in the format the client accepts; those of discovery have protobuf types.
fn plain(server: &Inner, document: &Value, accept: &Accept) -> Result<Response<Body>, Rejection> {
    // Clients that ask for aggregated discovery take the older document where there is no other.
    let output = accept.plain().unwrap_or_default();
    let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
    let type_id =
        server.schema.by_kind("", "v1", kind).or_else(|| server.schema.by_kind("meta.k8s.io", "v1", kind));
    match type_id {
        Some(type_id) => Ok(answer::value(StatusCode::OK, document, server.schema, Some(type_id), output)),
        None => Ok(answer::document(document, output)),
    }
}

/// Older names of [`V2_PROTOBUF`], which clients ask by; they are no media types by Go's rules, so none is answered.
const V2_PROTOBUF_BEFORE: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.googleapis.gnostic.openapiv2@68f4ded+protobuf",
];

fn openapi_v2(server: &Inner, ask: &Ask<'_>) -> Result<Response<Body>, Rejection> {
    let documents = documents(server);
    let tag = documents.etag("", "");
    if [V2_PROTOBUF].iter().chain(&V2_PROTOBUF_BEFORE).any(|media_type| ask.accept.prefers(media_type)) {
        return Ok(tagged(&tag, ask.headers, V2_PROTOBUF, || documents.v2_protobuf()));
    }
    if ask.accept.plain().is_err() {
        return Err(Status::not_acceptable(&["application/json", V2_PROTOBUF]).into());
    }
    Ok(tagged(&tag, ask.headers, "application/json", || documents.v2().into_bytes()))
}

fn openapi_v3(
    server: &Inner,
    group: &str,
    version: &str,
    ask: &Ask<'_>,
) -> Option<Result<Response<Body>, Rejection>> {
    let documents = documents(server);
    let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
    server.catalog.version(group, version).next()?;
    let tag = documents.etag(group, version);
    let mut response = tagged(&tag, ask.headers, "application/json", || {
        documents.v3(&path).unwrap_or_default().into_bytes()
    });
    if ask.query.get("hash").is_some_and(|hash| hash == tag) {
        // The address names the content: it never changes.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    }
    Some(Ok(response))
}

/// A document with its tag, or 304 when the client has it.
fn tagged(
    tag: &str,
    headers: &HeaderMap,
    media_type: &'static str,
    make: impl FnOnce() -> Vec<u8>,
) -> Response<Body> {
    let quoted = format!("\"{tag}\"");
    let known = headers.get_all(IF_NONE_MATCH).iter().any(|value| value.as_bytes() == quoted.as_bytes());
    let mut response = if known {
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        answer::bytes(StatusCode::OK, media_type, make())
    };
    if let Ok(value) = HeaderValue::from_str(&quoted) {
        response.headers_mut().insert(ETAG, value);
    }
    response
}
