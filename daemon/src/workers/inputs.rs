//! The content of input files, as digests that are part of a call's key.
//!
//! A file is read again only if it may have changed: if its place, size and
//! times are those under which it was read, and the times lay well before the
//! reading. A change right after the reading could otherwise leave the same
//! times, where a file system counts them coarsely.

use std::collections::BTreeMap;
use std::fs::File;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use ibid::model::Json;
use lru::LruCache;

use super::Stamp;

/// How many files' digests are kept.
const KEPT: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

/// More files than this are told as one digest.
const TOLD_MAX: usize = 200;

/// More files than this are refused.
const FILES_MAX: usize = 200_000;

/// A star stands for a part of one name, two stars for any directories.
const SLASHES_COUNT: glob::MatchOptions =
    glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// Digests of files, and what is known of them from earlier.
#[derive(Debug, Clone)]
pub struct Inputs {
    known: Arc<Mutex<LruCache<PathBuf, (Stamp, blake3::Hash)>>>,
}

impl Default for Inputs {
    fn default() -> Self {
        Self { known: Arc::new(Mutex::new(LruCache::new(KEPT))) }
    }
}

impl Inputs {
    /// The content of all files that fit one of the patterns, relative to a directory: an object of their
    /// digests by path. Reads files, so it takes its time.
    ///
    /// # Errors
    /// In words, where a pattern is wrong, names a single file that is not there, or a file cannot be read.
    pub fn digest(&self, directory: &Path, patterns: &[String]) -> Result<Json, String> {
        let mut digests: BTreeMap<String, String> = BTreeMap::new();
        for pattern in patterns {
            for path in files(directory, pattern)? {
                let name = path.strip_prefix(directory).unwrap_or(&path).to_string_lossy().into_owned();
                let hash = self.hash(&path).map_err(|error| format!("the input {name} cannot be read: {error}"))?;
                digests.insert(name, hash.to_hex()[..32].to_owned());
            }
        }
        if digests.len() > TOLD_MAX {
            let mut hasher = blake3::Hasher::new();
            for (name, hash) in &digests {
                hasher.update(&(name.len() as u64).to_be_bytes()).update(name.as_bytes()).update(hash.as_bytes());
            }
            let all = format!("all {} files", digests.len());
            digests = BTreeMap::from([(all, hasher.finalize().to_hex()[..32].to_owned())]);
        }
        Json::from_serialize(&digests).map_err(|error| error.to_string())
    }

    fn hash(&self, path: &Path) -> std::io::Result<blake3::Hash> {
        let now = SystemTime::now();
        let stamp = Stamp::of(&std::fs::metadata(path)?);
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, hash)) = known().get(path)
            && *known == stamp
        {
            return Ok(*hash);
        }
        let mut hasher = blake3::Hasher::new();
        let file = File::open(path)?;
        hasher.update_reader(&file)?;
        let hash = hasher.finalize();
        if stamp.is_settled(now) && Stamp::of(&file.metadata()?) == stamp {
            known().put(path.to_owned(), (stamp, hash));
        }
        Ok(hash)
    }
}

