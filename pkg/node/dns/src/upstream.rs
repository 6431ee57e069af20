//! The host's name servers, as its resolver configuration lists them: which of them to ask, and asking one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use crate::wire::{self, Query, Transport};

const PORT: u16 = 53;
/// How many servers of the configuration are used, as resolvers do.
const MAX_SERVERS: usize = 3;
/// How long a server may take: all of them together less than the five seconds that clients wait.
const PATIENCE: Duration = Duration::from_millis(1500);
/// After a failure a server is left alone so long; then one query tries it.
const PENALTY: Duration = Duration::from_secs(3);
const LONGEST_UDP: usize = 4096;

/// The host's name servers.
#[derive(Debug)]
pub(crate) struct Upstreams {
    path: PathBuf,
    /// The cluster's own address, which would ask itself.
    own: IpAddr,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When the file that was read last was written.
    written: Option<SystemTime>,
    servers: Vec<Server>,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    avoid_until: Option<Instant>,
}

impl Upstreams {
    pub(crate) fn new(path: PathBuf, own: IpAddr) -> Self {
        Self { path, own, state: Mutex::default() }
    }

    /// The answer of the first server that gives one; `None` when there is none now.
    pub(crate) async fn ask(&self, query: &Query<'_>, transport: Transport) -> Option<Vec<u8>> {
        self.read_configuration();
        let mut tried = Vec::new();
        while let Some(server) = self.next(&tried) {
            tried.push(server);
            let asked = match transport {
                Transport::Udp => timeout(PATIENCE, by_udp(server, query)).await,
                Transport::Tcp => timeout(PATIENCE, by_tcp(server, query)).await,
            };
            if let Ok(Ok(answer)) = asked {
                self.mark(server, None);
                return Some(answer);
            }
            self.mark(server, Some(Instant::now() + PENALTY));
        }
        None
    }

    /// Reads the file if it was written since the last time.
    fn read_configuration(&self) {
        let written = std::fs::metadata(&self.path).and_then(|metadata| metadata.modified()).ok();
        let mut state = self.state.lock();
        if written.is_some() && state.written == written {
            return;
        }
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let servers = name_servers(&text).filter(|ip| *ip != self.own).take(MAX_SERVERS);
        let servers = servers.map(|ip| Server { address: SocketAddr::new(ip, PORT), avoid_until: None });
        *state = State { written, servers: servers.collect() };
    }

    /// The next server to ask. One that has failed is asked by one query at a time.
    fn next(&self, tried: &[SocketAddr]) -> Option<SocketAddr> {
        let now = Instant::now();
        let mut state = self.state.lock();
        let mut servers = state.servers.iter_mut().filter(|server| !tried.contains(&server.address));
        let server = servers.find(|server| server.avoid_until.is_none_or(|until| until <= now))?;
        if server.avoid_until.is_some() {
            server.avoid_until = Some(now + PENALTY);
        }
        Some(server.address)
    }

    fn mark(&self, address: SocketAddr, avoid_until: Option<Instant>) {
        let mut state = self.state.lock();
        for server in state.servers.iter_mut().filter(|server| server.address == address) {
            server.avoid_until = avoid_until;
        }
    }
}

/// The name servers of a resolver configuration.
fn name_servers(text: &str) -> impl Iterator<Item = IpAddr> {
    let lines = text.lines().map(|line| line.split(['#', ';']).next().unwrap_or_default());
    lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| *word == "nameserver")?;
        words.next()?.parse().ok()
    })
}

/// The query under another number, and that number: who does not see it can not guess the answer.
fn renumbered(query: &Query<'_>) -> io::Result<(u16, Vec<u8>)> {
    let mut id = [0; 2];
    SystemRandom::new().fill(&mut id).map_err(|_| io::Error::other("no random numbers"))?;
    let mut message = query.message.to_vec();
    message[..2].copy_from_slice(&id);
    Ok((u16::from_be_bytes(id), message))
}

async fn by_udp(server: SocketAddr, query: &Query<'_>) -> io::Result<Vec<u8>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A port of its own for each query.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let (id, message) = renumbered(query)?;
    socket.send(&message).await?;
    let mut answer = vec![0; LONGEST_UDP];
    loop {
        let length = socket.recv(&mut answer).await?;
        if wire::answers(&answer[..length], id, query) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn by_tcp(server: SocketAddr, query: &Query<'_>) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let (id, message) = renumbered(query)?;
    write_message(&mut stream, &message).await?;
    let mut answer = Vec::new();
    read_message(&mut stream, &mut answer).await?;
    if wire::answers(&answer, id, query) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Reads a message of a TCP connection.
pub(crate) async fn read_message(stream: &mut TcpStream, message: &mut Vec<u8>) -> io::Result<()> {
    let length = stream.read_u16().await?;
    message.resize(length.into(), 0);
    stream.read_exact(message).await.map(|_| ())
}

/// Writes a message to a TCP connection, in one piece.
pub(crate) async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_resolvers_do() {
        let text = "# nameserver 192.0.2.1\nsearch lan\nnameserver 192.0.2.2 # mine\nnameserver fd00::1\nnameserver here\n";
        let servers: Vec<String> = name_servers(text).map(|ip| ip.to_string()).collect();
        assert_eq!(servers, ["192.0.2.2", "fd00::1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_failed_is_left_alone_and_then_tried_once_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 10.43.0.10\nnameserver 192.0.2.2\n").unwrap();
        let upstreams = Upstreams::new(path, "10.43.0.10".parse().unwrap());
        upstreams.read_configuration();
        let server: SocketAddr = "192.0.2.2:53".parse().unwrap();
        assert_eq!(upstreams.next(&[]), Some(server));
        upstreams.mark(server, Some(Instant::now() + PENALTY));
        assert_eq!(upstreams.next(&[]), None);
        tokio::time::advance(PENALTY).await;
        assert_eq!((upstreams.next(&[]), upstreams.next(&[])), (Some(server), None));
        upstreams.mark(server, None);
        assert_eq!((upstreams.next(&[]), upstreams.next(&[])), (Some(server), Some(server)));
        assert_eq!(upstreams.next(&[server]), None);
    }
}
