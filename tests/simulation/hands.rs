//! What workers and people do, each compared with what must come of it.

use ibid::model::{
    Cache, CallOptions, Defer, ExecutionId, Failure, Id, Json, Memo, Retries, State, StepId, TargetKind, Trigger, Wait,
};
use ibid_daemon::engine::{Assignment, Call, Refusal, Start, Turn, result};

use crate::model;
use crate::world::{REPOSITORY, World, argument_of, pick, reference_to};

impl World {
    pub fn start(&mut self, environment: u8, cached: bool, value: u8, extra: u8) -> Result<(), String> {
        let environment = u32::from(environment % 3) + 1;
        if self.engine.target(environment, "m/w").is_none() {
            return Ok(());
        }
        let mut options = CallOptions { cache: if cached { Cache::On } else { Cache::Off }, ..CallOptions::default() };
        match extra {
            1 => options.memo = Memo::Arguments,
            2 => (options.delay, options.defer) = (1000, Some(Defer::default())),
            _ => {}
        }
        let call = model::Call { environment, target: "m/w", value, own_key: false };
        let expected = (cached && options.defer.is_none()).then(|| model::look_up(self, &call, None, None));
        let start = Start {
            environment,
            target: "m/w".to_owned(),
            arguments: vec![argument_of(value)],
            options,
            token: None,
            idempotency_key: None,
            command: None,
            taken: None,
        };
        let turn = Turn { now: self.now, past: &self.disk };
        let started = self.engine.start(turn, start).map_err(|error| error.to_string())?;
        self.hear();
        let step = self.steps().remove(&started.run.root()).ok_or("the started run has no root")?;
        if let Some(expected) = expected {
            model::compare(&expected, &step.attempts[0], "start")?;
        }
        Ok(())
    }

    /// Options by number, so that every one of them meets every other.
    fn options(cache: u8, extra: u8, value: u8) -> CallOptions {
        let mut options = CallOptions {
            cache: [Cache::Off, Cache::On, Cache::On, Cache::MaxAge(1500)][usize::from(cache % 4)],
            ..CallOptions::default()
        };
        match extra {
            1 => options.retries = Retries { limit: 1, delay_min: 0, delay_max: 0 },
            2 => options.retries = Retries { limit: 2, delay_min: 1000, delay_max: 2000 },
            3 => options.delay = 1000,
            4 => options.timeout = Some(3000),
            5 => options.memo = Memo::Off,
            6 => options.memo = Memo::Arguments,
            7 => options.defer = Some(Defer::default()),
            8 => (options.delay, options.defer) = (1000, Some(Defer { key: None, max_wait: Some(2500) })),
            9 => {
                (options.wait, options.cache_key) = (Wait::All, Some(format!("own {value}")));
                options.memo = Memo::Off;
            }
            10 => {
                options.defer = Some(Defer::default());
                options.retries = Retries { limit: 1, delay_min: 1000, delay_max: 1000 };
            }
            _ => {}
        }
        options
    }

    pub fn call(&mut self, caller: ExecutionId, target: u8, value: u8, cache: u8, extra: u8) -> Result<(), String> {
        let target = ["m/a", "m/b", "m/w"][usize::from(target % 3)];
        let environment = self.run_of(caller.step.run).map_or(0, |run| run.environment);
        if self.engine.target(environment, target).is_none() {
            return Ok(());
        }
        let options = Self::options(cache, extra, value);
        let mut arguments = vec![argument_of(value)];
        if options.wait == Wait::All {
            let steps: Vec<StepId> = self.steps().into_keys().collect();
            if let Some(step) = pick(&steps, value.wrapping_mul(7).wrapping_add(extra)) {
                arguments.push(reference_to(step));
            }
        }
        let older = model::replaced(self, environment, target, &options);
        let put_off = model::is_put_off(self, &options, &older);
        let call = model::Call { environment, target, value, own_key: options.cache_key.is_some() };
        let memo = model::memo(self, &call, &options, caller);
        let expected = (options.cache != Cache::Off && !put_off)
            .then(|| model::look_up(self, &call, options.cache.max_age(), Some(caller)));
        let before = self.steps().len();
        let call = Call { target: target.to_owned(), arguments, options, group: None, command: None };
        let turn = Turn { now: self.now, past: &self.disk };
        let called = self.engine.call(turn, caller, vec![call]).map_err(|error| error.to_string())?;
        let id = called[0].step;
        self.hear();
        let steps = self.steps();
        if let Some(memo) = memo {
            return if id == memo && steps.len() == before {
                Ok(())
            } else {
                Err(format!("the memo of {memo} was to answer, not {id}"))
            };
        }
        for older in older {
            let attempt = steps.get(&older.step).and_then(|step| step.attempt(older.attempt)).ok_or("lost")?;
            let undone = matches!(attempt.decision, ibid::model::Decision::WouldWaitForItself { .. });
            if attempt.state() != State::Deferred && !undone {
                return Err(format!("{id} takes the place of {older}, which is {:?}", attempt.state()));
            }
        }
        let step = steps.get(&id).ok_or("the called step is nowhere")?;
        match expected {
            Some(expected) => model::compare(&expected, &step.attempts[0], "call"),
            // What waits for itself by its arguments has failed already.
            None if matches!(step.state(), State::Queued | State::Spawned | State::Failed) => Ok(()),
            None => Err(format!("{id} was called with caching off and is {:?}", step.state())),
        }
    }

