//! What the daemon and workers say to each other.

use serde::{Deserialize, Serialize};

use super::messages::{LogLine, Outcome, Scope};
use crate::model::{CallOptions, ExecutionId, Failure, Json, Millis, StepId, TargetSpec};

messages! {
    /// A worker says who it is.
    WorkerAttach {
        /// What the daemon gave a worker that it started itself.
        #[serde(default)]
        token: Option<String>,
        /// The number that the daemon gave an executor.
        #[serde(default)]
        worker: Option<u32>,
        /// Its process.
        #[serde(default)]
        pid: Option<u32>,
        /// A worker that was not started by the daemon says what it hosts.
        #[serde(default)]
        hosts: Option<Hosts>,
    }
    /// What a worker hosts that was not started by the daemon.
    Hosts {
        /// Where.
        #[serde(default)]
        scope: Scope,
        /// The repository's name.
        repository: String,
        /// Its targets.
        targets: Vec<TargetSpec>,
        /// How many executions it takes at once.
        concurrency: u32,
    }
    /// A worker is known.
    Attached {
        /// Its number.
        worker: u32,
    }
    /// A worker has imported its module.
    WorkerReady {
        /// What the module declares.
        targets: Vec<TargetSpec>,
        /// Whether it can be forked, and if not, why.
        #[serde(default)]
        unforkable: Option<String>,
    }
    /// A worker could not import its module.
    WorkerFailed {
        /// What went wrong.
        error: Failure,
    }
    /// Calls from inside an execution.
    ExecutionCall {
        /// The caller.
        execution: ExecutionId,
        /// In order.
        calls: Vec<CallSpec>,
        /// Whether to wait for the outcome in the same message; only where it is a single call.
        #[serde(default)]
        wait: bool,
    }
    /// One call.
    CallSpec {
        /// `repository/name`
        target: String,
        /// In the order of the signature, defaults applied.
        arguments: Vec<Json>,
        /// As the caller evaluated them.
        #[serde(default)]
        options: CallOptions,
        /// The group that it is shown in.
        #[serde(default)]
        group: Option<String>,
    }
    /// What became of calls.
    CalledList {
        /// In the same order.
        calls: Vec<CalledView>,
    }
    /// What became of one call.
    CalledView {
        /// The new step; the one that was there, where a memo answers the call.
        step: StepId,
        /// How it came out, as far as it has.
        outcome: Outcome,
    }
    /// Waits from inside an execution.
    ExecutionWait {
        /// Who waits.
        execution: ExecutionId,
        /// For what.
        step: StepId,
        /// At most this long; 0 only asks. Absent: until it has ended.
        #[serde(default)]
        timeout: Option<Millis>,
        /// Calls whose results come along if there are any by then, so that they need not be asked for.
        #[serde(default)]
        also: Vec<StepId>,
    }
    /// The end of a wait.
    Waited {
        /// `None` where the time was up.
        outcome: Option<Outcome>,
        /// Of the others that were asked for those that have results; of many, the first.
        also: Vec<CalledView>,
    }
    /// Ends a wait before there is an outcome.
    ExecutionGiveUp {
        /// Who waits.
        execution: ExecutionId,
        /// The `id` of the request that waits, on this connection.
        request: Json,
    }
    /// A result.
    ExecutionComplete {
        /// Whose.
        execution: ExecutionId,
        /// The value.
        result: Json,
    }
    /// An error.
    ExecutionFail {
        /// Whose.
        execution: ExecutionId,
        /// What went wrong.
        error: Failure,
    }
    /// A message with values.
    ExecutionLog {
        /// Whose.
        execution: ExecutionId,
        /// The lines, in order.
        lines: Vec<LogLine>,
    }
    /// How far an execution has come. It is shown while the execution runs, and not kept.
    ExecutionProgress {
        /// Whose.
        execution: ExecutionId,
        /// What is being counted; one execution can count several things.
        #[serde(default)]
        label: String,
        /// How many of them are done; absent for a bare figure.
        #[serde(default)]
        done: Option<f64>,
        /// Of how many, if that is known.
        #[serde(default)]
        total: Option<f64>,
        /// Named figures; they replace those of the same names.
        #[serde(default)]
        metrics: Vec<(String, f64)>,
    }
    /// What a sensor wants to be started with the next time.
    ExecutionCheckpoint {
        /// Its execution.
        execution: ExecutionId,
        /// In the order of the signature.
        arguments: Vec<Json>,
    }
    /// Work for a worker.
    Execute {
        /// What.
        execution: ExecutionId,
        /// Name within the repository.
        target: String,
        /// In the order of the signature.
        arguments: Vec<Json>,
    }
    /// A template is to fork an executor.
    Fork {
        /// Its number.
        worker: u32,
        /// The FIFO that becomes its standard output.
        stdout: String,
        /// The FIFO that becomes its standard error.
        stderr: String,
    }
    /// A worker is to end when it has finished what it runs.
    Stop {}
    /// Nobody wants an execution any more, or its time is up: what it says from now on is refused. A worker
    /// that runs one execution at a time is killed instead.
    StopExecution {
        /// Which.
        execution: ExecutionId,
    }
}

/// Work for a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Order {
    /// Run this.
    Execute(Execute),
    /// Fork an executor.
    Fork(Fork),
    /// End.
    Stop(Stop),
    /// Give up one execution.
    Cancel(StopExecution),
}
