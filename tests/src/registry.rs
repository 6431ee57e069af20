//! [`Registry`]: the distribution's docker-registry on a [`Host`], which serves the test images.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{Host, run};

/// `user` with the password `secret`.
const HTPASSWD: &str = "user:$2y$05$CloAti03G02IgcQQMPgKcO/FFW1.9nfOylSkA9EGeGGA55h536mjC\n";

/// A registry; it ends with this value.
pub struct Registry {
    process: Child,
    address: SocketAddr,
}

impl Registry {
    /// One that lets everybody in.
    pub fn open(host: &Host, address: &str) -> Self {
        Self::start(host, address, "", "")
    }

    /// One that lets `user` with the password `secret` in.
    pub fn with_login(host: &Host, address: &str) -> Self {
        let file = host.data_dir().join("htpasswd");
        fs::write(&file, HTPASSWD).expect("the file of passwords");
        Self::start(
            host,
            address,
            "",
            &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}", file.display()),
        )
    }

    /// One that speaks TLS with a certificate of its own; also the file to trust it by.
    pub fn with_tls(host: &Host, address: &str) -> (Self, PathBuf) {
        let [certificate, key] =
            ["crt", "key"].map(|end| host.data_dir().join(format!("registry-{address}.{end}")));
        let ip = address.split(':').next().unwrap_or_default();
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", "/CN=registry", "-addext", &format!("subjectAltName=IP:{ip}")])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .expect("openssl");
        crate::check(&made, "openssl req");
        let tls = format!(", tls: {{certificate: {}, key: {}}}", certificate.display(), key.display());
        (Self::start(host, address, &tls, ""), certificate)
    }

    fn start(host: &Host, address: &str, http: &str, more: &str) -> Self {
        let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/images/registry");
        let root = fs::canonicalize(images).expect("test images; `cargo xtask images` makes them");
        let config = host.data_dir().join(format!("registry-{address}.yml"));
        let text = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}, maintenance: {{readonly: {{enabled: true}}}}}}\n\
             http: {{addr: '{address}'{http}}}\n{more}\n",
            root.display()
        );
        fs::write(&config, text).expect("the registry's settings");
        let mut command = host.command("docker-registry");
        let process = command
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the package docker-registry should be installed");
        let registry = Self { process, address: address.parse().expect("an address and a port") };
        host.eventually("the registry listens", || registry.listens(host));
        registry
    }

    fn listens(&self, host: &Host) -> bool {
        let url = format!("telnet://{}", self.address);
        let mut curl = host.command("curl");
        let output = curl.args(["-s", "--max-time", "1", &url]).stdin(Stdio::null()).status();
        // curl ends with an error of the connection itself, or because nothing was said.
        output.expect("curl").code() != Some(7)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        run("kill", &[&self.process.id().to_string()]);
        let _ = self.process.wait();
    }
}
