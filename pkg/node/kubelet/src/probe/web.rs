//! Probes and hooks over HTTP.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::check::{Outcome, Target, address, dial_error, port};

/// How many requests one probe may lead to.
const MAX_REQUESTS: usize = 10;
/// As much of an answer as messages carry.
const MAX_BODY: usize = 10 << 10;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    tls: bool,
    host: String,
    port: u16,
    path: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl Place {
    fn of(action: &HTTPGetAction, target: &Target<'_>) -> Option<Self> {
        let host = action.host.clone().filter(|host| !host.is_empty());
        Some(Self {
            tls: action.scheme.as_deref() == Some("HTTPS"),
            host: host.unwrap_or_else(|| target.ip.to_string()),
            port: port(&action.port, target.container)?,
            path: format!("/{}", action.path.as_deref().unwrap_or_default().trim_start_matches('/')),
        })
    }

    fn authority(&self) -> String {
        address(&self.host, self.port.into())
    }

    /// Where an answer from here leads; `None` when that is no place to ask.
    fn next(&self, location: &str) -> Option<Self> {
        let location: Uri = match location.split_once("//") {
            Some(("", _)) => {
                format!("{}:{location}", if self.tls { "https" } else { "http" }).parse().ok()?
            }
            Some(_) => location.parse().ok()?,
            None if location.starts_with('/') => location.parse().ok()?,
            None => {
                let (folder, _) = self.path.split('?').next()?.rsplit_once('/')?;
                format!("{folder}/{location}").parse().ok()?
            }
        };
        let path = location.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let Some(host) = location.host() else { return Some(Self { path, ..self.clone() }) };
        let tls = match location.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let port = location.port_u16().unwrap_or(if tls { 443 } else { 80 });
        Some(Self { tls, host: host.to_owned(), port, path })
    }
}

/// Asks, and follows answers that lead elsewhere on the same host. An answer from 200 to 299 is good; one that leads to
/// another host is good, too, but odd.
pub(super) async fn get(action: &HTTPGetAction, target: &Target<'_>) -> Result<Outcome, String> {
    let first = Place::of(action, target);
    let mut place = first.ok_or_else(|| format!("couldn't find port: {:?}", action.port))?;
    for _ in 0..MAX_REQUESTS {
        let Answer { code, location, body } = ask(action, target, &place).await?;
        let location = location.filter(|_| matches!(code, 301 | 302 | 303 | 307 | 308));
        match (code, location.map(|location| place.next(&location))) {
            (_, Some(Some(next))) if next.host == place.host => place = next,
            (_, Some(None)) => return Err(format!("Get \"{place}\": failed to parse Location header")),
            (200..300, _) => return Ok(Outcome::Success),
            (300..400, _) => {
                return Ok(Outcome::Warning(format!("Probe terminated redirects, Response body: {body}")));
            }
            _ => return Err(format!("HTTP probe failed with statuscode: {code}")),
        }
    }
    Err(format!("Get \"{place}\": stopped after {MAX_REQUESTS} redirects"))
}

/// What a server said.
struct Answer {
    code: u16,
    location: Option<String>,
    /// The beginning of the body, of an answer that leads elsewhere.
    body: String,
}

