//! Impersonation: a user who may acts as another one, as upstream's `endpoints/filters/impersonation`.

use std::sync::Arc;

use edgek_api::status::Status;
use edgek_apiserver_authn::{ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, User};
use edgek_apiserver_authz::{Authorizer, Target, authorize};
use http::HeaderMap;

use crate::error::{Rejection, forbidden};
use crate::query::{Plus, decode};

const EXTRA: &str = "impersonate-extra-";
const ACCOUNT: &str = "system:serviceaccount:";

/// The user a request acts as: its own, unless its headers name another one that it may impersonate.
pub(crate) fn impersonate(
    authorizer: &dyn Authorizer,
    user: Arc<User>,
    headers: &HeaderMap,
) -> Result<Arc<User>, Rejection> {
    let Some(acting) = requested(headers)? else { return Ok(user) };
    let allowed = |resource: &str, subresource: &str, namespace: &str, name: &str| {
        let group = if matches!(resource, "userextras" | "uids") { "authentication.k8s.io" } else { "" };
        let target = Target::Resource {
            verb: "impersonate",
            group,
            version: "v1",
            resource,
            subresource,
            namespace,
            name,
            field_selector: "",
            label_selector: "",
        };
        authorize(authorizer, &user, &target)
            .map(drop)
            .map_err(|denied| Rejection::from(forbidden(&user, &target, &denied.reason)))
    };
    match acting.name.strip_prefix(ACCOUNT).and_then(|account| account.split_once(':')) {
        Some((namespace, name)) => allowed("serviceaccounts", "", namespace, name)?,
        None => allowed("users", "", "", &acting.name)?,
    }
    for group in values(headers, "impersonate-group") {
        allowed("groups", "", "", &group)?;
    }
    for (key, values) in &acting.extra {
        for value in values {
            allowed("userextras", key, "", value)?;
        }
    }
    if !acting.uid.is_empty() {
        allowed("uids", "", "", &acting.uid)?;
    }
    Ok(Arc::new(acting))
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).map(ToOwned::to_owned).collect()
}

/// The user that the headers ask for.
fn requested(headers: &HeaderMap) -> Result<Option<User>, Rejection> {
    let mut acting =
        User { name: values(headers, "impersonate-user").pop().unwrap_or_default(), ..User::default() };
    acting.groups = values(headers, "impersonate-group");
    acting.uid = values(headers, "impersonate-uid").pop().unwrap_or_default();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else { continue };
        let key = decode(key, Plus::Literal).map_or_else(|| key.to_owned(), std::borrow::Cow::into_owned);
        acting.extra.entry(key).or_default().push(value.to_str().unwrap_or_default().to_owned());
    }
    if acting.name.is_empty() {
        let others = !acting.groups.is_empty() || !acting.uid.is_empty() || !acting.extra.is_empty();
        return if others {
            Err(Status::bad_request(
                "requested impersonation of groups, uids or extra fields without impersonating a user",
            )
            .into())
        } else {
            Ok(None)
        };
    }
    if let Some(account) = acting.name.strip_prefix(ACCOUNT)
        && acting.groups.is_empty()
        && let Some((namespace, _)) = account.split_once(':')
    {
        acting.groups =
            vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
    }
    let implied = if acting.name == ANONYMOUS { ALL_UNAUTHENTICATED } else { ALL_AUTHENTICATED };
    if !acting.is_in(ALL_AUTHENTICATED) && !acting.is_in(ALL_UNAUTHENTICATED) {
        acting.groups.push(implied.to_owned());
    }
    Ok(Some(acting))
}
