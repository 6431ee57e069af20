//! Starts that cannot succeed say what to do; starts under poor conditions work as far as they can.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use edgek_tests::api::Connection;
use edgek_tests::{BUSYBOX, Host, edgek};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

/// The machine is not ready for edgek.
const ENVIRONMENT: Option<i32> = Some(4);
/// Flags or files are wrong.
const USAGE: Option<i32> = Some(2);
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SHELL: &str = "trap 'exit 0' TERM; while true; do sleep 0.1; done";

/// A host whose control plane has run once.
fn used() -> Host {
    let mut host = Host::new();
    host.serve(&["--disable=node"]);
    complete(&host);
    assert_eq!(host.stop_server(), Some(0));
    host
}

/// Waits until the start of the control plane is over.
fn complete(host: &Host) {
    // The last object that every cluster has.
    host.eventually("the control plane is complete", || {
        host.try_kubectl(&["get", "service", "kubernetes"]).is_ok()
    });
}

/// The start of the control plane alone, which must fail with `code` and these words.
fn refused(host: &Host, code: Option<i32>, words: &[&str]) {
    let arguments = [host.settings().as_slice(), &["--disable=node".to_owned()]].concat();
    said(host.failed_start(&arguments), code, words);
}

fn said((found, text): (Option<i32>, String), code: Option<i32>, words: &[&str]) {
    assert_eq!(found, code, "{text}");
    for word in words {
        assert!(text.contains(word), "{word} in {text}");
    }
}

fn database(host: &Host) -> PathBuf {
    host.data_dir().join("server/db/state.db")
}

