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

mod blocking;
mod cancel;
mod candidates;
mod canonical;
mod defer;
mod finish;
mod identity;
mod keeping;
mod lookup;
mod memo;
mod places;
mod queue;
mod recover;
mod rerun;
mod sensors;
mod submit;
mod tally;
mod terms;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ibid::model::{
    Argument, Environment, ExecutionId, Link, Repository, Run, RunId, Sensor, State, Step, StepId, Stored, Timestamp,
};

pub use cancel::Cancelled;
pub use canonical::NotAValue;
pub use finish::ending_in_words;
pub use identity::{argument, digest as value_digest, result};
pub use lookup::Explained;
pub use queue::Assignment;
pub use recover::Remembered;
pub use sensors::{SENSOR_HEALTHY, SensorStarted, sensor_key};
pub use submit::{Call, Called, Start, Started, not_a_workflow};
pub use tally::count_step;
pub use terms::{Borrowed, Changes, Effect, Entry, Lookup, Outcome, Ran, Refusal, StartRecord, Success, Turn};

/// A repository, by the environment that it was registered in and its name.
pub type RepositoryKey = (u32, String);

/// An unfinished execution among those that wait for it and that it waits for.
#[derive(Debug, Default)]
struct Node {
    followers: BTreeSet<ExecutionId>,
    /// Older calls that it replaced.
    superseded: BTreeSet<ExecutionId>,
    /// Steps that must end before it starts.
    blocked: BTreeSet<StepId>,
    /// Steps that its own calls were answered with by memo.
    memoised: BTreeSet<StepId>,
    waiters: BTreeSet<(ExecutionId, u64)>,
    waits: BTreeMap<u64, ExecutionId>,
    /// Where it can be found as a candidate.
    indexed: Option<(u32, [u8; 32])>,
    /// Where it is queued or runs.
    repository: Option<RepositoryKey>,
    /// Whether it occupies a slot.
    active: bool,
    /// Whether it never does: a sensor.
    slotless: bool,
    timeout: Option<Timestamp>,
}

/// A step in which something is unfinished.
#[derive(Debug)]
struct LiveStep {
    step: Step,
    /// Unfinished steps that its executions called.
    children: BTreeSet<StepId>,
    /// References of its identity that are not known yet.
    unknown: usize,
    /// How it counts in its run.
    category: tally::Category,
}

/// A run in which something is unfinished.
#[derive(Debug)]
struct ActiveRun {
    run: Run,
    next_step: u32,
    /// The numbers of its unfinished steps.
    live: BTreeSet<u32>,
    /// Read from the run's steps when the first call asks.
    memo: Option<memo::Index>,
}

impl ActiveRun {
    const fn new(run: Run, next_step: u32) -> Self {
        Self { run, next_step, live: BTreeSet::new(), memo: None }
    }
}

/// The part of the daemon that decides.
#[derive(Debug, Default)]
pub struct Engine {
    environments: BTreeMap<u32, Environment>,
    repositories: BTreeMap<RepositoryKey, Repository>,
    next_sequence: u64,
    next_run: u64,
    draining: bool,

    // Boxed: a tree's nodes are half empty, and these are large.
    runs: BTreeMap<RunId, Box<ActiveRun>>,
    steps: BTreeMap<StepId, Box<LiveStep>>,
    nodes: BTreeMap<ExecutionId, Box<Node>>,
    /// By environment, identity and place in the order of creation.
    candidates: BTreeMap<(u32, [u8; 32], u64), ExecutionId>,
    /// Steps whose identity waits for the outcome of another.
    unsettled: BTreeMap<StepId, BTreeSet<StepId>>,
    ready: BTreeMap<RepositoryKey, BTreeSet<(u64, ExecutionId)>>,
    /// Sensors that are due; they need no slot.
    ready_sensors: BTreeMap<RepositoryKey, BTreeSet<ExecutionId>>,
    /// Queued executions that a newer call with the same key replaces.
    deferrable: BTreeMap<defer::Key, BTreeSet<ExecutionId>>,
    /// Queued executions by the step that they wait for.
    blocking: BTreeMap<StepId, BTreeSet<ExecutionId>>,
    sensors: BTreeMap<sensors::Key, Sensor>,
    /// The running instances, by the run of their executions.
    sensor_runs: BTreeMap<RunId, sensors::Key>,
    /// What ends now is ended by the daemon: sensors start again at once.
    interrupting: bool,
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
    /// Finished before, and only counted as memo hits since.
    recalled: BTreeMap<StepId, Step>,
    quiet: BTreeMap<RunId, Run>,
    entries: BTreeMap<(u32, [u8; 32]), Entry>,
    starts: BTreeMap<String, StartRecord>,
    rest: Changes,
}

