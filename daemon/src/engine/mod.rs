//! DECIDES: which call runs, which joins another, which takes a result.
//!
//! The engine is pure: it has no clock, does no input or output and takes no
//! order from a hash map. Time and the finished past come with each [`Turn`];
//! what it decides collects inside until [`Engine::drain`] hands it to the
//! store, and what others must hear until [`Engine::take_effects`].
//!
//! It holds only what is unfinished. One execution is a node in a graph of who
//! waits for whom: followers wait for their leader, running executions for what
//! they called, spawned calls for the root of their run.

mod cancel;
mod canonical;
mod finish;
mod identity;
mod lookup;
mod queue;
mod recover;
mod rerun;
mod submit;
mod tally;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ibid::model::{
    Argument, Decision, Environment, ExecutionId, Failure, Id, Millis, Repository, Run, RunId, State, Step, StepId,
    Stored, TargetSpec, Timestamp,
};
use serde::{Deserialize, Serialize};

pub use cancel::Cancelled;
pub use canonical::NotAValue;
pub use identity::{argument, result};
pub use lookup::Explained;
pub use queue::Assignment;
pub use recover::Remembered;
pub use submit::{Call, Called, Start, Started};
pub use tally::count_step;

/// The finished past, as the store knows it.
pub trait Lookup {
    /// The results that a call of this identity can take in one environment.
    fn entry(&self, environment: u32, identity: &[u8; 32]) -> Option<Entry>;
    /// A finished step.
    fn step(&self, id: StepId) -> Option<Step>;
    /// A run in which nothing is unfinished.
    fn run(&self, id: RunId) -> Option<Run>;
    /// The run that was started under a token or idempotency key.
    fn start(&self, key: &str) -> Option<StartRecord>;
}

/// The moment and the past that a decision is made in.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    /// Now.
    pub now: Timestamp,
    /// What is finished.
    pub past: &'a dyn Lookup,
}

/// What a call of one identity can take: the results that may still win, and the last bad ending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// None of them was both created and completed before another.
    pub successes: Vec<Success>,
    /// The newest execution that ended badly.
    pub last_bad: Option<ExecutionId>,
}

/// One result that can be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success {
    /// What made it.
    pub execution: ExecutionId,
    /// Its place in the order of creation.
    pub sequence: u64,
    /// When it was completed.
    pub completed: Timestamp,
    /// How long it ran.
    pub duration: Millis,
    /// The value.
    pub result: Stored,
}

/// A real execution with an identity that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Where.
    pub environment: u32,
    /// The namespace of the identity.
    pub namespace: String,
    /// The execution.
    pub execution: ExecutionId,
    /// Bytes of its result; `None` if it ended badly.
    pub bytes: Option<u64>,
}

/// A result that was taken instead of being made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Borrowed {
    /// The execution that made it.
    pub source: ExecutionId,
    /// The execution that took it.
    pub borrower: ExecutionId,
    /// The borrower's environment.
    pub environment: u32,
    /// The namespace of the identity.
    pub namespace: String,
    /// How long the source had run.
    pub saved: Millis,
    /// Whether the borrower had joined it while it was unfinished.
    pub joined: bool,
}

/// Under which key a run was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRecord {
    /// The run.
    pub run: RunId,
    /// When.
    pub at: Timestamp,
    /// Digest of target and arguments, to tell a repeat from a conflict.
    pub request: [u8; 32],
}

/// How a call came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a value.
    Value {
        /// The value.
        value: Stored,
        /// The execution that really made it.
        execution: ExecutionId,
    },
    /// Without one.
    Bad {
        /// The kind of ending.
        state: State,
        /// What went wrong.
        failure: Failure,
        /// Whose ending it was.
        execution: ExecutionId,
    },
}

