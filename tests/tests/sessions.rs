//! What a user does with a running container: logs, exec, attach, run, port-forward, cp.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use edgek_tests::{AGNHOST, BUSYBOX, Namespace, PortForward, Terminal};

/// The protocols that kubectl speaks, by the variables that choose them.
const PROTOCOLS: [&str; 2] = ["true", "false"];

fn with_websockets(mut command: Command, choice: &str) -> Command {
    command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", choice);
    command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", choice);
    command
}

/// A pod in which commands can be run.
fn shell_pod(namespace: &Namespace, name: &str) {
    let command = r#"["sh", "-c", "trap 'exit 0' TERM; while true; do sleep 0.1; done"]"#;
    namespace
        .ready_pod(name, &format!("{{containers: [{{name: c, image: '{BUSYBOX}', command: {command}}}]}}"));
}

#[test]
fn logs_follow_until_the_container_ends() {
    let namespace = Namespace::new();
    let script = "for n in 1 2 3 4; do echo line $n; sleep 0.5; done; echo bad >&2; exit 3";
    namespace.pod(
        "counter",
        &format!(
            "{{restartPolicy: Never, containers: [{{name: c, image: '{BUSYBOX}', command: [sh, -c, '{script}']}}]}}"
        ),
    );
    namespace.wait("pod/counter", "jsonpath={.status.phase}=Running");
    let all = "line 1\nline 2\nline 3\nline 4\nbad\n";
    assert_eq!(namespace.kubectl(&["logs", "-f", "counter"]), all);
    assert_eq!(namespace.field("pod/counter", ".status.containerStatuses[0].state.terminated.exitCode"), "3");
    assert_eq!(namespace.kubectl(&["logs", "counter"]), all);
    assert_eq!(namespace.kubectl(&["logs", "counter", "--tail=2"]), "line 4\nbad\n");
    assert_eq!(namespace.kubectl(&["logs", "counter", "--tail=0"]), "");
    assert_eq!(namespace.kubectl(&["logs", "counter", "--limit-bytes=6"]), "line 1");
    assert_eq!(
        namespace.kubectl(&["logs", "counter", "--since=1h", "--prefix"]).lines().next(),
        Some("[pod/counter/c] line 1")
    );
    let stamped = namespace.kubectl(&["logs", "counter", "--timestamps"]);
    let times: Vec<_> = stamped.lines().map(|line| line.split(' ').next().expect("a word")).collect();
    assert!(
        times.is_sorted() && times.iter().all(|time| time.starts_with("20") && time.contains('T')),
        "{stamped}"
    );
    // kubectl sends whole seconds.
    let after = namespace.kubectl(&["logs", "counter", &format!("--since-time={}", times[3])]);
    assert!(after.ends_with("line 4\nbad\n") && !after.contains("line 1"), "{after}");
}

#[test]
fn logs_of_the_run_before_are_kept() {
    let namespace = Namespace::new();
    let script =
        "if [ -e /kept/ran ]; then echo second; sleep 600; else touch /kept/ran; echo first; exit 1; fi";
    namespace.pod(
        "twice",
        &format!(
            "{{terminationGracePeriodSeconds: 1, volumes: [{{name: kept, emptyDir: {{}}}}], containers: [{{name: c, image: '{BUSYBOX}', \
             command: [sh, -c, '{script}'], volumeMounts: [{{name: kept, mountPath: /kept}}]}}]}}"
        ),
    );
    namespace.wait("pod/twice", "jsonpath={.status.containerStatuses[0].restartCount}=1");
    namespace.wait("pod/twice", "condition=Ready");
    assert_eq!(namespace.kubectl(&["logs", "twice"]), "second\n");
    assert_eq!(namespace.kubectl(&["logs", "twice", "--previous"]), "first\n");
    let missing = namespace.try_kubectl(&["logs", "twice", "-c", "other"]).expect_err("no such container");
    assert!(missing.contains("container other is not valid for pod twice"), "{missing}");
}

