//! The kubelet's HTTP API: logs, exec, attach, port-forward, and what monitoring reads.
//!
//! The API server passes kubectl's requests on to it, over a stream of its own to the node: [`Server::serve`], for a
//! caller that has been judged already. Everybody else comes over TLS: [`listen`], whose [`Gate`] asks who and whether
//! they may.

mod gate;
mod listen;
mod logs;
mod portforward;
mod remote;
mod spdy;
mod websocket;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use edgek_base_lifecycle::Scope;
use edgek_node_runtime::{ContainerId, ExecSpec, Runtime};
use futures::TryStreamExt as _;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tracing::debug;

pub use gate::Gate;
pub use listen::listen;

use logs::{Live, Only, Options};
use remote::{StatusForm, Wanted};

/// The text format of Prometheus.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// What the server must know of the pods on this node.
#[async_trait]
pub trait Pods: Send + Sync + 'static {
    /// A container of a pod, by its name in the pod.
    ///
    /// # Errors
    /// The text for the client when there is no such pod or container, or it was never started.
    fn container(&self, namespace: &str, pod: &str, container: &str) -> Result<ContainerInfo, NotHere>;

    /// The container's run before the present one.
    ///
    /// # Errors
    /// The text for the client.
    fn previous(&self, namespace: &str, pod: &str, container: &str) -> Result<ContainerInfo, NotHere>;

    /// The pod's network namespace; `None` for a pod on the node's own network.
    ///
    /// # Errors
    /// The text for the client when there is no such pod or it has no network.
    fn netns(&self, namespace: &str, pod: &str) -> Result<Option<PathBuf>, NotHere>;

    /// Whether the container runs.
    fn is_running(&self, id: &ContainerId) -> bool;

    /// The pods of this node as a v1 PodList, for `/pods`.
    fn pod_list(&self) -> serde_json::Value;

    /// What the node and its pods use, for `/stats/summary`.
    async fn summary(&self) -> serde_json::Value;

    /// The same for `/metrics/resource`.
    async fn resource_metrics(&self) -> String;
}

/// A container that was started at least once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerInfo {
    /// Its id in the runtime.
    pub id: ContainerId,
    /// Its log file.
    pub log: PathBuf,
    /// Whether it was made with a terminal.
    pub tty: bool,
}

/// Why something is not here, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct NotHere {
    /// 404 when there is no such thing, 400 when it is not in the state that is needed.
    pub status: StatusCode,
    /// The text for the client.
    pub text: String,
}

impl NotHere {
    /// There is no such thing.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, text: text.into() }
    }

    /// It is not in the state that is needed.
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text: text.into() }
    }
}

/// Answers requests.
#[derive(Clone)]
pub struct Server {
    pods: Arc<dyn Pods>,
    runtime: Arc<dyn Runtime>,
    scope: Scope,
}

impl Server {
    /// A server over the node's pods; streams it opens end with `scope`.
    pub fn new(pods: Arc<dyn Pods>, runtime: Arc<dyn Runtime>, scope: Scope) -> Self {
        Self { pods, runtime, scope }
    }

