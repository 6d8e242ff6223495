//! The one thread that writes.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::thread::JoinHandle;

use fjall::PersistMode;

use super::seal::MARK;
use super::{Batch, Space, Store, StoreError};

/// A commit that is done.
#[derive(Debug)]
pub struct Committed {
    /// What was written.
    pub batch: Batch,
    /// Whether it worked; after a failure nothing more can be written.
    pub result: Result<(), StoreError>,
}

/// Hands batches to the commit thread, one at a time.
pub struct Writer {
    batches: Option<mpsc::Sender<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread. `done` is called on it after each commit.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub fn start(store: Store, done: impl Fn(Committed) + Send + 'static) -> std::io::Result<Self> {
        let (batches, received) = mpsc::channel::<Batch>();
        let thread = std::thread::Builder::new().name("commit".to_owned()).spawn(move || {
            for batch in received {
                // A panic must not leave the others waiting for a commit that never ends.
                let commit = std::panic::AssertUnwindSafe(|| store.commit(&batch));
                let result = std::panic::catch_unwind(commit).unwrap_or(Err(StoreError::Panicked));
                done(Committed { batch, result });
            }
        })?;
        Ok(Self { batches: Some(batches), thread: Some(thread) })
    }

    /// Commits a batch. Says whether the thread still takes any.
    pub fn commit(&self, batch: Batch) -> bool {
        self.batches.as_ref().is_some_and(|batches| batches.send(batch).is_ok())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.batches = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            // A panic there was reported by the hook; there is nothing left to write.
        }
    }
}

impl Store {
    /// Writes a batch as a whole or not at all.
    ///
    /// # Errors
    /// Where the database fails; then it takes no more writes until it is opened again.
    pub fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        for (hash, text) in &batch.files {
            let failed = |source| StoreError::Directory { path: self.blobs.path(hash), source };
            self.blobs.keep(hash, text).map_err(failed)?;
        }
        let mode = if batch.durable { PersistMode::SyncData } else { PersistMode::Buffer };
        let mut writes = self.database.batch().durability(Some(mode));
        for write in &batch.writes {
            match &write.value {
                Some(value) => writes.insert(self.space(write.space), write.key.as_slice(), value.as_slice()),
                None => writes.remove(self.space(write.space), write.key.as_slice()),
            }
        }
        let mut seal = self.lock_seal();
        let touched: BTreeSet<Space> = batch.writes.iter().map(|write| write.space).collect();
        for space in touched {
            seal.turns[space as usize] = batch.turn;
            writes.insert(self.space(space), MARK.as_slice(), batch.turn.to_be_bytes().as_slice());
        }
        writes.commit().map_err(|source| self.failed(source))?;
        if batch.durable { seal.write() } else { Ok(()) }
    }
}
