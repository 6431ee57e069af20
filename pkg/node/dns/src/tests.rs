//! What names stand for, and what clients are told of it.

use std::sync::atomic::AtomicBool;

use parking_lot::RwLock;
use serde_json::{Value, json};

use crate::forward::{self, Forwarder};
use crate::object::{Namespaced, Service, ServiceObject, SliceObject};
use crate::respond::{Reply, Responder};
use crate::wire::{self, Code, Query, Transport};
use crate::zone::Zone;

const KINDS: [(&str, u16); 8] = [
    ("A", wire::A),
    ("AAAA", wire::AAAA),
    ("CNAME", wire::CNAME),
    ("NS", wire::NS),
    ("PTR", wire::PTR),
    ("SOA", wire::SOA),
    ("SRV", wire::SRV),
    ("TXT", wire::TXT),
];

fn service(zone: &mut Zone, name: &str, spec: &Value) {
    let object: ServiceObject = serde_json::from_value(json!({"spec": spec})).unwrap();
    zone.set_service(&Namespaced { namespace: "a", name }, Some(Service::from(object)));
}

fn slice(zone: &mut Zone, name: &str, endpoints: &Value) {
    let ports = json!([{"name": "sql", "protocol": "TCP", "port": 5432}]);
    let object = json!({"endpoints": endpoints, "ports": ports});
    let object: SliceObject = serde_json::from_value(object).unwrap();
    zone.set_slice(&Namespaced { namespace: "a", name }, "slice", Some(object.endpoints()));
}

fn zone() -> Zone {
    let ranges = vec![([10, 42, 0, 0].into(), 16), ([10, 43, 0, 0].into(), 16)];
    let mut zone = Zone::new("cluster.local", [10, 43, 0, 10].into(), ranges);
    zone.set_namespace("a", true);
    let port =
        |name: &str, protocol: &str, port: u16| json!({"name": name, "protocol": protocol, "port": port});
    let ports = json!([port("http", "TCP", 80), port("dns", "UDP", 53)]);
    service(
        &mut zone,
        "web",
        &json!({"type": "ClusterIP", "clusterIPs": ["10.43.0.7", "fd43::7"], "ports": ports}),
    );
    let ready = |ip: &str, ready: bool| json!({"addresses": [ip], "conditions": {"ready": ready}});
    slice(&mut zone, "web", &json!([ready("10.42.0.7", true), ready("10.42.0.8", false)]));
    service(&mut zone, "db", &json!({"clusterIP": "None", "clusterIPs": ["None"]}));
    let named = json!({"addresses": ["10.42.0.20"], "hostname": "db-0"});
    slice(&mut zone, "db", &json!([named, {"addresses": ["10.42.0.21"]}, ready("10.42.0.22", false)]));
    service(&mut zone, "idle", &json!({"clusterIP": "None"}));
    service(&mut zone, "out", &json!({"type": "ExternalName", "externalName": "Example.com."}));
    service(&mut zone, "alias", &json!({"type": "ExternalName", "externalName": "web.a.svc.cluster.local"}));
    zone
}

fn responder(zone: Zone) -> Responder {
    let own = [10, 43, 0, 10].into();
    let forwarder = Forwarder::new("/nowhere".into(), own);
    Responder { zone: RwLock::new(zone), is_complete: AtomicBool::new(true), forwarder }
}

fn kind(name: &str) -> u16 {
    KINDS.iter().find(|(known, _)| *known == name).unwrap().1
}

