//! Bootstrap tokens are deleted when they expire (upstream: `bootstrap/tokencleaner.go`).

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use edgek_client::{Client, Delete, Error, ListQuery};
use edgek_control_runtime::{Informer, Item, Key, Next, Queue, run};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use crate::Start;

const NAMESPACE: &str = "kube-system";

/// Starts the controller; its keys are the names of tokens' Secrets.
pub(crate) fn start(start: &Start<'_>, client: Client) {
    let query = ListQuery { fields: "type=bootstrap.kubernetes.io/token".to_owned(), ..ListQuery::default() };
    let tokens = Informer::<Secret>::start(start.scope, client.namespaced(NAMESPACE), query);
    let queue = Queue::<String>::new();
    let waiting = queue.clone();
    tokens.on_change(move |change| waiting.add(change.key().name));
    run(start.scope, "token-cleaner", &queue, 1, move |name: String| {
        let (tokens, client) = (tokens.clone(), client.clone());
        async move {
            let Some(token) = tokens.item(&Key::new(NAMESPACE, &*name)) else { return Ok(Next::Wait) };
            match left(&token, Timestamp::now()) {
                None => Ok(Next::Wait),
                Some(left) if !left.is_zero() => Ok(Next::After(left)),
                Some(_) => {
                    let secrets = client.namespaced::<Secret>(NAMESPACE);
                    match secrets.delete(&name, &Delete::now(&token.uid)).await {
                        Err(error) if !error.is_not_found() => Err(error),
                        _ => Ok::<_, Error>(Next::Wait),
                    }
                }
            }
        }
    });
}

/// How long a token is still good; `None` for one that does not expire.
fn left(token: &Item, now: Timestamp) -> Option<Duration> {
    let token: Value = token.decode()?;
    let bytes = STANDARD.decode(token["data"]["expiration"].as_str()?).ok()?;
    let end: Timestamp = String::from_utf8(bytes).ok()?.parse().ok()?;
    Some(Duration::try_from(end.duration_since(now)).unwrap_or_default())
}
