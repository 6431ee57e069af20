//! Metrics in the Prometheus text format. Crates declare statics; `/metrics` renders all that were touched.
//!
//! ```
//! use edgek_base_telemetry::metrics::Counter;
//! static WATCHERS_CLOSED: Counter = Counter::new("edgek_watchers_closed_total", "Watchers closed because they were slow.");
//! WATCHERS_CLOSED.add(1);
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;

static REGISTRY: Mutex<BTreeMap<&'static str, &'static dyn Metric>> = Mutex::new(BTreeMap::new());

trait Metric: Sync {
    fn render(&self, out: &mut String);
}

/// All metrics that were used since the process started, sorted by name, in the text exposition format 0.0.4.
pub fn render() -> String {
    let mut out = String::new();
    for metric in REGISTRY.lock().values() {
        metric.render(&mut out);
    }
    out
}

#[derive(Debug)]
struct Info {
    name: &'static str,
    help: &'static str,
    registered: AtomicBool,
}

impl Info {
    const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, registered: AtomicBool::new(false) }
    }

    fn register(&self, metric: &'static dyn Metric) {
        if !self.registered.swap(true, Ordering::Relaxed) {
            REGISTRY.lock().insert(self.name, metric);
        }
    }

    fn head(&self, kind: &str, out: &mut String) {
        let _ = write!(out, "# HELP {0} {1}\n# TYPE {0} {kind}\n", self.name, self.help);
    }
}

/// A number that only rises; its name ends in `_total`.
#[derive(Debug)]
pub struct Counter {
    info: Info,
    value: AtomicU64,
}

impl Counter {
    /// A counter at zero.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self { info: Info::new(name, help), value: AtomicU64::new(0) }
    }

    /// Raises the counter by `n`.
    pub fn add(&'static self, n: u64) {
        self.info.register(self);
        self.value.fetch_add(n, Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

impl Metric for Counter {
    fn render(&self, out: &mut String) {
        self.info.head("counter", out);
        let _ = writeln!(out, "{} {}", self.info.name, self.get());
    }
}

/// A number that rises and falls.
#[derive(Debug)]
pub struct Gauge {
    info: Info,
    value: AtomicI64,
}

impl Gauge {
    /// A gauge at zero.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self { info: Info::new(name, help), value: AtomicI64::new(0) }
    }

    /// Sets the gauge.
    pub fn set(&'static self, value: i64) {
        self.info.register(self);
        self.value.store(value, Ordering::Relaxed);
    }

    /// Changes the gauge by `by`.
    pub fn add(&'static self, by: i64) {
        self.info.register(self);
        self.value.fetch_add(by, Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> i64 {
        self.value.load(Ordering::Relaxed)
    }
}

impl Metric for Gauge {
    fn render(&self, out: &mut String) {
        self.info.head("gauge", out);
        let _ = writeln!(out, "{} {}", self.info.name, self.get());
    }
}

/// A family of counters told apart by one or more label values, bounded to 1,000 combinations.
#[derive(Debug)]
pub struct CounterVec {
    info: Info,
    labels: &'static [&'static str],
    values: Mutex<BTreeMap<Vec<String>, u64>>,
}

impl CounterVec {
    /// A family without members.
    pub const fn new(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self { info: Info::new(name, help), labels, values: Mutex::new(BTreeMap::new()) }
    }

    /// Raises the member with these label values, in the order the labels were declared.
    pub fn add(&'static self, values: &[&str], n: u64) {
        self.info.register(self);
        let mut members = self.values.lock();
        let key: Vec<String> = values.iter().map(ToString::to_string).collect();
        if members.len() < 1000 || members.contains_key(&key) {
            *members.entry(key).or_default() += n;
        }
    }
}

impl Metric for CounterVec {
    fn render(&self, out: &mut String) {
        self.info.head("counter", out);
        for (values, n) in self.values.lock().iter() {
            let pairs: Vec<String> =
                self.labels.iter().zip(values).map(|(l, v)| format!("{l}={v:?}")).collect();
            let _ = writeln!(out, "{}{{{}}} {n}", self.info.name, pairs.join(","));
        }
    }
}

/// Upper bounds, in seconds, of a [`Histogram`]'s buckets.
const BOUNDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Durations in seconds, in fixed buckets from 1 ms to 5 s.
#[derive(Debug)]
pub struct Histogram {
    info: Info,
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    sum_micros: AtomicU64,
}

impl Histogram {
    /// A histogram without observations; its name ends in `_seconds`.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        Self {
            info: Info::new(name, help),
            buckets: [const { AtomicU64::new(0) }; BOUNDS.len()],
            count: AtomicU64::new(0),
            sum_micros: AtomicU64::new(0),
        }
    }

    /// Counts one duration.
    pub fn observe(&'static self, duration: std::time::Duration) {
        self.info.register(self);
        let seconds = duration.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Metric for Histogram {
    fn render(&self, out: &mut String) {
        self.info.head("histogram", out);
        let name = self.info.name;
        let mut below = 0;
        for (bound, bucket) in BOUNDS.iter().zip(&self.buckets) {
            below += bucket.load(Ordering::Relaxed);
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {below}");
        }
        let count = self.count.load(Ordering::Relaxed);
        let sum = self.sum_micros.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = write!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn metrics_render_in_the_text_exposition_format() {
        static COUNTER: Counter = Counter::new("t_total", "A counter.");
        static FAMILY: CounterVec = CounterVec::new("u_total", "A family.", &["verb", "code"]);
        static HISTOGRAM: Histogram = Histogram::new("v_seconds", "Durations.");
        COUNTER.add(2);
        FAMILY.add(&["get", "200"], 1);
        HISTOGRAM.observe(Duration::from_millis(2));
        let text = render();
        for line in [
            "# TYPE t_total counter",
            "t_total 2",
            "u_total{verb=\"get\",code=\"200\"} 1",
            "v_seconds_bucket{le=\"0.001\"} 0",
            "v_seconds_bucket{le=\"0.0025\"} 1",
            "v_seconds_bucket{le=\"+Inf\"} 1",
            "v_seconds_count 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
        }
    }
}
