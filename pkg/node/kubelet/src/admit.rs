//! Admission of a pod by its node: what the scheduler should have seen to, checked again (`OutOfcpu`, `NodePorts`, ...).
