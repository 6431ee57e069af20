//! The built-in network in the kernel: each test has a host of its own, a network namespace. Needs root.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use edgek_node_network::{
    Config, Error, HostPort, Network, Peer, PodNetworkSpec, Protocol, Range, RoutedNetwork, host,
};

/// Runs `test` on a thread that is alone in a new network namespace.
fn on_a_host<F: Future<Output = ()>>(test: impl FnOnce(Config) -> F + Send + 'static) {
    let host = std::thread::Builder::new().name("host".into()).spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        sh("ip link set lo up");
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            gateway: "edgek0".into(),
            table: "edgek".into(),
            overlay: "edgek1".into(),
            cluster: range("10.42.0.0/16"),
            services: range("10.43.0.0/16"),
            mtu: 1450,
            run_dir: folder.path().to_owned(),
            range_file: folder.path().join("pod-cidr"),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            test(config.clone()).await;
            for uid in RoutedNetwork::start(config.clone()).await.unwrap().pods() {
                RoutedNetwork::start(config.clone()).await.unwrap().teardown(&uid).await.unwrap();
            }
        });
    });
    host.unwrap().join().unwrap();
}

fn range(text: &str) -> Range {
    text.parse().unwrap()
}

/// The network of a node whose pods have the addresses 10.42.0.*.
async fn started(config: Config) -> RoutedNetwork {
    let network = RoutedNetwork::start(config).await.unwrap();
    network.assign(range("10.42.0.0/24")).await.unwrap();
    network
}

fn sh(script: &str) {
    assert!(std::process::Command::new("sh").args(["-ec", script]).status().unwrap().success(), "{script}");
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
        let network = started(config).await;
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
fn a_node_without_a_range_has_no_pods_and_one_that_had_a_range_keeps_it() {
    on_a_host(|config| async {
        let network = RoutedNetwork::start(config.clone()).await.unwrap();
        assert!(!*network.ready().borrow());
        let refused = network.setup(&pod("a", vec![])).await.unwrap_err();
        assert!(matches!(refused, Error::NoRange), "{refused}");
        network.assign(range("10.42.7.0/24")).await.unwrap();
        assert!(*network.ready().borrow());
        let network = RoutedNetwork::start(config).await.unwrap();
        let pod = network.setup(&pod("a", vec![])).await.unwrap();
        assert_eq!(pod.ips, ["10.42.7.2".parse::<IpAddr>().unwrap()]);
    });
}

#[test]
fn addresses_run_out_and_are_free_again_when_their_pods_are_gone() {
    on_a_host(|config| async {
        let network = RoutedNetwork::start(config).await.unwrap();
        network.assign(range("10.42.0.0/30")).await.unwrap();
        network.setup(&pod("a", vec![])).await.unwrap();
        let refused = network.setup(&pod("b", vec![])).await.unwrap_err();
        assert!(matches!(refused, Error::Exhausted(_)), "{refused}");
        network.teardown("a").await.unwrap();
        network.setup(&pod("b", vec![])).await.unwrap();
    });
}

#[test]
fn pods_of_two_nodes_reach_each_other_without_another_address_in_between() {
    on_a_host(|config| async {
        let other = config.run_dir.join("other");
        nlink::netlink::namespace::create_path(&other).unwrap();
        sh(&format!(
            "ip link add up0 type veth peer name up0 netns {0}
            ip address add 192.0.2.1/24 dev up0 && ip link set up0 up
            nsenter --net={0} sh -ec 'ip link set lo up
                ip address add 192.0.2.2/24 dev up0 && ip link set up0 up'",
            other.display()
        ));
        let network = started(config.clone()).await;
        let peer = |range: &str, address: &str| Peer {
            range: range.parse().unwrap(),
            address: address.parse().unwrap(),
        };
        let peers = [peer("10.42.1.0/24", "192.0.2.2")].into();
        network.set_peers(&peers).await.unwrap();
        let a = network.setup(&pod("a", vec![])).await.unwrap();
        let (stop, stopped) = std::sync::mpsc::sync_channel::<()>(1);
        let (ready, wait) = std::sync::mpsc::sync_channel(1);
        let far = Config {
            run_dir: config.run_dir.join("far"),
            range_file: config.run_dir.join("far-cidr"),
            ..config
        };
        let second = inside(&other, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let network = RoutedNetwork::start(far).await.unwrap();
                network.assign(range("10.42.1.0/24")).await.unwrap();
                network.set_peers(&[peer("10.42.0.0/24", "192.0.2.1")].into()).await.unwrap();
                let b = network.setup(&pod("b", vec![])).await.unwrap();
                let servers = [serve_once(&b.netns, 8080), serve_once(&b.netns, 8081)];
                ready.send(b.ips[0]).unwrap();
                servers.into_iter().for_each(|server| server.join().unwrap());
                stopped.recv().unwrap();
                network.teardown("b").await.unwrap();
            });
        });
        let to = wait.recv().unwrap();
        assert_eq!(inside(&a.netns, move || ask(to, 8080)).join().unwrap(), a.ips[0].to_string());
        assert_eq!(ask(to, 8081), "10.42.0.1");
        network.set_peers(&BTreeSet::new()).await.unwrap();
        let gone =
            TcpStream::connect_timeout(&SocketAddr::new(to, 8082), Duration::from_secs(5)).unwrap_err();
        assert_eq!(gone.kind(), std::io::ErrorKind::HostUnreachable);
        stop.send(()).unwrap();
        second.join().unwrap();
    });
}

