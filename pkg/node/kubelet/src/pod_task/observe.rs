//! What a pod's task sees: the pod, its containers, their health.

use std::collections::BTreeSet;
use std::time::Duration;

use edgek_node_runtime::{Container as Run, ContainerId, State};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::{PodTask, container_of, revision};
use crate::config::{MESSAGE_LIMIT, read_tail};
use crate::context::Context;
use crate::probe::{Kind, Prober, Report, Verdict};
use crate::record::Record;
use crate::status;
use crate::view::Health;

impl PodTask {
    /// Takes in what the API and the runtime have now.
    pub(super) async fn observe(&mut self) -> Result<(), String> {
        let update = self.updates.borrow_and_update().pod.clone();
        if revision(&update) > revision(&self.pod) {
            self.pod = update;
        }
        self.spec = self.pod.spec.clone().unwrap_or_default();
        self.runs = self.context.runs(&self.uid).await.map_err(|error| error.to_string())?;
        for run in &mut self.runs {
            if let State::Exited { message, code, .. } = &mut run.state
                && message.is_empty()
            {
                let fallback = (*code != 0).then_some(run.log.as_ref()).flatten();
                *message = last_words(&self.context, &self.uid, &self.spec, &run.name, run.attempt, fallback);
            }
        }
        self.follow_runs();
        self.publish();
        Ok(())
    }

    pub(super) fn publish(&self) {
        let record = Record { pod: self.pod.clone(), runs: self.runs.clone(), sandbox: self.sandbox.clone() };
        self.records.put(&self.uid, record);
    }

    /// Begins to probe what has begun to run and stops probing what has ended.
    fn follow_runs(&mut self) {
        let running: BTreeSet<ContainerId> =
            self.runs.iter().filter(|run| run.state.is_running()).map(|run| run.id.clone()).collect();
        self.probers.retain(|id, scope| {
            let keep = running.contains(id);
            if !keep {
                scope.cancel();
            }
            keep
        });
        self.health.retain(|id, _| running.contains(id));
        let ip = self.context.probe_ip(&self.pod_ips());
        for run in self.runs.iter().filter(|run| run.state.is_running()) {
            if self.health.contains_key(&run.id) {
                continue;
            }
            let Some(container) = container_of(&self.spec, &run.name) else { continue };
            let health = self.health_at_first_sight(container, run);
            self.health.insert(run.id.clone(), health);
            if Prober::is_needed(container) {
                let prober = Prober {
                    runtime: self.context.runtime.clone(),
                    id: run.id.clone(),
                    container: container.clone(),
                    ip,
                    started: health.started,
                    age: age(run),
                    reports: self.reports.0.clone(),
                };
                let scope = self.scope.child();
                scope.spawn("prober", prober.run());
                self.probers.insert(run.id.clone(), scope);
            }
        }
    }

    /// The health of a run that was not looked at before. One that nobody here is starting is from before this process:
    /// the API remembers it, and nobody waits for its hook.
    fn health_at_first_sight(&self, container: &Container, run: &Run) -> Health {
        let begin = Health::at_start(container);
        if self.busy.contains(&run.name) {
            return begin;
        }
        let known = status::of_run(&self.pod, run);
        known.map_or(Health { hooked: true, ..begin }, |known| Health::resumed(container, known))
    }

    pub(super) fn take_report(&mut self, report: &Report) {
        match &report.verdict {
            Verdict::Attempt(text) => {
                return self.events.container_warning(&report.container, "Unhealthy", text.clone());
            }
            Verdict::Odd(text) => {
                return self.events.container_warning(&report.container, "ProbeWarning", text.clone());
            }
            Verdict::Passed | Verdict::Failed => {}
        }
        let passed = report.verdict == Verdict::Passed;
        let Some(health) = self.health.get_mut(&report.id) else { return };
        match report.kind {
            Kind::Readiness => health.ready = passed,
            Kind::Startup if passed => health.started = true,
            Kind::Startup | Kind::Liveness => health.failed |= !passed,
        }
    }
}

/// The termination message of a run: its file, else, where that is asked for, the end of its log.
fn last_words(
    context: &Context,
    uid: &str,
    spec: &PodSpec,
    name: &str,
    attempt: u32,
    log: Option<&edgek_node_runtime::Log>,
) -> String {
    let message = read_tail(&context.config.termination_message(uid, name, attempt), MESSAGE_LIMIT);
    let policy = container_of(spec, name).and_then(|c| c.termination_message_policy.as_deref());
    let Some(log) = log.filter(|_| message.is_empty() && policy == Some("FallbackToLogsOnError")) else {
        return message;
    };
    end_of_log(&read_tail(&log.path, 4 * LOG_LIMIT))
}

/// `FallbackToLogsOnError` takes less of a log than of the file.
const LOG_LIMIT: usize = 2048;

/// What the last lines of a log say; a line is `<time> <stream> <F or P> <text>`, and after P the line goes on.
fn end_of_log(log: &str) -> String {
    const LINES: usize = 80;
    let lines: Vec<&str> = log.lines().collect();
    let mut words = String::new();
    for line in &lines[lines.len().saturating_sub(LINES)..] {
        let mut parts = line.splitn(4, ' ').skip(2);
        if let (Some(tag), Some(text)) = (parts.next(), parts.next()) {
            words.push_str(text);
            words.push_str(if tag == "P" { "" } else { "\n" });
        }
    }
    let mut from = words.len().saturating_sub(LOG_LIMIT);
    while !words.is_char_boundary(from) {
        from += 1;
    }
    words.split_off(from)
}

/// How long a run has gone on.
fn age(run: &Run) -> Duration {
    let State::Running { started_at, .. } = run.state else { return Duration::ZERO };
    Duration::try_from(Timestamp::now().duration_since(started_at)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_what_the_container_wrote() {
        let check = |log: &str, expected: &str| assert_eq!(end_of_log(log), expected);
        check("t stdout F one\nt stderr F two\n", "one\ntwo\n");
        check("t stdout F one\nt stdout P no \nt stdout P newline\n", "one\nno newline");
        check("t stdout F \n", "\n");
        check("", "");
        let long = "é".repeat(LOG_LIMIT);
        check(&format!("t stdout P {long}x\n"), &format!("{}x", "é".repeat(LOG_LIMIT / 2 - 1)));
        let many: String = (0..100).map(|n| format!("t stdout F {n}\n")).collect();
        assert!(end_of_log(&many).starts_with("20\n21\n"));
    }
}
