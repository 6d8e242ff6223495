//! The form of keys and records.

use ibid::model::{Environment, ExecutionId, Millis, Repository, Run, RunId, Sensor, State, Step, StepId, Timestamp};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{BlobRecord, LogLine, NamespaceStats, StoreError};
use crate::engine::{Entry, StartRecord};

/// The version that records are written with.
const VERSION: u8 = 4;

/// The oldest version that is still read.
const OLDEST: u8 = 3;

/// An execution in its namespace's history, with what lists are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// Which.
    pub execution: ExecutionId,
    /// The start of its identity.
    pub key: [u8; 8],
    /// How it ended.
    pub state: State,
    /// When it was created, ms since 1970.
    pub created: Timestamp,
    /// How long it ran.
    pub duration: Millis,
}

/// Where the turn's record lies in `meta`.
pub(super) const TURN_KEY: &[u8] = b"turn";

/// Where the schema's number lies in `meta`.
pub(super) const SCHEMA_KEY: &[u8] = b"schema";

/// Written with every commit: how far it got, and a hash over all turns so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TurnRecord {
    /// Commits so far.
    pub turn: u64,
    /// blake3 over the previous turn's chain and this turn's records.
    pub chain: [u8; 32],
    /// The next place in the order of creation.
    pub next_sequence: u64,
    /// The number of the next run.
    pub next_run: u64,
    /// Executions that succeeded so far.
    pub executed: u64,
    /// Results taken instead of being made again.
    pub borrowed: u64,
    /// What those had cost, ms.
    pub saved: u64,
}

/// A record as it is stored.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    // Serialisation into memory fails only for types that have no postcard form; the round trip
    // of every record type is tested.
    match postcard::to_extend(value, Vec::new()) {
        Ok(body) => bytes.extend(body),
        Err(error) => debug_assert!(false, "unserialisable record: {error}"),
    }
    bytes
}

/// Everything that is stored.
pub(super) trait Record: DeserializeOwned {
    /// What version 4 added at the end, as a record of version 3 has it.
    const ADDED_IN_4: &'static [u8] = &[];
}

/// No command that was given whole.
impl Record for Step {
    const ADDED_IN_4: &'static [u8] = &[0];
}

/// No shell tasks.
impl Record for Repository {
    const ADDED_IN_4: &'static [u8] = &[0];
}

impl Record for Run {}
impl Record for Environment {}
impl Record for Sensor {}
impl Record for Entry {}
impl Record for StartRecord {}
impl Record for BlobRecord {}
impl Record for NamespaceStats {}
impl Record for TurnRecord {}
impl Record for (u64, Vec<LogLine>) {}
impl<T: DeserializeOwned> Record for Vec<T> {}

pub(super) fn decode<T: Record>(space: &'static str, key: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
    let damaged = |reason: String| StoreError::Record { space, key: hex(key), reason };
    let read = |body: &[u8]| match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(damaged(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(damaged(error.to_string())),
    };
    match bytes.split_first() {
        Some((&VERSION, body)) => read(body),
        Some((&OLDEST, body)) if T::ADDED_IN_4.is_empty() => read(body),
        Some((&OLDEST, body)) => read(&[body, T::ADDED_IN_4].concat()),
        Some((version, _)) => Err(damaged(format!("version {version} is not known here"))),
        None => Err(damaged("it is empty".to_owned())),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn run_key(run: RunId) -> [u8; 8] {
    run.0.to_be_bytes()
}

pub(super) fn active_run_key(run: RunId) -> [u8; 12] {
    StepId { run, step: 0 }.key()
}

pub(super) fn index_key(environment: u32, identity: &[u8; 32]) -> [u8; 36] {
    let mut key = [0; 36];
    key[..4].copy_from_slice(&environment.to_be_bytes());
    key[4..].copy_from_slice(identity);
    key
}

/// A sensor's instance in `meta`.
pub(super) fn sensor_key(sensor: &Sensor) -> Vec<u8> {
    let (environment, digest) = crate::engine::sensor_key(sensor);
    [b"k".as_slice(), &environment.to_be_bytes(), &digest].concat()
}

/// What is known of a large value, beside the texts of smaller ones.
pub(super) fn blob_key(hash: &[u8; 32]) -> Vec<u8> {
    [b"b".as_slice(), hash].concat()
}

/// Where a start is found by its token or idempotency key, which may be of any length.
pub(super) fn start_key(key: &str) -> Vec<u8> {
    [b"s".as_slice(), blake3::hash(key.as_bytes()).as_bytes()].concat()
}

/// A namespace's prefix in `history`: kind, environment, start of the name's hash.
pub(super) fn namespace_key(kind: u8, environment: u32, namespace: &str) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&environment.to_be_bytes());
    key.extend_from_slice(&blake3::hash(namespace.as_bytes()).as_bytes()[..8]);
    key
}

/// Borrowers of a step's results in `history`.
pub(super) fn borrowed_key(source: StepId) -> Vec<u8> {
    let mut key = vec![b'b'];
    key.extend_from_slice(&source.key());
    key
}

pub(super) fn log_key(execution: ExecutionId, chunk: u32) -> [u8; 20] {
    let mut key = [0; 20];
    key[..12].copy_from_slice(&execution.step.key());
    key[12..16].copy_from_slice(&execution.attempt.to_be_bytes());
    key[16..].copy_from_slice(&chunk.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_record_is_refused_with_its_place() {
        let turn =
            TurnRecord { turn: 7, chain: [1; 32], next_sequence: 9, next_run: 3, executed: 4, borrowed: 5, saved: 6 };
        let bytes = encode(&turn);
        assert_eq!(decode::<TurnRecord>("meta", b"turn", &bytes).unwrap(), turn);
        let long = [bytes.clone(), vec![0]].concat();
        for wrong in [&bytes[..10], &[9, 9], &[], &long] {
            let error = decode::<TurnRecord>("meta", b"turn", wrong).unwrap_err().to_string();
            assert!(error.contains("7475726e"), "{error}");
        }
    }

    #[test]
    fn records_of_this_version_and_the_oldest_always_read() {
        let golden = [
            VERSION, 7, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
            9, 3, 4, 5, 6,
        ];
        for version in OLDEST..=VERSION {
            let turn: TurnRecord = decode("meta", b"turn", &[&[version], &golden[1..]].concat()).unwrap();
            assert_eq!(
                turn,
                TurnRecord {
                    turn: 7,
                    chain: [1; 32],
                    next_sequence: 9,
                    next_run: 3,
                    executed: 4,
                    borrowed: 5,
                    saved: 6
                }
            );
        }
    }
}
