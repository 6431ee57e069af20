//! What containers find in their environment, their volumes and their control groups.

use edgek_tests::{BUSYBOX, Namespace};

/// The spec of a pod whose one container runs a shell script and ends; `more` is further YAML of the container.
fn script(script: &str, container: &str, pod: &str) -> String {
    format!(
        "{{restartPolicy: Never, {pod} containers: [{{name: c, image: '{BUSYBOX}', {container} \
         command: [sh, -c, '{script}']}}]}}"
    )
}

#[test]
fn the_environment_comes_from_fields_resources_config_maps_and_secrets() {
    let namespace = Namespace::new();
    namespace.kubectl(&[
        "create",
        "configmap",
        "settings",
        "--from-literal=COLOR=blue",
        "--from-literal=not.a.name=1",
    ]);
    namespace.kubectl(&["create", "secret", "generic", "login", "--from-literal=PASSWORD=secret"]);
    let env = "envFrom: [{configMapRef: {name: settings}}, {prefix: S_, secretRef: {name: login}}],
      resources: {limits: {memory: 64Mi, cpu: 500m}},
      env: [
        {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}},
        {name: NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}},
        {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}},
        {name: HOST, valueFrom: {fieldRef: {fieldPath: status.hostIP}}},
        {name: ACCOUNT, valueFrom: {fieldRef: {fieldPath: spec.serviceAccountName}}},
        {name: MEMORY, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}},
        {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: 1m}}},
        {name: ONE, valueFrom: {configMapKeyRef: {name: settings, key: COLOR}}},
        {name: TWO, valueFrom: {secretKeyRef: {name: login, key: PASSWORD}}},
        {name: NONE, valueFrom: {configMapKeyRef: {name: absent, key: a, optional: true}}},
        {name: BOTH, value: $(ONE)-$(TWO)-$$(ONE)}],";
    let text = "echo $NAME $NAMESPACE $NODE $HOST $ACCOUNT $MEMORY $CPU $ONE $TWO [$NONE] $BOTH $COLOR $S_PASSWORD $KUBERNETES_SERVICE_PORT";
    let printed = namespace.finished_pod("env", &script(text, env, ""));
    let expected = format!(
        "env {} node 192.0.2.10 default 64 500 blue secret [] blue-secret-$(ONE) blue secret 443\n",
        namespace.name()
    );
    assert_eq!(printed, expected);

    namespace.pod(
        "lacking",
        &script("true", "env: [{name: A, valueFrom: {configMapKeyRef: {name: absent, key: a}}}],", ""),
    );
    namespace.wait(
        "pod/lacking",
        "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerConfigError",
    );
    let message = namespace.field("pod/lacking", ".status.containerStatuses[0].state.waiting.message");
    assert_eq!(message, "configmap \"absent\" not found");
}

#[test]
fn volumes_show_config_maps_secrets_and_the_pod() {
    let namespace = Namespace::new();
    namespace.kubectl(&["create", "configmap", "settings", "--from-literal=a=1", "--from-literal=b=2"]);
    namespace.kubectl(&["create", "secret", "generic", "login", "--from-literal=password=secret"]);
    let volumes = "volumes: [
        {name: all, configMap: {name: settings}},
        {name: some, configMap: {name: settings, items: [{key: b, path: deep/er, mode: 256}]}},
        {name: secret, secret: {secretName: login, defaultMode: 256}},
        {name: pod, downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}, {path: labels, fieldRef: {fieldPath: metadata.labels}}]}},
        {name: both, projected: {sources: [{configMap: {name: settings, items: [{key: a, path: a}]}}, {secret: {name: login}}]}}],";
    let mounts = "volumeMounts: [{name: all, mountPath: /all}, {name: some, mountPath: /some}, {name: secret, mountPath: /secret},
        {name: pod, mountPath: /pod}, {name: both, mountPath: /both}, {name: all, mountPath: /one, subPath: a}],";
    let text = "cat /all/a /all/b /some/deep/er /secret/password /pod/name /both/a /both/password /one; ls /all; ls /both; \
        stat -L -c %a /some/deep/er /secret/password /all/a; stat -f -c %T /secret; touch /secret/x 2>/dev/null || echo read-only";
    let printed = namespace.finished_pod("files", &script(text, mounts, volumes));
    assert_eq!(printed, "122secretfiles1secret1a\nb\na\npassword\n400\n400\n644\ntmpfs\nread-only\n");
}

