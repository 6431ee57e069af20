//! Tests of `spec`.

use super::*;
use crate::{Capabilities, PodRef, Seccomp};

fn host() -> Host {
    let capabilities = DEFAULT_CAPABILITIES.iter().chain(&["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]);
    Host {
        name: "node-1".to_owned(),
        capabilities: capabilities.map(ToString::to_string).collect(),
        min_oom_score_adj: 0,
        unified_cgroup: true,
        has_mqueue: true,
    }
}

fn image() -> ImageConfig {
    let json = r#"{"Env": ["PATH=/bin", "A=image"], "Entrypoint": ["/entry"], "Cmd": ["cmd"], "WorkingDir": "/work"}"#;
    serde_json::from_str(json).unwrap()
}

fn spec() -> ContainerSpec {
    let pod = PodRef { uid: "uid-1".to_owned(), namespace: "default".to_owned(), name: "web".to_owned() };
    let mut spec = ContainerSpec::new(pod, "main", "busybox");
    spec.id = "id-1".into();
    spec.cgroup_parent = "/kubepods/poduid-1".to_owned();
    spec.network = NetworkNamespace::Path("/run/netns/web".into());
    spec
}

fn joined() -> Joined {
    Joined { ipc: Some("/run/ipc".into()), shm: "/run/shm".into(), pid: Pid::New }
}

fn built(spec: &ContainerSpec) -> Value {
    let input = Input { spec, image: &image(), user: &User::default(), joined: &joined(), host: &host() };
    build(&input).unwrap()
}

#[test]
fn a_plain_container_is_like_one_of_an_upstream_node() {
    let mut spec = spec();
    spec.oom_score_adj = -997;
    spec.resources = Resources { cpu_shares: Some(102), memory_limit: Some(1 << 20), ..Resources::default() };
    let mut built = built(&spec);
    // Shown by their own tests, and long.
    built["mounts"].take();
    built["linux"]["maskedPaths"].take();
    built["process"]["capabilities"].take();
    expect_test::expect![[r#"
        {
          "annotations": {
            "io.containerd.runc.v2.group": "uid-1"
          },
          "hostname": "web",
          "linux": {
            "cgroupsPath": "/kubepods/poduid-1/id-1",
            "devices": [],
            "maskedPaths": null,
            "namespaces": [
              {
                "type": "mount"
              },
              {
                "path": "/run/netns/web",
                "type": "network"
              },
              {
                "type": "uts"
              },
              {
                "path": "/run/ipc",
                "type": "ipc"
              },
              {
                "type": "pid"
              },
              {
                "type": "cgroup"
              }
            ],
            "readonlyPaths": [
              "/proc/bus",
              "/proc/fs",
              "/proc/irq",
              "/proc/sys",
              "/proc/sysrq-trigger"
            ],
            "resources": {
              "cpu": {
                "shares": 102
              },
              "devices": [
                {
                  "access": "rwm",
                  "allow": false
                }
              ],
              "memory": {
                "limit": 1048576
              }
            },
            "sysctl": {
              "net.ipv4.ip_unprivileged_port_start": "0",
              "net.ipv4.ping_group_range": "0 2147483647"
            }
          },
          "mounts": null,
          "ociVersion": "1.2.0",
          "process": {
            "args": [
              "/entry",
              "cmd"
            ],
            "capabilities": null,
            "cwd": "/work",
            "env": [
              "PATH=/bin",
              "HOSTNAME=web",
              "A=image"
            ],
            "noNewPrivileges": false,
            "oomScoreAdj": 0,
            "terminal": false,
            "user": {
              "additionalGids": [],
              "gid": 0,
              "uid": 0
            }
          },
          "root": {
            "path": "rootfs",
            "readonly": false
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&built).unwrap());
}

#[test]
fn commands_and_arguments_replace_the_images() {
    let check = |command: &[&str], args: &[&str], expected: &[&str]| {
        let owned = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let spec = ContainerSpec { command: owned(command), args: owned(args), ..spec() };
        assert_eq!(self::args(&spec, &image()).unwrap(), expected);
    };
    check(&[], &[], &["/entry", "cmd"]);
    check(&[], &["a"], &["/entry", "a"]);
    check(&["c"], &[], &["c"]);
    check(&["c"], &["a"], &["c", "a"]);
    let none = args(&spec(), &ImageConfig::default()).unwrap_err();
    assert_eq!(none.to_string(), "invalid container: no command specified");
}

#[test]
fn the_last_value_of_a_variable_wins() {
    let mut spec = spec();
    spec.tty = true;
    spec.env = [("A", "spec"), ("B", "1"), ("B", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec();
    assert_eq!(env(&spec, &image(), &host()), ["PATH=/bin", "HOSTNAME=web", "TERM=xterm", "A=spec", "B=2"]);
}

#[test]
fn capabilities_follow_add_drop_and_what_the_node_may_pass_on() {
    let check = |add: &[&str], drop: &[&str], expected: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let changes = Capabilities { add: owned(add), drop: owned(drop) };
        let security = Security { capabilities: changes, ..Security::default() };
        let found = capabilities(&security, &host());
        let plain: BTreeSet<_> = DEFAULT_CAPABILITIES.iter().map(ToString::to_string).collect();
        let more = found.difference(&plain).map(|name| format!("+{name}"));
        let less = plain.difference(&found).map(|name| format!("-{name}"));
        let changed: Vec<_> = more.chain(less).collect();
        if drop == ["ALL"] {
            assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
        } else {
            assert_eq!(changed, expected);
        }
    };
    check(&[], &[], &[]);
    check(&["NET_ADMIN"], &[], &["+CAP_NET_ADMIN"]);
    check(&["CAP_NET_ADMIN", "sys_time"], &["kill"], &["+CAP_NET_ADMIN", "-CAP_KILL"]);
    check(&["ALL"], &["SYS_ADMIN"], &["+CAP_NET_ADMIN"]);
    check(&[], &["ALL"], &[]);
    check(&["NET_BIND_SERVICE"], &["ALL"], &["CAP_NET_BIND_SERVICE"]);
}

#[test]
fn mounts_of_the_spec_replace_the_runtimes_and_parents_come_first() {
    let mut spec = spec();
    spec.mounts = vec![
        Mount::bind("/c", "/data/deep/er"),
        Mount::bind("/a", "/data").read_only(),
        Mount::bind("/s", "/dev/shm"),
        Mount {
            propagation: Propagation::Bidirectional,
            recursive_read_only: true,
            ..Mount::bind("/b", "/data/deep")
        },
        Mount { source: MountSource::Tmpfs(Some(4096)), ..Mount::bind("", "/scratch") },
    ];
    let built = built(&spec);
    let shown: Vec<_> = built["mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| {
            let options: Vec<_> =
                mount["options"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            format!(
                "{} {} {}",
                mount["destination"].as_str().unwrap(),
                mount["source"].as_str().unwrap(),
                options.join(",")
            )
        })
        .collect();
    expect_test::expect![[r#"
        /proc proc nosuid,noexec,nodev
        /dev tmpfs nosuid,strictatime,mode=755,size=65536k
        /dev/pts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5
        /dev/mqueue mqueue nosuid,noexec,nodev
        /sys sysfs nosuid,noexec,nodev,ro
        /sys/fs/cgroup cgroup nosuid,noexec,nodev,relatime,ro
        /data /a rbind,rprivate,ro
        /scratch tmpfs nosuid,nodev,mode=1777,rw,size=4096
        /dev/shm /s rbind,rprivate,rw
        /data/deep /b rbind,rshared,rro
        /data/deep/er /c rbind,rprivate,rw"#]]
    .assert_eq(&shown.join("\n"));
    assert_eq!(built["linux"]["rootfsPropagation"], "rshared");
}

#[test]
fn a_privileged_container_is_not_confined() {
    let mut spec = spec();
    spec.security = Security { privileged: true, seccomp: Seccomp::RuntimeDefault, ..Security::default() };
    let linux = built(&spec)["linux"].take();
    assert_eq!(linux["seccomp"], Value::Null);
    assert_eq!(linux["maskedPaths"], json!([]));
    assert_eq!(linux["resources"]["devices"], json!([{"allow": true, "access": "rwm"}]));
    let cgroup = |namespace: &Value| namespace["type"] == "cgroup";
    assert!(!linux["namespaces"].as_array().unwrap().iter().any(cgroup));
}

#[test]
fn the_hosts_network_brings_the_hosts_name_and_no_sysctls() {
    let spec = ContainerSpec { network: NetworkNamespace::Host, ..spec() };
    let built = built(&spec);
    assert_eq!(built["hostname"], Value::Null);
    assert_eq!(built["linux"]["sysctl"], json!({}));
    let types: Vec<_> =
        built["linux"]["namespaces"].as_array().unwrap().iter().map(|n| n["type"].clone()).collect();
    assert_eq!(types, ["mount", "ipc", "pid", "cgroup"]);
    assert!(built["process"]["env"].as_array().unwrap().contains(&json!("HOSTNAME=node-1")));
}
