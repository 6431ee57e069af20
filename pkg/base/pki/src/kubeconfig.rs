//! Kubeconfigs: the one for administrators, written at start and kept current.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use edgek_base_lifecycle::sleep;
use tracing::error;

use crate::authority::{not_after, read, renew_at, write};
use crate::{Error, Pki, clock};

/// How often the file is looked at: a clock that jumps is noticed within a day.
const LOOK: Duration = Duration::from_secs(24 * 3600);

/// The administrator's kubeconfig.
#[derive(Debug)]
pub struct Admin {
    /// Where it is.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// `https://host:port`.
    pub server: String,
    /// Whose CA it trusts and who signs its certificate.
    pub pki: Arc<Pki>,
}

impl Admin {
    /// Writes the file, unless the one there already speaks to this server with our CA and a certificate that is not
    /// due for renewal.
    ///
    /// # Errors
    /// When the certificate cannot be made or the file not written.
    pub fn write(&self) -> Result<(), Error> {
        use std::os::unix::fs::PermissionsExt as _;
        let keeps = read(&self.path)?.is_some_and(|text| is_current(&text, &self.server, &self.pki));
        let mode = std::fs::metadata(&self.path).map(|metadata| metadata.permissions().mode() & 0o777);
        if keeps && mode.is_ok_and(|mode| mode == self.mode) {
            return Ok(());
        }
        let admin = self.pki.admin()?;
        let text = text(&self.server, self.pki.server_ca.pem(), &admin.certificate, &admin.key);
        write(&self.path, text.as_bytes(), self.mode)
    }

    /// Writes the file again whenever its certificate is due for renewal, until the scope of the task ends.
    pub async fn renew(self) {
        loop {
            sleep(LOOK).await;
            if let Err(error) = self.write() {
                error!(%error, "renewing the administrator's kubeconfig failed; it is tried again tomorrow");
            }
        }
    }
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
    use crate::authority::LEAF_LIFETIME;
    use std::path::Path;

    fn admin(folder: &Path) -> Admin {
        let pki = Arc::new(Pki::open(&folder.join("tls")).unwrap());
        Admin {
            path: folder.join("edgek.yaml"),
            mode: 0o600,
            server: "https://127.0.0.1:6443".to_owned(),
            pki,
        }
    }

    #[test]
    fn the_file_is_kept_until_server_ca_or_mode_change() {
        let folder = tempfile::tempdir().unwrap();
        let admin = admin(folder.path());
        let write = |admin: &Admin| {
            admin.write().unwrap();
            std::fs::read_to_string(&admin.path).unwrap()
        };
        let first = write(&admin);
        assert_eq!(write(&admin), first);
        assert_ne!(write(&Admin { server: "https://127.0.0.1:6444".to_owned(), ..admin }), first);
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_that_is_due_is_renewed_while_the_server_runs() {
        let folder = tempfile::tempdir().unwrap();
        let admin = admin(folder.path());
        let subject = crate::Subject::Client { user: "system:admin", group: Some("system:masters") };
        let due = admin.pki.client_ca.issue(&subject, LEAF_LIFETIME / 4).unwrap();
        let (path, old) =
            (admin.path.clone(), text(&admin.server, admin.pki.server_ca.pem(), &due.certificate, &due.key));
        std::fs::write(&path, &old).unwrap();
        let pki = admin.pki.clone();
        tokio::time::timeout(LOOK * 3 / 2, admin.renew()).await.unwrap_err();
        let new = std::fs::read_to_string(&path).unwrap();
        assert!(!is_current(&old, "https://127.0.0.1:6443", &pki));
        assert!(is_current(&new, "https://127.0.0.1:6443", &pki));
    }
}
