//! The configuration of a server or an agent, fully checked.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::Sources;
use crate::problem::{Place, Problems};
use crate::setting::{SETTINGS, Setting, Shape};
use crate::value::{Cidr, FileMode, PortRange, ServerUrl};

/// containerd names its sockets `<run-dir>/containerd/s/<64 digits>`, and Linux allows 107 bytes.
const LONGEST_RUN_DIR: usize = 107 - "/containerd/s/".len() - 64;

/// A part that `--disable` leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// Pods stay Pending unless something else schedules them.
    Scheduler,
    /// Nothing reconciles.
    Controllers,
    /// Services lead nowhere on this node unless something else serves them.
    ServiceProxy,
    /// A control plane without a node: no containerd, no pods here.
    Node,
    /// No names: something else answers at the cluster DNS address.
    Dns,
}

impl FromStr for Component {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "scheduler" => Ok(Self::Scheduler),
            "controllers" => Ok(Self::Controllers),
            "service-proxy" => Ok(Self::ServiceProxy),
            "node" => Ok(Self::Node),
            "dns" => Ok(Self::Dns),
            _ => Err(format!(
                "{text:?} is not a component; there are scheduler, controllers, service-proxy, dns and node"
            )),
        }
    }
}

/// The kubelet settings that mean something here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeletArgs {
    /// How many pods may run on the node.
    pub max_pods: u32,
    /// Bytes after which a container's log is rotated.
    pub container_log_max_size: u64,
    /// How many log files a container keeps.
    pub container_log_max_files: u32,
    /// How little memory and disk is too little, in upstream's words; `None` for its defaults.
    pub eviction_hard: Option<String>,
    /// Per cent of the images' disk from which unused images are removed.
    pub image_gc_high_threshold: u8,
    /// Per cent down to which they are.
    pub image_gc_low_threshold: u8,
}

impl Default for KubeletArgs {
    fn default() -> Self {
        Self {
            max_pods: 110,
            container_log_max_size: 10 << 20,
            container_log_max_files: 5,
            eviction_hard: None,
            image_gc_high_threshold: 85,
            image_gc_low_threshold: 80,
        }
    }
}

/// Everything `edgek run server` and `edgek run agent` need to know; see [`SETTINGS`] for the meaning of each value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is described by the setting of its name")]
pub struct Config {
    pub data_dir: PathBuf,
    pub run_dir: PathBuf,
    pub node_name: Option<String>,
    pub node_ip: Option<IpAddr>,
    pub server: Option<ServerUrl>,
    pub token: Option<String>,
    pub token_file: Option<PathBuf>,
    pub node_labels: Vec<(String, String)>,
    pub node_taints: Vec<String>,
    pub bind_address: IpAddr,
    pub https_listen_port: u16,
    pub cluster_cidr: Cidr,
    pub node_cidr_mask_size: u8,
    pub service_cidr: Cidr,
    pub cluster_dns: IpAddr,
    pub cluster_domain: String,
    pub service_node_port_range: PortRange,
    pub write_kubeconfig: PathBuf,
    pub write_kubeconfig_mode: FileMode,
    pub tls_sans: Vec<String>,
    pub disable: Vec<Component>,
    pub private_registry: PathBuf,
    pub resolv_conf: PathBuf,
    pub cgroup_root: PathBuf,
    pub pod_logs_dir: PathBuf,
    pub kubelet: KubeletArgs,
    pub log_format: String,
    pub log_level: String,
}

pub(crate) fn build(sources: &Sources) -> Result<Config, Problems> {
    let mut reader = Reader { sources, problems: Problems::default() };
    reader.reject_unknown_names();
    let cluster_cidr = reader.one("cluster-cidr", Cidr { network: Ipv4Addr::UNSPECIFIED.into(), prefix: 0 });
    let service_cidr = reader.one("service-cidr", Cidr { network: Ipv4Addr::UNSPECIFIED.into(), prefix: 0 });
    let log_level = reader.one("log-level", String::new());
    let debug = reader.one("debug", false);
    let config = Config {
        data_dir: reader.one("data-dir", PathBuf::new()),
        run_dir: reader.one("run-dir", PathBuf::new()),
        node_name: reader.optional_checked("node-name", |name: &String| valid_node_name(name)),
        node_ip: reader.optional("node-ip"),
        server: reader.optional("server"),
        token: reader.optional("token"),
        token_file: reader.optional("token-file"),
        node_labels: reader.pairs("node-label"),
        node_taints: reader.many("node-taint"),
        bind_address: reader.one("bind-address", Ipv4Addr::UNSPECIFIED.into()),
        https_listen_port: reader.one("https-listen-port", 0),
        cluster_cidr,
        node_cidr_mask_size: reader.one("node-cidr-mask-size", 24),
        service_cidr,
        cluster_dns: reader
            .optional("cluster-dns")
            .or_else(|| service_cidr.nth(10))
            .unwrap_or(service_cidr.network),
        cluster_domain: reader.one("cluster-domain", String::new()),
        service_node_port_range: reader.one("service-node-port-range", PortRange { first: 1, last: 1 }),
        write_kubeconfig: reader.one("write-kubeconfig", PathBuf::new()),
        write_kubeconfig_mode: reader.one("write-kubeconfig-mode", FileMode(0o600)),
        tls_sans: reader.many("tls-san"),
        disable: reader.many("disable"),
        private_registry: reader.one("private-registry", PathBuf::new()),
        resolv_conf: reader.one("resolv-conf", PathBuf::new()),
        cgroup_root: reader.one("cgroup-root", PathBuf::new()),
        pod_logs_dir: reader.one("pod-logs-dir", PathBuf::new()),
        kubelet: reader.kubelet(),
        log_format: reader.one("log-format", String::new()),
        log_level: if debug { "debug".to_owned() } else { log_level },
    };
    reader.check_together(&config);
    if reader.problems.0.is_empty() { Ok(config) } else { Err(reader.problems) }
}

