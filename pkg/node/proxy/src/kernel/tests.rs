//! Services in the kernel: each test has a host of its own with pods, all of them network namespaces. Needs root.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use edgek_control_runtime::Key;
use edgek_node_network::{Network as _, PodNetworkSpec, RoutedNetwork};
use nlink::netlink::addr::Ipv4Address;
use nlink::netlink::link::VethLink;
use nlink::netlink::route::Ipv4Route;
use nlink::netlink::{Route, namespace};
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use super::*;
use crate::state::State;
use crate::view::{Service, Slice};
use crate::{conntrack, rules};

/// Where a client outside of the cluster is, and where it sees the node.
const CLIENT: &str = "192.0.2.2";
const NODE: &str = "192.0.2.1";

const PLACE: rules::Place<'_> = rules::Place { node: "here", zone: "" };

/// A node whose pods answer with their own address and the one they were asked from.
struct Host {
    folder: tempfile::TempDir,
    network: RoutedNetwork,
    kernel: Kernel,
    state: State,
}

/// Runs `test` on a thread that is alone in a new network namespace.
fn on_a_host<F: Future<Output = ()>>(test: impl FnOnce(Host) -> F + Send + 'static) {
    let host = std::thread::Builder::new().name("host".into()).spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            connect_outside(&folder.path().join("outside")).await;
            test(Host::new(folder).await).await;
        });
    });
    host.unwrap().join().unwrap();
}

/// Makes a client's machine, and a cable between it and the node.
async fn connect_outside(client: &Path) {
    namespace::create_path(client).unwrap();
    let node = Connection::<Route>::new().unwrap();
    let file = std::fs::File::open(client).unwrap();
    node.add_link(VethLink::new("up0", "up0").peer_netns_fd(&file)).await.unwrap();
    let client = Connection::<Route>::new_in(client).unwrap();
    for (machine, address) in [(&node, NODE), (&client, CLIENT)] {
        machine.set_link_up("lo").await.unwrap();
        machine.add_address(Ipv4Address::new("up0", address.parse().unwrap(), 24)).await.unwrap();
        machine.set_link_up("up0").await.unwrap();
    }
}

fn config() -> Config {
    Config {
        node: "here".into(),
        table: "edgek-services".into(),
        cluster: "10.42.0.0/16".parse().unwrap(),
        services: "10.43.0.0/16".parse().unwrap(),
    }
}

impl Host {
    async fn new(folder: tempfile::TempDir) -> Self {
        let network = RoutedNetwork::start(edgek_node_network::Config {
            gateway: "edgek0".into(),
            overlay: "edgek1".into(),
            table: "edgek".into(),
            cluster: config().cluster,
            services: config().services,
            mtu: 1450,
            run_dir: folder.path().join("run"),
            range_file: folder.path().join("pod-cidr"),
        });
        let network = network.await.unwrap();
        network.assign("10.42.0.0/24".parse().unwrap()).await.unwrap();
        let mut host =
            Self { folder, network, kernel: Kernel::open(config()).unwrap(), state: State::default() };
        host.kernel.replace(&host.state.all()).await.unwrap();
        host
    }

    fn outside(&self) -> PathBuf {
        self.folder.path().join("outside")
    }

    /// A pod that answers on port 8080, by TCP and UDP.
    async fn pod(&self, name: &str) -> (PathBuf, IpAddr) {
        let spec = PodNetworkSpec {
            uid: name.into(),
            namespace: "ns".into(),
            name: name.into(),
            host_ports: Vec::new(),
        };
        let status = self.network.setup(&spec).await.unwrap();
        serve(&status.netns, status.ips[0]);
        (status.netns, status.ips[0])
    }

    /// The Service `name` at 10.43.0.7, port 80, with these members in its spec.
    async fn service(&mut self, name: &str, spec: Json, endpoints: &[IpAddr]) {
        let mut service = json!({"spec": {"clusterIP": "10.43.0.7", "ports": [
            {"name": "tcp", "port": 80, "nodePort": 30080},
            {"name": "udp", "protocol": "UDP", "port": 80, "nodePort": 30080},
        ]}});
        for (name, value) in spec.as_object().unwrap() {
            service["spec"][name] = value.clone();
        }
        let endpoints: Vec<Json> =
            endpoints.iter().map(|ip| json!({"addresses": [ip], "nodeName": "here"})).collect();
        let ports = json!([{"name": "tcp", "port": 8080}, {"name": "udp", "protocol": "UDP", "port": 8080}]);
        let slice = json!({"addressType": "IPv4", "endpoints": endpoints, "ports": ports});
        let service: Service = serde_json::from_value(service).unwrap();
        let slice: Slice = serde_json::from_value(slice).unwrap();
        self.set([(name.to_owned(), rules::frontends(&service, &[slice], PLACE))].into()).await;
    }