#[test]
fn what_changes_reaches_the_files() {
    let namespace = Namespace::new();
    namespace.kubectl(&["create", "configmap", "settings", "--from-literal=a=old"]);
    namespace.kubectl(&["create", "secret", "generic", "login", "--from-literal=password=old"]);
    namespace.ready_pod(
        "reader",
        &script(
            "sleep 600",
            "volumeMounts: [{name: all, mountPath: /all}, {name: secret, mountPath: /secret}, {name: pod, mountPath: /pod}],",
            "terminationGracePeriodSeconds: 0, volumes: [{name: all, configMap: {name: settings}}, {name: secret, secret: {secretName: login}},
             {name: pod, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}],",
        ),
    );
    let shows = |files: &[&str], expected: &str| {
        namespace
            .try_kubectl(&[&["exec", "reader", "--", "cat"], files].concat())
            .is_ok_and(|text| text == expected)
    };
    assert!(shows(&["/all/a", "/secret/password", "/pod/labels"], "oldold"));
    namespace.kubectl(&["patch", "configmap", "settings", "-p", r#"{"data": {"a": "new", "b": "more"}}"#]);
    namespace.host.eventually("the new data", || shows(&["/all/a", "/all/b"], "newmore"));
    namespace.kubectl(&["patch", "secret", "login", "-p", r#"{"stringData": {"password": "new"}}"#]);
    namespace.host.eventually("the new password", || shows(&["/secret/password"], "new"));
    namespace.kubectl(&["label", "pod", "reader", "tier=front"]);
    namespace.host.eventually("the new label", || shows(&["/pod/labels"], "tier=\"front\""));
}

#[test]
fn empty_folders_are_on_disk_or_in_memory_and_shared_in_the_pod() {
    let namespace = Namespace::new();
    let pod = "volumes: [{name: disk, emptyDir: {}}, {name: memory, emptyDir: {medium: Memory, sizeLimit: 1Mi}}],
        initContainers: [{name: writer, image: 'IMAGE', command: [sh, -c, 'echo from init > /disk/a'], volumeMounts: [{name: disk, mountPath: /disk}]}],"
        .replace("IMAGE", BUSYBOX);
    let mounts = "volumeMounts: [{name: disk, mountPath: /disk}, {name: disk, mountPath: /fixed, readOnly: true}, {name: memory, mountPath: /memory}],";
    let text = "cat /disk/a; touch /fixed/a 2>/dev/null || echo read-only; stat -f -c %T /memory; stat -c %a /disk /memory; df -k /memory | tail -1 | tr -s \" \" | cut -d \" \" -f 2; \
        dd if=/dev/zero of=/memory/big bs=1M count=2 2>/dev/null || echo full";
    let printed = namespace.finished_pod("empty", &script(text, mounts, &pod));
    assert_eq!(printed, "from init\nread-only\ntmpfs\n777\n777\n1024\nfull\n");
}

#[test]
fn host_paths_are_checked_by_their_type() {
    let namespace = Namespace::new();
    let folder = namespace.host.data_dir().join("shared");
    let path = folder.display();
    let mounts = "volumeMounts: [{name: h, mountPath: /host}],";
    let volume = |kind: &str| format!("volumes: [{{name: h, hostPath: {{path: '{path}', type: {kind}}}}}],");
    namespace.finished_pod("maker", &script("echo made > /host/file", mounts, &volume("DirectoryOrCreate")));
    assert_eq!(std::fs::read_to_string(folder.join("file")).expect("what the pod wrote"), "made\n");
    let printed = namespace.finished_pod("reader", &script("cat /host/file", mounts, &volume("Directory")));
    assert_eq!(printed, "made\n");
    namespace.pod("wrong", &script("true", mounts, &volume("Socket")));
    namespace.host.eventually("an event that says why", || {
        namespace.kubectl(&["events", "--for=pod/wrong"]).contains("hostPath type check failed")
    });
}

#[test]
fn a_pod_has_a_token_that_the_server_knows() {
    let namespace = Namespace::new();
    let pod = "volumes: [{name: t, projected: {sources: [{serviceAccountToken: {path: token, audience: vault, expirationSeconds: 600}}]}}],";
    let mounts = "volumeMounts: [{name: t, mountPath: /t}],";
    let text = "ls /var/run/secrets/kubernetes.io/serviceaccount; cat /var/run/secrets/kubernetes.io/serviceaccount/namespace; echo; \
        cat /var/run/secrets/kubernetes.io/serviceaccount/token; echo; cat /t/token; echo";
    let printed = namespace.finished_pod("holder", &script(text, mounts, pod));
    let lines: Vec<_> = printed.lines().collect();
    let [ca, file, token, space, own, bound] = lines.as_slice() else { panic!("{printed}") };
    assert_eq!([*ca, file, token, space], ["ca.crt", "namespace", "token", namespace.name()]);
    let review = |token: &str, audiences: &str| {
        let review = format!(
            "{{apiVersion: authentication.k8s.io/v1, kind: TokenReview, spec: {{token: '{token}', audiences: {audiences}}}}}"
        );
        let answer = namespace.host.kubectl_with_input(&["create", "-f", "-", "-o", "json"], &review);
        serde_json::from_str::<serde_json::Value>(&answer).expect("a review")["status"].take()
    };
    let status = review(own, "[]");
    assert_eq!(status["authenticated"], true, "{status}");
    assert_eq!(status["user"]["username"], format!("system:serviceaccount:{}:default", namespace.name()));
    assert_eq!(status["user"]["extra"]["authentication.kubernetes.io/pod-name"][0], "holder");
    let status = review(bound, "[vault]");
    assert_eq!(
        (&status["authenticated"], &status["audiences"][0]),
        (&true.into(), &"vault".into()),
        "{status}"
    );
    assert_ne!(review(bound, "[]")["authenticated"], true, "a token for others is none for the server");
    namespace.kubectl(&["delete", "pod", "holder"]);
    assert_ne!(review(own, "[]")["authenticated"], true, "a token ends with its pod");
}

#[test]
fn trust_bundles_are_chosen_by_name_or_by_signer() {
    let namespace = Namespace::new();
    let ca = namespace.kubectl(&["get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.data.ca\\.crt}"]);
    let signer = format!("{}.example/ca", namespace.name());
    let bundle = |name: &str, spec: &str| {
        let pem = ca.replace('\n', "\\n");
        namespace.apply(&format!("{{apiVersion: certificates.k8s.io/v1, kind: ClusterTrustBundle, metadata: {{name: '{name}', labels: {{tier: a}}}}, spec: {{{spec} trustBundle: \"# ours\\n{pem}\"}}}}"));
    };
    bundle(namespace.name(), "");
    bundle(&format!("{}:one", signer.replace('/', ":")), &format!("signerName: {signer},"));
    let sources = format!(
        "{{clusterTrustBundle: {{name: {}, path: name}}}}, {{clusterTrustBundle: {{name: none, optional: true, path: none}}}},
         {{clusterTrustBundle: {{signerName: {signer}, labelSelector: {{matchLabels: {{tier: a}}}}, path: signer}}}},
         {{clusterTrustBundle: {{signerName: {signer}, optional: true, path: nothing}}}}",
        namespace.name()
    );
    let pod = |sources: &str| {
        script(
            "cat /t/name; echo -; cat /t/signer /t/none /t/nothing 2>/dev/null || true",
            "volumeMounts: [{name: t, mountPath: /t}],",
            &format!("volumes: [{{name: t, projected: {{sources: [{sources}]}}}}],"),
        )
    };
    assert_eq!(namespace.finished_pod("reader", &pod(&sources)), format!("{ca}-\n{ca}"));

    let late = format!("{}-late", namespace.name());
    namespace.pod("waiter", &pod(&format!("{{clusterTrustBundle: {{name: {late}, path: name}}}}")));
    namespace.host.eventually("an event that says why", || {
        namespace.kubectl(&["events", "--for=pod/waiter"]).contains("while getting ClusterTrustBundle")
    });
    bundle(&late, "");
    namespace.wait("pod/waiter", "jsonpath={.status.phase}=Succeeded");
}

#[test]
fn limits_are_values_of_the_control_group() {
    let namespace = Namespace::new();
    let resources = "resources: {limits: {memory: 64Mi, cpu: 500m}, requests: {cpu: 250m}},";
    let text = "if [ -e /sys/fs/cgroup/memory.max ]; then cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max; weight=$(cat /sys/fs/cgroup/cpu.weight); \
            [ $weight -gt 1 ] && [ $weight -lt 100 ] && echo weighed; \
        else cat /sys/fs/cgroup/memory/memory.limit_in_bytes; echo $(cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us); \
            [ $(cat /sys/fs/cgroup/cpu/cpu.shares) = 256 ] && echo weighed; fi";
    let printed = namespace.finished_pod("limited", &script(text, resources, ""));
    assert_eq!(printed, "67108864\n50000 100000\nweighed\n");
    assert_eq!(namespace.field("pod/limited", ".status.qosClass"), "Burstable");

    namespace.pod("greedy", &script("tail /dev/zero", "resources: {limits: {memory: 16Mi}},", ""));
    namespace.wait("pod/greedy", "jsonpath={.status.containerStatuses[0].state.terminated.reason}=OOMKilled");
    assert_eq!(
        namespace.field("pod/greedy", ".status.containerStatuses[0].state.terminated.exitCode"),
        "137"
    );
}