    pub fn start_sensor(&mut self, environment: u32, value: u8, fresh: bool) -> Result<(), String> {
        if self.engine.target(environment, "m/s").is_none() {
            return Ok(());
        }
        let turn = Turn { now: self.now, past: &self.disk };
        let before = self.engine.running_sensors().count();
        let started = self
            .engine
            .start_sensor(turn, environment, "m/s", vec![argument_of(value)], fresh)
            .map_err(|error| error.to_string())?;
        let after = self.engine.running_sensors().count();
        if after != before + usize::from(!started.already) || (fresh && started.resumed) {
            return Err(format!("starting a sensor: {started:?}, {before} ran before and {after} after"));
        }
        Ok(())
    }

    pub fn stop_sensor(&mut self, environment: u32) -> Result<(), String> {
        let turn = Turn { now: self.now, past: &self.disk };
        let stopped = self.engine.stop_sensor(turn, environment, "m/s");
        let left = self.engine.running_sensors().any(|sensor| sensor.environment == environment);
        self.hear();
        for run in stopped {
            if self.engine.live_step(run.root()).is_some() {
                return Err(format!("the sensor of {run} was stopped and goes on"));
            }
        }
        if left { Err("a stopped sensor is kept running".to_owned()) } else { Ok(()) }
    }

    pub fn assign(&mut self) -> Result<(), String> {
        for environment in [1, 3] {
            let key = (environment, REPOSITORY.to_owned());
            self.next_worker += 1;
            let turn = Turn { now: self.now, past: &self.disk };
            let free = self.engine.free_slots(&key);
            if let Some(assignment) = self.engine.assign(turn, &key, self.next_worker) {
                self.may_start(&assignment)?;
                self.give(assignment.execution)?;
                if free == 0 && !self.engine.runs_sensor(assignment.execution) {
                    return Err(format!("{} was assigned without a free slot", assignment.execution));
                }
                if !self.engine.is_running(assignment.execution) {
                    return Err(format!("{} was assigned but does not run", assignment.execution));
                }
            }
        }
        Ok(())
    }

    /// What is assigned is due, waits for no call, and a sensor gets its newest checkpoint.
    fn may_start(&self, assignment: &Assignment) -> Result<(), String> {
        let id = assignment.execution;
        let step = self.step(id.step).ok_or("an unknown step was assigned")?;
        let attempt = step.attempt(id.attempt).ok_or("an unknown attempt was assigned")?;
        // It was due once; the clock may have been set back since.
        if attempt.due > self.latest.max(self.now) {
            return Err(format!("{id} was assigned before it was due"));
        }
        if step.options.wait == Wait::All {
            for reference in step.arguments.iter().flat_map(|argument| &argument.references) {
                let turn = Turn { now: self.now, past: &self.disk };
                let deciding = self.engine.deciding(turn, *reference);
                // What is run again had ended before.
                let again = |id| {
                    let forced = |trigger| matches!(trigger, Trigger::Rerun | Trigger::Restart);
                    self.step(id).is_some_and(|step| step.attempts.iter().any(|one| forced(one.trigger)))
                };
                let forced = again(*reference) || again(deciding);
                if self.engine.outcome(turn, *reference).is_none() && !forced {
                    return Err(format!("{id} was assigned before {reference} had ended"));
                }
            }
        }
        if step.kind == TargetKind::Sensor {
            let sensor = self.engine.running_sensors().find(|sensor| sensor.run == id.step.run);
            let sensor = sensor.ok_or_else(|| format!("{id} runs for no sensor"))?;
            if assignment.arguments != *sensor.checkpoint.as_ref().unwrap_or(&sensor.arguments) {
                return Err(format!("{id} was not started from its checkpoint"));
            }
        }
        Ok(())
    }

