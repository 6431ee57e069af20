//! `Gate`: who calls the kubelet API from the network, and whether they may; the API server decides both, by
//! TokenReview and SubjectAccessReview on the node's subresources, as upstream's delegated authorization.

use std::collections::BTreeMap;

use edgek_base_pki::Peer;
use edgek_client::Client;
use http::{Method, Request, StatusCode, header};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use tracing::warn;

use super::NotHere;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Caller {
    user: String,
    uid: Option<String>,
    groups: Vec<String>,
    extra: Option<BTreeMap<String, Vec<String>>>,
}

/// Lets in who may.
#[derive(Clone)]
pub struct Gate {
    client: Client,
    node: String,
}

impl Gate {
    /// A gate to this node that asks `client`.
    pub fn new(client: Client, node: String) -> Self {
        Self { client, node }
    }

    /// Whether the request may be answered; `peer` is whom the connection's verified certificate names.
    ///
    /// # Errors
    /// 401 without credentials that count, 403 when nothing allows it, 500 when the API server does not answer.
    pub(super) async fn admit<B>(&self, request: &Request<B>, peer: Option<&Peer>) -> Result<(), NotHere> {
        let path = request.uri().path();
        // The only thing told to everybody: that it lives.
        if path == "/healthz" && request.method() == Method::GET {
            return Ok(());
        }
        let caller = self.caller(request, peer).await?;
        let caller = caller.ok_or_else(|| refused(StatusCode::UNAUTHORIZED, "Unauthorized"))?;
        let verb = verb(request.method(), path);
        let parts = subresources(path);
        for part in &parts {
            if self.allows(&caller, verb, part).await? {
                return Ok(());
            }
        }
        let text = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])\n",
            caller.user,
            parts.join(" ")
        );
        Err(refused(StatusCode::FORBIDDEN, text))
    }

    async fn caller<B>(&self, request: &Request<B>, peer: Option<&Peer>) -> Result<Option<Caller>, NotHere> {
        if let Some(Peer { user, groups }) = peer {
            let mut groups = groups.clone();
            groups.push("system:authenticated".to_owned());
            return Ok(Some(Caller { user: user.clone(), uid: None, groups, extra: None }));
        }
        let Some(token) = bearer_token(request) else { return Ok(None) };
        let spec = TokenReviewSpec { token: token.to_owned(), audiences: None };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = self.client.cluster::<TokenReview>().create(&review).await;
        let status = answer.map_err(|error| unanswered(&error))?.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        Ok(user.map(|user| Caller {
            user: user.username.unwrap_or_default(),
            uid: user.uid,
            groups: user.groups.unwrap_or_default(),
            extra: user.extra,
        }))
    }

    async fn allows(&self, caller: &Caller, verb: &str, part: &str) -> Result<bool, NotHere> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(caller.user.clone()),
                uid: caller.uid.clone(),
                groups: Some(caller.groups.clone()),
                extra: caller.extra.clone(),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some(part.to_owned()),
                    name: Some(self.node.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = self.client.cluster::<SubjectAccessReview>().create(&review).await;
        let answer = answer.map_err(|error| unanswered(&error))?;
        Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
    }
}

fn refused(status: StatusCode, text: impl Into<String>) -> NotHere {
    NotHere { status, text: text.into() }
}

fn unanswered(error: &edgek_client::Error) -> NotHere {
    warn!(%error, "a caller of the kubelet API cannot be judged");
    refused(StatusCode::INTERNAL_SERVER_ERROR, "Internal Error: the API server does not answer")
}

fn bearer_token<B>(request: &Request<B>) -> Option<&str> {
    let (scheme, token) = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The verb to be allowed. What runs in containers needs `create` whichever method opens the stream: who may only read
/// the node must not get a shell by a WebSocket, whose handshake is a GET.
fn verb(method: &Method, path: &str) -> &'static str {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    if ["exec", "attach", "portForward", "run"].contains(&first) {
        return "create";
    }
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The subresources of the node, each of which is enough for the path.
fn subresources(path: &str) -> Vec<&'static str> {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "stats" => vec!["stats"],
        "metrics" => vec!["metrics"],
        "logs" => vec!["log"],
        "pods" | "runningpods" => vec!["pods", "proxy"],
        "healthz" => vec!["healthz", "proxy"],
        "configz" => vec!["configz", "proxy"],
        _ => vec!["proxy"],
    }
}

#[cfg(test)]
mod tests;
