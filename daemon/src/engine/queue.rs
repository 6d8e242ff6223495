//! What is due, who takes it, and what the clock brings.

use ibid::model::{
    Argument, CallOptions, Decision, ExecutionId, Failure, Link, State, Step, StepId, Stored, Timestamp, Trigger,
};

use super::lookup::{Found, Query};
use super::{Effect, Engine, Outcome, Refusal, RepositoryKey, Turn};

/// An execution for a worker.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// What to run.
    pub execution: ExecutionId,
    /// `repository/name`
    pub target: String,
    /// In the order of the signature.
    pub arguments: Vec<Argument>,
    /// As the caller evaluated them.
    pub options: CallOptions,
    /// How a command that was given whole is run.
    pub command: Option<Stored>,
    /// Whether it was forced to run again.
    pub again: bool,
}

impl Engine {
    /// Queues an execution: for a worker if it is due, else for its time.
    pub(super) fn enqueue(&mut self, t: Turn<'_>, execution: ExecutionId) {
        let Some(attempt) = self.attempt(execution) else { return };
        let (due, deferring) = (attempt.due, attempt.decision == Decision::Deferring);
        match self.defer_key(execution) {
            // While it can be replaced nobody may join it.
            Some(key) => {
                self.deferrable.entry(key).or_default().insert(execution);
            }
            None => self.index(execution),
        }
        if due > t.now {
            self.timers.insert((due, execution));
            return;
        }
        if deferring && self.look_up_when_due(t, execution) {
            return;
        }
        if !self.block(t, execution) {
            self.make_ready(execution);
        }
    }

    /// It may start when there is a worker.
    pub(super) fn make_ready(&mut self, execution: ExecutionId) {
        let Some(sequence) = self.attempt(execution).map(|attempt| attempt.sequence) else { return };
        let (key, slotless) = (self.repository_of(execution), self.is_sensor(execution.step));
        if let Some(node) = self.nodes.get_mut(&execution) {
            node.repository = Some(key.clone());
            node.slotless = slotless;
        }
        if slotless {
            self.ready_sensors.entry(key).or_default().insert(execution);
        } else {
            self.ready.entry(key).or_default().insert((sequence, execution));
        }
    }

    pub(super) fn dequeue(&mut self, execution: ExecutionId) {
        let Some(due) = self.attempt(execution).map(|attempt| attempt.due) else { return };
        self.timers.remove(&(due, execution));
        if let Some(key) = self.defer_key(execution)
            && let Some(queued) = self.deferrable.get_mut(&key)
        {
            queued.remove(&execution);
            if queued.is_empty() {
                self.deferrable.remove(&key);
            }
        }
        self.unblock(execution);
        self.leave_ready(execution);
    }

    pub(super) fn leave_ready(&mut self, execution: ExecutionId) {
        let Some(sequence) = self.attempt(execution).map(|attempt| attempt.sequence) else { return };
        let Some(key) = self.nodes.get(&execution).and_then(|node| node.repository.clone()) else { return };
        if let Some(ready) = self.ready.get_mut(&key) {
            ready.remove(&(sequence, execution));
            if ready.is_empty() {
                self.ready.remove(&key);
            }
        }
        if let Some(ready) = self.ready_sensors.get_mut(&key) {
            ready.remove(&execution);
            if ready.is_empty() {
                self.ready_sensors.remove(&key);
            }
        }
    }

    /// A follower that is due earlier than a leader held back by `delay` brings it forward.
    pub(super) fn pull_forward(&mut self, t: Turn<'_>, leader: ExecutionId, due: Timestamp) {
        let Some(attempt) = self.attempt(leader) else { return };
        let held_by_delay = matches!(attempt.trigger, Trigger::Call | Trigger::Hand)
            && attempt.state() == State::Queued
            && self.defer_key(leader).is_none();
        if held_by_delay && due < attempt.due && attempt.due > t.now {
            self.reschedule(t, leader, due);
        }
    }

