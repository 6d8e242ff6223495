//! What pruning would take away: a look over everything that is stored.
//!
//! Results are chosen one by one; the records of the executions that made them
//! stay. Runs go with their records and logs, except for the records of steps
//! that something kept still stands on. Values go when nothing refers to them
//! any more.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, SystemTime};

use ibid::model::{ExecutionId, Link, Run, RunId, Step, StepId, Stored, Timestamp};

use super::record::{self, log_key, run_key};
use super::{Space, StoreError, View};
use crate::engine::{Entry, StartRecord};

/// A file is there before its record; after so long it has none.
const UNRECORDED_FOR: Duration = Duration::from_secs(10 * 60);

/// What is to go.
#[derive(Debug, Clone, Default)]
pub struct Criteria {
    /// Only of this environment.
    pub environment: Option<u32>,
    /// Only of this namespace; of runs that of their target.
    pub namespace: Option<String>,
    /// Only what ended before this.
    pub before: Option<Timestamp>,
    /// The oldest, until what stays has at most so many bytes.
    pub max_size: Option<u64>,
    /// Not the newest so many of each namespace.
    pub keep_latest: Option<usize>,
    /// Values that were handed over and are about to be used.
    pub unclaimed: HashSet<[u8; 32]>,
}

/// Something that could go.
#[derive(Debug, Clone)]
struct Candidate<T> {
    what: T,
    namespace: u32,
    ended: Timestamp,
    bytes: u64,
    /// Whether it must stay.
    kept: bool,
}

impl Criteria {
    /// Chooses among candidates; what must stay counts for size and number.
    fn choose<T: Ord + Clone>(&self, mut all: Vec<Candidate<T>>) -> Vec<T> {
        all.sort_by(|a, b| b.ended.cmp(&a.ended).then_with(|| b.what.cmp(&a.what)));
        let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
        let mut size = 0_u64;
        let mut chosen = Vec::new();
        for candidate in all {
            let of_namespace = seen.entry(candidate.namespace).or_default();
            *of_namespace += 1;
            let latest = self.keep_latest.is_some_and(|keep| *of_namespace <= keep);
            let young = self.before.is_some_and(|before| candidate.ended >= before);
            let fits = self.max_size.is_some_and(|max| size.saturating_add(candidate.bytes) <= max);
            if candidate.kept || latest || young || fits {
                size = size.saturating_add(candidate.bytes);
            } else {
                chosen.push(candidate.what);
            }
        }
        chosen
    }
}

/// What goes, and what that comes to.
#[derive(Debug, Default)]
pub struct Plan {
    /// Executions whose results go.
    pub results: Vec<ExecutionId>,
    /// Runs that go.
    pub runs: Vec<RunId>,
    /// Their steps that go with all their attempts.
    pub steps: Vec<StepId>,
    /// Records that go with each run, beside the steps' own.
    pub records: Vec<(RunId, Space, Vec<u8>)>,
    /// Lists of executions that are all gone, in `history`.
    pub lists: Vec<Vec<u8>>,
    /// Values that nothing else refers to, and their bytes.
    pub values: Vec<([u8; 32], u64)>,
    /// Bytes of records and values together.
    pub bytes: u64,
}

/// What a store refers to, as far as pruning asks.
#[derive(Default)]
struct Standing {
    /// Results in the index, forgotten ones included.
    indexed: BTreeSet<ExecutionId>,
    /// Results under a pinned key.
    pinned: BTreeSet<ExecutionId>,
    /// The environment of a result, for those whose run is gone.
    environments: BTreeMap<ExecutionId, u32>,
}

