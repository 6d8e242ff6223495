//! DOES: the processes that run user code, and what they write.
//!
//! A repository's *template* is a Python process that has imported the module
//! once. Executors are forked from it (or started afresh where a module left
//! threads running), are reused, and are stopped when idle. A program that hosts
//! a repository itself is one process for all its executions. A worker that was
//! not started by the daemon attaches by itself. Shell commands are processes of
//! their own, each with a thread that reads and waits.

mod command;
mod inputs;
mod logs;
mod output;
mod package;
mod pool;
mod process;
mod recording;
mod stamp;

pub use command::{CommandEnded, CommandEvent, CommandOrder, Input, end_command, signal_command, start_command};
pub use inputs::Inputs;
pub use logs::{DROPPED, LOG_LIMIT_BYTES, LogBook};
pub use output::{Output, Readers, Stream, open as open_output};
pub use package::install as install_package;
pub use pool::{Pool, Pools, Role, Standing, Worker};
pub use process::{Exit, SpawnError, kill_group, start_host, wait_for_exit};
pub use recording::{Form, Recorded};
pub use stamp::Stamp;