/// An answer as `dig +noall +answer +authority +additional` would say it, without what all have in common.
fn read(answer: &[u8]) -> String {
    let code = match wire::code(answer) {
        code if code == Code::NoError as u8 => "",
        code if code == Code::NoName as u8 => "NXDOMAIN ",
        code if code == Code::ServerFailure as u8 => "SERVFAIL ",
        _ => "error ",
    };
    let [answers, authorities, additional] = wire::counts(answer).unwrap();
    let mut reader = wire::Reader::new(answer, 12);
    reader.name().unwrap();
    reader.bytes(4).unwrap();
    let mut lines = Vec::new();
    for index in 0..answers + authorities + additional {
        let owner = wire::Reader::new(answer, reader.at()).name().unwrap();
        let mut record = reader.record().unwrap();
        let kind = KINDS.iter().find(|(_, kind)| *kind == record.kind).unwrap().0;
        let data = match kind {
            "A" => record.data.bytes(4).unwrap().iter().map(u8::to_string).collect::<Vec<_>>().join("."),
            "AAAA" => {
                let bytes: [u8; 16] = record.data.bytes(16).unwrap().try_into().unwrap();
                std::net::Ipv6Addr::from(bytes).to_string()
            }
            "SRV" => {
                let numbers = [(); 3].map(|()| record.data.u16().unwrap().to_string());
                format!("{} {}", numbers.join(" "), record.data.name().unwrap().as_str())
            }
            "TXT" => String::from_utf8(record.data.bytes(record.data_length).unwrap()[1..].to_vec()).unwrap(),
            _ => record.data.name().unwrap().as_str().to_owned(),
        };
        let section = if index < answers { "" } else { "+ " };
        lines.push(format!("{section}{} {kind} {data}", owner.as_str()));
    }
    code.to_owned() + &lines.join("; ").replace(".svc.cluster.local", ".SVC")
}

/// What a client is told; the number of its query leaves the records in their order.
async fn ask(responder: &Responder, name: &str, kind: u16) -> String {
    let message = forward::question(name, kind).unwrap();
    let mut out = Vec::new();
    if responder.at_once(&message, Transport::Udp, &mut out) == Reply::Later {
        responder.later(&message, Transport::Udp, &mut out).await;
    }
    read(&out)
}

/// Asks for the names, which stand before the type.
async fn check(cases: &[(&str, &str)]) {
    let responder = responder(zone());
    for (question, expected) in cases {
        let (name, of) = question.rsplit_once(' ').unwrap();
        let name = name.replace(".SVC", ".svc.cluster.local");
        let denial = "+ cluster.local SOA ns.dns.cluster.local";
        let expected = expected.replace("NODATA", denial).replace("NXDOMAIN", &format!("NXDOMAIN {denial}"));
        assert_eq!(ask(&responder, &name, kind(of)).await, expected, "{question}");
    }
}

#[tokio::test]
async fn a_service_has_its_addresses_and_ports() {
    check(&[
        ("web.a.SVC A", "web.a.SVC A 10.43.0.7"),
        ("WEB.A.SVC A", "web.a.SVC A 10.43.0.7"),
        ("web.a.SVC AAAA", "web.a.SVC AAAA fd43::7"),
        ("web.a.SVC TXT", "NODATA"),
        (
            "_http._tcp.web.a.SVC SRV",
            "_http._tcp.web.a.SVC SRV 0 100 80 web.a.SVC; + web.a.SVC A 10.43.0.7; + web.a.SVC AAAA fd43::7",
        ),
        ("_http._udp.web.a.SVC SRV", "NXDOMAIN"),
        ("_http._tcp.web.a.SVC A", "NODATA"),
        ("_tcp.web.a.SVC A", "NODATA"),
        ("_sctp.web.a.SVC A", "NXDOMAIN"),
        ("10-42-0-7.web.a.SVC A", "10-42-0-7.web.a.SVC A 10.42.0.7"),
        ("10-42-0-8.web.a.SVC A", "NXDOMAIN"),
    ])
    .await;
}

