//! Results of commands that the daemon has published.
//!
//! To be asked and to answer, both sides must wake up, which takes longer than
//! everything else about a command whose result is there already. So the daemon,
//! when it has answered one, lays the answer down in its spool directory, for as
//! long as it would give it again: it takes it away before it decides anything
//! else about that key. A client reads it, judges the age by its own limit, as
//! the daemon would, and leaves a note that it took it. The daemon reads the
//! notes before it answers anything, and while somebody watches.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{ExecutionId, Json, Stdin, Timestamp, Word};
use crate::protocol::{Exec, UseCache};

/// The directory within the spool directory.
pub const PUBLISHED: &str = "published";

/// Longer values are not published, bytes.
pub const PUBLISHED_MAX_BYTES: usize = 64 * 1024;

/// The file of notes in there.
const NOTES: &str = "taken";

/// Beyond this nobody adds to the notes before the daemon has read them, bytes.
const NOTES_MAX_BYTES: u64 = 1024 * 1024;

/// That a published result was taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    /// When, ms since 1970.
    pub at: Timestamp,
    /// What had made it.
    pub source: ExecutionId,
    /// By whom.
    pub exec: Exec,
}

impl Taken {
    /// Leaves a note.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn note(&self, spool: &Path) -> std::io::Result<()> {
        let mut file = open_notes(spool, OpenOptions::new().append(true))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
        file.write_all(&postcard::to_stdvec_cobs(self).map_err(std::io::Error::other)?)
    }

    /// Takes all notes that were left.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn collect(spool: &Path) -> std::io::Result<Vec<Self>> {
        let mut file = match open_notes(spool, OpenOptions::new().read(true).append(true)) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        // A writer that was stopped in the middle must not stop the daemon: the notes are there the next time.
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(Vec::new()),
            locked => locked?,
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        file.set_len(0)?;
        // A note that was cut off, as its writer was killed, is of a result that was not shown to its end.
        Ok(bytes
            .split_inclusive_mut(|byte| *byte == 0)
            .filter_map(|note| postcard::from_bytes_cobs(note).ok())
            .collect())
    }

    /// Whether so many wait that the daemon should be asked instead.
    #[must_use]
    pub fn too_many(spool: &Path) -> bool {
        std::fs::metadata(spool.join(PUBLISHED).join(NOTES)).is_ok_and(|metadata| metadata.len() > NOTES_MAX_BYTES)
    }

    /// Whether there are any.
    #[must_use]
    pub fn any(spool: &Path) -> bool {
        std::fs::metadata(spool.join(PUBLISHED).join(NOTES)).is_ok_and(|metadata| metadata.len() > 0)
    }
}

fn open_notes(spool: &Path, how: &mut OpenOptions) -> std::io::Result<File> {
    how.mode(0o600).open(spool.join(PUBLISHED).join(NOTES))
}

/// From now on nothing is published; notes stay.
///
/// # Errors
/// Where it cannot be made.
pub fn clear_published(spool: &Path) -> std::io::Result<()> {
    let directory = spool.join(PUBLISHED);
    std::fs::create_dir_all(&directory)?;
    for entry in std::fs::read_dir(&directory)? {
        let entry = entry?;
        if entry.file_name() != NOTES {
            std::fs::remove_file(entry.path())?;
        }
    }
    open_notes(spool, OpenOptions::new().append(true).create(true)).map(drop)
}

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

/// Where an answer is published: a file by its name, and the question that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    path: PathBuf,
    asked: Vec<u8>,
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
    failures: bool,
}

impl PublishedResult {
    /// Where the answer to a request would be; `None` for one whose answer is never published: without a
    /// cache, or with inputs, which must be read first.
    #[must_use]
    pub fn place(spool: &Path, exec: &Exec) -> Option<Place> {
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
            failures: exec.cache_failures,
        };
        let asked = postcard::to_stdvec(&asked).ok()?;
        let path = spool.join(PUBLISHED).join(format!("{:016x}", name_hash(&asked)));
        Some(Place { path, asked })
    }

    /// Reads it, if it is there and young enough for the one who asks.
    #[must_use]
    pub fn read(place: &Place, cache: UseCache, now: Timestamp) -> Option<Self> {
        let bytes = std::fs::read(&place.path).ok()?;
        let (asked, rest): (&[u8], _) = postcard::take_from_bytes(&bytes).ok()?;
        let published: Self = postcard::from_bytes(rest).ok().filter(|_| asked == place.asked)?;
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
    pub fn write(&self, place: &Place) -> std::io::Result<()> {
        let bytes = postcard::to_stdvec(place.asked.as_slice()).map_err(std::io::Error::other)?;
        let bytes = postcard::to_extend(self, bytes).map_err(std::io::Error::other)?;
        let unfinished = place.path.with_extension("new");
        std::fs::write(&unfinished, bytes)?;
        std::fs::rename(unfinished, &place.path)
    }
}

impl Place {
    /// Takes back what was published there.
    pub fn clear(&self) {
        // It may have been replaced by another question with the same name, and taken back with that.
        let _gone = std::fs::remove_file(&self.path);
    }
}

/// FNV-1a: only a name, since the question itself is compared; better ones look first at what the processor
/// can do, which takes longer than all the rest.
fn name_hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunId;

    #[test]
    fn only_the_same_question_finds_an_answer_that_is_young_enough() {
        let spool = std::env::temp_dir().join(format!("ibid-published-{}", std::process::id()));
        let exec = |text: &str| -> Exec { serde_json::from_str(text).unwrap() };
        let asked = exec(r#"{"command":["make"],"directory":"/a","cache":"as_declared"}"#);
        let place = PublishedResult::place(&spool, &asked).unwrap();
        std::fs::create_dir_all(&spool).unwrap();
        clear_published(&spool).unwrap();
        let published =
            PublishedResult { source: RunId(3).root().attempt(1), completed: 1000, value: Json::string("x") };
        published.write(&place).unwrap();
        let read = |place: &Place, cache| PublishedResult::read(place, cache, 3000);
        assert_eq!(read(&place, UseCache::AsDeclared), Some(published.clone()));
        assert_eq!(read(&place, UseCache::MaxAge(2000)), Some(published));
        assert_eq!(read(&place, UseCache::MaxAge(1999)), None);
        assert_eq!(read(&place, UseCache::MaxAge(0)), None);
        // Another question that happens to have the same name.
        let other = Place { asked: b"other".to_vec(), ..place.clone() };
        assert_eq!(read(&other, UseCache::AsDeclared), None);
        place.clear();
        assert_eq!(read(&place, UseCache::AsDeclared), None);
        assert!(!Taken::any(&spool));
        let taken = |at| Taken { at, source: RunId(3).root().attempt(1), exec: asked.clone() };
        taken(1).note(&spool).unwrap();
        taken(2).note(&spool).unwrap();
        assert!(Taken::any(&spool));
        assert_eq!(Taken::collect(&spool).unwrap(), [taken(1), taken(2)]);
        assert_eq!(Taken::collect(&spool).unwrap(), []);
        std::fs::remove_dir_all(&spool).unwrap();
        for never in [
            r#"{"command":["make"],"directory":"/a"}"#,
            r#"{"command":["make"],"directory":"/a","cache":"as_declared","inputs":["a"]}"#,
            r#"{"command":["make"],"directory":"/a","cache":"as_declared","stdin":"argument"}"#,
        ] {
            assert_eq!(PublishedResult::place(&spool, &exec(never)), None, "{never}");
        }
    }
}