    fn frontends(&self) -> BTreeMap<rules::Frontend, rules::Backend> {
        self.state.claims.iter().map(|((frontend, _), backend)| (*frontend, backend.clone())).collect()
    }

    async fn set(&mut self, services: BTreeMap<String, BTreeMap<rules::Frontend, rules::Backend>>) {
        let services = services.into_iter().map(|(name, f)| (Key::new("ns", name), f)).collect();
        let change = self.state.set(services);
        self.kernel.apply(&change).await.unwrap();
        conntrack::forget(&change.flows).await.unwrap();
    }
}

/// Runs `f` inside a namespace.
fn inside<T: Send + 'static>(netns: &Path, f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let file = std::fs::File::open(netns).unwrap();
    let thread = std::thread::Builder::new().name("pod".into()).spawn(move || {
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        f()
    });
    thread.unwrap()
}

/// Answers for the rest of the process's life.
fn serve(netns: &Path, own: IpAddr) {
    let (ready, wait) = std::sync::mpsc::sync_channel(1);
    inside(netns, move || {
        let tcp = TcpListener::bind("0.0.0.0:8080").unwrap();
        let udp = UdpSocket::bind("0.0.0.0:8080").unwrap();
        ready.send(()).unwrap();
        let answers = std::thread::Builder::new().name("udp".into()).spawn(move || {
            let mut packet = [0; 16];
            while let Ok((_, peer)) = udp.recv_from(&mut packet) {
                let _ = udp.send_to(format!("{own} {}", peer.ip()).as_bytes(), peer);
            }
        });
        answers.unwrap();
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let answer = format!("{own} {}", stream.peer_addr().unwrap().ip());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    wait.recv().unwrap();
}

/// Who answers at `to`, and whom they saw asking.
fn ask(to: &str) -> Result<(IpAddr, IpAddr), ErrorKind> {
    let to: SocketAddr = to.parse().unwrap();
    let asked = TcpStream::connect_timeout(&to, Duration::from_secs(3));
    let mut stream = asked.map_err(|error| error.kind())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.kind())?;
    let (own, peer) = answer.split_once(' ').unwrap();
    Ok((own.parse().unwrap(), peer.parse().unwrap()))
}

fn ask_from(netns: &Path, to: &'static str) -> Result<(IpAddr, IpAddr), ErrorKind> {
    inside(netns, move || ask(to)).join().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_service_leads_pods_and_the_node_to_all_of_its_endpoints() {
    on_a_host(|mut host| async move {
        let ((netns, a), (_, b)) = (host.pod("a").await, host.pod("b").await);
        host.service("web", json!({}), &[b]).await;
        assert_eq!(ask_from(&netns, "10.43.0.7:80"), Ok((b, a)), "a pod is seen as itself");
        assert_eq!(ask("10.43.0.7:80"), Ok((b, ip("10.42.0.1"))));
        host.service("web", json!({}), &[a, b]).await;
        let answers: BTreeSet<IpAddr> = (0..64).map(|_| ask("10.43.0.7:80").unwrap().0).collect();
        assert_eq!(answers, BTreeSet::from([a, b]));
    });
}

#[test]
fn a_pod_reaches_itself() {
    on_a_host(|mut host| async move {
        let (netns, a) = host.pod("a").await;
        host.service("web", json!({}), &[a]).await;
        assert_eq!(ask_from(&netns, "10.43.0.7:80"), Ok((a, ip(NODE))));
    });
}

#[test]
fn without_endpoints_clients_are_refused_at_once() {
    on_a_host(|mut host| async move {
        let (netns, a) = host.pod("a").await;
        host.service("web", json!({"type": "NodePort", "externalIPs": ["192.0.2.9"]}), &[]).await;
        for to in ["10.43.0.7:80", "10.43.0.7:81", "10.43.0.8:80", "192.0.2.9:80", "192.0.2.1:30080"] {
            assert_eq!(ask(to), Err(ErrorKind::ConnectionRefused), "{to} from the node");
            assert_eq!(ask_from(&netns, to), Err(ErrorKind::ConnectionRefused), "{to} from a pod");
        }
        host.service("web", json!({}), &[a]).await;
        assert_eq!(ask("10.43.0.7:80").map(|answer| answer.0), Ok(a));
        host.set([("web".to_owned(), BTreeMap::new())].into()).await;
        assert_eq!(ask("10.43.0.7:80"), Err(ErrorKind::ConnectionRefused), "the Service is gone");
    });
}

#[test]
fn node_ports_are_open_on_every_address_but_loopbacks() {
    on_a_host(|mut host| async move {
        let (netns, a) = host.pod("a").await;
        host.service("web", json!({"type": "NodePort"}), &[a]).await;
        assert_eq!(ask_from(&host.outside(), "192.0.2.1:30080"), Ok((a, ip(NODE))));
        assert_eq!(ask("192.0.2.1:30080").map(|answer| answer.0), Ok(a));
        assert_eq!(ask_from(&netns, "192.0.2.1:30080").map(|answer| answer.0), Ok(a));
        assert_eq!(ask("127.0.0.1:30080"), Err(ErrorKind::ConnectionRefused));
    });
}

#[test]
fn local_traffic_keeps_its_source_and_local_policy_without_endpoints_drops() {
    on_a_host(|mut host| async move {
        let (netns, a) = host.pod("a").await;
        let local = json!({"type": "NodePort", "externalTrafficPolicy": "Local"});
        host.service("web", local.clone(), &[a]).await;
        assert_eq!(ask_from(&host.outside(), "192.0.2.1:30080"), Ok((a, ip(CLIENT))));
        assert_eq!(ask("192.0.2.1:30080").map(|answer| answer.0), Ok(a));
        // The same endpoint, but on another node: pods and the node go there, others find nothing.
        let mut frontends = BTreeMap::new();
        for (frontend, backend) in host.frontends() {
            let inside = backend.inside.is_some();
            let endpoints = if inside { Vec::new() } else { backend.endpoints.clone() };
            frontends.insert(frontend, rules::Backend { endpoints, elsewhere: inside, ..backend });
        }
        host.set([("web".to_owned(), frontends)].into()).await;
        assert_eq!(ask_from(&netns, "192.0.2.1:30080").map(|answer| answer.0), Ok(a));
        assert_eq!(ask_from(&host.outside(), "192.0.2.1:30080"), Err(ErrorKind::TimedOut));
    });
}

#[test]
fn a_load_balancers_address_is_for_its_source_ranges() {
    on_a_host(|mut host| async move {
        let (_, a) = host.pod("a").await;
        let outside = host.outside();
        let (balancer, node) = (Ipv4Addr::new(198, 51, 100, 1), NODE.parse().unwrap());
        let connection = Connection::<Route>::new().unwrap();
        connection.add_address(Ipv4Address::new("lo", balancer, 32)).await.unwrap();
        let client = Connection::<Route>::new_in(&*outside).unwrap();
        client.add_route(Ipv4Route::from_addr(balancer, 32).gateway(node)).await.unwrap();
        for (ranges, answer) in [
            (vec!["192.0.2.0/24", "203.0.113.0/24"], Ok(a)),
            (vec!["203.0.113.0/24"], Err(ErrorKind::TimedOut)),
            (vec!["0.0.0.0/0"], Ok(a)),
            (vec!["203.0.113.0/24", "192.0.2.2/32"], Ok(a)),
        ] {
            let service = json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.43.0.7",
                "ports": [{"port": 80}], "loadBalancerSourceRanges": ranges},
                "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}}});
            let slice =
                json!({"addressType": "IPv4", "endpoints": [{"addresses": [a]}], "ports": [{"port": 8080}]});
            let service: Service = serde_json::from_value(service).unwrap();
            let slice: Slice = serde_json::from_value(slice).unwrap();
            host.set([("web".to_owned(), rules::frontends(&service, &[slice], PLACE))].into()).await;
            assert_eq!(ask_from(&outside, "198.51.100.1:80").map(|answer| answer.0), answer);
        }
    });
}

#[test]
fn a_client_comes_back_to_its_endpoint_while_it_lasts() {
    on_a_host(|mut host| async move {
        let mut pods = Vec::new();
        for name in ["a", "b", "c"] {
            pods.push(host.pod(name).await.1);
        }
        let sticky = json!({"type": "NodePort", "sessionAffinity": "ClientIP"});
        host.service("web", sticky.clone(), &pods).await;
        for to in ["10.43.0.7:80", "192.0.2.1:30080"] {
            host.service("web", sticky.clone(), &pods).await;
            let first = ask(to).unwrap().0;
            assert!((0..32).all(|_| ask(to).unwrap().0 == first));
            host.kernel = Kernel::open(config()).unwrap();
            host.kernel.replace(&host.state.all()).await.unwrap();
            assert!((0..32).all(|_| ask(to).unwrap().0 == first), "after another start");
            let rest: Vec<IpAddr> = pods.iter().copied().filter(|pod| *pod != first).collect();
            host.service("web", sticky.clone(), &rest).await;
            let second = ask(to).unwrap().0;
            assert_ne!(second, first);
            assert!((0..32).all(|_| ask(to).unwrap().0 == second));
        }
    });
}

#[test]
fn the_memory_of_a_client_ends_with_the_affinitys_time() {
    on_a_host(|mut host| async move {
        let mut pods = Vec::new();
        for name in ["a", "b", "c", "d"] {
            pods.push(host.pod(name).await.1);
        }
        let config = json!({"clientIP": {"timeoutSeconds": 1}});
        let spec = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config});
        host.service("web", spec, &pods).await;
        let first = ask("10.43.0.7:80").unwrap().0;
        let begun = Instant::now();
        // Each try is a second after the one before; one of twenty leads elsewhere but once in ten million runs.
        while begun.elapsed() < Duration::from_secs(25) {
            edgek_base_lifecycle::sleep(Duration::from_millis(1250)).await;
            if ask("10.43.0.7:80").unwrap().0 != first {
                return;
            }
        }
        panic!("the client is still led to {first}");
    });
}

