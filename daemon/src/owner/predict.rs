//! What running something again would come to, going by what it called the last time.

use std::collections::BTreeMap;

use ibid::model::{Decision, Id, Step, StepId};
use ibid::protocol::{Predicted, Prospect, Refused};

use super::Owner;

/// How many calls are looked at, at most.
const CALLS_MAX: usize = 2000;

impl Owner {
    pub(super) async fn predict(&self, id: Id) -> Result<Predicted, Refused> {
        self.known(&mut self.state.borrow_mut(), id)?;
        let run = self.run_of(id)?;
        let target = run.id;
        let finished = self.read(move |view| view.steps(target, 0, CALLS_MAX + 1)).await?;
        let cut = finished.len() > CALLS_MAX;
        let mut steps: BTreeMap<StepId, Step> = finished.into_iter().map(|step| (step.id, step)).collect();
        {
            let state = self.state.borrow();
            let live = state.engine.live_steps_of(run.id).take(CALLS_MAX);
            steps.extend(live.map(|step| (step.id, step.clone())));
        }
        let mut below: BTreeMap<StepId, Vec<StepId>> = BTreeMap::new();
        let mut would_run = BTreeMap::new();
        for (count, step) in steps.values().enumerate() {
            if let Some(caller) = step.caller {
                below.entry(caller.step).or_default().push(step.id);
            }
            would_run.insert(step.id, self.would_run(run.environment, step));
            // Whoever else waits for an answer is not kept waiting for all of it.
            if count % 50 == 49 {
                tokio::task::yield_now().await;
            }
        }
        let prospect = |from: StepId, forced: bool| {
            let mut found = Prospect { runs: 0, hits: 0, spent: 0, cut };
            let mut stack = vec![(from, true)];
            while let Some((id, really)) = stack.pop() {
                let Some(step) = steps.get(&id) else { continue };
                if really || forced || would_run.get(&id) == Some(&true) {
                    found.runs += 1;
                    found.spent += step.attempts.last().and_then(ibid::model::Attempt::duration).unwrap_or(0);
                    let called = below.get(&id).map_or(&[][..], Vec::as_slice);
                    stack.extend(called.iter().map(|called| (*called, false)));
                } else {
                    found.hits += 1;
                }
            }
            found
        };
        let step = id.step();
        Ok(Predicted {
            forced: prospect(step, false),
            below: prospect(step, true),
            again: prospect(run.id.root(), false),
        })
    }

    fn would_run(&self, environment: u32, step: &Step) -> bool {
        let mut state = self.state.borrow_mut();
        let explained =
            state.decide(|engine, t| engine.explain(t, environment, &step.target, &step.options, &step.arguments));
        !matches!(explained.decision, Decision::Hit { .. } | Decision::Linked { .. })
    }
}
