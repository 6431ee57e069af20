//! What is counted of requests, under upstream's names.

use std::time::Duration;

use edgek_base_telemetry::metrics::{CounterVec, Histogram};
use http::StatusCode;

use crate::info::RequestInfo;

static REQUESTS: CounterVec = CounterVec::new(
    "apiserver_request_total",
    "Requests by verb, resource and code.",
    &["verb", "group", "resource", "code"],
);
static DURATION: Histogram = Histogram::new(
    "apiserver_request_duration_seconds",
    "Time to the answer of requests that are not streams.",
);

/// Counts an answered request.
pub(crate) fn count(info: &RequestInfo, code: StatusCode, taken: Duration) {
    let (group, resource) = info.resource.as_ref().map_or(("", ""), |path| (&path.group, &path.resource));
    REQUESTS.add(&[info.verb, group, resource, code.as_str()], 1);
    if !info.is_long_running() {
        DURATION.observe(taken);
    }
}
