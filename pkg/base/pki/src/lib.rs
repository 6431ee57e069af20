//! The CA, certificates, keys and kubeconfigs.
