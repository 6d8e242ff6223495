//! Defer: a newer call of the same target and key replaces one that is still queued.

use ibid::model::{CallOptions, Decision, ExecutionId, Link, State, Step, StepId, Timestamp, Trigger};

use super::lookup::{Found, Query, decision};
use super::{Engine, Outcome, Turn};

/// Environment, target and defer key.
pub(super) type Key = (u32, String, Option<String>);

impl Engine {
    /// The calls that a new one replaces, and when it is due.
    pub(super) fn deferral(
        &self,
        t: Turn<'_>,
        environment: u32,
        target: &str,
        options: &CallOptions,
    ) -> (Vec<ExecutionId>, Option<Timestamp>, Timestamp) {
        let due = t.now.saturating_add_unsigned(options.delay);
        let Some(defer) = &options.defer else { return (Vec::new(), None, due) };
        let key = (environment, target.to_owned(), defer.key.clone());
        let older: Vec<_> = self.deferrable.get(&key).into_iter().flatten().copied().collect();
        let began = older.iter().filter_map(|execution| self.burst_of(*execution)).min().unwrap_or(t.now).min(t.now);
        let latest = defer.max_wait.map(|wait| began.saturating_add_unsigned(wait));
        (older, Some(began), latest.map_or(due, |latest| due.min(latest)))
    }

    /// When the burst began that a queued execution belongs to: a retry begins its own.
    fn burst_of(&self, execution: ExecutionId) -> Option<Timestamp> {
        let step = &self.steps.get(&execution.step)?.step;
        let attempt = step.attempt(execution.attempt)?;
        if attempt.trigger == Trigger::Retry { Some(attempt.created()) } else { step.burst }
    }

    /// The key under which a queued execution can be replaced. What is forced, or was put back into
    /// the queue so that nobody waits for itself, cannot.
    pub(super) fn defer_key(&self, execution: ExecutionId) -> Option<Key> {
        let step = &self.steps.get(&execution.step)?.step;
        let defer = step.options.defer.as_ref()?;
        let attempt = step.attempt(execution.attempt)?;
        let replaceable = matches!(attempt.trigger, Trigger::Call | Trigger::Hand | Trigger::Retry)
            && !matches!(attempt.decision, Decision::Forced | Decision::WouldWaitForItself { .. });
        replaceable.then(|| (self.environment_of(execution.step.run), step.target.clone(), defer.key.clone()))
    }

    /// Puts a newer call in the place of an older one that is queued.
    pub(super) fn supersede(&mut self, t: Turn<'_>, older: ExecutionId, newer: StepId) {
        // A newer call of a workflow stands for the root of its run.
        let successor = match self.steps.get(&newer).and_then(|live| live.step.attempts.last()?.link) {
            Some(Link::Run(run)) => run.root(),
            _ => newer,
        };
        let successor = self.step_in_memory(successor).map_or_else(|| newer.attempt(1), Step::newest);
        let held_back_by = self.blocked_by(older);
        self.dequeue(older);
        self.unindex(older);
        self.release_steps(t, held_back_by);
        let followers = self.nodes.get_mut(&older).map(|node| std::mem::take(&mut node.followers));
        if let Some(attempt) = self.attempt_mut(older) {
            attempt.link = Some(Link::Successor(successor));
        }
        self.transition(t, older, State::Deferred, format!("{successor}, a newer call, takes its place"));
        self.recent.rest.durable = true;
        match self.nodes.get_mut(&successor) {
            Some(node) => {
                node.superseded.insert(older);
                self.break_circle(t, older, successor);
            }
            None => {
                if let Some(outcome) = self.outcome_of(t, successor) {
                    self.resolve_deferred(t, successor, older, &outcome);
                }
            }
        }
        // They joined a call with other arguments than those that will run now.
        for follower in followers.unwrap_or_default() {
            if let Some(attempt) = self.attempt_mut(follower) {
                attempt.decision = Self::no_match();
            }
            self.really_queue(t, follower, format!("{older}, which it had joined, was replaced by {successor}"));
        }
    }

    /// What a deferred call stands for has ended.
    pub(super) fn resolve_deferred(
        &mut self,
        t: Turn<'_>,
        successor: ExecutionId,
        older: ExecutionId,
        outcome: &Outcome,
    ) {
        let state = outcome.state();
        // Of a chain of calls that replaced each other all refer to the last.
        let last = match self.attempt(successor).map(|attempt| (attempt.state(), attempt.link)) {
            Some((State::Deferred, Some(Link::Successor(last)))) => last,
            _ => successor,
        };
        if let Some(attempt) = self.attempt_mut(older) {
            attempt.resolved = Some(state);
            attempt.link = Some(Link::Successor(last));
        }
        self.transition(t, older, State::Deferred, format!("{last} {}", super::finish::ending_in_words(state)));
        self.over_with(older, outcome.clone());
    }

    /// The look-up of a call with a defer key, which comes when it is due. Says whether it need not run.
    pub(super) fn look_up_when_due(&mut self, t: Turn<'_>, execution: ExecutionId) -> bool {
        let environment = self.environment_of(execution.step.run);
        let Some(live) = self.steps.get(&execution.step) else { return false };
        let Some(identity) = live.step.identity.clone() else { return false };
        let Some(attempt) = live.step.attempt(execution.attempt) else { return false };
        let (sequence, newer_than) = (attempt.sequence, attempt.fresh);
        let max_age = live.step.options.cache.max_age();
        let caller = live.step.caller.or_else(|| self.spawned_by(t, execution.step));
        let again = Some((execution, sequence));
        let identity = &identity.digest;
        let found = self.look_up(t, &Query { environment, identity, max_age, caller, newer_than, again });
        if let Found::Nothing(_) = found {
            if let Some(attempt) = self.attempt_mut(execution) {
                attempt.decision = decision(&found);
            }
            return false;
        }
        self.dequeue(execution);
        self.take_found(t, execution, found, "when it was due");
        true
    }
}
