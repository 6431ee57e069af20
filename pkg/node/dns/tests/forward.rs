//! Names that are not of the cluster: each test has a host of its own, a network namespace, with a name server on it.
//! Needs root.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use edgek_base_lifecycle::Scope;
use edgek_client::{Body, BoxError, Client};
use edgek_control_runtime::Informers;
use edgek_node_dns::{Config, start};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

const OWN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 10);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 53);

/// Runs `test` on a thread that is alone in a new network namespace, where names are served at [`OWN`].
fn on_a_host<F: Future<Output = ()>>(resolv_conf: &str, test: impl FnOnce(Scope) -> F + Send + 'static) {
    let resolv_conf = resolv_conf.to_owned();
    let host = std::thread::Builder::new().name("host".into()).spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        assert!(
            std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success()
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        std::fs::write(&path, resolv_conf).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let scope = Scope::root();
            serve(&scope, &path).await;
            test(scope.clone()).await;
            scope.close(Duration::from_secs(5)).await.unwrap();
        });
    });
    host.unwrap().join().unwrap();
}

async fn serve(scope: &Scope, resolv_conf: &Path) {
    // An API server without objects.
    let server = tower::service_fn(|request: Request<Body>| async move {
        if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
            std::future::pending::<()>().await;
        }
        let body = Bytes::from_static(br#"{"metadata":{"resourceVersion":"1"},"items":[]}"#);
        let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
        Ok::<_, BoxError>(Response::new(body))
    });
    let informers = Informers::new(scope, Client::new(server));
    let config = Config {
        address: OWN,
        domain: "cluster.local".into(),
        ranges: Vec::new(),
        resolv_conf: resolv_conf.to_owned(),
    };
    start(scope, config, &informers).await.unwrap();
}

/// A name server that knows one address for every name, for a minute. It counts the queries it gets, and can wait
/// before it answers.
async fn name_server(scope: &Scope, delay: Duration) -> Arc<AtomicUsize> {
    let (socket, asked) = (UdpSocket::bind((OTHER, 53)).await.unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    scope.spawn("name server", async move {
        let mut buffer = [0; 512];
        loop {
            let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
            count.fetch_add(1, Ordering::Relaxed);
            edgek_base_lifecycle::sleep(delay).await;
            socket.send_to(&answer(&buffer[..length]), client).await.unwrap();
        }
    });
    asked
}

fn answer(query: &[u8]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x80]);
    answer[7] = 1;
    answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
    answer
}

fn query(id: u16, name: &str) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

async fn ask(message: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.send_to(message, (OWN, 53)).await.unwrap();
    let mut buffer = vec![0; 512];
    let length = timeout(Duration::from_secs(10), socket.recv(&mut buffer)).await.unwrap().unwrap();
    buffer.truncate(length);
    buffer
}

fn code(answer: &[u8]) -> u8 {
    answer[3] & 0xf
}

const SERVER_FAILURE: u8 = 2;

#[test]
fn other_names_come_from_the_hosts_name_server_and_are_remembered() {
    on_a_host(&format!("nameserver {OTHER}\n"), |scope| async move {
        let asked = name_server(&scope, Duration::ZERO).await;
        let first = query(7, "Example.com");
        assert_eq!(ask(&first).await, answer(&first));
        // Each client gets its own number and spelling back.
        let second = query(8, "example.COM");
        let heard = ask(&second).await;
        assert_eq!(heard[..second.len()], answer(&second)[..second.len()]);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        ask(&query(9, "example.org")).await;
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    });
}

/// Lets time pass for the name service.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[test]
fn what_is_remembered_ages_and_is_asked_for_again_after_half_a_minute() {
    on_a_host(&format!("nameserver {OTHER}\n"), |scope| async move {
        let asked = name_server(&scope, Duration::ZERO).await;
        let lasts = async || {
            let answer = ask(&query(1, "example.com")).await;
            u32::from_be_bytes(*answer[answer.len() - 10..].first_chunk().unwrap())
        };
        assert_eq!(lasts().await, 60);
        pass(Duration::from_secs(20)).await;
        assert_eq!((lasts().await, asked.load(Ordering::Relaxed)), (40, 1));
        pass(Duration::from_secs(11)).await;
        assert_eq!((lasts().await, asked.load(Ordering::Relaxed)), (60, 2));
    });
}

#[test]
fn the_same_question_is_asked_once_at_a_time() {
    on_a_host(&format!("nameserver {OTHER}\n"), |scope| async move {
        let asked = name_server(&scope, Duration::from_millis(200)).await;
        let queries = [query(1, "example.com"), query(2, "example.com"), query(3, "example.com")];
        let (a, b, c) = tokio::join!(ask(&queries[0]), ask(&queries[1]), ask(&queries[2]));
        assert_eq!([&a[..2], &b[..2], &c[..2]], [[0, 1], [0, 2], [0, 3]]);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn whoever_cannot_be_asked_is_told_at_once() {
    let none = "nameserver 127.0.0.10\nnameserver 192.0.2.1\n";
    on_a_host(none, |_| async move {
        let began = Instant::now();
        assert_eq!(code(&ask(&query(1, "example.com")).await), SERVER_FAILURE);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    });
}

#[test]
fn a_name_server_that_asks_us_in_turn_makes_no_storm() {
    on_a_host(&format!("nameserver {OTHER}\n"), |scope| async move {
        let stub = Arc::new(UdpSocket::bind((OTHER, 53)).await.unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let (socket, count) = (stub.clone(), asked.clone());
        scope.spawn("stub", async move {
            let mut buffer = [0; 512];
            loop {
                let (length, _) = socket.recv_from(&mut buffer).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                // What comes back from there is thrown away: it is for nobody.
                socket.send_to(&buffer[..length], (OWN, 53)).await.unwrap();
            }
        });
        assert_eq!(code(&ask(&query(1, "example.com")).await), SERVER_FAILURE);
        let asked = asked.load(Ordering::Relaxed);
        assert!(asked <= 3, "{asked} queries");
    });
}

#[test]
fn many_questions_may_come_over_one_connection() {
    on_a_host("", |_| async move {
        let mut stream = TcpStream::connect((OWN, 53)).await.unwrap();
        for id in [1, 2, 3] {
            let message = query(id, "dns-version.cluster.local");
            stream.write_u16(u16::try_from(message.len()).unwrap()).await.unwrap();
            stream.write_all(&message).await.unwrap();
            let mut heard = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard[..2], id.to_be_bytes());
        }
    });
}
