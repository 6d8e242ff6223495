//! Forcing a step to run again.

use ibid::model::{Decision, ExecutionId, Run, State, StepId, TargetKind, Trigger};

use super::{ActiveRun, Engine, Refusal, Turn};

impl Engine {
    /// Adds an attempt that ignores the cache and really executes. With `below` everything that it calls
    /// does too, except what this re-run has made already.
    ///
    /// # Errors
    /// Where there is no such step, its newest attempt is queued or running, or its target is gone.
    pub fn rerun(&mut self, t: Turn<'_>, id: StepId, below: bool) -> Result<ExecutionId, Refusal> {
        let Some(step) = self.step(t, id) else { return Err(Refusal::UnknownStep(id)) };
        let newest = step.newest();
        let Some(attempt) = step.attempts.last() else { return Err(Refusal::UnknownStep(id)) };
        match attempt.state() {
            State::Queued if attempt.trigger == Trigger::Retry => {
                self.reschedule(t, newest, t.now);
                if let Some(attempt) = self.attempt_mut(newest).filter(|_| below) {
                    attempt.fresh = Some(attempt.sequence);
                }
                self.recent.rest.durable = true;
                return Ok(newest);
            }
            state @ (State::Queued | State::Running) => return Err(Refusal::Unfinished(newest, state.name())),
            State::Spawned if attempt.resolved.is_none() => {
                return Err(Refusal::Unfinished(newest, State::Spawned.name()));
            }
            _ if step.kind == TargetKind::Sensor => {
                return Err(super::submit::not_a_workflow(&step.target, step.kind));
            }
            _ => {}
        }
        let Some(run) = self.run(t, id.run) else { return Err(Refusal::UnknownStep(id)) };
        if self.target(run.environment, &step.target).is_none() {
            return Err(Refusal::UnknownTarget(step.target));
        }
        self.reopen(run);
        if !self.steps.contains_key(&id) {
            self.recent.finished.remove(&id);
            self.recent.recalled.remove(&id);
            self.add_live(step);
        }
        if let Some(live) = self.steps.get_mut(&id) {
            live.step.retries_used = 0;
        }
        let execution = self.push_attempt(t, id, Trigger::Rerun, Decision::Forced, t.now, "re-run".to_owned());
        if let Some(attempt) = self.attempt_mut(execution).filter(|_| below) {
            attempt.fresh = Some(attempt.sequence);
        }
        self.recent.rest.durable = true;
        self.begin(t, execution);
        Ok(execution)
    }

    /// Something in a quiet run is unfinished again.
    fn reopen(&mut self, run: Run) {
        if self.runs.contains_key(&run.id) {
            return;
        }
        let id = run.id;
        self.recent.quiet.remove(&id);
        let next_step = run.counts.steps + 1;
        self.runs.insert(id, Box::new(ActiveRun::new(run, next_step)));
        self.recent.touched_runs.insert(id);
    }

    /// Puts a new attempt on its way: a called workflow into a run of its own, everything else into the queue.
    pub(super) fn begin(&mut self, t: Turn<'_>, execution: ExecutionId) {
        let live = self.steps.get(&execution.step);
        if live.is_some_and(|live| live.step.kind == TargetKind::Workflow && live.step.caller.is_some()) {
            self.spawn_again(t, execution);
        } else {
            self.enqueue(t, execution);
        }
    }

    /// A called workflow gets another run of its own, whose root really runs.
    fn spawn_again(&mut self, t: Turn<'_>, execution: ExecutionId) {
        let Some(step) = self.steps.get(&execution.step).map(|live| live.step.clone()) else { return };
        self.transition(t, execution, State::Spawned, "");
        self.spawn(t, execution, step);
    }
}
