//! A server over the memory store, called in process.

#![allow(dead_code, unreachable_pub, reason = "each test crate uses a part of it")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use edgek_api::resource::Catalog;
use edgek_api::schema::Schema;
use edgek_apiserver_authn::{Authenticator, Error, Object, Objects, PRIVILEGED_GROUP, Tokens, User};
use edgek_apiserver_authz::{AlwaysAllow, Authorizer};
use edgek_apiserver_http::{Body, Dial, NoDial, Parts, Server, Service, full};
use edgek_base_lifecycle::Scope;
use edgek_store_log::MemoryLog;
use edgek_store_watch::{Store, Window};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tower::ServiceExt;

/// Knows one bearer, `admin`, and nobody else.
pub struct Nobody;

/// Whose word is law.
pub fn admin() -> Arc<User> {
    Arc::new(User::new("admin", [PRIVILEGED_GROUP]))
}

#[async_trait]
impl Authenticator for Nobody {
    async fn authenticate(
        &self,
        request: &http::request::Parts,
        _: &[CertificateDer<'static>],
    ) -> Result<Option<Arc<User>>, Error> {
        let known = request.headers.get("authorization").is_some_and(|value| value == "Bearer admin");
        Ok(known.then(admin))
    }

    async fn authenticate_token(&self, _: &str, _: &[String]) -> Result<(Arc<User>, Vec<String>), Error> {
        Err(Error::Token("unknown".into()))
    }
}

struct NoObjects;

impl Objects for NoObjects {
    fn uid(&self, _: Object, _: &str, _: &str) -> Option<String> {
        None
    }
}

/// A server and a caller of it.
pub struct Test {
    pub server: Server,
    pub service: Service,
    pub scope: Scope,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub code: StatusCode,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&self.bytes).into_owned()))
    }

    pub fn warnings(&self) -> Vec<&str> {
        self.headers.get_all("warning").iter().map(|value| value.to_str().unwrap()).collect()
    }
}

impl Test {
    /// A server that allows everything, with the namespace `a` and its default service account.
    pub async fn start() -> Self {
        Self::reaching(Arc::new(NoDial)).await
    }

    /// The same, reaching nodes by `dial`.
    pub async fn reaching(dial: Arc<dyn Dial>) -> Self {
        let test = Self::over(Arc::new(AlwaysAllow), dial).await;
        test.create("/api/v1/namespaces", json!({"metadata": {"name": "a"}})).await;
        test.create("/api/v1/namespaces/a/serviceaccounts", json!({"metadata": {"name": "default"}})).await;
        test
    }

    pub async fn with(authorizer: Arc<dyn Authorizer>) -> Self {
        Self::over(authorizer, Arc::new(NoDial)).await
    }

    /// A server that reaches nodes by `dial`.
    pub async fn over(authorizer: Arc<dyn Authorizer>, dial: Arc<dyn Dial>) -> Self {
        let catalog = Catalog::builtin();
        let stored =
            catalog.iter().filter(|resource| resource.is_stored() && resource.stored_as.is_none()).cloned();
        let store = Store::open(Arc::new(MemoryLog::default()), stored, Window::default()).await.unwrap();
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let scope = Scope::root();
        let server = Server::new(Parts {
            store: Arc::new(store),
            catalog,
            schema: Schema::builtin(),
            authenticator: Arc::new(Nobody),
            authorizer,
            tokens: Arc::new(
                Tokens::new(&key, "https://kubernetes.default.svc.cluster.local", Arc::new(NoObjects))
                    .unwrap(),
            ),
            dial,
            ca: "the CA".into(),
            address: "127.0.0.1:6443".into(),
            services: Default::default(),
            scope: scope.clone(),
        });
        let service = server.service_as(admin());
        Self { server, service, scope }
    }

    /// Sends a request as it is.
    pub async fn open(&self, request: Request<Body>) -> Response<Body> {
        self.service.clone().oneshot(request).await.unwrap()
    }

    /// Sends a request and reads the whole answer.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.open(request.body(full(body.into())).unwrap()).await;
        let (parts, body) = response.into_parts();
        Answer {
            code: parts.status,
            headers: parts.headers,
            bytes: body.collect().await.unwrap().to_bytes().to_vec(),
        }
    }

    pub async fn json(&self, method: &str, path: &str, body: Value) -> Answer {
        self.send(method, path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// Creates an object that must be accepted.
    pub async fn create(&self, path: &str, body: Value) -> Value {
        let answer = self.json("POST", path, body).await;
        assert_eq!(answer.code, 201, "{}", answer.json());
        answer.json()
    }

    /// Reads what must be there.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.send("GET", path, &[], "").await;
        assert_eq!(answer.code, 200, "{}", answer.json());
        answer.json()
    }

    /// Patches with a merge patch that must be accepted.
    pub async fn merge(&self, path: &str, body: Value) -> Value {
        let answer = self
            .send("PATCH", path, &[("content-type", "application/merge-patch+json")], body.to_string())
            .await;
        assert!(answer.code.is_success(), "{}", answer.json());
        answer.json()
    }

    /// Starts a watch.
    pub async fn watch(&self, path: &str, headers: &[(&str, &str)]) -> Events {
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.open(request.body(full(Vec::new())).unwrap()).await;
        assert_eq!(response.status(), 200);
        Events { body: response.into_body(), buffer: Vec::new() }
    }
}

/// The events of a watch in JSON.
pub struct Events {
    body: Body,
    buffer: Vec<u8>,
}

impl Events {
    /// The next event as type and object, `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let event: Value = serde_json::from_slice(&line).unwrap();
                return Some((event["type"].as_str().unwrap().to_owned(), event["object"].clone()));
            }
            let frame = tokio::time::timeout(Duration::from_secs(10), self.body.frame()).await.unwrap()?;
            self.buffer.extend_from_slice(&frame.unwrap().into_data().unwrap());
        }
    }
}
