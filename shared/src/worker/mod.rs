//! Programs that host tasks.
//!
//! A program of tasks is a `main` that calls [`main`](main()). Built and registered (`ibid register --bin
//! target/release/my-tasks`, or `cargo run -- register`), it is started and stopped by the daemon; its file's
//! name is the name of its repository. One process takes many executions at once: async tasks are futures,
//! others run on threads, and panics are errors of the execution alone. What is printed belongs to the
//! execution that runs; where several run at once the [log macros](crate::log_info) say whose it is.

mod batch;
mod call;
mod context;
mod error;
mod finite;
mod host;
mod report;
mod start;
mod target;
mod values;

use std::sync::OnceLock;

pub use call::{Call, Execution, Task, submit_all};
pub use context::{execution_id, group, group_blocking, is_cancelled};
pub use error::{Error, Result};
pub use inventory;
pub use report::{checkpoint, checkpoint_blocking, log, metric, progress, shown};
pub use start::{main, run};
pub use target::{Body, Declared, Linked, Returned, Target, decode_argument, encode_argument, encode_result};

/// The name of this program's repository: that which the daemon started it for, else its file's.
fn repository() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| {
        let own = || Some(std::env::current_exe().ok()?.file_name()?.to_string_lossy().into_owned());
        std::env::var("IBID_WORKER_REPOSITORY").ok().or_else(own).unwrap_or_default()
    })
}
