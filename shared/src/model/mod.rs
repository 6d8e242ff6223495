//! The words: ids, states, values, settings, decisions. No input or output.

mod command;
mod decision;
mod ids;
mod options;
mod repository;
mod run;
mod sensor;
mod step;
mod value;

pub use command::{CommandLine, CommandSetting, RegisteredTask, Shell, ShellTask, Stdin, Word};
pub use decision::{Decision, Miss};
pub use ids::{ExecutionId, Id, NotAnId, RunId, StepId};
pub use options::{
    Cache, CallOptions, Defer, Memo, Millis, Parameter, ParameterKind, Retries, TargetKind, TargetSpec, Timestamp, Wait,
};
pub use repository::{Launch, Repository};
pub use run::{Counts, Environment, Run};
pub use sensor::Sensor;
pub use step::{
    Argument, Attempt, Failure, Identity, Link, Memoised, State, Step, Transition, Trigger, default_namespace,
};
pub use value::{BLOB_MIN_BYTES, BlobReference, INLINE_MAX_BYTES, Json, Stored};
