//! Going on where the last process stopped.

use std::collections::BTreeSet;

use ibid::model::{Decision, Environment, ExecutionId, Link, Repository, Run, Sensor, State, Step};

use super::{ActiveRun, Engine, LiveStep, Turn, sensors::sensor_key, tally};

/// What the store knows at start: everything unfinished, and where the numbers stand.
#[derive(Debug, Default)]
pub struct Remembered {
    /// All environments.
    pub environments: Vec<Environment>,
    /// All repositories.
    pub repositories: Vec<Repository>,
    /// All sensors that were ever started.
    pub sensors: Vec<Sensor>,
    /// Runs with something unfinished, each with the number of its next step and its true counts.
    pub runs: Vec<(Run, u32)>,
    /// Steps with something unfinished.
    pub steps: Vec<Step>,
    /// The next place in the order of creation.
    pub next_sequence: u64,
    /// The number of the next run.
    pub next_run: u64,
}

impl Engine {
    /// Takes up what is unfinished: queued work is queued again, links stand, and executions whose
    /// worker is gone are abandoned.
    #[must_use]
    pub fn recover(t: Turn<'_>, remembered: Remembered) -> Self {
        let mut engine = Self {
            environments: remembered.environments.into_iter().map(|e| (e.number, e)).collect(),
            repositories: remembered.repositories.into_iter().map(|r| ((r.environment, r.name.clone()), r)).collect(),
            next_sequence: remembered.next_sequence,
            next_run: remembered.next_run.max(1),
            ..Self::default()
        };
        for (run, next_step) in remembered.runs {
            engine.runs.insert(run.id, Box::new(ActiveRun::new(run, next_step)));
        }
        for sensor in remembered.sensors {
            let key = sensor_key(&sensor);
            if sensor.stopped.is_none() {
                engine.sensor_runs.insert(sensor.run, key);
            }
            engine.sensors.insert(key, sensor);
        }
        let mut open: Vec<(u64, ExecutionId, State, Option<Link>)> = Vec::new();
        for step in remembered.steps {
            for (number, attempt) in (1u32..).zip(&step.attempts) {
                if !attempt.is_over() {
                    open.push((attempt.sequence, step.id.attempt(number), attempt.state(), attempt.link));
                }
            }
            engine.restore_step(step);
        }
        open.sort_unstable_by_key(|(sequence, ..)| *sequence);
        for (_, execution, ..) in &open {
            engine.nodes.insert(*execution, Box::default());
        }
        for (_, execution, state, link) in &open {
            match (state, link) {
                (State::Running, _) => engine.index(*execution),
                (State::Linked, Some(Link::Leader(leader))) => {
                    if let Some(node) = engine.nodes.get_mut(leader) {
                        node.followers.insert(*execution);
                    }
                }
                (State::Deferred, Some(Link::Successor(successor))) => {
                    if let Some(node) = engine.nodes.get_mut(successor) {
                        node.superseded.insert(*execution);
                    }
                }
                _ => {}
            }
        }
        engine.restore_memo_callers();
        for (_, execution, state, _) in &open {
            match state {
                State::Queued if engine.is_deferring(*execution) => engine.put_off(*execution),
                State::Queued => engine.enqueue(t, *execution),
                _ => {}
            }
        }
        engine.adopt(t);
        let ids: Vec<_> = engine.steps.keys().copied().collect();
        for id in ids {
            engine.watch_references(t, id);
        }
        engine.interrupting = true;
        for (_, execution, state, _) in open {
            if state == State::Running {
                engine.abandon(t, execution, "the daemon stopped while it ran");
            }
        }
        engine.interrupting = false;
        // Whoever waited for withdrawn work is gone, so some of it may be wanted by nobody now.
        let open: Vec<_> = engine.nodes.keys().copied().collect();
        for execution in open {
            engine.release(t, execution);
        }
        engine.settle(t);
        // The workers that they speak of, and the connections, were those of the last process.
        engine.effects.clear();
        engine
    }

    /// What a finished callee has left behind is below its nearest unfinished caller.
    fn adopt(&mut self, t: Turn<'_>) {
        let orphans: Vec<_> = self
            .steps
            .values()
            .filter_map(|live| Some((live.step.id, live.step.caller?.step)))
            .filter(|(_, caller)| !self.steps.contains_key(caller))
            .collect();
        for (id, mut caller) in orphans {
            while !self.steps.contains_key(&caller) {
                match t.past.step(caller).and_then(|step| step.caller) {
                    Some(next) => caller = next.step,
                    None => break,
                }
            }
            if let Some(calling) = self.steps.get_mut(&caller) {
                calling.children.insert(id);
            }
        }
    }

    fn restore_memo_callers(&mut self) {
        for (id, live) in &self.steps {
            for caller in live.step.memo.iter().flat_map(|memo| &memo.callers) {
                if let Some(node) = self.nodes.get_mut(caller) {
                    node.memoised.insert(*id);
                }
            }
        }
    }

    /// Whether the look-up of a queued execution is still to come.
    fn is_deferring(&self, execution: ExecutionId) -> bool {
        self.attempt(execution).is_some_and(|attempt| attempt.decision == Decision::Deferring)
    }

    /// Leaves a call with a defer key to the clock, which looks it up once everything is taken up.
    fn put_off(&mut self, execution: ExecutionId) {
        if let Some(due) = self.attempt(execution).map(|attempt| attempt.due) {
            self.timers.insert((due, execution));
        }
        if let Some(key) = self.defer_key(execution) {
            self.deferrable.entry(key).or_default().insert(execution);
        }
    }

    fn restore_step(&mut self, step: Step) {
        let id = step.id;
        if let Some(active) = self.runs.get_mut(&id.run) {
            active.live.insert(id.step);
        }
        let category = tally::category(&step);
        let live = LiveStep { step, children: BTreeSet::new(), unknown: 0, category };
        self.steps.insert(id, Box::new(live));
        // Steps come in the order of their ids, so a caller within the run is there already.
        let caller = self.steps.get(&id).and_then(|live| live.step.caller);
        if let Some(calling) = caller.and_then(|caller| self.steps.get_mut(&caller.step)) {
            calling.children.insert(id);
        }
    }
}
