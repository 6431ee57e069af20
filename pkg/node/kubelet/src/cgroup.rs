//! The cgroups of the node's pods: `kubepods`, its QoS classes, and one per pod, in v1 (hybrid) and v2.
