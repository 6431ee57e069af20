//! Installation on a machine with systemd and cgroup v2: what README promises of `install.sh` and `edgek uninstall`,
//! what a reboot leaves, and a board whose clock begins in 1970.

use edgek_tests::Machine;

const INSTALL: &str = "sh /media/install.sh --binary /media/edgek";
const READY: &str = "edgek kubectl wait --for=condition=Ready --timeout=140s";
const SLEEPER: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "sleeper"}, "spec": {
    "terminationGracePeriodSeconds": 1,
    "containers": [{
        "name": "main",
        "image": "registry.k8s.io/e2e-test-images/busybox:1.37.0-2",
        "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 54321 & wait"],
        "resources": {"requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "64Mi"}}
    }]
}}"#;
/// Everything that a program can leave on a machine, in files of a folder; kubectl's cache belongs to its user.
const SNAPSHOT: &str = r#"
mkdir -p $1 && cd $1
programs=$(readlink /proc/[0-9]*/exe); echo "$programs" | sort -u >processes
findmnt --raw --noheadings --output TARGET,FSTYPE | sort >mounts
ip -brief address | tr -s ' ' >addresses
ip route show table all | sort >routes
nft list ruleset >rules
systemctl list-unit-files --no-legend --no-pager >units
systemctl list-units --all --plain --no-legend --no-pager 'edgek*' >loaded
find /sys/fs/cgroup -type d | sort >cgroups
find / /run -xdev -not -path '/var/log/journal/*' -not -path '/run/udev/*' -not -path '/run/systemd/*' \
    -not -path '/tmp/*' -not -path '/var/tmp/*' -not -path '*/.kube*' | sort >files
"#;

/// Puts images where edgek imports them from, and installs edgek.
fn install(machine: &mut Machine) {
    let images = "/var/lib/edgek/agent/images";
    machine.run(&format!("mkdir -p {images} && cp /media/busybox.tar {images}"));
    let said = machine.run(INSTALL);
    assert!(said.contains("machine   Ready") && said.contains("edgek runs. Try:"), "{said}");
    assert_eq!(machine.run("systemctl is-active edgek"), "active");
    machine.step("edgek is installed");
}

fn start_sleeper(machine: &mut Machine) {
    machine.write("/tmp/sleeper.json", SLEEPER);
    machine.eventually("edgek kubectl get serviceaccount default");
    machine.run("edgek kubectl create -f /tmp/sleeper.json");
    machine.run(&format!("{READY} pod/sleeper"));
    machine.step("a pod runs");
}

/// The process of the pod's container and when it began, which no other process has together.
fn sleeper(machine: &mut Machine) -> String {
    machine
        .run("pid=$(pgrep -x sleep -a | sed -n 's/ sleep 54321$//p') && cut -d ' ' -f 1,22 /proc/$pid/stat")
}

#[test]
fn a_systemd_machine_installs_restarts_reboots_and_is_clean_after_uninstall() {
    let mut machine = Machine::boot(&["-nic", "user,restrict=on,model=virtio-net-pci"]);
    machine.run("mount -r /dev/nvme0n2 /media");
    machine.write("/usr/local/bin/snapshot", SNAPSHOT);
    machine.eventually("udevadm settle && ip route | grep -q ^default");
    machine.run("sh /usr/local/bin/snapshot /var/tmp/before");

    install(&mut machine);
    start_sleeper(&mut machine);
    limits_are_set(&mut machine);
    containers_outlive_edgek(&mut machine);
    a_wrong_configuration_is_told(&mut machine);

    machine.reboot();
    machine.run("mount -r /dev/nvme0n2 /media");
    machine.eventually("pgrep -x sleep");
    machine.run(&format!("{READY} pod/sleeper && {READY} node/machine"));
    machine.step("the pod runs again after a reboot");

    machine.run("edgek uninstall");
    machine.run("sh /usr/local/bin/snapshot /var/tmp/after");
    let left = machine.try_run("diff -r -U 0 /var/tmp/before /var/tmp/after");
    assert_eq!(left, Ok(String::new()), "edgek uninstall leaves something");
    machine.step("nothing is left");
}

