//! Every image: its names, its layers and how a container of it starts. The names are those that `e2e.test
//! --list-images` prints; what the layers hold is in [`super::layers`].

use super::oci::Config;

/// One image.
pub(super) struct Image {
    /// Its archive's name.
    pub(super) name: &'static str,
    /// The names it goes by.
    pub(super) names: &'static [&'static str],
    /// What it is made of, lowest first, by the names in [`super::layers`].
    pub(super) layers: &'static [&'static str],
    /// How a container starts.
    pub(super) config: Config,
    /// Who needs it.
    pub(super) used: Use,
}

/// Who needs an image.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// System tests and the suite.
    Tests,
    /// The suite alone.
    Suite,
}

const AGNHOST_PORTS: &[&str] = &["80/tcp", "8080/tcp", "8081/tcp", "9376/tcp", "5000/tcp"];
const AGNHOST: Config =
    Config { entrypoint: &["/agnhost"], command: &["pause"], user: "", ports: AGNHOST_PORTS };
const WEBSERVER: Config = Config { command: &["test-webserver"], ..AGNHOST };
const SHELL: Config = Config { entrypoint: &[], command: &["sh"], user: "", ports: &[] };

/// A later image takes a name over from an earlier one.
pub(super) const IMAGES: &[Image] = &[
    Image {
        name: "busybox",
        names: &[
            "registry.k8s.io/e2e-test-images/busybox:1.37.0-2",
            "docker.io/library/busybox:latest",
            "docker.io/library/busybox:stable",
        ],
        layers: &["busybox"],
        config: SHELL,
        used: Use::Tests,
    },
    // The system tests get by without dig, curl and the like, which triple its size.
    Image {
        name: "agnhost",
        names: &[
            "registry.k8s.io/e2e-test-images/agnhost:2.66.1",
            "registry.k8s.io/e2e-test-images/agnhost:2.55",
        ],
        layers: &["busybox", "agnhost"],
        config: AGNHOST,
        used: Use::Tests,
    },
    Image {
        name: "pause",
        names: &["registry.k8s.io/pause:3.10.2"],
        layers: &["pause"],
        config: Config { entrypoint: &["/pause"], command: &[], user: "65535:65535", ports: &[] },
        used: Use::Tests,
    },
    Image {
        name: "agnhost-with-tools",
        names: &["registry.k8s.io/e2e-test-images/agnhost:2.66.1"],
        layers: &["tools", "agnhost"],
        config: AGNHOST,
        used: Use::Suite,
    },
    Image {
        name: "glibc-dns-testing",
        names: &["registry.k8s.io/e2e-test-images/glibc-dns-testing:2.1.1"],
        layers: &["tools"],
        config: SHELL,
        used: Use::Suite,
    },
    Image {
        name: "ipc-utils",
        names: &["registry.k8s.io/e2e-test-images/ipc-utils:1.4"],
        layers: &["tools"],
        config: SHELL,
        used: Use::Suite,
    },
    Image {
        name: "kitten",
        names: &["registry.k8s.io/e2e-test-images/kitten:1.8"],
        layers: &["tools", "agnhost", "kitten"],
        config: WEBSERVER,
        used: Use::Suite,
    },
    Image {
        name: "nautilus",
        names: &["registry.k8s.io/e2e-test-images/nautilus:1.8"],
        layers: &["tools", "agnhost", "nautilus"],
        config: WEBSERVER,
        used: Use::Suite,
    },
    Image {
        name: "nonewprivs",
        names: &["registry.k8s.io/e2e-test-images/nonewprivs:1.4"],
        layers: &["busybox", "nonewprivs"],
        config: Config { command: &["nnp"], ..SHELL },
        used: Use::Suite,
    },
    Image {
        name: "nonroot",
        names: &["registry.k8s.io/e2e-test-images/nonroot:1.5"],
        layers: &["busybox"],
        config: Config { user: "1234", ..SHELL },
        used: Use::Suite,
    },
    Image {
        name: "nginx",
        names: &[
            "registry.k8s.io/e2e-test-images/nginx:1.27.0-2",
            "registry.k8s.io/e2e-test-images/nginx:1.28.0-2",
        ],
        layers: &["nginx"],
        config: Config { command: &["nginx", "-g", "daemon off;"], ports: &["80/tcp"], ..SHELL },
        used: Use::Suite,
    },
    Image {
        name: "perl",
        names: &["registry.k8s.io/e2e-test-images/perl:5.26"],
        layers: &["perl"],
        config: SHELL,
        used: Use::Suite,
    },
    Image {
        name: "resource-consumer",
        names: &["registry.k8s.io/e2e-test-images/resource-consumer:1.14"],
        layers: &["resource-consumer"],
        config: Config { entrypoint: &["/consumer"], command: &[], ports: &["8080/tcp"], user: "" },
        used: Use::Suite,
    },
    Image {
        name: "regression-issue-74839",
        names: &["registry.k8s.io/e2e-test-images/regression-issue-74839:1.5"],
        layers: &["busybox", "regression-issue-74839"],
        config: Config { entrypoint: &["/regression-issue-74839"], command: &[], ..SHELL },
        used: Use::Suite,
    },
    Image {
        name: "sample-apiserver",
        names: &["registry.k8s.io/e2e-test-images/sample-apiserver:1.29.2"],
        layers: &["busybox", "sample-apiserver"],
        config: Config { entrypoint: &["/sample-apiserver"], command: &[], ..SHELL },
        used: Use::Suite,
    },
    Image {
        name: "etcd",
        names: &["registry.k8s.io/etcd:3.7.0-0"],
        layers: &["busybox", "etcd"],
        config: Config { entrypoint: &["/usr/local/bin/etcd"], command: &[], ..SHELL },
        used: Use::Suite,
    },
    // The suite as a pod, for sonobuoy and its like.
    Image {
        name: "conformance",
        names: &["registry.k8s.io/conformance:v1.37.0"],
        layers: &["tools", "conformance"],
        config: Config { entrypoint: &["/usr/local/bin/kubeconformance"], command: &[], ..SHELL },
        used: Use::Suite,
    },
];
