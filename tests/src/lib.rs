//! System tests: the real binary, containerd and kubectl.
