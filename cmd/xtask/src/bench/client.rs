//! A small HTTP/1.1 client: one connection carries one request at a time, so that connections are what is counted.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// An API server and the identity to use there.
#[derive(Clone)]
pub(super) struct Target {
    host: String,
    port: u16,
    tls: tokio_rustls::TlsConnector,
    token: Option<String>,
}

impl Target {
    /// A server, not connected to yet.
    pub(super) fn new(
        host: String,
        port: u16,
        tls: Arc<rustls::ClientConfig>,
        token: Option<String>,
    ) -> Self {
        Self { host, port, tls: tls.into(), token }
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::try_from(self.host.clone())?, stream).await?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            // The request in flight reports what went wrong.
            let _ = driver.await;
        });
        Ok(Connection { sender, host: self.host.clone(), token: self.token.clone(), _driver: tasks })
    }
}

/// One connection; dropping it closes it.
pub(super) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    host: String,
    token: Option<String>,
    _driver: JoinSet<()>,
}

impl Connection {
    /// Sends a request and returns when the answer begins.
    pub(super) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.host)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        self.sender.ready().await?;
        Ok(self.sender.send_request(request.body(Full::new(body))?).await?)
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn call(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes)> {
        let response = self.send(method, path, body).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    /// Reads an object or a list.
    pub(super) async fn get(&mut self, path: &str) -> Result<Value> {
        self.json(Method::GET, path, Bytes::new()).await
    }

    /// Creates an object.
    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<Value> {
        self.json(Method::POST, path, serde_json::to_vec(body)?.into()).await
    }

    /// Deletes an object at once.
    pub(super) async fn delete(&mut self, path: &str) -> Result<()> {
        self.json(Method::DELETE, path, Bytes::from_static(br#"{"gracePeriodSeconds":0}"#)).await.map(|_| ())
    }

    async fn json(&mut self, method: Method, path: &str, body: Bytes) -> Result<Value> {
        let (status, answer) = self.call(method, path, body).await.with_context(|| path.to_owned())?;
        if !status.is_success() {
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&answer));
        }
        serde_json::from_slice(&answer).with_context(|| format!("{path}: the answer is no JSON"))
    }
}
