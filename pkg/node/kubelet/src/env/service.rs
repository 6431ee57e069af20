//! The variables that tell a container where services are, in the two forms upstream makes
//! (`<NAME>_SERVICE_HOST` and those of Docker links).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;

/// The variables for a pod of `namespace`: always the API server's, the others only with `links`
/// (`enableServiceLinks`).
pub fn variables(services: &[Service], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    // A service of the pod's own namespace comes later and hides the API server's of the same name.
    let (masters, others): (Vec<_>, Vec<_>) = services.iter().partition(|service| is_master(service));
    for service in others.into_iter().filter(|s| links && s.metadata.namespace.as_deref() == Some(namespace))
    {
        add(&mut found, service);
    }
    for service in masters {
        let mut own = BTreeMap::new();
        add(&mut own, service);
        for (name, value) in own {
            found.entry(name).or_insert(value);
        }
    }
    found
}

fn is_master(service: &Service) -> bool {
    let meta = &service.metadata;
    meta.namespace.as_deref() == Some("default") && meta.name.as_deref() == Some("kubernetes")
}

fn add(found: &mut BTreeMap<String, String>, service: &Service) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty() && *ip != "None") else { return };
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first() else { return };
    let prefix = variable(service.metadata.name.as_deref().unwrap_or_default());
    found.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    found.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    for (index, port) in ports.iter().enumerate() {
        let number = port.port;
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            found.insert(format!("{prefix}_SERVICE_PORT_{}", variable(name)), number.to_string());
        }
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let lower = protocol.to_lowercase();
        let url = format!("{lower}://{host}:{number}");
        if index == 0 {
            found.insert(format!("{prefix}_PORT"), url.clone());
        }
        let link = format!("{prefix}_PORT_{number}_{}", protocol.to_uppercase());
        found.insert(format!("{link}_PROTO"), lower);
        found.insert(format!("{link}_PORT"), number.to_string());
        found.insert(format!("{link}_ADDR"), ip.to_owned());
        found.insert(link, url);
    }
}

fn variable(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_own_namespace_with_links_and_the_api_server_always() {
        let service = |namespace: &str, name: &str, ip: &str, port: serde_json::Value| -> Service {
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace},
                "spec": {"clusterIP": ip, "ports": [port]}}))
            .unwrap()
        };
        let services = [
            service("default", "kubernetes", "10.43.0.1", json!({"port": 443, "name": "https"})),
            service("shop", "db-main", "10.43.0.9", json!({"port": 5432})),
            service("shop", "headless", "None", json!({"port": 1})),
            service("other", "far", "10.43.0.8", json!({"port": 1})),
        ];
        let all = variables(&services, "shop", true);
        let text: Vec<String> = all.iter().map(|(name, value)| format!("{name}={value}")).collect();
        expect_test::expect![[r#"
            DB_MAIN_PORT=tcp://10.43.0.9:5432
            DB_MAIN_PORT_5432_TCP=tcp://10.43.0.9:5432
            DB_MAIN_PORT_5432_TCP_ADDR=10.43.0.9
            DB_MAIN_PORT_5432_TCP_PORT=5432
            DB_MAIN_PORT_5432_TCP_PROTO=tcp
            DB_MAIN_SERVICE_HOST=10.43.0.9
            DB_MAIN_SERVICE_PORT=5432
            KUBERNETES_PORT=tcp://10.43.0.1:443
            KUBERNETES_PORT_443_TCP=tcp://10.43.0.1:443
            KUBERNETES_PORT_443_TCP_ADDR=10.43.0.1
            KUBERNETES_PORT_443_TCP_PORT=443
            KUBERNETES_PORT_443_TCP_PROTO=tcp
            KUBERNETES_SERVICE_HOST=10.43.0.1
            KUBERNETES_SERVICE_PORT=443
            KUBERNETES_SERVICE_PORT_HTTPS=443"#]]
        .assert_eq(&text.join("\n"));
        assert!(variables(&services, "shop", false).keys().all(|name| name.starts_with("KUBERNETES_")));
    }
}
