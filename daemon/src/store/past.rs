//! What the deciding thread sees: the database under what is not committed yet.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;

use ibid::model::{BLOB_MIN_BYTES, Json, Run, RunId, Step, StepId, Stored, Timestamp};
use lru::LruCache;

use super::record::{self, index_key, namespace_key, run_key, start_key};
use super::{Batch, BlobRecord, NamespaceStats, Space, Store, StoreError};
use crate::engine::{Changes, Entry, Lookup, StartRecord};

/// Index entries that are kept decoded.
const HOT_ENTRIES: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();

/// A pending record: the turn that wrote it, and its bytes unless it was removed.
type Pending = (u64, Option<Vec<u8>>);

/// The database under an overlay.
pub struct Past {
    store: Store,
    overlay: HashMap<(Space, Vec<u8>), Pending>,
    /// Large values that are becoming files.
    files: HashMap<[u8; 32], (u64, Json)>,
    hot: RefCell<LruCache<(u32, [u8; 32]), Entry>>,
    stats: RefCell<HashMap<(u32, String), NamespaceStats>>,
    /// The first failure to read, which makes every later answer doubtful.
    failure: RefCell<Option<StoreError>>,
}

impl Past {
    /// Starts with an empty overlay.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            overlay: HashMap::new(),
            files: HashMap::new(),
            hot: RefCell::new(LruCache::new(HOT_ENTRIES)),
            stats: RefCell::new(HashMap::new()),
            failure: RefCell::new(None),
        }
    }

    /// The store below.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// A read failed: nothing may be decided on the strength of it.
    pub fn take_failure(&self) -> Option<StoreError> {
        self.failure.borrow_mut().take()
    }

    /// Makes a batch visible before it is committed.
    pub fn cover(&mut self, batch: &Batch) {
        for (hash, text) in &batch.files {
            self.files.insert(*hash, (batch.turn, text.clone()));
        }
        for write in &batch.writes {
            // Logs are read from the database only; figures are kept beside.
            if matches!(write.space, Space::Logs | Space::History | Space::Live) {
                continue;
            }
            self.overlay.insert((write.space, write.key.clone()), (batch.turn, write.value.clone()));
        }
    }

    /// The index entries of a turn, so that the next look-up need not decode them.
    pub fn remember_entries(&self, entries: &[((u32, [u8; 32]), Entry)]) {
        let mut hot = self.hot.borrow_mut();
        for (key, entry) in entries {
            hot.put(*key, entry.clone());
        }
    }

    /// A batch is committed: what it wrote is found in the database from now on.
    pub fn uncover(&mut self, batch: &Batch) {
        self.files.retain(|_, (turn, _)| *turn != batch.turn);
        for write in &batch.writes {
            let key = (write.space, write.key.clone());
            if self.overlay.get(&key).is_some_and(|(turn, _)| *turn == batch.turn) {
                self.overlay.remove(&key);
            }
        }
    }

    /// Whether a finished step is not committed yet.
    #[must_use]
    pub fn is_pending(&self, id: StepId) -> bool {
        !self.overlay.is_empty() && self.overlay.contains_key(&(Space::Steps, id.key().to_vec()))
    }

    fn read(&self, space: Space, key: &[u8]) -> Option<Vec<u8>> {
        if !self.overlay.is_empty()
            && let Some((_, value)) = self.overlay.get(&(space, key.to_vec()))
        {
            return value.clone();
        }
        match self.store.get(space, key) {
            Ok(value) => value,
            Err(error) => {
                self.failure.borrow_mut().get_or_insert(error);
                None
            }
        }
    }

    fn read_as<T: record::Record>(&self, space: Space, name: &'static str, key: &[u8]) -> Option<T> {
        let bytes = self.read(space, key)?;
        match record::decode(name, key, &bytes) {
            Ok(value) => Some(value),
            Err(error) => {
                self.failure.borrow_mut().get_or_insert(error);
                None
            }
        }
    }

    /// What is known of a large value that was handed over.
    #[must_use]
    pub fn blob(&self, hash: &[u8; 32]) -> Option<BlobRecord> {
        self.read_as(Space::Values, "values", &record::blob_key(hash))
    }

    /// The text of a value, of a large one the name of its file. `None` where it is gone.
    #[must_use]
    pub fn text(&self, value: &Stored) -> Option<Json> {
        match value {
            Stored::Inline(json) => Some(json.clone()),
            Stored::Kept { hash, size, .. } if *size >= BLOB_MIN_BYTES => match self.files.get(hash) {
                Some((_, text)) => Some(text.clone()),
                None => self.store.blobs().named(hash, *size),
            },
            Stored::Kept { hash, .. } => {
                let bytes = self.read(Space::Values, hash)?;
                Json::parse(String::from_utf8(bytes).ok()?).ok()
            }
        }
    }

    /// The new figures of the namespaces that a turn touched.
    #[must_use]
    pub fn count(&self, changes: &Changes, now: Timestamp) -> Vec<(u32, NamespaceStats)> {
        let mut touched = BTreeMap::new();
        for ran in &changes.history {
            let figures = self.update_stats(ran.environment, &ran.namespace, |figures| {
                match ran.bytes {
                    Some(bytes) => {
                        figures.executed += 1;
                        figures.bytes += bytes;
                    }
                    None => figures.failed += 1,
                }
                figures.last_used = now;
            });
            touched.insert((ran.environment, ran.namespace.clone()), figures);
        }
        for borrowed in &changes.borrowed {
            let figures = self.update_stats(borrowed.environment, &borrowed.namespace, |figures| {
                if borrowed.joined {
                    figures.links += 1;
                } else {
                    figures.hits += 1;
                }
                figures.saved = figures.saved.saturating_add(borrowed.saved);
                figures.last_used = now;
            });
            touched.insert((borrowed.environment, borrowed.namespace.clone()), figures);
        }
        touched.into_iter().map(|((environment, _), figures)| (environment, figures)).collect()
    }

    fn update_stats(
        &self,
        environment: u32,
        namespace: &str,
        change: impl FnOnce(&mut NamespaceStats),
    ) -> NamespaceStats {
        let mut stats = self.stats.borrow_mut();
        let key = (environment, namespace.to_owned());
        let figures = stats.entry(key).or_insert_with(|| {
            let stored = self.read_as(Space::History, "history", &namespace_key(b'm', environment, namespace));
            stored.unwrap_or_else(|| NamespaceStats { name: namespace.to_owned(), ..NamespaceStats::default() })
        });
        change(figures);
        figures.clone()
    }
}

impl Lookup for Past {
    fn entry(&self, environment: u32, identity: &[u8; 32]) -> Option<Entry> {
        if let Some(entry) = self.hot.borrow_mut().get(&(environment, *identity)) {
            return Some(entry.clone());
        }
        let entry: Option<Entry> = self.read_as(Space::Index, "index", &index_key(environment, identity));
        if let Some(entry) = &entry {
            self.hot.borrow_mut().put((environment, *identity), entry.clone());
        }
        entry
    }

    fn step(&self, id: StepId) -> Option<Step> {
        self.read_as(Space::Steps, "steps", &id.key())
    }

    fn run(&self, id: RunId) -> Option<Run> {
        self.read_as(Space::Runs, "runs", &run_key(id))
    }

    fn start(&self, key: &str) -> Option<StartRecord> {
        self.read_as(Space::Meta, "meta", &start_key(key))
    }
}
