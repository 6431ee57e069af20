//! SPDY/3.1, the server's side: what older kubectl versions speak for exec and attach, and all versions inside a
//! WebSocket for port-forward.
//!
//! Frames follow the SPDY/3 draft. As upstream's peers, neither side keeps flow-control windows: a stream whose
//! reader is slow stops the whole connection, and TCP carries that to the sender.

mod frame;
mod headers;

pub(super) use headers::Headers;

use std::collections::HashMap;
use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::remote::CLOSING;
use frame::{Frame, MAX_FRAME};
use headers::{Decoder, Encoder};

/// Streams a client may have open at once; port-forward uses two a connection.
const MAX_STREAMS: usize = 512;
/// Pieces of data that wait for a stream's reader, and frames that wait for the connection's writer.
const QUEUE: usize = 16;

/// A stream that the client opened.
#[derive(Debug)]
pub(super) struct Stream {
    /// The headers it was opened with; names are lower-case.
    pub(super) headers: Headers,
    /// Data from the client; ends when the client has finished or reset the stream.
    pub(super) incoming: mpsc::Receiver<Bytes>,
    /// The way back.
    pub(super) outgoing: Outgoing,
}

/// The server's half of a stream.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    id: u32,
    frames: mpsc::Sender<Frame>,
}

impl Outgoing {
    /// Sends data; waits while the connection is busy.
    pub(super) async fn send(&self, data: Bytes) -> Result<(), Closed> {
        let mut rest = data;
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(MAX_FRAME / 2));
            self.frame(Frame::Data { id: self.id, data: piece, fin: frame::Fin::No }).await?;
        }
        Ok(())
    }

    /// Tells the client that no more data will come.
    pub(super) async fn finish(&self) -> Result<(), Closed> {
        self.frame(Frame::Data { id: self.id, data: Bytes::new(), fin: frame::Fin::Yes }).await
    }

    /// Ends both directions.
    pub(super) async fn reset(&self) -> Result<(), Closed> {
        self.frame(Frame::Reset { id: self.id, status: frame::CANCEL }).await
    }

    async fn frame(&self, frame: Frame) -> Result<(), Closed> {
        self.frames.send(frame).await.map_err(|_| Closed)
    }
}

/// The connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection is closed")]
pub(super) struct Closed;

/// Speaks SPDY over `io`. Streams come out of the receiver while the future runs. It ends when the client hangs up, or
/// when the receiver and every [`Outgoing`] were dropped and all they sent is written.
pub(super) fn accept<IO>(io: IO) -> (mpsc::Receiver<Stream>, impl Future<Output = io::Result<()>> + Send)
where
    IO: AsyncRead + AsyncWrite + Send + 'static,
{
    let (opened, streams) = mpsc::channel(QUEUE);
    let (frames, outgoing) = mpsc::channel(QUEUE);
    let (reader, writer) = tokio::io::split(io);
    let driver = async move {
        let incoming = Incoming { reader, frames, opened, streams: HashMap::new(), decoder: Decoder::new() };
        let reading = incoming.run();
        let writing = write_frames(writer, outgoing);
        tokio::pin!(reading, writing);
        tokio::select! {
            // One side has ended it; what was under way is still written.
            read = &mut reading => {
                let mut rest = read?;
                writing.await?;
                // A connection that is dropped with input unread is reset, and the last frames may be lost on their way.
                let _ = tokio::time::timeout(CLOSING, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await;
                Ok(())
            }
            written = &mut writing => written,
        }
    };
    (streams, driver)
}

async fn write_frames(
    mut writer: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Frame>,
) -> io::Result<()> {
    let mut encoder = Encoder::new();
    let mut buffer = BytesMut::new();
    while let Some(frame) = frames.recv().await {
        frame.encode(&mut encoder, &mut buffer)?;
        // Small frames that wait already share a write.
        while buffer.len() < MAX_FRAME
            && let Ok(frame) = frames.try_recv()
        {
            frame.encode(&mut encoder, &mut buffer)?;
        }
        writer.write_all_buf(&mut buffer).await?;
        writer.flush().await?;
    }
    writer.shutdown().await
}

struct Incoming<R> {
    reader: R,
    /// Keeps the writer alive until the client hangs up.
    frames: mpsc::Sender<Frame>,
    opened: mpsc::Sender<Stream>,
    streams: HashMap<u32, mpsc::Sender<Bytes>>,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    /// Returns the reader when either side has ended the connection.
    async fn run(mut self) -> io::Result<R> {
        let mut buffer = BytesMut::new();
        loop {
            while let Some(frame) = Frame::decode(&mut buffer, &mut self.decoder)? {
                if self.handle(frame).await.is_none() {
                    return Ok(self.reader);
                }
            }
            tokio::select! {
                read = self.reader.read_buf(&mut buffer) => if read? == 0 {
                    return Ok(self.reader);
                },
                () = self.opened.closed() => return Ok(self.reader),
            }
        }
    }

    /// `None` when the connection is over.
    async fn handle(&mut self, frame: Frame) -> Option<()> {
        match frame {
            Frame::Open { id, headers, fin } => self.open(id, headers, fin).await,
            Frame::Data { id, data, fin } => {
                if let Some(stream) = self.streams.get(&id) {
                    // Who does not read a stream any more has dropped it; its data is nobody's.
                    let _ = if data.is_empty() { Ok(()) } else { stream.send(data).await };
                }
                if fin == frame::Fin::Yes {
                    self.streams.remove(&id);
                }
                Some(())
            }
            Frame::Reset { id, .. } => {
                self.streams.remove(&id);
                Some(())
            }
            Frame::Ping { id } => self.frames.send(Frame::Ping { id }).await.ok(),
            Frame::GoAway => None,
            Frame::Reply { .. } | Frame::Ignored => Some(()),
        }
    }

    async fn open(&mut self, id: u32, headers: Headers, fin: frame::Fin) -> Option<()> {
        self.streams.retain(|_, stream| !stream.is_closed());
        if self.streams.len() >= MAX_STREAMS || self.streams.contains_key(&id) {
            return self.frames.send(Frame::Reset { id, status: frame::REFUSED }).await.ok();
        }
        let (sender, incoming) = mpsc::channel(QUEUE);
        if fin == frame::Fin::No {
            self.streams.insert(id, sender);
        }
        self.frames.send(Frame::Reply { id }).await.ok()?;
        let outgoing = Outgoing { id, frames: self.frames.clone() };
        self.opened.send(Stream { headers, incoming, outgoing }).await.ok()
    }
}

#[cfg(test)]
mod tests;
