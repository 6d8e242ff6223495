//! Cancelling: a wait ends at once, the work only if nobody else wants it.

use std::collections::BTreeSet;

use ibid::model::{ExecutionId, Failure, Id, Link, State, Step, StepId};

use super::{Engine, Outcome, Refusal, Turn};

/// What a caller gets whose call goes on for others.
pub(super) fn withdrawn_outcome(execution: ExecutionId) -> Outcome {
    let failure = Failure::new("Cancelled", "it was cancelled here and goes on for others");
    Outcome::Bad { state: State::Cancelled, failure, execution }
}

/// What a cancel came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// Steps that ended.
    pub stopped: Vec<StepId>,
    /// Steps that go on, because others want them.
    pub kept: Vec<StepId>,
}

impl Engine {
    /// Cancels a run, step or execution and everything below it that nobody outside wants; by force,
    /// whoever wants it. Of a run, everything unfinished in it.
    ///
    /// # Errors
    /// Where there is no such thing or it has ended.
    pub fn cancel(&mut self, t: Turn<'_>, id: Id, force: bool, by: &str) -> Result<Cancelled, Refusal> {
        // Whoever waits for a sensor waits for ever: nobody's interest keeps one.
        let force = force || (id.step().step == 1 && self.is_sensor(id.step()));
        let asked: BTreeSet<_> = match id {
            // What a live step of the run called is judged by that step: it goes on below what is kept.
            Id::Run(run) => self
                .live_steps_of(run)
                .filter(|step| !self.is_started_by_sensor(t, step.id))
                .filter(|step| force || step.caller.is_none_or(|caller| !self.steps.contains_key(&caller.step)))
                .map(|step| step.id)
                .collect(),
            _ => self.steps.contains_key(&id.step()).then(|| id.step()).into_iter().collect(),
        };
        let ended = match id {
            Id::Execution(execution) => self.attempt(execution).is_none_or(ibid::model::Attempt::is_over),
            _ => asked.is_empty(),
        };
        if ended {
            let known = self.step(t, id.step()).is_some();
            return Err(if known { Refusal::AlreadyEnded(id) } else { Refusal::Unknown(id) });
        }
        if asked.contains(&id.run().root()) {
            self.forget_sensor(t, id.run());
        }
        let cancelled = match id {
            Id::Execution(execution) if self.has_other_open(execution) => {
                self.stop_attempt(t, execution, by);
                Cancelled { stopped: vec![execution.step], kept: Vec::new() }
            }
            _ => self.cancel_set(t, &asked, force, by),
        };
        self.recent.rest.durable = true;
        self.settle(t);
        Ok(cancelled)
    }

    /// The caller was timed out, abandoned or cancelled: so is what is below it.
    pub(super) fn cancel_below(&mut self, t: Turn<'_>, caller: ExecutionId) {
        let Some(live) = self.steps.get(&caller.step) else { return };
        let called =
            live.children.iter().copied().filter(|child| !self.is_started_by_sensor(t, *child)).filter(|child| {
                let of = self.steps.get(child).and_then(|child| child.step.caller);
                // What a finished callee has left behind is below its caller too.
                of.is_some_and(|of| of == caller || of.step != caller.step)
            });
        let called: BTreeSet<_> = called.collect();
        if !called.is_empty() {
            self.cancel_set(t, &called, false, &format!("with its caller {caller}"));
        }
    }

    fn cancel_set(&mut self, t: Turn<'_>, wanted_gone: &BTreeSet<StepId>, force: bool, by: &str) -> Cancelled {
        let mut all = BTreeSet::new();
        for id in wanted_gone {
            self.collect_below(t, *id, &mut all);
        }
        let mut stop = all.clone();
        loop {
            let kept: Vec<_> =
                stop.iter().copied().filter(|id| self.is_wanted(t, *id, &stop, wanted_gone, force)).collect();
            if kept.is_empty() {
                break;
            }
            for id in kept {
                stop.remove(&id);
            }
        }
        let kept: Vec<_> = all.difference(&stop).copied().collect();
        for id in &kept {
            let caller = self.steps.get(id).and_then(|live| live.step.caller).or_else(|| self.spawned_by(t, *id));
            let caller_goes = caller.is_some_and(|caller| stop.contains(&caller.step));
            if caller_goes || wanted_gone.contains(id) {
                self.withdraw(t, *id);
            }
        }
        let stopped: Vec<_> = stop.iter().copied().collect();
        for id in &stopped {
            self.stop_step(t, *id, by);
        }
        Cancelled { stopped, kept }
    }