    pub(super) fn reschedule(&mut self, t: Turn<'_>, execution: ExecutionId, due: Timestamp) {
        self.dequeue(execution);
        self.unindex(execution);
        if let Some(attempt) = self.attempt_mut(execution) {
            attempt.due = due.max(t.now);
        }
        self.enqueue(t, execution);
    }

    /// The repositories with work that could start now, if there are workers.
    pub fn wanting(&self) -> impl Iterator<Item = &RepositoryKey> {
        let sensors = self.ready_sensors.keys().filter(|key| !self.ready.contains_key(*key));
        self.ready.keys().chain(sensors).filter(|key| self.startable(key) > 0)
    }

    /// How many executions of a repository could start now: as many as are due and slots are free, and
    /// every sensor.
    #[must_use]
    pub fn startable(&self, key: &RepositoryKey) -> usize {
        let free = usize::try_from(self.free_slots(key)).unwrap_or(usize::MAX);
        let due = self.ready.get(key).map_or(0, std::collections::BTreeSet::len);
        let sensors = self.ready_sensors.get(key).map_or(0, std::collections::BTreeSet::len);
        due.min(free) + if self.draining { 0 } else { sensors }
    }

    /// How many more executions of a repository may run now.
    #[must_use]
    pub fn free_slots(&self, key: &RepositoryKey) -> u32 {
        let limit = self.repositories.get(key).map_or(0, |repository| repository.concurrency);
        limit.saturating_sub(self.active.get(key).copied().unwrap_or(0))
    }

    /// Assigns the next execution of a repository to a worker, if one is due and a slot is free.
    pub fn assign(&mut self, t: Turn<'_>, key: &RepositoryKey, worker: u32) -> Option<Assignment> {
        let sensor = self.ready_sensors.get(key).and_then(|ready| ready.first().copied());
        if let Some(sensor) = sensor.filter(|_| !self.draining) {
            self.dequeue(sensor);
            return self.hand_over(t, key, sensor, worker);
        }
        loop {
            if self.free_slots(key) == 0 {
                return None;
            }
            let (_, execution) = self.next_ready(t, key)?;
            self.dequeue(execution);
            if self.look_up_again(t, execution) {
                self.settle(t);
                continue;
            }
            return self.hand_over(t, key, execution, worker);
        }
    }

    fn next_ready(&self, t: Turn<'_>, key: &RepositoryKey) -> Option<(u64, ExecutionId)> {
        let ready = self.ready.get(key)?;
        if !self.draining {
            return ready.first().copied();
        }
        // While stopping, only work below running executions goes on.
        let called = |execution: ExecutionId| {
            let caller_of = |step: StepId| self.steps.get(&step).and_then(|live| live.step.caller);
            let spawn = self.spawned_by(t, execution.step).and_then(|spawn| caller_of(spawn.step));
            caller_of(execution.step).or(spawn).is_some_and(|caller| self.is_running(caller))
        };
        ready.iter().copied().find(|(_, execution)| called(*execution))
    }

    fn hand_over(
        &mut self,
        t: Turn<'_>,
        key: &RepositoryKey,
        execution: ExecutionId,
        worker: u32,
    ) -> Option<Assignment> {
        let environment = self.environment_of(execution.step.run);
        let step = &self.steps.get(&execution.step)?.step;
        let (target, arguments, options) = (step.target.clone(), step.arguments.clone(), step.options.clone());
        let command = step.command.clone();
        let source = self.target(environment, &target).and_then(|(_, spec)| spec.source.clone());
        let mut again = false;
        if let Some(attempt) = self.attempt_mut(execution) {
            attempt.worker = Some(worker);
            attempt.source = source;
            again = attempt.trigger == Trigger::Rerun;
        }
        let timeout = options.timeout.map(|limit| t.now.saturating_add_unsigned(limit));
        if let Some(node) = self.nodes.get_mut(&execution) {
            node.active = !node.slotless;
            node.timeout = timeout;
        }
        if let Some(at) = timeout {
            self.timers.insert((at, execution));
        }
        if self.nodes.get(&execution).is_some_and(|node| node.active) {
            *self.active.entry(key.clone()).or_default() += 1;
        }
        self.transition(t, execution, State::Running, format!("assigned to w-{worker}"));
        // With a defer key it can be joined only from now on.
        self.index(execution);
        self.recent.rest.durable = true;
        Some(Assignment { execution, target, arguments, options, command, again })
    }