impl View {
    /// What pruning the cache would take.
    ///
    /// # Errors
    /// Where the database fails or a record cannot be read.
    pub fn plan_cache(&self, criteria: &Criteria) -> Result<Plan, StoreError> {
        let standing = self.standing()?;
        let runs = self.all_runs()?;
        let mut namespaces: BTreeMap<String, u32> = BTreeMap::new();
        let mut borrowed: HashSet<ExecutionId> = HashSet::new();
        let mut candidates = Vec::new();
        self.each_step(|space, step, _| {
            for (number, attempt) in (1u32..).zip(&step.attempts) {
                if let Some(Link::Source(source) | Link::Leader(source)) = attempt.link
                    && runs.contains_key(&step.id.run)
                {
                    borrowed.insert(source);
                }
                let execution = step.id.attempt(number);
                let Some(result) = attempt.result.as_ref().filter(|result| !result.is_pruned()) else { continue };
                if space != Space::Steps || step.identity.is_none() {
                    continue;
                }
                let environment = runs.get(&step.id.run).map(|run| run.environment);
                let environment = environment.or_else(|| standing.environments.get(&execution).copied());
                let name = step.namespace();
                let wanted = criteria.namespace.as_ref().is_none_or(|wanted| *wanted == name);
                if !wanted || criteria.environment.is_some_and(|wanted| Some(wanted) != environment) {
                    continue;
                }
                let next = u32::try_from(namespaces.len()).unwrap_or(u32::MAX);
                candidates.push(Candidate {
                    what: execution,
                    namespace: *namespaces.entry(name).or_insert(next),
                    ended: attempt.ended().unwrap_or(Timestamp::MAX),
                    bytes: result.size(),
                    kept: standing.pinned.contains(&execution),
                });
            }
        })?;
        for candidate in &mut candidates {
            candidate.kept |= borrowed.contains(&candidate.what);
        }
        let results = criteria.choose(candidates);
        let mut plan = Plan { results, ..Plan::default() };
        self.plan_values(&mut plan, &criteria.unclaimed)?;
        Ok(plan)
    }

    /// What pruning runs would take.
    ///
    /// # Errors
    /// Where the database fails or a record cannot be read.
    pub fn plan_runs(&self, criteria: &Criteria) -> Result<Plan, StoreError> {
        let standing = self.standing()?;
        let runs = self.all_runs()?;
        let mut sizes: BTreeMap<RunId, u64> = BTreeMap::new();
        self.each_step(|_, step, bytes| *sizes.entry(step.id.run).or_default() += bytes)?;
        let mut namespaces: BTreeMap<String, u32> = BTreeMap::new();
        let mut candidates = Vec::new();
        for run in runs.values() {
            let name = ibid::model::default_namespace(&run.target);
            let wanted = criteria.namespace.as_ref().is_none_or(|wanted| *wanted == name);
            if !wanted || criteria.environment.is_some_and(|wanted| wanted != run.environment) {
                continue;
            }
            let next = u32::try_from(namespaces.len()).unwrap_or(u32::MAX);
            candidates.push(Candidate {
                what: run.id,
                namespace: *namespaces.entry(name).or_insert(next),
                ended: run.ended.unwrap_or(run.created),
                bytes: sizes.get(&run.id).copied().unwrap_or(0),
                kept: self.get(Space::Live, &record::active_run_key(run.id))?.is_some() || run.ended.is_none(),
            });
        }
        let chosen: BTreeSet<RunId> = criteria.choose(candidates).into_iter().collect();
        let needed = self.needed_of(&chosen, &standing)?;
        let mut plan = Plan { runs: chosen.iter().copied().collect(), ..Plan::default() };
        for run in &chosen {
            plan.records.push((*run, Space::Runs, run_key(*run).to_vec()));
            for step in self.steps(*run, 0, usize::MAX)? {
                for (number, _) in (1u32..).zip(&step.attempts) {
                    self.collect_keys(*run, Space::Logs, &log_key(step.id.attempt(number), 0)[..16], &mut plan)?;
                }
                if needed.contains(&step.id) {
                    continue;
                }
                plan.steps.push(step.id);
            }
        }
        self.collect_lists(&chosen, &mut plan)?;
        let steps = plan.steps.iter().map(|id| (Space::Steps, id.key().to_vec()));
        let records = plan.records.iter().map(|(_, space, key)| (*space, key.clone()));
        let lists = plan.lists.iter().map(|key| (Space::History, key.clone()));
        for (space, key) in records.chain(lists).chain(steps) {
            plan.bytes += key.len() as u64 + self.get(space, &key)?.map_or(0, |value| value.len() as u64);
        }
        self.plan_values(&mut plan, &criteria.unclaimed)?;
        Ok(plan)
    }

