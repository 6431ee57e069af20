//! Requests to a host's API server over TLS, as its administrator: for tests that ask more than kubectl does.

use std::convert::Infallible;
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use nix::sched::{CloneFlags, setns};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// How long the head of a request may take to reach the server.
const HEAD_START: Duration = Duration::from_millis(200);

/// An API server and the identity to use there.
#[derive(Debug, Clone)]
pub struct Server {
    network: PathBuf,
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Server {
    /// The server of an administrator's kubeconfig, on the network namespace at `network`.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub fn of(kubeconfig: &Path, network: PathBuf) -> Result<Self> {
        let text = std::fs::read_to_string(kubeconfig)?;
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.trim().strip_prefix(name));
            value.map(str::trim).with_context(|| format!("no {name} in the kubeconfig"))
        };
        let pem = |name: &str| anyhow::Ok(STANDARD.decode(field(name)?)?);
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem("certificate-authority-data:")?)?)?;
        let certificate = CertificateDer::from_pem_slice(&pem("client-certificate-data:")?)?;
        let key = PrivateKeyDer::from_pem_slice(&pem("client-key-data:")?)?;
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        let address = field("server:")?.trim_start_matches("https://").parse()?;
        Ok(Self { network, address, tls: Arc::new(tls) })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// When nobody listens, or who listened ends.
    pub fn connect(&self) -> Result<Connection> {
        let stream = self.dial()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, driver) = runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(stream)?;
            let name = ServerName::from(self.address.ip());
            let stream = tokio_rustls::TlsConnector::from(self.tls.clone()).connect(name, stream).await?;
            anyhow::Ok(http1::handshake(TokioIo::new(stream)).await?)
        })?;
        let mut tasks = JoinSet::new();
        let drive = async move {
            // The request in flight reports what went wrong.
            let _ = driver.await;
        };
        tasks.spawn_on(drive, runtime.handle());
        Ok(Connection { sender, host: self.address.to_string(), _driver: tasks, runtime })
    }

    /// A socket keeps the network it was made on, so only the thread that makes it goes there.
    fn dial(&self) -> Result<TcpStream> {
        let dial = || {
            setns(File::open(&self.network)?, CloneFlags::CLONE_NEWNET)?;
            let stream = TcpStream::connect(self.address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            anyhow::Ok(stream)
        };
        std::thread::scope(|threads| {
            let dialing = std::thread::Builder::new().name("dial".to_owned()).spawn_scoped(threads, dial)?;
            dialing.join().expect("dialing does not panic")
        })
    }
}

/// One connection, which carries one request at a time.
#[derive(Debug)]
pub struct Connection {
    sender: http1::SendRequest<Body>,
    host: String,
    _driver: JoinSet<()>,
    runtime: Runtime,
}

impl Connection {
    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When the connection breaks before the answer is complete.
    pub fn call(&mut self, method: Method, path: &str, body: &Value) -> Result<(StatusCode, Value)> {
        let response = self.send(method, path, body)?;
        let status = response.status();
        let answer = self.runtime.block_on(response.into_body().collect())?.to_bytes();
        Ok((status, serde_json::from_slice(&answer)?))
    }

    /// Starts a watch; the connection is its own from now on.
    ///
    /// # Errors
    /// When the connection breaks.
    pub fn watch(mut self, path: &str) -> Result<Watch> {
        let response = self.send(Method::GET, path, &Value::Null)?;
        let status = response.status();
        Ok(Watch { status, body: response.into_body(), read: Vec::new(), connection: self })
    }

    fn send(&mut self, method: Method, path: &str, body: &Value) -> Result<Response<Incoming>> {
        let body = if body.is_null() { Bytes::new() } else { serde_json::to_vec(body)?.into() };
        let request = self.request(method, path, Full::new(body).boxed_unsync())?;
        Ok(self.runtime.block_on(self.sender.send_request(request))?)
    }

    /// Sends the head of a request whose body never comes; the server waits as long as this is kept.
    ///
    /// # Errors
    /// When the server answers all the same, or ends.
    pub fn begin(mut self, method: Method, path: &str) -> Result<Self> {
        let request = self.request(method, path, Unfinished.boxed_unsync())?;
        let answer = self.sender.send_request(request);
        let waited = self.runtime.block_on(async { tokio::time::timeout(HEAD_START, answer).await });
        anyhow::ensure!(waited.is_err(), "the server did not wait: {waited:?}");
        Ok(self)
    }

    fn request(&self, method: Method, path: &str, body: Body) -> Result<Request<Body>> {
        let request = Request::builder().method(method).uri(path).header("host", &self.host);
        Ok(request.header("content-type", "application/json").body(body)?)
    }
}

/// A body that never comes.
struct Unfinished;

impl hyper::body::Body for Unfinished {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

/// A watch, or how it was refused.
#[derive(Debug)]
pub struct Watch {
    /// The status of the answer.
    pub status: StatusCode,
    body: Incoming,
    read: Vec<u8>,
    connection: Connection,
}

impl Iterator for Watch {
    type Item = Value;

    /// The next event; none when the watch has ended, however it ended.
    fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return serde_json::from_slice(&line).ok();
            }
            let frame = self.connection.runtime.block_on(self.body.frame())?.ok()?;
            self.read.extend_from_slice(frame.data_ref()?);
        }
    }
}
