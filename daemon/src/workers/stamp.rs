//! Which file it is, and as of when.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How far back a file's times must lie when it is read for its digest to be kept: more than any file
/// system's step (2 s on FAT).
const SETTLED: Duration = Duration::from_millis(2500);

/// What a file was when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// From what the system says of a file.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The file that is there now.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }

    /// Whether a change from now on would show in the times.
    #[must_use]
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let limit = now.checked_sub(SETTLED).and_then(|limit| limit.duration_since(SystemTime::UNIX_EPOCH).ok());
        let limit = limit.and_then(|limit| i64::try_from(limit.as_secs()).ok()).unwrap_or(0);
        self.modified.0 < limit && self.changed.0 < limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settled_file_is_not_read_twice() {
        let stamp = |seconds| Stamp { device: 1, inode: 2, size: 3, modified: (seconds, 0), changed: (seconds, 0) };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        assert!(stamp(990).is_settled(now));
        assert!(!stamp(998).is_settled(now) && !stamp(1000).is_settled(now) && !stamp(1001).is_settled(now));
    }
}