    /// An execution that had to wait is looked up once more; says whether it need not run.
    fn look_up_again(&mut self, t: Turn<'_>, execution: ExecutionId) -> bool {
        let environment = self.environment_of(execution.step.run);
        let Some(live) = self.steps.get(&execution.step) else { return false };
        let Some(attempt) = live.step.attempt(execution.attempt) else { return false };
        let Some(identity) = live.step.identity.clone() else { return false };
        let first = matches!(attempt.trigger, Trigger::Call | Trigger::Hand) && attempt.decision != Decision::Forced;
        let settled = matches!(attempt.decision, Decision::WouldWaitForItself { .. });
        // With a defer key it was looked up when it was due, and only then.
        if !first || settled || self.defer_key(execution).is_some() {
            return false;
        }
        let followers = self.followers(execution);
        let ages = followers.iter().filter_map(|id| self.steps.get(&id.step)?.step.options.cache.max_age());
        let max_age = ages.chain(live.step.options.cache.max_age()).min();
        let caller = live.step.caller.or_else(|| self.spawned_by(t, execution.step));
        let again = Some((execution, attempt.sequence));
        let (identity, newer_than) = (&identity.digest, attempt.fresh);
        let found = self.look_up(t, &Query { environment, identity, max_age, caller, newer_than, again });
        let leader = match found {
            Found::Nothing(_) => return false,
            Found::Result(..) => None,
            Found::Unfinished(leader) => Some(leader),
        };
        self.take_found(t, execution, found, "when its turn came");
        // Chains never form: whoever followed it now follows the leader.
        if let Some(leader) = leader {
            for follower in followers {
                self.move_follower(execution, leader, follower);
            }
        }
        true
    }

    pub(super) fn move_follower(&mut self, from: ExecutionId, to: ExecutionId, follower: ExecutionId) {
        if let Some(node) = self.nodes.get_mut(&from) {
            node.followers.remove(&follower);
        }
        if let Some(node) = self.nodes.get_mut(&to) {
            node.followers.insert(follower);
        }
        if let Some(attempt) = self.attempt_mut(follower) {
            attempt.link = Some(Link::Leader(to));
        }
    }

    /// When the clock next matters.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Lets what is due begin and what has run too long end.
    pub fn tick(&mut self, t: Turn<'_>) {
        while let Some((at, execution)) = self.timers.first().copied()
            && at <= t.now
        {
            self.timers.pop_first();
            match self.attempt(execution).map(ibid::model::Attempt::state) {
                Some(State::Queued) => self.enqueue(t, execution),
                Some(State::Running) => self.time_out(t, execution),
                _ => {}
            }
        }
        self.settle(t);
    }

    /// Somebody set the clock, by so many milliseconds: what is to come in a certain time still does.
    pub fn clock_was_set(&mut self, by: i64) {
        let timers = std::mem::take(&mut self.timers);
        self.timers = timers.into_iter().map(|(at, execution)| (at.saturating_add(by), execution)).collect();
        let executions: Vec<ExecutionId> = self.nodes.keys().copied().collect();
        for execution in executions {
            match self.attempt(execution).map(ibid::model::Attempt::state) {
                Some(State::Running) => {
                    if let Some(timeout) = self.nodes.get_mut(&execution).and_then(|node| node.timeout.as_mut()) {
                        *timeout = timeout.saturating_add(by);
                    }
                }
                Some(State::Queued) => {
                    if let Some(attempt) = self.attempt_mut(execution) {
                        attempt.due = attempt.due.saturating_add(by);
                    }
                    if let Some(live) = self.steps.get_mut(&execution.step) {
                        live.step.burst = live.step.burst.map(|began| began.saturating_add(by));
                    }
                }
                _ => {}
            }
        }
    }

