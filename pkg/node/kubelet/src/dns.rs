//! A pod's name resolution: its host name, `/etc/hosts` and `/etc/resolv.conf`. Pure; the sandbox writes the files.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, PodDNSConfig};

use crate::config::Config;

/// The kernel's limit for a host name.
const MAX_HOSTNAME: usize = 63;
/// What resolvers take.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;

/// What a resolver is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Resolver {
    /// Reads a resolver configuration.
    pub fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines().map(|line| line.split(['#', ';']).next().unwrap_or_default()) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.servers.extend(words.next().map(str::to_owned)),
                Some("search") => resolver.searches = words.map(str::to_owned).collect(),
                Some("options") => resolver.options = words.map(str::to_owned).collect(),
                _ => {}
            }
        }
        resolver
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if !self.searches.is_empty() {
            text += &format!("search {}\n", self.searches.join(" "));
        }
        for server in &self.servers {
            text += &format!("nameserver {server}\n");
        }
        if !self.options.is_empty() {
            text += &format!("options {}\n", self.options.join(" "));
        }
        text
    }

    fn add(&mut self, config: &PodDNSConfig) {
        let extend = |list: &mut Vec<String>, more: &Option<Vec<String>>| {
            for item in more.iter().flatten().filter(|item| !item.is_empty()) {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }
        };
        extend(&mut self.servers, &config.nameservers);
        extend(&mut self.searches, &config.searches);
        for option in config.options.iter().flatten() {
            let name = option.name.as_deref().unwrap_or_default();
            self.options.retain(|o| o.split(':').next() != Some(name));
            self.options.push(match option.value.as_deref().filter(|value| !value.is_empty()) {
                Some(value) => format!("{name}:{value}"),
                None => name.to_owned(),
            });
        }
    }
}

/// What the pod's resolver is told, by its `dnsPolicy` and `dnsConfig`.
pub fn resolver(pod: &Pod, config: &Config, host: &Resolver) -> Resolver {
    let Some(spec) = &pod.spec else { return Resolver::default() };
    let host_network = spec.host_network.unwrap_or(false);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => !host_network,
        _ => false,
    };
    let mut resolver = match policy {
        "None" => Resolver::default(),
        _ if cluster && !config.cluster_dns.is_empty() => of_cluster(pod, config, host),
        _ => host.clone(),
    };
    if let Some(more) = &spec.dns_config {
        resolver.add(more);
    }
    resolver.servers.truncate(MAX_SERVERS);
    resolver.searches.truncate(MAX_SEARCHES);
    resolver
}

