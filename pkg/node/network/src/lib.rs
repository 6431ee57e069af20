//! The pod network: bridge, veth, IPAM and host ports by netlink.
