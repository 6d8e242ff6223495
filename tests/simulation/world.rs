//! An engine, its past, and hands that do what workers and people would.

use std::collections::{BTreeMap, BTreeSet};

use ibid::model::{
    CallOptions, Environment, ExecutionId, Json, Repository, Run, RunId, State, Step, StepId, TargetKind, TargetSpec,
};
use ibid_daemon::engine::{Effect, Engine, Refusal, Remembered, Turn, argument, sensor_key};

use crate::disk::Disk;

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
    Crash,
    StartSensor { environment: u8, argument: u8, fresh: bool },
    StopSensor { environment: u8 },
    Checkpoint { which: u8 },
    ForgetMemo { which: u8 },
    Interrupt,
    Base { based: bool },
}

/// Everything together.
pub struct World {
    pub engine: Engine,
    pub disk: Disk,
    pub now: i64,
    /// The latest that it ever was.
    pub latest: i64,
    pub next_worker: u32,
    next_token: u64,
    /// Waits that were not answered yet, and who waits.
    unanswered: BTreeMap<u64, ExecutionId>,
    /// How many things happen in one turn.
    turn_length: u32,
    /// How many have in the open one.
    open: u32,
    /// What the open turn gives to workers.
    giving: BTreeSet<ExecutionId>,
    /// What was given to workers.
    given: BTreeSet<ExecutionId>,
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
        shell: None,
    };
    vec![in_environment(1), in_environment(3)]
}

impl World {
    /// A world in which so many things happen in one turn.
    pub fn new(turn_length: u32) -> Self {
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
            turn_length,
            open: 0,
            giving: BTreeSet::new(),
            given: BTreeSet::new(),
        }
    }

    /// Every step there is, the live ones as they are now.
    pub fn steps(&self) -> BTreeMap<StepId, Step> {
        let mut all = self.disk.finished.clone();
        all.extend(self.engine.ended_in_turn().map(|step| (step.id, step.clone())));
        all.extend(self.engine.live_steps().map(|step| (step.id, step.clone())));
        all
    }

    /// A step as it is now.
    pub fn step(&self, id: StepId) -> Option<&Step> {
        let ended = || self.engine.ended_in_turn().find(|step| step.id == id);
        self.engine.live_step(id).or_else(ended).or_else(|| self.disk.finished.get(&id))
    }

    pub fn run_of(&self, id: RunId) -> Option<Run> {
        self.engine.run(Turn { now: self.now, past: &self.disk }, id)
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

    /// Hears what the engine says. Once enough has happened in the turn, it is closed.
    pub fn hear(&mut self) {
        for effect in self.engine.take_effects() {
            if let Effect::Answer { token, .. } = effect {
                self.unanswered.remove(&token);
            }
        }
        self.open += 1;
        if self.open >= self.turn_length {
            self.commit();
        }
    }

    /// Moves what was decided to the disk; as one turn it survives as a whole. Only then is it told.
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
        self.open = 0;
        self.given.append(&mut self.giving);
    }

    /// The process ends and another takes up everything.
    pub fn restart(&mut self) {
        self.hear();
        self.commit();
        self.crash();
    }

    /// The process dies and another takes up what is on the disk: what the open turn held is lost, and was told
    /// to nobody.
    pub fn crash(&mut self) {
        self.giving.clear();
        self.open = 0;
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
            Op::Crash => self.crash(),
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
        self.hear();
        Ok(())
    }

    /// A running execution that waits for nothing, as only such a one can end by itself.
    fn pick_idle(&self, which: u8) -> Option<ExecutionId> {
        let idle: Vec<_> =
            self.in_state(State::Running).into_iter().filter(|id| self.engine.waiting_on(*id).is_empty()).collect();
        pick(&idle, which)
    }

    /// Everything comes to its end: nothing is stuck, whatever happened before.
    pub fn finish(&mut self) -> Result<(), String> {
        self.engine.set_base(2, Some("base")).map_err(|error| error.to_string())?;
        for environment in 1..=3 {
            self.stop_sensor(environment)?;
        }
        for _ in 0..2000 {
            self.hear();
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
    /// Notes that an execution goes to a worker with the open turn: whatever was lost meanwhile, only once.
    pub fn give(&mut self, execution: ExecutionId) -> Result<(), String> {
        if self.given.contains(&execution) || !self.giving.insert(execution) {
            return Err(format!("{execution} was given to a worker twice"));
        }
        Ok(())
    }

    /// How many executions of the repository may run at once.
    pub const fn concurrency() -> u32 {
        CONCURRENCY
    }
}

pub fn argument_of(value: u8) -> ibid::model::Argument {
    let json = Json::parse(value.to_string()).unwrap_or_else(|_| Json::null());
    argument(json).map(|(argument, _)| argument).unwrap_or_else(|error| panic!("a number is a value: {error}"))
}

pub fn reference_to(step: StepId) -> ibid::model::Argument {
    let json = Json::parse(format!(r#"{{"$type":"execution","id":"{step}"}}"#)).unwrap_or_else(|_| Json::null());
    argument(json).map(|(argument, _)| argument).unwrap_or_else(|error| panic!("a reference is a value: {error}"))
}

pub fn pick<T: Copy>(items: &[T], which: u8) -> Option<T> {
    (!items.is_empty()).then(|| items[usize::from(which) % items.len()])
}
