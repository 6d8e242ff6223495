//! What people decide about remembered results: to forget one, to put it back, to keep it from pruning.

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