fn sqlite(database: &Path, statement: &str) -> String {
    let output = Command::new("sqlite3").arg(database).arg(statement).output().expect("sqlite3");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn config_map(name: &str, bytes: usize) -> Value {
    json!({"metadata": {"name": name}, "data": {"text": "x".repeat(bytes)}})
}

fn create(connection: &mut Connection, name: &str, bytes: usize) -> (StatusCode, Value) {
    connection.call(Method::POST, CONFIG_MAPS, &config_map(name, bytes)).expect("an answer")
}

/// A small file system in memory.
struct Mount(PathBuf);

impl Mount {
    fn new(path: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&path).expect("a mount point");
        let mount = Self(path);
        mount.run(&["-t", "tmpfs", "-o", &format!("size={size}"), "edgek-test"]);
        mount
    }

    fn run(&self, arguments: &[&str]) {
        let status = Command::new("mount").args(arguments).arg(&self.0).status();
        assert!(status.expect("mount").success());
    }

    /// Takes all space there is.
    fn fill(&self) -> PathBuf {
        let filler = self.0.join("filler");
        let mut file = fs::File::create(&filler).expect("a file");
        while file.write_all(&[0; 4096]).is_ok() {}
        filler
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A failed test may have left something open there.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A host whose data directory is a disk of its own; the host ends before its disk does.
fn host_with_disk(size: &str) -> (Mount, Host) {
    let host = Host::new();
    (Mount::new(host.data_dir(), size), host)
}

#[test]
fn a_data_directory_in_use_names_the_process_that_uses_it() {
    let mut host = Host::new();
    host.serve(&["--disable=node"]);
    let arguments = [host.settings().as_slice(), &["--https-listen-port=7443".to_owned()]].concat();
    said(
        host.failed_start(&arguments),
        ENVIRONMENT,
        &["server/db is in use by another edgek (process ", "stop it"],
    );
}

#[test]
fn a_port_in_use_is_named_with_the_flag_that_changes_it() {
    let mut host = Host::new();
    host.serve(&["--disable=node"]);
    let elsewhere = tempfile::tempdir().expect("a folder");
    let arguments = [format!("--data-dir={}", elsewhere.path().display())];
    let words = ["0.0.0.0:6443", "another program listens there", "--https-listen-port"];
    said(host.failed_start(&arguments), ENVIRONMENT, &words);
    assert_eq!(fs::read_dir(elsewhere.path()).expect("the folder").count(), 0, "nothing is written before");
}

#[test]
fn all_mistakes_of_a_configuration_file_are_told_at_once() {
    let host = Host::new();
    let file = host.data_dir().join("config.yaml");
    fs::write(&file, "node-nam: x\n# comment\nhttps-listen-port: many\n").expect("a broken file");
    let words = [
        "config.yaml:1: unknown setting \"node-nam\"; did you mean \"node-name\"?",
        "config.yaml:3: https-listen-port: \"many\"",
    ];
    said(host.failed_start(&[format!("--config={}", file.display())]), USAGE, &words);
    fs::write(&file, "node-name: [\n").expect("a broken file");
    said(
        host.failed_start(&[format!("--config={}", file.display())]),
        USAGE,
        &["config.yaml:1: unclosed bracket"],
    );
    said(host.failed_start(&["--config=/nowhere.yaml"]), USAGE, &["/nowhere.yaml"]);
    let words = [
        "--run-dir: run-dir: /run/a-folder-with-a-very-long-name is too long",
        "--node-name: node-name: \"X\"",
    ];
    said(
        host.failed_start(&["--run-dir=/run/a-folder-with-a-very-long-name", "--node-name=X"]),
        USAGE,
        &words,
    );
}

#[test]
fn only_root_can_run_a_node() {
    let host = Host::new();
    // Others may not pass through the folders of root.
    let binary =
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().expect("a folder");
    let copy = binary.path().join("edgek");
    fs::copy(edgek(), &copy).expect("a copy");
    let run = |arguments: &[&str]| {
        let mut command = host.command("setpriv");
        let output = command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&copy)
            .args(arguments)
            .output();
        let output = output.expect("edgek");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    said(run(&["run", "server"]), ENVIRONMENT, &["not root: use sudo"]);
    said(
        run(&["check"]),
        ENVIRONMENT,
        &["fail  user: not root; use sudo", "this machine cannot run edgek as it is"],
    );
}

#[test]
fn a_data_directory_of_a_newer_version_is_refused_and_left_alone() {
    let host = used();
    sqlite(&database(&host), "PRAGMA user_version = 9");
    let before = fs::read(database(&host)).expect("the database");
    refused(
        &host,
        ENVIRONMENT,
        &["state.db has schema version 9, this edgek knows up to 1", "start the newer edgek"],
    );
    assert!(fs::read(database(&host)).expect("the database") == before, "the database was written");
}

#[test]
fn a_damaged_database_is_refused_and_left_alone() {
    let host = used();
    let whole = fs::read(database(&host)).expect("the database");
    // The beginning, then a page in the middle.
    for offset in [0, whole.len() as u64 / 8192 * 4096] {
        let file = fs::File::options().write(true).open(database(&host)).expect("the database");
        file.write_all_at(&[0x5a; 4096], offset).expect("damage");
        let before = fs::read(database(&host)).expect("the database");
        refused(&host, ENVIRONMENT, &["server/db", "damaged", "restore a backup of it, or move it away"]);
        assert!(fs::read(database(&host)).expect("the database") == before, "the database was written");
        fs::write(database(&host), &whole).expect("the backup");
    }
}

#[test]
fn damaged_keys_and_certificates_are_named() {
    let mut host = used();
    let tls = host.data_dir().join("server/tls");
    for (file, words) in [
        ("server-ca.crt", ["server-ca.crt is not a valid certificate", "restore it from a backup"]),
        ("client-ca.key", ["client-ca.key is not a valid private key", "restore it from a backup"]),
        ("service.key", ["service.key is not a valid private key", "restore it from a backup"]),
    ] {
        let whole = fs::read(tls.join(file)).expect("the file");
        fs::write(tls.join(file), "junk").expect("damage");
        refused(&host, ENVIRONMENT, &words);
        fs::write(tls.join(file), whole).expect("the backup");
    }
    let key = tls.join("server-ca.key");
    let whole = fs::read(&key).expect("the key");
    fs::remove_file(&key).expect("the key");
    refused(&host, ENVIRONMENT, &["server-ca.key is missing but", "restore the missing file from a backup"]);
    fs::write(&key, whole).expect("the backup");
    // The kubeconfig can be made anew.
    fs::write(host.kubeconfig(), "junk").expect("damage");
    host.launch(&["--disable=node"]);
    host.eventually("the kubeconfig is whole", || host.try_kubectl(&["get", "namespaces"]).is_ok());
}

#[test]
fn a_read_only_data_directory_is_named() {
    let (mount, mut host) = host_with_disk("64m");
    mount.run(&["-o", "remount,ro"]);
    refused(
        &host,
        ENVIRONMENT,
        &["data/server/db cannot be written: make it writable", "Read-only file system"],
    );
    mount.run(&["-o", "remount,rw"]);
    host.serve(&["--disable=node"]);
    assert_eq!(host.stop_server(), Some(0));
    mount.run(&["-o", "remount,ro"]);
    refused(
        &host,
        ENVIRONMENT,
        &["data/server/db cannot be written: make it writable", "Read-only file system"],
    );
}

#[test]
fn a_full_disk_at_the_start_is_named() {
    let (mount, mut host) = host_with_disk("4m");
    let filler = mount.fill();
    refused(&host, ENVIRONMENT, &["no space left to write", "/data/server/db", "free some"]);
    fs::remove_file(filler).expect("the filler");
    // Enough for the datastore, too little for the programs.
    let words = ["unpacking", "/data/bin", "make room there, or choose another --data-dir", "No space left"];
    said(host.failed_start(&host.settings()), ENVIRONMENT, &words);
    host.serve(&["--disable=node"]);
}

#[test]
fn a_disk_that_fills_up_refuses_writes_until_there_is_space_and_pods_run_on() {
    let (mount, mut host) = host_with_disk("600m");
    host.link_images();
    host.start();
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: sh}}\nspec: {{containers: [{{name: c, image: {BUSYBOX}, command: [sh, -c, \"{SHELL}\"]}}]}}\n"
    );
    host.kubectl_with_input(&["apply", "-f", "-"], &manifest);
    host.kubectl(&["wait", "--for=condition=Ready", "pod/sh", "--timeout=60s"]);
    let mut connection = host.api().connect().expect("a connection");
    assert_eq!(create(&mut connection, "before", 10).0, StatusCode::CREATED);
    let filler = mount.fill();
    // What the write-ahead log has room for may still succeed.
    let mut number = 0;
    let answer = loop {
        number += 1;
        let (status, answer) = create(&mut connection, &format!("full-{number}"), 500_000);
        if status != StatusCode::CREATED {
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
            break answer;
        }
    };
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(message.contains("no space left to write") && message.contains("state.db"), "{message}");
    let (status, _) =
        connection.call(Method::GET, &format!("{CONFIG_MAPS}/before"), &Value::Null).expect("an answer");
    assert_eq!(status, StatusCode::OK);
    assert_eq!(host.kubectl(&["exec", "sh", "--", "echo", "alive"]), "alive\n");
    fs::remove_file(filler).expect("the filler");
    assert_eq!(create(&mut connection, &format!("full-{number}"), 500_000).0, StatusCode::CREATED);
    let restarts = ["get", "pod", "sh", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"];
    assert_eq!(host.kubectl(&restarts), "0");
}

#[test]
fn a_machine_without_a_network_runs_pods_from_a_folder_with_spaces_in_its_name() {
    let mut host = Host::without_network("a b");
    host.start();
    assert!(
        host.logged().contains("no network interface has an address; pods run, but reach only this machine")
    );
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: sh}}\nspec: {{containers: [{{name: c, image: {BUSYBOX}, command: [sh, -c, \"{SHELL}\"]}}]}}\n"
    );
    host.kubectl_with_input(&["apply", "-f", "-"], &manifest);
    host.kubectl(&["wait", "--for=condition=Ready", "pod/sh", "--timeout=60s"]);
    assert_eq!(host.kubectl(&["exec", "sh", "--", "echo", "here"]), "here\n");
}

#[test]
fn a_bundle_that_was_unpacked_in_part_is_healed() {
    let mut host = Host::started();
    assert_eq!(host.stop_server(), Some(0));
    let bin = fs::canonicalize(host.data_dir().join("bin/current")).expect("the bundle");
    let size = |name: &str| fs::metadata(bin.join(name)).map_or(0, |metadata| metadata.size());
    let whole = ["containerd", "runc"].map(size);
    fs::File::options()
        .write(true)
        .open(bin.join("containerd"))
        .and_then(|file| file.set_len(1000))
        .expect("damage");
    fs::remove_file(bin.join("runc")).expect("runc");
    // Of a process that is no more.
    let leftover = bin.join(".runc.9999999");
    fs::write(&leftover, "half").expect("a leftover");
    host.start();
    host.eventually("the programs are whole", || ["containerd", "runc"].map(size) == whole);
    host.eventually("the leftover is gone", || !leftover.exists());
}

#[test]
fn sigterm_waits_for_requests_and_a_second_one_does_not() {
    let mut host = Host::new();
    let (_, connection) = host.serve(&["--disable=node"]);
    complete(&host);
    let unfinished = connection.begin(Method::POST, CONFIG_MAPS).expect("a request");
    host.signal("TERM");
    host.eventually("the server drains", || host.logged().contains("stopping; pods go on running"));
    let begun = edgek_tests::now();
    assert_eq!(host.stop_server(), Some(0));
    assert!(begun.elapsed().as_secs() < 5, "the second signal did not end it at once");
    assert!(host.logged().contains("stopped at once by a second signal"));
    drop(unfinished);
}

#[test]
fn check_prints_one_line_for_each_question() {
    let mut host = Host::new();
    let check = || {
        let output =
            host.command(edgek()).arg("check").args(host.settings()).stderr(Stdio::inherit()).output();
        let output = output.expect("edgek check");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = check();
    assert_eq!(code, Some(0), "{text}");
    for line in text.lines() {
        let (mark, rest) = line.split_at(6);
        assert!(["ok    ", "warn  "].contains(&mark) && rest.contains(": "), "{line}");
    }
    for question in [
        "user",
        "kernel",
        "cgroups",
        "overlayfs",
        "data directory",
        "clock",
        "default route",
        "pod network",
        "firewall",
        "API port",
    ] {
        assert!(
            text.lines().any(|line| line[6..].starts_with(&format!("{question}: "))),
            "{question} in {text}"
        );
    }
    // As Docker leaves it.
    let docker = "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }";
    assert!(host.command("nft").arg(docker).status().expect("nft").success());
    let accept = "`nft insert rule ip filter FORWARD ip saddr 10.42.0.0/16 accept`";
    let (_, text) = check();
    let line = text.lines().find(|line| line.starts_with("warn  firewall: ")).expect("a warning");
    assert!(line.contains(accept), "{line}");
    host.serve(&["--disable=node"]);
    let mount = Mount::new(host.data_dir().join("small"), "1m");
    let output = host.command(edgek()).arg("check").arg(format!("--data-dir={}", mount.0.display())).output();
    let output = output.expect("edgek check");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), ENVIRONMENT, "{text}");
    assert!(text.contains("warn  API port: 0.0.0.0:6443 is in use"), "{text}");
    assert!(text.contains("fail  data directory: 1 MiB free"), "{text}");
}
