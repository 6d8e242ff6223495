//! How runs, steps and executions are shown: everywhere the same records.

use serde::{Deserialize, Serialize};

use crate::model::{
    CallOptions, Counts, Decision, ExecutionId, Failure, Json, Millis, Parameter, RunId, State, StepId, TargetKind,
    Timestamp, Transition, Trigger,
};

/// An environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EnvironmentView {
    /// Its project.
    pub project: String,
    /// Its name.
    pub environment: String,
    /// What its look-ups fall through to.
    pub base: Option<String>,
}

/// A target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TargetView {
    /// `repository/name`
    pub target: String,
    /// Workflow or task.
    pub kind: TargetKind,
    /// In the order of the signature.
    pub parameters: Vec<Parameter>,
    /// As declared.
    pub options: CallOptions,
    /// Whether it has a key function of its own.
    pub own_key: bool,
    /// First paragraph of its documentation.
    pub doc: Option<String>,
    /// The environment that it was found in.
    pub environment: String,
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunView {
    /// `R12`
    pub id: RunId,
    /// Its project.
    pub project: String,
    /// Its environment.
    pub environment: String,
    /// The workflow.
    pub target: String,
    /// State of its root.
    pub state: State,
    /// When it was started, ms since 1970.
    pub created: Timestamp,
    /// When its root was last begun: at its start, or when it was forced again.
    pub begun: Timestamp,
    /// When its root ended.
    pub ended: Option<Timestamp>,
    /// The call that started it; absent for a start by hand.
    pub caller: Option<StepId>,
    /// Its steps by outcome.
    pub counts: Counts,
}

/// A value as it is shown: whole if it is small.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ValueView {
    /// The value, if it is small enough to show here.
    pub value: Option<Json>,
    /// Bytes of its JSON text.
    pub size: u64,
}

/// An argument with its parameter's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ArgumentView {
    /// The parameter; its position where the target is not registered any more.
    pub name: String,
    /// The value.
    pub value: ValueView,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct StepView {
    /// `R12:3`
    pub id: StepId,
    /// `repository/name`
    pub target: String,
    /// Workflow or task.
    pub kind: TargetKind,
    /// State of its newest attempt.
    pub state: State,
    /// With the names of the parameters.
    pub arguments: Vec<ArgumentView>,
    /// As the caller evaluated them.
    pub options: CallOptions,
    /// The namespace that it counts in.
    pub namespace: String,
    /// Its identity in hexadecimal; absent with caching off.
    pub key: Option<String>,
    /// The execution that called it.
    pub caller: Option<ExecutionId>,
    /// The group that its caller made it in.
    pub group: Option<String>,
    /// How many later calls of the run it has answered by memo.
    pub memo_hits: u32,
    /// Who made those; of a finished step the first few.
    pub memo_callers: Vec<ExecutionId>,
    /// First to newest.
    pub attempts: Vec<AttemptView>,
}

/// An execution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AttemptView {
    /// `R12:3.1`
    pub id: ExecutionId,
    /// Its state.
    pub state: State,
    /// What that means just now, in words.
    pub detail: String,
    /// Why it was made.
    pub trigger: Trigger,
    /// The kind of the verdict.
    pub decision_kind: String,
    /// The verdict.
    pub decision: Decision,
    /// The execution that it is, or was, linked to.
    pub leader: Option<ExecutionId>,
    /// The execution whose result it took.
    pub source: Option<ExecutionId>,
    /// The environment that the source or leader is in, where that is another.
    pub source_environment: Option<String>,
    /// The run that it started.
    pub run: Option<RunId>,
    /// The newer call that took its place.
    pub successor: Option<ExecutionId>,
    /// When it was created, ms since 1970.
    pub created: Timestamp,
    /// Earliest start.
    pub due: Timestamp,
    /// When it was assigned to a worker.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// From assignment to end, ms; a borrowed result has none of its own.
    pub duration: Option<Millis>,
    /// Every state it has been in.
    pub transitions: Vec<Transition>,
    /// The value, if it has succeeded or taken one.
    pub result: Option<ValueView>,
    /// What went wrong.
    pub error: Option<Failure>,
    /// The worker that it was assigned to.
    pub worker: Option<u32>,
    /// Executions that are linked to it now.
    pub followers: Vec<ExecutionId>,
    /// Older calls whose place it has taken.
    pub superseded: Vec<ExecutionId>,
    /// What it waits for now.
    pub waiting_on: Vec<ExecutionId>,
    /// Calls that must end before it starts.
    pub blocked_by: Vec<StepId>,
    /// How far it has come, as it says itself.
    pub progress: Vec<ProgressView>,
    /// Named figures that it reports.
    pub metrics: Vec<(String, f64)>,
    /// Cancelled for its caller, but others still want it.
    pub withdrawn: bool,
}

impl StepView {
    /// The newest attempt.
    #[must_use]
    pub fn newest(&self) -> Option<&AttemptView> {
        self.attempts.last()
    }
}

/// How far an execution has come with one thing that it counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ProgressView {
    /// What it counts.
    pub label: String,
    /// How many are done.
    pub done: f64,
    /// Of how many, if that is known.
    pub total: Option<f64>,
}

/// A sensor that was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SensorView {
    /// `repository/name`
    pub target: String,
    /// Its project.
    pub project: String,
    /// Its environment.
    pub environment: String,
    /// `starting`, `running`, `restarting` or `stopped`.
    pub state: String,
    /// What that means just now, in words.
    pub detail: String,
    /// As it was started, short.
    pub arguments: String,
    /// What it is started with the next time, short; absent where it has set no checkpoint.
    pub checkpoint: Option<String>,
    /// The run of its executions.
    pub run: RunId,
    /// When it was last started by hand, ms since 1970.
    pub started: Timestamp,
    /// When it was stopped.
    pub stopped: Option<Timestamp>,
    /// How often it was started again since.
    pub restarts: u32,
}

/// What waits for one reason: a key, and how many wait for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueueGroup {
    /// Why it waits, in words.
    pub reason: String,
    /// The execution that is queued, or that the others are linked to.
    pub execution: ExecutionId,
    /// Its target.
    pub target: String,
    /// Its arguments, short.
    pub arguments: String,
    /// Its state.
    pub state: State,
    /// Since when, ms since 1970.
    pub since: Timestamp,
    /// How many are linked to it.
    pub followers: u32,
}

/// A worker process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct WorkerView {
    /// Its number; shown as `w-3`.
    pub worker: u32,
    /// The repository that it hosts.
    pub repository: String,
    /// `template`, `executor`, `external` or `commands`.
    pub role: String,
    /// Its process.
    pub pid: Option<u32>,
    /// `starting`, `ready` (a template), `idle`, `busy`, `waiting` or `leaving`.
    pub state: String,
    /// What it runs.
    pub executions: Vec<ExecutionId>,
    /// How many it has finished.
    pub finished: u64,
    /// When it was started, ms since 1970.
    pub started: Timestamp,
}