#[test]
fn this_kernel_has_all_that_is_needed_and_asking_leaves_nothing() {
    on_a_host(|_| async {
        assert_eq!(edgek_node_network::features::missing().await.unwrap(), Vec::<&str>::new());
        let tables = std::process::Command::new("nft").args(["list", "tables"]).output().unwrap();
        assert_eq!(tables.stdout, b"");
    });
}

#[test]
fn a_host_port_leads_to_its_pod_until_the_pod_is_torn_down() {
    on_a_host(|config| async {
        let network = started(config).await;
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
        let network = started(config).await;
        // The interface of a pod with a host port takes packets from and for loopback.
        let pod = network.setup(&pod("a", vec![host_port(18080, 80)])).await.unwrap();
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
        let before = started(config.clone()).await.setup(&pod("a", vec![])).await.unwrap();
        let network = RoutedNetwork::start(config.clone()).await.unwrap();
        assert_eq!(network.status("a"), Some(before.clone()));
        assert_eq!(network.setup(&pod("a", vec![])).await.unwrap(), before);
        assert_ne!(network.setup(&pod("b", vec![])).await.unwrap().ips, before.ips);
        drop(network);
        RoutedNetwork::remove(&config).await.unwrap();
        assert!(!before.netns.exists());
        let left = std::process::Command::new("ip").args(["-o", "link"]).output().unwrap();
        let left = String::from_utf8(left.stdout).unwrap();
        assert!(!left.contains("edgek") && !left.contains("veth"), "{left}");
        let routes = std::process::Command::new("ip").args(["route"]).output().unwrap();
        assert_eq!(String::from_utf8(routes.stdout).unwrap(), "");
    });
}

#[test]
fn an_address_of_every_node_is_reached_by_pods_and_is_not_taken_for_the_nodes_own() {
    on_a_host(|config| async move {
        let network = started(config).await;
        let pod = network.setup(&pod("a", vec![])).await.unwrap();
        let before = host::address().await.unwrap();
        let shared = Ipv4Addr::new(10, 43, 0, 10);
        // Also when it is there.
        for _ in 0..2 {
            host::own(shared).await.unwrap();
        }
        assert_eq!(host::address().await.unwrap(), before);
        let listener = TcpListener::bind((shared, 53)).unwrap();
        let client = inside(&pod.netns, move || ask(shared.into(), 53));
        let (mut stream, peer) = listener.accept().unwrap();
        stream.write_all(peer.ip().to_string().as_bytes()).unwrap();
        drop(stream);
        assert_eq!(client.join().unwrap(), pod.ips[0].to_string());
        for _ in 0..2 {
            host::disown(shared).await.unwrap();
        }
        assert!(TcpListener::bind((shared, 53)).is_err());
    });
}
