//! Requests to a Kubernetes API, typed and untyped, over any transport.
