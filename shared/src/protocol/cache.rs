//! What is remembered: asked for, shown, forgotten and kept.

use serde::{Deserialize, Serialize};

use super::messages::Scope;
use super::views::AttemptView;
use crate::model::{ExecutionId, Millis, State, Timestamp};

messages! {
    /// Asks for namespaces, or the newest keys of one.
    ListCache {
        /// Where.
        #[serde(default)]
        scope: Scope,
        /// The namespace whose keys are wanted.
        #[serde(default)]
        namespace: Option<String>,
        /// At most this many; 100 if absent.
        #[serde(default)]
        limit: Option<u32>,
    }
    /// Namespaces or keys.
    CacheList {
        /// Without a namespace: all of them.
        namespaces: Vec<NamespaceView>,
        /// With one: its keys, newest first.
        keys: Vec<KeyLine>,
    }
    /// A namespace's figures.
    NamespaceView {
        /// Its name.
        namespace: String,
        /// Executions with a result.
        executed: u64,
        /// Executions without.
        failed: u64,
        /// Results taken at once.
        hits: u64,
        /// Results taken by joining.
        links: u64,
        /// Time saved, ms.
        saved: Millis,
        /// Bytes of the results.
        bytes: u64,
        /// Last use, ms since 1970.
        last_used: Timestamp,
    }
    /// One key of a namespace.
    KeyLine {
        /// In hexadecimal.
        key: String,
        /// Its newest execution.
        execution: ExecutionId,
        /// That one's state.
        state: State,
        /// The target that it called.
        target: String,
        /// Its arguments, short.
        arguments: String,
        /// When it was created.
        created: Timestamp,
        /// How long it ran.
        duration: Option<Millis>,
    }
    /// Asks for the figures of the whole cache.
    GetCacheStats {
        /// Where.
        #[serde(default)]
        scope: Scope,
    }
    /// The figures of the whole cache.
    CacheStats {
        /// The sum over all namespaces.
        total: NamespaceView,
        /// Hits and links of every hundred calls with caching on.
        hit_percent: Option<u32>,
        /// Bytes of the store on disk.
        disk_bytes: u64,
    }
    /// Asks for one key.
    ShowKey {
        /// Where.
        #[serde(default)]
        scope: Scope,
        /// The key in hexadecimal (at least 6 digits), or the id of a step that has it.
        key: String,
    }
    /// One key.
    KeyView {
        /// In hexadecimal.
        key: String,
        /// The namespace.
        namespace: String,
        /// The version.
        version: Option<String>,
        /// The results that can still be taken, newest first.
        usable: Vec<AttemptView>,
        /// Executions of this key, newest first.
        executions: Vec<AttemptView>,
        /// Who took results, newest first.
        borrowers: Vec<ExecutionId>,
    }
    /// Takes a key's results out of the look-up; their records stay.
    CacheForget {
        /// Where.
        #[serde(default)]
        scope: Scope,
        /// The key in hexadecimal (at least 6 digits), or the id of a step that has it.
        key: String,
        /// Puts what was forgotten back.
        #[serde(default)]
        undo: bool,
    }
    /// Keeps a key's results from pruning.
    CachePin {
        /// Where.
        #[serde(default)]
        scope: Scope,
        /// The key in hexadecimal (at least 6 digits), or the id of a step that has it.
        key: String,
    }
    /// Leaves a key's results to pruning again.
    CacheUnpin {
        /// Where.
        #[serde(default)]
        scope: Scope,
        /// The key in hexadecimal (at least 6 digits), or the id of a step that has it.
        key: String,
    }
    /// What may go: whatever fits all that is said.
    Prune {
        /// Of which environment; `None` for all.
        #[serde(default)]
        scope: Option<Scope>,
        /// Only of this namespace; of runs that of their own target, e.g. `news:digest`.
        #[serde(default)]
        namespace: Option<String>,
        /// Only what ended longer ago, ms.
        #[serde(default)]
        older_than: Option<Millis>,
        /// The oldest, until what stays has at most so many bytes; of runs those of their records.
        #[serde(default)]
        max_size: Option<u64>,
        /// Not the newest so many of each namespace.
        #[serde(default)]
        keep_latest: Option<u32>,
        /// Only says what would go.
        #[serde(default)]
        dry_run: bool,
    }
    /// What pruning came to, or would.
    Pruned {
        /// Whether it was only said.
        dry_run: bool,
        /// Results that can be taken no more.
        results: u64,
        /// Runs.
        runs: u64,
        /// Steps of them; those on which something kept stands stay.
        steps: u64,
        /// Values that nothing else refers to.
        values: u64,
        /// Bytes of all of that, as stored before compression.
        bytes: u64,
        /// Bytes of the store on disk before.
        disk_before: u64,
        /// And after; the same as before where it was only said.
        disk_after: u64,
    }
    /// What a change to a key came to.
    CacheChanged {
        /// The key in hexadecimal.
        key: String,
        /// How many results it was about; 0 where nothing had to change.
        changed: u32,
    }
}

/// Removes remembered results; the records of the executions that made them stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CachePrune(pub Prune);

/// Removes finished runs with their records, logs and what only they hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunsPrune(pub Prune);
