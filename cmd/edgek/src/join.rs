//! Joining: how a machine becomes a node of the cluster. The token says which server to trust; the server certifies the
//! machine's own key; from then on the key is who the node is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use edgek_base_config::{Config, ServerUrl};
use edgek_base_lifecycle::{Backoff, Scope, until};
use edgek_base_pki::authority::{not_after, renew_at};
use edgek_base_pki::{clock, open_key, request};
use edgek_base_sys::files::write_atomic;
use edgek_client::{Client, Error as ApiError};
use edgek_link::{Connection, Error as LinkError, bearer, tls};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::certificate::{self, Refusal};
use crate::exit::{Code, Failure};
use crate::token::Token;

/// What makes this machine a node: files in `<data-dir>/agent`.
#[derive(Clone)]
pub(crate) struct Member {
    folder: PathBuf,
    node: String,
    /// The CA of the servers, PEM.
    ca: String,
    /// The node's private key, PEM.
    key: String,
    /// Its certificate, PEM.
    certificate: String,
}

/// The member that this machine is, or becomes now.
pub(crate) async fn member(config: &Config, node: &str, scope: &Scope) -> Result<Member, Failure> {
    let folder = config.data_dir.join("agent");
    let environment = |error: anyhow::Error| Failure::new(Code::Environment, error);
    let key = open_key(&folder.join("node.key")).map_err(|error| environment(error.into()))?;
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let mut member = Member {
        node: node.to_owned(),
        ca: read("server-ca.crt"),
        certificate: read("node.crt"),
        key,
        folder,
    };
    // A token of another CA is one of another cluster: the server was set up anew, or the machine moves.
    let moves = given_token(config).is_ok_and(|token| !token.is_of(&member.ca));
    if member.is_joined() && !moves {
        return Ok(member);
    }
    let server = server(config)?;
    let token = given_token(config)?;
    if token.ca_hash.is_none() {
        warn!(
            "the token does not name a CA: whatever server answers is believed; use the whole token of the server"
        );
    }
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    let mut told = false;
    loop {
        match member.join(&server, &token, scope).await {
            Ok(()) => {
                member.write().map_err(environment)?;
                info!(%server, node, "joined the cluster");
                return Ok(member);
            }
            Err(Setback::Final(text)) => return Err(Failure::new(Code::Refused, anyhow::anyhow!(text))),
            Err(Setback::Temporary(text)) => {
                if !told {
                    warn!(error = text, "cannot join yet; it is tried again until the server answers");
                }
                told = true;
            }
        }
        backoff.wait().await;
    }
}

/// The server to join, which agents must be told.
pub(crate) fn server(config: &Config) -> Result<ServerUrl, Failure> {
    let missing = "server: say which server to join: --server https://HOST:6443";
    config.server.clone().ok_or_else(|| Failure::new(Code::Usage, anyhow::anyhow!(missing)))
}

fn given_token(config: &Config) -> Result<Token, Failure> {
    let usage = |error: anyhow::Error| Failure::new(Code::Usage, error);
    let text = match (&config.token, &config.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(path)) => std::fs::read_to_string(path)
            .with_context(|| format!("token-file: reading {}", path.display()))
            .map_err(usage)?,
        (None, None) => {
            let text = "token: this machine has not joined yet and needs --token: the content of <data-dir>/server/node-token on the server, or what `edgek token create` prints there";
            return Err(usage(anyhow::anyhow!(text)));
        }
    };
    text.parse().map_err(|text: String| usage(anyhow::anyhow!("token: {text}")))
}

/// Why joining did not succeed.
enum Setback {
    /// It may the next time.
    Temporary(String),
    /// Somebody has to do something first.
    Final(String),
}

impl Setback {
    fn of_link(error: &LinkError) -> Self {
        let text = error.to_string();
        match error {
            LinkError::Connect { .. } => Self::Temporary(text),
            LinkError::Clock { .. } => {
                Self::Final(format!("{text}: this machine's clock shows {}; set it", jiff::Timestamp::now()))
            }
            LinkError::ForeignCa { .. } => {
                Self::Final(format!("{text}; check --server, and that nothing between terminates TLS"))
            }
            LinkError::Foreign { .. } | LinkError::Refused { .. } => {
                Self::Final(format!("{text}: it is not an edgek server; check --server"))
            }
        }
    }

    fn of_refusal(refusal: Refusal, node: &str) -> Self {
        match refusal {
            Refusal::Denied { reason, .. } if reason == "NodeNameTaken" => Self::Final(format!(
                "the name {node:?} is taken by another machine: choose another --node-name, or if that machine is gone for good, `kubectl delete node {node}`"
            )),
            Refusal::Denied { message, .. } => {
                Self::Final(format!("the server does not take this machine as node {node:?}: {message}"))
            }
            Refusal::Undecided => Self::Temporary("the server has not decided about this machine".to_owned()),
            Refusal::Api(ApiError::Api(failure)) if failure.code == 401 => Self::Final(
                "the server does not accept the token: it is wrong, was deleted or has expired; `edgek token create` on the server makes a new one".to_owned(),
            ),
            Refusal::Api(ApiError::Api(failure)) if failure.code == 403 => {
                Self::Final(format!("the token is not one to join with: {failure}"))
            }
            Refusal::Api(error) => Self::Temporary(error.to_string()),
            Refusal::Key(error) => Self::Final(error.to_string()),
        }
    }
}

impl Member {
    /// Whether there is a certificate of our key, for this node, that has not ended.
    fn is_joined(&self) -> bool {
        let ends = not_after(&self.certificate);
        !self.ca.is_empty()
            && ends.is_some_and(|end| end > clock::now())
            && request::is_of(&self.certificate, &self.user(), &self.key)
    }

