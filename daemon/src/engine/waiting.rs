//! Who waits for whom, and that nobody waits for itself.

use std::collections::BTreeSet;

use ibid::model::{Decision, ExecutionId, Link, State, Step, StepId};

use super::{Engine, Refusal, Turn};

/// The unfinished attempt that was there first: whoever waits for the step waits for that one. (A
/// linked step that is run again leaves its old link and waiters as they were.)
pub(super) fn oldest_open(step: &Step) -> Option<ExecutionId> {
    let (number, _) = (1u32..).zip(&step.attempts).find(|(_, attempt)| !attempt.is_over())?;
    Some(step.id.attempt(number))
}

impl Engine {
    /// What an unfinished execution waits for.
    fn edges(&self, execution: ExecutionId) -> Vec<ExecutionId> {
        let Some(node) = self.nodes.get(&execution) else { return Vec::new() };
        let Some(attempt) = self.attempt(execution) else { return Vec::new() };
        let open = |step: StepId| self.steps.get(&step).and_then(|live| oldest_open(&live.step));
        match (attempt.state(), attempt.link) {
            (State::Linked, Some(Link::Leader(leader))) => vec![leader],
            (State::Deferred, Some(Link::Successor(successor))) => vec![successor],
            (State::Spawned, Some(Link::Run(run))) => open(run.root()).into_iter().collect(),
            (State::Queued, _) => node.blocked.iter().filter_map(|step| open(*step)).collect(),
            _ => node.waits.values().copied().collect(),
        }
    }

    /// Whether one execution waits for another, directly or through others.
    pub(super) fn waits_for(&self, from: ExecutionId, to: ExecutionId) -> bool {
        from == to || self.path(from, to).is_some()
    }

    /// The way along which one execution waits for another, both ends included.
    fn path(&self, from: ExecutionId, to: ExecutionId) -> Option<Vec<ExecutionId>> {
        let mut seen = BTreeSet::new();
        let mut trail: Vec<(ExecutionId, Vec<ExecutionId>)> = vec![(from, self.edges(from))];
        seen.insert(from);
        if from == to {
            return Some(vec![from]);
        }
        while let Some((_, rest)) = trail.last_mut() {
            match rest.pop() {
                None => {
                    trail.pop();
                }
                Some(next) if next == to => {
                    let mut path: Vec<_> = trail.iter().map(|(execution, _)| *execution).collect();
                    path.push(to);
                    return Some(path);
                }
                Some(next) => {
                    if seen.insert(next) {
                        let edges = self.edges(next);
                        trail.push((next, edges));
                    }
                }
            }
        }
        None
    }

    /// Adds a wait; undoes a link if that closed a circle, or refuses if no link is in it.
    pub(super) fn add_wait(
        &mut self,
        t: Turn<'_>,
        waiter: ExecutionId,
        token: u64,
        target: ExecutionId,
    ) -> Result<(), Refusal> {
        if !self.nodes.contains_key(&target) {
            return Err(Refusal::UnknownStep(target.step));
        }
        if let Some(node) = self.nodes.get_mut(&waiter) {
            node.waits.insert(token, target);
        }
        if let Some(node) = self.nodes.get_mut(&target) {
            node.waiters.insert((waiter, token));
        }
        self.occupy(waiter, false);
        if let Some(through) = self.break_circle(t, waiter, target) {
            self.remove_wait(t, waiter, token);
            return Err(Refusal::Deadlock { waiter, target: target.step, through });
        }
        Ok(())
    }

    /// Ends an execution's interest in something it waits for.
    pub fn remove_wait(&mut self, t: Turn<'_>, waiter: ExecutionId, token: u64) {
        let Some(node) = self.nodes.get_mut(&waiter) else { return };
        let Some(target) = node.waits.remove(&token) else { return };
        if node.waits.is_empty() && self.is_running(waiter) {
            self.occupy(waiter, true);
        }
        if let Some(node) = self.nodes.get_mut(&target) {
            node.waiters.remove(&(waiter, token));
        }
        // Who only stops waiting for a while may ask again: its interest ends when it ends.
        self.settle(t);
    }

    /// After an edge was added: if it closed a circle, the newest link or supersession on it is undone
    /// and really queued. A circle without any is described and left to the caller.
    pub(super) fn break_circle(&mut self, t: Turn<'_>, from: ExecutionId, to: ExecutionId) -> Option<String> {
        let asked_for = self
            .nodes
            .get(&from)
            .is_some_and(|node| !(node.waiters.is_empty() && node.followers.is_empty() && node.superseded.is_empty()));
        let holds_back = self.blocking.contains_key(&from.step);
        if !asked_for && !holds_back && self.spawned_by(t, from.step).is_none() {
            return None;
        }
        // One edge can close several circles, as a running execution may wait for many.
        while let Some(circle) = self.path(to, from) {
            let linked = circle.iter().copied().filter(|execution| {
                let state = self.attempt(*execution).map(ibid::model::Attempt::state);
                matches!(state, Some(State::Linked | State::Deferred))
            });
            let newest = linked.max_by_key(|execution| {
                let attempt = self.attempt(*execution)?;
                Some((attempt.transitions.last()?.at, attempt.sequence))
            });
            let Some(execution) = newest else {
                let names: Vec<_> = circle.iter().map(ToString::to_string).collect();
                return Some(names.join(" → "));
            };
            self.undo_link(t, execution);
            if execution == from {
                // The edge itself is gone.
                return None;
            }
        }
        None
    }

    fn undo_link(&mut self, t: Turn<'_>, execution: ExecutionId) {
        let link = self.attempt(execution).and_then(|attempt| attempt.link);
        let Some(Link::Leader(other) | Link::Successor(other)) = link else { return };
        if let Some(node) = self.nodes.get_mut(&other) {
            node.followers.remove(&execution);
            node.superseded.remove(&execution);
        }
        if let Some(attempt) = self.attempt_mut(execution) {
            attempt.decision = Decision::WouldWaitForItself { leader: other };
        }
        self.really_queue(t, execution, format!("it would have waited for itself through {other}"));
        self.release(t, other);
    }

    /// Takes a link or supersession back: the execution is queued for work of its own.
    pub(super) fn really_queue(&mut self, t: Turn<'_>, execution: ExecutionId, cause: String) {
        if let Some(attempt) = self.attempt_mut(execution) {
            attempt.link = None;
        }
        self.transition(t, execution, State::Queued, cause);
        self.recent.rest.durable = true;
        self.begin(t, execution);
    }
}
