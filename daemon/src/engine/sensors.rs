//! Sensors: started and stopped by hand, and kept running in between.

use ibid::model::{
    Argument, CallOptions, Decision, ExecutionId, Millis, RunId, Sensor, Step, StepId, TargetKind, Trigger,
};

use super::{Engine, Refusal, Turn, request_digest};

/// Environment, and digest of target and arguments.
pub(super) type Key = (u32, [u8; 32]);

/// What tells one instance from the others.
#[must_use]
pub fn sensor_key(sensor: &Sensor) -> (u32, [u8; 32]) {
    (sensor.environment, request_digest(&sensor.target, &sensor.arguments))
}

/// A sensor that ran this long was healthy: its back-off begins anew.
pub const SENSOR_HEALTHY: Millis = 60_000;

const BACK_OFF_MIN: Millis = 1_000;
const BACK_OFF_MAX: Millis = 60_000;

/// After this many attempts or steps a sensor goes on in a run of its own, so that no record grows for ever.
const ATTEMPTS_MAX: u32 = 100;
const STEPS_MAX: u32 = 10_000;

/// What starting a sensor came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SensorStarted {
    /// Where its executions are.
    pub run: RunId,
    /// It was running before.
    pub already: bool,
    /// It goes on from its checkpoint.
    pub resumed: bool,
}

impl Engine {
    /// Starts a sensor, from its checkpoint if it has run with these arguments before.
    ///
    /// # Errors
    /// Where there is no such sensor.
    pub fn start_sensor(
        &mut self,
        t: Turn<'_>,
        environment: u32,
        target: &str,
        arguments: Vec<Argument>,
        fresh: bool,
    ) -> Result<SensorStarted, Refusal> {
        let Some((_, spec)) = self.target(environment, target) else {
            return Err(Refusal::UnknownTarget(target.to_owned()));
        };
        if spec.kind != TargetKind::Sensor {
            return Err(Refusal::NotASensor(target.to_owned(), spec.kind.name()));
        }
        let options = spec.options.clone();
        let key = (environment, request_digest(target, &arguments));
        let known = self.sensors.get(&key);
        if let Some(running) = known.filter(|sensor| sensor.stopped.is_none()) {
            return Ok(SensorStarted { run: running.run, already: true, resumed: false });
        }
        let checkpoint = known.and_then(|sensor| sensor.checkpoint.clone()).filter(|_| !fresh);
        let resumed = checkpoint.is_some();
        let start_with = checkpoint.clone().unwrap_or_else(|| arguments.clone());
        let run = self.open_run(t, environment, target, None);
        let sensor = Sensor {
            environment,
            target: target.to_owned(),
            arguments,
            checkpoint,
            run,
            started: t.now,
            stopped: None,
            restarts: 0,
            short_lived: 0,
        };
        self.sensors.insert(key, sensor);
        self.sensor_runs.insert(run, key);
        self.note_sensor(key);
        self.insert_sensor(t, run, target.to_owned(), start_with, options, (Trigger::Hand, Decision::ByHand), t.now);
        self.settle(t);
        Ok(SensorStarted { run, already: false, resumed })
    }

    /// Stops all instances of a sensor in an environment, for good, and says which.
    pub fn stop_sensor(&mut self, t: Turn<'_>, environment: u32, target: &str) -> Vec<RunId> {
        let of_target = |sensor: &&Sensor| sensor.environment == environment && sensor.target == target;
        let runs: Vec<RunId> = self.running_sensors().filter(of_target).map(|sensor| sensor.run).collect();
        for run in &runs {
            // What it has started goes on; only the sensor itself is stopped.
            let stopped = self.cancel(t, ibid::model::Id::Step(run.root()), true, "by hand");
            debug_assert!(stopped.is_ok(), "a running sensor has an unfinished step");
        }
        runs
    }

    /// From now on the instance whose executions are in this run is not started again.
    pub(super) fn forget_sensor(&mut self, t: Turn<'_>, run: RunId) {
        let Some(key) = self.sensor_runs.remove(&run) else { return };
        if let Some(sensor) = self.sensors.get_mut(&key) {
            sensor.stopped = Some(t.now);
        }
        self.note_sensor(key);
    }

    /// A running sensor says what it wants to be started with the next time.
    ///
    /// # Errors
    /// Where the execution is not running or not a sensor's.
    pub fn set_checkpoint(&mut self, execution: ExecutionId, arguments: Vec<Argument>) -> Result<(), Refusal> {
        if !self.is_running(execution) {
            return Err(Refusal::NotRunning(execution));
        }
        let key = self.sensor_runs.get(&execution.step.run).copied().filter(|_| execution.step.step == 1);
        let Some(key) = key else { return Err(Refusal::NoSensor(execution)) };
        if let Some(sensor) = self.sensors.get_mut(&key) {
            sensor.checkpoint = Some(arguments);
        }
        self.note_sensor(key);
        Ok(())
    }

    fn note_sensor(&mut self, key: Key) {
        let Some(sensor) = self.sensors.get(&key) else { return };
        self.recent.rest.sensors.retain(|other| sensor_key(other) != key);
        self.recent.rest.sensors.push(sensor.clone());
        self.recent.rest.durable = true;
    }