struct Reader<'a> {
    sources: &'a Sources,
    problems: Problems,
}

impl Reader<'_> {
    fn reject_unknown_names(&mut self) {
        for file in &self.sources.files {
            for (key, entry) in &file.entries {
                let name = key.strip_suffix('+').unwrap_or(key);
                if Setting::find(name).is_none() {
                    let place = Place::File(file.path.clone(), entry.line);
                    self.problems.add(&place, format!("unknown setting {name:?}{}", suggestion(name)));
                }
            }
        }
        for variable in self.sources.environment.keys() {
            let known =
                variable == "EDGEK_CONFIG" || SETTINGS.iter().any(|setting| setting.variable() == *variable);
            if !known {
                let name = variable.trim_start_matches("EDGEK_").to_lowercase().replace('_', "-");
                let place = Place::Variable(variable.clone());
                self.problems.add(&place, format!("unknown setting{}", suggestion(&name)));
            }
        }
    }

    /// The values of a setting and the place they come from, by precedence.
    fn values(&self, setting: &Setting) -> (Place, Vec<String>) {
        if let Some(values) = self.sources.flags.get(setting.name) {
            return (Place::Flag(setting.name.to_owned()), values.clone());
        }
        let variable = setting.variable();
        if let Some(value) = self.sources.environment.get(&variable) {
            let values = match setting.shape {
                Shape::Many => {
                    value.split(',').map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()).collect()
                }
                Shape::One | Shape::Switch => vec![value.clone()],
            };
            return (Place::Variable(variable), values);
        }
        let mut found = (Place::Default, Vec::new());
        for file in &self.sources.files {
            if let Some(entry) = file.entries.get(setting.name) {
                found = (Place::File(file.path.clone(), entry.line), entry.values.clone());
            }
            if let Some(entry) = file.entries.get(&format!("{}+", setting.name)) {
                found.0 = Place::File(file.path.clone(), entry.line);
                found.1.extend(entry.values.clone());
            }
        }
        if found.0 == Place::Default && !setting.default.is_empty() {
            found.1.push(setting.default.to_owned());
        }
        found
    }

    fn read<T: FromStr<Err: ToString>>(&mut self, name: &str) -> (Place, Vec<T>) {
        let setting = Setting::find(name).unwrap_or(&SETTINGS[0]);
        let (place, values) = self.values(setting);
        if setting.shape != Shape::Many && values.len() > 1 {
            self.problems.add(&place, format!("{name}: expected one value, found {}", values.len()));
        }
        let mut read = Vec::new();
        for value in values {
            match value.parse() {
                Ok(value) => read.push(value),
                Err(error) => {
                    let error: String = ToString::to_string(&error);
                    let text = if error.contains('"') { error } else { format!("{value:?}: {error}") };
                    self.problems.add(&place, format!("{name}: {text}"));
                }
            }
        }
        (place, read)
    }

    fn one<T: FromStr<Err: ToString>>(&mut self, name: &str, otherwise: T) -> T {
        let before = self.problems.0.len();
        let (place, values) = self.read(name);
        match values.into_iter().next() {
            Some(value) => value,
            None => {
                if self.problems.0.len() == before {
                    self.problems.add(&place, format!("{name}: a value is needed"));
                }
                otherwise
            }
        }
    }

    fn optional<T: FromStr<Err: ToString>>(&mut self, name: &str) -> Option<T> {
        self.read(name).1.into_iter().next()
    }

    fn optional_checked<T: FromStr<Err: ToString>>(
        &mut self,
        name: &str,
        check: impl Fn(&T) -> Result<(), String>,
    ) -> Option<T> {
        let (place, values) = self.read::<T>(name);
        let value = values.into_iter().next()?;
        if let Err(text) = check(&value) {
            self.problems.add(&place, format!("{name}: {text}"));
        }
        Some(value)
    }

    fn many<T: FromStr<Err: ToString>>(&mut self, name: &str) -> Vec<T> {
        self.read(name).1
    }

    fn pairs(&mut self, name: &str) -> Vec<(String, String)> {
        let (place, values) = self.read::<String>(name);
        let mut pairs = Vec::new();
        for value in values {
            match value.split_once('=') {
                Some((key, value)) if !key.is_empty() => pairs.push((key.to_owned(), value.to_owned())),
                _ => self.problems.add(&place, format!("{name}: {value:?} is not KEY=VALUE")),
            }
        }
        pairs
    }

    fn kubelet(&mut self) -> KubeletArgs {
        let mut args = KubeletArgs::default();
        let place = self.values(Setting::find("kubelet-arg").unwrap_or(&SETTINGS[0])).0;
        for (key, value) in self.pairs("kubelet-arg") {
            let understood = match key.as_str() {
                "max-pods" => value.parse().map(|n| args.max_pods = n).is_ok(),
                "container-log-max-files" => value.parse().map(|n| args.container_log_max_files = n).is_ok(),
                "container-log-max-size" => bytes(&value).map(|n| args.container_log_max_size = n).is_some(),
                "eviction-hard" => {
                    args.eviction_hard = Some(value.clone());
                    true
                }
                "image-gc-high-threshold" => {
                    percent(&value).map(|n| args.image_gc_high_threshold = n).is_some()
                }
                "image-gc-low-threshold" => {
                    percent(&value).map(|n| args.image_gc_low_threshold = n).is_some()
                }
                _ => {
                    let text = "there are max-pods, container-log-max-size, container-log-max-files, eviction-hard, image-gc-high-threshold and image-gc-low-threshold";
                    self.problems.add(&place, format!("kubelet-arg: {key:?} has no meaning here; {text}"));
                    continue;
                }
            };
            if !understood {
                self.problems.add(&place, format!("kubelet-arg: {value:?} is not a value of {key}"));
            }
        }
        args
    }

    fn check_together(&mut self, config: &Config) {
        let place = |name: &str| Setting::find(name).map_or(Place::Default, |setting| self.values(setting).0);
        let mut found = Vec::new();
        if config.cluster_cidr.overlaps(&config.service_cidr) && self.problems.0.is_empty() {
            let text = format!(
                "service-cidr: {} overlaps cluster-cidr {}",
                config.service_cidr, config.cluster_cidr
            );
            found.push((place("service-cidr"), text));
        }
        if !(8..=30).contains(&config.node_cidr_mask_size) && self.problems.0.is_empty() {
            let text = format!("node-cidr-mask-size: {} is not 8 to 30", config.node_cidr_mask_size);
            found.push((place("node-cidr-mask-size"), text));
        }
        if !config.service_cidr.contains(config.cluster_dns) && self.problems.0.is_empty() {
            let text =
                format!("cluster-dns: {} is not in service-cidr {}", config.cluster_dns, config.service_cidr);
            found.push((place("cluster-dns"), text));
        }
        if !["auto", "text", "json"].contains(&config.log_format.as_str()) {
            let text = format!("log-format: {:?} is not text, json or auto", config.log_format);
            found.push((place("log-format"), text));
        }
        let folders = [
            ("data-dir", &config.data_dir),
            ("run-dir", &config.run_dir),
            ("cgroup-root", &config.cgroup_root),
            ("pod-logs-dir", &config.pod_logs_dir),
        ];
        for (name, path) in folders {
            if !path.is_absolute() {
                found.push((place(name), format!("{name}: {} is not an absolute path", path.display())));
            }
        }
        let has_node = !config.disable.contains(&Component::Node);
        if has_node && config.run_dir.as_os_str().len() > LONGEST_RUN_DIR {
            let text = format!(
                "run-dir: {} is too long for the sockets below it; it may have {LONGEST_RUN_DIR} characters",
                config.run_dir.display()
            );
            found.push((place("run-dir"), text));
        }
        for (place, text) in found {
            self.problems.add(&place, text);
        }
    }
}