#[test]
fn a_flow_of_udp_leaves_an_endpoint_that_is_gone() {
    on_a_host(|mut host| async move {
        let ((_, a), (_, b)) = (host.pod("a").await, host.pod("b").await);
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        let ask = |to: &str| {
            socket.send_to(b"?", to).unwrap();
            let mut answer = [0; 64];
            let (length, _) = socket.recv_from(&mut answer).unwrap();
            let text = std::str::from_utf8(&answer[..length]).unwrap();
            text.split_once(' ').unwrap().0.parse::<IpAddr>().unwrap()
        };
        host.service("dns", json!({"type": "NodePort"}), &[a]).await;
        assert_eq!([ask("10.43.0.7:80"), ask("192.0.2.1:30080")], [a, a]);
        host.service("dns", json!({"type": "NodePort"}), &[b]).await;
        assert_eq!([ask("10.43.0.7:80"), ask("192.0.2.1:30080")], [b, b]);
    });
}

#[test]
fn a_new_start_replaces_the_table_under_open_connections() {
    on_a_host(|mut host| async move {
        let (_, a) = host.pod("a").await;
        host.service("web", json!({}), &[a]).await;
        let mut open = TcpStream::connect("10.43.0.7:80").unwrap();
        host.kernel = Kernel::open(config()).unwrap();
        host.kernel.replace(&host.state.all()).await.unwrap();
        let mut answer = String::new();
        open.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, format!("{a} 10.42.0.1"));
        assert_eq!(ask("10.43.0.7:80").map(|answer| answer.0), Ok(a));
        remove(&config().table).await.unwrap();
        assert!(Kernel::open(config()).unwrap().connection.list_tables_in(FAMILY).await.unwrap().len() == 1);
    });
}

