//! An engine, its past, and hands that do what workers and people would.

use std::collections::BTreeMap;

use ibid::model::{
    Cache, CallOptions, Environment, ExecutionId, Failure, Id, Json, Repository, Retries, Run, RunId, State, Step,
    StepId, TargetKind, TargetSpec,
};
use ibid_daemon::engine::{
    Call, Engine, Entry, Lookup, Refusal, Remembered, Start, StartRecord, Turn, argument, result,
};

use crate::model;

/// One thing that happens. Numbers choose among what there is, modulo its count.
#[derive(Debug, Clone)]
pub enum Op {
    Start { environment: u8, cached: bool, argument: u8 },
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
    next_worker: u32,
    next_token: u64,
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
        targets: vec![target("a", TargetKind::Task), target("b", TargetKind::Task), target("w", TargetKind::Workflow)],
        concurrency: CONCURRENCY,
        launch: None,
        generation: 1,
    };
    vec![in_environment(1), in_environment(3)]
}

impl World {
    pub fn new() -> Self {
        let mut disk = Disk { next_run: 1, ..Disk::default() };
        let remembered =
            Remembered { environments: environments(), repositories: repositories(), ..Remembered::default() };
        let engine = Engine::recover(Turn { now: 1_000_000, past: &disk }, remembered);
        disk.next_sequence = 0;
        Self { engine, disk, now: 1_000_000, next_worker: 1, next_token: 1 }
    }

    /// Every step there is, the live ones as they are now.
    pub fn steps(&self) -> BTreeMap<StepId, Step> {
        let mut all = self.disk.finished.clone();
        all.extend(self.engine.live_steps().map(|step| (step.id, step.clone())));
        all
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
        for step in changes.finished {
            self.disk.live.remove(&step.id);
            self.disk.finished.insert(step.id, step);
        }
        self.disk.live.extend(changes.live.into_iter().map(|step| (step.id, step)));
        for run in changes.quiet {
            self.disk.active.remove(&run.id);
            self.disk.quiet.insert(run.id, run);
        }
        self.disk.active.extend(changes.active.into_iter().map(|run| (run.id, run)));
        self.disk.entries.extend(changes.entries);
        self.disk.starts.extend(changes.starts);
        self.disk.next_sequence = changes.next_sequence;
        self.disk.next_run = changes.next_run;
        self.engine.take_effects();
    }

    /// The process dies and another takes up what is on the disk.
    fn restart(&mut self) {
        self.commit();
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
            environments: environments(),
            repositories: repositories(),
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
            Op::Start { environment, cached, argument: value } => self.start(*environment, *cached, *value)?,
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
                    Ok(_) | Err(Refusal::Deadlock { .. }) => {}
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
                self.engine.tick(Turn { now: self.now, past: &self.disk });
            }
            Op::Restart => self.restart(),
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

    fn start(&mut self, environment: u8, cached: bool, value: u8) -> Result<(), String> {
        let environment = u32::from(environment % 3) + 1;
        let options = CallOptions { cache: if cached { Cache::On } else { Cache::Off }, ..CallOptions::default() };
        let expected = cached.then(|| model::look_up(self, environment, "m/w", value, None, None));
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

    fn call(&mut self, caller: ExecutionId, target: u8, value: u8, cache: u8, extra: u8) -> Result<(), String> {
        let target = ["m/a", "m/b", "m/w"][usize::from(target % 3)];
        let environment = self.run_of(caller.step.run).map_or(0, |run| run.environment);
        let cache = [Cache::Off, Cache::On, Cache::On, Cache::MaxAge(1500)][usize::from(cache % 4)];
        let retries = match extra {
            1 => Retries { limit: 1, delay_min: 0, delay_max: 0 },
            2 => Retries { limit: 2, delay_min: 1000, delay_max: 2000 },
            _ => Retries::default(),
        };
        let options = CallOptions {
            cache,
            retries,
            delay: if extra == 3 { 1000 } else { 0 },
            timeout: (extra == 4).then_some(3000),
            ..CallOptions::default()
        };
        let expected = (cache != Cache::Off)
            .then(|| model::look_up(self, environment, target, value, cache.max_age(), Some(caller)));
        let call = Call { target: target.to_owned(), arguments: vec![argument_of(value)], options };
        let turn = Turn { now: self.now, past: &self.disk };
        let called = self.engine.call(turn, caller, vec![call]).map_err(|error| error.to_string())?;
        let id = called[0].step;
        self.commit();
        let step = self.steps().remove(&id).ok_or("the called step is nowhere")?;
        match expected {
            Some(expected) => model::compare(&expected, &step.attempts[0], "call"),
            None if matches!(step.state(), State::Queued | State::Spawned) => Ok(()),
            None => Err(format!("{id} was called with caching off and is {:?}", step.state())),
        }
    }

    fn assign(&mut self) -> Result<(), String> {
        for environment in [1, 3] {
            let key = (environment, REPOSITORY.to_owned());
            self.next_worker += 1;
            let turn = Turn { now: self.now, past: &self.disk };
            let free = self.engine.free_slots(&key);
            if let Some(assignment) = self.engine.assign(turn, &key, self.next_worker) {
                if free == 0 {
                    return Err(format!("{} was assigned without a free slot", assignment.execution));
                }
                if !self.engine.is_running(assignment.execution) {
                    return Err(format!("{} was assigned but does not run", assignment.execution));
                }
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
            let fine = match attempt.state() {
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
            Err(error) => Err(error.to_string()),
        }
    }

    fn rerun(&mut self, id: StepId) -> Result<(), String> {
        let before = self.steps().remove(&id).ok_or("no such step")?;
        let newest = before.attempts.last().ok_or("no attempt")?;
        let retry = newest.trigger == ibid::model::Trigger::Retry && newest.state() == State::Queued;
        let unfinished = matches!(newest.state(), State::Queued | State::Running)
            || (newest.state() == State::Spawned && newest.run_ended.is_none());
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
            Err(error) => Err(error.to_string()),
        }
    }

    /// Everything comes to its end: nothing is stuck, whatever happened before.
    pub fn finish(&mut self) -> Result<(), String> {
        for _ in 0..2000 {
            self.commit();
            if self.engine.live_steps().next().is_none() {
                return if self.engine.active_runs().next().is_none() {
                    Ok(())
                } else {
                    Err("a run is active though nothing in it is unfinished".to_owned())
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

fn pick<T: Copy>(items: &[T], which: u8) -> Option<T> {
    (!items.is_empty()).then(|| items[usize::from(which) % items.len()])
}
