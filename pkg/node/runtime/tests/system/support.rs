//! What the system tests share: a containerd of their own, a busybox image made from the distribution's static
//! package, and short ways to make containers.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::Scope;
use edgek_node_runtime::containerd::{
    Config, Containerd, Daemon, DaemonConfig, LogLimits, Program, Registries,
};
use edgek_node_runtime::{
    Container, ContainerId, ContainerSpec, ExecSpec, Log, Output, PodRef, Runtime, Session, State,
};
use parking_lot::Mutex;

pub(crate) const IMAGE: &str = "docker.io/library/busybox:test";

/// How long anything in a test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A node's runtime: directories, a containerd, and what `edgek` keeps of it. Dropped, it stops its containers.
pub(crate) struct Node {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) config: Config,
    pub(crate) daemon: DaemonConfig,
    scopes: Mutex<Vec<Scope>>,
}

/// The process that a test calls edgek: its scope and its runtime.
pub(crate) struct Edgek {
    pub(crate) scope: Scope,
    pub(crate) runtime: Arc<Containerd>,
}

impl Node {
    pub(crate) fn new() -> Self {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let bundle = std::env::var_os("EDGEK_BUNDLE").map_or_else(
            || panic!("set EDGEK_BUNDLE to the directory of containerd, its shim and runc"),
            PathBuf::from,
        );
        assert!(bundle.join("containerd").exists(), "no containerd in {}", bundle.display());
        let dir = tempfile::Builder::new().prefix("edgek-rt-").tempdir().unwrap();
        let daemon = DaemonConfig {
            bin_dir: bundle.canonicalize().unwrap(),
            root_dir: dir.path().join("root"),
            state_dir: dir.path().join("state"),
            environment: Vec::new(),
        };
        let config = Config {
            socket: daemon.socket(),
            state_dir: daemon.state_dir.clone(),
            root_dir: daemon.root_dir.clone(),
            runc: None,
            registries: Registries::default(),
            log_limits: LogLimits::default(),
            holder: Program {
                program: "/usr/bin/busybox".into(),
                args: ["tail", "-f", "/dev/null"].map(str::to_owned).to_vec(),
            },
        };
        Self { dir, config, daemon, scopes: Mutex::default() }
    }

    /// A running edgek with its containerd and the test image.
    pub(crate) async fn start(&self) -> Edgek {
        let edgek = self.start_bare();
        if edgek.runtime.image(IMAGE).await.unwrap().is_none() {
            let archive = self.dir.path().join("busybox.tar");
            write_archive(&archive, IMAGE);
            edgek.runtime.import_images(&archive).await.unwrap();
        }
        edgek
    }

    pub(crate) fn start_bare(&self) -> Edgek {
        let scope = self.scope();
        Daemon::start(&scope, self.daemon.clone()).unwrap();
        let runtime = Containerd::start(&scope.child(), self.config.clone()).unwrap();
        Edgek { scope, runtime }
    }

    /// Only the client side, beside a containerd that another `Edgek` runs.
    fn scope(&self) -> Scope {
        let scope = Scope::root();
        self.scopes.lock().push(scope.clone());
        scope
    }

    pub(crate) fn spec(&self, pod: &str, name: &str, command: &str) -> ContainerSpec {
        let pod = PodRef { uid: format!("{pod}-uid"), namespace: "default".to_owned(), name: pod.to_owned() };
        let log = self.dir.path().join(format!("{}-{name}.log", pod.name));
        let mut spec = ContainerSpec::new(pod, name, IMAGE);
        spec.command = ["sh", "-c", command].map(str::to_owned).to_vec();
        spec.cgroup_parent = self.cgroup_parent();
        spec.labels = BTreeMap::from([("sandbox".to_owned(), "data ".repeat(2000))]);
        spec.log = Some(Log { path: log });
        spec
    }

    /// Ends every process, and what the kernel and a tmpfs forget.
    pub(crate) fn reboot(&self) {
        self.end_processes();
        std::fs::remove_dir_all(&self.daemon.state_dir).unwrap();
    }

