//! Paths and operations of a group and version, as the v2 and v3 documents render them. Watches by path are left out:
//! they are deprecated, and no client looks for them.

use crate::resource::{Resource, Subresource};
use crate::schema::{GroupVersionKind, Schema};

use super::prefix;

pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
const META_PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const RESOURCE_LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";
const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";

/// What answers are encoded as.
pub(super) const PRODUCES: &[&str] =
    &["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
/// What a PATCH may be.
pub(super) const PATCHES: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

const LIST_PARAMETERS: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const WRITE_PARAMETERS: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const PATCH_PARAMETERS: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
const DELETE_PARAMETERS: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
];
const DELETE_COLLECTION_PARAMETERS: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];

/// A path and what may be done under it.
pub(super) struct Path {
    pub(super) path: String,
    /// Names in the path, `name` and `namespace`.
    pub(super) names: Vec<&'static str>,
    pub(super) operations: Vec<Operation>,
}

/// One HTTP method of a path.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) id: String,
    pub(super) description: String,
    /// Names of query parameters.
    pub(super) query: &'static [&'static str],
    pub(super) body: Option<Body>,
    /// The definition of the answer; `None` for text.
    pub(super) answer: Option<String>,
    /// Success codes and their words.
    pub(super) codes: &'static [(u16, &'static str)],
    pub(super) action: Option<&'static str>,
    pub(super) kind: Option<GroupVersionKind>,
}

/// A request's body.
pub(super) enum Body {
    /// An object of that definition.
    Object(String),
    /// Options that may be left out.
    Options,
    /// A patch.
    Patch,
}

impl Body {
    /// The name of its definition.
    pub(super) fn definition(&self) -> &str {
        match self {
            Self::Object(name) => name,
            Self::Options => DELETE_OPTIONS,
            Self::Patch => META_PATCH,
        }
    }
}

const OK: &[(u16, &str)] = &[(200, "OK")];
const OK_CREATED: &[(u16, &str)] = &[(200, "OK"), (201, "Created")];
const OK_ACCEPTED: &[(u16, &str)] = &[(200, "OK"), (202, "Accepted")];
const OK_CREATED_ACCEPTED: &[(u16, &str)] = &[(200, "OK"), (201, "Created"), (202, "Accepted")];

/// The JSON type of a query parameter.
pub(super) fn parameter_type(name: &str) -> &'static str {
    match name {
        "gracePeriodSeconds" | "limit" | "timeoutSeconds" => "integer",
        "allowWatchBookmarks"
        | "force"
        | "ignoreStoreReadErrorWithClusterBreakingPotential"
        | "orphanDependents"
        | "sendInitialEvents"
        | "watch" => "boolean",
        _ => "string",
    }
}

/// `apps_v1`, `rbacAuthorization_v1`: how operations are grouped.
pub(super) fn tag(group: &str, version: &str) -> String {
    let name = camel_case(group);
    format!("{}{}_{version}", name[..1].to_lowercase(), &name[1..])
}

/// `Core`, `Apps`, `RbacAuthorization`.
fn camel_case(group: &str) -> String {
    let group = group.strip_suffix(".k8s.io").unwrap_or(group);
    let group = if group.is_empty() { "core" } else { group };
    group.split('.').map(capitalised).collect()
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(word.len().min(1));
    first.to_uppercase() + rest
}

/// Every path of a group and version.
pub(super) fn paths<'a>(
    schema: &Schema,
    group: &str,
    version: &str,
    resources: impl Iterator<Item = &'a Resource>,
) -> Vec<Path> {
    let base = format!("/{}", prefix(group, version));
    let names = Names { schema, infix: camel_case(group) + &capitalised(version), base };
    let mut paths = vec![Path {
        path: format!("{}/", names.base),
        names: Vec::new(),
        operations: vec![Operation {
            description: "get available resources".to_owned(),
            answer: Some(RESOURCE_LIST.to_owned()),
            action: None,
            kind: None,
            ..operation("get", format!("get{}APIResources", names.infix))
        }],
    }];
    for resource in resources {
        names.resource(resource, &mut paths);
    }
    paths.retain(|path| !path.operations.is_empty());
    paths
}

fn operation(method: &'static str, id: String) -> Operation {
    Operation {
        method,
        id,
        description: String::new(),
        query: &[],
        body: None,
        answer: None,
        codes: OK,
        action: None,
        kind: None,
    }
}

/// What the names of paths and operations of a group and version share.
struct Names<'a> {
    schema: &'a Schema,
    /// `AppsV1`
    infix: String,
    /// `/apis/apps/v1`
    base: String,
}

