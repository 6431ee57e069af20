//! Creates, gets and lists per second, at 1, 16 and 64 connections.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use bytes::Bytes;
use hyper::Method;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Namespace;
use super::client::Target;
use super::figures::{Figures, Goal};

const CONNECTIONS: &[usize] = &[1, 16, 64];

/// How many objects a list holds, and how many a get chooses from.
const LISTED: usize = 100;

/// What one request is, by connection and count.
type Ask = Arc<dyn Fn(usize, usize) -> (Method, String, Bytes) + Send + Sync>;

/// Runs every load for `duration`.
pub(super) async fn measure(
    target: &Target,
    space: &Namespace,
    duration: Duration,
    figures: &mut Figures,
) -> Result<()> {
    let path = space.path("configmaps");
    let mut connection = target.connect().await?;
    for index in 0..LISTED {
        let name = format!("listed-{index}");
        connection.post(&path, &serde_json::from_slice(&config_map(&name, "listed"))?).await?;
    }
    for &connections in CONNECTIONS {
        let (create, get, list) = (path.clone(), path.clone(), path.clone());
        let create: Ask = Arc::new(move |connection, count| {
            let name = format!("load-{connections}-{connection}-{count}");
            (Method::POST, create.clone(), config_map(&name, "load"))
        });
        let get: Ask = Arc::new(move |connection, count| {
            (Method::GET, format!("{get}/listed-{}", (connection * 7 + count) % LISTED), Bytes::new())
        });
        let list: Ask =
            Arc::new(move |_, _| (Method::GET, format!("{list}?labelSelector=group%3Dlisted"), Bytes::new()));
        let goals = match connections {
            16 => [Goal::AtLeast(4000.0), Goal::AtLeast(20_000.0), Goal::None],
            _ => [Goal::None; 3],
        };
        let loads = [("create 1 kB", create), ("get 1 kB", get), ("list 100 of 1 kB", list)];
        for ((name, ask), goal) in loads.into_iter().zip(goals) {
            let (rate, mut latencies) = load(target, connections, duration, &ask).await?;
            let name = format!("{name}, {connections} connections");
            figures.add(&name, rate, "/s", goal);
            figures.add_durations(&name, &mut latencies, Goal::None);
        }
    }
    Ok(())
}

/// A ConfigMap of about 1 kB, encoded.
fn config_map(name: &str, group: &str) -> Bytes {
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"group": group}},
        "data": {"value": "x".repeat(900)},
    });
    object.to_string().into()
}

/// Asks on some connections until the time is over; the rate, and how long each request took.
async fn load(
    target: &Target,
    connections: usize,
    duration: Duration,
    ask: &Ask,
) -> Result<(f64, Vec<Duration>)> {
    let mut opened = Vec::new();
    for _ in 0..connections {
        opened.push(target.connect().await?);
    }
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for (index, mut connection) in opened.into_iter().enumerate() {
        let ask = ask.clone();
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while start.elapsed() < duration {
                let (method, path, body) = ask(index, latencies.len());
                let sent = Instant::now();
                let (status, answer) = connection.call(method, &path, body).await?;
                if !status.is_success() {
                    bail!("{path}: {status}: {}", String::from_utf8_lossy(&answer));
                }
                latencies.push(sent.elapsed());
            }
            Ok(latencies)
        });
    }
    let mut latencies = Vec::new();
    while let Some(outcome) = tasks.join_next().await {
        latencies.extend(outcome??);
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    let rate = latencies.len() as f64 / start.elapsed().as_secs_f64();
    Ok((rate, latencies))
}