    /// Serves HTTP/1.1 over a stream until the client hangs up. Whoever hands it over has judged the caller.
    pub async fn serve<IO>(&self, io: IO)
    where
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let server = self.clone();
        let service = hyper::service::service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, std::convert::Infallible>(server.handle(request).await) }
        });
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(io), service);
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "kubelet connection");
        }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        match self.route(request).await {
            Ok(response) => response,
            Err(refusal) => respond(refusal),
        }
    }

    async fn route(&self, request: Request<Incoming>) -> Result<Response<Body>, NotHere> {
        let path = request.uri().path().to_owned();
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (request.method(), parts.as_slice()) {
            (&Method::GET, ["healthz"]) => Ok(answer(StatusCode::OK, "text/plain; charset=utf-8", "ok")),
            (&Method::GET, ["metrics"]) => {
                Ok(answer(StatusCode::OK, METRICS, edgek_base_telemetry::metrics::render()))
            }
            (&Method::GET, ["metrics", "resource"]) => {
                Ok(answer(StatusCode::OK, METRICS, self.pods.resource_metrics().await))
            }
            (&Method::GET, ["pods"]) => Ok(json(&self.pods.pod_list())),
            (&Method::GET, ["stats", "summary"]) => Ok(json(&self.pods.summary().await)),
            (&Method::GET, ["containerLogs", namespace, pod, container]) => {
                self.logs(request, namespace, pod, container).await
            }
            (&Method::GET | &Method::POST, ["exec", namespace, pod, container]) => {
                let info = self.pods.container(namespace, pod, container)?;
                self.exec(request, info).await
            }
            (&Method::GET | &Method::POST, ["attach", namespace, pod, container]) => {
                let info = self.pods.container(namespace, pod, container)?;
                self.attach(request, info).await
            }
            (&Method::GET | &Method::POST, ["portForward", namespace, pod]) => {
                let netns = self.pods.netns(namespace, pod)?;
                let place = netns.map_or(portforward::Place::Host, portforward::Place::Namespace);
                self.port_forward(request, place)
            }
            _ => Err(NotHere::not_found("404 page not found")),
        }
    }

    async fn logs(
        &self,
        mut request: Request<Incoming>,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<Response<Body>, NotHere> {
        let query = Query::of(&request);
        let info = if query.is("previous") {
            self.pods.previous(namespace, pod, container)?
        } else {
            self.pods.container(namespace, pod, container)?
        };
        let options = query.log_options()?;
        let live = Running { runtime: self.runtime.clone(), id: info.id, events: self.runtime.events() };
        let stream = logs::read(&info.log, options, live).await.map_err(|error| NotHere {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            text: format!("failed to read the log of container {container:?}: {error}"),
        })?;
        if websocket::is_requested(request.headers()) {
            let (protocol, response) = switch_to_websocket(request.headers(), &websocket::STREAM_PROTOCOLS)?;
            let upgraded = hyper::upgrade::on(&mut request);
            self.scope.spawn("logs", async move {
                let Ok(io) = upgraded.await else { return };
                websocket::send(websocket::accept(TokioIo::new(io)).await, stream, protocol).await;
            });
            return Ok(response);
        }
        let body = StreamBody::new(stream.map_ok(Frame::data));
        let mut response = Response::new(UnsyncBoxBody::new(body));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Ok(response)
    }

    async fn exec(&self, request: Request<Incoming>, info: ContainerInfo) -> Result<Response<Body>, NotHere> {
        let query = Query::of(&request);
        let wanted = query.wanted()?;
        let command: Vec<String> = query.all("command");
        if command.is_empty() {
            return Err(NotHere::bad_request("you must specify at least one command for the container"));
        }
        let spec = ExecSpec { command, tty: wanted.tty, stdin: wanted.stdin, timeout: None };
        let (runtime, id) = (self.runtime.clone(), info.id);
        self.upgrade_remote(request, wanted, async move { runtime.exec(&id, spec).await })
    }

    async fn attach(
        &self,
        request: Request<Incoming>,
        info: ContainerInfo,
    ) -> Result<Response<Body>, NotHere> {
        let wanted = Wanted { tty: info.tty, ..Query::of(&request).wanted()? };
        if !self.pods.is_running(&info.id) {
            return Err(NotHere::bad_request(format!("container {} is not running", info.id)));
        }
        let (runtime, id) = (self.runtime.clone(), info.id);
        self.upgrade_remote(request, wanted, async move { runtime.attach(&id).await })
    }

    /// Switches the connection to what the client asks for, then opens the session and carries it.
    fn upgrade_remote(
        &self,
        mut request: Request<Incoming>,
        wanted: Wanted,
        session: impl Future<Output = edgek_node_runtime::Result<edgek_node_runtime::Session>> + Send + 'static,
    ) -> Result<Response<Body>, NotHere> {
        let headers = request.headers().clone();
        let upgraded = hyper::upgrade::on(&mut request);
        if websocket::is_requested(&headers) {
            let (protocol, response) = switch_to_websocket(&headers, &remote::WEBSOCKET_PROTOCOLS)?;
            let form = StatusForm::of(protocol);
            self.scope.spawn("remote command", async move {
                let Ok(io) = upgraded.await else { return };
                let socket = websocket::accept(TokioIo::new(io)).await;
                let session = session.await.unwrap_or_else(failed_session);
                remote::over_websocket(socket, session, wanted, form).await;
            });
            return Ok(response);
        }
        let (protocol, response) = switch_to_spdy(&headers, &remote::SPDY_PROTOCOLS)?;
        let form = StatusForm::of(protocol);
        self.scope.spawn("remote command", async move {
            let Ok(io) = upgraded.await else { return };
            let session = session.await.unwrap_or_else(failed_session);
            remote::over_spdy(TokioIo::new(io), session, wanted, form).await;
        });
        Ok(response)
    }

    fn port_forward(
        &self,
        mut request: Request<Incoming>,
        place: portforward::Place,
    ) -> Result<Response<Body>, NotHere> {
        let headers = request.headers().clone();
        let upgraded = hyper::upgrade::on(&mut request);
        if websocket::is_requested(&headers) {
            let (_, response) = switch_to_websocket(&headers, &[portforward::TUNNELLED])?;
            self.scope.spawn("port-forward", async move {
                let Ok(io) = upgraded.await else { return };
                let (pipe, tunnel) = websocket::tunnel(websocket::accept(TokioIo::new(io)).await);
                let (carried, ()) = tokio::join!(tunnel, portforward::serve(pipe, place));
                if let Err(error) = carried {
                    debug!(%error, "port-forward");
                }
            });
            return Ok(response);
        }
        let (_, response) = switch_to_spdy(&headers, &[portforward::PROTOCOL])?;
        self.scope.spawn("port-forward", async move {
            let Ok(io) = upgraded.await else { return };
            portforward::serve(TokioIo::new(io), place).await;
        });
        Ok(response)
    }
}