    fn time_out(&mut self, t: Turn<'_>, execution: ExecutionId) {
        let limit = self.steps.get(&execution.step).and_then(|live| live.step.options.timeout).unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "shown to people")]
        let seconds = limit as f64 / 1000.0;
        let failure = Failure::new("TimeoutError", format!("it ran longer than its time limit of {seconds} s"));
        self.stop_worker(execution);
        self.end_badly(t, execution, State::TimedOut, failure);
    }

    pub(super) fn stop_worker(&mut self, execution: ExecutionId) {
        if let Some(worker) = self.attempt(execution).and_then(|attempt| attempt.worker) {
            self.effects.push(Effect::Stop { execution, worker });
        }
    }

    /// The limit of processes is reached and all of them wait: the newest queued call fails,
    /// and names the limit, so that something can move.
    pub fn give_up_newest(&mut self, t: Turn<'_>, key: &RepositoryKey, limit: usize) -> Option<StepId> {
        let (_, execution) = self.ready.get(key)?.last().copied()?;
        self.dequeue(execution);
        let message = format!(
            "all {limit} processes of {} wait for other calls, so none is left to run this one; \
             start ibidd with a higher --processes, or make fewer calls wait at once",
            key.1
        );
        self.end_badly(t, execution, State::Failed, Failure::new("LimitError", message));
        self.settle(t);
        Some(execution.step)
    }

    /// Everything due in a repository fails, because its code cannot be loaded.
    pub fn fail_due(&mut self, t: Turn<'_>, key: &RepositoryKey, failure: &Failure) {
        let sensors = self.ready_sensors.get(key).into_iter().flatten().copied();
        let due = self.ready.get(key).into_iter().flatten().map(|(_, execution)| *execution);
        let due: Vec<_> = due.chain(sensors).collect();
        for execution in due {
            self.dequeue(execution);
            self.end_badly(t, execution, State::Failed, failure.clone());
        }
        self.settle(t);
    }

    /// Gives a slot up (it waits) or takes it back (it goes on, before anything queued).
    pub(super) fn occupy(&mut self, execution: ExecutionId, active: bool) {
        let Some(node) = self.nodes.get_mut(&execution) else { return };
        if node.active == active || node.slotless {
            return;
        }
        node.active = active;
        let Some(key) = node.repository.clone() else { return };
        let count = self.active.entry(key).or_default();
        *count = if active { *count + 1 } else { count.saturating_sub(1) };
    }

    /// Asks for the outcome of a step on behalf of a running execution. `None`: it will be answered.
    ///
    /// # Errors
    /// Where the asking execution is not running, there is no such step, or they would wait for each other.
    pub fn wait(
        &mut self,
        t: Turn<'_>,
        waiter: ExecutionId,
        token: u64,
        target: StepId,
    ) -> Result<Option<Outcome>, Refusal> {
        if !self.is_running(waiter) {
            return Err(Refusal::NotRunning(waiter));
        }
        let Some(step) = self.step(t, target) else { return Err(Refusal::UnknownStep(target)) };
        let newest = step.newest();
        if let Some(outcome) = self.outcome_of(t, newest) {
            return Ok(Some(outcome));
        }
        let withdrawn = step.attempts.last().is_some_and(|attempt| attempt.withdrawn);
        if withdrawn && step.caller == Some(waiter) {
            return Ok(Some(super::cancel::withdrawn_outcome(newest)));
        }
        let deciding = self.deciding(t, target);
        let newest = self.live_step(deciding).map_or(newest, Step::newest);
        self.add_wait(t, waiter, token, newest)?;
        self.settle(t);
        Ok(None)
    }
}