/// Node names are DNS-1123 subdomains (upstream: `ValidateNodeName`).
fn valid_node_name(name: &str) -> Result<(), String> {
    let label = |l: &str| {
        let inner = l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && !l.is_empty() && !l.starts_with('-') && !l.ends_with('-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(());
    }
    Err(format!("{name:?} is not a node name: use lower-case letters, digits, '-' and '.'"))
}

/// Per cent, as a number from 0 to 100.
fn percent(text: &str) -> Option<u8> {
    text.parse().ok().filter(|percent| *percent <= 100)
}

/// Bytes, as `10Mi`, `500k` or a plain number.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match &text[digits.len()..] {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

fn suggestion(name: &str) -> String {
    let close = SETTINGS.iter().map(|s| (distance(name, s.name), s.name)).min();
    close.filter(|(d, _)| *d <= 3).map_or(String::new(), |(_, s)| format!("; did you mean {s:?}?"))
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConfigFile;
    use std::path::Path;

    fn sources(flags: &[(&str, &str)], environment: &[(&str, &str)], files: &[(&str, &str)]) -> Sources {
        let mut sources = Sources::default();
        for (name, value) in flags {
            sources.flags.entry((*name).to_owned()).or_default().push((*value).to_owned());
        }
        sources.environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        sources.files =
            files.iter().map(|(path, text)| ConfigFile::parse(Path::new(path), text).unwrap()).collect();
        sources
    }

    #[test]
    fn the_defaults_are_valid() {
        let config = build(&Sources::default()).unwrap();
        assert_eq!(config.https_listen_port, 6443);
        assert_eq!(config.cluster_dns.to_string(), "10.43.0.10");
        assert_eq!(config.write_kubeconfig_mode, FileMode(0o600));
    }

    #[test]
    fn a_flag_beats_a_variable_beats_the_last_file_that_names_a_setting() {
        let files = [
            ("/a.yaml", "https-listen-port: 1\nnode-name: a\ntls-san: [x]\n"),
            ("/b.yaml", "node-name: b\ntls-san+: y\n"),
        ];
        let config = build(&sources(
            &[("data-dir", "/flag")],
            &[("EDGEK_DATA_DIR", "/variable"), ("EDGEK_HTTPS_LISTEN_PORT", "2")],
            &files,
        ))
        .unwrap();
        assert_eq!(config.data_dir, Path::new("/flag"));
        assert_eq!(config.https_listen_port, 2);
        assert_eq!(config.node_name.as_deref(), Some("b"));
        assert_eq!(config.tls_sans, ["x", "y"]);
    }

    #[test]
    fn all_mistakes_are_reported_together_with_their_places() {
        let file = "# comment\nnode-nam: x\nhttps-listen-port: 70000\ncluster-cidr: 10.42.0.1/16\n";
        let problems = build(&sources(
            &[("disable", "traefik")],
            &[("EDGEK_NODE_IP", "here")],
            &[("/etc/c.yaml", file)],
        ))
        .unwrap_err();
        let mut lines: Vec<String> = problems.0.iter().map(|p| format!("{}: {}", p.place, p.text)).collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "--disable: disable: \"traefik\" is not a component; there are scheduler, controllers, service-proxy, dns and node",
                "/etc/c.yaml:2: unknown setting \"node-nam\"; did you mean \"node-name\"?",
                "/etc/c.yaml:3: https-listen-port: \"70000\": number too large to fit in target type",
                "/etc/c.yaml:4: cluster-cidr: \"10.42.0.1/16\" has host bits set; the range is 10.42.0.0/16",
                "EDGEK_NODE_IP: node-ip: \"here\": invalid IP address syntax",
            ]
        );
    }

    #[test]
    fn values_that_contradict_each_other_are_refused() {
        let check = |flags: &[(&str, &str)], expected: &str| {
            assert_eq!(build(&sources(flags, &[], &[])).unwrap_err().to_string(), expected);
        };
        check(
            &[("service-cidr", "10.42.128.0/17")],
            "--service-cidr: service-cidr: 10.42.128.0/17 overlaps cluster-cidr 10.42.0.0/16",
        );
        check(
            &[("cluster-dns", "10.9.0.1")],
            "--cluster-dns: cluster-dns: 10.9.0.1 is not in service-cidr 10.43.0.0/16",
        );
        check(&[("data-dir", "here")], "--data-dir: data-dir: here is not an absolute path");
        check(
            &[("node-name", "Upper")],
            "--node-name: node-name: \"Upper\" is not a node name: use lower-case letters, digits, '-' and '.'",
        );
    }

    #[test]
    fn a_file_that_is_not_flat_yaml_is_refused_with_its_line() {
        let problems = ConfigFile::parse(Path::new("/c.yaml"), "a: 1\nb: [\n").unwrap_err();
        assert!(matches!(&problems.0[0].place, Place::File(_, line) if *line >= 2), "{problems}");
        let problems = ConfigFile::parse(Path::new("/c.yaml"), "tls-san:\n- [a]\n").unwrap_err();
        assert_eq!(problems.to_string(), "/c.yaml:2: tls-san: expected a value or a list of values");
    }
}
