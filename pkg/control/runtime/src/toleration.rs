//! Whether a toleration speaks of a taint. The scheduler asks before a pod runs, taint eviction while it does.

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// Whether a toleration speaks of this taint (upstream: `Toleration.ToleratesTaint`).
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let (text, value) = (Option::as_deref, taint.value.as_deref().unwrap_or_default());
    let any_or = |mine: Option<&str>, theirs: &str| mine.is_none_or(|mine| mine.is_empty() || mine == theirs);
    let own = text(&toleration.value).unwrap_or_default();
    let compare = |bound: fn(i64, i64) -> bool| {
        value.parse().ok().zip(own.parse().ok()).is_some_and(|(taint, own)| bound(taint, own))
    };
    any_or(text(&toleration.effect), &taint.effect)
        && any_or(text(&toleration.key), &taint.key)
        && match text(&toleration.operator).unwrap_or("Equal") {
            "" | "Equal" => own == value,
            "Exists" => true,
            "Gt" => compare(|taint, own| taint > own),
            "Lt" => compare(|taint, own| taint < own),
            _ => false,
        }
}
