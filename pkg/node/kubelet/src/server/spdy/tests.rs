//! Tests of `spdy`.

use super::*;
use tokio::io::duplex;

/// The client's side of a connection, made of the same frames.
struct Client {
    io: tokio::io::DuplexStream,
    encoder: Encoder,
    decoder: Decoder,
    buffer: BytesMut,
}

impl Client {
    fn new(io: tokio::io::DuplexStream) -> Self {
        Self { io, encoder: Encoder::new(), decoder: Decoder::new(), buffer: BytesMut::new() }
    }

    async fn send(&mut self, frame: Frame) {
        let mut out = BytesMut::new();
        frame.encode(&mut self.encoder, &mut out).unwrap();
        self.io.write_all(&out).await.unwrap();
    }

    async fn open(&mut self, id: u32, name: &str, value: &str) {
        let headers = Headers::from([(name.to_owned(), value.to_owned())]);
        self.send(Frame::Open { id, headers, fin: frame::Fin::No }).await;
    }

    async fn receive(&mut self) -> Frame {
        loop {
            if let Some(frame) = Frame::decode(&mut self.buffer, &mut self.decoder).unwrap() {
                return frame;
            }
            assert_ne!(self.io.read_buf(&mut self.buffer).await.unwrap(), 0, "the server hung up");
        }
    }
}

fn data(id: u32, data: &'static str) -> Frame {
    Frame::Data { id, data: Bytes::from_static(data.as_bytes()), fin: frame::Fin::No }
}

fn fin(id: u32) -> Frame {
    Frame::Data { id, data: Bytes::new(), fin: frame::Fin::Yes }
}

#[tokio::test]
async fn streams_carry_data_both_ways_until_each_side_has_finished() {
    let (near, far) = duplex(1 << 16);
    let (mut streams, driver) = accept(far);
    let mut client = Client::new(near);
    let server = async {
        let mut first = streams.recv().await.unwrap();
        assert_eq!(first.headers["streamtype"], "stdin");
        let second = streams.recv().await.unwrap();
        assert_eq!(second.headers["streamtype"], "stdout");
        while let Some(data) = first.incoming.recv().await {
            second.outgoing.send(data).await.unwrap();
        }
        second.outgoing.finish().await.unwrap();
    };
    let talk = async {
        client.open(1, "streamType", "stdin").await;
        client.open(3, "streamType", "stdout").await;
        client.send(data(1, "hello")).await;
        client.send(Frame::Ping { id: 7 }).await;
        client.send(fin(1)).await;
        let mut seen = Vec::new();
        while !seen.contains(&fin(3)) {
            seen.push(client.receive().await);
        }
        assert!(seen.contains(&data(3, "hello")) && seen.contains(&Frame::Ping { id: 7 }), "{seen:?}");
        drop(client);
    };
    let (_, driven, ()) = tokio::join!(server, driver, talk);
    driven.unwrap();
}

#[tokio::test]
async fn a_client_that_still_sends_is_heard_out_after_the_end() {
    let (near, far) = duplex(1 << 10);
    let (streams, driver) = accept(far);
    let mut client = Client::new(near);
    let talk = async {
        drop(streams);
        let sent = Bytes::from_static(&[0; 64 << 10]);
        for _ in 0..2 {
            client.send(Frame::Data { id: 1, data: sent.clone(), fin: frame::Fin::No }).await;
        }
        drop(client);
    };
    let (driven, ()) = tokio::join!(driver, talk);
    driven.unwrap();
}

#[tokio::test]
async fn nonsense_ends_the_connection_with_an_error() {
    for nonsense in
        [&b"GET / HTTP/1.1\r\n\r\nand more than a frame"[..], &[0xff; 64], &[0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0]]
    {
        let (mut near, far) = duplex(1 << 16);
        let (_streams, driver) = accept(far);
        near.write_all(nonsense).await.unwrap();
        near.shutdown().await.unwrap();
        let outcome = tokio::time::timeout(std::time::Duration::from_secs(5), driver).await.unwrap();
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}

#[test]
fn header_blocks_share_one_compression_state() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    for n in 0..50 {
        let headers = Headers::from([
            ("port".to_owned(), n.to_string()),
            ("streamtype".to_owned(), "x".repeat(n * 100)),
        ]);
        let mut block = BytesMut::new();
        encoder.encode(&headers, &mut block).unwrap();
        assert_eq!(decoder.decode(&block).unwrap(), headers);
    }
}
