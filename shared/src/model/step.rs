//! What is kept of a call: the step, its attempts and how each ended.

use serde::{Deserialize, Serialize};

use super::{CallOptions, Decision, ExecutionId, Json, Millis, RunId, StepId, Stored, TargetKind, Timestamp};

/// Where an execution stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Waits for its time or for a worker.
    Queued,
    /// Assigned to a worker; also while it waits for another's result.
    Running,
    /// Ended with a result of its own.
    Succeeded,
    /// Ended with an error, its own or its leader's.
    Failed,
    /// Killed at its time limit.
    TimedOut,
    /// Its worker was lost; the outcome is unknown.
    Abandoned,
    /// Stopped on request.
    Cancelled,
    /// Waits for an unfinished execution of the same call.
    Linked,
    /// Took a finished execution's result.
    Cached,
    /// A called workflow: the result is that of the run it started.
    Spawned,
    /// Replaced by a newer call with the same defer key: the result is that one's.
    Deferred,
}

impl State {
    /// Whether nothing follows it; `spawned` and `deferred` are not (see [`Attempt::is_over`]).
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running | Self::Linked | Self::Spawned | Self::Deferred)
    }

    /// Whether it is an ending without a value.
    #[must_use]
    pub const fn is_bad(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut | Self::Abandoned | Self::Cancelled)
    }

    /// The stable name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Abandoned => "abandoned",
            Self::Cancelled => "cancelled",
            Self::Linked => "linked",
            Self::Cached => "cached",
            Self::Spawned => "spawned",
            Self::Deferred => "deferred",
        }
    }

    /// All of them, in the order of the enum.
    pub const ALL: [Self; 11] = [
        Self::Queued,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::Abandoned,
        Self::Cancelled,
        Self::Linked,
        Self::Cached,
        Self::Spawned,
        Self::Deferred,
    ];
}

/// What went wrong in an execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Failure {
    /// The type of the error as the program names it, e.g. `ValueError`.
    pub kind: String,
    /// One sentence.
    pub message: String,
    /// The program's own account of where.
    #[serde(default)]
    pub traceback: Option<String>,
    /// Something to rebuild the original error from, in the worker's own form.
    #[serde(default)]
    pub original: Option<Json>,
}

impl Failure {
    /// An error with a kind and a message only.
    #[must_use]
    pub fn new(kind: &str, message: impl Into<String>) -> Self {
        Self { kind: kind.to_owned(), message: message.into(), traceback: None, original: None }
    }
}

/// Why an attempt was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Called by another execution.
    Call,
    /// Started by hand.
    Hand,
    /// Automatically, after a bad ending.
    Retry,
    /// Forced by hand.
    Rerun,
    /// A sensor that had ended is started again.
    Restart,
}

/// What an attempt refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Linked to this unfinished execution (or was, when it ended).
    Leader(ExecutionId),
    /// Took the result of this execution.
    Source(ExecutionId),
    /// Started this run.
    Run(RunId),
    /// Replaced by this newer call.
    Successor(ExecutionId),
}

/// One change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Transition {
    /// When.
    pub at: Timestamp,
    /// Into which state.
    pub state: State,
    /// Why, in words; empty where the state says it all.
    #[serde(default)]
    pub cause: String,
}

/// One attempt at a step: an execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Attempt {
    /// Place in the order of creation, over everything in the data directory.
    pub sequence: u64,
    /// Why it was made.
    pub trigger: Trigger,
    /// Why it was executed, linked or hit.
    pub decision: Decision,
    /// Every state it has been in; the last is the present one.
    pub transitions: Vec<Transition>,
    /// Earliest start.
    pub due: Timestamp,
    /// Leader, source, run or successor.
    pub link: Option<Link>,
    /// The value, once it has succeeded itself.
    pub result: Option<Stored>,
    /// What went wrong, if it ended badly.
    pub failure: Option<Failure>,
    /// Number of the worker that it was assigned to.
    pub worker: Option<u32>,
    /// Digest of the code that ran.
    pub source: Option<String>,
    /// Cancelled for its caller, but others still want it.
    pub withdrawn: bool,
    /// For a call that stands for another, spawned or deferred: how that one ended.
    pub resolved: Option<State>,
    /// Part of a re-run of everything below a step: what it calls takes and joins only what was created
    /// after this place in the order.
    pub fresh: Option<u64>,
}

