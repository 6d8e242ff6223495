//! An engine, its past, and hands that do what workers and people would.

use std::collections::BTreeMap;

use ibid::model::{
    Cache, CallOptions, Defer, Environment, ExecutionId, Failure, Id, Json, Memo, Repository, Retries, Run, RunId,
    Sensor, State, Step, StepId, TargetKind, TargetSpec, Trigger, Wait,
};
use ibid_daemon::engine::{
    Assignment, Call, Effect, Engine, Entry, Lookup, Refusal, Remembered, Start, StartRecord, Turn, argument, result,
    sensor_key,
};

use crate::model;

/// One thing that happens. Numbers choose among what there is, modulo its count.
#[derive(Debug, Clone)]
pub enum Op {
    Start { environment: u8, cached: bool, argument: u8, extra: u8 },
    Call { caller: u8, target: u8, argument: u8, cache: u8, extra: u8 },
    Wait { waiter: u8, target: u8 },
    Assign { count: u8 },
    Complete { which: u8 },
    Fail { which: u8 },
    Abandon { which: u8 },
    Cancel { which: u8, force: bool },
    Rerun { which: u8 },
    Clock { by: i64 },
    Restart,
    StartSensor { environment: u8, argument: u8, fresh: bool },
    StopSensor { environment: u8 },
    Checkpoint { which: u8 },
    ForgetMemo { which: u8 },
    Interrupt,
    Base { based: bool },
}

/// What a store would hold.
#[derive(Default)]
pub struct Disk {
    pub live: BTreeMap<StepId, Step>,
    pub finished: BTreeMap<StepId, Step>,
    pub active: BTreeMap<RunId, Run>,
    pub quiet: BTreeMap<RunId, Run>,
    entries: BTreeMap<(u32, [u8; 32]), Entry>,
    starts: BTreeMap<String, StartRecord>,
    environments: BTreeMap<u32, Environment>,
    sensors: BTreeMap<(u32, [u8; 32]), Sensor>,
    next_sequence: u64,
    next_run: u64,
}

impl Lookup for Disk {
    fn entry(&self, environment: u32, identity: &[u8; 32]) -> Option<Entry> {
        self.entries.get(&(environment, *identity)).cloned()
    }

    fn step(&self, id: StepId) -> Option<Step> {
        self.finished.get(&id).cloned()
    }

    fn run(&self, id: RunId) -> Option<Run> {
        self.quiet.get(&id).cloned()
    }

    fn start(&self, key: &str) -> Option<StartRecord> {
        self.starts.get(key).cloned()
    }
}

/// Everything together.
pub struct World {
    pub engine: Engine,
    pub disk: Disk,
    pub now: i64,
    /// The latest that it ever was.
    latest: i64,
    next_worker: u32,
    next_token: u64,
    /// Waits that were not answered yet, and who waits.
    unanswered: BTreeMap<u64, ExecutionId>,
}

/// The one repository.
pub const REPOSITORY: &str = "m";
const CONCURRENCY: u32 = 3;

fn environments() -> Vec<Environment> {
    let environment = |number, name: &str, base: Option<&str>| Environment {
        number,
        project: "p".to_owned(),
        name: name.to_owned(),
        base: base.map(str::to_owned),
    };
    vec![environment(1, "base", None), environment(2, "derived", Some("base")), environment(3, "other", None)]
}

fn repositories() -> Vec<Repository> {
    let target = |name: &str, kind| TargetSpec {
        name: name.to_owned(),
        kind,
        parameters: Vec::new(),
        options: CallOptions::default(),
        own_key: false,
        doc: None,
        source: None,
    };
    let in_environment = |environment| Repository {
        environment,
        name: REPOSITORY.to_owned(),
        targets: vec![
            target("a", TargetKind::Task),
            target("b", TargetKind::Task),
            target("w", TargetKind::Workflow),
            target("s", TargetKind::Sensor),
        ],
        concurrency: CONCURRENCY,
        launch: None,
        generation: 1,
    };
    vec![in_environment(1), in_environment(3)]
}

impl World {
    pub fn new() -> Self {
        let environments: BTreeMap<_, _> = environments().into_iter().map(|e| (e.number, e)).collect();
        let mut disk = Disk { next_run: 1, environments: environments.clone(), ..Disk::default() };
        let remembered = Remembered {
            environments: environments.into_values().collect(),
            repositories: repositories(),
            ..Remembered::default()
        };
        let engine = Engine::recover(Turn { now: 1_000_000, past: &disk }, remembered);
        disk.next_sequence = 0;
        Self {
            engine,
            disk,
            now: 1_000_000,
            latest: 1_000_000,
            next_worker: 1,
            next_token: 1,
            unanswered: BTreeMap::new(),
        }
    }

