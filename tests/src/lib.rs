//! System tests: the real binary, containerd and kubectl.
//!
//! [`Host`] is a machine of its own, a network namespace, on which a test runs edgek as a user would; [`Host::join`] adds
//! another to its cluster. The tests need
//! root, and `TESTED_EDGEK` with the path of a binary that holds its bundle; `cargo xtask ci system` provides both.

pub mod api;
mod machine;
mod namespace;
mod port_forward;
mod reboot;
mod registry;
mod terminal;
mod worker;

use std::fmt::Debug;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

pub use machine::Machine;
pub use namespace::Namespace;
pub use port_forward::PortForward;
pub use registry::Registry;
pub use terminal::Terminal;

/// How long anything a test waits for may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A small image that every host has, under its upstream name.
pub const BUSYBOX: &str = "registry.k8s.io/e2e-test-images/busybox:1.37.0-2";
/// The test server of Kubernetes, which every host has too.
pub const AGNHOST: &str = "registry.k8s.io/e2e-test-images/agnhost:2.66.1";

static HOSTS: AtomicU32 = AtomicU32::new(0);

/// A machine: a network namespace with an address, and folders of its own. Everything on it ends with it.
pub struct Host {
    namespace: String,
    folder: tempfile::TempDir,
    role: Role,
    /// edgek, in whichever role.
    server: Option<Child>,
}

/// What edgek is started as.
enum Role {
    Server,
    Agent(worker::Agent),
}

fn check(output: &Output, what: &str) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{what}: {}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|e| panic!("{program}: {e}"));
    check(&output, &format!("{program} {}", arguments.join(" ")));
}

