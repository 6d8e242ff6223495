//! Large values: files named by the blake3 hash of their text, written once and never changed.
//!
//! A program hands one over by writing it into the spool directory; it is hashed there, synced and
//! renamed in. What is known of it beside its text is a record in the store.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ibid::model::{BLOB_MIN_BYTES, BlobReference, Json, StepId};
use ibid::protocol::MESSAGE_MAX_BYTES;
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::record::hex;
use crate::engine;

/// How the names of spooled values begin; workers have pipes in the same directory.
const SPOOLED: &str = "value-";

/// What is known of a large value beside its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRecord {
    /// Bytes of the text.
    pub size: u64,
    /// The digest that identities are made of; `None` where there is no stable one.
    pub digest: Option<[u8; 32]>,
    /// The calls that it refers to.
    pub references: Vec<StepId>,
}

/// Why a file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// The name leads out of the spool directory, or is no plain file.
    #[error("'{0}' is not a plain file in the spool directory")]
    NotThere(String),
    /// The text is no value.
    #[error("the file does not hold one JSON value: {0}")]
    NotAValue(String),
    /// Small values go in messages.
    #[error("it has {0} bytes; values under {BLOB_MIN_BYTES} go in messages, not files")]
    Small(u64),
    /// Too large to look for references in.
    #[error(
        "a value over {} MiB cannot refer to other calls; return them in smaller lists, or their results",
        MESSAGE_MAX_BYTES / 1024 / 1024
    )]
    TooLargeForReferences,
    /// The file system.
    #[error("it could not be kept: {0}")]
    Io(#[from] std::io::Error),
}

/// The directories of large values.
#[derive(Clone, Debug)]
pub struct Blobs {
    directory: PathBuf,
    spool: PathBuf,
}

impl Blobs {
    /// Makes the directories in a data directory.
    ///
    /// # Errors
    /// Where they cannot be made.
    pub fn open(data: &Path) -> Result<Self, StoreError> {
        let own = Self { directory: data.join("blobs"), spool: data.join("spool") };
        for path in [&own.directory, &own.spool] {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|source| StoreError::Directory { path: path.clone(), source })?;
        }
        Ok(own)
    }

    /// Where values are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where programs write what they hand over.
    #[must_use]
    pub fn spool(&self) -> &Path {
        &self.spool
    }

    /// The file of a value.
    #[must_use]
    pub fn path(&self, hash: &[u8; 32]) -> PathBuf {
        let name = hex(hash);
        self.directory.join(&name[..2]).join(&name[2..])
    }

    /// Takes a file out of the spool: hashes and syncs it and gives it its name.
    ///
    /// # Errors
    /// Where it is no plain file there, holds no value, or cannot be kept.
    pub fn take(&self, name: &str) -> Result<([u8; 32], BlobRecord), NotTaken> {
        let missing = || NotTaken::NotThere(name.escape_debug().to_string());
        if !name.starts_with(SPOOLED) || name.contains('/') {
            return Err(missing());
        }
        let path = self.spool.join(name);
        // Neither a link to elsewhere nor a pipe that nobody writes to.
        let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&path).map_err(|_| missing())?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(missing());
        }
        if metadata.len() < BLOB_MIN_BYTES {
            // The writer is told; nobody else knows the file.
            let _gone = std::fs::remove_file(&path);
            return Err(NotTaken::Small(metadata.len()));
        }
        let taken = read_value(&file, metadata.len()).and_then(|(hash, record)| {
            file.sync_data()?;
            self.name(&path, &hash)?;
            Ok((hash, record))
        });
        if taken.is_err() {
            // The writer is told; nobody else knows the file.
            let _gone = std::fs::remove_file(&path);
        }
        taken
    }

    /// Keeps a text that came in a message.
    pub(super) fn keep(&self, hash: &[u8; 32], text: &Json) -> std::io::Result<()> {
        if self.path(hash).exists() {
            return Ok(());
        }
        let path = self.spool.join(format!(".{}", hex(hash)));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(text.as_str().as_bytes())?;
        file.sync_data()?;
        self.name(&path, hash)
    }

    /// Bytes of a value's file, if it is there.
    #[must_use]
    pub fn size(&self, hash: &[u8; 32]) -> Option<u64> {
        std::fs::metadata(self.path(hash)).ok().map(|metadata| metadata.len())
    }

    /// Values whose files were there before a moment, and their bytes.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn written_before(&self, moment: SystemTime) -> std::io::Result<Vec<([u8; 32], u64)>> {
        let mut found = Vec::new();
        for part in std::fs::read_dir(&self.directory)? {
            let part = part?;
            if !part.file_type()?.is_dir() {
                continue;
            }
            for file in std::fs::read_dir(part.path())? {
                let file = file?;
                let name = format!("{}{}", part.file_name().to_string_lossy(), file.file_name().to_string_lossy());
                let Some(hash) = hash_of(&name) else { continue };
                // It may have been removed since it was listed.
                let Ok(metadata) = file.metadata() else { continue };
                if metadata.modified()? < moment {
                    found.push((hash, metadata.len()));
                }
            }
        }
        Ok(found)
    }

    /// Removes the file of a value that nothing refers to any more.
    pub fn remove(&self, hash: &[u8; 32]) {
        // It may never have been written whole.
        let _gone = std::fs::remove_file(self.path(hash));
    }

    fn name(&self, from: &Path, hash: &[u8; 32]) -> std::io::Result<()> {
        let to = self.path(hash);
        if let Some(parent) = to.parent() {
            if !parent.exists() {
                std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
                File::open(&self.directory)?.sync_all()?;
            }
            std::fs::rename(from, &to)?;
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    }

    /// What a message says in place of a large value.
    #[must_use]
    pub fn named(&self, hash: &[u8; 32], size: u64) -> Option<Json> {
        let path = self.path(hash);
        if !path.exists() {
            return None;
        }
        Json::from_serialize(&BlobReference::new(hex(hash), size, path.display().to_string())).ok()
    }
}

