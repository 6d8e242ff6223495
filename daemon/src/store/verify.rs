//! Looks through everything that is stored: whether every record reads, every reference leads somewhere,
//! and every value is what its hash says.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;

use ibid::model::{Environment, ExecutionId, Link, Repository, Run, RunId, Sensor, State, Step, StepId, Stored};
use ibid::protocol::{Finding, StoreChecked};

use super::record::{self, Record, hex};
use super::{BlobRecord, HistoryLine, LogLine, NamespaceStats, Space, Store, StoreError, TurnRecord, View};
use crate::engine::{Entry, StartRecord};

/// How many findings are told one by one.
const TOLD: usize = 100;

/// What a look through a store has come to.
#[derive(Debug, Default)]
pub struct Verified {
    /// What is told.
    pub report: StoreChecked,
    /// Records that mislead: without them their calls are made again.
    misleading: Vec<(Space, Vec<u8>)>,
}

impl Verified {
    fn find(&mut self, space: Space, what: impl Into<String>, problem: impl Into<String>) {
        self.report.damaged += 1;
        if self.report.findings.len() < TOLD {
            let place = space.name().to_owned();
            self.report.findings.push(Finding { place, what: what.into(), problem: problem.into() });
        }
    }

    /// A record as what it should be.
    fn read<T: Record>(&mut self, space: Space, key: &[u8], value: &[u8]) -> Option<T> {
        match record::decode(space.name(), key, value) {
            Ok(read) => Some(read),
            Err(error) => {
                self.find(space, hex(key), error.to_string());
                self.misleading.push((space, key.to_vec()));
                None
            }
        }
    }
}

/// What refers and what is referred to.
#[derive(Default)]
struct References {
    /// Each step's attempts that have a result which is still there.
    steps: HashMap<StepId, BTreeSet<u32>>,
    attempts: HashMap<StepId, u32>,
    runs: HashSet<RunId>,
    /// Values, and whether there is a text or a record of a file.
    values: HashSet<[u8; 32]>,
    files: HashSet<[u8; 32]>,
    used: BTreeMap<[u8; 32], String>,
    /// Outcomes taken from elsewhere.
    taken: Vec<(ExecutionId, ExecutionId)>,
    indexed: Vec<(Vec<u8>, Vec<ExecutionId>)>,
}

impl References {
    fn use_value(&mut self, value: &Stored, who: impl FnOnce() -> String) {
        if let Stored::Kept { hash, .. } = value
            && !value.is_pruned()
        {
            self.used.entry(*hash).or_insert_with(who);
        }
    }
}

impl View {
    /// Looks through the whole store.
    #[must_use]
    pub fn verify(&self) -> Verified {
        let mut verified = Verified::default();
        let mut references = References::default();
        for space in Space::ALL {
            let outcome = self.each(space, |key, value| {
                verified.report.records += 1;
                match space {
                    Space::Meta => check_meta(&mut verified, &mut references, key, value),
                    Space::Runs | Space::Live | Space::Steps => {
                        check_work(&mut verified, &mut references, space, key, value);
                    }
                    Space::Index => check_entry(&mut verified, &mut references, key, value),
                    Space::History => check_history(&mut verified, key, value),
                    Space::Values => check_value(&mut verified, &mut references, key, value),
                    Space::Logs => {
                        let _lines: Option<(u64, Vec<LogLine>)> = verified.read(space, key, value);
                    }
                }
                Ok(())
            });
            if let Err(error) = outcome {
                // What follows a place that cannot be read is not seen either.
                verified.find(space, "a part of its files", error.to_string());
                verified.report.unreadable = true;
            }
        }
        self.check_files(&mut verified, &references);
        check_references(&mut verified, &references);
        verified
    }

    fn check_files(&self, verified: &mut Verified, references: &References) {
        for hash in &references.files {
            let path = self.blobs().path(hash);
            let mut hasher = blake3::Hasher::new();
            let hashed = File::open(&path).and_then(|file| hasher.update_reader(file).map(|_| ()));
            verified.report.values += 1;
            let problem = match hashed {
                Ok(()) if hasher.finalize().as_bytes() == hash => continue,
                Ok(()) => "its text is not what its name says: it was changed or damaged".to_owned(),
                Err(error) => error.to_string(),
            };
            if matches!(self.store().get(Space::Values, &record::blob_key(hash)), Ok(None)) {
                // It was pruned while this looked.
                continue;
            }
            verified.find(Space::Values, path.display().to_string(), problem);
            verified.misleading.push((Space::Values, record::blob_key(hash)));
        }
    }
}

fn check_meta(verified: &mut Verified, references: &mut References, key: &[u8], value: &[u8]) {
    const META: Space = Space::Meta;
    match key {
        record::SCHEMA_KEY => {}
        record::TURN_KEY => {
            let _turn: Option<TurnRecord> = verified.read(META, key, value);
        }
        [b'e', ..] => {
            let _environment: Option<Environment> = verified.read(META, key, value);
        }
        [b'r', ..] => {
            let _repository: Option<Repository> = verified.read(META, key, value);
        }
        [b's', ..] => {
            let _start: Option<StartRecord> = verified.read(META, key, value);
        }
        [b'k', ..] => {
            let Some(sensor) = verified.read::<Sensor>(META, key, value) else { return };
            for argument in sensor.arguments.iter().chain(sensor.checkpoint.iter().flatten()) {
                references.use_value(&argument.value, || format!("the sensor of {}", sensor.run));
            }
        }
        _ => verified.find(META, hex(key), "nothing known has such a key"),
    }
}