/// What others must hear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// An execution's wait is over.
    Answer {
        /// Who waited.
        to: ExecutionId,
        /// Its name for the wait.
        token: u64,
        /// How what it waited for came out.
        outcome: Outcome,
    },
    /// The newest attempt at a step is over.
    Ended {
        /// The step.
        step: StepId,
    },
    /// An execution must stop: its worker is to be killed.
    Stop {
        /// The execution.
        execution: ExecutionId,
        /// The worker that it was assigned to.
        worker: u32,
    },
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such target, nor in a base environment.
    #[error("no target '{0}' is registered in this environment")]
    UnknownTarget(String),
    /// Only workflows start by hand.
    #[error("'{0}' is a task: tasks are called by other targets, only workflows start by hand")]
    NotAWorkflow(String),
    /// No such step.
    #[error("there is no {0}")]
    UnknownStep(StepId),
    /// Its newest attempt is queued or running.
    #[error("{0} is {1}: it can be run again when it has ended")]
    Unfinished(ExecutionId, &'static str),
    /// Nothing to cancel.
    #[error("{0} has already ended")]
    AlreadyEnded(Id),
    /// No such run, step or execution.
    #[error("there is no {0}")]
    Unknown(Id),
    /// The caller's own execution is over.
    #[error("{0} is not running, so it cannot call or wait")]
    NotRunning(ExecutionId),
    /// Everyone would wait for everyone.
    #[error("{waiter} cannot wait for {target}: that one waits for it, through {through}")]
    Deadlock {
        /// Who asked to wait.
        waiter: ExecutionId,
        /// For what.
        target: StepId,
        /// The circle in words.
        through: String,
    },
    /// The idempotency key was used for something else.
    #[error("the idempotency key '{key}' belongs to {run}, which has another target or other arguments")]
    Conflict {
        /// The key.
        key: String,
        /// Its run.
        run: RunId,
    },
}

/// Everything that changed since it was last asked; the newest state of each thing, once.
#[derive(Debug, Default)]
pub struct Changes {
    /// Steps with something unfinished.
    pub live: Vec<Step>,
    /// Steps in which everything is finished.
    pub finished: Vec<Step>,
    /// Runs with something unfinished.
    pub active: Vec<Run>,
    /// Runs in which everything is finished.
    pub quiet: Vec<Run>,
    /// Index entries by environment and identity.
    pub entries: Vec<((u32, [u8; 32]), Entry)>,
    /// Real executions with an identity that ended.
    pub history: Vec<Ran>,
    /// How many real executions succeeded, with or without an identity.
    pub executed: u64,
    /// Who took whose result.
    pub borrowed: Vec<Borrowed>,
    /// Starts by key.
    pub starts: Vec<(String, StartRecord)>,
    /// Environments that were created.
    pub environments: Vec<Environment>,
    /// Repositories that were registered.
    pub repositories: Vec<Repository>,
    /// The next place in the order of creation.
    pub next_sequence: u64,
    /// The number of the next run.
    pub next_run: u64,
    /// Whether it must be on disk before it is acted on or acknowledged.
    pub durable: bool,
}

impl Changes {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
            && self.finished.is_empty()
            && self.active.is_empty()
            && self.quiet.is_empty()
            && self.entries.is_empty()
            && self.starts.is_empty()
            && self.environments.is_empty()
            && self.repositories.is_empty()
    }
}

/// A repository, by the environment that it was registered in and its name.
pub type RepositoryKey = (u32, String);

/// An unfinished execution among those that wait for it and that it waits for.
#[derive(Debug, Default)]
struct Node {
    followers: BTreeSet<ExecutionId>,
    waiters: BTreeSet<(ExecutionId, u64)>,
    waits: BTreeMap<u64, ExecutionId>,
    /// Where it can be found as a candidate.
    indexed: Option<(u32, [u8; 32])>,
    /// Where it is queued or runs.
    repository: Option<RepositoryKey>,
    /// Whether it occupies a slot.
    active: bool,
    timeout: Option<Timestamp>,
}

/// A step in which something is unfinished.
#[derive(Debug)]
struct LiveStep {
    step: Step,
    /// Unfinished steps that its executions called.
    children: BTreeSet<StepId>,
    /// How it counts in its run.
    category: tally::Category,
}

/// A run in which something is unfinished.
#[derive(Debug)]
struct ActiveRun {
    run: Run,
    next_step: u32,
    live: BTreeSet<StepId>,
}

