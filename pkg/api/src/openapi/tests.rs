//! Documents against what upstream publishes (`cargo xtask gen-schema` writes `testdata/definitions.json.gz`).

use std::io::Read as _;

use super::*;

fn documents() -> Documents<'static> {
    Documents { schema: Schema::builtin(), catalog: Catalog::builtin(), version: "v1.37.0" }
}

fn published() -> Value {
    let packed: &[u8] = include_bytes!("../../testdata/definitions.json.gz");
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// A definition without prose, and without what only ours or only upstream's groups list.
fn comparable(mut definition: Value) -> Value {
    let entries = definition.as_object_mut().unwrap();
    entries.remove("description");
    let everywhere =
        |kinds: &Value| matches!(kinds[0]["kind"].as_str(), Some("DeleteOptions" | "WatchEvent"));
    if entries.get("x-kubernetes-group-version-kind").is_some_and(everywhere) {
        entries.remove("x-kubernetes-group-version-kind");
    }
    if let Some(required) = entries.get_mut("required").and_then(Value::as_array_mut) {
        required.sort_by_key(Value::to_string);
    }
    let properties = entries.get_mut("properties").and_then(Value::as_object_mut);
    for property in properties.into_iter().flat_map(|p| p.values_mut()) {
        property.as_object_mut().unwrap().remove("description");
    }
    definition
}

fn check_definitions(ours: &Value, upstream: &Value) {
    for (name, definition) in ours.as_object().unwrap() {
        if !name.contains("alpha") {
            assert_eq!(comparable(definition.clone()), comparable(upstream[name].clone()), "{name}");
        }
        assert!(definition["description"].is_string(), "{name} has no description");
    }
}

#[test]
fn definitions_equal_upstreams() {
    let published = published();
    let mut seen = std::collections::BTreeSet::new();
    for (group, version) in documents().group_versions() {
        let path = prefix(group, version);
        let document: Value = serde_json::from_str(&documents().v3(&path).unwrap()).unwrap();
        let schemas = &document["components"]["schemas"];
        check_definitions(schemas, &published["v3"]);
        seen.extend(schemas.as_object().unwrap().keys().cloned());
    }
    let document: Value = serde_json::from_str(&documents().v2()).unwrap();
    check_definitions(&document["definitions"], &published["v2"]);
    assert_eq!(seen.len(), document["definitions"].as_object().unwrap().len());
    // Those of the machinery are there when something refers to them, which another test checks.
    let kinds = published["v3"].as_object().unwrap().keys().filter(|name| !name.contains(".apimachinery."));
    let missing: Vec<&String> = kinds.filter(|name| !seen.contains(*name)).collect();
    assert_eq!(missing, [""; 0], "not in any document");
}

#[test]
fn every_reference_leads_to_a_definition() {
    fn check(value: &Value, document: &Value) {
        match value {
            Value::Object(entries) => {
                if let Some(place) = entries.get("$ref").and_then(Value::as_str) {
                    let pointer = place.strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{place} leads nowhere");
                }
                entries.values().for_each(|inner| check(inner, document));
            }
            Value::Array(items) => items.iter().for_each(|inner| check(inner, document)),
            _ => {}
        }
    }
    let mut texts: Vec<String> =
        documents().group_versions().map(|(g, v)| documents().v3(&prefix(g, v)).unwrap()).collect();
    texts.push(documents().v2());
    for text in texts {
        let document: Value = serde_json::from_str(&text).unwrap();
        check(&document, &document);
    }
}

#[test]
fn kubectl_finds_what_it_looks_for() {
    let document: Value = serde_json::from_str(&documents().v3("apis/apps/v1").unwrap()).unwrap();
    let paths = &document["paths"];
    let patch = &paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    let kind = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    assert_eq!(patch["x-kubernetes-group-version-kind"], kind);
    assert_eq!(patch["x-kubernetes-action"], "patch");
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    let names: Vec<&str> =
        patch["parameters"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);

    let all = &paths["/apis/apps/v1/deployments"]["get"];
    assert_eq!(all["operationId"], "listAppsV1DeploymentForAllNamespaces");
    let scale = &paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["get"];
    assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["io.k8s.api.apps.v1.Deployment"]["x-kubernetes-group-version-kind"], json!([kind]));
    assert_eq!(schemas["io.k8s.api.autoscaling.v1.Scale"]["type"], "object");

    let core: Value = serde_json::from_str(&documents().v3("api/v1").unwrap()).unwrap();
    let exec = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/exec"]["get"];
    assert_eq!(exec["operationId"], "connectCoreV1GetNamespacedPodExec");
    let spec = &core["components"]["schemas"]["io.k8s.api.core.v1.Pod"]["properties"]["spec"];
    assert!(
        spec["description"]
            .as_str()
            .unwrap()
            .starts_with("Specification of the desired behavior of the pod.")
    );
}

