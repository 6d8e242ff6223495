//! How executions end, and who hears of it.

use ibid::model::{Attempt, Decision, ExecutionId, Failure, Link, RunId, State, StepId, Stored, Transition, Trigger};

use super::waiting::oldest_open;
use super::{Effect, Engine, Entry, Outcome, Ran, Success, Turn};

/// Whether an ended execution was followed by another attempt at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Succession {
    /// Its ending stands.
    Final,
    /// A retry took its place, with its followers and waiters.
    Retried,
}

/// An ending that the others have not been told of yet.
#[derive(Debug)]
pub(super) struct Ended {
    execution: ExecutionId,
    succession: Succession,
    /// How it came out, where that is not to be read off the execution itself.
    outcome: Option<Outcome>,
}

pub(super) fn plain_failure(state: State) -> Failure {
    let (kind, message) = match state {
        State::TimedOut => ("TimeoutError", "it ran longer than its time limit"),
        State::Abandoned => ("Abandoned", "its worker was lost, so the outcome is unknown"),
        State::Cancelled => ("Cancelled", "it was cancelled"),
        _ => ("Error", "it failed"),
    };
    Failure::new(kind, message)
}

impl Engine {
    /// A worker reports a result. Says whether it was taken: a result that comes too late is not.
    pub fn complete(&mut self, t: Turn<'_>, execution: ExecutionId, result: Stored) -> bool {
        if !self.is_running(execution) {
            return false;
        }
        self.occupy(execution, false);
        self.unindex(execution);
        if let Some(attempt) = self.attempt_mut(execution) {
            attempt.result = Some(result);
        }
        self.transition(t, execution, State::Succeeded, "");
        self.remember_success(t, execution);
        self.recent.rest.executed += 1;
        self.recent.rest.durable = true;
        self.over(execution);
        self.settle(t);
        true
    }

    /// A worker reports an error. Says whether it was taken.
    pub fn fail(&mut self, t: Turn<'_>, execution: ExecutionId, failure: Failure) -> bool {
        let running = self.is_running(execution);
        if running {
            self.end_badly(t, execution, State::Failed, failure);
            self.settle(t);
        }
        running
    }

    /// The worker of a running execution is gone.
    pub fn abandon(&mut self, t: Turn<'_>, execution: ExecutionId, cause: &str) -> bool {
        let running = self.is_running(execution);
        if running {
            self.end_badly(t, execution, State::Abandoned, Failure::new("Abandoned", cause));
            self.settle(t);
        }
        running
    }

    /// Ends a queued or running execution badly, and tries again if retries are left.
    pub(super) fn end_badly(&mut self, t: Turn<'_>, execution: ExecutionId, state: State, failure: Failure) {
        self.occupy(execution, false);
        self.unindex(execution);
        let cause = format!("{}: {}", failure.kind, failure.message);
        if let Some(attempt) = self.attempt_mut(execution) {
            attempt.failure = Some(failure);
        }
        self.transition(t, execution, state, cause);
        self.remember_bad(t, execution);
        self.recent.rest.durable = true;
        let retried = self.retry(t, execution);
        let succession = if retried { Succession::Retried } else { Succession::Final };
        self.ended.push_back(Ended { execution, succession, outcome: None });
    }

    /// Inserts the next attempt in the turn of the failure, so that the step stays a candidate.
    fn retry(&mut self, t: Turn<'_>, failed: ExecutionId) -> bool {
        let Some(live) = self.steps.get_mut(&failed.step) else { return false };
        let retries = live.step.options.retries;
        let withdrawn = live.step.attempts.last().is_some_and(|attempt| attempt.withdrawn);
        if live.step.retries_used >= retries.limit || live.step.newest() != failed {
            return false;
        }
        live.step.retries_used += 1;
        let number = live.step.retries_used;
        let due = t.now.saturating_add_unsigned(retries.delay(number));
        let cause = format!("retry {number} of {} after {failed}", retries.limit);
        let next = self.push_attempt(t, failed.step, Trigger::Retry, Decision::Retry { after: failed }, due, cause);
        if let Some(attempt) = self.attempt_mut(next) {
            attempt.withdrawn = withdrawn;
        }
        let (followers, superseded, waiters) = match self.nodes.get_mut(&failed) {
            Some(node) => (
                std::mem::take(&mut node.followers),
                std::mem::take(&mut node.superseded),
                std::mem::take(&mut node.waiters),
            ),
            None => Default::default(),
        };
        for follower in &followers {
            if let Some(attempt) = self.attempt_mut(*follower) {
                attempt.link = Some(Link::Leader(next));
            }
        }
        for older in &superseded {
            if let Some(attempt) = self.attempt_mut(*older) {
                attempt.link = Some(Link::Successor(next));
            }
        }
        for (waiter, token) in &waiters {
            if let Some(node) = self.nodes.get_mut(waiter) {
                node.waits.insert(*token, next);
            }
        }
        if let Some(node) = self.nodes.get_mut(&next) {
            node.followers = followers;
            node.superseded = superseded;
            node.waiters = waiters;
        }
        self.enqueue(t, next);
        true
    }