/// A session that only tells why there is none: the connection has been switched, so no status code can.
fn failed_session(error: edgek_node_runtime::Error) -> edgek_node_runtime::Session {
    let (_, output) = tokio::sync::mpsc::channel(1);
    let (resize, _) = tokio::sync::mpsc::channel(1);
    let (ended, exit) = tokio::sync::oneshot::channel();
    // The receiver is in our hand.
    let _ = ended.send(Err(error));
    edgek_node_runtime::Session { stdin: None, output, resize, exit }
}

fn switch_to_websocket<'a>(
    headers: &HeaderMap,
    protocols: &[&'a str],
) -> Result<(&'a str, Response<Body>), NotHere> {
    let refused =
        || NotHere::bad_request(format!("unable to upgrade: the server speaks {}", protocols.join(", ")));
    let protocol = websocket::negotiate(headers, protocols).ok_or_else(refused)?;
    let response = websocket::switching_protocols(headers, protocol).ok_or_else(refused)?;
    Ok((protocol, response))
}

fn switch_to_spdy<'a>(
    headers: &HeaderMap,
    protocols: &[&'a str],
) -> Result<(&'a str, Response<Body>), NotHere> {
    const VERSION: &str = "x-stream-protocol-version";
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !upgrade.eq_ignore_ascii_case("SPDY/3.1") {
        return Err(NotHere::bad_request("unable to upgrade: missing upgrade headers in request"));
    }
    let offered: Vec<&str> =
        headers.get_all(VERSION).iter().filter_map(|value| value.to_str().ok()).collect();
    let offers = |name: &str| offered.iter().any(|o| o.split(',').any(|part| part.trim() == name));
    // Clients older than the negotiation name no version and speak the last of ours.
    let protocol =
        protocols.iter().find(|name| offers(name)).or(protocols.last().filter(|_| offered.is_empty()));
    let Some(protocol) = protocol else {
        let text = format!("unable to upgrade: the client speaks {offered:?}, the server {protocols:?}");
        return Err(NotHere { status: StatusCode::FORBIDDEN, text });
    };
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "SPDY/3.1")
        .header(VERSION, *protocol)
        .body(empty());
    response.map(|response| (*protocol, response)).map_err(|error| NotHere::bad_request(error.to_string()))
}

