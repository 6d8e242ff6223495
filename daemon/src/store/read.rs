//! Reading from one consistent view, away from the deciding thread.

use fjall::{Readable, Snapshot};
use ibid::model::{Counts, ExecutionId, Json, Millis, Run, RunId, Sensor, Step, StepId, Stored, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::record::{self, HistoryLine, borrowed_key, index_key, log_key, namespace_key, run_key};
use super::seal::MARK;
use super::{Blobs, LogChunk, Space, Store, StoreError};
use crate::engine::{Entry, count_step};

/// How a namespace's cache has done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceStats {
    /// The namespace.
    pub name: String,
    /// Executions that ended with a result.
    pub executed: u64,
    /// Executions that ended without.
    pub failed: u64,
    /// Results taken at once.
    pub hits: u64,
    /// Results taken by joining an unfinished execution.
    pub links: u64,
    /// Time that the taken results had cost.
    pub saved: Millis,
    /// Bytes of the results.
    pub bytes: u64,
    /// Last execution, hit or link.
    pub last_used: Timestamp,
}

/// A part of a list, and where the next one starts.
#[derive(Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Pass this to go on; `None` at the end.
    pub next: Option<u64>,
}

/// A consistent view of everything that was committed when it was made.
pub struct View {
    store: Store,
    snapshot: Snapshot,
}

impl View {
    pub(super) const fn new(store: Store, snapshot: Snapshot) -> Self {
        Self { store, snapshot }
    }

    pub(super) const fn store(&self) -> &Store {
        &self.store
    }

    pub(super) const fn blobs(&self) -> &Blobs {
        &self.store.blobs
    }

    /// Every record of a keyspace, by key.
    pub(super) fn each(
        &self,
        space: Space,
        each: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.each_below(space, b"", each)
    }

    /// Every record whose key begins so.
    pub(super) fn each_below(
        &self,
        space: Space,
        prefix: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for item in self.snapshot.prefix(self.store.space(space), prefix) {
            let (key, value) = item.into_inner().map_err(|source| self.store.failed(source))?;
            if *key != MARK {
                each(&key, &value)?;
            }
        }
        Ok(())
    }

    /// All sensors.
    ///
    /// # Errors
    /// Where the database fails or a record cannot be read.
    pub fn sensors(&self) -> Result<Vec<Sensor>, StoreError> {
        let mut sensors = Vec::new();
        self.each_below(Space::Meta, b"k", |key, value| {
            sensors.push(record::decode("meta", key, value)?);
            Ok(())
        })?;
        Ok(sensors)
    }

    pub(super) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.snapshot.get(self.store.space(space), key).map_err(|source| self.store.failed(source))?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// Quiet runs before the one given, newest first.
    ///
    /// # Errors
    /// Where the database fails or a record cannot be read.
    pub fn runs(
        &self,
        before: Option<RunId>,
        limit: usize,
        mut accept: impl FnMut(&Run) -> bool,
    ) -> Result<Page<Run>, StoreError> {
        let end = before.map_or(u64::MAX, |run| run.0);
        let range = run_key(RunId(0)).to_vec()..run_key(RunId(end)).to_vec();
        let mut page = Page { items: Vec::new(), next: None };
        for item in self.snapshot.range(self.store.space(Space::Runs), range).rev() {
            let (key, value) = item.into_inner().map_err(|source| self.store.failed(source))?;
            let run: Run = record::decode("runs", &key, &value)?;
            if page.items.len() == limit {
                page.next = page.items.last().map(|run: &Run| run.id.0);
                break;
            }
            if accept(&run) {
                page.items.push(run);
            }
        }
        Ok(page)
    }

    /// Finished steps of a run from a number on, in order.
    ///
    /// # Errors
    /// Where the database fails or a record cannot be read.
    pub fn steps(&self, run: RunId, from: u32, limit: usize) -> Result<Vec<Step>, StoreError> {
        let start = StepId { run, step: from }.key().to_vec();
        let end = StepId { run: RunId(run.0 + 1), step: 0 }.key().to_vec();
        let mut steps = Vec::new();
        for item in self.snapshot.range(self.store.space(Space::Steps), start..end).take(limit) {
            let (key, value) = item.into_inner().map_err(|source| self.store.failed(source))?;
            steps.push(record::decode("steps", &key, &value)?);
        }
        Ok(steps)
    }

