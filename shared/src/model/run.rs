//! What is kept of a run.

use serde::{Deserialize, Serialize};

use super::{Millis, RunId, State, StepId, Timestamp};

/// How the calls of a run came to their results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Counts {
    /// Steps in all.
    pub steps: u32,
    /// Not yet due or without a worker.
    pub queued: u32,
    /// With a worker.
    pub running: u32,
    /// Waiting for another's execution.
    pub linked: u32,
    /// Calls of workflows whose run is unfinished.
    pub spawned: u32,
    /// Replaced by a newer call that has not ended badly.
    pub deferred: u32,
    /// Calls that an earlier step of the run answered; they made no step.
    pub memo: u32,
    /// Ended well by their own work (or their own run's).
    pub ran: u32,
    /// Took a finished result, at once or when their leader had it.
    pub cached: u32,
    /// Of those, the ones that had joined an unfinished execution.
    pub joined: u32,
    /// Ended badly.
    pub failed: u32,
    /// Cancelled.
    pub cancelled: u32,
    /// Time that the taken results had cost.
    pub saved: Millis,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Run {
    /// `R12`
    pub id: RunId,
    /// Number of the environment that it belongs to.
    pub environment: u32,
    /// The workflow.
    pub target: String,
    /// When it was started.
    pub created: Timestamp,
    /// The call that started it, unless it was started by hand.
    pub caller: Option<StepId>,
    /// State of its root.
    pub state: State,
    /// When its root was last begun by somebody: at its start, or when it was forced again.
    pub begun: Timestamp,
    /// When the root ended.
    pub ended: Option<Timestamp>,
    /// Its steps by outcome; exact once nothing in it is unfinished.
    pub counts: Counts,
    /// The client's token, so that a resend never starts it twice.
    pub token: Option<String>,
    /// The key under which a repeat is refused or answered with this run.
    pub idempotency_key: Option<String>,
}

/// An environment of a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Environment {
    /// Its number in the data directory.
    pub number: u32,
    /// The project.
    pub project: String,
    /// Its name within the project.
    pub name: String,
    /// The environment that look-ups fall through to.
    pub base: Option<String>,
}
