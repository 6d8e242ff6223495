//! Going on where the last process stopped.

use std::collections::BTreeSet;

use ibid::model::{Environment, ExecutionId, Link, Repository, Run, State, Step};

use super::{ActiveRun, Engine, LiveStep, Node, Turn, tally};

/// What the store knows at start: everything unfinished, and where the numbers stand.
#[derive(Debug, Default)]
pub struct Remembered {
    /// All environments.
    pub environments: Vec<Environment>,
    /// All repositories.
    pub repositories: Vec<Repository>,
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
            engine.runs.insert(run.id, ActiveRun { run, next_step, live: BTreeSet::new() });
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
        for (_, execution, state, _) in &open {
            engine.nodes.insert(*execution, Node::default());
            match state {
                State::Queued => engine.enqueue(t, *execution),
                State::Running => engine.index(*execution),
                _ => {}
            }
        }
        for (_, execution, state, link) in &open {
            if let (State::Linked, Some(Link::Leader(leader))) = (state, link)
                && let Some(node) = engine.nodes.get_mut(leader)
            {
                node.followers.insert(*execution);
            }
        }
        let ids: Vec<_> = engine.steps.keys().copied().collect();
        for id in ids {
            engine.watch_references(t, id);
        }
        for (_, execution, state, _) in open {
            if state == State::Running {
                engine.abandon(t, execution, "the daemon stopped while it ran");
            }
        }
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

    fn restore_step(&mut self, step: Step) {
        let id = step.id;
        if let Some(active) = self.runs.get_mut(&id.run) {
            active.live.insert(id);
        }
        let category = tally::category(&step);
        self.steps.insert(id, LiveStep { step, children: BTreeSet::new(), category });
        // Steps come in the order of their ids, so a caller within the run is there already.
        let caller = self.steps.get(&id).and_then(|live| live.step.caller);
        if let Some(calling) = caller.and_then(|caller| self.steps.get_mut(&caller.step)) {
            calling.children.insert(id);
        }
    }
}