/// The files that fit a pattern. A plain path must exist.
fn files(directory: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let plain = !pattern.contains(['*', '?', '[']);
    if plain {
        let path = directory.join(pattern);
        return match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => Ok(vec![path]),
            Ok(_) => Err(format!(
                "the input '{pattern}' is no file; '{}/**/*' means all files below",
                pattern.trim_end_matches('/')
            )),
            Err(error) => Err(format!("the input '{pattern}' cannot be read: {error}")),
        };
    }
    let wanted =
        glob::Pattern::new(pattern).map_err(|error| format!("the input pattern '{pattern}' is not right: {error}"))?;
    // Where the walk begins: the part of the pattern before the first star.
    let plain: PathBuf = Path::new(pattern)
        .components()
        .take_while(|part| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']))
        .collect();
    let mut paths = Vec::new();
    let mut waiting = vec![plain];
    while let Some(below) = waiting.pop() {
        let entries = match std::fs::read_dir(directory.join(&below)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(format!("the inputs '{pattern}' cannot all be read: {}: {error}", below.display()));
            }
        };
        for entry in entries {
            let unread = |error: std::io::Error| format!("the inputs '{pattern}' cannot all be read: {error}");
            let entry = entry.map_err(unread)?;
            let name = below.join(entry.file_name());
            // Links to directories are not followed: they may lead back to where they are.
            if entry.file_type().map_err(unread)?.is_dir() {
                waiting.push(name);
                continue;
            }
            let Some(text) = name.to_str() else {
                let shown = name.display();
                return Err(format!("the name of {shown} is not UTF-8, so that it cannot be part of a key"));
            };
            let matches = wanted.matches_with(text, SLASHES_COUNT);
            if matches && directory.join(&name).is_file() {
                paths.push(directory.join(&name));
                if paths.len() > FILES_MAX {
                    return Err(format!("the inputs '{pattern}' are more than {FILES_MAX} files; name fewer"));
                }
            }
        }
    }
    paths.sort();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn back(path: &Path, by: Duration) {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - by).unwrap();
    }

    #[test]
    fn content_counts_and_not_when_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let inputs = Inputs::default();
        let digest = || inputs.digest(directory.path(), &["**/*.md".to_owned()]).unwrap();
        let file = directory.path().join("a.md");
        std::fs::write(&file, "one").unwrap();
        std::fs::create_dir(directory.path().join("b")).unwrap();
        std::fs::write(directory.path().join("b/c.md"), "two").unwrap();
        let before = digest();
        assert!(before.as_str().contains("\"a.md\"") && before.as_str().contains("\"b/c.md\""), "{before}");
        back(&file, Duration::from_secs(60));
        assert_eq!(digest(), before);
        std::fs::write(&file, "two").unwrap();
        assert_ne!(digest(), before);
        std::fs::write(&file, "one").unwrap();
        assert_eq!(digest(), before);
    }

    #[test]
    fn a_change_within_one_step_of_the_clock_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let inputs = Inputs::default();
        let file = directory.path().join("a");
        let digest = || inputs.digest(directory.path(), &["a".to_owned()]).unwrap();
        let moment = SystemTime::now();
        let mut seen = std::collections::BTreeSet::new();
        for text in ["one", "two", "six", "ten"] {
            std::fs::write(&file, text).unwrap();
            // As if all were written in the same moment.
            File::options().write(true).open(&file).unwrap().set_modified(moment).unwrap();
            seen.insert(digest().as_str().to_owned());
        }
        assert_eq!(seen.len(), 4);
    }

    #[test]
    fn links_that_lead_back_end_and_other_names_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let inputs = Inputs::default();
        std::fs::write(directory.path().join("a.md"), "x").unwrap();
        for name in ["l1", "l2"] {
            std::os::unix::fs::symlink(".", directory.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink("a.md", directory.path().join("b.md")).unwrap();
        let digest = |pattern: &str| inputs.digest(directory.path(), &[pattern.to_owned()]);
        let all = digest("**/*.md").unwrap();
        assert!(all.as_str().contains("\"a.md\"") && all.as_str().contains("\"b.md\""), "{all}");
        assert!(!all.as_str().contains("l1"), "{all}");
        assert_eq!(digest("*/*.md").unwrap().as_str(), "{}");
        let odd: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"a\xff");
        std::fs::write(directory.path().join(odd), "x").unwrap();
        assert!(digest("*").unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn a_wrong_pattern_and_a_missing_file_are_told() {
        let inputs = Inputs::default();
        let told = |pattern: &str| inputs.digest(Path::new("/usr"), &[pattern.to_owned()]).unwrap_err();
        assert!(told("nowhere.csv").contains("nowhere.csv"));
        assert!(told("lib").contains("lib/**/*"));
        assert!(told("a**b").contains("not right"));
        assert_eq!(inputs.digest(Path::new("/usr"), &["*.nothing".to_owned()]).unwrap().as_str(), "{}");
    }
}
