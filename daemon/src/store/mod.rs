//! REMEMBERS: what was decided, on disk, in the order of the decisions.
//!
//! [`Store`] opens the database and reads from snapshots. One [`writer`] thread
//! commits batches; [`Past`] is what the deciding thread sees: the database
//! under an overlay of what is not committed yet.
//!
//! Keys are the ids' numbers, big-endian, so a run's records lie side by side.
//! Records are a version byte and a postcard body.

mod batch;
mod blobs;
mod past;
mod prune;
mod read;
mod record;
mod seal;
mod verify;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fjall::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};
use ibid::model::{Environment, Repository, Run, Step, StepId};
use rustix::io::Errno;

use crate::engine::Remembered;

pub use batch::{Batch, LogChunk, LogLine, Unpacked};
pub use blobs::{BlobRecord, Blobs, NotTaken, blob_named_by, hash_of};
pub use past::Past;
pub use prune::{Criteria, Plan};
pub use read::{NamespaceStats, Page, View};
pub use record::{HistoryLine, TurnRecord};
pub use verify::Verified;
pub use writer::{Committed, Writer};

use seal::{MARK, Seal, Turns};

/// Counts incompatible changes of keys and records.
pub const SCHEMA: u32 = 5;

/// The oldest one that is read; it becomes [`SCHEMA`] when the store is opened.
const OLDEST: u32 = 3;

/// The keyspaces, by use. Their options are frozen when they are created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// Schema, turn, environments, repositories, sensors, starts.
    Meta,
    /// Quiet runs.
    Runs,
    /// Active runs (step 0) and unfinished steps.
    Live,
    /// Finished steps.
    Steps,
    /// Environment and identity → the results that can still be taken.
    Index,
    /// For people: a namespace's executions, a result's borrowers, a namespace's figures.
    History,
    /// Middle-sized values by their hash; of large ones what is known beside their text.
    Values,
    /// What executions wrote.
    Logs,
}

impl Space {
    const ALL: [Self; 8] =
        [Self::Meta, Self::Runs, Self::Live, Self::Steps, Self::Index, Self::History, Self::Values, Self::Logs];

    const NAMES: [&'static str; 8] = ["meta", "runs", "live", "steps", "index", "history", "values", "logs"];

    const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    fn options(self) -> KeyspaceCreateOptions {
        const MIB: u64 = 1024 * 1024;
        let memtable = match self {
            Self::Live | Self::Steps | Self::Index => 16 * MIB,
            Self::Runs | Self::History | Self::Values | Self::Logs => 8 * MIB,
            Self::Meta => 4 * MIB,
        };
        let options = KeyspaceCreateOptions::default().max_memtable_size(memtable);
        match self {
            // Most look-ups are of calls that were never made: a good filter saves the read.
            Self::Index => options
                .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(12.0)))),
            _ => options,
        }
    }
}

