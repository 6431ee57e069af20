//! Pod tasks, status, probes, volumes, cgroups, node registration and the kubelet API.