#[test]
fn a_thousand_services_are_written_at_once_and_changed_in_milliseconds() {
    on_a_host(|mut host| async move {
        let service = |number: u32, endpoints: u32| {
            let service = json!({"spec": {"type": "NodePort", "sessionAffinity": "ClientIP",
                "clusterIP": Ipv4Addr::from(0x0a2b_1000 + number),
                "ports": [{"port": 80, "nodePort": 30000 + number}]}});
            let endpoints: Vec<Json> = (0..endpoints)
                .map(|e| json!({"addresses": [Ipv4Addr::from(0x0a2a_0000 + number * 8 + e)]}))
                .collect();
            let slice = json!({"addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 8080}]});
            let service: Service = serde_json::from_value(service).unwrap();
            let slice: Slice = serde_json::from_value(slice).unwrap();
            (format!("s{number}"), rules::frontends(&service, &[slice], PLACE))
        };
        let begun = Instant::now();
        host.set((0..1000).map(|number| service(number, 4)).collect()).await;
        let all = begun.elapsed();
        let begun = Instant::now();
        for number in 0..100 {
            host.set([service(number, 3)].into()).await;
        }
        let one = begun.elapsed() / 100;
        assert!(all < Duration::from_secs(5) && one < Duration::from_millis(50), "{all:?}, {one:?}");
    });
}
