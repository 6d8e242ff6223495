//! `wait`: executions that start when the calls in their arguments have ended.

use std::collections::BTreeSet;

use ibid::model::{ExecutionId, Failure, State, StepId};

use super::waiting::oldest_open;
use super::{Engine, Turn};

impl Engine {
    /// Whether an execution waits for calls to end before it starts.
    #[must_use]
    pub fn is_blocked(&self, execution: ExecutionId) -> bool {
        self.nodes.get(&execution).is_some_and(|node| !node.blocked.is_empty())
    }

    /// Holds an execution back while calls that it must wait for are unfinished. Says whether it does.
    pub(super) fn block(&mut self, t: Turn<'_>, execution: ExecutionId) -> bool {
        let blocked = self.blockers(t, execution.step);
        if blocked.is_empty() {
            return false;
        }
        for step in &blocked {
            self.blocking.entry(*step).or_default().insert(execution);
        }
        let open: Vec<ExecutionId> =
            blocked.iter().filter_map(|step| oldest_open(&self.steps.get(step)?.step)).collect();
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

    /// The unfinished steps that the calls in the arguments that are waited for lead to.
    fn blockers(&self, t: Turn<'_>, id: StepId) -> BTreeSet<StepId> {
        let Some(live) = self.steps.get(&id) else { return BTreeSet::new() };
        let options = &live.step.options;
        let waited = live.step.arguments.iter().enumerate().filter(|(position, _)| options.wait.covers(*position));
        waited
            .flat_map(|(_, argument)| &argument.references)
            .filter(|reference| self.outcome(t, **reference).is_none())
            .map(|reference| self.deciding(t, *reference))
            .filter(|step| self.steps.contains_key(step))
            .collect()
    }

    /// What a queued execution must wait for.
    #[must_use]
    pub fn blocked_by(&self, execution: ExecutionId) -> Vec<StepId> {
        self.nodes.get(&execution).map(|node| node.blocked.iter().copied().collect()).unwrap_or_default()
    }

    pub(super) fn unblock(&mut self, execution: ExecutionId) {
        let Some(node) = self.nodes.get_mut(&execution) else { return };
        for step in std::mem::take(&mut node.blocked) {
            if let Some(waiting) = self.blocking.get_mut(&step) {
                waiting.remove(&execution);
                if waiting.is_empty() {
                    self.blocking.remove(&step);
                }
            }
        }
    }

    /// A step has ended: what was held back by it alone may start, also where it is run again already.
    pub(super) fn let_start(&mut self, ended: StepId) {
        for execution in self.blocking.remove(&ended).unwrap_or_default() {
            let Some(node) = self.nodes.get_mut(&execution) else { continue };
            node.blocked.remove(&ended);
            if node.blocked.is_empty() {
                self.make_ready(execution);
            }
        }
    }
}
