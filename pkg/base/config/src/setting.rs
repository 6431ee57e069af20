//! The schema: every setting's name, shape, default and help.

/// What a setting accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One value.
    One,
    /// Any number of values; in a file a YAML list or one value, in a variable separated by commas.
    Many,
    /// Present or absent; in a file and a variable `true` or `false`.
    Switch,
}

/// Whose setting it is. Files may hold those of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Of servers and agents.
    Both,
    /// Only of `edgek run server`.
    Server,
    /// Only of `edgek run agent`.
    Agent,
}

/// One setting, named alike everywhere: `--data-dir`, `EDGEK_DATA_DIR`, `data-dir:`.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The name in flags and files.
    pub name: &'static str,
    /// A one-letter flag.
    pub short: Option<char>,
    /// What it accepts.
    pub shape: Shape,
    /// Whose it is.
    pub role: Role,
    /// The default in text; empty when the default is found out at run time or there is none.
    pub default: &'static str,
    /// What the value looks like, for `--help`.
    pub value: &'static str,
    /// What it does, for `--help`.
    pub help: &'static str,
}

impl Setting {
    /// The environment variable's name.
    pub fn variable(&self) -> String {
        format!("EDGEK_{}", self.name.to_uppercase().replace('-', "_"))
    }

    /// The setting of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.name == name)
    }
}

const fn one(name: &'static str, value: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { name, short: None, shape: Shape::One, role: Role::Both, default, value, help }
}

const fn many(name: &'static str, value: &'static str, help: &'static str) -> Setting {
    Setting { name, short: None, shape: Shape::Many, role: Role::Both, default: "", value, help }
}

/// A setting of servers only.
const fn server(setting: Setting) -> Setting {
    Setting { role: Role::Server, ..setting }
}

/// A setting of agents only.
const fn agent(setting: Setting) -> Setting {
    Setting { role: Role::Agent, ..setting }
}

/// All settings of `edgek run server` and `edgek run agent`, in the order of `--help`. Names and defaults follow K3s where it has them.
pub static SETTINGS: &[Setting] = &[
    Setting { short: Some('d'), ..one("data-dir", "PATH", "/var/lib/edgek", "Folder of all state") },
    one("run-dir", "PATH", "/run/edgek", "Folder of sockets and other state that ends with a reboot"),
    one("node-name", "NAME", "", "Name of this node [default: the host name]"),
    one(
        "node-ip",
        "ADDRESS",
        "",
        "Address of this node [default: that of the default route, else of the first interface]",
    ),
    agent(Setting {
        short: Some('s'),
        ..one("server", "URL", "", "Server of the cluster to join: https://HOST[:6443]")
    }),
    agent(Setting {
        short: Some('t'),
        ..one("token", "TOKEN", "", "Token to join with; the server has one in <data-dir>/server/node-token")
    }),
    agent(one("token-file", "PATH", "", "File that holds the token")),
    many("node-label", "KEY=VALUE", "Label to register the node with"),
    many("node-taint", "KEY=VALUE:EFFECT", "Taint to register the node with"),
    one("bind-address", "ADDRESS", "0.0.0.0", "Address the API listens on"),
    server(one("https-listen-port", "PORT", "6443", "Port the API listens on")),
    server(one("cluster-cidr", "RANGE", "10.42.0.0/16", "Addresses of pods")),
    server(one(
        "node-cidr-mask-size",
        "BITS",
        "24",
        "Leading bits that the addresses of one node's pods share",
    )),
    server(one("service-cidr", "RANGE", "10.43.0.0/16", "Addresses of services")),
    server(one(
        "cluster-dns",
        "ADDRESS",
        "",
        "Address of the cluster's DNS [default: the tenth of --service-cidr]",
    )),
    server(one("cluster-domain", "DOMAIN", "cluster.local", "DNS domain of the cluster")),
    server(one("service-node-port-range", "FIRST-LAST", "30000-32767", "Ports of NodePort services")),
    Setting {
        short: Some('o'),
        role: Role::Server,
        ..one(
            "write-kubeconfig",
            "PATH",
            "/etc/edgek/edgek.yaml",
            "Where the administrator's kubeconfig is written",
        )
    },
    server(one("write-kubeconfig-mode", "MODE", "600", "Permission bits of that kubeconfig")),
    server(many("tls-san", "NAME", "Further host name or address for the API's certificate")),
    many("disable", "COMPONENT", "Part not to start: scheduler, controllers, service-proxy, dns, node"),
    one(
        "private-registry",
        "PATH",
        "/etc/edgek/registries.yaml",
        "Mirrors, credentials and TLS of image registries",
    ),
    one(
        "resolv-conf",
        "PATH",
        "/etc/resolv.conf",
        "Resolver configuration handed to pods with dnsPolicy Default",
    ),
    one("cgroup-root", "PATH", "/", "Cgroup in which the pods' cgroup, kubepods, is made"),
    one("pod-logs-dir", "PATH", "/var/log/pods", "Folder of the pods' logs"),
    many(
        "kubelet-arg",
        "KEY=VALUE",
        "Kubelet setting: max-pods, container-log-max-size, container-log-max-files, eviction-hard, image-gc-high-threshold, image-gc-low-threshold",
    ),
    one("log-format", "FORMAT", "auto", "text, json, or auto (text without times under journald)"),
    one(
        "log-level",
        "FILTER",
        "info",
        "error, warn, info, debug or trace, also by crate: info,edgek_node_kubelet=debug",
    ),
    Setting { shape: Shape::Switch, ..one("debug", "", "false", "Same as --log-level debug") },
];
