//! What running something again would come to, going by what it called the last time.

use std::collections::{BTreeMap, BTreeSet};

use ibid::model::{Decision, Id, Link, RunId, Step, StepId};
use ibid::protocol::{Predicted, Prospect, Refused};

use super::Owner;

/// How many calls are looked at, at most.
const CALLS_MAX: usize = 2000;

/// The steps of a run, what each called, and which would really run now.
struct Prospects {
    steps: BTreeMap<StepId, Step>,
    below: BTreeMap<StepId, Vec<StepId>>,
    would_run: BTreeSet<StepId>,
    cut: bool,
}

impl Prospects {
    /// What a step comes to that really runs, with everything below it forced or looked up.
    fn of(&self, from: StepId, forced: bool) -> Prospect {
        let mut found = Prospect { runs: 0, hits: 0, spent: 0, cut: self.cut };
        let mut stack = vec![(from, true)];
        while let Some((id, really)) = stack.pop() {
            let Some(step) = self.steps.get(&id) else { continue };
            let newest = step.attempts.last();
            // Forced or not, of equal calls of one run only the first runs.
            let shares = newest.is_some_and(|attempt| match attempt.link {
                Some(Link::Source(other) | Link::Leader(other)) => other.step.run == id.run,
                _ => false,
            });
            if really || (forced && !shares) || (!forced && self.would_run.contains(&id)) {
                found.runs += 1;
                found.spent += newest.and_then(ibid::model::Attempt::duration).unwrap_or(0);
                let called = self.below.get(&id).map_or(&[][..], Vec::as_slice);
                stack.extend(called.iter().map(|called| (*called, false)));
            } else {
                found.hits += 1;
            }
        }
        found
    }
}

impl Owner {
    pub(super) async fn predict(&self, id: Id) -> Result<Predicted, Refused> {
        self.known(&mut self.state.borrow_mut(), id)?;
        let run = self.run_of(id)?;
        // What took another's result called nothing itself: it would call what that one did.
        let doing = self.doing_the_work(id).step;
        let own = self.prospects(run.id).await?;
        let source = if doing.run == run.id { None } else { Some(self.prospects(doing.run).await?) };
        let at = source.as_ref().unwrap_or(&own);
        Ok(Predicted { forced: at.of(doing, false), below: at.of(doing, true), again: own.of(run.id.root(), false) })
    }

    /// The steps of a run, with whether each would really run now.
    async fn prospects(&self, run: RunId) -> Result<Prospects, Refused> {
        let environment = self.run_of(Id::Run(run))?.environment;
        let finished = self.read(move |view| view.steps(run, 0, CALLS_MAX + 1)).await?;
        let cut = finished.len() > CALLS_MAX;
        let mut steps: BTreeMap<StepId, Step> = finished.into_iter().map(|step| (step.id, step)).collect();
        {
            let state = self.state.borrow();
            let live = state.engine.live_steps_of(run).take(CALLS_MAX);
            steps.extend(live.map(|step| (step.id, step.clone())));
        }
        let mut below: BTreeMap<StepId, Vec<StepId>> = BTreeMap::new();
        let mut would_run = BTreeSet::new();
        for (count, step) in steps.values().enumerate() {
            if let Some(caller) = step.caller {
                below.entry(caller.step).or_default().push(step.id);
            }
            if self.would_run(environment, step) {
                would_run.insert(step.id);
            }
            // Whoever else waits for an answer is not kept waiting for all of it.
            if count % 50 == 49 {
                tokio::task::yield_now().await;
            }
        }
        Ok(Prospects { steps, below, would_run, cut })
    }

    fn would_run(&self, environment: u32, step: &Step) -> bool {
        let mut state = self.state.borrow_mut();
        let explained =
            state.decide(|engine, t| engine.explain(t, environment, &step.target, &step.options, &step.arguments));
        !matches!(explained.decision, Decision::Hit { .. } | Decision::Linked { .. })
    }
}
