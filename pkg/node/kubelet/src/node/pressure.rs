//! Pressure: what the node may run out of, how little of it is too little, and which condition tells. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use edgek_api::quantity::Quantity;
use tokio::time::Instant;

use super::facts::{self, Disk};

/// How long a condition stays after it was last observed, lest it swings.
const TRANSITION: Duration = Duration::from_secs(300);

/// What may run out, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are upstream's; see `Signal::name`")]
pub enum Signal {
    MemoryAvailable,
    NodefsAvailable,
    NodefsInodesFree,
    ImagefsAvailable,
    ImagefsInodesFree,
    PidAvailable,
}

/// A condition of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "conditions of a node")]
pub enum Condition {
    MemoryPressure,
    DiskPressure,
    PIDPressure,
}

impl Signal {
    const ALL: [Self; 6] = [
        Self::MemoryAvailable,
        Self::NodefsAvailable,
        Self::NodefsInodesFree,
        Self::ImagefsAvailable,
        Self::ImagefsInodesFree,
        Self::PidAvailable,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::MemoryAvailable => "memory.available",
            Self::NodefsAvailable => "nodefs.available",
            Self::NodefsInodesFree => "nodefs.inodesFree",
            Self::ImagefsAvailable => "imagefs.available",
            Self::ImagefsInodesFree => "imagefs.inodesFree",
            Self::PidAvailable => "pid.available",
        }
    }

    /// The condition that tells.
    pub fn condition(self) -> Condition {
        match self {
            Self::MemoryAvailable => Condition::MemoryPressure,
            Self::PidAvailable => Condition::PIDPressure,
            _ => Condition::DiskPressure,
        }
    }
}

/// How much is to be left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Amount {
    Absolute(u64),
    Percent(u64),
}

impl Amount {
    fn of(self, capacity: u64) -> u64 {
        match self {
            Self::Absolute(amount) => amount,
            Self::Percent(percent) => capacity / 100 * percent,
        }
    }
}

/// How little is too little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thresholds(BTreeMap<Signal, Amount>);

impl Default for Thresholds {
    /// Upstream's, but for the disks: its 10 and 15 percent would leave much of a small node's disk unused; K3s sets the
    /// same 5.
    fn default() -> Self {
        Self(BTreeMap::from([
            (Signal::MemoryAvailable, Amount::Absolute(100 << 20)),
            (Signal::NodefsAvailable, Amount::Percent(5)),
            (Signal::NodefsInodesFree, Amount::Percent(5)),
            (Signal::ImagefsAvailable, Amount::Percent(5)),
            (Signal::ImagefsInodesFree, Amount::Percent(5)),
        ]))
    }
}

/// What is wrong with a text of thresholds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not SIGNAL<AMOUNT, such as memory.available<100Mi or nodefs.available<10%")]
pub struct NotAThreshold(String);

impl FromStr for Thresholds {
    type Err = NotAThreshold;