    /// The steps of runs that go on which something that stays stands: results that can still be taken or
    /// were taken, calls that spawned them, arguments that refer to them.
    fn needed_of(&self, chosen: &BTreeSet<RunId>, standing: &Standing) -> Result<BTreeSet<StepId>, StoreError> {
        let mut needed: BTreeSet<StepId> = BTreeSet::new();
        let mut waiting: Vec<StepId> = standing.indexed.iter().map(|execution| execution.step).collect();
        self.each_step(|_, step, _| {
            if !chosen.contains(&step.id.run) {
                waiting.extend(stands_on(step));
            }
        })?;
        while let Some(id) = waiting.pop() {
            if chosen.contains(&id.run)
                && needed.insert(id)
                && let Some(step) = self.step(id)?
            {
                waiting.extend(stands_on(&step));
            }
        }
        Ok(needed)
    }

    fn standing(&self) -> Result<Standing, StoreError> {
        let mut standing = Standing::default();
        self.each(Space::Index, |key, value| {
            let entry: Entry = record::decode("index", key, value)?;
            let environment = key.get(..4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes);
            for success in entry.successes.iter().chain(entry.forgotten.iter().map(|(_, success)| success)) {
                standing.indexed.insert(success.execution);
                standing.environments.insert(success.execution, environment);
                if entry.pinned {
                    standing.pinned.insert(success.execution);
                }
            }
            Ok(())
        })?;
        Ok(standing)
    }

    fn all_runs(&self) -> Result<BTreeMap<RunId, Run>, StoreError> {
        let mut runs = BTreeMap::new();
        self.each(Space::Runs, |key, value| {
            let run: Run = record::decode("runs", key, value)?;
            runs.insert(run.id, run);
            Ok(())
        })?;
        self.each(Space::Live, |key, value| {
            if StepId::from_key(key).is_some_and(|id| id.step == 0) {
                let run: Run = record::decode("live", key, value)?;
                runs.insert(run.id, Run { ended: None, ..run });
            }
            Ok(())
        })?;
        Ok(runs)
    }

