//! `wait`: executions that start when the calls in their arguments have ended.

use std::collections::BTreeMap;

use ibid::model::{ExecutionId, Failure, State, StepId};

use super::waiting::oldest_open;
use super::{Engine, Turn};

impl Engine {
    /// Holds an execution back while calls that it must wait for are unfinished. Says whether it does.
    pub(super) fn block(&mut self, t: Turn<'_>, execution: ExecutionId) -> bool {
        let Some(live) = self.steps.get(&execution.step) else { return false };
        let options = &live.step.options;
        let waited = live.step.arguments.iter().enumerate().filter(|(position, _)| options.wait.covers(*position));
        let references: Vec<StepId> = waited.flat_map(|(_, argument)| &argument.references).copied().collect();
        let blocked = self.blockers(t, &references);
        if blocked.is_empty() {
            return false;
        }
        for step in blocked.keys() {
            self.blocking.entry(*step).or_default().insert(execution);
        }
        let open: Vec<ExecutionId> =
            blocked.keys().filter_map(|step| oldest_open(&self.steps.get(step)?.step)).collect();
        if let Some(node) = self.nodes.get_mut(&execution) {
            node.blocked = blocked;
        }
        for other in open {
            if let Some(through) = self.break_circle(t, execution, other) {
                self.dequeue(execution);
                let message = format!("it would wait for itself: {through}");
                self.end_badly(t, execution, State::Failed, Failure::new("Deadlock", message));
                break;
            }
        }
        true
    }

    /// The unfinished steps that references lead to.
    fn blockers(&self, t: Turn<'_>, references: &[StepId]) -> BTreeMap<StepId, Vec<StepId>> {
        let mut blockers: BTreeMap<StepId, Vec<StepId>> = BTreeMap::new();
        for reference in references.iter().filter(|reference| self.outcome(t, **reference).is_none()) {
            let deciding = self.deciding(t, *reference);
            if self.steps.contains_key(&deciding) {
                blockers.entry(deciding).or_default().push(*reference);
            }
        }
        blockers
    }

    /// What a queued execution must wait for.
    #[must_use]
    pub fn blocked_by(&self, execution: ExecutionId) -> Vec<StepId> {
        self.nodes.get(&execution).map(|node| node.blocked.keys().copied().collect()).unwrap_or_default()
    }

    pub(super) fn unblock(&mut self, execution: ExecutionId) {
        let Some(node) = self.nodes.get_mut(&execution) else { return };
        for step in std::mem::take(&mut node.blocked).into_keys() {
            if let Some(waiting) = self.blocking.get_mut(&step) {
                waiting.remove(&execution);
                if waiting.is_empty() {
                    self.blocking.remove(&step);
                }
            }
        }
    }

    /// A step has ended: what was held back by it alone may start.
    pub(super) fn let_start(&mut self, t: Turn<'_>, ended: StepId) {
        for execution in self.blocking.remove(&ended).unwrap_or_default() {
            let Some(node) = self.nodes.get_mut(&execution) else { continue };
            let references = node.blocked.remove(&ended).unwrap_or_default();
            // It may be run again already, or stand for another that is.
            for (step, references) in self.blockers(t, &references) {
                self.blocking.entry(step).or_default().insert(execution);
                if let Some(node) = self.nodes.get_mut(&execution) {
                    node.blocked.entry(step).or_default().extend(references);
                }
            }
            if self.nodes.get(&execution).is_some_and(|node| node.blocked.is_empty()) {
                self.make_ready(execution);
            }
        }
    }
}
