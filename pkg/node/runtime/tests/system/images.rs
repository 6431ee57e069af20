//! Images on a real containerd: archives, registries, names and removal. Needs root, `EDGEK_BUNDLE`, and the
//! distribution's `docker-registry`.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use crate::support::{Node, PATIENCE, write_archive_with};
use edgek_node_runtime::containerd::{Auth, HostConfig, Mirror};
use edgek_node_runtime::{Credentials, Error, Runtime};

const CONFIG: &str = r#"{"User": "web", "Cmd": ["echo", "pulled"]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn archives_are_imported_plain_and_compressed() {
    let node = Node::new();
    let edgek = node.start_bare();
    let plain = node.dir.path().join("plain.tar");
    write_archive_with(&plain, "docker.io/library/plain:v1", CONFIG);
    let images = edgek.runtime.import_images(&plain).await.unwrap();
    let [image] = images.as_slice() else { panic!("{images:?}") };
    assert_eq!(image.tags, ["docker.io/library/plain:v1"]);
    assert_eq!(image.user, "web");
    assert!(image.pinned);
    let [digest] = image.digests.as_slice() else { panic!("one digest: {image:?}") };
    assert!(digest.starts_with("docker.io/library/plain@sha256:"), "{image:?}");

    let gzip = node.dir.path().join("gzip.tar.gz");
    write_archive_with(&plain, "docker.io/library/gzip:v1", r#"{"Cmd": ["a"]}"#);
    let mut encoder =
        flate2::write::GzEncoder::new(std::fs::File::create(&gzip).unwrap(), flate2::Compression::fast());
    encoder.write_all(&std::fs::read(&plain).unwrap()).unwrap();
    encoder.finish().unwrap();
    edgek.runtime.import_images(&gzip).await.unwrap();
    let zstd = node.dir.path().join("zstd.tar.zst");
    write_archive_with(&plain, "zstd:v1", r#"{"Cmd": ["b"]}"#);
    std::fs::write(&zstd, zstd::encode_all(std::fs::File::open(&plain).unwrap(), 1).unwrap()).unwrap();
    edgek.runtime.import_images(&zstd).await.unwrap();
    let mut names: Vec<_> =
        edgek.runtime.images().await.unwrap().into_iter().flat_map(|image| image.tags).collect();
    names.sort();
    assert_eq!(names, ["gzip", "plain", "zstd"].map(|name| format!("docker.io/library/{name}:v1")));

    assert!(
        edgek.runtime.image("zstd:v1").await.unwrap().is_some(),
        "also when the archive has a short name"
    );
    for reference in [
        "plain:v1",
        "docker.io/plain:v1",
        &image.id,
        image.id.trim_start_matches("sha256:"),
        &image.digests[0],
    ] {
        assert_eq!(edgek.runtime.image(reference).await.unwrap().unwrap().id, image.id, "{reference}");
    }
    assert_eq!(edgek.runtime.image("plain:v2").await.unwrap(), None);

    let broken = node.dir.path().join("broken.tar");
    std::fs::write(&broken, &std::fs::read(&plain).unwrap()[..100_000]).unwrap();
    let error = edgek.runtime.import_images(&broken).await.unwrap_err();
    assert!(matches!(error, Error::Import { .. }), "{error}");

    edgek.runtime.remove_image("gzip:v1").await.unwrap();
    assert_eq!(edgek.runtime.image("gzip:v1").await.unwrap(), None);
    edgek.runtime.remove_image("gzip:v1").await.unwrap();
    assert_eq!(edgek.runtime.images().await.unwrap().len(), 2);
    edgek.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_run_and_kept_for_its_containers() {
    let node = Node::new();
    let edgek = node.start_bare();
    let registry = Registry::start(&node, None);
    let digest = registry.push("team/web", "v1", None);
    let reference = format!("127.0.0.1:{}/team/web:v1", registry.port);
    let image = edgek.runtime.pull_image(&reference, None).await.unwrap();
    assert_eq!((image.tags.as_slice(), image.pinned), ([reference.clone()].as_slice(), false));
    assert_eq!(image.reference(), format!("127.0.0.1:{}/team/web@{digest}", registry.port));
    let by_digest = edgek.runtime.pull_image(image.reference(), None).await.unwrap();
    assert_eq!((by_digest.id, by_digest.tags), (image.id.clone(), image.tags.clone()));

    let mut spec = node.spec("web", "main", "");
    (spec.image, spec.command) = (reference.clone(), Vec::new());
    let container = edgek.run_to_end(&spec).await;
    assert_eq!(container.image_id, image.reference());
    assert_eq!((container.user.uid, container.user.gid), (101, 201));
    assert_eq!(node.log(&spec), "pulled\n");

    let missing = edgek
        .runtime
        .pull_image(&format!("127.0.0.1:{}/team/none:v1", registry.port), None)
        .await
        .unwrap_err();
    let text = missing.to_string();
    assert!(
        text.starts_with("failed to pull and unpack image \"127.0.0.1:") && text.contains("not found"),
        "{text}"
    );
    edgek.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_gets_the_credentials_it_asks_for() {
    let node = Node::new();
    let edgek = node.start_bare();
    let registry = Registry::start(&node, Some("user:secret"));
    registry.push("team/web", "v1", Some("user:secret"));
    let reference = format!("127.0.0.1:{}/team/web:v1", registry.port);
    let refused = edgek.runtime.pull_image(&reference, None).await.unwrap_err();
    assert!(refused.to_string().contains("no basic auth credentials"), "{refused}");
    let login =
        |password: &str| Credentials::Basic { username: "user".to_owned(), password: password.to_owned() };
    let wrong = edgek.runtime.pull_image(&reference, Some(&login("guess"))).await.unwrap_err();
    assert!(wrong.to_string().contains("401"), "{wrong}");
    edgek.runtime.pull_image(&reference, Some(&login("secret"))).await.unwrap();
    edgek.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_stands_in_for_a_registry() {
    let mut node = Node::new();
    let registry = Registry::start(&node, Some("user:secret"));
    registry.push("library/web", "v1", Some("user:secret"));
    let mirror = Mirror { endpoint: vec![format!("http://127.0.0.1:{}", registry.port)] };
    node.config.registries.mirrors.insert("docker.io".to_owned(), mirror);
    let auth = Auth { username: "user".to_owned(), password: "secret".to_owned(), ..Auth::default() };
    let host = HostConfig { auth: Some(auth), tls: None };
    node.config.registries.configs.insert(format!("127.0.0.1:{}", registry.port), host);
    let edgek = node.start_bare();
    let image = edgek.runtime.pull_image("web:v1", None).await.unwrap();
    assert_eq!(image.tags, ["docker.io/library/web:v1"]);
    edgek.stop().await;
}

/// The distribution's registry on a free port of the loopback interface.
struct Registry {
    process: Child,
    port: u16,
}

impl Registry {
    fn start(node: &Node, login: Option<&str>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = node.dir.path().join("registry");
        std::fs::create_dir(&dir).unwrap();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            dir.display()
        );
        if login.is_some() {
            // "user" with the password "secret".
            std::fs::write(dir.join("htpasswd"), HTPASSWD).unwrap();
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}/htpasswd}}}}\n", dir.display());
        }
        std::fs::write(dir.join("config.yml"), config).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the package docker-registry should be installed");
        let started = tokio::time::Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < PATIENCE, "the registry should listen");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Self { process, port }
    }

    /// Uploads an image; returns its digest.
    fn push(&self, repository: &str, tag: &str, login: Option<&str>) -> String {
        let (blobs, manifest) = crate::support::image(CONFIG);
        for (digest, bytes) in &blobs {
            let (head, _) = self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), login, "", &[]);
            let location =
                head.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap().trim().to_owned();
            let path =
                location.split_once(&format!(":{}", self.port)).map_or(location.as_str(), |(_, path)| path);
            let separator = if path.contains('?') { '&' } else { '?' };
            let path = format!("{path}{separator}digest={digest}");
            let (head, body) = self.send("PUT", &path, login, "application/octet-stream", bytes);
            assert!(head.contains(" 201 "), "{head}{body}");
        }
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let (head, body) =
            self.send("PUT", &format!("/v2/{repository}/manifests/{tag}"), login, kind, &manifest.1);
        assert!(head.contains(" 201 "), "{head}{body}");
        manifest.0
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        login: Option<&str>,
        kind: &str,
        body: &[u8],
    ) -> (String, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let login = login.map_or_else(String::new, |_| format!("Authorization: Basic {LOGIN}\r\n"));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n{login}Content-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

const HTPASSWD: &str = "user:$2y$05$CloAti03G02IgcQQMPgKcO/FFW1.9nfOylSkA9EGeGGA55h536mjC\n";

/// `user:secret` in base64.
const LOGIN: &str = "dXNlcjpzZWNyZXQ=";
