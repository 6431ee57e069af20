//! What was measured, beside what is promised.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

/// All figures of one run, in the order measured.
#[derive(Default, Serialize)]
pub(super) struct Figures {
    figures: Vec<Figure>,
}

#[derive(Serialize)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    goal: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reached: Option<bool>,
}

/// What the design promises of a figure.
#[derive(Clone, Copy)]
pub(super) enum Goal {
    /// Nothing.
    None,
    AtMost(f64),
    AtLeast(f64),
}

impl Figures {
    /// Adds a figure, and prints it, since a run takes minutes.
    pub(super) fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str, goal: Goal) {
        let (goal, reached) = match goal {
            Goal::None => (None, None),
            Goal::AtMost(goal) => (Some(goal), Some(value <= goal)),
            Goal::AtLeast(goal) => (Some(goal), Some(value >= goal)),
        };
        let figure = Figure { name: name.into(), value, unit, goal, reached };
        eprintln!("  {}: {} {}", figure.name, shown(value), unit);
        self.figures.push(figure);
    }

    /// Adds the median and the 99th percentile of some durations, in milliseconds.
    pub(super) fn add_durations(&mut self, name: &str, durations: &mut [Duration], median: Goal) {
        durations.sort_unstable();
        self.add(format!("{name} p50"), percentile(durations, 50), "ms", median);
        self.add(format!("{name} p99"), percentile(durations, 99), "ms", Goal::None);
    }

    /// Prints the table.
    pub(super) fn print(&self) {
        let width = self.figures.iter().map(|figure| figure.name.len()).max().unwrap_or_default();
        println!("\n{:<width$}  {:>10} {:<5}  {:>10}", "figure", "measured", "", "goal");
        for figure in &self.figures {
            let goal = figure.goal.map(shown).unwrap_or_default();
            let mark = if figure.reached == Some(false) { "  short of it" } else { "" };
            println!(
                "{:<width$}  {:>10} {:<5}  {goal:>10}{mark}",
                figure.name,
                shown(figure.value),
                figure.unit
            );
        }
    }

    /// The figures as JSON.
    pub(super) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// The percentile of sorted durations, in milliseconds; the nearest rank, zero of none.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).map_or(0.0, Duration::as_secs_f64) * 1e3
}

fn shown(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let check = |count: u64, percent: usize, expected: f64| {
            let sorted: Vec<_> = (1..=count).map(Duration::from_millis).collect();
            assert!((percentile(&sorted, percent) - expected).abs() < 1e-9, "{count} {percent}");
        };
        check(0, 50, 0.0);
        check(1, 50, 1.0);
        check(1, 99, 1.0);
        check(100, 50, 50.0);
        check(100, 99, 99.0);
        check(1000, 99, 990.0);
    }
}