async fn ask(action: &HTTPGetAction, target: &Target<'_>, place: &Place) -> Result<Answer, String> {
    let authority = place.authority();
    let failed = |why: String| format!("Get \"{place}\": {why}");
    let tcp = TcpStream::connect((place.host.trim_matches(['[', ']']), place.port)).await;
    let tcp = tcp.map_err(|error| failed(dial_error(&authority, &error)))?;
    let stream: Box<dyn Stream> =
        if place.tls { Box::new(encrypt(tcp, target).await.map_err(failed)?) } else { Box::new(tcp) };
    let request = request(action, &authority, &place.path).map_err(|error| failed(error.to_string()))?;
    let text = |error: hyper::Error| {
        let closed = error.is_incomplete_message() || error.is_canceled();
        failed(if closed { "EOF".to_owned() } else { error.to_string() })
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let asking = async { Ok(read(sender.send_request(request).await?).await) };
    tokio::pin!(asking);
    // The connection carries the request. One that ends may have brought the answer with its end.
    let answer = tokio::select! {
        answer = &mut asking => answer,
        _ = connection => asking.await,
    };
    answer.map_err(text)
}

/// Reads of an answer what counts.
async fn read(response: Response<Incoming>) -> Answer {
    let code = response.status().as_u16();
    let location = response.headers().get(header::LOCATION);
    let location = location.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut text = Vec::new();
    let mut body = response.into_body();
    while (300..400).contains(&code)
        && text.len() < MAX_BODY
        && let Some(Ok(frame)) = body.frame().await
    {
        text.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    text.truncate(MAX_BODY);
    Answer { code, location, body: String::from_utf8_lossy(&text).into_owned() }
}

fn request(
    action: &HTTPGetAction,
    authority: &str,
    path: &str,
) -> Result<Request<Empty<Bytes>>, http::Error> {
    let (mut host, mut agent, mut accept) = (authority, "kube-probe/1.37", "*/*");
    let mut builder = Request::builder().method(Method::GET).uri(path);
    for pair in action.http_headers.iter().flatten() {
        match pair.name.to_ascii_lowercase().as_str() {
            "host" => host = &pair.value,
            "user-agent" => agent = &pair.value,
            "accept" => accept = &pair.value,
            _ => builder = builder.header(&pair.name, &pair.value),
        }
    }
    builder = builder.header(header::HOST, host).header(header::CONNECTION, "close");
    for (name, value) in [(header::USER_AGENT, agent), (header::ACCEPT, accept)] {
        if !value.is_empty() {
            builder = builder.header(name, value);
        }
    }
    builder.body(Empty::new())
}

async fn encrypt(tcp: TcpStream, target: &Target<'_>) -> Result<TlsStream<TcpStream>, String> {
    // Probes ask whether something answers, not who: upstream verifies no certificate here either.
    let config = edgek_base_pki::believing_anybody().map_err(|error| error.to_string())?;
    let name = ServerName::IpAddress(target.ip.into());
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use edgek_base_lifecycle::Scope;
    use edgek_node_runtime::ContainerId;
    use edgek_node_runtime::fake::FakeRuntime;
    use k8s_openapi::api::core::v1::Container;
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use std::time::Duration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Answers each request by its path, then closes the connection.
    async fn serve(listener: tokio::net::TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let head = match request.split(' ').nth(1).unwrap() {
                "/good" => "200 OK\r\n",
                "/here" => "302 Found\r\nLocation: /good\r\n",
                "/there" => "302 Found\r\nLocation: http://192.0.2.77/\r\n",
                "/round" => "302 Found\r\nLocation: /round\r\n",
                _ => "500 Internal Server Error\r\n",
            };
            let answer = format!("HTTP/1.1 {head}Content-Length: 3\r\n\r\nhi!");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn redirects_are_followed_on_the_same_host_only() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let scope = Scope::root();
        scope.spawn("server", serve(listener));
        let runtime = FakeRuntime::with_images(&[]);
        let (id, container) = (ContainerId::from("c".to_owned()), Container::default());
        let target = Target {
            runtime: &*runtime,
            id: &id,
            container: &container,
            ip: [127, 0, 0, 1].into(),
            timeout: Duration::from_secs(5),
        };
        let check = async |path: &str, expected: Result<Outcome, String>| {
            let port = IntOrString::Int(port.into());
            let action = HTTPGetAction { path: Some(path.to_owned()), port, ..HTTPGetAction::default() };
            assert_eq!(get(&action, &target).await, expected, "{path}");
        };
        check("/good", Ok(Outcome::Success)).await;
        check("/here", Ok(Outcome::Success)).await;
        let odd = "Probe terminated redirects, Response body: hi!";
        check("/there", Ok(Outcome::Warning(odd.to_owned()))).await;
        check("/bad", Err("HTTP probe failed with statuscode: 500".to_owned())).await;
        let round = format!("Get \"http://127.0.0.1:{port}/round\": stopped after 10 redirects");
        check("/round", Err(round)).await;
        scope.close(Duration::from_secs(1)).await.unwrap();
    }

    #[test]
    fn a_redirect_leads_from_where_it_was_read() {
        let place =
            |text: &str| Place { tls: false, host: "10.42.0.2".into(), port: 8080, path: text.into() };
        let check = |location: &str, expected: &str| {
            let next = place("/a/b?c=/d").next(location);
            assert_eq!(next.map(|next| next.to_string()).as_deref(), Some(expected), "{location}");
        };
        check("/x?y=1", "http://10.42.0.2:8080/x?y=1");
        check("x", "http://10.42.0.2:8080/a/x");
        check("https://10.42.0.2/x", "https://10.42.0.2:443/x");
        check("//other:81/x", "http://other:81/x");
        assert_eq!(place("/").next("ftp://10.42.0.2/"), None);
    }
}