impl Engine {
    /// A step, unfinished or finished.
    pub fn step(&self, t: Turn<'_>, id: StepId) -> Option<Step> {
        self.step_in_memory(id).cloned().or_else(|| t.past.step(id))
    }

    fn step_in_memory(&self, id: StepId) -> Option<&Step> {
        let recent = || self.recent.finished.get(&id).or_else(|| self.recent.recalled.get(&id));
        self.steps.get(&id).map(|live| &live.step).or_else(recent)
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
        live.filter_map(move |step| self.live_step(StepId { run, step: *step }))
    }

    /// The followers of an unfinished execution.
    #[must_use]
    pub fn followers(&self, execution: ExecutionId) -> Vec<ExecutionId> {
        self.nodes.get(&execution).map(|node| node.followers.iter().copied().collect()).unwrap_or_default()
    }

    /// How many those are.
    #[must_use]
    pub fn follower_count(&self, execution: ExecutionId) -> u32 {
        self.nodes.get(&execution).map_or(0, |node| u32::try_from(node.followers.len()).unwrap_or(u32::MAX))
    }

    /// The older calls whose place an unfinished execution has taken.
    #[must_use]
    pub fn superseded(&self, execution: ExecutionId) -> Vec<ExecutionId> {
        self.nodes.get(&execution).map(|node| node.superseded.iter().copied().collect()).unwrap_or_default()
    }

    /// Whether a step ended in the turn that is open.
    #[must_use]
    pub fn finished_this_turn(&self, id: StepId) -> bool {
        self.recent.finished.contains_key(&id)
    }

    /// The steps that ended in the turn that is open, as they are now.
    pub fn ended_in_turn(&self) -> impl Iterator<Item = &Step> {
        self.recent.recalled.values().chain(self.recent.finished.values())
    }

    /// The unfinished execution that a call of an identity would join.
    #[must_use]
    pub fn unfinished(&self, environment: u32, identity: &[u8; 32]) -> Option<ExecutionId> {
        self.candidates(environment, identity).next_back().map(|(_, execution)| execution)
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

    /// How many things it remembers because something is unfinished; none when nothing is.
    #[must_use]
    pub fn held(&self) -> usize {
        let ready: usize = self.ready.len() + self.ready_sensors.len() + self.deferrable.len();
        let waiting = self.blocking.len() + self.unsettled.len() + self.timers.len() + self.ended.len();
        let active = self.active.values().filter(|count| **count > 0).count();
        self.nodes.len() + self.candidates.len() + self.sensor_runs.len() + ready + waiting + active
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
            && recent.recalled.is_empty()
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
        changes.finished = recent.recalled.into_values().chain(recent.finished.into_values()).collect();
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

    /// The step whose next ending decides how this one comes out: itself, unless it stands for another
    /// that has ended and is being run again.
    pub fn deciding(&self, t: Turn<'_>, mut id: StepId) -> StepId {
        while let Some(step) = self.step(t, id)
            && let Some(attempt) = step.attempts.last()
            && attempt.resolved.is_some()
            && let Some(stands_for) = stands_for(attempt.link)
        {
            id = stands_for;
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
                    Some(Link::Source(source)) => execution = source,
                    _ => return None,
                },
                State::Spawned | State::Deferred => {
                    attempt.resolved?;
                    execution = self.step(t, stands_for(attempt.link)?)?.newest();
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

/// The step whose result is that of a spawned or deferred call.
const fn stands_for(link: Option<Link>) -> Option<StepId> {
    match link {
        Some(Link::Run(run)) => Some(run.root()),
        Some(Link::Successor(successor)) => Some(successor.step),
        _ => None,
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