    /// Every step there is, the live ones as they are now.
    pub fn steps(&self) -> BTreeMap<StepId, Step> {
        let mut all = self.disk.finished.clone();
        all.extend(self.engine.live_steps().map(|step| (step.id, step.clone())));
        all
    }

    /// A step as it is now.
    pub fn step(&self, id: StepId) -> Option<&Step> {
        self.engine.live_step(id).or_else(|| self.disk.finished.get(&id))
    }

    pub fn run_of(&self, id: RunId) -> Option<&Run> {
        self.engine.active_run(id).or_else(|| self.disk.quiet.get(&id))
    }

    pub fn in_state(&self, state: State) -> Vec<ExecutionId> {
        let mut found = Vec::new();
        for step in self.engine.live_steps() {
            for (number, attempt) in (1u32..).zip(&step.attempts) {
                if attempt.state() == state {
                    found.push(step.id.attempt(number));
                }
            }
        }
        found
    }

    /// Moves what was decided to the disk; as one turn it survives as a whole.
    pub fn commit(&mut self) {
        let changes = self.engine.drain();
        // In the order of the store.
        self.disk.live.extend(changes.live.into_iter().map(|step| (step.id, step)));
        for step in changes.finished {
            self.disk.live.remove(&step.id);
            self.disk.finished.insert(step.id, step);
        }
        for run in changes.quiet {
            self.disk.active.remove(&run.id);
            self.disk.quiet.insert(run.id, run);
        }
        self.disk.active.extend(changes.active.into_iter().map(|run| (run.id, run)));
        self.disk.entries.extend(changes.entries);
        self.disk.starts.extend(changes.starts);
        self.disk.environments.extend(changes.environments.into_iter().map(|e| (e.number, e)));
        self.disk.sensors.extend(changes.sensors.into_iter().map(|sensor| (sensor_key(&sensor), sensor)));
        self.disk.next_sequence = changes.next_sequence;
        self.disk.next_run = changes.next_run;
        for effect in self.engine.take_effects() {
            if let Effect::Answer { token, .. } = effect {
                self.unanswered.remove(&token);
            }
        }
    }

    /// The process dies and another takes up what is on the disk.
    pub fn restart(&mut self) {
        self.commit();
        self.unanswered.clear();
        let disk = &self.disk;
        let runs = disk
            .active
            .values()
            .map(|run| {
                let steps = disk.finished.keys().chain(disk.live.keys()).filter(|id| id.run == run.id);
                let mut recounted = run.clone();
                let live = disk.live.values().filter(|step| step.id.run == run.id);
                let rest =
                    disk.finished.values().filter(|step| step.id.run == run.id && !disk.live.contains_key(&step.id));
                recounted.counts = ibid::model::Counts { saved: run.counts.saved, ..Default::default() };
                for step in live.chain(rest) {
                    ibid_daemon::engine::count_step(&mut recounted.counts, step);
                }
                (recounted, steps.map(|id| id.step).max().unwrap_or(0) + 1)
            })
            .collect();
        let remembered = Remembered {
            environments: disk.environments.values().cloned().collect(),
            repositories: repositories(),
            sensors: disk.sensors.values().cloned().collect(),
            runs,
            steps: disk.live.values().cloned().collect(),
            next_sequence: disk.next_sequence,
            next_run: disk.next_run,
        };
        self.engine = Engine::recover(Turn { now: self.now, past: disk }, remembered);
        self.commit();
    }