#[tokio::test]
async fn a_headless_service_has_the_addresses_and_names_of_its_ready_endpoints() {
    check(&[
        ("db.a.SVC A", "db.a.SVC A 10.42.0.20; db.a.SVC A 10.42.0.21"),
        ("db.a.SVC AAAA", "NODATA"),
        ("db-0.db.a.SVC A", "db-0.db.a.SVC A 10.42.0.20"),
        ("10-42-0-20.db.a.SVC A", "NXDOMAIN"),
        ("10-42-0-21.db.a.SVC A", "10-42-0-21.db.a.SVC A 10.42.0.21"),
        (
            "_sql._tcp.db.a.SVC SRV",
            "_sql._tcp.db.a.SVC SRV 0 50 5432 10-42-0-21.db.a.SVC; _sql._tcp.db.a.SVC SRV 0 50 5432 db-0.db.a.SVC; \
             + 10-42-0-21.db.a.SVC A 10.42.0.21; + db-0.db.a.SVC A 10.42.0.20",
        ),
        ("idle.a.SVC A", "NXDOMAIN"),
    ])
    .await;
}

#[tokio::test]
async fn an_external_name_is_an_alias_that_is_followed() {
    check(&[
        ("out.a.SVC CNAME", "out.a.SVC CNAME example.com"),
        ("alias.a.SVC CNAME", "alias.a.SVC CNAME web.a.SVC"),
        ("alias.a.SVC A", "alias.a.SVC CNAME web.a.SVC; web.a.SVC A 10.43.0.7"),
        // Nobody can be asked.
        ("out.a.SVC A", "SERVFAIL "),
        ("x.out.a.SVC A", "NXDOMAIN"),
    ])
    .await;
}

#[tokio::test]
async fn reverse_names_lead_back() {
    check(&[
        ("7.0.43.10.in-addr.arpa PTR", "7.0.43.10.in-addr.arpa PTR web.a.SVC"),
        ("20.0.42.10.in-addr.arpa PTR", "20.0.42.10.in-addr.arpa PTR db-0.db.a.SVC"),
        ("7.0.43.10.in-addr.arpa A", "NODATA"),
        // Nobody else knows the cluster's ranges; what is not of the cluster is asked elsewhere.
        ("99.0.42.10.in-addr.arpa PTR", "NXDOMAIN"),
        ("1.2.0.192.in-addr.arpa PTR", "SERVFAIL "),
        (
            "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.4.d.f.ip6.arpa PTR",
            "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.4.d.f.ip6.arpa PTR web.a.SVC",
        ),
    ])
    .await;
}

#[tokio::test]
async fn what_does_not_exist_is_told_from_what_has_no_records() {
    check(&[
        ("cluster.local A", "NODATA"),
        ("cluster.local NS", "cluster.local NS ns.dns.cluster.local; + ns.dns.cluster.local A 10.43.0.10"),
        ("cluster.local SOA", "cluster.local SOA ns.dns.cluster.local"),
        ("ns.dns.cluster.local A", "ns.dns.cluster.local A 10.43.0.10"),
        ("dns-version.cluster.local TXT", "dns-version.cluster.local TXT 1.1.0"),
        ("svc.cluster.local A", "NODATA"),
        ("a.SVC A", "NODATA"),
        ("b.SVC A", "NXDOMAIN"),
        ("other.a.SVC A", "NXDOMAIN"),
        ("a.b.c.web.a.SVC A", "NXDOMAIN"),
        ("web.cluster.local A", "NXDOMAIN"),
        ("notcluster.local A", "SERVFAIL "),
        ("10-42-0-9.a.pod.cluster.local A", "10-42-0-9.a.pod.cluster.local A 10.42.0.9"),
        ("fd42--9.a.pod.cluster.local AAAA", "fd42--9.a.pod.cluster.local AAAA fd42::9"),
        ("10-42-0-9.a.pod.cluster.local AAAA", "NODATA"),
        ("10-42-0-9.b.pod.cluster.local A", "NXDOMAIN"),
        ("web.a.pod.cluster.local A", "NXDOMAIN"),
    ])
    .await;
}

