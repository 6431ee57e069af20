//! `machine`: a small Debian machine with systemd and cgroup v2, made from the distribution's packages, that the system
//! tests boot in an emulator.
//!
//! Results, below `build/machine/`: `vmlinuz`, which needs no initial file system because it has NVMe and ext4 built in,
//! and `root.ext4`. The machine runs a shell on its second serial port; nothing else is added.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::{digest, process, workspace};

const PACKAGES: &str = "systemd-sysv,udev,linux-image-cloud-amd64,iproute2,procps,kmod,nftables";
/// The size of the disk; what is not used takes no place.
const DISK: &str = "3G";
/// What nobody reads there.
const LEFT_OUT: &[&str] =
    &["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"];
/// Units that only cost time in an emulator.
const MASKED: &[&str] = &[
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "getty@tty1.service",
    "serial-getty@ttyS0.service",
    "systemd-binfmt.service",
    "systemd-random-seed.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
];
/// A network that is there at once.
const NETWORK: &str = "\
[Match]
Name=en*

[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
LinkLocalAddressing=no
IPv6AcceptRA=no
";
/// What a test types is run, and what it prints is seen, on the second serial port.
const SHELL_UNIT: &str = "\
[Unit]
Description=A shell for tests

[Service]
Environment=HOME=/root
ExecStart=/bin/sh -c 'exec </dev/ttyS1 >/dev/ttyS1 && stty raw -echo && echo started && exec sh'
KillSignal=SIGKILL
";

/// Makes the machine, unless the last run had the same recipe and package sources.
pub(crate) fn run() -> Result<()> {
    ensure!(cfg!(target_arch = "x86_64"), "the machine of the tests is x86_64");
    let folder = workspace::build_dir().join("machine");
    fs::create_dir_all(&folder)?;
    let lock = fs::File::create(folder.join(".lock"))?;
    lock.lock().context("wait for another run of machine")?;

    let sources = package_sources()?;
    let key = digest::sha256([include_str!("machine.rs"), &sources.join("\n")].concat().as_bytes());
    let stamp = folder.join("stamp");
    if fs::read_to_string(&stamp).is_ok_and(|stamped| stamped == key) {
        println!("machine: up to date");
        return Ok(());
    }
    let root = folder.join("root");
    remove(&root)?;
    install(&root, &sources)?;
    configure(&root)?;
    fs::rename(kernel(&root)?, folder.join("vmlinuz"))?;
    remove(&root.join("boot"))?;
    make_disk(&root, &folder.join("root.ext4"))?;
    remove(&root)?;
    workspace::write(&stamp, key.as_bytes())?;
    Ok(())
}

/// This machine's own sources of Debian packages, a line of `sources.list` each: no mirror is named in this project.
pub(crate) fn package_sources() -> Result<Vec<String>> {
    let os_release = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let release = os_release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("/etc/os-release names no release")?;
    let mut apt = Command::new("apt-get");
    apt.args(["indextargets", "--format", "$(RELEASE) $(REPO_URI) $(COMPONENT)", "Created-By: Packages"]);
    let listed = process::output(&mut apt)?;
    let mut sources: Vec<String> = listed
        .lines()
        .filter(|line| line.starts_with(release))
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (suite, uri, component) = (words.next()?, words.next()?, words.next()?);
            Some(format!("deb {uri} {suite} {component}"))
        })
        .collect();
    sources.sort();
    sources.dedup();
    ensure!(!sources.is_empty(), "apt knows no source of {release}");
    Ok(sources)
}

fn install(root: &Path, sources: &[String]) -> Result<()> {
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--mode=root", "--variant=essential", "--format=directory"]);
    mmdebstrap.arg(format!("--include={PACKAGES}"));
    mmdebstrap.args(LEFT_OUT.iter().map(|path| format!("--dpkgopt=path-exclude={path}")));
    process::run(mmdebstrap.arg("").arg(root).args(sources))
}

fn configure(root: &Path) -> Result<()> {
    let units = root.join("etc/systemd/system");
    for unit in MASKED {
        let path = units.join(unit);
        remove(&path)?;
        symlink("/dev/null", path)?;
    }
    fs::write(units.join("test-shell.service"), SHELL_UNIT)?;
    fs::write(root.join("etc/systemd/network/lan.network"), NETWORK)?;
    let wanted = units.join("multi-user.target.wants");
    fs::create_dir_all(&wanted)?;
    symlink("../test-shell.service", wanted.join("test-shell.service"))?;
    symlink("/lib/systemd/system/systemd-networkd.service", wanted.join("systemd-networkd.service"))?;
    fs::write(root.join("etc/hostname"), "machine\n")?;
    // One that is known: a machine without goes through systemd's first boot.
    fs::write(root.join("etc/machine-id"), format!("{}\n", &digest::sha256(b"machine")[..32]))?;
    Ok(())
}

fn kernel(root: &Path) -> Result<PathBuf> {
    let mut files = fs::read_dir(root.join("boot"))?.flatten().map(|entry| entry.path());
    files
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")))
        .context("no kernel was installed")
}

fn make_disk(root: &Path, disk: &Path) -> Result<()> {
    remove(disk)?;
    process::run(Command::new("mkfs.ext4").arg("-q").arg("-d").arg(root).arg(disk).arg(DISK))
}

/// Removes whatever is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return Ok(()),
    };
    removed.with_context(|| format!("remove {}", path.display()))
}