    /// Lets something happen and compares what came of it with the model.
    pub fn play(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Start { environment, cached, argument: value, extra } => {
                self.start(*environment, *cached, *value, *extra)?;
            }
            Op::Call { caller, target, argument: value, cache, extra } => {
                let Some(caller) = pick(&self.in_state(State::Running), *caller) else { return Ok(()) };
                self.call(caller, *target, *value, *cache, *extra)?;
            }
            Op::Wait { waiter, target } => {
                let steps: Vec<StepId> = self.steps().into_keys().collect();
                let (Some(waiter), Some(target)) =
                    (pick(&self.in_state(State::Running), *waiter), pick(&steps, *target))
                else {
                    return Ok(());
                };
                self.next_token += 1;
                let token = self.next_token;
                match self.engine.wait(Turn { now: self.now, past: &self.disk }, waiter, token, target) {
                    Ok(None) => {
                        self.unanswered.insert(token, waiter);
                    }
                    Ok(Some(_)) | Err(Refusal::Deadlock { .. }) => {}
                    Err(other) => return Err(format!("wait of {waiter} for {target}: {other}")),
                }
            }
            Op::Assign { count } => {
                for _ in 0..*count {
                    self.assign()?;
                }
            }
            Op::Complete { which } => {
                let Some(execution) = self.pick_idle(*which) else { return Ok(()) };
                self.complete(execution)?;
            }
            Op::Fail { which } => {
                let Some(execution) = self.pick_idle(*which) else { return Ok(()) };
                self.fail(execution, false)?;
            }
            Op::Abandon { which } => {
                let Some(execution) = pick(&self.in_state(State::Running), *which) else { return Ok(()) };
                self.fail(execution, true)?;
            }
            Op::Cancel { which, force } => {
                let steps: Vec<StepId> = self.steps().into_keys().collect();
                let Some(step) = pick(&steps, *which) else { return Ok(()) };
                self.cancel(step, *force)?;
            }
            Op::Rerun { which } => {
                let steps: Vec<StepId> = self.steps().into_keys().collect();
                let Some(step) = pick(&steps, *which) else { return Ok(()) };
                self.rerun(step)?;
            }
            Op::Clock { by } => {
                self.now += by;
                self.latest = self.latest.max(self.now);
                self.engine.tick(Turn { now: self.now, past: &self.disk });
            }
            Op::Restart => self.restart(),
            Op::StartSensor { environment, argument: value, fresh } => {
                self.start_sensor(u32::from(*environment) + 1, *value, *fresh)?;
            }
            Op::StopSensor { environment } => self.stop_sensor(u32::from(*environment) + 1)?,
            Op::Checkpoint { which } => {
                let sensors = self.in_state(State::Running).into_iter().filter(|id| self.engine.runs_sensor(*id));
                let Some(sensor) = pick(&sensors.collect::<Vec<_>>(), *which) else { return Ok(()) };
                self.engine.set_checkpoint(sensor, vec![argument_of(*which)]).map_err(|error| error.to_string())?;
            }
            Op::ForgetMemo { which } => {
                let callers = self.in_state(State::Running);
                let pairs: Vec<_> = callers
                    .iter()
                    .flat_map(|caller| self.engine.live_steps().map(|step| (*caller, step.id)))
                    .filter(|(caller, step)| self.engine.is_memo_caller(*caller, *step))
                    .collect();
                let Some((caller, step)) = pick(&pairs, *which) else { return Ok(()) };
                self.engine.forget_memo(Turn { now: self.now, past: &self.disk }, caller, step);
            }
            Op::Interrupt => {
                self.engine.interrupt_sensors(Turn { now: self.now, past: &self.disk }, "test");
            }
            Op::Base { based } => {
                self.engine.set_base(2, based.then_some("base")).map_err(|error| error.to_string())?;
            }
        }
        self.commit();
        Ok(())
    }

    /// A running execution that waits for nothing, as only such a one can end by itself.
    fn pick_idle(&self, which: u8) -> Option<ExecutionId> {
        let idle: Vec<_> =
            self.in_state(State::Running).into_iter().filter(|id| self.engine.waiting_on(*id).is_empty()).collect();
        pick(&idle, which)
    }

    fn start(&mut self, environment: u8, cached: bool, value: u8, extra: u8) -> Result<(), String> {
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
        };
        let turn = Turn { now: self.now, past: &self.disk };
        let started = self.engine.start(turn, start).map_err(|error| error.to_string())?;
        self.commit();
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

    fn call(&mut self, caller: ExecutionId, target: u8, value: u8, cache: u8, extra: u8) -> Result<(), String> {
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
        let call = Call { target: target.to_owned(), arguments, options, group: None };
        let turn = Turn { now: self.now, past: &self.disk };
        let called = self.engine.call(turn, caller, vec![call]).map_err(|error| error.to_string())?;
        let id = called[0].step;
        self.commit();
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

    fn start_sensor(&mut self, environment: u32, value: u8, fresh: bool) -> Result<(), String> {
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

    fn stop_sensor(&mut self, environment: u32) -> Result<(), String> {
        let turn = Turn { now: self.now, past: &self.disk };
        let stopped = self.engine.stop_sensor(turn, environment, "m/s");
        let left = self.engine.running_sensors().any(|sensor| sensor.environment == environment);
        self.commit();
        for run in stopped {
            if self.engine.live_step(run.root()).is_some() {
                return Err(format!("the sensor of {run} was stopped and goes on"));
            }
        }
        if left { Err("a stopped sensor is kept running".to_owned()) } else { Ok(()) }
    }

    fn assign(&mut self) -> Result<(), String> {
        for environment in [1, 3] {
            let key = (environment, REPOSITORY.to_owned());
            self.next_worker += 1;
            let turn = Turn { now: self.now, past: &self.disk };
            let free = self.engine.free_slots(&key);
            if let Some(assignment) = self.engine.assign(turn, &key, self.next_worker) {
                self.may_start(&assignment)?;
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

    fn complete(&mut self, execution: ExecutionId) -> Result<(), String> {
        let followers = self.engine.followers(execution);
        let value = format!("\"made by {execution}\"");
        let (stored, _) =
            result(Json::parse(value).map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
        if !self.engine.complete(Turn { now: self.now, past: &self.disk }, execution, stored) {
            return Err(format!("the result of {execution} was not taken"));
        }
        self.commit();
        let steps = self.steps();
        for follower in followers {
            let attempt = steps.get(&follower.step).and_then(|step| step.attempt(follower.attempt)).ok_or("lost")?;
            if attempt.state() != State::Cached || attempt.link != Some(ibid::model::Link::Source(execution)) {
                return Err(format!("{follower} followed {execution}, which succeeded, and is {:?}", attempt.state()));
            }
        }
        Ok(())
    }

    fn fail(&mut self, execution: ExecutionId, abandon: bool) -> Result<(), String> {
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
        self.commit();
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

    fn cancel(&mut self, id: StepId, force: bool) -> Result<(), String> {
        let whole_run = id.step == 1 && id.run.0.is_multiple_of(2);
        let asked = if whole_run { Id::Run(id.run) } else { Id::Step(id) };
        let over =
            if whole_run { self.engine.active_run(id.run).is_none() } else { self.engine.live_step(id).is_none() };
        let turn = Turn { now: self.now, past: &self.disk };
        match self.engine.cancel(turn, asked, force, "by hand") {
            Ok(cancelled) => {
                self.commit();
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

    fn rerun(&mut self, id: StepId) -> Result<(), String> {
        let before = self.steps().remove(&id).ok_or("no such step")?;
        let newest = before.attempts.last().ok_or("no attempt")?;
        let retry = newest.trigger == ibid::model::Trigger::Retry && newest.state() == State::Queued;
        let unfinished = matches!(newest.state(), State::Queued | State::Running)
            || (newest.state() == State::Spawned && newest.resolved.is_none());
        let sensor = before.kind == TargetKind::Sensor;
        let turn = Turn { now: self.now, past: &self.disk };
        match self.engine.rerun(turn, id) {
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

    /// Everything comes to its end: nothing is stuck, whatever happened before.
    pub fn finish(&mut self) -> Result<(), String> {
        self.engine.set_base(2, Some("base")).map_err(|error| error.to_string())?;
        for environment in 1..=3 {
            self.stop_sensor(environment)?;
        }
        for _ in 0..2000 {
            self.commit();
            if self.engine.live_steps().next().is_none() {
                if self.engine.active_runs().next().is_some() {
                    return Err("a run is active though nothing in it is unfinished".to_owned());
                }
                let held = self.engine.held();
                if held > 0 {
                    return Err(format!("nothing is unfinished and the engine holds {held} things"));
                }
                return if self.unanswered.is_empty() {
                    Ok(())
                } else {
                    Err(format!("these wait for ever: {:?}", self.unanswered))
                };
            }
            self.now += 1000;
            self.engine.tick(Turn { now: self.now, past: &self.disk });
            self.assign()?;
            if let Some(execution) = self.pick_idle(0) {
                self.complete(execution)?;
            }
        }
        let stuck: Vec<_> =
            self.engine.live_steps().map(|step| format!("{} {:?}", step.newest(), step.state())).collect();
        Err(format!("these never end: {stuck:?}"))
    }
}

impl World {
    /// How many executions of the repository may run at once.
    pub const fn concurrency() -> u32 {
        CONCURRENCY
    }
}

fn argument_of(value: u8) -> ibid::model::Argument {
    let json = Json::parse(value.to_string()).unwrap_or_else(|_| Json::null());
    argument(json).map(|(argument, _)| argument).unwrap_or_else(|error| panic!("a number is a value: {error}"))
}

fn reference_to(step: StepId) -> ibid::model::Argument {
    let json = Json::parse(format!(r#"{{"$type":"execution","id":"{step}"}}"#)).unwrap_or_else(|_| Json::null());
    argument(json).map(|(argument, _)| argument).unwrap_or_else(|error| panic!("a reference is a value: {error}"))
}

fn pick<T: Copy>(items: &[T], which: u8) -> Option<T> {
    (!items.is_empty()).then(|| items[usize::from(which) % items.len()])
}