    /// Adds an attempt to a live step; it still has to be queued.
    pub(super) fn push_attempt(
        &mut self,
        t: Turn<'_>,
        id: StepId,
        trigger: Trigger,
        decision: Decision,
        due: ibid::model::Timestamp,
        cause: String,
    ) -> ExecutionId {
        let first = Transition { at: t.now, state: State::Queued, cause };
        let mut attempt = Attempt::new(self.take_sequence(), trigger, decision, first, due);
        let mut execution = id.attempt(1);
        if let Some(live) = self.steps.get_mut(&id) {
            if trigger == Trigger::Retry {
                attempt.fresh = live.step.attempts.last().and_then(|failed| failed.fresh);
            }
            live.step.attempts.push(attempt);
            execution = live.step.newest();
        }
        self.nodes.insert(execution, Box::default());
        self.touch(id);
        execution
    }

    fn remember_success(&mut self, t: Turn<'_>, execution: ExecutionId) {
        let environment = self.environment_of(execution.step.run);
        let Some(live) = self.steps.get(&execution.step) else { return };
        let Some(identity) = &live.step.identity else { return };
        let Some(attempt) = live.step.attempt(execution.attempt) else { return };
        let Some(result) = attempt.result.clone() else { return };
        let success = Success {
            execution,
            sequence: attempt.sequence,
            completed: t.now,
            duration: attempt.duration().unwrap_or(0),
            result,
        };
        let (key, namespace) = ((environment, identity.digest), live.step.namespace());
        let refers = live.step.arguments.iter().any(|argument| !argument.references.is_empty());
        if refers {
            let step = &live.step;
            let now = self.identify(t, environment, &step.target, &step.options, &step.arguments);
            if now.ok().flatten().is_none_or(|now| now.digest != identity.digest) {
                // What it refers to was run again meanwhile: its result may be that of other values.
                return;
            }
        }
        let bytes = Some(match &success.result {
            Stored::Inline(json) => json.as_str().len() as u64,
            Stored::Kept { size, .. } => *size,
        });
        let mut entry = self.entry(t, environment, &key.1).unwrap_or_default();
        entry.add(success);
        self.recent.entries.insert(key, entry);
        self.note_ran(environment, namespace, key.1, execution, bytes);
    }

    fn remember_bad(&mut self, t: Turn<'_>, execution: ExecutionId) {
        let environment = self.environment_of(execution.step.run);
        let Some(live) = self.steps.get(&execution.step) else { return };
        let Some(identity) = &live.step.identity else { return };
        let (key, namespace) = ((environment, identity.digest), live.step.namespace());
        let mut entry: Entry = self.entry(t, environment, &key.1).unwrap_or_default();
        entry.last_bad = Some(execution);
        self.recent.entries.insert(key, entry);
        self.note_ran(environment, namespace, key.1, execution, None);
    }

    fn note_ran(
        &mut self,
        environment: u32,
        namespace: String,
        identity: [u8; 32],
        execution: ExecutionId,
        bytes: Option<u64>,
    ) {
        let attempt = self.steps.get(&execution.step).and_then(|live| live.step.attempt(execution.attempt));
        let Some(attempt) = attempt else { return };
        let (state, created) = (attempt.state(), attempt.created());
        let duration = attempt.duration().unwrap_or(0);
        let ran = Ran { environment, namespace, execution, bytes, identity, state, created, duration };
        self.recent.rest.history.push(ran);
    }

    /// Notes that an execution is over; [`Engine::settle`] tells the others.
    pub(super) fn over(&mut self, execution: ExecutionId) {
        self.ended.push_back(Ended { execution, succession: Succession::Final, outcome: None });
    }

    /// Notes that a call is over that stands for another, and how it came out.
    pub(super) fn over_with(&mut self, execution: ExecutionId, outcome: Outcome) {
        self.ended.push_back(Ended { execution, succession: Succession::Final, outcome: Some(outcome) });
    }

    /// Tells everyone concerned of every ending, until nothing more follows from them.
    pub(super) fn settle(&mut self, t: Turn<'_>) {
        while let Some(ended) = self.ended.pop_front() {
            self.tell(t, ended);
        }
    }