/// The part of the daemon that decides.
#[derive(Debug, Default)]
pub struct Engine {
    environments: BTreeMap<u32, Environment>,
    repositories: BTreeMap<RepositoryKey, Repository>,
    next_sequence: u64,
    next_run: u64,
    draining: bool,

    runs: BTreeMap<RunId, ActiveRun>,
    steps: BTreeMap<StepId, LiveStep>,
    nodes: BTreeMap<ExecutionId, Node>,
    candidates: BTreeMap<(u32, [u8; 32]), BTreeMap<u64, ExecutionId>>,
    /// Steps whose identity waits for the outcome of another.
    unsettled: BTreeMap<StepId, BTreeSet<StepId>>,
    ready: BTreeMap<RepositoryKey, BTreeSet<(u64, ExecutionId)>>,
    timers: BTreeSet<(Timestamp, ExecutionId)>,
    active: BTreeMap<RepositoryKey, u32>,

    /// Executions that are over but whose ending has not been told yet.
    ended: VecDeque<finish::Ended>,
    effects: Vec<Effect>,
    recent: Recent,
}

/// What this turn finished or touched, until it is drained.
#[derive(Debug, Default)]
struct Recent {
    touched_steps: BTreeSet<StepId>,
    touched_runs: BTreeSet<RunId>,
    finished: BTreeMap<StepId, Step>,
    quiet: BTreeMap<RunId, Run>,
    entries: BTreeMap<(u32, [u8; 32]), Entry>,
    starts: BTreeMap<String, StartRecord>,
    rest: Changes,
}

impl Engine {
    /// An environment by project and name.
    #[must_use]
    pub fn environment(&self, project: &str, name: &str) -> Option<&Environment> {
        self.environments.values().find(|environment| environment.project == project && environment.name == name)
    }

    /// An environment by its number.
    #[must_use]
    pub fn environment_by_number(&self, number: u32) -> Option<&Environment> {
        self.environments.get(&number)
    }

    /// All environments, by number.
    pub fn environments(&self) -> impl Iterator<Item = &Environment> {
        self.environments.values()
    }

    /// The number of an environment, which is created if it does not exist.
    pub fn create_environment(&mut self, project: &str, name: &str) -> u32 {
        if let Some(environment) = self.environment(project, name) {
            return environment.number;
        }
        let number = self.environments.last_key_value().map_or(1, |(number, _)| number + 1);
        let environment = Environment { number, project: project.to_owned(), name: name.to_owned(), base: None };
        self.recent.rest.environments.push(environment.clone());
        self.recent.rest.durable = true;
        self.environments.insert(number, environment);
        number
    }

    /// The environment and its bases, nearest first. A circle of bases ends where it closes.
    fn chain(&self, environment: u32) -> Vec<u32> {
        let mut chain = vec![environment];
        while let Some(current) = chain.last().and_then(|number| self.environments.get(number)) {
            let Some(base) = current.base.as_deref().and_then(|base| self.environment(&current.project, base)) else {
                break;
            };
            if chain.contains(&base.number) {
                break;
            }
            chain.push(base.number);
        }
        chain
    }

    /// Records what a repository hosts; from now on calls run this code.
    pub fn register(&mut self, mut repository: Repository) -> u64 {
        let key = (repository.environment, repository.name.clone());
        repository.generation = self.repositories.get(&key).map_or(1, |old| old.generation + 1);
        let generation = repository.generation;
        self.recent.rest.repositories.retain(|other| (other.environment, &other.name) != (key.0, &key.1));
        self.recent.rest.repositories.push(repository.clone());
        self.recent.rest.durable = true;
        self.repositories.insert(key, repository);
        generation
    }

    /// All repositories, by environment and name.
    pub fn repositories(&self) -> impl Iterator<Item = &Repository> {
        self.repositories.values()
    }

    /// A repository.
    #[must_use]
    pub fn repository(&self, key: &RepositoryKey) -> Option<&Repository> {
        self.repositories.get(key)
    }