impl Names<'_> {
    fn resource(&self, resource: &Resource, paths: &mut Vec<Path>) {
        let (scope, scoped, names) = if resource.namespaced {
            (
                "Namespaced",
                format!("{}/namespaces/{{namespace}}/{}", self.base, resource.plural),
                vec!["namespace"],
            )
        } else {
            ("", format!("{}/{}", self.base, resource.plural), vec![])
        };
        if resource.namespaced && resource.serves("list") {
            let mut list = self.list(resource, "");
            list.id.push_str("ForAllNamespaces");
            paths.push(Path {
                path: format!("{}/{}", self.base, resource.plural),
                names: vec![],
                operations: vec![list],
            });
        }
        let of_object = [&["name"][..], &names].concat();
        let operations = |wanted: &[&str]| {
            let served = wanted.iter().filter(|verb| resource.serves(verb));
            served.filter_map(|verb| self.of_resource(resource, scope, verb)).collect()
        };
        paths.push(Path {
            path: scoped.clone(),
            names,
            operations: operations(&["list", "create", "deletecollection"]),
        });
        paths.push(Path {
            path: format!("{scoped}/{{name}}"),
            names: of_object.clone(),
            operations: operations(&["get", "update", "delete", "patch"]),
        });
        for sub in &resource.subresources {
            paths.push(Path {
                path: format!("{scoped}/{{name}}/{}", sub.name),
                names: of_object.clone(),
                operations: sub
                    .verbs
                    .iter()
                    .filter_map(|verb| self.of_sub(resource, scope, sub, verb))
                    .collect(),
            });
        }
    }

    /// The definition of a kind, when it has one.
    fn definition(&self, kind: &GroupVersionKind) -> Option<String> {
        let id = self.schema.by_kind(&kind.group, &kind.version, &kind.kind)?;
        Some(self.schema.get(id).name.clone().into_owned())
    }

    fn list(&self, resource: &Resource, scope: &str) -> Operation {
        let list = GroupVersionKind { kind: resource.list_kind.clone(), ..resource.gvk() };
        Operation {
            description: format!("list or watch objects of kind {}", resource.kind),
            query: LIST_PARAMETERS,
            answer: self.definition(&list),
            action: Some("list"),
            kind: Some(resource.gvk()),
            ..operation("get", format!("list{}{scope}{}", self.infix, resource.kind))
        }
    }

    fn of_resource(&self, resource: &Resource, scope: &str, verb: &str) -> Option<Operation> {
        let kind = &resource.kind;
        match verb {
            "list" => return Some(self.list(resource, scope)),
            "deletecollection" => {
                return Some(Operation {
                    description: format!("delete collection of {kind}"),
                    query: DELETE_COLLECTION_PARAMETERS,
                    body: Some(Body::Options),
                    answer: Some(STATUS.to_owned()),
                    action: Some("deletecollection"),
                    kind: Some(resource.gvk()),
                    ..operation("delete", format!("delete{}Collection{scope}{kind}", self.infix))
                });
            }
            _ => {}
        }
        let description = match verb {
            "create" => format!("create a {kind}"),
            "delete" => format!("delete a {kind}"),
            "get" => format!("read the specified {kind}"),
            "update" => format!("replace the specified {kind}"),
            _ => format!("partially update the specified {kind}"),
        };
        self.of_object(resource.gvk(), verb, &format!("{}{scope}{kind}", self.infix), description)
    }

    fn of_sub(&self, resource: &Resource, scope: &str, sub: &Subresource, verb: &str) -> Option<Operation> {
        let kind = &resource.kind;
        let gvk = sub.gvk(resource);
        let id = format!("{}{scope}{kind}{}", self.infix, capitalised(&sub.name));
        if gvk.kind.ends_with("Options") {
            return connect(gvk, verb, &id, &format!("{} of {kind}", sub.name));
        }
        let description = match verb {
            "create" => format!("create {} of a {kind}", sub.name),
            "get" => format!("read {} of the specified {kind}", sub.name),
            "update" => format!("replace {} of the specified {kind}", sub.name),
            _ => format!("partially update {} of the specified {kind}", sub.name),
        };
        let mut operation = self.of_object(gvk, verb, &id, description)?;
        if sub.name == "log" {
            operation.answer = None;
        }
        Some(operation)
    }

    /// What may be done to one object.
    fn of_object(
        &self,
        kind: GroupVersionKind,
        verb: &str,
        id: &str,
        description: String,
    ) -> Option<Operation> {
        let definition = self.definition(&kind);
        let object = || definition.clone().map(Body::Object);
        let mut out = match verb {
            "create" => Operation {
                query: WRITE_PARAMETERS,
                body: object(),
                codes: OK_CREATED_ACCEPTED,
                action: Some("post"),
                ..operation("post", format!("create{id}"))
            },
            "get" => Operation { action: Some("get"), ..operation("get", format!("read{id}")) },
            "update" => Operation {
                query: WRITE_PARAMETERS,
                body: object(),
                codes: OK_CREATED,
                action: Some("put"),
                ..operation("put", format!("replace{id}"))
            },
            "patch" => Operation {
                query: PATCH_PARAMETERS,
                body: Some(Body::Patch),
                codes: OK_CREATED,
                action: Some("patch"),
                ..operation("patch", format!("patch{id}"))
            },
            "delete" => Operation {
                query: DELETE_PARAMETERS,
                body: Some(Body::Options),
                codes: OK_ACCEPTED,
                action: Some("delete"),
                ..operation("delete", format!("delete{id}"))
            },
            _ => return None,
        };
        out.answer = if verb == "delete" { Some(STATUS.to_owned()) } else { definition };
        out.description = description;
        out.kind = Some(kind);
        Some(out)
    }
}

/// A subresource that is a stream or a proxy.
fn connect(kind: GroupVersionKind, verb: &str, id: &str, what: &str) -> Option<Operation> {
    let method = match verb {
        "create" => "post",
        "get" => "get",
        "update" => "put",
        "patch" => "patch",
        "delete" => "delete",
        _ => return None,
    };
    let method_name = capitalised(method);
    let infix_end = id.find("Namespaced").unwrap_or(id.len());
    Some(Operation {
        description: format!("connect {} requests to {what}", method.to_uppercase()),
        action: Some("connect"),
        kind: Some(kind),
        ..operation(method, format!("connect{}{method_name}{}", &id[..infix_end], &id[infix_end..]))
    })
}