    fn tell(&mut self, t: Turn<'_>, ended: Ended) {
        let Ended { execution, succession, outcome } = ended;
        let Some(node) = self.nodes.remove(&execution) else { return };
        let state = self.attempt(execution).map_or(State::Failed, Attempt::state);
        if let Some(at) = node.timeout {
            self.timers.remove(&(at, execution));
        }
        // Its own waits end with it.
        for (token, target) in node.waits {
            if let Some(other) = self.nodes.get_mut(&target) {
                other.waiters.remove(&(execution, token));
            }
            let failure = Failure::new("Cancelled", "the execution that waited has ended");
            let outcome = Outcome::Bad { state: State::Cancelled, failure, execution };
            self.effects.push(Effect::Answer { to: execution, token, outcome });
            self.release(t, target);
        }
        if let Some(outcome) = outcome.or_else(|| self.outcome_of(t, execution)) {
            for follower in node.followers {
                self.end_follower(t, execution, follower, &outcome);
            }
            for older in node.superseded {
                self.resolve_deferred(t, execution, older, &outcome);
            }
            for (waiter, token) in node.waiters {
                self.answer(waiter, token, outcome.clone());
            }
            let older_open = self.steps.get(&execution.step).and_then(|live| oldest_open(&live.step));
            if succession == Succession::Final && older_open.is_none_or(|open| open > execution) {
                self.end_spawned(t, execution.step, &outcome);
            }
        }
        if matches!(state, State::TimedOut | State::Abandoned | State::Cancelled) {
            for step in node.memoised {
                self.drop_memo_caller(t, execution, step);
            }
            self.cancel_below(t, execution);
        }
        if succession == Succession::Final {
            self.restart_sensor(t, execution);
        }
        self.settle_references(t, execution.step);
        if succession == Succession::Final {
            self.let_start(execution.step);
        }
        self.retire_step_if_over(execution.step);
        if succession == Succession::Final {
            self.effects.push(Effect::Ended { step: execution.step });
        }
    }

    pub(super) fn answer(&mut self, waiter: ExecutionId, token: u64, outcome: Outcome) {
        let Some(node) = self.nodes.get_mut(&waiter) else { return };
        node.waits.remove(&token);
        if node.waits.is_empty() && self.is_running(waiter) {
            self.occupy(waiter, true);
        }
        self.effects.push(Effect::Answer { to: waiter, token, outcome });
    }

    fn end_follower(&mut self, t: Turn<'_>, leader: ExecutionId, follower: ExecutionId, outcome: &Outcome) {
        match outcome {
            Outcome::Value { execution: source, .. } => {
                let duration = self.duration_of(t, *source);
                if let Some(attempt) = self.attempt_mut(follower) {
                    attempt.link = Some(Link::Source(*source));
                }
                self.borrow(*source, self.borrower(follower), duration, true);
                self.transition(t, follower, State::Cached, format!("{leader} succeeded"));
            }
            Outcome::Bad { state, failure, .. } => {
                let ending = if *state == State::Cancelled { State::Cancelled } else { State::Failed };
                let cause = format!("{leader} {}: {}", ending_in_words(*state), failure.message);
                if let Some(attempt) = self.attempt_mut(follower) {
                    attempt.failure = Some(failure.clone());
                }
                self.transition(t, follower, ending, cause);
            }
        }
        self.over(follower);
    }

    fn duration_of(&self, t: Turn<'_>, execution: ExecutionId) -> u64 {
        let step = self.step(t, execution.step);
        step.and_then(|step| step.attempt(execution.attempt)?.duration()).unwrap_or(0)
    }

    /// The root of a spawned run has ended: so has the call that spawned it.
    fn end_spawned(&mut self, t: Turn<'_>, root: StepId, outcome: &Outcome) {
        let Some(spawn) = self.spawned_by(t, root) else { return };
        if self.attempt(spawn).is_none_or(Attempt::is_over) {
            return;
        }
        let state = outcome.state();
        if let Some(attempt) = self.attempt_mut(spawn) {
            attempt.resolved = Some(state);
        }
        self.transition(t, spawn, State::Spawned, format!("{} {}", root.run, ending_in_words(state)));
        // The root may be running again already: whoever waited for this call gets what ended now.
        self.over_with(spawn, outcome.clone());
    }

    fn retire_step_if_over(&mut self, id: StepId) {
        let over = self.steps.get(&id).is_some_and(|live| live.step.attempts.iter().all(Attempt::is_over));
        if !over {
            return;
        }
        self.touch(id);
        let Some(live) = self.steps.remove(&id) else { return };
        self.recent.touched_steps.remove(&id);
        if let Some(caller) = live.step.caller
            && let Some(calling) = self.steps.get_mut(&caller.step)
        {
            calling.children.remove(&id);
            // What it called and did not wait for goes on, below whoever called it.
            calling.children.extend(live.children);
        }
        self.recent.recalled.remove(&id);
        self.recent.finished.insert(id, live.step);
        if let Some(active) = self.runs.get_mut(&id.run) {
            active.live.remove(&id.step);
        }
        self.retire_run_if_quiet(id.run);
    }

    pub(super) fn retire_run_if_quiet(&mut self, id: RunId) {
        if self.runs.get(&id).is_some_and(|active| active.live.is_empty())
            && let Some(active) = self.runs.remove(&id)
        {
            self.recent.touched_runs.remove(&id);
            self.recent.quiet.insert(id, active.run);
        }
    }
}

/// A bad or good ending as a verb.
#[must_use]
pub const fn ending_in_words(state: State) -> &'static str {
    match state {
        State::Succeeded | State::Cached => "succeeded",
        State::TimedOut => "timed out",
        State::Abandoned => "was abandoned",
        State::Cancelled => "was cancelled",
        _ => "failed",
    }
}