#[test]
fn the_index_names_every_group_version_and_changes_with_its_content() {
    let index = documents().index();
    let paths = index["paths"].as_object().unwrap();
    for path in paths.keys() {
        assert!(documents().v3(path).is_some(), "{path}");
    }
    let url = paths["apis/rbac.authorization.k8s.io/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.starts_with("/openapi/v3/apis/rbac.authorization.k8s.io/v1?hash="), "{url}");
    assert!(documents().v3("apis/none/v1").is_none());

    let mut fewer = Catalog::builtin().clone();
    fewer.remove("apps", "v1", "daemonsets").unwrap();
    let fewer = Documents { catalog: &fewer, ..documents() };
    assert_ne!(fewer.etag("apps", "v1"), documents().etag("apps", "v1"));
    assert_eq!(fewer.etag("batch", "v1"), documents().etag("batch", "v1"));
    assert_ne!(fewer.etag("", ""), documents().etag("", ""));
}

/// The length-delimited fields of a message with that number.
fn fields(message: &[u8], wanted: u32) -> Vec<&[u8]> {
    let mut reader = crate::protobuf::Reader::new(message);
    let mut found = Vec::new();
    while let Some((number, content)) = reader.field().unwrap() {
        if let (true, crate::protobuf::Content::Bytes(bytes)) = (number == wanted, content) {
            found.push(bytes);
        }
    }
    found
}

#[test]
fn gnostic_holds_what_v2_holds() {
    let json: Value = serde_json::from_str(&documents().v2()).unwrap();
    let wire = documents().v2_protobuf();
    for (document_field, named_field, key) in [(8, 2, "paths"), (9, 1, "definitions")] {
        let [holder] = fields(&wire, document_field)[..] else { panic!("{key}") };
        let named = fields(holder, named_field);
        let names: Vec<&[u8]> = named.iter().flat_map(|named| fields(named, 1)).collect();
        let expected: Vec<&[u8]> =
            json[key].as_object().unwrap().keys().map(|name| name.as_bytes()).collect();
        assert_eq!(names.len(), expected.len(), "{key}");
        assert!(expected.iter().all(|name| names.contains(name)), "{key}");
    }
    let named = |holder: &[u8], number: u32, name: &str| -> Vec<u8> {
        let found = fields(holder, number).into_iter().find(|named| fields(named, 1) == [name.as_bytes()]);
        fields(found.unwrap(), 2)[0].to_vec()
    };
    let pod = named(fields(&wire, 9)[0], 1, "io.k8s.api.core.v1.PodSpec");
    let policy = named(fields(&pod, 25)[0], 1, "restartPolicy");
    let values: Vec<&[u8]> = fields(&policy, 20).into_iter().map(|value| fields(value, 2)[0]).collect();
    assert_eq!(values, [b"\"Always\"".as_slice(), b"\"Never\"", b"\"OnFailure\""]);
}
