//! Probes of the gRPC health service, `grpc.health.v1.Health/Check`. The two messages have one field each, so they are
//! written and read here by hand.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

/// More than any answer has.
const MAX_ANSWER: usize = 4096;

/// Asks once.
pub(super) async fn check(address: &str, service: &str) -> Result<(), String> {
    let failed = |why: &dyn std::fmt::Display| format!("error: health rpc failed: {why}");
    let tcp = TcpStream::connect(address)
        .await
        .map_err(|error| format!("error: failed to connect service at {address:?}: connect: {error}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
            .await
            .map_err(|error| failed(&error))?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.37")
        .body(Full::new(question(service)))
        .map_err(|error| failed(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let head = response.headers().get("grpc-status").cloned();
        let body =
            Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| failed(&error))?;
        let trailer = body.trailers().and_then(|t| t.get("grpc-status").cloned());
        let code = head.or(trailer).and_then(|v| v.to_str().ok()?.parse::<u32>().ok()).unwrap_or(0);
        if code != 0 {
            return Err(failed(&format!("rpc error: code = {code}")));
        }
        verdict(&body.to_bytes())
    };
    tokio::select! {
        result = exchange => result,
        ended = connection => Err(failed(&ended.err().map_or_else(|| "EOF".to_owned(), |e| e.to_string()))),
    }
}

/// A frame with the name of the service in field 1.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.put_u8((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.put_u8(length as u8);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put(message);
    frame.freeze()
}

/// Whether a frame says that the service serves (field 1, a number).
fn verdict(frame: &[u8]) -> Result<(), String> {
    let status = match frame.get(5..) {
        Some([0x08, status, ..]) => *status,
        _ => 0,
    };
    let name = match status {
        1 => return Ok(()),
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    };
    Err(format!("service unhealthy (responded with {name:?})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_form_of_the_health_service() {
        assert_eq!(question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        assert_eq!(verdict(&[0, 0, 0, 0, 2, 8, 1]), Ok(()));
        let answer = verdict(&[0, 0, 0, 0, 2, 8, 2]);
        assert_eq!(answer, Err("service unhealthy (responded with \"NOT_SERVING\")".to_owned()));
    }
}