impl Attempt {
    /// A new attempt in its first state.
    #[must_use]
    pub fn new(sequence: u64, trigger: Trigger, decision: Decision, first: Transition, due: Timestamp) -> Self {
        Self {
            sequence,
            trigger,
            decision,
            transitions: vec![first],
            due,
            link: None,
            result: None,
            failure: None,
            worker: None,
            source: None,
            withdrawn: false,
            resolved: None,
            fresh: None,
        }
    }

    /// The present state.
    #[must_use]
    pub fn state(&self) -> State {
        self.transitions.last().map_or(State::Queued, |transition| transition.state)
    }

    /// When it entered a state for the first time.
    #[must_use]
    pub fn entered(&self, state: State) -> Option<Timestamp> {
        self.transitions.iter().find(|transition| transition.state == state).map(|transition| transition.at)
    }

    /// When it was created.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.transitions.first().map_or(0, |transition| transition.at)
    }

    /// Whether it can change no more. A spawned or deferred call is over when what it stands for is.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state().is_final() || self.resolved.is_some()
    }

    /// When it ended, if it has.
    #[must_use]
    pub fn ended(&self) -> Option<Timestamp> {
        self.transitions.last().filter(|_| self.is_over()).map(|last| last.at)
    }

    /// From assignment to the end, if it really ran and has ended.
    #[must_use]
    pub fn duration(&self) -> Option<Millis> {
        let from = self.entered(State::Running)?;
        Some(self.ended()?.saturating_sub(from).max(0).cast_unsigned())
    }
}

/// An argument as it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Argument {
    /// The value.
    pub value: Stored,
    /// The calls that it refers to, in the order of their appearance.
    pub references: Vec<StepId>,
}

/// What makes a call the same as another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Identity {
    /// blake3 over project, namespace, version and key.
    pub digest: [u8; 32],
    /// Whether every reference in the arguments is known by its value.
    pub settled: bool,
}

impl Identity {
    /// The start of the digest, as shown to people.
    #[must_use]
    pub fn short(&self) -> String {
        self.digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The digest in hexadecimal.
    #[must_use]
    pub fn hex(&self) -> String {
        self.digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A call that later ones of its run with the same key are answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Memoised {
    /// blake3 over target and arguments, or over target and the string that the memo function gave.
    pub key: [u8; 32],
    /// How many later calls it has answered.
    pub hits: u32,
    /// Who made those; of a finished step the first few.
    pub callers: Vec<ExecutionId>,
}

/// One call of a target within a run, with all its attempts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Step {
    /// `R12:3`
    pub id: StepId,
    /// `repository/name`
    pub target: String,
    /// Workflow, task, sensor or shell command.
    pub kind: TargetKind,
    /// In the order of the signature.
    pub arguments: Vec<Argument>,
    /// As the caller evaluated them.
    pub options: CallOptions,
    /// Absent with caching off and for plain starts by hand.
    pub identity: Option<Identity>,
    /// The execution that called, if one did.
    pub caller: Option<ExecutionId>,
    /// The group that its caller made it in.
    pub group: Option<String>,
    /// Present where later calls of the run can refer to it.
    pub memo: Option<Memoised>,
    /// When the burst of calls began that this one ended, for a call with a defer key.
    pub burst: Option<Timestamp>,
    /// Automatic retries used since the last start or re-run by hand.
    pub retries_used: u32,
    /// First to newest; never empty.
    pub attempts: Vec<Attempt>,
    /// Of a command that was given whole: how it is run, a [`super::CommandSetting`].
    pub command: Option<Stored>,
}

impl Step {
    /// The number of the newest attempt.
    #[must_use]
    pub fn newest(&self) -> ExecutionId {
        self.id.attempt(u32::try_from(self.attempts.len()).unwrap_or(u32::MAX))
    }

    /// An attempt by its number.
    #[must_use]
    pub fn attempt(&self, number: u32) -> Option<&Attempt> {
        self.attempts.get(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// State of the newest attempt.
    #[must_use]
    pub fn state(&self) -> State {
        self.attempts.last().map_or(State::Queued, Attempt::state)
    }

    /// `<repository>:<target>` unless the options name another.
    #[must_use]
    pub fn namespace(&self) -> String {
        self.options.cache_namespace.clone().unwrap_or_else(|| default_namespace(&self.target))
    }
}

/// The namespace of a target that names none: `<repository>:<target>`.
#[must_use]
pub fn default_namespace(target: &str) -> String {
    match target.rsplit_once('/') {
        Some((repository, name)) => format!("{repository}:{name}"),
        None => target.to_owned(),
    }
}
