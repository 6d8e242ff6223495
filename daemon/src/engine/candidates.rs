//! By what an unfinished execution is found: its identity, which changes as the calls that its arguments
//! refer to become known.

use ibid::model::{ExecutionId, StepId};

use super::{Engine, Turn};

/// A call that refers to more calls than this gets its new identity when all of them are known, not with
/// each: in between it can be missed by another that refers to the same.
const REFERENCES_AT_ONCE: usize = 64;

impl Engine {
    /// Remembers to compute the identity again when a reference that is not known yet has ended.
    pub(super) fn watch_references(&mut self, t: Turn<'_>, id: StepId) {
        let Some(live) = self.steps.get(&id) else { return };
        if live.step.identity.as_ref().is_none_or(|identity| identity.settled) {
            return;
        }
        let references: Vec<_> = live.step.arguments.iter().flat_map(|argument| argument.references.clone()).collect();
        let mut unknown = 0;
        for reference in references {
            let reference = self.deciding(t, reference);
            if self.steps.contains_key(&reference) && self.unsettled.entry(reference).or_default().insert(id) {
                unknown += 1;
            }
        }
        if let Some(live) = self.steps.get_mut(&id) {
            live.unknown += unknown;
        }
    }

    /// A reference has ended: those that were known only by it are indexed anew.
    pub(super) fn settle_references(&mut self, t: Turn<'_>, ended: StepId) {
        for id in self.unsettled.remove(&ended).unwrap_or_default() {
            let Some(live) = self.steps.get_mut(&id) else { continue };
            live.unknown = live.unknown.saturating_sub(1);
            let references: usize = live.step.arguments.iter().map(|argument| argument.references.len()).sum();
            if references > REFERENCES_AT_ONCE && live.unknown > 0 {
                if self.steps.contains_key(&ended) {
                    // It goes on: it is retried, or run again.
                    self.unsettled.entry(ended).or_default().insert(id);
                    if let Some(live) = self.steps.get_mut(&id) {
                        live.unknown += 1;
                    }
                }
                continue;
            }
            let Some(live) = self.steps.get(&id) else { continue };
            let (target, options, arguments) =
                (live.step.target.clone(), live.step.options.clone(), live.step.arguments.clone());
            let environment = self.environment_of(id.run);
            let Ok(Some(identity)) = self.identify(t, environment, &target, &options, &arguments) else { continue };
            let execution = live.step.newest();
            let settled = identity.settled;
            if let Some(live) = self.steps.get_mut(&id) {
                live.step.identity = Some(identity);
            }
            if !settled {
                // The reference goes on: it is retried, or run again.
                self.watch_references(t, id);
            }
            self.recent.touched_steps.insert(id);
            if self.nodes.get(&execution).is_some_and(|node| node.indexed.is_some()) {
                self.unindex(execution);
                self.index(execution);
            }
        }
    }

    /// Makes an execution findable as a candidate, if its step has an identity.
    pub(super) fn index(&mut self, execution: ExecutionId) {
        let environment = self.environment_of(execution.step.run);
        let Some(live) = self.steps.get(&execution.step) else { return };
        let Some(identity) = &live.step.identity else { return };
        let Some(sequence) = live.step.attempt(execution.attempt).map(|attempt| attempt.sequence) else { return };
        let key = (environment, identity.digest);
        self.candidates.insert((environment, identity.digest, sequence), execution);
        if let Some(node) = self.nodes.get_mut(&execution) {
            node.indexed = Some(key);
        }
    }

    /// The unfinished executions with an identity, by their place in the order of creation.
    pub(super) fn candidates(
        &self,
        environment: u32,
        identity: &[u8; 32],
    ) -> impl DoubleEndedIterator<Item = (u64, ExecutionId)> {
        let range = (environment, *identity, 0)..=(environment, *identity, u64::MAX);
        self.candidates.range(range).map(|((_, _, sequence), execution)| (*sequence, *execution))
    }

    pub(super) fn unindex(&mut self, execution: ExecutionId) {
        let Some(sequence) = self.attempt(execution).map(|attempt| attempt.sequence) else { return };
        let indexed = self.nodes.get_mut(&execution).and_then(|node| node.indexed.take());
        let Some((environment, identity)) = indexed else { return };
        self.candidates.remove(&(environment, identity, sequence));
    }
}