/// Why the store could not be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another daemon has it open.
    #[error("the store in {0} is in use by another ibidd; stop that one, or choose another --data-dir")]
    Locked(PathBuf),
    /// Made by a newer version.
    #[error(
        "the store in {path} has schema {found}, and this ibidd knows up to {SCHEMA}: it was written by a newer \
         version; use that one, or another --data-dir"
    )]
    Newer {
        /// Where.
        path: PathBuf,
        /// Its schema.
        found: u32,
    },
    /// Made before the first release.
    #[error(
        "the store in {path} has schema {found}, from before the first release, and this ibidd reads {OLDEST} to {SCHEMA}: move \
         it away, or choose another --data-dir"
    )]
    Older {
        /// Where.
        path: PathBuf,
        /// Its schema.
        found: u32,
    },
    /// A record that does not read back.
    #[error("the record {key} in '{space}' cannot be read ({reason}); it was damaged, or written by something else")]
    Record {
        /// The keyspace.
        space: &'static str,
        /// The key in hexadecimal.
        key: String,
        /// What the decoder said.
        reason: String,
    },
    /// Less is there than was written.
    #[error(
        "the store in {path} has lost something: {lost}. Its files were damaged, or are an older copy. Put back a whole \
         copy of the data directory; or go on with what is left: ibidd --accept-loss --data-dir {}",
        .path.parent().unwrap_or(.path).display()
    )]
    Lost {
        /// Where.
        path: PathBuf,
        /// Which keyspaces end at which commit.
        lost: String,
    },
    /// Files that do not read.
    #[error(
        "the files of the store in {path} are damaged ({reason}) and nothing of it is used. Put back a copy of the data \
         directory, or move it away; 'ibid doctor --verify' says what still reads"
    )]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What the database said.
        reason: String,
    },
    /// The disk is full, read-only or broken.
    #[error(
        "the files of the store in {path} could not be read or written ({reason}); what was acknowledged is kept, and \
         it goes on from there when the disk works again"
    )]
    Disk {
        /// Where.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The thread that writes panicked.
    #[error("writing to the store failed in an unforeseen way; the message above says where")]
    Panicked,
    /// The file system.
    #[error("cannot use {path}: {source}")]
    Directory {
        /// Where.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

/// The open database.
#[derive(Clone)]
pub struct Store {
    path: PathBuf,
    database: Database,
    spaces: [Keyspace; 8],
    blobs: Blobs,
    seal: Arc<Mutex<Seal>>,
}

impl Store {
    /// Opens the store in a data directory, or makes one. Only one process can have it open.
    ///
    /// # Errors
    /// Where it is in use, damaged, has lost something, is newer than this program, or the directory
    /// cannot be used.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        match Self::open_as_it_is(directory)? {
            (store, None) => store.marked(),
            (store, Some(lost)) => Err(StoreError::Lost { path: store.path, lost }),
        }
    }

    /// Opens what is left of a store that has lost something: records that lead nowhere are taken out, and
    /// the rest counts as the whole from now on.
    ///
    /// # Errors
    /// As [`Self::open`], but for what is lost.
    pub fn open_remains(directory: &Path) -> Result<Self, StoreError> {
        let store = Self::open_as_it_is(directory)?.0.marked()?;
        let verified = store.view().verify();
        store.contain(&verified)?;
        Ok(store)
    }

    /// Opens a store only to look at it, and says what it has lost.
    ///
    /// # Errors
    /// As [`Self::open`], but for what is lost.
    pub fn open_as_it_is(directory: &Path) -> Result<(Self, Option<String>), StoreError> {
        let path = directory.join("store");
        std::fs::create_dir_all(&path).map_err(|source| StoreError::Directory { path: path.clone(), source })?;
        // Files that were tampered with can also break the database's assertions.
        let opened = std::panic::catch_unwind(|| open_database(&path));
        let (database, spaces) = opened.unwrap_or_else(|_| {
            Err(StoreError::Damaged { path: path.clone(), reason: "the message above says where".to_owned() })
        })?;
        let blobs = Blobs::open(directory)?;
        let (seal, held) = Seal::open(directory)?;
        let store = Self { path, database, spaces, blobs, seal: Arc::new(Mutex::new(seal)) };
        store.check_schema()?;
        let found = store.turns()?;
        store.lock_seal().turns = found;
        let behind = held.iter().flatten().zip(found).zip(Space::NAMES);
        let lost: Vec<_> = behind
            .filter(|((held, found), _)| *held > found)
            .map(|((held, found), name)| format!("'{name}' ends at commit {found} of {held}"))
            .collect();
        Ok((store, (!lost.is_empty()).then(|| lost.join(", "))))
    }

    fn lock_seal(&self) -> MutexGuard<'_, Seal> {
        // What a panic left there is written anew with the next commit.
        self.seal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last turn that each keyspace knows of.
    fn turns(&self) -> Result<Turns, StoreError> {
        let mut turns = Turns::default();
        for (turn, space) in turns.iter_mut().zip(Space::ALL) {
            let mark = self.get(space, &MARK)?;
            *turn = mark.and_then(|mark| mark.try_into().ok()).map_or(0, u64::from_be_bytes);
        }
        Ok(turns)
    }

    /// What is there now is all there is.
    fn reseal(&self) -> Result<(), StoreError> {
        let turns = self.turns()?;
        let mut seal = self.lock_seal();
        seal.turns = turns;
        seal.write()?;
        seal.sync()
    }

    fn check_schema(&self) -> Result<(), StoreError> {
        let path = || self.path.clone();
        match self.schema()? {
            Some(found) if found > SCHEMA => Err(StoreError::Newer { path: path(), found }),
            Some(found) if found < OLDEST => Err(StoreError::Older { path: path(), found }),
            _ => Ok(()),
        }
    }

    fn schema(&self) -> Result<Option<u32>, StoreError> {
        let bytes = self.get(Space::Meta, record::SCHEMA_KEY)?;
        Ok(bytes.map(|bytes| bytes.as_slice().try_into().map_or(u32::MAX, u32::from_be_bytes)))
    }

    /// From here on a program that does not know this schema is told so.
    fn marked(self) -> Result<Self, StoreError> {
        if self.schema()? != Some(SCHEMA) {
            let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
            batch.insert(self.space(Space::Meta), record::SCHEMA_KEY, SCHEMA.to_be_bytes().as_slice());
            batch.commit().map_err(|source| self.failed(source))?;
        }
        Ok(self)
    }

    fn space(&self, space: Space) -> &Keyspace {
        &self.spaces[space as usize]
    }

    fn failed(&self, source: fjall::Error) -> StoreError {
        in_words(&self.path, source)
    }

    /// The files of large values.
    #[must_use]
    pub const fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Where the database lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that the store really takes on the disk; a fresh journal is mostly a hole.
    #[must_use]
    pub fn disk_bytes(&self) -> u64 {
        fn below(path: &Path) -> u64 {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries
                .map(|entry| match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => below(&entry.path()),
                    Ok(metadata) => std::os::unix::fs::MetadataExt::blocks(&metadata) * 512,
                    Err(_) => 0,
                })
                .sum()
        }
        let files = self.path.parent().map(|data| data.join("blobs"));
        below(&self.path) + files.map_or(0, |files| below(&files))
    }

    /// One record, as committed.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.space(space).get(key).map_err(|source| self.failed(source))?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// A consistent view of everything committed so far.
    #[must_use]
    pub fn view(&self) -> View {
        View::new(self.clone(), self.database.snapshot())
    }

    /// Gives the space of removed records back to the disk.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn compact(&self) -> Result<(), StoreError> {
        for space in &self.spaces {
            space.rotate_memtable_and_wait().map_err(|source| self.failed(source))?;
            space.major_compact().map_err(|source| self.failed(source))?;
        }
        Ok(())
    }

    /// Writes everything to the disk and says whether that worked.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncAll).map_err(|source| self.failed(source))?;
        let seal = self.lock_seal();
        seal.write()?;
        seal.sync()
    }

    /// Everything unfinished, to go on from.
    ///
    /// # Errors
    /// Where the database fails or a record cannot be read.
    pub fn remembered(&self) -> Result<Remembered, StoreError> {
        let snapshot = self.database.snapshot();
        let mut remembered = Remembered::default();
        if let Some(bytes) = self.get(Space::Meta, record::TURN_KEY)? {
            let turn: record::TurnRecord = record::decode("meta", record::TURN_KEY, &bytes)?;
            remembered.next_sequence = turn.next_sequence;
            remembered.next_run = turn.next_run;
        }
        for item in snapshot.prefix(self.space(Space::Meta), b"e") {
            let (key, value) = item.into_inner().map_err(|source| self.failed(source))?;
            remembered.environments.push(record::decode::<Environment>("meta", &key, &value)?);
        }
        for item in snapshot.prefix(self.space(Space::Meta), b"r") {
            let (key, value) = item.into_inner().map_err(|source| self.failed(source))?;
            remembered.repositories.push(record::decode::<Repository>("meta", &key, &value)?);
        }
        remembered.sensors = self.view().sensors()?;
        let view = self.view();
        view.each(Space::Live, |key, value| {
            match StepId::from_key(key) {
                Some(id) if id.step == 0 => remembered.runs.push((record::decode::<Run>("live", key, value)?, 0)),
                _ => remembered.steps.push(record::decode::<Step>("live", key, value)?),
            }
            Ok(())
        })?;
        for (run, next_step) in &mut remembered.runs {
            // Steps come in the order of their ids.
            let start = remembered.steps.partition_point(|step| step.id.run < run.id);
            let end = remembered.steps.partition_point(|step| step.id.run <= run.id);
            *next_step = view.recount(run, remembered.steps[start..end].iter())?;
        }
        Ok(remembered)
    }

    /// The turn that was committed last.
    ///
    /// # Errors
    /// Where the database fails or the record cannot be read.
    pub fn last_turn(&self) -> Result<record::TurnRecord, StoreError> {
        match self.get(Space::Meta, record::TURN_KEY)? {
            Some(bytes) => record::decode("meta", record::TURN_KEY, &bytes),
            None => Ok(record::TurnRecord::default()),
        }
    }
}

