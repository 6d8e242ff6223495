//! The words between the engine and the others: what it asks of the past, and what it tells.

use ibid::model::{
    Environment, ExecutionId, Failure, Id, Millis, Repository, Run, RunId, Sensor, State, Step, StepId, Stored,
    Timestamp,
};
use serde::{Deserialize, Serialize};

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
    /// Results that were taken out by hand, and when; they can be put back.
    pub forgotten: Vec<(Timestamp, Success)>,
    /// Whether pruning leaves it alone.
    pub pinned: bool,
}

impl Entry {
    /// Whether nothing is known under the identity any more.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.successes.is_empty() && self.last_bad.is_none() && self.forgotten.is_empty() && !self.pinned
    }

    /// Adds a result. Whatever was both created and completed earlier can never win again.
    pub(super) fn add(&mut self, success: Success) {
        self.successes.retain(|other| other.sequence > success.sequence || other.completed > success.completed);
        let beaten = |other: &Success| other.sequence > success.sequence && other.completed > success.completed;
        if !self.successes.iter().any(beaten) {
            self.successes.push(success);
        }
    }
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
    /// Its identity.
    pub identity: [u8; 32],
    /// How it ended.
    pub state: State,
    /// When it was created.
    pub created: Timestamp,
    /// How long it ran.
    pub duration: Millis,
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

impl Outcome {
    /// The kind of ending.
    #[must_use]
    pub const fn state(&self) -> State {
        match self {
            Self::Value { .. } => State::Succeeded,
            Self::Bad { state, .. } => *state,
        }
    }
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
    #[error("'{0}' is a {1}, and only workflows are started as runs; {2}")]
    NotAWorkflow(String, &'static str, &'static str),
    /// Only sensors are started as such.
    #[error("'{0}' is a {1}, not a sensor: 'ibid run' starts workflows, tasks are called by other targets")]
    NotASensor(String, &'static str),
    /// A sensor is not called.
    #[error("'{0}' is a sensor: it is started by hand ('ibid sensor start {0}'), not called")]
    SensorCalled(String),
    /// Only the executions of sensors have checkpoints.
    #[error("{0} is not the execution of a sensor, so it has no checkpoint")]
    NoSensor(ExecutionId),
    /// No such environment.
    #[error("project '{0}' has no environment '{1}'")]
    UnknownEnvironment(String, String),
    /// An environment would be its own base.
    #[error("'{0}' cannot be based on '{1}': that one is based on it ({2})")]
    BaseCircle(String, String, String),
    /// No such step.
    #[error("there is no {0}")]
    UnknownStep(StepId),
    /// Its newest attempt is queued or running.
    #[error("{0} is {1}: it can be run again when it has ended")]
    Unfinished(ExecutionId, &'static str),
    /// Nothing to pin.
    #[error("no result is remembered under this key, so there is nothing to pin")]
    NothingRemembered,
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
    /// Sensors that were started, stopped or set a checkpoint.
    pub sensors: Vec<Sensor>,
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
            && self.sensors.is_empty()
    }
}