#[tokio::test]
async fn names_come_and_go_with_their_objects() {
    let mut zone = zone();
    zone.set_service(&Namespaced { namespace: "a", name: "web" }, None);
    zone.set_slice(&Namespaced { namespace: "a", name: "db" }, "slice", None);
    let responder = responder(zone);
    for name in ["web.a.svc.cluster.local", "db-0.db.a.svc.cluster.local"] {
        assert!(ask(&responder, name, wire::A).await.starts_with("NXDOMAIN"), "{name}");
    }
}

#[tokio::test]
async fn nothing_is_denied_before_everything_is_known() {
    let responder = Responder { is_complete: AtomicBool::new(false), ..responder(zone()) };
    assert_eq!(ask(&responder, "other.a.svc.cluster.local", wire::A).await, "SERVFAIL ");
}

/// The query with an OPT record that offers room.
fn with_edns(mut message: Vec<u8>, room: u16) -> Vec<u8> {
    message[11] = 1;
    message.push(0);
    message.extend_from_slice(&wire::OPT.to_be_bytes());
    message.extend_from_slice(&room.to_be_bytes());
    message.extend_from_slice(&[0; 6]);
    message
}

#[test]
fn answers_that_are_too_long_are_cut_and_say_so() {
    let mut zone = zone();
    let endpoints: Vec<Value> = (1..=200).map(|n| json!({"addresses": [format!("10.42.1.{n}")]})).collect();
    slice(&mut zone, "db", &json!(endpoints));
    let responder = responder(zone);
    let message = forward::question("db.a.svc.cluster.local", wire::A).unwrap();
    let check = |message: &[u8], transport: Transport, longest: usize, cut: bool, answers: u16| {
        let mut out = Vec::new();
        responder.at_once(message, transport, &mut out);
        assert!(out.len() <= longest, "{} bytes", out.len());
        assert_eq!((wire::is_truncated(&out), wire::counts(&out).unwrap()[0]), (cut, answers));
    };
    check(&message, Transport::Udp, 512, true, 29);
    check(&with_edns(message.clone(), 4096), Transport::Udp, 1232, true, 73);
    check(&message, Transport::Tcp, 65535, false, 200);
}

#[test]
fn malformed_messages_are_refused_and_never_fatal() {
    let responder = responder(zone());
    let question = forward::question("web.a.svc.cluster.local", wire::A).unwrap();
    let check = |change: &dyn Fn(&mut Vec<u8>), reply: Reply, code: u8| {
        let (mut message, mut out) = (question.clone(), Vec::new());
        change(&mut message);
        assert_eq!(responder.at_once(&message, Transport::Udp, &mut out), reply);
        assert_eq!(wire::code(&out), code, "{message:?}");
    };
    check(&|message| message.truncate(11), Reply::None, 0);
    check(&|message| message[2] |= 0x80, Reply::None, 0);
    check(&|message| message.truncate(20), Reply::Ready, 1);
    check(&|message| message[5] = 2, Reply::Ready, 1);
    check(&|message| message[11] = 1, Reply::Ready, 1);
    // A pointer to itself, and a label of an unknown kind.
    check(&|message| message[12..14].copy_from_slice(&[0xc0, 12]), Reply::Ready, 1);
    check(&|message| message[12] = 0x80, Reply::Ready, 1);
    // Another operation, and another class.
    check(&|message| message[2] |= 0x28, Reply::Ready, 4);
    check(&|message| *message.last_mut().unwrap() = 3, Reply::Ready, 5);
}

#[test]
fn an_answer_is_taken_only_from_who_was_asked() {
    let message = forward::question("example.com", wire::A).unwrap();
    let query = Query::parse(&message).unwrap();
    let mut answer = message.clone();
    answer[2] |= 0x80;
    assert!(wire::answers(&answer, 0, &query));
    assert!(!wire::answers(&answer, 1, &query));
    assert!(!wire::answers(&message, 0, &query));
    let other = forward::question("example.org", wire::A).unwrap();
    assert!(!wire::answers(&other, 0, &query));
}
