//! Exec and attach: the streams of a runtime session, carried to a client over WebSocket or SPDY.
//!
//! Channels and their contents are those of upstream's `remotecommand`: stdin, stdout, stderr, an error channel that
//! carries a Status at the end, and a resize channel that carries `{"Width":80,"Height":24}`.

use std::time::Duration;

use bytes::Bytes;
use edgek_node_runtime::{Output, Session, TerminalSize};
use futures::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use super::spdy::{self, Outgoing};
use super::websocket::{self, Socket, on_channel, payload};

/// Which protocol version a WebSocket client speaks.
pub(super) const WEBSOCKET_PROTOCOLS: [&str; 4] =
    ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io", ""];
/// The same of a SPDY client (`X-Stream-Protocol-Version`).
pub(super) const SPDY_PROTOCOLS: [&str; 4] =
    ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// v5: the next byte names a channel whose sender is done.
const CLOSE: u8 = 255;
/// How long a client may take to answer the end of a connection.
pub(super) const CLOSING: Duration = Duration::from_secs(5);

/// The streams that the client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl Wanted {
    /// What upstream's clients open besides the error stream, in SPDY.
    fn stream_count(self) -> usize {
        let flags = [self.stdin, self.stdout, self.stderr && !self.tty, self.tty];
        1 + flags.into_iter().filter(|flag| *flag).count()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

fn size(bytes: &[u8]) -> Option<TerminalSize> {
    // A stream of JSON documents: each message holds one, SPDY may join a newline to it.
    let size: Size = serde_json::from_slice(bytes.trim_ascii()).ok()?;
    Some(TerminalSize { width: size.width, height: size.height })
}

/// The Status that tells the client how the command ended.
pub(super) fn status_of(exit: Result<i32, String>) -> Value {
    match exit {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(text) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("Internal error occurred: error executing command in container: {text}"),
            "reason": "InternalError",
            "details": {"causes": [{"message": format!("error executing command in container: {text}")}]},
            "code": 500,
        }),
    }
}

async fn exit_status(exit: tokio::sync::oneshot::Receiver<edgek_node_runtime::Result<i32>>) -> Value {
    match exit.await {
        Ok(Ok(code)) => status_of(Ok(code)),
        Ok(Err(error)) => status_of(Err(error.to_string())),
        Err(_) => status_of(Err("the runtime has gone".to_owned())),
    }
}

/// Carries a session over a WebSocket until the command has ended or the client is gone.
pub(super) async fn over_websocket<IO>(socket: Socket<IO>, session: Session, wanted: Wanted, form: StatusForm)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Session { stdin, mut output, resize, exit } = session;
    let (mut out, mut messages) = socket.split();
    let mut input = Input { stdin: stdin.filter(|_| wanted.stdin), resize };
    // An empty message on the lowest output channel tells the client that the streams are there.
    let first = if wanted.stdout {
        STDOUT
    } else if wanted.stderr {
        STDERR
    } else {
        ERROR
    };
    if out.send(on_channel(first, &[])).await.is_err() {
        return;
    }
    let incoming = async {
        while let Some(Ok(message)) = messages.next().await {
            if matches!(message, Message::Close(_)) {
                break;
            }
            if let Some(bytes) = payload(message) {
                input.take(bytes).await;
            }
        }
    };
    let outgoing = async {
        while let Some(piece) = output.recv().await {
            let (channel, data) = match piece {
                Output::Stdout(data) => (STDOUT, data),
                Output::Stderr(data) => (STDERR, data),
            };
            if out.send(on_channel(channel, &data)).await.is_err() {
                return;
            }
        }
        let status = form.print(&exit_status(exit).await);
        // The client may be gone; then nobody needs the status.
        let _ = if status.is_empty() { Ok(()) } else { out.send(on_channel(ERROR, status.as_bytes())).await };
        let _ = out.send(websocket::normal_closure()).await;
    };
    tokio::pin!(incoming, outgoing);
    tokio::select! {
        () = &mut outgoing => {
            // A connection that is dropped with input unread is reset, and the status may be lost on its way.
            let _ = tokio::time::timeout(CLOSING, incoming).await;
        }
        // The client has closed its side: whoever detaches does not wait for the command.
        () = &mut incoming => {}
    }
}

/// Where the client's messages go.
struct Input {
    stdin: Option<mpsc::Sender<Bytes>>,
    resize: mpsc::Sender<TerminalSize>,
}

impl Input {
    async fn take(&mut self, mut message: Bytes) {
        if message.is_empty() {
            return;
        }
        let channel = message.split_to(1)[0];
        match channel {
            STDIN => {
                if let Some(stdin) = &self.stdin
                    && !message.is_empty()
                    && stdin.send(message).await.is_err()
                {
                    self.stdin = None;
                }
            }
            RESIZE => {
                if let Some(size) = size(&message) {
                    let _ = self.resize.send(size).await;
                }
            }
            CLOSE if message.first() == Some(&STDIN) => self.stdin = None,
            _ => {}
        }
    }
}

/// The streams of a SPDY client, told apart by their `streamType` header.
#[derive(Default)]
struct Streams {
    error: Option<spdy::Stream>,
    stdin: Option<spdy::Stream>,
    stdout: Option<Outgoing>,
    stderr: Option<Outgoing>,
    resize: Option<spdy::Stream>,
}