fn of_cluster(pod: &Pod, config: &Config, host: &Resolver) -> Resolver {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = &config.cluster_domain;
    let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
    searches.extend(host.searches.iter().filter(|search| *search != ".").cloned());
    Resolver {
        servers: config.cluster_dns.iter().map(ToString::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

/// The pod's host name and, if it has one, its domain.
pub fn hostname(pod: &Pod, cluster_domain: &str) -> (String, Option<String>) {
    let spec = pod.spec.as_ref();
    if let Some(name) = spec.and_then(|s| s.hostname_override.clone()) {
        return (name, None);
    }
    let own = spec.and_then(|s| s.hostname.clone()).filter(|name| !name.is_empty());
    let name = own.unwrap_or_else(|| truncated(pod.metadata.name.as_deref().unwrap_or_default()));
    let subdomain = spec.and_then(|s| s.subdomain.as_deref()).filter(|sub| !sub.is_empty());
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = subdomain.map(|sub| format!("{sub}.{namespace}.svc.{cluster_domain}"));
    match domain {
        Some(domain) if spec.and_then(|s| s.set_hostname_as_fqdn) == Some(true) => {
            (format!("{name}.{domain}"), Some(domain))
        }
        domain => (name, domain),
    }
}

fn truncated(name: &str) -> String {
    let end = name.len().min(MAX_HOSTNAME);
    name.get(..end).unwrap_or(name).trim_end_matches(['-', '.']).to_owned()
}

/// The text of `/etc/hosts`. A pod on the host's network gets the host's file as its base.
pub fn hosts(pod: &Pod, ips: &[IpAddr], cluster_domain: &str, host_file: Option<&str>) -> String {
    const OWN: &str = "# Kubernetes-managed hosts file.\n\
        127.0.0.1\tlocalhost\n\
        ::1\tlocalhost ip6-localhost ip6-loopback\n\
        fe00::\tip6-localnet\n\
        fe00::\tip6-mcastprefix\n\
        fe00::1\tip6-allnodes\n\
        fe00::2\tip6-allrouters\n";
    let mut text = match host_file {
        Some(host) => format!("# Kubernetes-managed hosts file (host network).\n{host}"),
        None => OWN.to_owned(),
    };
    if host_file.is_none() {
        let (name, domain) = hostname(pod, cluster_domain);
        for ip in ips {
            text += &match &domain {
                Some(domain) if !name.ends_with(domain.as_str()) => {
                    format!("{ip}\t{name}.{domain}\t{name}\n")
                }
                _ => format!("{ip}\t{name}\n"),
            };
        }
    }
    let aliases: Vec<_> = pod.spec.iter().flat_map(|s| s.host_aliases.iter().flatten()).collect();
    if !aliases.is_empty() {
        text += "\n# Entries added by HostAliases.\n";
    }
    for alias in aliases {
        let names = alias.hostnames.as_deref().unwrap_or_default();
        text += &format!("{}\t{}\n", alias.ip, names.join("\t"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use serde_json::{Value, json};

    #[test]
    fn the_resolver_follows_the_policy() {
        let config = sample::config(std::path::Path::new("/x"));
        let host = Resolver::parse("# mine\nsearch lan\nnameserver 192.0.2.53\noptions rotate\n");
        let check = |spec: Value, expected: &str| {
            assert_eq!(resolver(&sample::pod(&spec), &config, &host).text(), expected, "{spec}");
        };
        let cluster = "search default.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 10.43.0.10\noptions ndots:5\n";
        let own = "search lan\nnameserver 192.0.2.53\noptions rotate\n";
        check(json!({"containers": []}), cluster);
        check(json!({"containers": [], "dnsPolicy": "Default"}), own);
        check(json!({"containers": [], "hostNetwork": true}), own);
        check(
            json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
            cluster,
        );
        let dns = json!({"nameservers": ["1.1.1.1"], "searches": ["a"], "options": [{"name": "ndots", "value": "2"}]});
        check(
            json!({"containers": [], "dnsPolicy": "None", "dnsConfig": dns}),
            "search a\nnameserver 1.1.1.1\noptions ndots:2\n",
        );
    }

    #[test]
    fn the_host_name_is_the_pods_own_or_its_name() {
        let check = |spec: Value, name: &str, domain: Option<&str>| {
            assert_eq!(
                hostname(&sample::pod(&spec), "cluster.local"),
                (name.to_owned(), domain.map(str::to_owned))
            );
        };
        check(json!({"containers": []}), "web", None);
        let domain = Some("db.default.svc.cluster.local");
        check(json!({"containers": [], "hostname": "a", "subdomain": "db"}), "a", domain);
        let fqdn = json!({"containers": [], "hostname": "a", "subdomain": "db", "setHostnameAsFQDN": true});
        check(fqdn, "a.db.default.svc.cluster.local", domain);
    }

    #[test]
    fn the_hosts_file_names_the_pod_and_its_aliases() {
        let spec = json!({"containers": [], "hostname": "a", "subdomain": "db", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["x", "y"]}]});
        let text = hosts(&sample::pod(&spec), &["10.42.0.2".parse().unwrap()], "cluster.local", None);
        assert!(text.contains("10.42.0.2\ta.db.default.svc.cluster.local\ta\n"), "{text}");
        assert!(text.ends_with("# Entries added by HostAliases.\n1.2.3.4\tx\ty\n"), "{text}");
    }
}
