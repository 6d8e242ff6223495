//! Results of commands that the daemon has published.
//!
//! To be asked and to answer, both sides must wake up, which takes longer than
//! everything else about a command whose result is there already. So the daemon,
//! when it has answered one, lays the answer down in its spool directory, for as
//! long as it would give it again: it takes it away before it decides anything
//! else about that key. A client reads it, judges the age by its own limit, as
//! the daemon would, and tells the daemon afterwards that it took it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{ExecutionId, Json, Stdin, Timestamp, Word};
use crate::protocol::{Exec, UseCache};

/// The directory within the spool directory.
pub const PUBLISHED: &str = "published";

/// Longer values are not published, bytes.
pub const PUBLISHED_MAX_BYTES: usize = 64 * 1024;

/// A published result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedResult {
    /// What made it.
    pub source: ExecutionId,
    /// When it was completed, ms since 1970.
    pub completed: Timestamp,
    /// What the command wrote and how it ended.
    pub value: Json,
}

/// Everything that a key may be made of.
#[derive(Serialize)]
struct Asked<'a> {
    project: &'a str,
    environment: &'a str,
    command: &'a [Word],
    directory: &'a Word,
    variables: Vec<(&'a str, Option<&'a Word>)>,
    key: Option<&'a str>,
    namespace: Option<&'a str>,
}

impl PublishedResult {
    /// Where the answer to a request would be; `None` for one whose answer is never published: without a
    /// cache, or with inputs, which must be read first.
    #[must_use]
    pub fn path(spool: &Path, exec: &Exec) -> Option<PathBuf> {
        let plain = exec.cache.is_some() && exec.inputs.is_empty() && exec.caller.is_none();
        if !plain || exec.stdin != Stdin::Empty {
            return None;
        }
        let value = |name: &str| {
            exec.variables.iter().rev().find(|(known, _)| known.0 == name.as_bytes()).map(|(_, value)| value)
        };
        let asked = Asked {
            project: &exec.scope.project,
            environment: &exec.scope.environment,
            command: &exec.command,
            directory: &exec.directory,
            variables: exec.key_variables.iter().map(|name| (name.as_str(), value(name))).collect(),
            key: exec.key.as_deref(),
            namespace: exec.namespace.as_deref(),
        };
        let hash = blake3::hash(&postcard::to_stdvec(&asked).ok()?);
        Some(spool.join(PUBLISHED).join(hash.to_hex().as_str()))
    }

    /// Reads it, if it is there and young enough for the one who asks.
    #[must_use]
    pub fn read(path: &Path, cache: UseCache, now: Timestamp) -> Option<Self> {
        let bytes = std::fs::read(path).ok()?;
        let published: Self = postcard::from_bytes(&bytes).ok()?;
        let young = match cache {
            UseCache::AsDeclared => true,
            UseCache::MaxAge(max_age) => {
                let age = now.saturating_sub(published.completed).max(0).cast_unsigned();
                max_age > 0 && age <= max_age
            }
        };
        young.then_some(published)
    }

    /// Lays it down, whole or not at all.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let bytes = postcard::to_stdvec(self).map_err(std::io::Error::other)?;
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let unfinished = path.with_extension("new");
        std::fs::write(&unfinished, bytes)?;
        std::fs::rename(unfinished, path)
    }
}
