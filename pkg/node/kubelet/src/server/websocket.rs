//! WebSocket (RFC 6455) as Kubernetes uses it: binary messages whose first byte is a channel, and plain byte streams.

use std::io;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::{Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::remote::CLOSING;

/// The longest message that is accepted.
const MAX_MESSAGE: usize = 1 << 20;

/// A connection over which messages travel.
pub(super) type Socket<IO> = WebSocketStream<IO>;

/// Whether a request asks for a WebSocket.
pub(super) fn is_requested(headers: &HeaderMap) -> bool {
    let has = |name, wanted: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value: &HeaderValue| value.to_str().ok())
            .any(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(wanted)))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket")
}

/// The first of `ours` that the client offers too. A client that offers none gets the first of ours if it is empty.
pub(super) fn negotiate<'a>(headers: &HeaderMap, ours: &[&'a str]) -> Option<&'a str> {
    let offered: Vec<&str> = headers
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
        .filter(|name| !name.is_empty())
        .collect();
    if offered.is_empty() {
        return ours.iter().copied().find(|name| name.is_empty());
    }
    ours.iter().copied().find(|name| offered.contains(name))
}

/// The answer that turns the connection into a WebSocket with this protocol (empty: none is named). `None` when the
/// request lacks its key.
pub(super) fn switching_protocols<B: Default>(headers: &HeaderMap, protocol: &str) -> Option<Response<B>> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    let mut response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()));
    if !protocol.is_empty() {
        response = response.header(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    response.body(B::default()).ok()
}

/// Speaks WebSocket, the server's side, over an upgraded connection.
pub(super) async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(io: IO) -> Socket<IO> {
    let config =
        WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// A message with its channel in front.
pub(super) fn on_channel(channel: u8, data: &[u8]) -> Message {
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.extend_from_slice(&[channel]);
    message.extend_from_slice(data);
    Message::Binary(message.freeze())
}

/// The message that ends a connection on which all went well; clients take any other end for a failure.
pub(super) fn normal_closure() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }))
}

/// The bytes of a message; `None` for those that carry none. Text counts as its bytes.
pub(super) fn payload(message: Message) -> Option<Bytes> {
    match message {
        Message::Binary(bytes) => Some(bytes),
        Message::Text(text) => Some(text.into()),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => None,
    }
}

/// The protocols of a stream that goes one way, as logs do: they say how it is written.
pub(super) const STREAM_PROTOCOLS: [&str; 3] = ["", BINARY, BASE64];
const BINARY: &str = "binary.k8s.io";
const BASE64: &str = "base64.binary.k8s.io";

/// Sends a stream in the form of one of [`STREAM_PROTOCOLS`], until it ends or the client hangs up. As upstream, an empty
/// message goes first.
pub(super) async fn send<IO>(
    socket: Socket<IO>,
    stream: impl futures::Stream<Item = io::Result<Bytes>> + Send,
    protocol: &str,
) where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let encode = |bytes: Bytes| match protocol {
        BASE64 => Message::Text(BASE64_STANDARD.encode(bytes).into()),
        _ => Message::Binary(bytes),
    };
    let (mut out, mut messages) = socket.split();
    let outgoing = async {
        let mut stream = std::pin::pin!(stream);
        out.send(encode(Bytes::new())).await?;
        while let Some(Ok(bytes)) = stream.next().await {
            out.send(encode(bytes)).await?;
        }
        out.send(normal_closure()).await
    };
    // What the client says does not matter until it says that it goes; its answer to the closure is waited for.
    let incoming = async { while let Some(Ok(_)) = messages.next().await {} };
    tokio::pin!(incoming, outgoing);
    tokio::select! {
        sent = &mut outgoing => if sent.is_ok() {
            let _ = tokio::time::timeout(CLOSING, incoming).await;
        },
        () = &mut incoming => {}
    }
}

/// Carries a byte stream in binary messages, as SPDY inside a WebSocket (KEP-4006) needs it: what comes in goes to one
/// end of a pipe, whose other end is returned. The future moves the bytes until both sides are done.
pub(super) fn tunnel<IO>(
    socket: Socket<IO>,
) -> (tokio::io::DuplexStream, impl Future<Output = io::Result<()>> + Send)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let driver = async move {
        let (mut out, mut messages) = socket.split();
        let (mut from_pipe, mut to_pipe) = tokio::io::split(theirs);
        let incoming = async {
            while let Some(message) = messages.next().await {
                match message {
                    Ok(message) => match payload(message) {
                        Some(bytes) => to_pipe.write_all(&bytes).await?,
                        None => continue,
                    },
                    Err(Error::ConnectionClosed | Error::Protocol(_)) => break,
                    Err(error) => return Err(io::Error::other(error)),
                }
            }
            to_pipe.shutdown().await
        };
        let outgoing = async {
            let mut buffer = BytesMut::with_capacity(32 << 10);
            while from_pipe.read_buf(&mut buffer).await? > 0 {
                out.send(Message::Binary(buffer.split().freeze())).await.map_err(io::Error::other)?;
                buffer.reserve(32 << 10);
            }
            out.send(normal_closure()).await.map_err(io::Error::other)
        };
        tokio::pin!(incoming, outgoing);
        tokio::select! {
            done = &mut outgoing => done,
            done = &mut incoming => match done {
                Ok(()) => outgoing.await,
                failed => failed,
            },
        }
    };
    (ours, driver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_prefers_its_own_order_of_protocols() {
        let check = |offered: Option<&str>, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(offered) = offered {
                headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered.parse().unwrap());
            }
            assert_eq!(negotiate(&headers, &["v5", "v4", ""]), expected, "{offered:?}");
        };
        check(Some("v4, v5"), Some("v5"));
        check(Some("v4"), Some("v4"));
        check(Some("v9"), None);
        check(None, Some(""));
    }

    #[tokio::test]
    async fn a_stream_is_sent_in_the_form_of_its_protocol() {
        for (protocol, expected) in [("", Message::binary("text")), (BASE64, Message::text("dGV4dA=="))] {
            let (client, server) = tokio::io::duplex(1 << 10);
            let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
            let stream = futures::stream::iter([Ok(Bytes::from_static(b"text"))]);
            let sending = async { send(accept(server).await, stream, protocol).await };
            let receiving = async {
                assert_eq!(client.next().await.unwrap().unwrap().len(), 0);
                assert_eq!(client.next().await.unwrap().unwrap(), expected);
                assert!(client.next().await.unwrap().unwrap().is_close());
                assert!(client.next().await.is_none());
            };
            tokio::join!(sending, receiving);
        }
    }
}
