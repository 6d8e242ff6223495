//! Tasks whose results are remembered.
//!
//! A call that was made before is not made again: its result is reused, if it is young enough for the caller.
//! A call that is being made right now is not made twice: the second joins the first. The daemon `ibidd`
//! schedules the calls and keeps every result; this crate is how programs in Rust take part.
//!
//! # Tasks
//!
//! Annotate functions, and let `main` host them:
//!
//! ```no_run
//! use ibid::{Result, task, workflow};
//!
//! /// The titles of a user's posts, at most ten minutes old.
//! #[task(cache = "10m", retries = (2, "1s"))]
//! async fn titles(user: u64) -> Result<Vec<String>> {
//!     Ok(vec![format!("the first of {user}")]) // a slow request
//! }
//!
//! /// Counts the words of a text; of any age, as the same text has the same words.
//! #[task(cache)]
//! fn words(text: String) -> Result<usize> {
//!     Ok(text.split_whitespace().count())
//! }
//!
//! /// How many words a user has used in titles.
//! #[workflow]
//! async fn digest(user: u64) -> Result<usize> {
//!     let titles = titles(user).await?; // scheduled; the slot is free while it waits
//!     let mut sum = 0;
//!     for count in words::map(titles) {
//!         sum += count.await?; // all are on their way
//!     }
//!     Ok(sum)
//! }
//!
//! fn main() -> Result<()> {
//!     ibid::worker::main()
//! }
//! ```
//!
//! ```text
//! $ cargo build --release
//! $ ibid register --bin target/release/news
//! $ ibid run news/digest 7
//! ```
//!
//! The daemon starts the program when there is work, and stops it when there has been none for a while. Async
//! tasks are futures, others run on threads; a panic is the error of its execution alone. A blocking task that
//! is cancelled goes on until it asks [`is_cancelled`]. 64 executions run at once unless `ibid register
//! --concurrency` says otherwise, as it should where they compute rather than wait. Calls belong to the execution whose future makes them:
//! what is handed to `tokio::spawn` is outside of it, and so are threads of the task's own. Outside of an
//! execution, in tests and plain programs, the functions just run.
//!
//! # What to know
//!
//! - An async call is awaited: `titles(7).await?`. A blocking one waits by itself, `words(text)?`, in async code
//!   too, where it holds the thread; there `words::call(text).await?` waits without. A blocking caller holds a
//!   thread as long as it waits, of 2000: deep recursion is better async. An async task that blocks its thread
//!   holds up others: use blocking functions for what blocks.
//! - A handle is an argument or a result like any other: `fn sum(parts: Vec<Execution<usize>>)`.
//! - An `Option` parameter may be left out when a run is started by hand.
//! - Dropping the future of a call, as `tokio::time::timeout` or `select!` do, leaves it going, as others may want
//!   it; [`Call::timeout`] and [`Execution::cancel`] end it.
//! - A panic ends one execution. An abort, an `exit` or the kernel's memory killer ends all of the process: the
//!   executions are abandoned, and tried again where the outermost of them have `retries`.
//! - What is printed while several executions run is in the log of the last of them: [`log_info!`] knows whose it
//!   is.
//! - Floats that JSON lacks, infinite ones and NaN, are refused.
//! - In tests, outside of executions, nothing is cached, tried again, deferred, or limited in time, a handle has no
//!   id, and a stub needs a body.
//! - A program that was built anew is started anew once it has nothing to do; `ibid register` does so right away.
//!
//! [`macro@task`] lists the options; [`Call`] changes them for one call; [`Execution`] is a handle on a call that
//! was made. Targets of other programs, also in Python and the shell, are called through a [`macro@stub`]; for
//! the same JSON they are the same call from either language. [`run`] starts a workflow from any program.
//!
//! # The client
//!
//! [`Client`] speaks the whole protocol, async; [`blocking`] does so without a runtime.
//!
//! # Features
//!
//! | feature | what it brings |
//! |---|---|
//! | (none) | [`model`] and [`protocol`]: the words and messages, as types |
//! | `client` | [`Client`], [`blocking`] and [`paths`] |
//! | `worker` | [`worker`]: hosting tasks |
//! | `macros` | the attributes |
//!
//! All are on unless `default-features = false`.

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