/// Tells a log reader when its container ends.
struct Running {
    /// Asked rather than the pods, which hear the same events but later.
    runtime: Arc<dyn Runtime>,
    id: ContainerId,
    events: edgek_node_runtime::Events,
}

impl Live for Running {
    async fn is_running(&self) -> bool {
        match self.runtime.container(&self.id).await {
            Ok(container) => container.state.is_running(),
            Err(error) => matches!(error, edgek_node_runtime::Error::Unavailable(_)),
        }
    }

    async fn changed(&mut self) {
        if self.events.next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// The query of a request, in the spellings of upstream's kubelet and of the API.
struct Query(HashMap<String, Vec<String>>);

impl Query {
    fn of(request: &Request<Incoming>) -> Self {
        let mut values: HashMap<String, Vec<String>> = HashMap::new();
        for pair in request.uri().query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            values.entry(decode(name)).or_default().push(decode(value));
        }
        Self(values)
    }

    fn all(&self, name: &str) -> Vec<String> {
        self.0.get(name).cloned().unwrap_or_default()
    }

    fn first(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.first().map(String::as_str).filter(|value| !value.is_empty())
    }

    fn is(&self, name: &str) -> bool {
        matches!(self.first(name), Some("1" | "true" | "t" | "T" | "TRUE" | "True"))
    }

    fn number(&self, name: &str) -> Result<Option<u64>, NotHere> {
        let wrong =
            |value| NotHere::bad_request(format!("{name}: Invalid value: {value:?}: must be a whole number"));
        self.first(name).map(|value| value.parse().map_err(|_| wrong(value))).transpose()
    }

    fn wanted(&self) -> Result<Wanted, NotHere> {
        let either = |short: &str, long: &str| self.is(short) || self.is(long);
        let wanted = Wanted {
            stdin: either("input", "stdin"),
            stdout: either("output", "stdout"),
            stderr: either("error", "stderr"),
            tty: self.is("tty"),
        };
        if !(wanted.stdin || wanted.stdout || wanted.stderr) {
            return Err(NotHere::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
        }
        Ok(wanted)
    }

    fn log_options(&self) -> Result<Options, NotHere> {
        let seconds = self.number("sinceSeconds")?;
        let since = match (seconds, self.first("sinceTime")) {
            (Some(seconds), _) => SystemTime::now().checked_sub(Duration::from_secs(seconds)),
            (None, Some(time)) => {
                let wrong =
                    |_| NotHere::bad_request(format!("sinceTime: Invalid value: {time:?}: must be RFC 3339"));
                Some(time.parse::<jiff::Timestamp>().map_err(wrong)?.into())
            }
            (None, None) => None,
        };
        let stream = match self.first("stream") {
            Some("Stdout") => Only::Stdout,
            Some("Stderr") => Only::Stderr,
            _ => Only::All,
        };
        Ok(Options {
            follow: self.is("follow"),
            timestamps: self.is("timestamps"),
            tail: self.number("tailLines")?,
            limit: self.number("limitBytes")?,
            since,
            stream,
        })
    }
}

/// Percent-decoding of a query's part; what is not valid stays as it is.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let hex = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (byte, hex(ahead.next()), hex(ahead.next())) {
            (b'+', ..) => out.push(b' '),
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn empty() -> Body {
    UnsyncBoxBody::new(Full::new(Bytes::new()).map_err(|never| match never {}))
}

fn answer(status: StatusCode, content_type: &'static str, text: impl Into<String>) -> Response<Body> {
    let body = Full::new(Bytes::from(text.into())).map_err(|never| match never {});
    let mut response = Response::new(UnsyncBoxBody::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn respond(NotHere { status, text }: NotHere) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", text)
}

fn json(value: &serde_json::Value) -> Response<Body> {
    answer(StatusCode::OK, "application/json", value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_percent_decoded() {
        for (text, expected) in [("a%20b+c", "a b c"), ("%e2%82%ac", "€"), ("100%", "100%"), ("%zz", "%zz")]
        {
            assert_eq!(decode(text), expected);
        }
    }
}
