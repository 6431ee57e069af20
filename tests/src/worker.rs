//! Workers: further machines on the network of a [`Host`], which join its cluster.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Host, Role, run};

static LINKS: AtomicU32 = AtomicU32::new(0);

/// How a worker is started.
pub(super) struct Agent {
    name: String,
    server: String,
    token: String,
    /// Its end of the network, in the namespace of the switch.
    cable: (String, String),
}

impl Agent {
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["run".to_owned(), "agent".to_owned()];
        arguments.extend([
            format!("--node-name={}", self.name),
            format!("--server={}", self.server),
            format!("--token={}", self.token),
        ]);
        arguments
    }
}

impl Host {
    /// The token with which others join this server.
    pub fn token(&self) -> String {
        let path = self.data_dir().join("server/node-token");
        std::fs::read_to_string(path).expect("the server's token").trim().to_owned()
    }

    /// Another machine on this one's network, that is to join the cluster of this server as node `name`. Nothing runs on
    /// it yet.
    pub fn worker(&self, name: &str) -> Self {
        let mut worker = Self::without_network("edgek");
        let link = LINKS.fetch_add(1, Ordering::Relaxed);
        let (switch, port) = (self.switch(), format!("port{link}"));
        self.make_switch();
        let arguments =
            ["-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "lan0", "netns"];
        run("ip", &[&arguments[..], &[&worker.namespace]].concat());
        run("ip", &["-n", &switch, "link", "set", &port, "master", "switch", "up"]);
        // The server's machine is 192.0.2.10.
        let address = format!("192.0.2.{}/24", 11 + link % 200);
        let there = worker.namespace.as_str();
        run("ip", &["-n", there, "address", "add", &address, "dev", "lan0"]);
        run("ip", &["-n", there, "link", "set", "lan0", "up"]);
        run("ip", &["-n", there, "route", "add", "default", "via", "192.0.2.1"]);
        worker.role = Role::Agent(Agent {
            name: name.to_owned(),
            server: "https://192.0.2.10:6443".to_owned(),
            token: self.token(),
            cable: (switch, port),
        });
        worker
    }

    /// A worker whose node is Ready.
    pub fn join(&self, name: &str) -> Self {
        let mut worker = self.worker(name);
        worker.launch(&[]);
        self.await_node(name, &worker);
        worker
    }

    /// Waits until the node of a worker is Ready.
    pub fn await_node(&self, name: &str, worker: &Self) {
        worker.eventually(&format!("node {name} is Ready"), || {
            worker.check_server();
            let ready = r"jsonpath={.status.conditions[?(@.type=='Ready')].status}";
            self.try_kubectl(&["get", "node", name, "-o", ready]).is_ok_and(|status| status == "True")
        });
    }

    /// What edgek on a worker is given for `--server` and `--token` from its next start on.
    pub fn direct(&mut self, server: &str, token: &str) {
        let Role::Agent(agent) = &mut self.role else { panic!("this is no worker") };
        (agent.server, agent.token) = (server.to_owned(), token.to_owned());
    }

    /// Pulls a worker's cable, or plugs it in again.
    pub fn connected(&self, is: bool) {
        let Role::Agent(Agent { cable: (namespace, port), .. }) = &self.role else {
            panic!("this is no worker")
        };
        run("ip", &["-n", namespace, "link", "set", port, if is { "up" } else { "down" }]);
    }

    /// The namespace of the switch to which this machine and its workers are connected.
    pub(super) fn switch(&self) -> String {
        format!("{}-switch", self.namespace)
    }

    /// Makes the switch: a bridge in a namespace of its own, whose packets are not this machine's, with the other end of
    /// this machine's cable.
    fn make_switch(&self) {
        let (here, there) = (self.namespace.as_str(), self.switch());
        if Path::new("/run/netns").join(&there).exists() {
            return;
        }
        run("ip", &["netns", "add", &there]);
        run("ip", &["-n", here, "link", "set", "lan1", "netns", &there]);
        run("ip", &["-n", &there, "link", "add", "switch", "type", "bridge"]);
        run("ip", &["-n", &there, "link", "set", "lan1", "master", "switch", "up"]);
        run("ip", &["-n", &there, "link", "set", "switch", "up"]);
    }
}
