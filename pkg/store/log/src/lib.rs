//! Bytes by key with revisions: the durable store and its backends.