fn open_database(path: &Path) -> Result<(Database, [Keyspace; 8]), StoreError> {
    let failed = |source| in_words(path, source);
    let database = Database::builder(path)
        .cache_size(24 * 1024 * 1024)
        .max_journaling_size(64 * 1024 * 1024)
        .max_cached_files(Some(256))
        .worker_threads(2)
        .open()
        .map_err(failed)?;
    let open = |space: Space| database.keyspace(space.name(), || space.options()).map_err(failed);
    let [a, b, c, d, e, f, g, h] = Space::ALL.map(open);
    Ok((database, [a?, b?, c?, d?, e?, f?, g?, h?]))
}

/// What the system says of a disk, or of this process; anything else comes of what is in the files.
const OF_THE_DISK: [Errno; 10] = [
    Errno::NOSPC,
    Errno::DQUOT,
    Errno::ROFS,
    Errno::IO,
    Errno::ACCESS,
    Errno::PERM,
    Errno::FBIG,
    Errno::MFILE,
    Errno::NFILE,
    Errno::NOMEM,
];

/// What the database says, as what it means.
fn in_words(path: &Path, source: fjall::Error) -> StoreError {
    let path = path.to_owned();
    match source {
        fjall::Error::Locked => StoreError::Locked(path),
        fjall::Error::Poisoned => StoreError::Disk { path, reason: "an earlier write failed".to_owned() },
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error))
            if Errno::from_io_error(&error).is_some_and(|error| OF_THE_DISK.contains(&error)) =>
        {
            StoreError::Disk { path, reason: error.to_string() }
        }
        damaged => StoreError::Damaged { path, reason: damaged.to_string() },
    }
}