    fn collect_below(&self, t: Turn<'_>, id: StepId, all: &mut BTreeSet<StepId>) {
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            let Some(live) = self.steps.get(&id) else { continue };
            if !all.insert(id) {
                continue;
            }
            todo.extend(live.children.iter().copied().filter(|child| !self.is_started_by_sensor(t, *child)));
            todo.extend(live.step.attempts.iter().filter_map(|attempt| match attempt.link {
                Some(Link::Run(run)) if !attempt.is_over() => Some(run.root()),
                _ => None,
            }));
        }
    }

    /// Whether somebody outside of what stops wants this step: a follower, a waiter, or a caller that goes on.
    fn is_wanted(
        &self,
        t: Turn<'_>,
        id: StepId,
        stop: &BTreeSet<StepId>,
        wanted_gone: &BTreeSet<StepId>,
        force: bool,
    ) -> bool {
        let Some(live) = self.steps.get(&id) else { return false };
        let asked = wanted_gone.contains(&id);
        if asked && force {
            return false;
        }
        let own_caller = live.step.caller.map(|caller| caller.step);
        let spawn = self.spawned_by(t, id).map(|spawn| spawn.step);
        if !asked {
            let goes_on = |step: Option<StepId>| step.is_some_and(|step| !stop.contains(&step));
            let withdrawn = live.step.attempts.last().is_some_and(|attempt| attempt.withdrawn);
            if (goes_on(own_caller) && !withdrawn) || goes_on(spawn) {
                return true;
            }
        }
        let through_spawn = self.spawned_by(t, id).is_some_and(|spawn| {
            let own = self.steps.get(&spawn.step).and_then(|live| live.step.caller).map(|caller| caller.step);
            let waiters = self.nodes.get(&spawn).into_iter().flat_map(|node| &node.waiters);
            waiters.into_iter().any(|(waiter, _)| !stop.contains(&waiter.step) && Some(waiter.step) != own)
        });
        if through_spawn {
            return true;
        }
        // Who was answered with it by memo: asked to end it, only those that go on themselves count.
        let by_memo = self.memo_callers(&live.step).any(|caller| {
            let counts = if asked { self.is_running(caller) && Some(caller.step) != own_caller } else { true };
            counts && !stop.contains(&caller.step)
        });
        let holds_back = |id: StepId| {
            self.blocking.get(&id).is_some_and(|waiting| waiting.iter().any(|other| !stop.contains(&other.step)))
        };
        if by_memo || holds_back(id) || spawn.is_some_and(holds_back) {
            return true;
        }
        self.open_executions(&live.step).any(|execution| {
            let Some(node) = self.nodes.get(&execution) else { return false };
            node.followers.iter().chain(&node.superseded).any(|other| !stop.contains(&other.step))
                || node
                    .waiters
                    .iter()
                    .any(|(waiter, _)| !stop.contains(&waiter.step) && (!asked || Some(waiter.step) != own_caller))
        })
    }

    fn open_executions<'a>(&'a self, step: &'a Step) -> impl Iterator<Item = ExecutionId> + 'a {
        (1u32..)
            .zip(&step.attempts)
            .filter(|(_, attempt)| !attempt.is_over())
            .map(|(number, _)| step.id.attempt(number))
    }

    /// Its caller no longer wants it, but it goes on.
    fn withdraw(&mut self, t: Turn<'_>, id: StepId) {
        if let Some(spawn) = self.spawned_by(t, id) {
            self.withdraw(t, spawn.step);
        }
        let Some(live) = self.steps.get(&id) else { return };
        let (newest, caller) = (live.step.newest(), live.step.caller);
        if let Some(attempt) = self.attempt_mut(newest) {
            attempt.withdrawn = true;
        }
        let Some(caller) = caller else { return };
        self.end_waits(newest, |waiter| waiter.step == caller.step);
    }

    /// Ends the waits of some for an execution that goes on.
    pub(super) fn end_waits(&mut self, execution: ExecutionId, of: impl Fn(ExecutionId) -> bool) {
        let waits = self.nodes.get(&execution).map(|node| node.waiters.clone()).unwrap_or_default();
        for (waiter, token) in waits.into_iter().filter(|(waiter, _)| of(*waiter)) {
            if let Some(node) = self.nodes.get_mut(&execution) {
                node.waiters.remove(&(waiter, token));
            }
            self.answer(waiter, token, withdrawn_outcome(execution));
        }
    }

    fn stop_step(&mut self, t: Turn<'_>, id: StepId, by: &str) {
        let Some(live) = self.steps.get(&id) else { return };
        let open: Vec<_> = self.open_executions(&live.step).collect();
        for execution in open {
            self.stop_attempt(t, execution, by);
        }
    }

    fn has_other_open(&self, execution: ExecutionId) -> bool {
        let live = self.steps.get(&execution.step);
        live.is_some_and(|live| self.open_executions(&live.step).any(|other| other != execution))
    }

    fn stop_attempt(&mut self, t: Turn<'_>, execution: ExecutionId, by: &str) {
        let Some(attempt) = self.attempt(execution) else { return };
        match (attempt.state(), attempt.link) {
            (State::Running, _) => {
                self.stop_worker(execution);
                self.occupy(execution, false);
            }
            (State::Queued, _) => {
                let held_back_by = self.blocked_by(execution);
                self.dequeue(execution);
                self.unindex(execution);
                self.cancelled(t, execution, by);
                self.release_steps(t, held_back_by);
                return;
            }
            (State::Linked, Some(Link::Leader(leader))) | (State::Deferred, Some(Link::Successor(leader))) => {
                if let Some(node) = self.nodes.get_mut(&leader) {
                    node.followers.remove(&execution);
                    node.superseded.remove(&execution);
                }
                self.cancelled(t, execution, by);
                self.release(t, leader);
                return;
            }
            _ => {}
        }
        self.unindex(execution);
        self.cancelled(t, execution, by);
    }

    fn cancelled(&mut self, t: Turn<'_>, execution: ExecutionId, by: &str) {
        if let Some(attempt) = self.attempt_mut(execution) {
            attempt.failure = Some(Failure::new("Cancelled", format!("cancelled {by}")));
        }
        self.transition(t, execution, State::Cancelled, by);
        self.over(execution);
    }

    pub(super) fn release_steps(&mut self, t: Turn<'_>, steps: Vec<StepId>) {
        for step in steps {
            if let Some(newest) = self.steps.get(&step).map(|live| live.step.newest()) {
                self.release(t, newest);
            }
        }
    }

    /// Somebody's interest in an execution ended. If its own caller had withdrawn before, and nobody
    /// is left, it stops.
    pub(super) fn release(&mut self, t: Turn<'_>, execution: ExecutionId) {
        let withdrawn = self.attempt(execution).is_some_and(|attempt| attempt.withdrawn && !attempt.is_over());
        let Some(node) = self.nodes.get(&execution) else { return };
        let unwanted = node.followers.is_empty() && node.superseded.is_empty() && node.waiters.is_empty();
        let by_memo =
            self.steps.get(&execution.step).is_some_and(|live| self.memo_callers(&live.step).next().is_some());
        if withdrawn && unwanted && !by_memo && !self.blocking.contains_key(&execution.step) {
            self.cancel_set(t, &BTreeSet::from([execution.step]), false, "as nobody wants it any more");
        }
    }
}
