//! A network in memory, for tests of the kubelet.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{Error, Network, PodNetworkSpec, PodNetworkStatus};

/// Gives the pods 10.42.0.2, 10.42.0.3, ... and touches nothing.
#[derive(Debug, Default)]
pub struct FakeNetwork(Mutex<BTreeMap<String, PodNetworkStatus>>);

#[async_trait]
impl Network for FakeNetwork {
    async fn setup(&self, pod: &PodNetworkSpec) -> Result<PodNetworkStatus, Error> {
        let mut pods = self.0.lock();
        let next = u8::try_from(pods.len() % 250).unwrap_or(0) + 2;
        let status = PodNetworkStatus {
            netns: PathBuf::from("/fake/netns").join(&pod.uid),
            ips: vec![IpAddr::V4(Ipv4Addr::new(10, 42, 0, next))],
        };
        Ok(pods.entry(pod.uid.clone()).or_insert(status).clone())
    }

    async fn teardown(&self, uid: &str) -> Result<(), Error> {
        self.0.lock().remove(uid);
        Ok(())
    }

    fn status(&self, uid: &str) -> Option<PodNetworkStatus> {
        self.0.lock().get(uid).cloned()
    }

    fn pods(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }

    fn ready(&self) -> watch::Receiver<bool> {
        watch::channel(true).1
    }
}
