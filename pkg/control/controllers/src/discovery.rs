//! The resources of the server, as its discovery documents tell them: for controllers that treat all kinds alike.

use edgek_client::{Client, Error, ResourceRef};
use serde_json::Value;

/// The resources in each group's preferred version whose objects allow all of these verbs.
pub(crate) async fn resources(client: &Client, verbs: &[&str]) -> Result<Vec<ResourceRef>, Error> {
    let mut paths = vec![("/api/v1".to_owned(), String::new(), "v1".to_owned())];
    let groups = client.get_path("/apis").await?;
    for group in items(&groups["groups"]) {
        let (name, version) = (text(&group["name"]), text(&group["preferredVersion"]["version"]));
        paths.push((format!("/apis/{name}/{version}"), name, version));
    }
    let mut found = Vec::new();
    for (path, group, version) in paths {
        let list = client.get_path(&path).await?;
        let of_group = items(&list["resources"]).filter(|resource| {
            let allowed = |verb: &&str| items(&resource["verbs"]).any(|allowed| allowed == verb);
            !text(&resource["name"]).contains('/') && verbs.iter().all(allowed)
        });
        found.extend(of_group.map(|resource| ResourceRef {
            group: group.clone().into(),
            version: version.clone().into(),
            plural: text(&resource["name"]).into(),
            kind: text(&resource["kind"]).into(),
            namespaced: resource["namespaced"] == true,
        }));
    }
    Ok(found)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