fn check_work(verified: &mut Verified, references: &mut References, space: Space, key: &[u8], value: &[u8]) {
    if space == Space::Runs || StepId::from_key(key).is_some_and(|id| id.step == 0) {
        if let Some(run) = verified.read::<Run>(space, key, value) {
            references.runs.insert(run.id);
        }
        return;
    }
    let Some(step) = verified.read::<Step>(space, key, value) else { return };
    // A finished step that runs again is in both places; the unfinished one comes first and is newer.
    references.attempts.entry(step.id).or_insert(u32::try_from(step.attempts.len()).unwrap_or(u32::MAX));
    for argument in &step.arguments {
        references.use_value(&argument.value, || format!("an argument of {}", step.id));
    }
    if let Some(command) = &step.command {
        references.use_value(command, || format!("the command of {}", step.id));
    }
    for (number, attempt) in (1u32..).zip(&step.attempts) {
        let execution = step.id.attempt(number);
        if let Some(result) = &attempt.result {
            references.use_value(result, || format!("the result of {execution}"));
            if !result.is_pruned() {
                references.steps.entry(step.id).or_default().insert(number);
            }
        }
        if let (Some(Link::Source(source)), State::Cached) = (attempt.link, attempt.state()) {
            references.taken.push((execution, source));
        }
    }
}

fn check_entry(verified: &mut Verified, references: &mut References, key: &[u8], value: &[u8]) {
    let Some(entry) = verified.read::<Entry>(Space::Index, key, value) else { return };
    let forgotten = entry.forgotten.iter().map(|(_, success)| success);
    let mut executions = Vec::new();
    for success in entry.successes.iter().chain(forgotten) {
        references.use_value(&success.result, || format!("the remembered result of {}", success.execution));
        executions.push(success.execution);
    }
    references.indexed.push((key.to_vec(), executions));
}

fn check_history(verified: &mut Verified, key: &[u8], value: &[u8]) {
    const HISTORY: Space = Space::History;
    match key.first() {
        Some(b'n') => drop(verified.read::<Vec<HistoryLine>>(HISTORY, key, value)),
        Some(b'm') => drop(verified.read::<NamespaceStats>(HISTORY, key, value)),
        Some(b'b') => drop(verified.read::<Vec<ExecutionId>>(HISTORY, key, value)),
        _ => verified.find(HISTORY, hex(key), "nothing known has such a key"),
    }
}

fn check_value(verified: &mut Verified, references: &mut References, key: &[u8], value: &[u8]) {
    const VALUES: Space = Space::Values;
    if let [b'b', hash @ ..] = key
        && let Ok(hash) = <[u8; 32]>::try_from(hash)
    {
        if verified.read::<BlobRecord>(VALUES, key, value).is_some() {
            references.files.insert(hash);
        }
        return;
    }
    verified.report.values += 1;
    if *blake3::hash(value).as_bytes() != *key {
        verified.find(VALUES, hex(key), "its text is not what its key says: it was damaged");
        verified.misleading.push((VALUES, key.to_vec()));
        return;
    }
    if let Ok(hash) = <[u8; 32]>::try_from(key) {
        references.values.insert(hash);
    }
}

fn check_references(verified: &mut Verified, references: &References) {
    for run in &references.runs {
        verified.report.references += 1;
        if !references.attempts.contains_key(&run.root()) {
            verified.find(Space::Runs, run.to_string(), "its first step is not there");
        }
    }
    for (hash, who) in &references.used {
        verified.report.references += 1;
        if !references.values.contains(hash) && !references.files.contains(hash) {
            verified.find(Space::Values, hex(hash), format!("it is not there, and it is {who}"));
        }
    }
    for (execution, source) in &references.taken {
        verified.report.references += 1;
        if references.attempts.get(&source.step).is_none_or(|attempts| source.attempt > *attempts) {
            verified.find(
                Space::Steps,
                execution.to_string(),
                format!("it took the result of {source}, which is not there"),
            );
        }
    }
    for (key, executions) in &references.indexed {
        for execution in executions {
            verified.report.references += 1;
            let made = references.steps.get(&execution.step).is_some_and(|made| made.contains(&execution.attempt));
            if !made {
                let problem = format!("it offers the result of {execution}, which is not there");
                verified.find(Space::Index, hex(key), problem);
                verified.misleading.push((Space::Index, key.clone()));
            }
        }
    }
}

impl Store {
    /// Takes out what [`View::verify`] found to mislead, and accepts what is left as the whole.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn contain(&self, verified: &Verified) -> Result<(), StoreError> {
        let mut batch = self.database.batch().durability(Some(fjall::PersistMode::SyncData));
        for (space, key) in &verified.misleading {
            batch.remove(self.space(*space), key.as_slice());
        }
        batch.commit().map_err(|source| self.failed(source))?;
        self.reseal()
    }
}
