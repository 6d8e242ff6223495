//! Counts of a run's steps by how they came out, kept as they change.

use ibid::model::{Counts, Decision, State, Step, StepId, Trigger};

use super::Engine;

/// How a step counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Category {
    Queued,
    Running,
    Linked,
    Spawned,
    Deferred,
    Ran,
    Cached { joined: bool },
    Failed,
    Cancelled,
}

pub(super) fn category(step: &Step) -> Category {
    let Some(attempt) = step.attempts.last() else { return Category::Queued };
    match attempt.state() {
        State::Queued => Category::Queued,
        State::Running => Category::Running,
        State::Linked => Category::Linked,
        State::Succeeded => Category::Ran,
        State::Cached => Category::Cached { joined: matches!(attempt.decision, Decision::Linked { .. }) },
        State::Failed | State::TimedOut | State::Abandoned => Category::Failed,
        State::Cancelled => Category::Cancelled,
        state @ (State::Spawned | State::Deferred) => match attempt.resolved {
            None | Some(State::Succeeded) if state == State::Deferred => Category::Deferred,
            None => Category::Spawned,
            Some(State::Succeeded | State::Cached) => Category::Ran,
            Some(State::Cancelled) => Category::Cancelled,
            Some(_) => Category::Failed,
        },
    }
}

fn slot(counts: &mut Counts, category: Category) -> &mut u32 {
    match category {
        Category::Queued => &mut counts.queued,
        Category::Running => &mut counts.running,
        Category::Linked => &mut counts.linked,
        Category::Spawned => &mut counts.spawned,
        Category::Deferred => &mut counts.deferred,
        Category::Ran => &mut counts.ran,
        Category::Cached { .. } => &mut counts.cached,
        Category::Failed => &mut counts.failed,
        Category::Cancelled => &mut counts.cancelled,
    }
}

pub(super) fn add(counts: &mut Counts, category: Category) {
    *slot(counts, category) += 1;
    if category == (Category::Cached { joined: true }) {
        counts.joined += 1;
    }
}

pub(super) fn remove(counts: &mut Counts, category: Category) {
    let slot = slot(counts, category);
    *slot = slot.saturating_sub(1);
    if category == (Category::Cached { joined: true }) {
        counts.joined = counts.joined.saturating_sub(1);
    }
}

impl Engine {
    /// Counts a live step anew and marks it and its run as touched.
    pub(super) fn touch(&mut self, id: StepId) {
        let Some(live) = self.steps.get_mut(&id) else { return };
        let category = category(&live.step);
        let before = std::mem::replace(&mut live.category, category);
        self.recent.touched_steps.insert(id);
        let Some(active) = self.runs.get_mut(&id.run) else { return };
        if before != category {
            remove(&mut active.run.counts, before);
            add(&mut active.run.counts, category);
        }
        if id.step == 1 {
            let attempt = live.step.attempts.last();
            let state = live.step.state();
            let ended = attempt.and_then(ibid::model::Attempt::ended);
            let begun = live.step.attempts.iter().rev().find(|attempt| attempt.trigger != Trigger::Retry);
            if active.run.state != state || active.run.ended != ended {
                active.run.begun = begun.map_or(active.run.begun, ibid::model::Attempt::created);
                active.run.state = state;
                active.run.ended = ended;
                self.recent.touched_runs.insert(id.run);
            }
        }
    }
}

/// Adds a step to the counts of its run.
pub fn count_step(counts: &mut Counts, step: &Step) {
    counts.steps += 1;
    counts.memo = counts.memo.saturating_add(step.memo.as_ref().map_or(0, |memo| memo.hits));
    add(counts, category(step));
}
