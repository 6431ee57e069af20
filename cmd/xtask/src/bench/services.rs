//! Services: from sending an endpoint to the first connection by the Service's address, beside many other Services.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, interval, timeout};

use super::Namespace;
use super::client::{Connection, Target};
use super::figures::{Figures, Goal};

/// Services that are there, and Services that are measured.
const MANY: usize = 1000;
const MEASURED: usize = 50;
/// How long one change may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The node's address, at which the endpoint of all Services listens.
const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// Makes the Services, then changes some.
pub(super) async fn measure(target: &Target, space: &Namespace, figures: &mut Figures) -> Result<()> {
    let listener = TcpListener::bind((NODE, 0)).await.context("listen on the node's address")?;
    let port = listener.local_addr()?.port();
    let mut connection = target.connect().await?;
    for number in 0..MANY {
        let name = format!("many-{number}");
        create(&mut connection, space, &name).await?;
        endpoint(&mut connection, space, &name, port).await?;
    }
    let mut durations = Vec::new();
    for number in 0..MEASURED {
        let name = format!("service-{number}");
        let address = create(&mut connection, space, &name).await?;
        let begun = Instant::now();
        endpoint(&mut connection, space, &name, port).await?;
        timeout(PATIENCE, connected(address)).await.with_context(|| format!("{name} never answered"))?;
        durations.push(begun.elapsed());
    }
    let name = format!("endpoint to connection, {MANY} Services");
    figures.add_durations(&name, &mut durations, Goal::AtMost(20.0));
    Ok(())
}

/// Makes a Service without endpoints: its address.
async fn create(connection: &mut Connection, space: &Namespace, name: &str) -> Result<SocketAddr> {
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"ports": [{"port": 80}]},
    });
    let made: Value = connection.post(&space.path("services"), &service).await?;
    let address = made["spec"]["clusterIP"].as_str().context("a Service has an address")?;
    Ok(SocketAddrV4::new(address.parse()?, 80).into())
}

async fn endpoint(connection: &mut Connection, space: &Namespace, name: &str, port: u16) -> Result<()> {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [NODE]}],
        "ports": [{"port": port, "protocol": "TCP"}],
    });
    let path = space.path("endpointslices").replace("/api/v1/", "/apis/discovery.k8s.io/v1/");
    connection.post(&path, &slice).await.map(drop)
}

/// Waits until a connection to the address is accepted.
async fn connected(address: SocketAddr) {
    let mut tries = interval(Duration::from_millis(1));
    while TcpStream::connect(address).await.is_err() {
        tries.tick().await;
    }
}
