//! Memo: within a run, a later call refers to the step of an earlier one.

use std::collections::BTreeMap;

use ibid::model::{ExecutionId, Memo, Memoised, RunId, State, Step, StepId};

use super::{Call, Engine, Turn, identity};

/// Finished steps name this many of those that they answered.
const CALLERS_OF_FINISHED: usize = 8;

/// What a run remembers of its memoised steps.
#[derive(Debug)]
pub(super) struct Index {
    /// Whether calls that say nothing are memoised.
    default: bool,
    /// Read from the run's records when the first memoised call is made.
    steps: Option<BTreeMap<[u8; 32], Vec<StepId>>>,
}

impl Engine {
    /// Whether calls of a run that say nothing are memoised: as its root's target declares.
    fn memo_default(&mut self, t: Turn<'_>, run: RunId) -> bool {
        if let Some(index) = self.runs.get(&run).and_then(|active| active.memo.as_ref()) {
            return index.default;
        }
        let default = self.step(t, run.root()).is_some_and(|root| root.options.memo == Memo::Arguments);
        if let Some(active) = self.runs.get_mut(&run) {
            active.memo = Some(Index { default, steps: None });
        }
        default
    }

    /// Makes a run's index of memoised steps from its records, unless it is there.
    fn read_memo(&mut self, t: Turn<'_>, run: RunId) {
        let Some(active) = self.runs.get(&run) else { return };
        if active.memo.as_ref().is_none_or(|index| index.steps.is_some()) {
            return;
        }
        let mut steps: BTreeMap<[u8; 32], Vec<StepId>> = BTreeMap::new();
        for step in (2..active.next_step).filter_map(|step| self.step(t, StepId { run, step })) {
            if let Some(memo) = step.memo {
                steps.entry(memo.key).or_default().push(step.id);
            }
        }
        if let Some(index) = self.runs.get_mut(&run).and_then(|active| active.memo.as_mut()) {
            index.steps = Some(steps);
        }
    }