#[test]
fn exec_carries_input_output_and_exit_codes() {
    let namespace = Namespace::new();
    shell_pod(&namespace, "sh");
    for choice in PROTOCOLS {
        let command = |arguments: &[&str]| with_websockets(namespace.kubectl_command(arguments), choice);
        let output = command(&["-v=4", "exec", "sh", "--", "sh", "-c", "echo out; echo err >&2; exit 7"])
            .output()
            .expect("kubectl");
        assert_eq!(output.status.code(), Some(7), "websockets {choice}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains("err\n") && errors.contains("exit code 7"), "{errors}");
        assert!(!errors.contains("fallback"), "the protocol asked for was not spoken: {errors}");

        // 5 MB in and out: no byte is lost at the end of a stream.
        let file = namespace.host.data_dir().join(format!("big-{choice}"));
        fs::write(&file, "0123456789abcdef".repeat(320 * 1024)).expect("a big file");
        let sum = command(&["exec", "-i", "sh", "--", "md5sum"])
            .stdin(fs::File::open(&file).expect("the big file"))
            .output()
            .expect("kubectl");
        let read = command(&["exec", "-i", "sh", "--", "cat"])
            .stdin(fs::File::open(&file).expect("the big file"))
            .output()
            .expect("kubectl");
        let expected = Command::new("md5sum").stdin(fs::File::open(&file).expect("the file")).output();
        assert_eq!(sum.stdout, expected.expect("md5sum").stdout, "websockets {choice}");
        assert!(read.stdout == fs::read(&file).expect("the big file"), "websockets {choice}");
    }
    let missing = namespace.try_kubectl(&["exec", "sh", "--", "none"]).expect_err("no such program");
    assert!(missing.contains("executable file not found in $PATH"), "{missing}");
}

#[test]
fn exec_on_a_terminal_has_its_size_and_its_keys() {
    let namespace = Namespace::new();
    shell_pod(&namespace, "sh");
    for choice in PROTOCOLS {
        let command = namespace.kubectl_command(&["exec", "-it", "sh", "--", "sh"]);
        let mut terminal = Terminal::run(&with_websockets(command, choice));
        terminal.expect("# ");
        terminal.write("stty size\r");
        terminal.expect("\r\n40 100\r\n");
        terminal.resize(50, 120);
        // The new size travels on a stream of its own.
        terminal.write("while [ \"$(stty size)\" != '50 120' ]; do sleep 0.1; done; echo re''sized\r");
        terminal.expect("resized");
        terminal.write("sh -c 'echo begin; echo begun; exec sleep 600'\r");
        terminal.expect("begin\r\nbegun\r\n");
        terminal.write("\x03");
        terminal.write("echo code $?\r");
        terminal.expect("\r\ncode 130\r\n");
        terminal.write("exit 5\r");
        assert_eq!(terminal.wait().code(), Some(5), "websockets {choice}");
    }
}

#[test]
fn attach_reaches_the_first_process() {
    let namespace = Namespace::new();
    namespace.ready_pod(
        "shell",
        &format!("{{containers: [{{name: c, image: '{BUSYBOX}', command: [sh], stdin: true, tty: true}}]}}"),
    );
    for choice in PROTOCOLS {
        let command = namespace.kubectl_command(&["attach", "-it", "shell"]);
        let mut terminal = Terminal::run(&with_websockets(command, choice));
        terminal.write("echo $((40 + 2)) $$\r");
        terminal.expect("\r\n42 1\r\n");
        // What ends here is kubectl, not the container.
        terminal.end();
    }
    assert_eq!(namespace.field("pod/shell", ".status.containerStatuses[0].restartCount"), "0");
    // Without a terminal, input that ends is the end of the process's input.
    namespace.pod(
        "cat",
        &format!("{{restartPolicy: Never, containers: [{{name: c, image: '{BUSYBOX}', command: [cat], stdin: true, stdinOnce: true}}]}}"),
    );
    namespace.wait("pod/cat", "condition=Ready");
    assert_eq!(namespace.kubectl_with_input(&["attach", "-i", "cat", "--quiet"], "typed\n"), "typed\n");
    namespace.wait("pod/cat", "jsonpath={.status.phase}=Succeeded");
}

#[test]
fn run_shows_a_pod_and_removes_it() {
    let namespace = Namespace::new();
    let image = format!("--image={BUSYBOX}");
    let run = [
        "run",
        "once",
        "-it",
        "--rm",
        "--restart=Never",
        &image,
        "--",
        "sh",
        "-c",
        "read line; echo got $line; exit 3",
    ];
    let mut terminal = Terminal::run(&namespace.kubectl_command(&run));
    terminal.write("hello\r");
    terminal.expect("got hello\r\n");
    terminal.expect("pod \"once\" deleted");
    assert_eq!(terminal.wait().code(), Some(3));
    assert_eq!(namespace.kubectl(&["get", "pods", "-o", "name"]), "");

    let run = ["run", "piped", "-i", "--rm", "--restart=Never", "--quiet", &image, "--", "cat"];
    assert_eq!(namespace.kubectl_with_input(&run, "one\ntwo\n"), "one\ntwo\n");

    // Whatever is said before kubectl has attached is shown too, whether the pod still runs then or not.
    for (name, script) in [("early", "echo said; sleep 2"), ("over", "echo said")] {
        let run = ["run", name, "-i", "--rm", "--restart=Never", "--quiet", &image, "--", "sh", "-c", script];
        assert_eq!(namespace.kubectl_with_input(&run, ""), "said\n", "{script}");
    }
}

/// `kubectl port-forward` to port 8080 of the pod.
fn forward(namespace: &Namespace, choice: &str) -> PortForward {
    let command = namespace.kubectl_command(&["port-forward", "pod/web", ":8080"]);
    PortForward::start(with_websockets(command, choice))
}

fn curl(namespace: &Namespace, forward: &PortForward, path: &str) -> Command {
    let mut curl = namespace.host.command("curl");
    curl.args(["-sS", "--max-time", "30", &format!("http://{}{path}", forward.address)]);
    curl.stdout(Stdio::piped());
    curl
}

/// A connection that has carried an answer and stays open.
fn stay_open(namespace: &Namespace, forward: &PortForward) -> Child {
    let mut curl = namespace.host.command("curl");
    curl.args(["-sSN", &format!("telnet://{}", forward.address)]);
    let mut curl = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("curl");
    let request = b"GET /echo?msg=open HTTP/1.1\r\nHost: web\r\n\r\n";
    curl.stdin.as_mut().expect("a pipe").write_all(request).expect("a request");
    let mut line = String::new();
    BufReader::new(curl.stdout.as_mut().expect("a pipe")).read_line(&mut line).expect("an answer");
    assert_eq!(line, "HTTP/1.1 200 OK\r\n");
    curl
}

#[test]
fn port_forward_carries_connections_side_by_side() {
    let namespace = Namespace::new();
    namespace.ready_pod(
        "web",
        &format!("{{containers: [{{name: c, image: '{AGNHOST}', args: [netexec], readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}}}]}}"),
    );
    let file = namespace.host.data_dir().join("upload");
    fs::write(&file, "0123456789abcdef".repeat(256 * 1024)).expect("a file to send");
    for choice in PROTOCOLS {
        let forward = forward(&namespace, choice);
        let mut open = stay_open(&namespace, &forward);
        let asked: Vec<_> = (0..10)
            .map(|n| curl(&namespace, &forward, &format!("/echo?msg=answer-{n}")).spawn().expect("curl"))
            .collect();
        for (n, child) in asked.into_iter().enumerate() {
            let answer = child.wait_with_output().expect("curl").stdout;
            assert_eq!(String::from_utf8_lossy(&answer), format!("answer-{n}"), "websockets {choice}");
        }
        let sent =
            curl(&namespace, &forward, "/upload").args(["-F", &format!("file=@{}", file.display())]).output();
        let answer: serde_json::Value = serde_json::from_slice(&sent.expect("curl").stdout).expect("JSON");
        let stored = answer["output"].as_str().expect("a file's name");
        assert_eq!(namespace.exec("web", &["stat", "-c", "%s", stored]), "4194304\n", "websockets {choice}");
        assert!(open.try_wait().expect("curl").is_none(), "it was closed: websockets {choice}");
        open.kill().expect("curl is told to end");
        open.wait().expect("the end of curl");
    }
}

fn sha256(command: &mut Command) -> String {
    let output = command.output().expect("sha256sum");
    String::from_utf8_lossy(&output.stdout).split(' ').next().expect("a sum").to_owned()
}

#[test]
fn cp_copies_files_and_folders_both_ways() {
    let namespace = Namespace::new();
    shell_pod(&namespace, "sh");
    let here = namespace.host.data_dir().join("copied");
    fs::create_dir_all(here.join("folder/inner")).expect("a folder");
    fs::write(here.join("folder/a"), "a").expect("a file");
    fs::write(here.join("folder/inner/b"), "b").expect("a file");
    let path = |name: &str| here.join(name).display().to_string();
    let made = Command::new("dd")
        .args(["if=/dev/urandom", &format!("of={}", path("big")), "bs=1M", "count=20", "status=none"])
        .status();
    assert!(made.expect("dd").success());

    namespace.kubectl(&["cp", &path("big"), "sh:/tmp/big"]);
    let expected = sha256(Command::new("sha256sum").arg(path("big")));
    assert!(namespace.exec("sh", &["sha256sum", "/tmp/big"]).starts_with(&expected));
    namespace.kubectl(&["cp", "sh:/tmp/big", &path("back")]);
    assert_eq!(sha256(Command::new("sha256sum").arg(path("back"))), expected);

    namespace.kubectl(&["cp", &path("folder"), "sh:/tmp/folder"]);
    assert_eq!(namespace.exec("sh", &["cat", "/tmp/folder/a", "/tmp/folder/inner/b"]), "ab");
    namespace.kubectl(&["cp", "sh:/tmp/folder", &path("folder-back")]);
    assert_eq!(fs::read_to_string(here.join("folder-back/inner/b")).expect("the copy"), "b");
}
