//! Events about pods and their containers, in the form `kubectl describe pod` shows them.

use edgek_control_runtime::{Involved, Kind, Recorder};
use k8s_openapi::api::core::v1::Pod;

/// Records events about one pod.
#[derive(Debug, Clone)]
pub struct PodEvents {
    recorder: Recorder,
    pod: Involved,
    init: Vec<String>,
    ephemeral: Vec<String>,
}

impl PodEvents {
    /// Events about this pod.
    pub fn new(recorder: Recorder, pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let init = spec.and_then(|s| s.init_containers.as_ref()).into_iter().flatten();
        let ephemeral = spec.and_then(|s| s.ephemeral_containers.as_ref()).into_iter().flatten();
        Self {
            recorder,
            pod: involved(pod),
            init: init.map(|c| c.name.clone()).collect(),
            ephemeral: ephemeral.map(|c| c.name.clone()).collect(),
        }
    }

    /// Good news about the pod.
    pub fn normal(&self, reason: &str, message: impl Into<String>) {
        self.recorder.record(&self.pod, Kind::Normal, reason, message);
    }

    /// Bad news about the pod.
    pub fn warning(&self, reason: &str, message: impl Into<String>) {
        self.recorder.record(&self.pod, Kind::Warning, reason, message);
    }

    /// Good news about one of its containers.
    pub fn container_normal(&self, container: &str, reason: &str, message: impl Into<String>) {
        self.recorder.record(&self.container(container), Kind::Normal, reason, message);
    }

    /// Bad news about one of its containers.
    pub fn container_warning(&self, container: &str, reason: &str, message: impl Into<String>) {
        self.recorder.record(&self.container(container), Kind::Warning, reason, message);
    }

    fn container(&self, name: &str) -> Involved {
        let has = |names: &[String]| names.iter().any(|known| known == name);
        let list = match () {
            () if has(&self.init) => "initContainers",
            () if has(&self.ephemeral) => "ephemeralContainers",
            () => "containers",
        };
        Involved { field_path: format!("spec.{list}{{{name}}}"), ..self.pod.clone() }
    }
}

fn involved(pod: &Pod) -> Involved {
    let meta = &pod.metadata;
    Involved {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        field_path: String::new(),
    }
}

/// A pod as messages name it: `name_namespace(uid)`.
pub fn full_name(pod: &Pod) -> String {
    let Involved { namespace, name, uid, .. } = involved(pod);
    format!("{name}_{namespace}({uid})")
}
