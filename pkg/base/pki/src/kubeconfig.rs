//! Kubeconfigs: the one for administrators, written at start.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::authority::{not_after, read, renew_at, write};
use crate::{Error, Pki, clock};

/// Writes the administrator's kubeconfig to `path` with permission bits `mode`, unless the one there already
/// speaks to `server` (`https://host:port`) with our CA and a certificate that is not due for renewal.
///
/// # Errors
/// When the certificate cannot be made or the file not written.
pub fn write_admin(path: &Path, mode: u32, server: &str, pki: &Pki) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt as _;
    let keeps = read(path)?.is_some_and(|text| is_current(&text, server, pki));
    let same_mode = std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o777 == mode);
    if keeps && same_mode {
        return Ok(());
    }
    let admin = pki.admin()?;
    write(path, text(server, pki.server_ca.pem(), &admin.certificate, &admin.key).as_bytes(), mode)
}

fn is_current(text: &str, server: &str, pki: &Pki) -> bool {
    let field = |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name)).map(str::trim);
    let decoded = |name: &str| field(name).and_then(|data| STANDARD.decode(data).ok());
    let certificate = decoded("client-certificate-data:").and_then(|pem| String::from_utf8(pem).ok());
    field("server:") == Some(server)
        && decoded("certificate-authority-data:").is_some_and(|pem| pem == pki.server_ca.pem().as_bytes())
        && certificate.and_then(|pem| not_after(&pem)).is_some_and(|end| renew_at(end) > clock::now())
}

fn text(server: &str, ca: &str, certificate: &str, key: &str) -> String {
    let [ca, certificate, key] = [ca, certificate, key].map(|pem| STANDARD.encode(pem));
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: default
  cluster:
    certificate-authority-data: {ca}
    server: {server}
contexts:
- name: default
  context:
    cluster: default
    user: default
current-context: default
preferences: {{}}
users:
- name: default
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_kubeconfig_is_kept_until_server_ca_or_mode_change() {
        let folder = tempfile::tempdir().unwrap();
        let pki = Pki::open(&folder.path().join("tls")).unwrap();
        let path = folder.path().join("edgek.yaml");
        let write = |server: &str, mode| {
            write_admin(&path, mode, server, &pki).unwrap();
            std::fs::read_to_string(&path).unwrap()
        };
        let first = write("https://127.0.0.1:6443", 0o600);
        assert_eq!(write("https://127.0.0.1:6443", 0o600), first);
        assert_ne!(write("https://127.0.0.1:6444", 0o600), first);
    }
}