/// The hash of the large value that a text names, if it does.
#[must_use]
pub fn blob_named_by(json: &Json) -> Option<[u8; 32]> {
    hash_of(&BlobReference::read(json)?.hash)
}

/// A hash from its hexadecimal form.
#[must_use]
pub fn hash_of(text: &str) -> Option<[u8; 32]> {
    Some(*blake3::Hash::from_hex(text).ok()?.as_bytes())
}

/// Hashes a file's text and finds out what identity needs of it, in bounded memory.
fn read_value(file: &File, size: u64) -> Result<([u8; 32], BlobRecord), NotTaken> {
    if usize::try_from(size).is_ok_and(|size| size <= MESSAGE_MAX_BYTES) {
        let mut text = String::new();
        (&*file).read_to_string(&mut text).map_err(|error| match error.kind() {
            ErrorKind::InvalidData => NotTaken::NotAValue("it is not UTF-8".to_owned()),
            _ => NotTaken::Io(error),
        })?;
        let hash = *blake3::hash(text.as_bytes()).as_bytes();
        let size = text.len() as u64;
        let json = Json::parse(text).map_err(|error| NotTaken::NotAValue(error.to_string()))?;
        let (argument, _) = engine::argument(json).map_err(|error| NotTaken::NotAValue(error.to_string()))?;
        let digest = engine::value_digest(&argument.value);
        return Ok((hash, BlobRecord { size, digest, references: argument.references }));
    }
    let mut hasher = blake3::Hasher::new();
    let mut scan = Scan::default();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = (&*file).read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        scan.feed(&buffer[..read])?;
    }
    scan.finish()?;
    let hash = *hasher.finalize().as_bytes();
    // So large a value counts by its text.
    let digest = Some(*blake3::Hasher::new().update(b"text").update(&hash).finalize().as_bytes());
    Ok((hash, BlobRecord { size, digest, references: Vec::new() }))
}

/// Looks through a text too large to be read as a whole: that strings end, brackets match and
/// nothing in it can harm a terminal. Whoever reads the value checks the rest.
#[derive(Default)]
struct Scan {
    open: Vec<u8>,
    in_string: bool,
    escaped: bool,
    begun: bool,
    /// The last string, as far as it can matter, and whether it names a member.
    string: Vec<u8>,
    type_member: bool,
}

