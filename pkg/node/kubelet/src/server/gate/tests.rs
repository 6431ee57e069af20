//! Tests of `gate`.

use std::convert::Infallible;

use edgek_client::Body;
use http::Response;
use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use super::*;

#[test]
fn a_path_needs_its_subresource_of_the_node() {
    let check = |method: Method, path: &str, expected_verb: &str, expected: &[&str]| {
        assert_eq!((verb(&method, path), subresources(path)), (expected_verb, expected.to_vec()), "{path}");
    };
    check(Method::GET, "/stats/summary", "get", &["stats"]);
    check(Method::GET, "/metrics/resource", "get", &["metrics"]);
    check(Method::GET, "/pods", "get", &["pods", "proxy"]);
    check(Method::GET, "/podsx", "get", &["proxy"]);
    check(Method::GET, "/containerLogs/ns/p/c", "get", &["proxy"]);
    check(Method::GET, "/exec/ns/p/c", "create", &["proxy"]);
    check(Method::POST, "/portForward/ns/p", "create", &["proxy"]);
}

#[test]
fn only_a_bearer_token_is_one() {
    let check = |value: &str, expected: Option<&str>| {
        let request = Request::builder().header("Authorization", value).body(()).unwrap();
        assert_eq!(bearer_token(&request), expected, "{value}");
    };
    check("Bearer abc", Some("abc"));
    check("bearer  abc", Some("abc"));
    check("Basic abc", None);
    check("Bearer ", None);
}

/// An API server that knows one token, `good`, of user `reader`, who may read the stats of the node `edge`.
async fn api(request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let mut review: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
    let spec = &review["spec"];
    review["status"] = if parts.uri.path().ends_with("/tokenreviews") {
        let known = spec["token"] == "good";
        json!({"authenticated": known, "user": {"username": if known { "reader" } else { "" }}})
    } else {
        let what = &spec["resourceAttributes"];
        let wanted = json!({"verb": "get", "version": "v1", "resource": "nodes", "subresource": "stats", "name": "edge"});
        json!({"allowed": spec["user"] == "reader" && *what == wanted})
    };
    let body = Full::new(review.to_string().into()).map_err(|never| match never {});
    Response::builder().status(201).body(Body::new(body)).unwrap()
}

#[tokio::test]
async fn the_api_server_decides_who_may_see_what() {
    let client =
        Client::in_process(tower::service_fn(|request| async { Ok::<_, Infallible>(api(request).await) }));
    let gate = Gate::new(client, "edge".to_owned());
    let peer = |user: &str| Peer { user: user.to_owned(), groups: Vec::new() };
    let check = async |path: &str, token: &str, peer: Option<Peer>, expected: u16| {
        let request = Request::get(path).header("Authorization", format!("Bearer {token}")).body(()).unwrap();
        let code = gate
            .admit(&request, peer.as_ref())
            .await
            .map_or_else(|refusal| refusal.status.as_u16(), |()| 200);
        assert_eq!(code, expected, "{path} {token:?} {peer:?}");
    };
    check("/healthz", "", None, 200).await;
    check("/stats/summary", "", None, 401).await;
    check("/stats/summary", "bad", None, 401).await;
    check("/stats/summary", "good", None, 200).await;
    check("/pods", "good", None, 403).await;
    check("/stats/summary", "", Some(peer("reader")), 200).await;
    check("/stats/summary", "good", Some(peer("other")), 403).await;
}