impl Streams {
    async fn collect(opened: &mut mpsc::Receiver<spdy::Stream>, wanted: Wanted) -> Option<Self> {
        let mut streams = Self::default();
        for _ in 0..wanted.stream_count() {
            let stream = opened.recv().await?;
            match stream.headers.get("streamtype").map_or("", String::as_str) {
                "error" => streams.error = Some(stream),
                "stdin" => streams.stdin = Some(stream),
                "stdout" => streams.stdout = Some(stream.outgoing),
                "stderr" => streams.stderr = Some(stream.outgoing),
                "resize" => streams.resize = Some(stream),
                _ => return None,
            }
        }
        Some(streams)
    }
}

/// How the end of a command is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StatusForm {
    /// v4: a Status in JSON.
    Json,
    /// Before v4: the text of an error, or nothing.
    Text,
}

impl StatusForm {
    /// The form of a protocol.
    pub(super) fn of(protocol: &str) -> Self {
        match protocol {
            "v5.channel.k8s.io" | "v4.channel.k8s.io" => Self::Json,
            _ => Self::Text,
        }
    }

    fn print(self, status: &Value) -> String {
        match self {
            Self::Json => status.to_string(),
            Self::Text => status["message"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

/// Carries a session over SPDY until the command has ended or the client is gone.
pub(super) async fn over_spdy<IO>(io: IO, session: Session, wanted: Wanted, form: StatusForm)
where
    IO: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut opened, driver) = spdy::accept(io);
    let serve = async move {
        // Clients that open no streams are cut off by whoever dials them; upstream waits 30 s.
        let waiting = Streams::collect(&mut opened, wanted);
        let Ok(Some(streams)) = tokio::time::timeout(Duration::from_secs(30), waiting).await else {
            return;
        };
        carry(session, streams, form).await;
        drop(opened);
    };
    let ((), _) = tokio::join!(serve, driver);
}

async fn carry(session: Session, streams: Streams, form: StatusForm) {
    let Session { stdin, mut output, resize, exit } = session;
    let Streams { error, stdin: from_client, stdout, stderr, resize: sizes } = streams;
    let input = async {
        if let (Some(stdin), Some(mut stream)) = (stdin, from_client) {
            while let Some(data) = stream.incoming.recv().await {
                if stdin.send(data).await.is_err() {
                    break;
                }
            }
        }
        std::future::pending::<()>().await;
    };
    let resizing = async {
        if let Some(mut stream) = sizes {
            while let Some(data) = stream.incoming.recv().await {
                if let Some(size) = size(&data) {
                    let _ = resize.send(size).await;
                }
            }
        }
        std::future::pending::<()>().await;
    };
    let outgoing = async {
        while let Some(piece) = output.recv().await {
            let (stream, data) = match piece {
                Output::Stdout(data) => (&stdout, data),
                Output::Stderr(data) => (&stderr, data),
            };
            if let Some(stream) = stream
                && stream.send(data).await.is_err()
            {
                return;
            }
        }
        let status = exit_status(exit).await;
        for stream in [&stdout, &stderr].into_iter().flatten() {
            let _ = stream.finish().await;
        }
        if let Some(stream) = error {
            let _ = stream.outgoing.send(Bytes::from(form.print(&status))).await;
            let _ = stream.outgoing.finish().await;
        }
    };
    tokio::select! {
        () = outgoing => {}
        () = input => {}
        () = resizing => {}
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;

    #[test]
    fn the_status_tells_the_exit_code_as_kubectl_reads_it() {
        assert_eq!(status_of(Ok(0))["status"], "Success");
        let failed = status_of(Ok(7));
        assert_eq!(failed["reason"], "NonZeroExitCode");
        assert_eq!(failed["details"]["causes"][0], json!({"reason": "ExitCode", "message": "7"}));
        let old = |status| StatusForm::of("channel.k8s.io").print(&status);
        assert_eq!(old(status_of(Ok(0))), "");
        assert_eq!(old(failed), "command terminated with non-zero exit code: exit status 7");
    }

    #[tokio::test]
    async fn a_client_that_still_sends_is_heard_out_after_the_end_of_the_command() {
        let (client, server) = tokio::io::duplex(1 << 10);
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let (_, output) = mpsc::channel(1);
        let (ended, exit) = tokio::sync::oneshot::channel();
        ended.send(Ok(0)).unwrap();
        let session = Session { stdin: None, output, resize: mpsc::channel(1).0, exit };
        let serve = async {
            over_websocket(websocket::accept(server).await, session, Wanted::default(), StatusForm::Json)
                .await;
        };
        let speak = async {
            let status = client.by_ref().skip(1).next().await.unwrap().unwrap();
            assert!(status.into_data().starts_with(b"\x03{"));
            client.send(on_channel(STDIN, &[0; 64 << 10])).await.unwrap();
            client.close(None).await.unwrap();
        };
        tokio::join!(serve, speak);
    }

    #[test]
    fn terminal_sizes_are_read_as_clients_write_them() {
        let read = |text: &str| size(text.as_bytes()).map(|s| (s.width, s.height));
        assert_eq!(read("{\"Width\":80,\"Height\":24}\n"), Some((80, 24)));
        assert_eq!(read("{\"Width\":-1}"), None);
    }
}
