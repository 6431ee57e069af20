//! [`Machine`]: an emulated machine with systemd and cgroup v2, for what a network namespace cannot show: installation,
//! reboots, the clock. `cargo xtask machine` makes its disk; a test types its commands into a shell on a serial port.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::{edgek, now, run};

/// How long the longest command may take, however busy the machine is that emulates.
const PATIENCE: Duration = Duration::from_secs(150);
/// The line after a command's output begins with this; its exit code follows.
const END: &str = "\u{1}end ";

/// An emulated machine. What happens on its disk is forgotten when it ends.
pub struct Machine {
    emulator: Child,
    shell: BufReader<UnixStream>,
    folder: tempfile::TempDir,
    started: Instant,
}

/// A file of the checkout.
fn checkout(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

impl Machine {
    /// A machine that has just booted, with the binary under test, `install.sh` and the images of tests in `/media`.
    /// `flags` are further ones of the emulator.
    pub fn boot(flags: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("machine").tempdir().expect("a folder for the machine");
        let media = make_media(folder.path());
        let disk = fs::canonicalize(checkout("build/machine/root.ext4"))
            .expect("the machine's disk; `cargo xtask machine` makes it");
        let socket = folder.path().join("shell");
        let drive = |name: &str, path: &Path, rest: &str| {
            format!("if=none,id={name},format=raw,file={},{rest}", path.display())
        };
        // The emulator ends with the test, however that ends.
        let emulator = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2048"])
            .args(["-nodefaults", "-display", "none"])
            .arg("-kernel")
            .arg(checkout("build/machine/vmlinuz"))
            .args(["-append", "root=/dev/nvme0n1 rw console=ttyS0 loglevel=4"])
            .args(["-device", "nvme,id=nvme,serial=edgek"])
            .args(["-drive", &drive("root", &disk, "snapshot=on"), "-device", "nvme-ns,drive=root,nsid=1"])
            .args(["-drive", &drive("media", &media, "readonly=on"), "-device", "nvme-ns,drive=media,nsid=2"])
            .args(["-serial", &format!("file:{}", folder.path().join("console").display())])
            .args(["-chardev", &format!("socket,id=shell,server=on,wait=off,path={}", socket.display())])
            .args(["-serial", "chardev:shell"])
            .args(flags)
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu-system-x86_64; scripts/deps installs it");
        let started = now();
        let shell = loop {
            match UnixStream::connect(&socket) {
                Ok(stream) => break stream,
                Err(error) => assert!(started.elapsed() < PATIENCE, "no emulator: {error}"),
            }
            std::thread::yield_now();
        };
        shell.set_read_timeout(Some(PATIENCE)).expect("a limit for reading");
        let mut machine = Self { emulator, shell: BufReader::new(shell), folder, started };
        machine.await_boot();
        machine
    }

    /// Says what happens, and when: an emulated machine takes its time.
    pub fn step(&self, text: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        // Straight to the terminal.
        let _ = writeln!(std::io::stderr(), "{seconds:6.1} s  {text}");
    }

    /// Waits for the shell, and until all that starts at boot has started.
    fn await_boot(&mut self) {
        while self.read_line() != "started" {}
        let state = self.try_run("systemctl is-system-running --wait").unwrap_or_else(|text| text);
        assert_eq!(state.trim(), "running", "{}", self.console());
        self.step("the machine has booted");
    }

    /// Boots it anew, in good order.
    pub fn reboot(&mut self) {
        // The shell ends before it can say that this went well.
        self.shell.get_mut().write_all(b"systemctl reboot\n").expect("typing");
        self.await_boot();
    }

    /// Runs shell commands: what they printed, both times.
    ///
    /// # Errors
    /// When the last one failed.
    pub fn try_run(&mut self, commands: &str) -> Result<String, String> {
        let typed = format!("(\n{commands}\n) </dev/null 2>&1; echo \"{END}$?\"\n");
        self.shell.get_mut().write_all(typed.as_bytes()).expect("typing");
        let mut printed = String::new();
        loop {
            let line = self.read_line();
            // The last line of the output may have no end.
            if let Some((rest, code)) = line.split_once(END) {
                printed.push_str(rest);
                return if code == "0" { Ok(printed) } else { Err(printed) };
            }
            printed.push_str(&line);
            printed.push('\n');
        }
    }

    /// Runs shell commands that must succeed: what they printed, without the end of the last line.
    pub fn run(&mut self, commands: &str) -> String {
        match self.try_run(commands) {
            Ok(printed) => printed.trim_end().to_owned(),
            Err(printed) => self.fail(&format!("{commands}\n{printed}")),
        }
    }

    /// Waits until shell commands succeed.
    pub fn eventually(&mut self, commands: &str) {
        let deadline = now() + PATIENCE;
        while let Err(printed) = self.try_run(commands) {
            if now() > deadline {
                self.fail(&format!("not within {} s: {commands}\n{printed}", PATIENCE.as_secs()));
            }
            // The emulated processors are slow enough without.
            crate::pause(Duration::from_millis(500));
        }
    }

    /// Writes a file on the machine.
    pub fn write(&mut self, path: &str, content: &str) {
        self.run(&format!("cat >{path} <<'END-OF-FILE'\n{content}\nEND-OF-FILE"));
    }

    /// Ends the test with `text` and what edgek has logged.
    pub fn fail(&mut self, text: &str) -> ! {
        let log = self.try_run("journalctl --unit edgek --lines 100 --no-pager").unwrap_or_else(|text| text);
        panic!("{text}\nthe log:\n{log}");
    }

    fn read_line(&mut self) -> String {
        let mut line = Vec::new();
        match self.shell.read_until(b'\n', &mut line) {
            Ok(read) if read > 0 => String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned(),
            ended => panic!("the machine says nothing more: {ended:?}\n{}", self.console()),
        }
    }

    /// What the kernel and systemd have said.
    fn console(&self) -> String {
        let text = fs::read(self.folder.path().join("console")).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned()
    }
}

/// A disk with what tests bring along.
fn make_media(folder: &Path) -> PathBuf {
    let files = folder.join("media");
    fs::create_dir(&files).expect("a folder");
    for (name, source) in [
        ("edgek", edgek()),
        ("install.sh", checkout("install.sh")),
        ("busybox.tar", checkout("build/images/busybox.tar")),
    ] {
        fs::copy(&source, files.join(name)).unwrap_or_else(|e| panic!("{}: {e}", source.display()));
    }
    let disk = folder.join("media.ext4");
    File::create(&disk).and_then(|file| file.set_len(256 << 20)).expect("a disk");
    run("mkfs.ext4", &["-q", "-d", &files.to_string_lossy(), &disk.to_string_lossy()]);
    disk
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.emulator.kill();
        let _ = self.emulator.wait();
    }
}