/// As the container sees them, and on the pod's cgroup.
fn limits_are_set(machine: &mut Machine) {
    let seen =
        machine.run("edgek kubectl exec sleeper -- cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max");
    assert_eq!(seen, "67108864\n50000 100000");
    let pod = "/sys/fs/cgroup/kubepods/burstable/pod*";
    let pod = machine.run(&format!("cat {pod}/memory.max {pod}/cpu.max {pod}/cpu.weight"));
    assert_eq!(pod, "67108864\n50000 100000\n10");
    machine.step("its limits are set");
}

/// Whatever ends edgek, and whoever starts it again.
fn containers_outlive_edgek(machine: &mut Machine) {
    let before = sleeper(machine);
    let restarted = "systemctl show --property MainPID edgek";
    for command in [
        "systemctl restart edgek",
        "systemctl kill --kill-who=main --signal KILL edgek",
        "systemctl stop edgek && systemctl start edgek",
        INSTALL,
    ] {
        let main = machine.run(restarted);
        machine.run(command);
        machine.eventually(&format!("systemctl is-active edgek && ! {restarted} | grep -qx {main}"));
        machine.run(&format!("{READY} pod/sleeper"));
        assert_eq!(sleeper(machine), before, "{command}");
        machine.step(&format!("the pod outlives `{command}`"));
    }
}

/// A server that cannot start is not started again and again behind people's backs.
fn a_wrong_configuration_is_told(machine: &mut Machine) {
    machine.run("mkdir -p /etc/edgek && echo 'node-nam: x' >/etc/edgek/config.yaml");
    let said = machine.try_run(INSTALL).expect_err("a start with a wrong configuration");
    for part in ["/etc/edgek/config.yaml:1", "node-nam", "then: systemctl restart edgek"] {
        assert!(said.contains(part), "{part} is not in:\n{said}");
    }
    assert_eq!(machine.try_run("systemctl is-active edgek"), Err("failed\n".to_owned()));
    machine.run("rm /etc/edgek/config.yaml && systemctl restart edgek");
    machine.step("a wrong configuration is told");
}

#[test]
fn a_board_whose_clock_begins_in_1970_works_and_goes_on_when_the_clock_is_set() {
    let mut machine = Machine::boot(&["-rtc", "base=1970-01-02"]);
    // systemd does not believe a clock from before its own release.
    machine.run("mount -r /dev/nvme0n2 /media && date -s 1970-01-02");
    install(&mut machine);
    machine.run("journalctl --unit edgek --no-pager | grep 'WARN the clock shows a time before'");
    start_sleeper(&mut machine);
    machine.run("(edgek kubectl get pods --watch --output name >/tmp/watched 2>&1 &)");
    machine.eventually("grep pod/sleeper /tmp/watched");
    let early = token_works(&mut machine);

    machine.run("date -s '2027-01-02 12:00'");
    machine.step("the clock is set");
    machine.run("edgek kubectl run late --image=docker.io/library/busybox:latest --image-pull-policy=Never -- sleep 1d");
    machine.run(&format!("{READY} pod/late && {READY} node/machine"));
    machine.eventually("grep pod/late /tmp/watched");
    machine.step("the watch goes on, another pod runs");
    machine.eventually(
        "edgek kubectl get lease --namespace kube-node-lease machine --output jsonpath={.spec.renewTime} | grep ^2027",
    );
    machine.step("the lease is renewed");
    machine.run(&format!("echo '{early}' >/tmp/early"));
    machine.eventually(
        "edgek kubectl exec sleeper -- cat /var/run/secrets/kubernetes.io/serviceaccount/token >/tmp/new \
        && ! cmp -s /tmp/early /tmp/new",
    );
    token_works(&mut machine);
    machine.step("the pod has a new token");
    machine.run("systemctl restart edgek");
    machine.run(&format!("{READY} pod/sleeper && edgek kubectl exec sleeper -- true"));
    machine.step("certificates hold");
}

/// The token of the pod is good for the API.
fn token_works(machine: &mut Machine) -> String {
    let token =
        machine.run("edgek kubectl exec sleeper -- cat /var/run/secrets/kubernetes.io/serviceaccount/token");
    machine.run(&format!(
        "KUBECONFIG=/dev/null edgek kubectl --server https://127.0.0.1:6443 --token {token} \
         --certificate-authority /var/lib/edgek/server/tls/server-ca.crt get --raw /api/v1 >/dev/null"
    ));
    token
}
