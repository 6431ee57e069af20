//! The addresses of a server that is named: from /etc/hosts, else from the name servers of /etc/resolv.conf. The C library
//! cannot be asked: in a static binary its resolver loads parts of the machine's own C library, which may be another one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// As resolvers do.
const MAX_SERVERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest answer over UDP that was not asked to be longer is 512 bytes.
const MAX_ANSWER: usize = 1500;
const A: u16 = 1;
const AAAA: u16 = 28;
const INTERNET: u16 = 1;

/// The addresses of `host:port`.
///
/// # Errors
/// Nobody knows the name, or no name server answers.
pub(crate) async fn resolve(server: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = server.parse() {
        return Ok(vec![address]);
    }
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{server:?} is not HOST:PORT"));
    let (host, port) = server.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let mut found = in_hosts(&std::fs::read_to_string(HOSTS).unwrap_or_default(), host);
    if found.is_empty() {
        found = ask(&Config::parse(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default()), host).await?;
    }
    Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

fn in_hosts(hosts: &str, name: &str) -> Vec<IpAddr> {
    let lines = hosts.lines().map(|line| line.split('#').next().unwrap_or_default());
    let of_name = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    });
    of_name.collect()
}

/// A resolver configuration.
#[derive(Debug, PartialEq, Eq)]
struct Config {
    servers: Vec<IpAddr>,
    search: Vec<String>,
}

impl Config {
    fn parse(text: &str) -> Self {
        let mut config = Self { servers: Vec::new(), search: Vec::new() };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    config.servers.extend(words.next().and_then(|word| word.parse::<IpAddr>().ok()))
                }
                Some("search" | "domain") => config.search = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        config.servers.truncate(MAX_SERVERS);
        if config.servers.is_empty() {
            config.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        config
    }

    /// What a name may mean, the likeliest first.
    fn candidates(&self, name: &str) -> Vec<String> {
        let plain = name.trim_end_matches('.').to_owned();
        let searched = self.search.iter().map(|domain| format!("{plain}.{}", domain.trim_end_matches('.')));
        let mut all: Vec<String> = if name.ends_with('.') { Vec::new() } else { searched.collect() };
        let first = if plain.contains('.') { 0 } else { all.len() };
        all.insert(first, plain);
        all
    }
}

async fn ask(config: &Config, name: &str) -> io::Result<Vec<IpAddr>> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("nobody knows the name {name:?}"));
    for candidate in config.candidates(name) {
        for kind in [A, AAAA] {
            match ask_servers(&config.servers, &candidate, kind).await {
                Ok(addresses) if addresses.is_empty() => {}
                Ok(addresses) => return Ok(addresses),
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

async fn ask_servers(servers: &[IpAddr], name: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for server in servers {
        let asked = tokio::time::timeout(PATIENCE, exchange(*server, name, kind)).await;
        match asked {
            Ok(Ok(addresses)) => return Ok(addresses),
            Ok(Err(error)) => last = error,
            Err(_) => {
                let text = format!("name server {server} does not answer");
                last = io::Error::new(io::ErrorKind::TimedOut, text);
            }
        }
    }
    Err(last)
}

async fn exchange(server: IpAddr, name: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // The port that the kernel picks tells this exchange from others, besides its number.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect((server, 53)).await?;
    let id = socket.local_addr()?.port().rotate_left(5) ^ 0x5a5a;
    socket.send(&question(id, name, kind)?).await?;
    let mut buffer = [0; MAX_ANSWER];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(addresses) = addresses(&buffer[..length], id, kind) {
            return Ok(addresses);
        }
    }
}

fn question(id: u16, name: &str, kind: u16) -> io::Result<Vec<u8>> {
    let mut message = Vec::with_capacity(name.len() + 18);
    // Recursion is desired; one question.
    for word in [id, 0x0100, 1, 0, 0, 0] {
        message.extend_from_slice(&word.to_be_bytes());
    }
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length));
        let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a host name"));
        message.push(length.ok_or_else(wrong)?);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&INTERNET.to_be_bytes());
    Ok(message)
}

/// The addresses in the answer to question `id`; `None` when the message is something else.
fn addresses(message: &[u8], id: u16, kind: u16) -> Option<Vec<IpAddr>> {
    let word = |at: usize| Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]));
    if word(0)? != id || word(2)? & 0x8000 == 0 {
        return None;
    }
    let (questions, answers) = (word(4)?, word(6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = after_name(message, at)? + 4;
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        at = after_name(message, at)?;
        let (record, length) = (word(at)?, usize::from(word(at + 8)?));
        let data = message.get(at + 10..at + 10 + length)?;
        // The end of a chain of aliases is in the same answer.
        match (record == kind, data.len()) {
            (true, 4) => found.push(<[u8; 4]>::try_from(data).ok()?.into()),
            (true, 16) => found.push(<[u8; 16]>::try_from(data).ok()?.into()),
            _ => {}
        }
        at += 10 + length;
    }
    Some(found)
}

/// Where a name that begins at `at` ends.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            // A reference to a name before.
            length if length >= 0xc0 => return Some(at + 2),
            length => at += usize::from(length) + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_in_the_machines_own_list_first() {
        let hosts = "127.0.0.1 localhost\n# 10.0.0.1 edge\n10.0.0.2 Edge edge.example # the server\n";
        assert_eq!(in_hosts(hosts, "edge"), ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        assert!(in_hosts(hosts, "server").is_empty());
    }

    #[test]
    fn short_names_are_searched_for_and_long_ones_are_taken_as_they_are() {
        let config =
            Config::parse("search plant.example\nnameserver 10.0.0.53\nnameserver x\noptions rotate\n");
        assert_eq!(config.servers, ["10.0.0.53".parse::<IpAddr>().unwrap()]);
        assert_eq!(config.candidates("edge"), ["edge.plant.example", "edge"]);
        assert_eq!(config.candidates("edge.example"), ["edge.example", "edge.example.plant.example"]);
        assert_eq!(config.candidates("edge."), ["edge"]);
    }

    #[test]
    fn an_answer_is_read_through_its_aliases() {
        let mut message = question(7, "edge.example", A).unwrap();
        message[2] |= 0x80;
        message[7] = 2;
        // edge.example is an alias, whose address follows.
        message.extend_from_slice(&[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 4, 1, b'a', 0xc0, 17]);
        message.extend_from_slice(&[1, b'a', 0xc0, 17, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 2]);
        assert_eq!(addresses(&message, 7, A), Some(vec!["10.0.0.2".parse().unwrap()]));
        assert_eq!(addresses(&message, 8, A), None);
        for length in 0..message.len() {
            addresses(&message[..length], 7, A);
        }
    }

    #[tokio::test]
    async fn an_address_needs_nobody() {
        assert_eq!(resolve("[fd00::2]:6443").await.unwrap(), ["[fd00::2]:6443".parse().unwrap()]);
        assert_eq!(resolve("localhost:1").await.unwrap()[0].port(), 1);
        assert!(resolve("nonsense").await.is_err());
    }
}