/// The binary under test.
pub fn edgek() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "how the gate names the binary under test")]
    let path = std::env::var_os("TESTED_EDGEK");
    PathBuf::from(path.expect("TESTED_EDGEK names the edgek binary to test; `cargo xtask ci system` sets it"))
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// A machine whose node is Ready.
    pub fn started() -> Self {
        let mut host = Self::new();
        host.start();
        host
    }

    /// A machine with the test images on it; nothing runs yet.
    pub fn new() -> Self {
        let host = Self::without_network("edgek");
        host.connect();
        host
    }

    /// A machine that has no network; its folder's name begins with `prefix`.
    pub fn without_network(prefix: &str) -> Self {
        let number = HOSTS.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("edgek-{}-{number}", std::process::id());
        let folder = tempfile::Builder::new().prefix(prefix).tempdir().expect("a folder for the host");
        let host = Self { namespace, folder, role: Role::Server, server: None };
        host.boot();
        host.link_images();
        host
    }

    /// Makes the network namespace.
    fn boot(&self) {
        run("ip", &["netns", "add", &self.namespace]);
        run("ip", &["-n", &self.namespace, "link", "set", "lo", "up"]);
    }

    /// Gives the machine an address and a default route, as one on a network has them.
    fn connect(&self) {
        let name = self.namespace.as_str();
        run("ip", &["-n", name, "link", "add", "lan0", "type", "veth", "peer", "name", "lan1"]);
        run("ip", &["-n", name, "address", "add", "192.0.2.10/24", "dev", "lan0"]);
        for link in ["lan0", "lan1"] {
            run("ip", &["-n", name, "link", "set", link, "up"]);
        }
        run("ip", &["-n", name, "route", "add", "default", "via", "192.0.2.1"]);
    }

    /// Links the test images into the data directory.
    pub fn link_images(&self) {
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/images");
        let here = self.data_dir().join("agent/images");
        fs::create_dir_all(&here).expect("the folder of images");
        for name in ["busybox.tar", "agnhost.tar", "pause.tar"] {
            let target =
                fs::canonicalize(images.join(name)).expect("test images; `cargo xtask images` makes them");
            std::os::unix::fs::symlink(target, here.join(name)).expect("linking an image");
        }
    }

    /// `--data-dir`.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// `--run-dir`.
    pub fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("edgek.yaml")
    }

    /// The API server, to be asked without kubectl. It must have started once.
    pub fn api(&self) -> api::Server {
        let network = Path::new("/run/netns").join(&self.namespace);
        api::Server::of(&self.kubeconfig(), network).expect("the administrator's kubeconfig")
    }

    /// The flags that keep this machine's files apart from those of others.
    pub fn settings(&self) -> [String; 5] {
        [
            format!("--data-dir={}", self.data_dir().display()),
            format!("--run-dir={}", self.run_dir().display()),
            format!("--write-kubeconfig={}", self.kubeconfig().display()),
            format!("--cgroup-root=/{}", self.namespace),
            format!("--pod-logs-dir={}", self.folder.path().join("logs").display()),
        ]
    }

    /// A program on this machine's network.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        // The network only: /sys and the cgroups on it are the real ones.
        command.arg(format!("--net=/run/netns/{}", self.namespace)).arg("--").arg(program);
        command
    }

    /// `edgek run server`, or the agent on a worker, with further flags, started and left to itself.
    pub fn spawn_server(&self, flags: &[&str]) -> Child {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log()).expect("the log file");
        let role = match &self.role {
            Role::Server => {
                vec!["run".to_owned(), "server".to_owned(), "--node-name=node".to_owned()]
            }
            Role::Agent(agent) => agent.arguments(),
        };
        let is_agent = matches!(self.role, Role::Agent(_));
        let settings =
            self.settings().into_iter().filter(|flag| !is_agent || !flag.starts_with("--write-kubeconfig"));
        self.command(edgek())
            .args(role)
            // However full the machine that runs the tests is.
            .args(["--kubelet-arg=eviction-hard=", "--kubelet-arg=image-gc-high-threshold=100"])
            .args(settings)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starting edgek")
    }

    /// Starts the server with further flags and waits until its API is served.
    pub fn serve(&mut self, flags: &[&str]) -> (api::Server, api::Connection) {
        self.launch(flags);
        let mut served = None;
        self.eventually("the API is served", || {
            self.check_server();
            served = self.kubeconfig().exists().then(|| self.api()).and_then(|api| {
                let connection = api.connect().ok()?;
                Some((api, connection))
            });
            served.is_some()
        });
        served.expect("the condition above")
    }

    /// Starts the server with further flags.
    pub fn launch(&mut self, flags: &[&str]) {
        assert!(self.server.is_none(), "a server runs already");
        self.server = Some(self.spawn_server(flags));
    }

    /// Starts the server and waits until the node is Ready.
    pub fn start(&mut self) {
        self.start_with(&[]);
    }

    /// Starts the server with further flags and waits until the node is Ready. What an earlier start said does not
    /// count: the lease must have been renewed since, which follows the first status.
    pub fn start_with(&mut self, flags: &[&str]) {
        let started = Timestamp::now();
        self.launch(flags);
        self.eventually("the node is Ready", || {
            self.check_server();
            let lease = self.try_kubectl(&[
                "get",
                "lease",
                "--namespace=kube-node-lease",
                "--output=jsonpath={.items[*].spec.renewTime}",
            ]);
            let renewed = lease.ok().and_then(|time| time.parse::<Timestamp>().ok());
            if renewed < Some(started) {
                return false;
            }
            let ready = r"jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}";
            self.try_kubectl(&["get", "nodes", "-o", ready]).is_ok_and(|status| status == "True")
        });
    }

    /// Fails when edgek has ended by itself.
    pub fn check_server(&self) {
        let server = self.server.as_ref().expect("a server that was started");
        // A child that has ended stays a zombie until somebody waits for it.
        let stat = fs::read_to_string(format!("/proc/{}/stat", server.id())).unwrap_or_default();
        if stat.rsplit(") ").next().is_none_or(|rest| rest.starts_with('Z')) {
            self.fail("edgek has ended");
        }
    }

    /// A start that must fail: its exit code, and what it wrote.
    pub fn failed_start(&self, arguments: &[impl AsRef<std::ffi::OsStr>]) -> (Option<i32>, String) {
        self.failed_run("server", arguments)
    }

    /// The same of an agent.
    pub fn failed_agent(&self, arguments: &[impl AsRef<std::ffi::OsStr>]) -> (Option<i32>, String) {
        self.failed_run("agent", arguments)
    }

    fn failed_run(&self, role: &str, arguments: &[impl AsRef<std::ffi::OsStr>]) -> (Option<i32>, String) {
        let mut server = self.command(edgek());
        server.args(["run", role]).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let mut server = server.stderr(Stdio::piped()).spawn().expect("starting edgek");
        let deadline = now() + PATIENCE;
        while server.try_wait().expect("edgek").is_none() {
            if now() > deadline {
                server.kill().expect("killing edgek");
            }
            pause(Duration::from_millis(10));
        }
        let output = server.wait_with_output().expect("edgek");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// kill -9 of the server.
    pub fn kill_server(&mut self) {
        let mut server = self.server.take().expect("a server that runs");
        server.kill().expect("killing edgek");
        server.wait().expect("the end of edgek");
    }

    /// Sends the server a signal.
    pub fn signal(&self, name: &str) {
        let server = self.server.as_ref().expect("a server that runs");
        run("kill", &["-s", name, &server.id().to_string()]);
    }

    /// SIGTERM, and the exit code.
    pub fn stop_server(&mut self) -> Option<i32> {
        self.signal("TERM");
        let mut server = self.server.take().expect("a server that runs");
        server.wait().expect("the end of edgek").code()
    }

    /// What the server has logged so far.
    pub fn logged(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("edgek.log")
    }

    /// edgek with these arguments, on this machine's configuration, which must succeed: what it printed.
    pub fn edgek(&self, arguments: &[&str]) -> String {
        let mut command = self.command(edgek());
        command.env("EDGEK_DATA_DIR", self.data_dir()).env("EDGEK_WRITE_KUBECONFIG", self.kubeconfig());
        let output = command.args(arguments).output().expect("running edgek");
        check(&output, &format!("edgek {arguments:?}"))
    }

    /// kubectl with these arguments: what it printed, or how it failed.
    ///
    /// # Errors
    /// What kubectl wrote to standard error.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.kubectl_command(arguments).output().expect("running kubectl");
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// kubectl with these arguments, which must succeed: what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments)
            .unwrap_or_else(|error| self.fail(&format!("kubectl {arguments:?}: {error}")))
    }

    /// The bundled kubectl, not run yet.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        self.kubectl_of(self.command(edgek()), arguments)
    }

    /// kubectl, given how edgek is run.
    fn kubectl_of(&self, mut command: Command, arguments: &[&str]) -> Command {
        command.env("EDGEK_DATA_DIR", self.data_dir()).env("KUBECONFIG", self.kubeconfig());
        // Every host has the same address: what kubectl remembers of one is not true of another.
        command.env("KUBECACHEDIR", self.folder.path().join("cache"));
        command.arg("kubectl").args(arguments).stdin(Stdio::null());
        command
    }

    /// kubectl with `input` on its standard input; it is ended when it does not end by itself.
    pub fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> String {
        let mut limited = self.command("timeout");
        limited.arg(PATIENCE.as_secs().to_string()).arg(edgek());
        let mut command = self.kubectl_of(limited, arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("kubectl");
        child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("writing to kubectl");
        let output = child.wait_with_output().expect("the end of kubectl");
        check(&output, &format!("kubectl {arguments:?}"))
    }

    /// Waits until `condition` holds.
    pub fn eventually(&self, what: &str, mut condition: impl FnMut() -> bool) {
        self.wait(|| if condition() { Ok(()) } else { Err(what.to_owned()) });
    }

    /// Waits until `look` sees what is expected; the test that waits in vain tells what it saw last.
    pub fn eventually_sees<T: Debug + PartialEq<E>, E: Debug>(
        &self,
        what: &str,
        expected: &E,
        mut look: impl FnMut() -> T,
    ) {
        self.wait(|| {
            let seen = look();
            if seen == *expected { Ok(()) } else { Err(format!("{what}: {expected:?}, but {seen:?}")) }
        });
    }

    /// Waits until there is nothing that is awaited any more.
    fn wait(&self, mut awaited: impl FnMut() -> Result<(), String>) {
        let deadline = now() + PATIENCE;
        while let Err(what) = awaited() {
            if now() > deadline {
                self.fail(&format!("not within {} s: {what}", PATIENCE.as_secs()));
            }
            pause(Duration::from_millis(10));
        }
    }

    /// Ends the test with `text` and what the server has logged.
    pub fn fail(&self, text: &str) -> ! {
        panic!("{text}\nthe server's log:\n{}", self.logged());
    }
}

/// The clock of these tests, which nobody pauses.
#[expect(clippy::disallowed_methods, reason = "real processes run on the real clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Lets time pass.
pub fn pause(time: Duration) {
    let end = now() + time;
    // A thread may be woken early.
    while let Some(left) = end.checked_duration_since(now()).filter(|left| !left.is_zero()) {
        std::thread::park_timeout(left);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // It may have ended by itself.
            let _ = server.kill();
            let _ = server.wait();
        }
        let uninstalled = self.command(edgek()).arg("uninstall").args(self.settings()).output();
        let removed = Command::new("ip").args(["netns", "del", &self.namespace]).output();
        // Only who has workers has one.
        let _ = Command::new("ip").args(["netns", "del", &self.switch()]).output();
        if !std::thread::panicking() {
            check(&uninstalled.expect("edgek uninstall"), "edgek uninstall");
            check(&removed.expect("ip netns del"), "ip netns del");
            for hierarchy in fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
                let left = hierarchy.path().join(&self.namespace);
                assert!(!left.exists(), "edgek uninstall left {}", left.display());
            }
        }
    }
}
