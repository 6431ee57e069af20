//! What the layers of the images hold: programs built from pinned Go modules, and Debian's packages.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::oci::Rootfs;
use crate::{digest, embed, machine, process, workspace};

/// Makes layers.
pub(super) struct Builder {
    /// The Go module that pins the suite.
    module: PathBuf,
    /// Where programs are built and packages are unpacked.
    work: PathBuf,
}

type Make = fn(&Builder, &mut Rootfs) -> Result<()>;

/// A shell, and busybox for every command that no other package has.
const BASE: &str = "bash,busybox";
/// What upstream's agnhost and its DNS image have beside that.
const TOOLS: &str =
    "bash,bind9-dnsutils,busybox,curl,iperf,iproute2,libc-bin,netcat-openbsd,socat,util-linux";
const AGNHOST: &str = "k8s.io/kubernetes/test/images/agnhost";

const LAYERS: &[(&str, Make)] = &[
    ("busybox", |builder, rootfs| builder.packages(rootfs, BASE)),
    ("tools", |builder, rootfs| builder.packages(rootfs, TOOLS)),
    ("nginx", |builder, rootfs| {
        builder.packages(rootfs, "bash,busybox,nginx-light")?;
        // What the package sets up when it is configured.
        let site = "server { listen 80; root /usr/share/nginx/html; }\n";
        rootfs.file("etc/nginx/sites-enabled/default", 0o644, site);
        Ok(())
    }),
    ("perl", |builder, rootfs| builder.packages(rootfs, "bash,busybox,perl")),
    ("agnhost", agnhost),
    ("pause", |builder, rootfs| builder.c_program(rootfs, "pause", "pause")),
    ("kitten", kitten),
    ("nautilus", |builder, rootfs| builder.web_page(rootfs, "nautilus")),
    ("nonewprivs", |builder, rootfs| {
        builder.program(rootfs, "k8s.io/kubernetes/test/images/nonewprivs", "usr/local/bin/nnp", 0o6755)
    }),
    ("regression-issue-74839", |builder, rootfs| {
        let package = "k8s.io/kubernetes/test/images/regression-issue-74839";
        builder.program(rootfs, package, "regression-issue-74839", 0o755)
    }),
    ("resource-consumer", resource_consumer),
    ("sample-apiserver", |builder, rootfs| {
        let module = builder.module.join("images/sample-apiserver");
        builder.program_of(&module, rootfs, "k8s.io/sample-apiserver", "sample-apiserver", 0o755)
    }),
    ("conformance", conformance),
    ("etcd", |builder, rootfs| {
        let module = builder.module.join("images/etcd");
        builder.program_of(&module, rootfs, "go.etcd.io/etcd/server/v3", "usr/local/bin/etcd", 0o755)
    }),
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
    www-data:x:33:33:www-data:/var/www:/bin/false\n\
    nobody:x:65534:65534:nobody:/home:/bin/false\n";
const GROUP: &str = "root:x:0:\nwww-data:x:33:\nnobody:x:65534:\n";

impl Builder {
    pub(super) fn new(work: PathBuf) -> Result<Self> {
        fs::create_dir_all(&work)?;
        Ok(Self { module: workspace::root().join("conformance"), work })
    }

    /// The Go module that pins the suite.
    pub(super) fn module(&self) -> &Path {
        &self.module
    }

    /// The files of one layer.
    pub(super) fn layer(&self, name: &str) -> Result<Rootfs> {
        let make = LAYERS.iter().find(|(known, _)| *known == name).context("an unknown layer")?.1;
        let mut rootfs = Rootfs::default();
        make(self, &mut rootfs).with_context(|| format!("the layer {name}"))?;
        Ok(rootfs)
    }

    /// Builds a program of the suite's modules.
    fn program(&self, rootfs: &mut Rootfs, package: &str, path: &str, mode: u32) -> Result<()> {
        self.program_of(&self.module, rootfs, package, path, mode)
    }

    fn program_of(
        &self,
        module: &Path,
        rootfs: &mut Rootfs,
        package: &str,
        path: &str,
        mode: u32,
    ) -> Result<()> {
        let program = self.work.join(path.replace('/', "-"));
        let mut build = process::go(module);
        build.env("CGO_ENABLED", "0").args(["build", "-trimpath", "-ldflags", "-s -w", "-o"]);
        process::run(build.arg(&program).arg(package))?;
        rootfs.file(path, mode, fs::read(&program)?);
        Ok(())
    }

    /// Compiles a small program of ours.
    fn c_program(&self, rootfs: &mut Rootfs, name: &str, path: &str) -> Result<()> {
        let program = self.work.join(name);
        let source = self.module.join("images").join(name).with_extension("c");
        let mut gcc = Command::new("gcc");
        process::run(gcc.args(["-Os", "-s", "-static", "-Wall", "-o"]).arg(&program).arg(source))?;
        rootfs.file(path, 0o755, fs::read(&program)?);
        Ok(())
    }

    /// Where the sources of a package of the suite's modules lie.
    fn sources(&self, package: &str) -> Result<PathBuf> {
        let list = ["list", "-f", "{{.Dir}}", package];
        Ok(PathBuf::from(process::output(process::go(&self.module).args(list))?))
    }

    /// Packages with all they need, unpacked but not configured; busybox stands in for what they lack.
    fn packages(&self, rootfs: &mut Rootfs, packages: &str) -> Result<()> {
        let folder = self.unpack(packages)?;
        rootfs.tree(&folder)?;
        for (folder, mode) in
            [("root", 0o700), ("tmp", 0o1777), ("var/tmp", 0o1777), ("home", 0o755), ("proc", 0o555)]
        {
            rootfs.folder(folder, mode);
        }
        rootfs.file("etc/passwd", 0o644, PASSWD);
        rootfs.file("etc/group", 0o644, GROUP);
        // The default of older C libraries asks DNS and nobody else.
        rootfs.file("etc/nsswitch.conf", 0o644, "hosts: files dns\n");
        self.c_program(rootfs, "sh", "bin/sh")?;
        // Alternatives, which configuring the packages would have chosen.
        for (path, program) in [("bin/nc", "bin/nc.openbsd"), ("usr/local/bin/iperf", "usr/bin/iperf")] {
            if rootfs.contains(program) {
                rootfs.link(path, &format!("/{program}"));
            }
        }
        let mut busybox = Command::new("chroot");
        for path in process::output(busybox.arg(&folder).args(["/bin/busybox", "--list-full"]))?.lines() {
            let name = path.rsplit('/').next().unwrap_or(path);
            let present = ["bin", "sbin", "usr/bin", "usr/sbin"]
                .iter()
                .any(|folder| rootfs.contains(&format!("{folder}/{name}")));
            // Upstream's busybox has all of its commands in /bin, and some tests name them so.
            for path in [path, &format!("bin/{name}")] {
                if !present && !rootfs.contains(path) {
                    rootfs.link(path, "/bin/busybox");
                }
            }
        }
        Ok(())
    }

    /// The folder with the unpacked packages, kept from run to run.
    fn unpack(&self, packages: &str) -> Result<PathBuf> {
        const LEFT_OUT: &[&str] = &[
            "/usr/share/doc/*",
            "/usr/share/man/*",
            "/usr/share/locale/*",
            "/usr/share/info/*",
            "/usr/lib/*/gconv/*",
        ];
        let sources = machine::package_sources()?;
        let key = digest::sha256(format!("{packages}\n{}\n{LEFT_OUT:?}", sources.join("\n")).as_bytes());
        let folder = self.work.join(format!("packages-{}", &key[..16]));
        if folder.exists() {
            return Ok(folder);
        }
        let partial = folder.with_extension("partial");
        machine::remove(&partial)?;
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap.args(["--quiet", "--mode=root", "--variant=extract", "--format=directory"]);
        mmdebstrap.arg(format!("--include={packages}"));
        process::run(mmdebstrap.arg("").arg(&partial).args(&sources))?;
        for path in LEFT_OUT {
            let mut remove = Command::new("sh");
            process::run(remove.args(["-c", "rm -rf \"$0\"$1"]).arg(&partial).arg(path))?;
        }
        fs::rename(&partial, &folder)?;
        Ok(folder)
    }

    /// What upstream's images `kitten` and `nautilus` add to agnhost.
    fn web_page(&self, rootfs: &mut Rootfs, name: &str) -> Result<()> {
        // The folder has no Go files of its own.
        let pages = self.sources(AGNHOST)?.with_file_name(name).join("html");
        for file in ["data.json".to_owned(), format!("{name}.jpg")] {
            rootfs.file(&file, 0o644, fs::read(pages.join(&file))?);
        }
        Ok(())
    }
}

/// Upstream's test server.
fn agnhost(builder: &Builder, rootfs: &mut Rootfs) -> Result<()> {
    builder.program(rootfs, AGNHOST, "agnhost", 0o755)?;
    rootfs.link("agnhost-2", "agnhost");
    rootfs.folder("uploads", 0o755);
    let certificates = builder.sources(AGNHOST)?.join("porter");
    for name in ["localhost.crt", "localhost.key"] {
        rootfs.file(name, 0o644, fs::read(certificates.join(name))?);
    }
    // Upstream's tests of supplemental groups expect this user and group.
    let user = "user-defined-in-image";
    rootfs.file("etc/passwd", 0o644, format!("{PASSWD}{user}:x:1000:1000::/home/{user}:/bin/sh\n"));
    rootfs.file(
        "etc/group",
        0o644,
        format!("{GROUP}{user}:x:1000:\ngroup-defined-in-image:x:50000:{user}\n"),
    );
    Ok(())
}

/// The suite reads a web page and the name of upstream's distribution out of this image; both are data to it.
fn kitten(builder: &Builder, rootfs: &mut Rootfs) -> Result<()> {
    rootfs.file("etc/os-release", 0o644, "NAME=\"Alpine Linux\"\nID=alpine\n");
    builder.web_page(rootfs, "kitten")
}

/// The suite and what runs it; `cargo xtask conformance build` has built them.
fn conformance(_: &Builder, rootfs: &mut Rootfs) -> Result<()> {
    let suite = workspace::build_dir().join("conformance/bin");
    for (program, name) in [
        (suite.join("e2e.test"), "e2e.test"),
        (suite.join("ginkgo"), "ginkgo"),
        (suite.join("go-runner"), "kubeconformance"),
        (embed::programs().join("kubectl"), "kubectl"),
    ] {
        let content = fs::read(&program).with_context(|| format!("read {}", program.display()))?;
        rootfs.file(&format!("usr/local/bin/{name}"), 0o755, content);
    }
    // The names by which sonobuoy starts the runner.
    for name in ["gorunner", "run_e2e.sh"] {
        rootfs.link(name, "/usr/local/bin/kubeconformance");
    }
    // Where the runner's flags point.
    rootfs.folder("kubernetes/cluster", 0o755);
    Ok(())
}

fn resource_consumer(builder: &Builder, rootfs: &mut Rootfs) -> Result<()> {
    const PACKAGE: &str = "k8s.io/kubernetes/test/images/resource-consumer";
    builder.packages(rootfs, "bash,busybox,stress")?;
    builder.program(rootfs, PACKAGE, "consumer", 0o755)?;
    builder.program(rootfs, &format!("{PACKAGE}/consume-cpu"), "consume-cpu", 0o755)
}

impl Rootfs {
    /// Adds everything below a folder, devices apart.
    fn tree(&mut self, root: &Path) -> Result<()> {
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
                let path = entry?.path();
                let name = path.strip_prefix(root)?.to_str().context("a name that is no UTF-8")?.to_owned();
                let metadata = fs::symlink_metadata(&path)?;
                let mode = metadata.permissions().mode() & 0o7777;
                if metadata.is_dir() {
                    self.folder(&name, mode);
                    folders.push(path);
                } else if metadata.is_symlink() {
                    self.link(&name, fs::read_link(&path)?.to_str().context("a link that is no UTF-8")?);
                } else if metadata.is_file() {
                    self.file(&name, mode, fs::read(&path)?);
                }
            }
        }
        Ok(())
    }
}
