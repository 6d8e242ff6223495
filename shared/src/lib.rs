//! Tasks whose results are remembered.

#[cfg(feature = "client")]
pub mod blocking;
#[cfg(feature = "client")]
pub mod client;
pub mod model;
#[cfg(feature = "client")]
pub mod paths;
pub mod protocol;
#[cfg(feature = "worker")]
pub mod worker;

#[cfg(feature = "client")]
pub use client::Client;
#[cfg(feature = "macros")]
pub use ibid_macros::{sensor, stub, task, workflow};
#[cfg(feature = "worker")]
pub use worker::{
    Call, Error, Execution, Result, checkpoint, checkpoint_blocking, execution_id, group, group_blocking, is_cancelled,
    metric, progress, run,
};
