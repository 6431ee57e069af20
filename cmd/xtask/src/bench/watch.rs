//! Fan-out: many watchers see every event of parallel writers, once each.
//!
//! The lag is from sending the create to the event's arrival, so it includes the write. A watcher whose stream the
//! server closes resumes from its last revision, as clients do.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::Method;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Namespace;
use super::client::Target;
use super::figures::{Figures, Goal};

const WATCHERS: usize = 200;
const WRITERS: usize = 16;
const EVENTS: usize = 2000;

/// How long the last watcher may take after the last write.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one watcher saw.
struct Seen {
    lags: Vec<Duration>,
    /// Events that came more than once.
    repeated: usize,
    reconnects: usize,
    last: Instant,
}

/// Writes the events and watches them.
pub(super) async fn measure(target: &Target, space: &Namespace, figures: &mut Figures) -> Result<()> {
    let path = space.path("configmaps");
    let list = target.connect().await?.get(&format!("{path}?limit=1")).await?;
    let revision = list["metadata"]["resourceVersion"].as_str().context("a list has a revision")?.to_owned();
    let start = Instant::now();
    let (ready, mut readiness) = mpsc::channel(WATCHERS);
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let watcher = Watcher {
            target: target.clone(),
            path: format!("{path}?watch=1&labelSelector=group%3Dwatched"),
            revision: revision.clone(),
            start,
        };
        watchers.spawn(watcher.run(ready.clone()));
    }
    for _ in 0..WATCHERS {
        readiness.recv().await.context("a watcher ended early")?;
    }
    let first = Instant::now();
    write(target, &path, start).await?;

    let mut all = Vec::new();
    let mut collect = async || {
        while let Some(seen) = watchers.join_next().await {
            all.push(seen??);
        }
        Ok::<_, anyhow::Error>(())
    };
    match tokio::time::timeout(PATIENCE, collect()).await {
        Ok(outcome) => outcome?,
        Err(_) => bail!("events were lost: {} of {WATCHERS} watchers saw all of them", all.len()),
    }
    let last = all.iter().map(|seen| seen.last).max().unwrap_or(first);
    let repeated: usize = all.iter().map(|seen| seen.repeated).sum();
    let reconnects: usize = all.iter().map(|seen| seen.reconnects).sum();
    let mut lags: Vec<_> = all.into_iter().flat_map(|seen| seen.lags).collect();
    #[expect(clippy::cast_precision_loss, reason = "counts of events")]
    let [delivered, repeated, reconnects] = [lags.len(), repeated, reconnects].map(|count| count as f64);
    let name = format!("watch, {WATCHERS} watchers");
    figures.add(&name, delivered / (last - first).as_secs_f64(), "/s", Goal::None);
    figures.add_durations(&format!("{name}, lag"), &mut lags, Goal::None);
    figures.add(format!("{name}, repeated events"), repeated, "", Goal::AtMost(0.0));
    figures.add(format!("{name}, reconnects"), reconnects, "", Goal::None);
    Ok(())
}

/// Creates the objects over parallel connections, each with its number and the time it was sent.
async fn write(target: &Target, path: &str, start: Instant) -> Result<()> {
    let path: Arc<str> = path.into();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (mut connection, path) = (target.connect().await?, path.clone());
        writers.spawn(async move {
            for number in (writer..EVENTS).step_by(WRITERS) {
                let object = json!({
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": format!("watched-{number}"), "labels": {"group": "watched"}},
                    "data": {"number": number.to_string(), "sent": start.elapsed().as_micros().to_string()},
                });
                connection.post(&path, &object).await?;
            }
            Ok::<_, anyhow::Error>(())
        });
    }
    while let Some(outcome) = writers.join_next().await {
        outcome??;
    }
    Ok(())
}

struct Watcher {
    target: Target,
    path: String,
    revision: String,
    start: Instant,
}

impl Watcher {
    /// Watches until every event was seen.
    async fn run(mut self, ready: mpsc::Sender<()>) -> Result<Seen> {
        let mut numbers = vec![false; EVENTS];
        let mut seen = Seen { lags: Vec::new(), repeated: 0, reconnects: 0, last: self.start };
        let mut ready = Some(ready);
        while seen.lags.len() < EVENTS {
            let mut connection = self.target.connect().await?;
            let path = format!("{}&resourceVersion={}", self.path, self.revision);
            let response = connection.send(Method::GET, &path, Bytes::new()).await?;
            if !response.status().is_success() {
                bail!("{path}: {}", response.status());
            }
            match ready.take() {
                Some(ready) => ready.send(()).await?,
                None => seen.reconnects += 1,
            }
            let (mut body, mut buffer) = (response.into_body(), BytesMut::new());
            while seen.lags.len() < EVENTS
                && let Some(Ok(frame)) = body.frame().await
            {
                let Ok(data) = frame.into_data() else { continue };
                buffer.extend_from_slice(&data);
                while let Some(end) = memchr::memchr(b'\n', &buffer) {
                    self.event(&buffer[..end], &mut numbers, &mut seen)?;
                    buffer.advance(end + 1);
                }
            }
        }
        Ok(seen)
    }

    /// Reads the few fields that count; decoding whole objects would make the client the limit.
    fn event(&mut self, line: &[u8], numbers: &mut [bool], seen: &mut Seen) -> Result<()> {
        let Some(number) = field(line, b"\"number\":\"") else {
            bail!("an unexpected event: {}", String::from_utf8_lossy(line));
        };
        let sent: u64 = field(line, b"\"sent\":\"").context("an event has its time")?.parse()?;
        field(line, b"\"resourceVersion\":\"")
            .context("an event has a revision")?
            .clone_into(&mut self.revision);
        let known = numbers.get_mut(number.parse::<usize>()?).context("an event of another run")?;
        if std::mem::replace(known, true) {
            seen.repeated += 1;
            return Ok(());
        }
        seen.last = Instant::now();
        seen.lags.push((seen.last - self.start).saturating_sub(Duration::from_micros(sent)));
        Ok(())
    }
}

/// The text between a key and the next quote.
fn field<'a>(line: &'a [u8], key: &[u8]) -> Option<&'a str> {
    let start = memchr::memmem::find(line, key)? + key.len();
    let end = start + memchr::memchr(b'"', &line[start..])?;
    std::str::from_utf8(&line[start..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_ends_at_its_quote() {
        let line = br#"{"object":{"data":{"number":"12","sent":"345"}}}"#;
        assert_eq!(field(line, b"\"number\":\""), Some("12"));
        assert_eq!(field(line, b"\"sent\":\""), Some("345"));
        assert_eq!(field(line, b"\"gone\":\""), None);
    }
}
