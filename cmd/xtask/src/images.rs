//! `images`: the container images that tests run, made without a container engine and without any image registry.
//!
//! Results, below `build/images/`: `<name>.tar`, an OCI layout that containerd imports under every name of the image,
//! and `registry/`, the storage folder of Debian's docker-registry holding the same images (see [`serve`]).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{digest, process, workspace};
use oci::{Config, Rootfs};

mod oci;
mod serve;

pub(crate) use serve::{Args as ServeArgs, run as serve};

/// One image: its archive's name, the names it goes by, and how it is made.
struct Image {
    archive: &'static str,
    names: &'static [&'static str],
    build: fn(&Sources) -> Result<(Rootfs, Config)>,
}

const IMAGES: &[Image] = &[
    Image {
        archive: "busybox",
        names: &[
            "registry.k8s.io/e2e-test-images/busybox:1.37.0-2",
            "docker.io/library/busybox:latest",
            "docker.io/library/busybox:stable",
        ],
        build: busybox,
    },
    Image {
        archive: "agnhost",
        names: &[
            "registry.k8s.io/e2e-test-images/agnhost:2.66.1",
            "registry.k8s.io/e2e-test-images/agnhost:2.55",
        ],
        build: agnhost,
    },
    Image { archive: "pause", names: &["registry.k8s.io/pause:3.10.2"], build: pause },
];

/// What the images are made from.
struct Sources {
    /// The Go module that pins agnhost, and `pause.c`.
    module: PathBuf,
    /// Debian's static busybox.
    busybox: PathBuf,
    /// Where programs are built.
    work: PathBuf,
}

/// Makes the images, unless the last run had the same sources, recipe and compilers.
pub(crate) fn run() -> Result<()> {
    let folder = workspace::build_dir().join("images");
    let work = folder.join("work");
    fs::create_dir_all(&work)?;
    let lock = fs::File::create(folder.join(".lock"))?;
    lock.lock().context("wait for another run of images")?;

    let sources = Sources {
        module: workspace::root().join("cmd/xtask/images"),
        busybox: PathBuf::from("/bin/busybox"),
        work,
    };
    let key = cache_key(&sources)?;
    let stamp = folder.join("stamp");
    let complete = IMAGES.iter().all(|image| archive(&folder, image).exists());
    if complete && fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == key) {
        println!("images: up to date");
        return Ok(());
    }
    let registry = oci::Registry::create(&folder.join("registry"))?;
    for image in IMAGES {
        println!("images: build {}", image.archive);
        let (rootfs, config) = (image.build)(&sources)?;
        let built = oci::Image::new(&rootfs, &config)?;
        built.write_archive(&archive(&folder, image), image.names)?;
        registry.add(&built, image.names)?;
    }
    workspace::write(&stamp, key.as_bytes())?;
    Ok(())
}

fn archive(folder: &Path, image: &Image) -> PathBuf {
    folder.join(format!("{}.tar", image.archive))
}

/// Everything the images depend on, this recipe included.
fn cache_key(sources: &Sources) -> Result<String> {
    let go = process::output(process::go(&sources.module).arg("version"))?;
    let busybox =
        digest::sha256_file(&sources.busybox).context("busybox-static is needed: run scripts/deps")?;
    let module = digest::tree(&sources.module)?;
    let recipe = [include_str!("images.rs"), include_str!("images/oci.rs")].concat();
    Ok(digest::sha256(format!("{go}\n{busybox}\n{module}\n{recipe}").as_bytes()))
}

fn busybox(sources: &Sources) -> Result<(Rootfs, Config)> {
    let mut rootfs = Rootfs::default();
    for (folder, mode) in
        [("root", 0o700), ("tmp", 0o1777), ("var/tmp", 0o1777), ("home", 0o755), ("proc", 0o555)]
    {
        rootfs.folder(folder, mode);
    }
    rootfs.file("bin/busybox", 0o755, fs::read(&sources.busybox)?);
    rootfs.file(
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    );
    rootfs.file("etc/group", 0o644, "root:x:0:\nnobody:x:65534:\n");
    for path in process::output(Command::new(&sources.busybox).arg("--list-full"))?.lines() {
        if path != "bin/busybox" {
            rootfs.link(path, "/bin/busybox");
        }
    }
    Ok((rootfs, Config { command: &["sh"], ..Config::default() }))
}

/// Upstream's test server, on busybox where upstream's image is on Alpine.
fn agnhost(sources: &Sources) -> Result<(Rootfs, Config)> {
    const PACKAGE: &str = "k8s.io/kubernetes/test/images/agnhost";
    let program = sources.work.join("agnhost");
    let mut build = process::go(&sources.module);
    build.env("CGO_ENABLED", "0").args(["build", "-trimpath", "-ldflags", "-s -w", "-o"]);
    process::run(build.arg(&program).arg(PACKAGE))?;
    let folder = process::output(process::go(&sources.module).args(["list", "-f", "{{.Dir}}", PACKAGE]))?;

    let (mut rootfs, _) = busybox(sources)?;
    rootfs.file("agnhost", 0o755, fs::read(&program)?);
    rootfs.link("agnhost-2", "agnhost");
    rootfs.folder("uploads", 0o755);
    for name in ["localhost.crt", "localhost.key"] {
        rootfs.file(name, 0o644, fs::read(Path::new(&folder).join("porter").join(name))?);
    }
    // Upstream's tests of supplemental groups expect this user and group.
    rootfs.file(
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n\
         user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n",
    );
    rootfs.file(
        "etc/group",
        0o644,
        "root:x:0:\nnobody:x:65534:\nuser-defined-in-image:x:1000:\n\
         group-defined-in-image:x:50000:user-defined-in-image\n",
    );
    let ports = &["80/tcp", "8080/tcp", "8081/tcp", "9376/tcp", "5000/tcp"];
    Ok((rootfs, Config { entrypoint: &["/agnhost"], command: &["pause"], ports, ..Config::default() }))
}

fn pause(sources: &Sources) -> Result<(Rootfs, Config)> {
    let program = sources.work.join("pause");
    let source = sources.module.join("pause.c");
    process::run(
        Command::new("gcc").args(["-Os", "-s", "-static", "-Wall", "-o"]).arg(&program).arg(source),
    )?;
    let mut rootfs = Rootfs::default();
    rootfs.file("pause", 0o755, fs::read(&program)?);
    Ok((rootfs, Config { entrypoint: &["/pause"], user: "65535:65535", ..Config::default() }))
}
