//! Garbage collection: dead containers beyond the last one of each name, and images when their disk fills.
//!
//! [`surplus`] is asked by the pod's task after each start. [`ImageCollector`] sleeps until the node's status finds the
//! disk fuller than the high threshold, and then removes unused images down to the low one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::Scope;
use edgek_node_runtime::{Container, ContainerId, Image, Runtime};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::node::facts::Disk;

/// Images younger than this are spared: their containers may be about to be made.
const MIN_AGE: Duration = Duration::from_secs(120);

/// The dead containers of a pod that nobody needs any more: all but the newest dead one of each name.
pub fn surplus(runs: &[Container]) -> Vec<ContainerId> {
    let mut newest: BTreeMap<&str, &Container> = BTreeMap::new();
    let dead = || runs.iter().filter(|run| run.state.is_exited());
    for run in dead() {
        let entry = newest.entry(&run.name).or_insert(run);
        if (run.attempt, run.created_at) > (entry.attempt, entry.created_at) {
            *entry = run;
        }
    }
    dead()
        .filter(|run| newest.get(run.name.as_str()).is_some_and(|kept| kept.id != run.id))
        .map(|run| run.id.clone())
        .collect()
}

/// When unused images go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageGc {
    /// Per cent of the disk in use from which images are removed.
    pub high: u64,
    /// Per cent down to which they are.
    pub low: u64,
}

impl Default for ImageGc {
    /// Upstream's.
    fn default() -> Self {
        Self { high: 85, low: 80 }
    }
}

impl ImageGc {
    /// Whether a disk is so full that images must go.
    pub fn is_due(self, disk: Disk) -> bool {
        used_percent(disk) >= self.high
    }

    /// The bytes to free to come down to the low threshold; 0 below the high one.
    fn excess(self, disk: Disk) -> u64 {
        if !self.is_due(disk) {
            return 0;
        }
        (disk.total / 100 * (100 - self.low)).saturating_sub(disk.available)
    }
}

fn used_percent(disk: Disk) -> u64 {
    if disk.total == 0 {
        return 0;
    }
    100 - disk.available * 100 / disk.total
}

/// Removes unused images when it is told to look.
pub struct ImageCollector {
    settings: ImageGc,
    runtime: Arc<dyn Runtime>,
    look: Arc<Notify>,
    /// When each image was first seen, and last seen in use.
    seen: BTreeMap<String, (Instant, Instant)>,
}

impl ImageCollector {
    /// Starts it; it looks whenever the returned handle is notified, until the scope ends.
    pub fn start(scope: &Scope, runtime: Arc<dyn Runtime>, settings: ImageGc) -> Arc<Notify> {
        let look = Arc::new(Notify::new());
        let collector = Self { settings, runtime, look: look.clone(), seen: BTreeMap::new() };
        scope.spawn("image collector", collector.run());
        look
    }

    async fn run(mut self) {
        loop {
            self.look.notified().await;
            if let Err(error) = self.collect().await {
                warn!(%error, "removing unused images failed; it will be tried again");
            }
        }
    }

    async fn collect(&mut self) -> Result<(), edgek_node_runtime::Error> {
        let images = self.runtime.images().await?;
        let containers = self.runtime.containers().await?;
        let now = Instant::now();
        let used: BTreeSet<&str> =
            containers.iter().flat_map(|c| [c.image.as_str(), c.image_id.as_str()]).collect();
        let is_used = |image: &Image| {
            let names = image.tags.iter().chain(&image.digests).chain([&image.id]);
            names.into_iter().any(|name| used.contains(name.as_str()))
        };
        self.seen.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in &images {
            let entry = self.seen.entry(image.id.clone()).or_insert((now, now));
            if is_used(image) {
                entry.1 = now;
            }
        }
        let disk = Disk::read(&self.runtime.image_filesystem().await?.path);
        let excess = disk.map_or(0, |disk| self.settings.excess(disk));
        let candidates = images.iter().filter(|image| !image.pinned && !is_used(image));
        let aged = candidates.filter_map(|image| {
            let (first, last) = self.seen.get(&image.id)?;
            (now - *first >= MIN_AGE).then_some((image, *last))
        });
        for image in victims(aged.collect(), excess) {
            info!(image = %image.id, bytes = image.size, "removing an unused image: the disk is full");
            self.runtime.remove_image(&image.id).await?;
        }
        Ok(())
    }
}

/// The images to remove to free this much: the longest unused first, then the largest.
fn victims(mut candidates: Vec<(&Image, Instant)>, excess: u64) -> Vec<&Image> {
    candidates.sort_by(|(a, a_used), (b, b_used)| a_used.cmp(b_used).then_with(|| b.size.cmp(&a.size)));
    let mut freed = 0;
    let mut chosen = Vec::new();
    for (image, _) in candidates {
        if freed >= excess {
            break;
        }
        freed += image.size;
        chosen.push(image);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::run;

    #[test]
    fn the_newest_dead_container_of_each_name_stays() {
        let check = |runs: &[&str], expected: &[&str]| {
            let runs: Vec<Container> = runs.iter().map(|text| run(text)).collect();
            let ids: Vec<String> = surplus(&runs).iter().map(ToString::to_string).collect();
            assert_eq!(ids, expected, "{runs:?}");
        };
        check(&["a/0=1", "a/1=0", "a/2=running", "b/0=0"], &["a-0"]);
        check(&["a/0=1"], &[]);
        check(&["a/1=1", "a/0=1", "a/2=1"], &["a-1", "a-0"]);
        check(&["a/0=running", "a/1=created"], &[]);
    }

    #[test]
    fn only_what_is_needed_goes_and_the_longest_unused_first() {
        let disk =
            |available| Disk { total: 1000, available, used: 1000 - available, inodes: 1, inodes_free: 1 };
        let excess = |available| ImageGc::default().excess(disk(available));
        assert_eq!([excess(500), excess(160), excess(150), excess(0)], [0, 0, 50, 200]);
        let image = |id: &str, size| Image {
            id: id.to_owned(),
            tags: Vec::new(),
            digests: Vec::new(),
            size,
            user: String::new(),
            pinned: false,
        };
        let (old, new, large) = (image("old", 30), image("new", 100), image("large", 90));
        let now = Instant::now();
        let later = now + Duration::from_secs(60);
        let check = |excess: u64, expected: &[&str]| {
            let chosen = victims(vec![(&new, later), (&old, now), (&large, now)], excess);
            let ids: Vec<&str> = chosen.iter().map(|image| image.id.as_str()).collect();
            assert_eq!(ids, expected);
        };
        check(0, &[]);
        check(90, &["large"]);
        check(91, &["large", "old"]);
        check(1000, &["large", "old", "new"]);
    }
}