impl Scan {
    fn feed(&mut self, bytes: &[u8]) -> Result<(), NotTaken> {
        let broken = || NotTaken::NotAValue("its brackets or strings do not match".to_owned());
        for &byte in bytes {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => {
                        self.in_string = false;
                        if self.type_member && matches!(self.string.as_slice(), b"execution") {
                            return Err(NotTaken::TooLargeForReferences);
                        }
                        self.type_member = false;
                        continue;
                    }
                    0..0x20 => return Err(broken()),
                    _ => {}
                }
                if self.string.len() < 16 {
                    self.string.push(byte);
                }
                continue;
            }
            match byte {
                b'"' => {
                    self.in_string = true;
                    self.string.clear();
                }
                b':' => self.type_member = self.string == b"$type",
                b'{' | b'[' => {
                    if self.open.len() > 256 {
                        return Err(NotTaken::NotAValue("it is nested too deep".to_owned()));
                    }
                    self.open.push(byte);
                }
                b'}' | b']' => {
                    if self.open.pop() != Some(byte - 2) {
                        return Err(broken());
                    }
                }
                b' ' | b'\n' | b'\r' | b'\t' => continue,
                b',' => self.type_member = false,
                b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E' => {}
                _ => return Err(broken()),
            }
            self.begun = true;
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), NotTaken> {
        if self.in_string || !self.open.is_empty() || !self.begun {
            return Err(NotTaken::NotAValue("it ends too early".to_owned()));
        }
        Ok(())
    }
}

/// Whether a text of this length is a file of its own.
pub(super) const fn is_large(length: usize) -> bool {
    length as u64 >= BLOB_MIN_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(text: &str) -> Result<(), NotTaken> {
        let mut scan = Scan::default();
        for piece in text.as_bytes().chunks(3) {
            scan.feed(piece)?;
        }
        scan.finish()
    }

    #[test]
    fn what_cannot_be_a_value_is_noticed_piece_by_piece() {
        for text in [r#"[1, "a]\"", {"b": [true, null]}]"#, "\"x\"", "12.5e3"] {
            assert!(scanned(text).is_ok(), "{text}");
        }
        for text in ["[1, 2", "[1}", "\"open", "", "  ", "\"a\u{1b}b\"", "[1]]"] {
            assert!(scanned(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn references_are_found_however_they_are_written() {
        for text in [r#"[{"$type":"execution","id":"R1:2"}]"#, r#"[{"id":"R1:2", "$type" : "execution"}]"#] {
            assert!(matches!(scanned(text), Err(NotTaken::TooLargeForReferences)), "{text}");
        }
        assert!(scanned(r#"["{\"$type\":\"execution\"}", "$type", "execution"]"#).is_ok());
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(home.path()).unwrap();
        std::fs::write(home.path().join("secret"), "1").unwrap();
        std::os::unix::fs::symlink(home.path().join("secret"), blobs.spool().join("value-link")).unwrap();
        for name in ["../secret", "value-link", "", ".", "value-/../../secret", "value-nothing", "/etc/passwd"] {
            assert!(matches!(blobs.take(name), Err(NotTaken::NotThere(_))), "{name}");
        }
        assert!(home.path().join("secret").exists());
    }

    #[test]
    fn equal_values_are_one_file() {
        let home = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(home.path()).unwrap();
        let text = format!("[{}]", vec!["7"; 50_000].join(","));
        for name in ["value-a", "value-b"] {
            std::fs::write(blobs.spool().join(name), &text).unwrap();
        }
        let (first, record) = blobs.take("value-a").unwrap();
        let (second, _) = blobs.take("value-b").unwrap();
        assert_eq!((first, record.size), (second, text.len() as u64));
        assert!(std::fs::read_dir(blobs.spool()).unwrap().next().is_none());
        assert_eq!(std::fs::read_to_string(blobs.path(&first)).unwrap(), text);
    }
}
