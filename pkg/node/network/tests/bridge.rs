//! The built-in network in the kernel: each test has a host of its own, a network namespace. Needs root.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use edgek_node_network::{BridgeNetwork, Config, Error, HostPort, Network, PodNetworkSpec, Protocol, Range};

/// Runs `test` on a thread that is alone in a new network namespace.
fn on_a_host<F: Future<Output = ()>>(test: impl FnOnce(Config) -> F + Send + 'static) {
    let host = std::thread::Builder::new().name("host".into()).spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        assert!(
            std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success()
        );
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            bridge: "edgek0".into(),
            table: "edgek".into(),
            cluster: Range { network: Ipv4Addr::new(10, 42, 0, 0), prefix: 16 },
            node: Range { network: Ipv4Addr::new(10, 42, 0, 0), prefix: 24 },
            run_dir: folder.path().to_owned(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            test(config.clone()).await;
            for uid in BridgeNetwork::start(config.clone()).await.unwrap().pods() {
                BridgeNetwork::start(config.clone()).await.unwrap().teardown(&uid).await.unwrap();
            }
        });
    });
    host.unwrap().join().unwrap();
}

fn pod(uid: &str, host_ports: Vec<HostPort>) -> PodNetworkSpec {
    PodNetworkSpec { uid: uid.into(), namespace: "ns".into(), name: uid.into(), host_ports }
}

fn host_port(host_port: u16, container_port: u16) -> HostPort {
    HostPort { protocol: Protocol::Tcp, host_ip: None, host_port, container_port }
}

/// Runs `f` inside a pod's namespace.
fn inside<T: Send + 'static>(
    netns: &Path,
    f: impl FnOnce() -> T + Send + 'static,
) -> std::thread::JoinHandle<T> {
    let file = std::fs::File::open(netns).unwrap();
    let thread = std::thread::Builder::new().name("pod".into()).spawn(move || {
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        f()
    });
    thread.unwrap()
}

/// Answers one connection with the address of who asked.
fn serve_once(netns: &Path, port: u16) -> std::thread::JoinHandle<()> {
    let (ready, wait) = std::sync::mpsc::sync_channel(1);
    let server = inside(netns, move || {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        ready.send(()).unwrap();
        let (mut stream, peer) = listener.accept().unwrap();
        stream.write_all(peer.ip().to_string().as_bytes()).unwrap();
    });
    wait.recv().unwrap();
    server
}

fn ask(address: IpAddr, port: u16) -> String {
    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::new(address, port), Duration::from_secs(5)).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn pods_reach_each_other_and_the_node_reaches_them() {
    on_a_host(|config| async {
        let network = BridgeNetwork::start(config).await.unwrap();
        let a = network.setup(&pod("a", vec![])).await.unwrap();
        let b = network.setup(&pod("b", vec![])).await.unwrap();
        assert_eq!(a.ips, ["10.42.0.2".parse::<IpAddr>().unwrap()]);
        let server = serve_once(&b.netns, 8080);
        let to = b.ips[0];
        assert_eq!(inside(&a.netns, move || ask(to, 8080)).join().unwrap(), a.ips[0].to_string());
        server.join().unwrap();
        let server = serve_once(&b.netns, 8080);
        assert_eq!(ask(to, 8080), "10.42.0.1");
        server.join().unwrap();
    });
}

#[test]
fn a_host_port_leads_to_its_pod_until_the_pod_is_torn_down() {
    on_a_host(|config| async {
        let network = BridgeNetwork::start(config).await.unwrap();
        let a = network.setup(&pod("a", vec![host_port(18080, 80)])).await.unwrap();
        for address in ["10.42.0.1", "127.0.0.1"] {
            let server = serve_once(&a.netns, 80);
            ask(address.parse().unwrap(), 18080);
            server.join().unwrap();
        }
        let taken = network.setup(&pod("b", vec![host_port(18080, 81)])).await.unwrap_err();
        assert!(matches!(taken, Error::PortTaken { port: 18080, .. }), "{taken}");
        network.teardown("a").await.unwrap();
        let gone = TcpStream::connect_timeout(&"10.42.0.1:18080".parse().unwrap(), Duration::from_secs(5));
        assert_eq!(gone.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        network.setup(&pod("b", vec![host_port(18080, 81)])).await.unwrap();
    });
}

#[test]
fn a_pod_cannot_reach_what_listens_on_the_nodes_loopback() {
    on_a_host(|config| async {
        let network = BridgeNetwork::start(config).await.unwrap();
        let pod = network.setup(&pod("a", vec![])).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        // A privileged pod can send packets for 127.0.0.1 to the node.
        let script = "echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
            ip address delete 127.0.0.1/8 dev lo && ip route add 127.0.0.1 via 10.42.0.1 src 10.42.0.2";
        let netns = format!("--net={}", pod.netns.display());
        let led = std::process::Command::new("nsenter").args([&netns, "sh", "-ec", script]).status();
        assert!(led.unwrap().success());
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let asked = inside(&pod.netns, move || TcpStream::connect_timeout(&to, Duration::from_millis(500)));
        assert_eq!(asked.join().unwrap().unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    });
}

#[test]
fn a_restart_adopts_the_pods_and_a_removal_leaves_nothing() {
    on_a_host(|config| async move {
        let before =
            BridgeNetwork::start(config.clone()).await.unwrap().setup(&pod("a", vec![])).await.unwrap();
        let network = BridgeNetwork::start(config.clone()).await.unwrap();
        assert_eq!(network.status("a"), Some(before.clone()));
        assert_eq!(network.setup(&pod("a", vec![])).await.unwrap(), before);
        assert_ne!(network.setup(&pod("b", vec![])).await.unwrap().ips, before.ips);
        drop(network);
        BridgeNetwork::remove(&config).await.unwrap();
        assert!(!before.netns.exists());
        let left = std::process::Command::new("ip").args(["-o", "link"]).output().unwrap();
        let left = String::from_utf8(left.stdout).unwrap();
        assert!(!left.contains("edgek0") && !left.contains("veth"), "{left}");
    });
}
