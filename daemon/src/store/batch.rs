//! One turn's changes as records.

use std::collections::BTreeMap;

use ibid::model::{ExecutionId, Json};
use serde::{Deserialize, Serialize};

use super::blobs::{BlobRecord, is_large};
use super::record::{
    HistoryLine, TURN_KEY, TurnRecord, active_run_key, blob_key, borrowed_key, encode, index_key, log_key,
    namespace_key, run_key, sensor_key, start_key,
};
use super::{NamespaceStats, Space};
use crate::engine::Changes;

/// One line that an execution wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Milliseconds since 1970.
    pub at: i64,
    /// `stdout`, `stderr`, or the level of a message: `debug`, `info`, `warning`, `error`.
    pub level: String,
    /// Without the end of the line; bytes that are no UTF-8 are replaced.
    pub text: String,
    /// Named values of a message, as JSON.
    pub values: Vec<(String, Json)>,
}

/// A piece of an execution's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// Whose log.
    pub execution: ExecutionId,
    /// Number of the piece, from 0.
    pub number: u32,
    /// Number of its first line in the whole log, from 0.
    pub first: u64,
    /// Its lines; none removes the piece.
    pub lines: Vec<LogLine>,
}

/// What a turn writes beside what was decided.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// Values that came in messages, by the hash of their text.
    pub values: Vec<([u8; 32], Json)>,
    /// Large values that were handed over as files.
    pub blobs: Vec<([u8; 32], BlobRecord)>,
    /// Log lines.
    pub logs: Vec<LogChunk>,
    /// The new figures of the namespaces that it touched.
    pub stats: Vec<(u32, NamespaceStats)>,
    /// Records that were pruned.
    pub removed: Vec<(Space, Vec<u8>)>,
}

/// One record to write or remove.
#[derive(Debug)]
pub(super) struct Write {
    pub space: Space,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// What one commit writes.
#[derive(Debug)]
pub struct Batch {
    /// Counts commits.
    pub turn: u64,
    /// Whether it is synced to the disk before it counts as done.
    pub durable: bool,
    pub(super) writes: Vec<Write>,
    /// Large values that become files before the records are written.
    pub(super) files: Vec<([u8; 32], Json)>,
}

impl Batch {
    /// Packs a turn.
    #[must_use]
    pub fn pack(last: &TurnRecord, changes: Changes, rest: Unpacked) -> (Self, TurnRecord) {
        let Unpacked { values, blobs, logs, stats, removed } = rest;
        let durable = changes.durable || !removed.is_empty();
        let mut files = Vec::new();
        let turn = last.turn + 1;
        let mut writes = Vec::new();
        let mut put = |space, key: Vec<u8>, value: Option<Vec<u8>>| writes.push(Write { space, key, value });
        // First, so that what comes again in this turn is there after it.
        for (space, key) in removed {
            put(space, key, None);
        }
        for step in &changes.live {
            put(Space::Live, step.id.key().to_vec(), Some(encode(step)));
        }
        for step in &changes.finished {
            put(Space::Steps, step.id.key().to_vec(), Some(encode(step)));
            // A hit was never live.
            if step.attempts.iter().any(|attempt| attempt.transitions.len() > 1) {
                put(Space::Live, step.id.key().to_vec(), None);
            }
        }
        for run in &changes.active {
            put(Space::Live, active_run_key(run.id).to_vec(), Some(encode(run)));
        }
        for run in &changes.quiet {
            put(Space::Runs, run_key(run.id).to_vec(), Some(encode(run)));
            put(Space::Live, active_run_key(run.id).to_vec(), None);
        }
        for ((environment, identity), entry) in &changes.entries {
            let value = (!entry.is_empty()).then(|| encode(entry));
            put(Space::Index, index_key(*environment, identity).to_vec(), value);
        }
        for (key, start) in &changes.starts {
            put(Space::Meta, start_key(key), Some(encode(start)));
        }
        for environment in &changes.environments {
            put(Space::Meta, [b"e".as_slice(), &environment.number.to_be_bytes()].concat(), Some(encode(environment)));
        }
        for repository in &changes.repositories {
            let key = [b"r".as_slice(), &repository.environment.to_be_bytes(), repository.name.as_bytes()].concat();
            put(Space::Meta, key, Some(encode(repository)));
        }
        for sensor in &changes.sensors {
            put(Space::Meta, sensor_key(sensor), Some(encode(sensor)));
        }
        // Lists for people are written once a turn for each namespace and source, not once an execution.
        let mut ran: BTreeMap<Vec<u8>, Vec<HistoryLine>> = BTreeMap::new();
        for line in &changes.history {
            let [a, b, c, d, e, f, g, h, ..] = line.identity;
            ran.entry(namespace_key(b'n', line.environment, &line.namespace)).or_default().push(HistoryLine {
                execution: line.execution,
                key: [a, b, c, d, e, f, g, h],
                state: line.state,
                created: line.created,
                duration: line.duration,
            });
        }
        for (mut key, lines) in ran {
            key.extend_from_slice(&turn.to_be_bytes());
            put(Space::History, key, Some(encode(&lines)));
        }
        let mut groups: BTreeMap<Vec<u8>, Vec<ExecutionId>> = BTreeMap::new();
        for borrowed in &changes.borrowed {
            groups.entry(borrowed_key(borrowed.source.step)).or_default().push(borrowed.borrower);
        }
        for (mut key, executions) in groups {
            key.extend_from_slice(&turn.to_be_bytes());
            put(Space::History, key, Some(encode(&executions)));
        }
        for (environment, figures) in &stats {
            put(Space::History, namespace_key(b'm', *environment, &figures.name), Some(encode(figures)));
        }
        for (hash, record) in blobs {
            put(Space::Values, blob_key(&hash), Some(encode(&record)));
        }
        for (hash, text) in values {
            if is_large(text.as_str().len()) {
                files.push((hash, text));
                continue;
            }
            put(Space::Values, hash.to_vec(), Some(text.as_str().as_bytes().to_vec()));
        }
        for chunk in logs {
            let value = (!chunk.lines.is_empty()).then(|| encode(&(chunk.first, &chunk.lines)));
            put(Space::Logs, log_key(chunk.execution, chunk.number).to_vec(), value);
        }
        let mut chain = blake3::Hasher::new();
        chain.update(&last.chain);
        for write in &writes {
            chain.update(&write.key);
            chain.update(write.value.as_deref().unwrap_or_default());
        }
        let record = TurnRecord {
            turn,
            chain: *chain.finalize().as_bytes(),
            next_sequence: changes.next_sequence,
            next_run: changes.next_run,
            executed: last.executed + changes.executed,
            borrowed: last.borrowed + changes.borrowed.len() as u64,
            saved: changes.borrowed.iter().fold(last.saved, |sum, borrowed| sum.saturating_add(borrowed.saved)),
        };
        writes.push(Write { space: Space::Meta, key: TURN_KEY.to_vec(), value: Some(encode(&record)) });
        (Self { turn, durable, writes, files }, record)
    }
}
