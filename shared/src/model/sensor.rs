//! A sensor that somebody started.

use serde::{Deserialize, Serialize};

use super::{Argument, RunId, Timestamp};

/// One instance: a sensor with arguments in an environment. It is kept running until it is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sensor {
    /// Number of the environment.
    pub environment: u32,
    /// `repository/name`
    pub target: String,
    /// As it was started, in the order of the signature.
    pub arguments: Vec<Argument>,
    /// The arguments that it asked to be started with the next time.
    pub checkpoint: Option<Vec<Argument>>,
    /// Its executions are the attempts at the first step of this run.
    pub run: RunId,
    /// When it was last started by hand.
    pub started: Timestamp,
    /// When it was stopped by hand; it keeps its checkpoint.
    pub stopped: Option<Timestamp>,
    /// How often it was started again since it was started by hand.
    pub restarts: u32,
    /// How many of its executions in a row ended soon after their start.
    pub short_lived: u32,
}