    /// Every step, finished and unfinished, and the bytes of its record.
    fn each_step(&self, mut each: impl FnMut(Space, &Step, u64)) -> Result<(), StoreError> {
        for (space, name) in [(Space::Steps, "steps"), (Space::Live, "live")] {
            self.each(space, |key, value| {
                if StepId::from_key(key).is_some_and(|id| id.step > 0) {
                    let step: Step = record::decode(name, key, value)?;
                    each(space, &step, value.len() as u64);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The values that nothing refers to when a plan has been carried out.
    fn plan_values(&self, plan: &mut Plan, unclaimed: &HashSet<[u8; 32]>) -> Result<(), StoreError> {
        let results: HashSet<ExecutionId> = plan.results.iter().copied().collect();
        let steps: HashSet<StepId> = plan.steps.iter().copied().collect();
        let mut used: HashSet<[u8; 32]> = unclaimed.clone();
        let mut note = |value: &Stored| {
            if let Stored::Kept { hash, .. } = value {
                used.insert(*hash);
            }
        };
        let mut freed = 0;
        self.each_step(|_, step, _| {
            if steps.contains(&step.id) {
                return;
            }
            step.arguments.iter().map(|argument| &argument.value).chain(&step.command).for_each(&mut note);
            for (number, attempt) in (1u32..).zip(&step.attempts) {
                let Some(result) = &attempt.result else { continue };
                match result {
                    _ if !results.contains(&step.id.attempt(number)) => note(result),
                    Stored::Inline(_) => freed += result.size(),
                    Stored::Kept { .. } => {}
                }
            }
        })?;
        // What is kept for a key is there though its step may be gone.
        self.each(Space::Index, |key, value| {
            let entry: Entry = record::decode("index", key, value)?;
            let all = entry.successes.iter().chain(entry.forgotten.iter().map(|(_, success)| success));
            all.filter(|success| !results.contains(&success.execution)).for_each(|success| note(&success.result));
            Ok(())
        })?;
        for sensor in self.sensors()? {
            let arguments = sensor.arguments.iter().chain(sensor.checkpoint.iter().flatten());
            arguments.for_each(|argument| note(&argument.value));
        }
        let mut recorded: HashSet<[u8; 32]> = HashSet::new();
        self.each(Space::Values, |key, value| {
            let (hash, large) = match key {
                [b'b', hash @ ..] if hash.len() == 32 => (hash, true),
                hash => (hash, false),
            };
            let Ok(hash) = <[u8; 32]>::try_from(hash) else { return Ok(()) };
            if large {
                recorded.insert(hash);
            }
            if used.contains(&hash) {
                return Ok(());
            }
            let bytes = if large { self.blobs().size(&hash).unwrap_or(0) } else { value.len() as u64 };
            plan.values.push((hash, bytes));
            Ok(())
        })?;
        // A daemon that was killed may have left files that no record tells of.
        let long_ago = SystemTime::now().checked_sub(UNRECORDED_FOR).unwrap_or(SystemTime::UNIX_EPOCH);
        let files = self.blobs().written_before(long_ago);
        let files =
            files.map_err(|source| StoreError::Directory { path: self.blobs().directory().to_owned(), source })?;
        let left = files.into_iter().filter(|(hash, _)| !recorded.contains(hash) && !used.contains(hash));
        plan.values.extend(left);
        plan.bytes += freed + plan.values.iter().map(|(_, bytes)| bytes).sum::<u64>();
        Ok(())
    }

    /// What is only about runs that go: under which keys they were started, and lines of lists.
    fn collect_lists(&self, chosen: &BTreeSet<RunId>, plan: &mut Plan) -> Result<(), StoreError> {
        self.each_below(Space::Meta, b"s", |key, value| {
            if key == record::SCHEMA_KEY {
                return Ok(());
            }
            let start: StartRecord = record::decode("meta", key, value)?;
            if chosen.contains(&start.run) {
                plan.records.push((start.run, Space::Meta, key.to_vec()));
            }
            Ok(())
        })?;
        let steps: HashSet<StepId> = plan.steps.iter().copied().collect();
        self.each_below(Space::History, b"n", |key, value| {
            let lines: Vec<record::HistoryLine> = record::decode("history", key, value)?;
            if self.all_gone(&steps, lines.iter().map(|line| line.execution.step))? {
                plan.lists.push(key.to_vec());
            }
            Ok(())
        })?;
        // Those who took a result that stays go, too.
        self.each_below(Space::History, b"b", |key, value| {
            let borrowers: Vec<ExecutionId> = record::decode("history", key, value)?;
            if self.all_gone(&steps, borrowers.iter().map(|borrower| borrower.step))? {
                plan.lists.push(key.to_vec());
            }
            Ok(())
        })
    }

    /// Whether steps go now, or went before.
    fn all_gone(&self, going: &HashSet<StepId>, steps: impl Iterator<Item = StepId>) -> Result<bool, StoreError> {
        for step in steps {
            let there = |space| self.get(space, &step.key()).map(|record| record.is_some());
            if !going.contains(&step) && (there(Space::Steps)? || there(Space::Live)?) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn collect_keys(&self, run: RunId, space: Space, prefix: &[u8], plan: &mut Plan) -> Result<(), StoreError> {
        self.each_below(space, prefix, |key, _| {
            plan.records.push((run, space, key.to_vec()));
            Ok(())
        })
    }
}

/// The steps that a step's outcome lies in or that its arguments name.
fn stands_on(step: &Step) -> Vec<StepId> {
    let links = step.attempts.iter().filter_map(|attempt| attempt.link).map(|link| match link {
        Link::Leader(execution) | Link::Source(execution) | Link::Successor(execution) => execution.step,
        Link::Run(run) => run.root(),
    });
    links.chain(step.arguments.iter().flat_map(|argument| argument.references.iter().copied())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates() -> Vec<Candidate<u32>> {
        // Ended at 10, 20, … 60; two namespaces in turn; 100 bytes each; the oldest must stay.
        (1..=6)
            .map(|n| Candidate { what: n, namespace: n % 2, ended: Timestamp::from(n) * 10, bytes: 100, kept: n == 1 })
            .collect()
    }

    fn chosen(criteria: &Criteria) -> Vec<u32> {
        let mut chosen = criteria.choose(candidates());
        chosen.sort_unstable();
        chosen
    }

    #[test]
    fn age_number_and_size_each_choose_what_they_say() {
        assert_eq!(chosen(&Criteria { before: Some(40), ..Criteria::default() }), [2, 3]);
        assert_eq!(chosen(&Criteria { keep_latest: Some(1), ..Criteria::default() }), [2, 3, 4]);
        assert_eq!(chosen(&Criteria { max_size: Some(250), ..Criteria::default() }), [2, 3, 4]);
        assert_eq!(chosen(&Criteria { max_size: Some(0), ..Criteria::default() }), [2, 3, 4, 5, 6]);
        let both = Criteria { before: Some(40), keep_latest: Some(2), ..Criteria::default() };
        assert_eq!(chosen(&both), [2]);
    }
}