    /// Who the node is to the API server.
    pub(crate) fn user(&self) -> String {
        format!("system:node:{}", self.node)
    }

    /// The node's private key, PEM.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    async fn join(&mut self, server: &ServerUrl, token: &Token, scope: &Scope) -> Result<(), Setback> {
        let link = |error: LinkError| Setback::of_link(&error);
        let place = server.authority();
        let believing = Arc::new(tls::believing().map_err(|error| Setback::Final(error.to_string()))?);
        let ca = Connection::open(&place, believing, scope).await.map_err(link)?.get("/cacerts").await;
        let ca = ca.map_err(link)?;
        if !token.is_of(&ca) {
            return Err(Setback::Final(format!(
                "{server} is not the server that the token is from: its CA is another one; check --server, or use the token of that server"
            )));
        }
        let pinned = tls::trusting(&ca, None).map_err(|_| {
            Setback::Final(format!("{server} is not an edgek server: it shows no CA; check --server"))
        })?;
        let connection = Connection::open(&place, Arc::new(pinned), scope).await.map_err(link)?;
        let client = with_token(connection, &token.bearer);
        let refusal = |refusal| Setback::of_refusal(refusal, &self.node);
        self.certificate =
            certificate::for_client(&client, &self.key, &self.user()).await.map_err(refusal)?;
        self.ca = ca;
        Ok(())
    }

    fn write(&self) -> anyhow::Result<()> {
        for (name, text, mode) in [("server-ca.crt", &self.ca, 0o644), ("node.crt", &self.certificate, 0o644)]
        {
            let path = self.folder.join(name);
            write_atomic(&path, text.as_bytes(), mode)
                .with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(())
    }

    /// How servers are recognised, and who this node is.
    pub(crate) fn tls(&self) -> Result<Arc<rustls::ClientConfig>, rustls::Error> {
        let identity = tls::Identity { certificate: &self.certificate, key: &self.key };
        tls::trusting(&self.ca, Some(identity)).map(Arc::new)
    }

    /// Renews the certificate whenever two thirds of its life are over, until the scope of the task ends; connections
    /// move to the new one.
    pub(crate) async fn renew(mut self, client: Client, changed: watch::Sender<Arc<rustls::ClientConfig>>) {
        let mut backoff = Backoff::new(Duration::from_secs(60), Duration::from_secs(3600));
        loop {
            let due = not_after(&self.certificate).map_or_else(clock::now, renew_at);
            if let Err(error) = until(due).await {
                return error!(%error, "the node's certificate will not be renewed");
            }
            match self.renew_now(&client).await {
                Ok(tls) => {
                    info!("the node's certificate is renewed");
                    changed.send_replace(tls);
                }
                Err(error) => warn!(error = format!("{error:#}"), "renewing the node's certificate failed"),
            }
            // Also after success: a server that certifies for a short time must not be asked without end.
            backoff.wait().await;
        }
    }

    async fn renew_now(&mut self, client: &Client) -> anyhow::Result<Arc<rustls::ClientConfig>> {
        self.certificate = certificate::for_client(client, &self.key, &self.user()).await?;
        self.write()?;
        Ok(self.tls()?)
    }
}

/// A client that shows a bearer token.
fn with_token(connection: Connection, token: &str) -> Client {
    let header = bearer(token);
    Client::new(tower::service_fn(move |mut request: http::Request<edgek_client::Body>| {
        request.headers_mut().extend(header.clone().map(|(name, value)| (Some(name), value)));
        let mut connection = connection.clone();
        async move { connection.send(request).await }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgek_client::Failure as ApiFailure;

    /// Whether joining is tried again, and what is said.
    fn told(setback: Setback) -> (bool, String) {
        match setback {
            Setback::Temporary(text) => (true, text),
            Setback::Final(text) => (false, text),
        }
    }

    #[test]
    fn what_does_not_mend_by_itself_is_not_tried_again_and_says_what_to_do() {
        let server = || "edge:6443".to_owned();
        let check = |error: LinkError, again: bool, advice: &str| {
            let (found, text) = told(Setback::of_link(&error));
            assert!(found == again && text.contains(advice) && !text.contains('\n'), "{found} {text}");
        };
        let source = std::io::ErrorKind::ConnectionRefused.into();
        check(LinkError::Connect { server: server(), source }, true, "edge:6443 does not answer");
        check(LinkError::Clock { server: server() }, false, "this machine's clock shows 2");
        check(LinkError::ForeignCa { server: server() }, false, "check --server");
        let reason = "nonsense".to_owned();
        check(LinkError::Foreign { server: server(), reason }, false, "not an edgek server; check --server");
        let status = http::StatusCode::NOT_FOUND;
        check(LinkError::Refused { server: server(), status }, false, "not an edgek server; check --server");
    }

    #[test]
    fn a_refusal_says_what_to_do_and_an_overloaded_server_is_asked_again() {
        let api = |code| Refusal::Api(ApiError::Api(ApiFailure { code, ..ApiFailure::default() }));
        let denied = |reason: &str| Refusal::Denied { reason: reason.to_owned(), message: "no".to_owned() };
        let check = |refusal: Refusal, again: bool, advice: &str| {
            let (found, text) = told(Setback::of_refusal(refusal, "a"));
            assert!(found == again && text.contains(advice), "{found} {text}");
        };
        check(denied("NodeNameTaken"), false, "`kubectl delete node a`");
        check(denied("Other"), false, "does not take this machine as node \"a\": no");
        check(api(401), false, "`edgek token create` on the server makes a new one");
        check(api(403), false, "not one to join with");
        check(api(503), true, "");
        check(Refusal::Undecided, true, "has not decided");
    }
}
