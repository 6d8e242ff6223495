//! A month of a schedule in virtual time: a sensor starts a workflow every minute, whose calls are
//! delayed, deferred, retried and cached; workers crash, the daemon restarts, the clock is set by an
//! hour in both directions.

use std::collections::BTreeMap;

use ibid::model::{
    Cache, CallOptions, Defer, ExecutionId, Failure, Json, Memo, Retries, State, StepId, Timestamp, Trigger,
};
use ibid_daemon::engine::{Assignment, Call, Turn, argument, result};

use crate::invariants;
use crate::world::{REPOSITORY, World};

const MINUTE: i64 = 60_000;
const DAY: i64 = 24 * 60 * MINUTE;
const DAYS: i64 = 30;

/// A number from a seed: the same every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What hands do with an execution that was assigned to them.
struct Schedule {
    world: World,
    dice: Dice,
    /// When each running execution ends.
    ends: BTreeMap<ExecutionId, Timestamp>,
    /// Time that has really passed, whatever the clock says.
    passed: i64,
    beats: i64,
    last_beat: i64,
    deferred: Vec<StepId>,
    restarts: u32,
}

fn value(text: &str) -> ibid::model::Argument {
    argument(Json::parse(text).unwrap()).unwrap().0
}

impl Schedule {
    fn turn<T>(&mut self, act: impl FnOnce(&mut ibid_daemon::engine::Engine, Turn<'_>) -> T) -> T {
        let turn = Turn { now: self.world.now, past: &self.world.disk };
        let done = act(&mut self.world.engine, turn);
        self.world.hear();
        done
    }

    fn call(&mut self, caller: ExecutionId, target: &str, argument: &str, options: CallOptions) -> StepId {
        let call =
            Call { target: target.to_owned(), arguments: vec![value(argument)], options, group: None, command: None };
        self.turn(|engine, t| engine.call(t, caller, vec![call])).unwrap()[0].step
    }

    fn complete(&mut self, execution: ExecutionId) {
        self.ends.remove(&execution);
        let (stored, _) = result(Json::parse("1").unwrap()).unwrap();
        self.turn(|engine, t| engine.complete(t, execution, stored));
    }

    fn assign(&mut self) {
        let key = (1, REPOSITORY.to_owned());
        while let Some(assignment) = self.turn(|engine, t| engine.assign(t, &key, 1)) {
            self.begin(&assignment);
        }
    }

    /// A workflow of the schedule makes three calls: a cached one, a deferred one, one with retries.
    fn begin(&mut self, assignment: &Assignment) {
        let execution = assignment.execution;
        let step = self.world.engine.live_step(execution.step).unwrap();
        let attempt = step.attempt(execution.attempt).unwrap();
        assert!(attempt.due <= self.world.now, "{execution} began before it was due");
        let lasts = match assignment.target.as_str() {
            "m/s" => i64::MAX / 2,
            "m/w" => {
                let hour = self.beats / 60;
                let cached = CallOptions { cache: Cache::MaxAge(3_600_000), ..CallOptions::default() };
                self.call(execution, "m/a", &hour.to_string(), cached);
                let deferred = CallOptions {
                    delay: 5 * 60_000,
                    defer: Some(Defer { key: None, max_wait: Some(20 * 60_000) }),
                    ..CallOptions::default()
                };
                let step = self.call(execution, "m/b", &self.beats.to_string(), deferred);
                self.deferred.push(step);
                let retries = Retries { limit: 3, delay_min: 1000, delay_max: 120_000 };
                let options =
                    CallOptions { retries, timeout: Some(30_000), memo: Memo::Arguments, ..CallOptions::default() };
                self.call(execution, "m/a", &format!("\"try {}\"", self.beats), options);
                0
            }
            _ => i64::try_from(self.dice.roll(40_000)).unwrap(),
        };
        self.ends.insert(execution, self.passed.saturating_add(lasts));
    }

    /// Lets time pass to the next thing that happens, or to `until`.
    fn pass(&mut self, until: i64) {
        while self.passed < until {
            let due = self.world.engine.next_due().map(|due| self.passed + (due - self.world.now).max(1));
            let ends = self.ends.values().min().copied();
            let next = [due, ends, Some(until)].into_iter().flatten().min().unwrap().max(self.passed + 1).min(until);
            self.world.now += next - self.passed;
            self.passed = next;
            self.turn(|engine, t| engine.tick(t));
            let over: Vec<_> = self.ends.iter().filter(|(_, end)| **end <= self.passed).map(|(id, _)| *id).collect();
            for execution in over {
                if !self.world.engine.is_running(execution) {
                    self.ends.remove(&execution);
                } else if self.dice.roll(20) == 0 {
                    self.ends.remove(&execution);
                    let failure = Failure::new("ValueError", "by chance");
                    self.turn(|engine, t| engine.fail(t, execution, failure));
                } else {
                    self.complete(execution);
                }
            }
            self.ends.retain(|execution, _| self.world.engine.is_running(*execution));
            self.assign();
        }
    }

    /// The running sensor starts the workflow, waiting for its restart if it is down.
    fn beat(&mut self) {
        let sensor = self.world.engine.running_sensors().next().unwrap().clone();
        let newest = self.world.engine.live_step(sensor.run.root()).unwrap().newest();
        if !self.world.engine.is_running(newest) {
            // What it missed it catches up with: its checkpoint says where it was.
            return;
        }
        self.beats += 1;
        let options = CallOptions { cache: Cache::On, ..CallOptions::default() };
        let text = self.beats.to_string();
        self.call(newest, "m/w", &text, options);
        self.turn(|engine, _| engine.set_checkpoint(newest, vec![value(&text)])).unwrap();
        self.last_beat = self.passed;
    }

    /// What goes wrong now and then.
    fn mishap(&mut self) {
        match self.dice.roll(400) {
            0 => {
                self.world.restart();
                self.ends.clear();
                self.restarts += 1;
            }
            1 | 2 => {
                let by = if self.dice.roll(2) == 0 { 60 * MINUTE } else { -60 * MINUTE };
                self.world.now += by;
                self.turn(|engine, _| engine.clock_was_set(by));
            }
            3..=5 => {
                let sensor = self.world.engine.running_sensors().next().unwrap().run;
                let newest = self.world.engine.live_step(sensor.root()).unwrap().newest();
                self.turn(|engine, t| engine.abandon(t, newest, "it crashed"));
            }
            6..=9 => {
                let running = self.ends.keys().next().copied();
                if let Some(execution) = running.filter(|execution| !self.world.engine.runs_sensor(*execution)) {
                    self.turn(|engine, t| engine.abandon(t, execution, "it crashed"));
                }
            }
            10 => self.turn(|engine, t| engine.interrupt_sensors(t, "new code")),
            _ => {}
        }
        self.ends.retain(|execution, _| self.world.engine.is_running(*execution));
    }
}

#[test]
fn a_month_of_beats_delays_defers_retries_restarts_and_clocks_set_by_an_hour() {
    let mut world = World::new(1);
    world.now = 1_000_000_000;
    let mut schedule = Schedule {
        world,
        dice: Dice(0x1234_5678_9abc_def1),
        ends: BTreeMap::new(),
        passed: 0,
        beats: 0,
        last_beat: 0,
        deferred: Vec::new(),
        restarts: 0,
    };
    schedule.turn(|engine, t| engine.start_sensor(t, 1, "m/s", vec![value("0")], false)).unwrap();
    schedule.assign();
    for minute in 1..=DAYS * DAY / MINUTE {
        schedule.pass(minute * MINUTE);
        schedule.beat();
        schedule.assign();
        schedule.mishap();
        // A crashed sensor comes back within its longest back-off, whatever was done to the clock.
        let down = schedule.passed - schedule.last_beat;
        assert!(down <= 4 * MINUTE, "minute {minute}: no beat for {down} ms");
        if minute % 60 == 0 {
            invariants::check_live(&schedule.world).unwrap_or_else(|error| panic!("minute {minute}: {error}"));
        }
    }
    // It ends: the sensor is stopped, what it has started is not.
    assert_eq!(schedule.turn(|engine, t| engine.stop_sensor(t, 1, "m/s")).len(), 1);
    let end = schedule.passed + 2 * 60 * MINUTE;
    schedule.pass(end);
    let stuck: Vec<_> = schedule.world.engine.live_steps().map(|step| step.newest().to_string()).collect();
    assert!(stuck.is_empty(), "these never end: {stuck:?}");
    invariants::check(&schedule.world).unwrap();

    let steps = schedule.world.steps();
    let beats = schedule.beats;
    assert!(beats > DAYS * DAY / MINUTE * 95 / 100, "only {beats} beats");
    // Every beat made one run, and every run of it ended well or was cut off by a crash.
    let roots: Vec<_> = steps.values().filter(|step| step.target == "m/w" && step.caller.is_none()).collect();
    assert_eq!(i64::try_from(roots.len()).unwrap(), beats);
    // A burst executes once: among the deferred calls at most one in a few really ran, and none was put
    // off longer than it allows but for a crash in between.
    let ran = schedule.deferred.iter().filter(|id| steps[id].state() != State::Deferred).count();
    let replaced = schedule.deferred.len() - ran;
    assert!(ran * 10 < replaced, "{ran} ran and {replaced} were replaced");
    for step in steps.values() {
        let retries = step.attempts.iter().filter(|attempt| attempt.trigger == Trigger::Retry).count();
        assert!(retries <= 3, "{} was tried again {retries} times", step.id);
        for attempt in &step.attempts {
            assert!(attempt.is_over(), "{} is not over", step.id);
        }
    }
    // Many attempts of the sensor, and no record that grew for ever.
    let sensor: Vec<_> = steps.values().filter(|step| step.target == "m/s").collect();
    assert!(sensor.len() > 1 && sensor.iter().all(|step| step.attempts.len() <= 100));
    let runs = sensor.iter().map(|step| schedule.world.run_of(step.id.run).unwrap().counts.steps).max();
    assert!(runs.unwrap() < 12_000);
    let hits = steps.values().filter(|step| step.state() == State::Cached).count();
    assert!(hits > 30_000, "only {hits} hits");
    assert!(schedule.restarts > 20, "only {} restarts", schedule.restarts);
}
