//! What was surely written, noted outside the database, so that a journal that lost something is noticed.
//!
//! The database drops what follows a damaged place in its journal without a word: what is left is a
//! smaller store, or one whose keyspaces end at different turns. So every commit leaves the number of its
//! turn in each keyspace it touches ([`MARK`]), and every synced commit writes the newest number of each
//! keyspace into the seal. A keyspace behind its seal has lost something.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{Space, StoreError};

/// Where a keyspace keeps the number of the last turn that touched it: behind all other keys.
pub(super) const MARK: [u8; 12] = [0xff; 12];

/// How the file begins.
const MAGIC: [u8; 8] = *b"ibidseal";

/// Magic, a number for each keyspace, and the start of a hash over both.
const BYTES: usize = 8 + 8 * Space::ALL.len() + 8;

/// The numbers of the last turns, by keyspace.
pub(super) type Turns = [u64; Space::ALL.len()];

/// The open file.
#[derive(Debug)]
pub(super) struct Seal {
    path: PathBuf,
    file: File,
    /// What was committed, synced or not.
    pub(super) turns: Turns,
}

impl Seal {
    /// Opens the seal of a data directory, and says what it holds; `None` where there is none that reads.
    pub(super) fn open(data: &Path) -> Result<(Self, Option<Turns>), StoreError> {
        let path = data.join("store.seal");
        let failed = |source| StoreError::Directory { path: path.clone(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(failed)?;
        let mut bytes = [0; BYTES];
        // A shorter one was never written whole.
        let held = file.read_exact_at(&mut bytes, 0).is_ok().then(|| read(&bytes)).flatten();
        Ok((Self { path, file, turns: [0; Space::ALL.len()] }, held))
    }

    /// Everything committed so far is on the disk.
    pub(super) fn write(&self) -> Result<(), StoreError> {
        self.file
            .write_all_at(&written(&self.turns), 0)
            .map_err(|source| StoreError::Directory { path: self.path.clone(), source })
    }

    /// Writes it through to the disk.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|source| StoreError::Directory { path: self.path.clone(), source })
    }
}

fn written(turns: &Turns) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    for (place, turn) in bytes[8..].chunks_exact_mut(8).zip(turns) {
        place.copy_from_slice(&turn.to_be_bytes());
    }
    let (body, end) = bytes.split_at_mut(BYTES - 8);
    end.copy_from_slice(&blake3::hash(body).as_bytes()[..8]);
    bytes
}

fn read(bytes: &[u8; BYTES]) -> Option<Turns> {
    let mut turns = [0; Space::ALL.len()];
    for (turn, place) in turns.iter_mut().zip(bytes[8..].chunks_exact(8)) {
        *turn = u64::from_be_bytes(place.try_into().ok()?);
    }
    (written(&turns) == *bytes).then_some(turns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_reads_back_unless_a_bit_of_it_has_changed() {
        let turns = [1, 2, 3, u64::MAX, 0, 6, 7, 8];
        let bytes = written(&turns);
        assert_eq!(read(&bytes), Some(turns));
        for bit in 0..BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn a_new_directory_has_an_empty_seal() {
        let home = tempfile::tempdir().unwrap();
        let (mut seal, held) = Seal::open(home.path()).unwrap();
        assert_eq!(held, None);
        seal.turns[2] = 9;
        seal.write().unwrap();
        assert_eq!(Seal::open(home.path()).unwrap().1, Some(seal.turns));
    }
}