    /// All instances that were ever started, also those that were stopped.
    pub fn sensors(&self) -> impl Iterator<Item = &Sensor> {
        self.sensors.values()
    }

    /// The instances that are kept running.
    pub fn running_sensors(&self) -> impl Iterator<Item = &Sensor> {
        self.sensors.values().filter(|sensor| sensor.stopped.is_none())
    }

    /// Ends the running executions of all sensors: they start again, from their checkpoints, when they may.
    pub fn interrupt_sensors(&mut self, t: Turn<'_>, cause: &str) {
        self.interrupt(t, cause, |_, _| true);
    }

    /// New code was registered, or is found elsewhere: sensors that run the old start again at once.
    pub fn renew_sensors(&mut self, t: Turn<'_>, registered: Option<&super::RepositoryKey>) {
        self.interrupt(t, "new code was registered", |engine, execution| {
            let running = engine.nodes.get(&execution).and_then(|node| node.repository.as_ref());
            let found = engine.repository_of(execution);
            running != Some(&found) || running == registered
        });
    }

    fn interrupt(&mut self, t: Turn<'_>, cause: &str, wanted: impl Fn(&Self, ExecutionId) -> bool) {
        let newest = |run: &RunId| self.steps.get(&run.root()).map(|live| live.step.newest());
        let running: Vec<ExecutionId> = self
            .sensor_runs
            .keys()
            .filter_map(newest)
            .filter(|execution| self.is_running(*execution) && wanted(self, *execution))
            .collect();
        self.interrupting = true;
        for execution in running {
            self.stop_worker(execution);
            self.abandon(t, execution, cause);
        }
        self.interrupting = false;
    }

    /// A sensor's execution is over: unless it was stopped by hand, it is started again.
    pub(super) fn restart_sensor(&mut self, t: Turn<'_>, ended: ExecutionId) {
        let Some(key) = self.sensor_runs.get(&ended.step.run).copied().filter(|_| ended.step.step == 1) else { return };
        let Some(live) = self.steps.get(&ended.step).filter(|live| live.step.newest() == ended) else { return };
        let ran = live.step.attempts.last().and_then(ibid::model::Attempt::duration);
        let (target, options) = (live.step.target.clone(), live.step.options.clone());
        let state = live.step.state();
        let Some(sensor) = self.sensors.get_mut(&key) else { return };
        let due = if self.interrupting {
            t.now
        } else {
            if ran.unwrap_or(0) >= SENSOR_HEALTHY {
                sensor.short_lived = 0;
            }
            let doubled = BACK_OFF_MIN.saturating_mul(1 << sensor.short_lived.min(16));
            sensor.short_lived = sensor.short_lived.saturating_add(1);
            t.now.saturating_add_unsigned(doubled.min(BACK_OFF_MAX))
        };
        sensor.restarts = sensor.restarts.saturating_add(1);
        let arguments = sensor.checkpoint.clone().unwrap_or_else(|| sensor.arguments.clone());
        let decision = Decision::Restarted { after: ended };
        let many_steps = self.runs.get(&ended.step.run).is_some_and(|active| active.next_step > STEPS_MAX);
        if ended.attempt >= ATTEMPTS_MAX || many_steps {
            let run = self.open_run(t, key.0, &target, None);
            self.sensor_runs.remove(&ended.step.run);
            self.sensor_runs.insert(run, key);
            if let Some(sensor) = self.sensors.get_mut(&key) {
                sensor.run = run;
            }
            self.insert_sensor(t, run, target, arguments, options, (Trigger::Restart, decision), due);
        } else {
            let cause = format!("kept running after {ended} {}", super::finish::ending_in_words(state));
            let next = self.push_attempt(t, ended.step, Trigger::Restart, decision, due, cause);
            if let Some(live) = self.steps.get_mut(&ended.step) {
                live.step.arguments = arguments;
            }
            self.enqueue(t, next);
        }
        self.note_sensor(key);
    }

    #[expect(clippy::too_many_arguments, reason = "each is one member of the step that is made here")]
    fn insert_sensor(
        &mut self,
        t: Turn<'_>,
        run: RunId,
        target: String,
        arguments: Vec<Argument>,
        options: CallOptions,
        (trigger, decision): (Trigger, Decision),
        due: ibid::model::Timestamp,
    ) {
        let step = Step { kind: TargetKind::Sensor, ..super::submit::root(run, target, arguments, options) };
        self.insert_step(t, step, trigger, decision, due, None);
    }

    /// Whether a step is a call of a workflow by a sensor: what it starts is never below the sensor.
    pub(super) fn is_started_by_sensor(&self, t: Turn<'_>, id: StepId) -> bool {
        let Some(live) = self.steps.get(&id) else { return false };
        let Some(caller) = live.step.caller else { return false };
        live.step.kind == TargetKind::Workflow
            && self.step(t, caller.step).is_some_and(|step| step.kind == TargetKind::Sensor)
    }

    pub(super) fn is_sensor(&self, id: StepId) -> bool {
        self.step_in_memory(id).is_some_and(|step| step.kind == TargetKind::Sensor)
    }

    /// Whether an execution is a sensor's that runs.
    #[must_use]
    pub fn runs_sensor(&self, execution: ExecutionId) -> bool {
        self.is_running(execution) && self.is_sensor(execution.step)
    }
}