    /// The key under which a call is memoised, if it is.
    pub(super) fn memo_key(&mut self, t: Turn<'_>, run: RunId, call: &Call) -> Option<[u8; 32]> {
        if call.options.memo == Memo::Off {
            return None;
        }
        let default = self.memo_default(t, run);
        if call.options.memo == Memo::Inherit && !default {
            return None;
        }
        self.read_memo(t, run);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(call.target.len() as u64).to_be_bytes()).update(call.target.as_bytes());
        if let Memo::Key(key) = &call.options.memo {
            hasher.update(b"key").update(key.as_bytes());
            return Some(*hasher.finalize().as_bytes());
        }
        hasher.update(b"arguments");
        for argument in &call.arguments {
            hasher.update(&identity::digest(&argument.value)?);
            // Within a run a reference is always to the same call, whatever is known of its value.
            hasher.update(&(argument.references.len() as u64).to_be_bytes());
            for reference in &argument.references {
                hasher.update(&reference.key());
            }
        }
        Some(*hasher.finalize().as_bytes())
    }

    /// From now on calls with this key refer to the step.
    pub(super) fn memoise(&mut self, id: StepId, key: [u8; 32]) {
        let index = self.runs.get_mut(&id.run).and_then(|active| active.memo.as_mut());
        if let Some(steps) = index.and_then(|index| index.steps.as_mut()) {
            steps.entry(key).or_default().push(id);
        }
    }

    /// The step that answers a call: of several the newest that is unfinished or has a value.
    pub(super) fn memo_hit(&mut self, t: Turn<'_>, caller: ExecutionId, key: &[u8; 32]) -> Option<StepId> {
        let steps = self.runs.get(&caller.step.run)?.memo.as_ref()?.steps.as_ref()?.get(key)?;
        let answers = |step: &Step| {
            step.attempts.last().is_some_and(|attempt| match attempt.state() {
                State::Queued | State::Running | State::Linked | State::Succeeded | State::Cached => true,
                State::Spawned => matches!(attempt.resolved, None | Some(State::Succeeded)),
                _ => false,
            })
        };
        let fresh = self.attempt(caller).and_then(|attempt| attempt.fresh);
        let is_new =
            |step: &Step| step.attempts.last().is_some_and(|newest| fresh.is_none_or(|than| newest.sequence > than));
        let fits = |id: &StepId| self.step(t, *id).is_some_and(|step| answers(&step) && is_new(&step));
        let found = steps.iter().rev().copied().find(|id| fits(id) && !self.is_ancestor(t, *id, caller))?;
        self.note_memo_hit(t, caller, found);
        Some(found)
    }

    fn note_memo_hit(&mut self, t: Turn<'_>, caller: ExecutionId, id: StepId) {
        if let Some(active) = self.runs.get_mut(&id.run) {
            active.run.counts.memo = active.run.counts.memo.saturating_add(1);
            self.recent.touched_runs.insert(id.run);
        }
        if let Some(live) = self.steps.get_mut(&id) {
            if live.step.caller == Some(caller)
                && let Some(newest) = live.step.attempts.last_mut()
            {
                // It had cancelled the call, and makes it again.
                newest.withdrawn = false;
            }
            note(live.step.memo.as_mut(), caller, usize::MAX);
            self.recent.touched_steps.insert(id);
            if let Some(node) = self.nodes.get_mut(&caller) {
                node.memoised.insert(id);
            }
        } else if let Some(step) = self.recent.finished.get_mut(&id) {
            note(step.memo.as_mut(), caller, CALLERS_OF_FINISHED);
        } else if let Some(mut step) = self.step(t, id) {
            note(step.memo.as_mut(), caller, CALLERS_OF_FINISHED);
            self.recent.recalled.insert(id, step);
        }
    }

    /// Whether a call of an execution was answered with this step, whose own caller is another.
    #[must_use]
    pub fn is_memo_caller(&self, caller: ExecutionId, id: StepId) -> bool {
        self.nodes.get(&caller).is_some_and(|node| node.memoised.contains(&id))
            && self.steps.get(&id).is_some_and(|live| live.step.caller != Some(caller))
    }

    /// An execution that was answered with a step by memo wants it no more.
    pub fn forget_memo(&mut self, t: Turn<'_>, caller: ExecutionId, id: StepId) {
        if let Some(node) = self.nodes.get_mut(&caller) {
            node.memoised.remove(&id);
        }
        self.drop_memo_caller(t, caller, id);
        let Some(newest) = self.steps.get(&id).map(|live| live.step.newest()) else { return };
        self.end_waits(newest, |waiter| waiter == caller);
        self.release(t, newest);
        self.recent.rest.durable = true;
        self.settle(t);
    }

    pub(super) fn drop_memo_caller(&mut self, t: Turn<'_>, caller: ExecutionId, id: StepId) {
        let Some(live) = self.steps.get_mut(&id) else { return };
        if let Some(memo) = &mut live.step.memo {
            memo.callers.retain(|other| *other != caller);
            self.recent.touched_steps.insert(id);
        }
        let newest = self.steps.get(&id).map(|live| live.step.newest());
        if let Some(newest) = newest {
            self.release(t, newest);
        }
    }

    /// Executions other than its own caller whose calls this step answers.
    pub(super) fn memo_callers<'a>(&'a self, step: &'a Step) -> impl Iterator<Item = ExecutionId> + 'a {
        let callers = step.memo.as_ref().map_or(&[][..], |memo| &memo.callers);
        callers.iter().copied().filter(|caller| Some(*caller) != step.caller)
    }
}

fn note(memo: Option<&mut Memoised>, caller: ExecutionId, limit: usize) {
    let Some(memo) = memo else { return };
    memo.hits = memo.hits.saturating_add(1);
    if memo.callers.len() < limit && !memo.callers.contains(&caller) {
        memo.callers.push(caller);
    }
}