    pub fn complete(&mut self, execution: ExecutionId) -> Result<(), String> {
        let followers = self.engine.followers(execution);
        let value = format!("\"made by {execution}\"");
        let (stored, _) =
            result(Json::parse(value).map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
        if !self.engine.complete(Turn { now: self.now, past: &self.disk }, execution, stored) {
            return Err(format!("the result of {execution} was not taken"));
        }
        self.hear();
        let steps = self.steps();
        for follower in followers {
            let attempt = steps.get(&follower.step).and_then(|step| step.attempt(follower.attempt)).ok_or("lost")?;
            if attempt.state() != State::Cached || attempt.link != Some(ibid::model::Link::Source(execution)) {
                return Err(format!("{follower} followed {execution}, which succeeded, and is {:?}", attempt.state()));
            }
        }
        Ok(())
    }

    pub fn fail(&mut self, execution: ExecutionId, abandon: bool) -> Result<(), String> {
        let steps = self.steps();
        let step = &steps[&execution.step];
        let retried = step.retries_used < step.options.retries.limit && step.newest() == execution;
        let followers = self.engine.followers(execution);
        let turn = Turn { now: self.now, past: &self.disk };
        if abandon {
            self.engine.abandon(turn, execution, "test");
        } else {
            self.engine.fail(turn, execution, Failure::new("ValueError", "test"));
        }
        self.hear();
        let steps = self.steps();
        for follower in followers {
            let attempt = steps.get(&follower.step).and_then(|step| step.attempt(follower.attempt)).ok_or("lost")?;
            let next = execution.step.attempt(execution.attempt + 1);
            // Whatever was below the failed one may have been cancelled with it.
            let superseded = steps
                .get(&next.step)
                .and_then(|step| step.attempt(next.attempt))
                .is_some_and(|next| next.state() == State::Deferred);
            let fine = match attempt.state() {
                _ if superseded => true,
                State::Cancelled => true,
                State::Linked => retried && attempt.link == Some(ibid::model::Link::Leader(next)),
                State::Failed => !retried,
                _ => false,
            };
            if !fine {
                return Err(format!(
                    "{follower} followed {execution}, which failed (retried: {retried}), and is {:?}",
                    attempt.state()
                ));
            }
        }
        Ok(())
    }

    pub fn cancel(&mut self, id: StepId, force: bool) -> Result<(), String> {
        let whole_run = id.step == 1 && id.run.0.is_multiple_of(2);
        let asked = if whole_run { Id::Run(id.run) } else { Id::Step(id) };
        let over =
            if whole_run { self.engine.active_run(id.run).is_none() } else { self.engine.live_step(id).is_none() };
        let turn = Turn { now: self.now, past: &self.disk };
        match self.engine.cancel(turn, asked, force, "by hand") {
            Ok(cancelled) => {
                self.hear();
                let steps = self.steps();
                for stopped in &cancelled.stopped {
                    if !steps[stopped].attempts.iter().all(ibid::model::Attempt::is_over) {
                        return Err(format!("{stopped} was cancelled and is not over"));
                    }
                }
                if force && !over && !whole_run && !cancelled.stopped.contains(&id) {
                    return Err(format!("{id} was cancelled by force and goes on"));
                }
                Ok(())
            }
            Err(Refusal::AlreadyEnded(_)) if over => Ok(()),
            // What a sensor has started is not cancelled with it.
            Err(Refusal::AlreadyEnded(_)) if self.step(id).is_some_and(|step| step.kind == TargetKind::Sensor) => {
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    }

    pub fn rerun(&mut self, id: StepId) -> Result<(), String> {
        let before = self.steps().remove(&id).ok_or("no such step")?;
        let newest = before.attempts.last().ok_or("no attempt")?;
        let retry = newest.trigger == ibid::model::Trigger::Retry && newest.state() == State::Queued;
        let unfinished = matches!(newest.state(), State::Queued | State::Running)
            || (newest.state() == State::Spawned && newest.resolved.is_none());
        let sensor = before.kind == TargetKind::Sensor;
        let turn = Turn { now: self.now, past: &self.disk };
        match self.engine.rerun(turn, id, false) {
            Ok(execution) if retry => {
                (execution == before.newest()).then_some(()).ok_or_else(|| "a queued retry became another".to_owned())
            }
            Ok(execution) if !unfinished => {
                let after = self.steps().remove(&id).ok_or("lost")?;
                let attempt = after.attempt(execution.attempt).ok_or("no new attempt")?;
                if !matches!(attempt.state(), State::Queued | State::Spawned) {
                    return Err(format!("{execution} was forced and is {:?}", attempt.state()));
                }
                if after.attempts[..before.attempts.len()] != before.attempts[..] {
                    return Err(format!("re-running {id} changed its earlier attempts"));
                }
                Ok(())
            }
            Ok(execution) => Err(format!("{execution}: an unfinished step was run again")),
            Err(Refusal::Unfinished(..)) if unfinished => Ok(()),
            Err(Refusal::NotAWorkflow(..)) if sensor => Ok(()),
            Err(Refusal::UnknownTarget(_)) if self.engine.target(2, "m/a").is_none() => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}