    /// Reads upstream's `--eviction-hard`: `memory.available<100Mi,nodefs.available<10%`.
    fn from_str(text: &str) -> Result<Self, NotAThreshold> {
        let one = |part: &str| {
            let (name, amount) = part.split_once('<')?;
            let signal = Signal::ALL.into_iter().find(|signal| signal.name() == name.trim())?;
            let amount = amount.trim();
            let amount = match amount.strip_suffix('%') {
                Some(percent) => Amount::Percent(percent.parse().ok().filter(|percent| *percent <= 100)?),
                None => Amount::Absolute(u64::try_from(amount.parse::<Quantity>().ok()?.value()).ok()?),
            };
            Some((signal, amount))
        };
        let parts = text.split(',').filter(|part| !part.trim().is_empty());
        parts
            .map(|part| one(part).ok_or_else(|| NotAThreshold(part.to_owned())))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Thresholds {
    /// How much is to be left of a capacity.
    pub fn left(&self, signal: Signal, capacity: u64) -> u64 {
        self.0.get(&signal).map_or(0, |amount| amount.of(capacity))
    }

    /// The thresholds that are met, the most urgent first.
    pub fn met(&self, readings: &Readings) -> Vec<Met> {
        let met = |signal: &Signal, amount: &Amount| {
            let Reading { available, capacity } = *readings.0.get(signal)?;
            let threshold = amount.of(capacity);
            (available < threshold).then_some(Met { signal: *signal, threshold, available })
        };
        self.0.iter().filter_map(|(signal, amount)| met(signal, amount)).collect()
    }
}

/// A threshold that is met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Met {
    /// What runs out.
    pub signal: Signal,
    /// How much was to be left.
    pub threshold: u64,
    /// How much is.
    pub available: u64,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    available: u64,
    capacity: u64,
}

/// What the node has left.
#[derive(Debug, Clone, Default)]
pub struct Readings(BTreeMap<Signal, Reading>);

impl Readings {
    /// Reads it now; `memory` is what the machine has, `root` a folder on the disk of pods' files.
    pub fn now(memory: u64, root: &Path, images: Option<Disk>) -> Self {
        let mut readings = Self::default();
        readings.put(Signal::MemoryAvailable, facts::available_memory().map(|available| (available, memory)));
        let tasks = facts::tasks().map(|(running, most)| (most.saturating_sub(running), most));
        readings.put(Signal::PidAvailable, tasks);
        readings.disk(Disk::read(root), Signal::NodefsAvailable, Signal::NodefsInodesFree);
        readings.disk(images, Signal::ImagefsAvailable, Signal::ImagefsInodesFree);
        readings
    }

    fn disk(&mut self, disk: Option<Disk>, bytes: Signal, inodes: Signal) {
        self.put(bytes, disk.map(|disk| (disk.available, disk.total)));
        self.put(inodes, disk.map(|disk| (disk.inodes_free, disk.inodes)));
    }

    fn put(&mut self, signal: Signal, reading: Option<(u64, u64)>) {
        self.0.extend(reading.map(|(available, capacity)| (signal, Reading { available, capacity })));
    }
}

/// The conditions of the node over time.
#[derive(Debug, Default)]
pub struct Pressures(BTreeMap<Condition, Instant>);

impl Pressures {
    /// The conditions that hold now, given what is met.
    pub fn observe(&mut self, met: &[Met], now: Instant) -> BTreeSet<Condition> {
        self.0.extend(met.iter().map(|met| (met.signal.condition(), now)));
        self.0.retain(|_, seen| now.duration_since(*seen) < TRANSITION);
        self.0.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_read_in_upstreams_words() {
        let text = "memory.available<100Mi, nodefs.available<5%,nodefs.inodesFree<5%,imagefs.available<5%,imagefs.inodesFree<5%";
        assert_eq!(text.parse(), Ok(Thresholds::default()));
        assert_eq!("".parse(), Ok(Thresholds(BTreeMap::new())));
        for text in ["memory.available", "memory.free<1", "nodefs.available<101%", "nodefs.available<x"] {
            assert_eq!(text.parse::<Thresholds>(), Err(NotAThreshold(text.to_owned())));
        }
    }

    #[test]
    fn a_condition_holds_for_five_minutes_after_its_threshold() {
        let mut readings = Readings::default();
        readings.put(Signal::NodefsAvailable, Some((4, 100)));
        readings.put(Signal::ImagefsAvailable, Some((5, 100)));
        let met = Thresholds::default().met(&readings);
        assert_eq!(met, [Met { signal: Signal::NodefsAvailable, threshold: 5, available: 4 }]);
        let (mut pressures, begun) = (Pressures::default(), Instant::now());
        let disk = BTreeSet::from([Condition::DiskPressure]);
        assert_eq!(pressures.observe(&met, begun), disk);
        assert_eq!(pressures.observe(&[], begun + Duration::from_secs(299)), disk);
        assert_eq!(pressures.observe(&[], begun + Duration::from_secs(300)), BTreeSet::new());
    }
}