    /// The repository and declaration of a target, looked for in the environment and its bases.
    #[must_use]
    pub fn target(&self, environment: u32, target: &str) -> Option<(RepositoryKey, &TargetSpec)> {
        let (repository, name) = target.rsplit_once('/')?;
        self.chain(environment).into_iter().find_map(|number| {
            let key = (number, repository.to_owned());
            let spec = self.repositories.get(&key)?.target(name)?;
            Some((key, spec))
        })
    }

    /// The targets that an environment sees, nearest first where names repeat.
    #[must_use]
    pub fn targets(&self, environment: u32) -> Vec<(&Repository, &TargetSpec)> {
        let mut seen = BTreeSet::new();
        let mut targets = Vec::new();
        for number in self.chain(environment) {
            for repository in self.repositories.values().filter(|repository| repository.environment == number) {
                for spec in &repository.targets {
                    if seen.insert((&repository.name, &spec.name)) {
                        targets.push((repository, spec));
                    }
                }
            }
        }
        targets
    }

    /// A step, unfinished or finished.
    pub fn step(&self, t: Turn<'_>, id: StepId) -> Option<Step> {
        self.step_in_memory(id).cloned().or_else(|| t.past.step(id))
    }

    fn step_in_memory(&self, id: StepId) -> Option<&Step> {
        self.steps.get(&id).map(|live| &live.step).or_else(|| self.recent.finished.get(&id))
    }

    /// A run, with its present counts.
    pub fn run(&self, t: Turn<'_>, id: RunId) -> Option<Run> {
        let in_memory = self.runs.get(&id).map(|active| &active.run).or_else(|| self.recent.quiet.get(&id));
        in_memory.cloned().or_else(|| t.past.run(id))
    }

    /// The run, if something in it is unfinished.
    #[must_use]
    pub fn active_run(&self, id: RunId) -> Option<&Run> {
        self.runs.get(&id).map(|active| &active.run)
    }

    /// The runs in which something is unfinished.
    pub fn active_runs(&self) -> impl DoubleEndedIterator<Item = &Run> {
        self.runs.values().map(|active| &active.run)
    }

    /// The step, if something in it is unfinished.
    #[must_use]
    pub fn live_step(&self, id: StepId) -> Option<&Step> {
        self.steps.get(&id).map(|live| &live.step)
    }