    fn end_processes(&self) {
        let dir = self.dir.path().to_string_lossy().into_owned();
        for _ in 0..100 {
            let left = processes_of(&dir);
            for pid in &left {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(*pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
            if left.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut below: Vec<_> = mounts
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|path| path.starts_with(&dir))
            .collect();
        below.sort_by_key(|path| std::cmp::Reverse(path.len()));
        for path in below {
            let _ = nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH);
        }
    }

    fn cgroup_parent(&self) -> String {
        format!("/{}", self.dir.path().file_name().unwrap().to_string_lossy())
    }

    /// 0 while there is none.
    pub(crate) fn containerd_pid(&self) -> i32 {
        processes(self, "/containerd").into_iter().find(|pid| !is_shim(*pid)).unwrap_or(0)
    }

    /// A file of the container's cgroup, named for v1 and v2.
    pub(crate) fn cgroup_value(&self, spec: &ContainerSpec, controller: &str, files: [&str; 2]) -> String {
        let path = format!("{}/{}", spec.cgroup_parent, spec.id);
        let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let file = if v2 {
            format!("/sys/fs/cgroup{path}/{}", files[1])
        } else {
            format!("/sys/fs/cgroup/{controller}{path}/{}", files[0])
        };
        std::fs::read_to_string(file).unwrap().trim().to_owned()
    }

    pub(crate) fn log(&self, spec: &ContainerSpec) -> String {
        read_log(&spec.log.as_ref().unwrap().path)
    }
}

impl Drop for Node {
    /// A failed test may leave containers, shims, mounts and cgroups: ends what belongs to this node.
    fn drop(&mut self) {
        for scope in self.scopes.lock().iter() {
            scope.cancel();
        }
        self.end_processes();
        let cgroup = self.cgroup_parent();
        let hierarchies = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        for hierarchy in hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]) {
            let parent = hierarchy.join(cgroup.trim_start_matches('/'));
            for child in std::fs::read_dir(&parent).into_iter().flatten().flatten() {
                let _ = std::fs::remove_dir(child.path());
            }
            let _ = std::fs::remove_dir(parent);
        }
    }
}

/// The processes whose command line names the directory, and those of the containers they hold.
fn processes_of(dir: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let status = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if status.contains(") Z ") || status.is_empty() {
            continue;
        }
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let root = std::fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        let own = String::from_utf8_lossy(&command).contains(dir);
        let contained = root.lines().next().is_some_and(|line| line.contains(dir));
        if (own || contained) && pid != std::process::id() as i32 {
            found.push(pid);
        }
    }
    found
}

pub(crate) fn process_count(node: &Node, name: &str) -> usize {
    processes(node, name).len()
}

/// Living processes of this node whose program is named so.
pub(crate) fn processes(node: &Node, name: &str) -> Vec<i32> {
    let named = |pid: &i32| {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        !command.is_empty() && String::from_utf8_lossy(&command).split('\0').next().unwrap().contains(name)
    };
    processes_of(&node.dir.path().to_string_lossy()).into_iter().filter(named).collect()
}

fn is_shim(pid: i32) -> bool {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&command).split('\0').next().unwrap().ends_with("containerd-shim-runc-v2")
}

/// A new network namespace, pinned in the node's directory.
pub(crate) fn new_netns(node: &Node) -> PathBuf {
    let path = node.dir.path().join("netns");
    std::fs::write(&path, "").unwrap();
    let file = path.clone();
    let made = std::thread::Builder::new().name("netns".to_owned()).spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let flags = nix::mount::MsFlags::MS_BIND;
        nix::mount::mount(Some("/proc/thread-self/ns/net"), &file, None::<&str>, flags, None::<&str>)
            .unwrap();
    });
    made.unwrap().join().unwrap();
    path
}

impl Edgek {
    pub(crate) async fn run(&self, spec: &ContainerSpec) -> ContainerId {
        self.runtime.create_container(spec).await.unwrap();
        self.runtime.start_container(&spec.id).await.unwrap();
        spec.id.clone()
    }

    pub(crate) async fn run_to_end(&self, spec: &ContainerSpec) -> Container {
        let id = self.run(spec).await;
        self.wait_exit(&id).await
    }

