//! What people decide about remembered results: to forget one, to put it back, to keep it from pruning.

use ibid::model::{ExecutionId, Stored};

use super::{Engine, Entry, Refusal, Turn};

impl Engine {
    /// Takes all results of an identity out of the look-up; their records stay. Says how many.
    pub fn forget(&mut self, t: Turn<'_>, environment: u32, identity: &[u8; 32]) -> usize {
        self.change_entry(t, environment, identity, |entry| {
            let taken = std::mem::take(&mut entry.successes);
            let count = taken.len();
            entry.forgotten.extend(taken.into_iter().map(|success| (t.now, success)));
            count
        })
    }

    /// Puts the forgotten results of an identity back. Says how many.
    pub fn put_back(&mut self, t: Turn<'_>, environment: u32, identity: &[u8; 32]) -> usize {
        self.change_entry(t, environment, identity, |entry| {
            let back = std::mem::take(&mut entry.forgotten);
            let count = back.len();
            for (_, success) in back {
                entry.add(success);
            }
            count
        })
    }

    /// Keeps the results of an identity from being pruned, or no longer. Says whether that is a change.
    ///
    /// # Errors
    /// Where nothing is remembered under it.
    pub fn pin(&mut self, t: Turn<'_>, environment: u32, identity: &[u8; 32], pinned: bool) -> Result<bool, Refusal> {
        if self.entry(t, environment, identity).is_none_or(|entry| entry.successes.is_empty()) {
            return Err(Refusal::NothingRemembered);
        }
        let changed = self.change_entry(t, environment, identity, |entry| {
            usize::from(std::mem::replace(&mut entry.pinned, pinned) != pinned)
        });
        Ok(changed > 0)
    }

    /// Takes away the results of executions in which nothing is unfinished; their records stay. Says how
    /// many it were. The caller knows that nothing kept refers to them.
    pub fn prune(&mut self, t: Turn<'_>, results: &[ExecutionId]) -> usize {
        let mut pruned = 0;
        for execution in results {
            let Some(mut step) = self.step(t, execution.step).filter(|step| self.live_step(step.id).is_none()) else {
                continue;
            };
            let index = usize::try_from(execution.attempt).ok().and_then(|number| number.checked_sub(1));
            let Some(result) = index.and_then(|index| step.attempts.get_mut(index)?.result.as_mut()) else { continue };
            *result = Stored::pruned(result.size());
            for environment in self.environments.keys().copied().collect::<Vec<_>>() {
                let Some(identity) = &step.identity else { continue };
                self.change_entry(t, environment, &identity.digest, |entry| {
                    let before = entry.successes.len() + entry.forgotten.len();
                    entry.successes.retain(|success| success.execution != *execution);
                    entry.forgotten.retain(|(_, success)| success.execution != *execution);
                    before - entry.successes.len() - entry.forgotten.len()
                });
            }
            self.recent.recalled.insert(step.id, step);
            self.recent.rest.durable = true;
            pruned += 1;
        }
        pruned
    }

    /// A result that has just been made belongs to no key: what its key was made of has changed meanwhile.
    pub fn disown(&mut self, t: Turn<'_>, execution: ExecutionId) {
        let Some(run) = self.run(t, execution.step.run) else { return };
        let Some(identity) = self.step(t, execution.step).and_then(|step| step.identity) else { return };
        self.change_entry(t, run.environment, &identity.digest, |entry| {
            let before = entry.successes.len();
            entry.successes.retain(|success| success.execution != execution);
            before - entry.successes.len()
        });
    }

    /// An unfinished execution is joined by nobody any more; those who have joined it stay.
    pub fn step_back(&mut self, execution: ExecutionId) {
        self.unindex(execution);
    }

    /// Whose results were taken in the turn that is open.
    pub fn just_borrowed(&self) -> impl Iterator<Item = ExecutionId> {
        self.recent.rest.borrowed.iter().map(|borrowed| borrowed.source)
    }

    /// Changes an entry durably, unless the change comes to nothing.
    fn change_entry(
        &mut self,
        t: Turn<'_>,
        environment: u32,
        identity: &[u8; 32],
        change: impl FnOnce(&mut Entry) -> usize,
    ) -> usize {
        let Some(mut entry) = self.entry(t, environment, identity) else { return 0 };
        let changed = change(&mut entry);
        if changed > 0 {
            self.recent.entries.insert((environment, *identity), entry);
            self.recent.rest.durable = true;
        }
        changed
    }
}
