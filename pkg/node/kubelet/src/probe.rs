//! Probes: whether a container has started, is ready and is alive. One task per run of a container, started and ended
//! by the pod's task, which gets what changes.

pub mod check;
mod grpc;
mod web;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use edgek_base_lifecycle::sleep;
use edgek_node_runtime::{ContainerId, Runtime};
use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::sync::mpsc;

use check::{Handler, Outcome, Target};

/// Which probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kinds of probes")]
pub enum Kind {
    Startup,
    Readiness,
    Liveness,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What a probe says about a run of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The run.
    pub id: ContainerId,
    /// The container's name.
    pub container: String,
    /// The probe.
    pub kind: Kind,
    /// What it says.
    pub verdict: Verdict,
}

/// What a probe says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has succeeded as often as it must.
    Passed,
    /// It has failed as often as is too often.
    Failed,
    /// One attempt did not go well, in this text: for an event only.
    Attempt(String),
    /// One attempt went well in an odd way: for an event only.
    Odd(String),
}

/// Counts results against the thresholds. Pure.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    successes: i32,
    failures: i32,
}

impl Tally {
    /// Counts one result; `Some` once a threshold is reached (and again with every further result like it).
    pub fn count(&mut self, success: Result<(), ()>, probe: &Probe) -> Option<Verdict> {
        match success {
            Ok(()) => (self.successes, self.failures) = (self.successes.saturating_add(1), 0),
            Err(()) => (self.successes, self.failures) = (0, self.failures.saturating_add(1)),
        }
        if success.is_ok() && self.successes >= probe.success_threshold.unwrap_or(1) {
            return Some(Verdict::Passed);
        }
        if success.is_err() && self.failures >= probe.failure_threshold.unwrap_or(3) {
            return Some(Verdict::Failed);
        }
        None
    }
}

/// Probes one run of a container.
#[derive(Clone)]
pub struct Prober {
    /// Runs commands.
    pub runtime: Arc<dyn Runtime>,
    /// The run.
    pub id: ContainerId,
    /// The container.
    pub container: Container,
    /// The pod's address.
    pub ip: IpAddr,
    /// Whether it is known to have started: its startup probe passed under an earlier kubelet.
    pub started: bool,
    /// How long it has run already; initial delays count from its start.
    pub age: Duration,
    /// Where reports go.
    pub reports: mpsc::Sender<Report>,
}

impl Prober {
    /// Whether the container has probes at all.
    pub fn is_needed(container: &Container) -> bool {
        container.startup_probe.is_some()
            || container.readiness_probe.is_some()
            || container.liveness_probe.is_some()
    }

    /// Probes until the pod's task ends it, or a startup or liveness probe has failed for good.
    pub async fn run(self) {
        if let Some(probe) = self.container.startup_probe.as_ref().filter(|_| !self.started)
            && !self.startup(probe).await
        {
            return;
        }
        let readiness = async {
            if let Some(probe) = &self.container.readiness_probe {
                self.follow(Kind::Readiness, probe).await;
            }
        };
        let liveness = async {
            if let Some(probe) = &self.container.liveness_probe {
                self.follow(Kind::Liveness, probe).await;
            }
        };
        // A container that is killed for its liveness needs no readiness any more.
        tokio::join!(readiness, liveness);
    }

    /// Whether the startup probe passed.
    async fn startup(&self, probe: &Probe) -> bool {
        let mut tally = Tally::default();
        sleep(seconds(probe.initial_delay_seconds, 0).saturating_sub(self.age)).await;
        loop {
            let verdict = self.attempt(Kind::Startup, probe, &mut tally).await;
            if let Some(verdict) = verdict {
                self.report(Kind::Startup, verdict.clone()).await;
                return verdict == Verdict::Passed;
            }
            sleep(period(probe)).await;
        }
    }

    async fn follow(&self, kind: Kind, probe: &Probe) {
        let mut tally = Tally::default();
        let mut last = None;
        sleep(seconds(probe.initial_delay_seconds, 0).saturating_sub(self.age)).await;
        loop {
            let verdict = self.attempt(kind, probe, &mut tally).await;
            if verdict.is_some() && verdict != last {
                last.clone_from(&verdict);
                self.report(kind, verdict.unwrap_or(Verdict::Failed)).await;
                if kind == Kind::Liveness && last == Some(Verdict::Failed) {
                    return;
                }
            }
            sleep(period(probe)).await;
        }
    }

    async fn attempt(&self, kind: Kind, probe: &Probe, tally: &mut Tally) -> Option<Verdict> {
        let target = Target {
            runtime: &*self.runtime,
            id: &self.id,
            container: &self.container,
            ip: self.ip,
            timeout: seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1)),
        };
        match check::run(&Handler::of_probe(probe), &target).await {
            Outcome::Success => tally.count(Ok(()), probe),
            Outcome::Warning(text) => {
                self.report(kind, Verdict::Odd(format!("{kind} probe warning: {text}"))).await;
                tally.count(Ok(()), probe)
            }
            Outcome::Failure(text) => {
                let text = format!("{kind} probe failed: {text}");
                self.report(kind, Verdict::Attempt(text)).await;
                tally.count(Err(()), probe)
            }
            // What could not be tried counts neither way.
            Outcome::Unknown(text) => {
                let text = format!("{kind} probe errored and resulted in unknown state: {text}");
                self.report(kind, Verdict::Attempt(text)).await;
                None
            }
        }
    }

    async fn report(&self, kind: Kind, verdict: Verdict) {
        let report = Report { id: self.id.clone(), container: self.container.name.clone(), kind, verdict };
        // The pod's task ends its probers before it ends itself.
        let _ = self.reports.send(report).await;
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(value.map_or(default, |value| u64::try_from(value).unwrap_or(default)))
}

fn period(probe: &Probe) -> Duration {
    seconds(probe.period_seconds, 10).max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_decide() {
        let check = |success: i32, failure: i32, results: &str, expected: &str| {
            let probe = Probe {
                success_threshold: Some(success),
                failure_threshold: Some(failure),
                ..Probe::default()
            };
            let mut tally = Tally::default();
            let said: String = results
                .chars()
                .map(|c| match tally.count(if c == '+' { Ok(()) } else { Err(()) }, &probe) {
                    Some(Verdict::Passed) => 'P',
                    Some(_) => 'F',
                    None => '.',
                })
                .collect();
            assert_eq!(said, expected, "{success} {failure} {results}");
        };
        check(1, 3, "+--+---", "P..P..F");
        check(2, 1, "+-++-", ".F.PF");
    }
}