    pub(crate) async fn wait_exit(&self, id: &ContainerId) -> Container {
        let mut events = self.runtime.events();
        let wait = async {
            loop {
                let container = self.runtime.container(id).await.unwrap();
                if container.state.is_exited() {
                    return container;
                }
                events.next().await.unwrap();
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the container should have ended")
    }

    /// Waits until the log has this many lines.
    pub(crate) async fn wait_log(&self, node: &Node, spec: &ContainerSpec, lines: usize) {
        let path = &spec.log.as_ref().unwrap().path;
        let wait = async {
            while !path.exists() || node.log(spec).lines().count() < lines {
                edgek_base_lifecycle::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("log: {}", node.log(spec)));
    }

    pub(crate) async fn exec(&self, id: &ContainerId, command: &[&str]) -> (i32, String, String) {
        let command = command.iter().map(ToString::to_string).collect();
        let session = self.runtime.exec(id, ExecSpec { command, ..ExecSpec::default() }).await.unwrap();
        drain(session).await
    }

    pub(crate) async fn stop(self) {
        for container in self.runtime.containers().await.unwrap() {
            self.runtime.remove_container(&container.id).await.unwrap();
            self.runtime.remove_pod(&container.pod.uid).await.unwrap();
        }
        self.scope.close(PATIENCE).await.unwrap();
    }
}

/// Exit code, standard output and standard error of a session.
pub(crate) async fn drain(mut session: Session) -> (i32, String, String) {
    drop(session.stdin.take());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let read = async {
        while let Some(output) = session.output.recv().await {
            match output {
                Output::Stdout(bytes) => stdout.extend_from_slice(&bytes),
                Output::Stderr(bytes) => stderr.extend_from_slice(&bytes),
            }
        }
        session.exit.await.unwrap().unwrap()
    };
    let code = tokio::time::timeout(PATIENCE, read).await.expect("the session should have ended");
    (code, String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

pub(crate) fn exit_code(container: &Container) -> i32 {
    match container.state {
        State::Exited { code, .. } => code,
        ref other => panic!("not ended: {other:?}"),
    }
}

/// The text of a CRI log, without times; pieces are joined.
pub(crate) fn read_log(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let mut out = String::new();
    for line in text.lines() {
        let mut fields = line.splitn(4, ' ').skip(2);
        let (tag, rest) = (fields.next().unwrap(), fields.next().unwrap());
        out += rest;
        if tag == "F" {
            out.push('\n');
        }
    }
    out
}

/// An OCI archive with one layer: busybox with its applets, users and groups.
pub(crate) fn write_archive(path: &Path, name: &str) {
    let config = r#"{"User": "", "Env": ["PATH=/bin", "FROM_IMAGE=1"], "Cmd": ["sh"], "WorkingDir": "/tmp"}"#;
    write_archive_with(path, name, config);
}

pub(crate) fn write_archive_with(path: &Path, name: &str, config: &str) {
    let (blobs, manifest) = image(config);
    let index = format!(
        r#"{{"schemaVersion": 2, "manifests": [{{"mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": "{}", "size": {}, "annotations": {{"io.containerd.image.name": "{name}"}}}}]}}"#,
        manifest.0,
        manifest.1.len()
    );
    let mut archive = tar::Builder::new(std::fs::File::create(path).unwrap());
    add(&mut archive, "oci-layout", 0o644, br#"{"imageLayoutVersion": "1.0.0"}"#);
    add(&mut archive, "index.json", 0o644, index.as_bytes());
    for (digest, bytes) in blobs.iter().chain([&manifest]) {
        add(&mut archive, &format!("blobs/{}", digest.replace(':', "/")), 0o644, bytes);
    }
    archive.into_inner().unwrap().flush().unwrap();
}

/// A digest and what it names.
pub(crate) type Blob = (String, Vec<u8>);

/// The layer and config of an image, and its manifest.
pub(crate) fn image(config: &str) -> (Vec<Blob>, Blob) {
    let layer = blob(layer());
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let config = blob(
        format!(
            r#"{{"architecture": "{arch}", "os": "linux", "config": {config}, "rootfs": {{"type": "layers", "diff_ids": ["{}"]}}}}"#,
            layer.0
        )
        .into_bytes(),
    );
    let manifest = format!(
        r#"{{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "{}", "size": {}}},
            "layers": [{{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": "{}", "size": {}}}]}}"#,
        config.0,
        config.1.len(),
        layer.0,
        layer.1.len()
    );
    (vec![layer, config], blob(manifest.into_bytes()))
}

fn layer() -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    for dir in ["bin", "etc", "tmp", "dev", "proc", "sys"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(if dir == "tmp" { 0o1777 } else { 0o755 });
        header.set_size(0);
        layer.append_data(&mut header, format!("{dir}/"), std::io::empty()).unwrap();
    }
    add(&mut layer, "bin/busybox", 0o755, &std::fs::read("/usr/bin/busybox").unwrap());
    add(&mut layer, "etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nweb:x:101:201::/tmp:/bin/sh\n");
    add(&mut layer, "etc/group", 0o644, b"root:x:0:\nweb:x:201:\naudio:x:29:web\n");
    let applets = "cat chmod date dd echo env false grep hostname id ipcmk readlink ipcs kill ls mount printf ps pwd rm sh sleep stat stty sync tail test touch tr true ulimit wc yes nc head seq";
    for applet in applets.split(' ') {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        layer.append_link(&mut header, format!("bin/{applet}"), "busybox").unwrap();
    }
    layer.into_inner().unwrap()
}

fn add(archive: &mut tar::Builder<impl std::io::Write>, path: &str, mode: u32, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes).unwrap();
}

fn blob(bytes: Vec<u8>) -> Blob {
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    (format!("sha256:{hex}"), bytes)
}