    /// A finished step.
    ///
    /// # Errors
    /// Where the database fails or the record cannot be read.
    pub fn step(&self, id: StepId) -> Result<Option<Step>, StoreError> {
        let bytes = self.get(Space::Steps, &id.key())?;
        bytes.map(|bytes| record::decode("steps", &id.key(), &bytes)).transpose()
    }

    /// The results that a call of this identity can take.
    ///
    /// # Errors
    /// Where the database fails or the record cannot be read.
    pub fn entry(&self, environment: u32, identity: &[u8; 32]) -> Result<Option<Entry>, StoreError> {
        let key = index_key(environment, identity);
        let bytes = self.get(Space::Index, &key)?;
        bytes.map(|bytes| record::decode("index", &key, &bytes)).transpose()
    }

    /// Counts the steps of a run anew, from its finished steps and the live ones given, and returns
    /// the number of its next step.
    ///
    /// # Errors
    /// Where the database fails or a record cannot be read.
    pub fn recount<'a>(&self, run: &mut Run, live: impl Iterator<Item = &'a Step>) -> Result<u32, StoreError> {
        let saved = run.counts.saved;
        let mut counts = Counts::default();
        let mut last = 0;
        let mut live_ids = std::collections::BTreeSet::new();
        for step in live {
            count_step(&mut counts, step);
            live_ids.insert(step.id);
            last = last.max(step.id.step);
        }
        for step in self.steps(run.id, 0, usize::MAX)? {
            if !live_ids.contains(&step.id) {
                count_step(&mut counts, &step);
                last = last.max(step.id.step);
            }
        }
        counts.saved = saved;
        run.counts = counts;
        Ok(last + 1)
    }

    /// Executions of a namespace, newest first.
    ///
    /// # Errors
    /// Where the database fails or a record cannot be read.
    pub fn history(&self, environment: u32, namespace: &str, limit: usize) -> Result<Vec<HistoryLine>, StoreError> {
        self.list(&namespace_key(b'n', environment, namespace), limit)
    }

    /// Executions of a namespace that were written after a turn, oldest first, and the turn of the last.
    ///
    /// # Errors
    /// Where the database fails or a record cannot be read.
    pub fn history_since(
        &self,
        environment: u32,
        namespace: &str,
        after: u64,
    ) -> Result<(Vec<HistoryLine>, u64), StoreError> {
        let prefix = namespace_key(b'n', environment, namespace);
        let at = |turn: u64| [prefix.as_slice(), &turn.to_be_bytes()].concat();
        let (mut all, mut last) = (Vec::new(), after);
        for item in self.snapshot.range(self.store.space(Space::History), at(after + 1)..=at(u64::MAX)) {
            let (key, value) = item.into_inner().map_err(|source| self.store.failed(source))?;
            all.extend(record::decode::<Vec<HistoryLine>>("history", &key, &value)?);
            let turn = key.get(prefix.len()..).and_then(|tail| tail.try_into().ok());
            last = turn.map_or(last, u64::from_be_bytes);
        }
        Ok((all, last))
    }

    /// Executions that took a result of this step, newest first.
    ///
    /// # Errors
    /// Where the database fails or a record cannot be read.
    pub fn borrowers(&self, source: StepId, limit: usize) -> Result<Vec<ExecutionId>, StoreError> {
        self.list(&borrowed_key(source), limit)
    }

    fn list<T: DeserializeOwned>(&self, prefix: &[u8], limit: usize) -> Result<Vec<T>, StoreError> {
        let mut all = Vec::new();
        for item in self.snapshot.prefix(self.store.space(Space::History), prefix).rev() {
            let (key, value) = item.into_inner().map_err(|source| self.store.failed(source))?;
            let lines: Vec<T> = record::decode("history", &key, &value)?;
            all.extend(lines.into_iter().rev());
            if all.len() >= limit {
                all.truncate(limit);
                break;
            }
        }
        Ok(all)
    }

    /// The figures of every namespace of an environment.
    ///
    /// # Errors
    /// Where the database fails or a record cannot be read.
    pub fn namespaces(&self, environment: u32) -> Result<Vec<NamespaceStats>, StoreError> {
        let prefix = [&[b'm'][..], &environment.to_be_bytes()].concat();
        let mut all = Vec::new();
        for item in self.snapshot.prefix(self.store.space(Space::History), prefix) {
            let (key, value) = item.into_inner().map_err(|source| self.store.failed(source))?;
            all.push(record::decode("history", &key, &value)?);
        }
        Ok(all)
    }

    /// The log of an execution from a piece on.
    ///
    /// # Errors
    /// Where the database fails or a record cannot be read.
    pub fn logs(&self, execution: ExecutionId, from: u32) -> Result<Vec<LogChunk>, StoreError> {
        self.log_pieces(execution, from, false).collect()
    }

    /// The pieces of a log, forward from one or backward from the one before it, read as they are asked for.
    pub fn log_pieces(
        &self,
        execution: ExecutionId,
        from: u32,
        backward: bool,
    ) -> Box<dyn Iterator<Item = Result<LogChunk, StoreError>> + '_> {
        self.log_pieces_with(execution, from, backward, |_| true)
    }

    /// The same, of which only those are decoded whose stored bytes are accepted; texts stand in them as
    /// they are.
    pub fn log_pieces_with<'a>(
        &'a self,
        execution: ExecutionId,
        from: u32,
        backward: bool,
        accept: impl Fn(&[u8]) -> bool + 'a,
    ) -> Box<dyn Iterator<Item = Result<LogChunk, StoreError>> + 'a> {
        let decode = move |item: fjall::Guard| {
            let (key, value) = item.into_inner().map_err(|source| self.store.failed(source))?;
            let number = key.get(16..).and_then(|tail| tail.try_into().ok()).map_or(0, u32::from_be_bytes);
            if !accept(&value) {
                return Ok(None);
            }
            let (first, lines) = record::decode("logs", &key, &value)?;
            Ok(Some(LogChunk { execution, number, first, lines }))
        };
        let space = self.store.space(Space::Logs);
        let (start, split, end) = (log_key(execution, 0), log_key(execution, from), log_key(execution, u32::MAX));
        if backward {
            Box::new(
                self.snapshot
                    .range(space, start.to_vec()..split.to_vec())
                    .rev()
                    .map(decode)
                    .filter_map(Result::transpose),
            )
        } else {
            Box::new(
                self.snapshot.range(space, split.to_vec()..=end.to_vec()).map(decode).filter_map(Result::transpose),
            )
        }
    }

    /// The piece of a log with a number, or the next that is still there.
    ///
    /// # Errors
    /// Where the database fails or a record cannot be read.
    pub fn log_piece(&self, execution: ExecutionId, number: u32) -> Result<Option<LogChunk>, StoreError> {
        self.log_pieces(execution, number, false).next().transpose()
    }

    /// The text of a value; `None` where it is gone.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn text(&self, value: &Stored) -> Result<Option<Json>, StoreError> {
        match value {
            Stored::Inline(json) => Ok(Some(json.clone())),
            Stored::Kept { hash, .. } => {
                let bytes = self.get(Space::Values, hash)?;
                Ok(bytes.and_then(|bytes| Json::parse(String::from_utf8(bytes).ok()?).ok()))
            }
        }
    }

    /// The text of a value of any size; of a large one read from its file. `None` where it is gone.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn whole(&self, value: &Stored) -> Result<Option<Json>, StoreError> {
        match value {
            Stored::Kept { hash, size, .. } if *size >= ibid::model::BLOB_MIN_BYTES => {
                let text = std::fs::read_to_string(self.store.blobs().path(hash)).ok();
                Ok(text.and_then(|text| Json::parse(text).ok()))
            }
            value => self.text(value),
        }
    }
}