    /// The unfinished steps, by id.
    pub fn live_steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.values().map(|live| &live.step)
    }

    /// The unfinished steps of one run, by id.
    pub fn live_steps_of(&self, run: RunId) -> impl Iterator<Item = &Step> {
        let live = self.runs.get(&run).into_iter().flat_map(|active| active.live.iter());
        live.filter_map(|id| self.live_step(*id))
    }

    /// The followers of an unfinished execution.
    #[must_use]
    pub fn followers(&self, execution: ExecutionId) -> Vec<ExecutionId> {
        self.nodes.get(&execution).map(|node| node.followers.iter().copied().collect()).unwrap_or_default()
    }

    /// Whether a step ended in the turn that is open.
    #[must_use]
    pub fn finished_this_turn(&self, id: StepId) -> bool {
        self.recent.finished.contains_key(&id)
    }

    /// How many unfinished executions others are linked to.
    #[must_use]
    pub fn leaders(&self) -> usize {
        self.nodes.values().filter(|node| !node.followers.is_empty()).count()
    }

    /// What a running execution waits for.
    #[must_use]
    pub fn waiting_on(&self, execution: ExecutionId) -> Vec<ExecutionId> {
        self.nodes.get(&execution).map(|node| node.waits.values().copied().collect()).unwrap_or_default()
    }

    /// The number that the newest run has, 0 before the first.
    #[must_use]
    pub const fn last_run(&self) -> u64 {
        self.next_run.saturating_sub(1)
    }

    /// The next place in the order of creation, without taking it.
    #[must_use]
    pub const fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Whether no running execution does anything but wait.
    #[must_use]
    pub fn all_wait(&self) -> bool {
        self.active.values().all(|count| *count == 0)
    }

    /// From now on nothing new is assigned except below running executions.
    pub const fn drain_work(&mut self) {
        self.draining = true;
    }

    /// What others must hear since this was last called.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Whether there is anything to write.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        let recent = &self.recent;
        !(recent.touched_steps.is_empty()
            && recent.touched_runs.is_empty()
            && recent.finished.is_empty()
            && recent.quiet.is_empty()
            && recent.entries.is_empty()
            && recent.starts.is_empty()
            && recent.rest.is_empty())
    }

    /// Everything that changed since this was last called, for one commit.
    pub fn drain(&mut self) -> Changes {
        let recent = std::mem::take(&mut self.recent);
        let mut changes = recent.rest;
        changes.live = recent.touched_steps.iter().filter_map(|id| Some(self.steps.get(id)?.step.clone())).collect();
        changes.finished = recent.finished.into_values().collect();
        changes.active = recent.touched_runs.iter().filter_map(|id| Some(self.runs.get(id)?.run.clone())).collect();
        changes.quiet = recent.quiet.into_values().collect();
        changes.entries = recent.entries.into_iter().collect();
        changes.starts = recent.starts.into_iter().collect();
        changes.next_sequence = self.next_sequence;
        changes.next_run = self.next_run;
        changes
    }

    fn entry(&self, t: Turn<'_>, environment: u32, identity: &[u8; 32]) -> Option<Entry> {
        match self.recent.entries.get(&(environment, *identity)) {
            Some(entry) => Some(entry.clone()),
            None => t.past.entry(environment, identity),
        }
    }

    const fn take_sequence(&mut self) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        sequence
    }

    fn project(&self, environment: u32) -> &str {
        self.environments.get(&environment).map_or("", |environment| &environment.project)
    }

    fn environment_of(&self, run: RunId) -> u32 {
        self.runs.get(&run).map_or(0, |active| active.run.environment)
    }

    /// How a step came out, if its newest attempt is over.
    pub fn outcome(&self, t: Turn<'_>, id: StepId) -> Option<Outcome> {
        let step = self.step(t, id)?;
        self.outcome_of(t, step.newest())
    }

    /// The step whose next ending decides how this one comes out: itself, unless it is a call whose
    /// run has ended and is being run again.
    pub fn deciding(&self, t: Turn<'_>, mut id: StepId) -> StepId {
        while let Some(step) = self.step(t, id)
            && let Some(attempt) = step.attempts.last()
            && attempt.run_ended.is_some()
            && let Some(ibid::model::Link::Run(run)) = attempt.link
        {
            id = run.root();
        }
        id
    }

    /// How an execution came out, if it is over; followed to whoever really made the value.
    pub fn outcome_of(&self, t: Turn<'_>, mut execution: ExecutionId) -> Option<Outcome> {
        loop {
            let step = self.step(t, execution.step)?;
            let attempt = step.attempt(execution.attempt)?;
            match attempt.state() {
                State::Succeeded => {
                    let value = attempt.result.clone()?;
                    return Some(Outcome::Value { value, execution });
                }
                State::Cached => match attempt.link {
                    Some(ibid::model::Link::Source(source)) => execution = source,
                    _ => return None,
                },
                State::Spawned => {
                    attempt.run_ended?;
                    let Some(ibid::model::Link::Run(run)) = attempt.link else { return None };
                    execution = self.step(t, run.root())?.newest();
                }
                state if state.is_bad() => {
                    let failure = attempt.failure.clone().unwrap_or_else(|| finish::plain_failure(state));
                    return Some(Outcome::Bad { state, failure, execution });
                }
                _ => return None,
            }
        }
    }
}

/// Digest of what a start asks for, to tell a repeat from a conflict.
fn request_digest(target: &str, arguments: &[Argument]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(target.as_bytes());
    for argument in arguments {
        match (identity::digest(&argument.value), &argument.value) {
            (Some(digest), _) => hasher.update(&digest),
            (None, Stored::Inline(json)) => hasher.update(blake3::hash(json.as_str().as_bytes()).as_bytes()),
            (None, Stored::Kept { hash, .. }) => hasher.update(hash),
        };
        for reference in &argument.references {
            hasher.update(&reference.key());
        }
    }
    *hasher.finalize().as_bytes()
}

/// A link that would have closed a circle is remembered as such.
const fn undone(leader: ExecutionId) -> Decision {
    Decision::WouldWaitForItself { leader }
}
