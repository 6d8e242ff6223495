//! The execution that code is in the middle of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::batch::{Batch, Open};
use super::error::refused;
use super::{Error, Result, values};
use crate::Client;
use crate::model::{BLOB_MIN_BYTES, BlobReference, ExecutionId, Id, Json, State, StepId};
use crate::protocol::{BlobPut, ExecutionWait, Outcome, Waited};

tokio::task_local! {
    static CURRENT: Arc<Context>;
    static GROUP: String;
}

/// What is known of an execution while it runs.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) execution: ExecutionId,
    pub(super) cancelled: AtomicBool,
    pub(super) is_sensor: bool,
    /// Where large values are handed over.
    pub(super) spool: Arc<PathBuf>,
    /// Calls that were made and whose answer nobody may have asked for.
    made: Mutex<Vec<Arc<Batch>>>,
    pub(super) open: Arc<Open>,
    /// When each thing that is counted was last told.
    pub(super) counted: Mutex<BTreeMap<String, Instant>>,
}

/// The execution that the code is in, if it is in one.
pub(super) fn current() -> Option<Arc<Context>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// The group that calls are made in just now.
pub(super) fn current_group() -> Option<String> {
    GROUP.try_with(String::clone).ok()
}

/// Lets a future be in an execution.
pub(super) fn within<F: Future>(context: Arc<Context>, future: F) -> impl Future<Output = F::Output> {
    CURRENT.scope(context, future)
}

/// Lets blocking code be in an execution.
pub(super) fn within_blocking<T>(context: Arc<Context>, code: impl FnOnce() -> T) -> T {
    CURRENT.sync_scope(context, code)
}

fn group_below(name: &str) -> String {
    match current_group() {
        Some(outer) => format!("{outer} / {name}"),
        None => name.to_owned(),
    }
}

/// Shows the calls that a future makes as one row, with counts.
///
/// ```
/// # async fn example() -> ibid::Result<()> {
/// # #[ibid::task] async fn fetch(url: String) -> ibid::Result<String> { Ok(url) }
/// let pages = ibid::group("pages", async { fetch::map(["a".to_owned(), "b".to_owned()]) }).await;
/// for page in pages {
///     println!("{}", page.await?);
/// }
/// # Ok(())
/// # }
/// ```
pub async fn group<F: Future>(name: &str, future: F) -> F::Output {
    GROUP.scope(group_below(name), future).await
}

/// Shows the calls that blocking code makes as one row, with counts.
pub fn group_blocking<T>(name: &str, code: impl FnOnce() -> T) -> T {
    GROUP.sync_scope(group_below(name), code)
}

/// Whether nobody wants the result of this execution any more, or its time is up. Async tasks are dropped at
/// their next `await`; a blocking one that takes long asks this from time to time, and returns.
#[must_use]
pub fn is_cancelled() -> bool {
    current().is_some_and(|context| context.cancelled.load(Ordering::Relaxed))
}

/// The id of this execution, e.g. `R12:3.1`; `None` outside one.
#[must_use]
pub fn execution_id() -> Option<ExecutionId> {
    current().map(|context| context.execution)
}

/// Waits for a future in code that is not async: on a thread for blocking code, or of a runtime with several.
pub(super) fn wait_for<F: Future>(future: F) -> F::Output {
    match tokio::runtime::Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(|| handle.block_on(future))
        }
        // Of a runtime with one thread this is the only one; or there is none, and whoever is waited for needs none.
        _ => simple_block_on(future),
    }
}

/// Polls a future on this very thread until it is ready.
fn simple_block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

/// So many calls may wait for their answers before those that have theirs are forgotten.
const MADE_MAX: usize = 256;

impl Context {
    pub(super) fn new(client: Client, execution: ExecutionId, is_sensor: bool, spool: Arc<PathBuf>) -> Self {
        Self {
            client,
            execution,
            cancelled: AtomicBool::new(false),
            is_sensor,
            spool,
            made: Mutex::default(),
            open: Arc::default(),
            counted: Mutex::default(),
        }
    }

    /// Calls were made: what becomes of them is heard before the execution ends.
    pub(super) fn remember(&self, batch: &Arc<Batch>) {
        self.open.add(batch);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= MADE_MAX {
            made.retain(|batch| !batch.is_settled());
        }
        made.push(batch.clone());
    }

    /// Waits until the daemon has all calls that were made so far.
    ///
    /// # Errors
    /// Where it has refused one, and nobody has heard of that.
    pub(super) async fn settle(&self) -> Result<()> {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        for batch in made {
            batch.settle().await?;
        }
        Ok(())
    }

    /// What a message says for a value: the text, or of a large one the name that the daemon gave it.
    pub(super) async fn hand_over(&self, json: Json) -> Result<Json> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        if (json.as_str().len() as u64) < BLOB_MIN_BYTES {
            return Ok(json);
        }
        let name = format!("value-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = self.spool.join(&name);
        let written = tokio::task::spawn_blocking(move || write_private(&path, json.as_str().as_bytes())).await;
        written.map_err(Error::from)??;
        let blob = self.client.call(BlobPut { name }).await.map_err(refused)?;
        Ok(Json::from_serialize(&BlobReference::new(blob.hash, blob.size, blob.path))?)
    }

    /// Waits for a call, at most for a time.
    pub(super) async fn wait(&self, step: StepId, at_most: Option<u64>) -> Result<Option<Outcome>> {
        Ok(self.wait_and_ask(step, at_most, Vec::new()).await?.outcome)
    }

    /// Waits for a call, at most for a time, and asks for others that have ended by then.
    pub(super) async fn wait_and_ask(&self, step: StepId, at_most: Option<u64>, also: Vec<StepId>) -> Result<Waited> {
        let wait = ExecutionWait { execution: self.execution, step, timeout: at_most, also };
        self.client.wait(self.execution, wait).await.map_err(refused)
    }

    /// The value of an outcome, with the values of other calls in place of the references to them.
    pub(super) async fn value_of(&self, outcome: Outcome) -> Result<Json> {
        let json = text_of(outcome).await?;
        let mut others = BTreeMap::new();
        for id in values::referred(&json)? {
            let Ok(Id::Step(step)) = id.parse() else { continue };
            let Some(outcome) = self.wait(step, None).await? else { continue };
            others.insert(id, Box::pin(self.value_of(outcome)).await?.read()?);
        }
        if others.is_empty() { Ok(json) } else { values::resolved(&json, &others) }
    }
}

/// The text of an outcome's value, also of one that a message only names.
pub(super) async fn text_of(outcome: Outcome) -> Result<Json> {
    if outcome.state != State::Succeeded {
        return Err(Error::of_outcome(outcome));
    }
    take(outcome.value.unwrap_or_else(Json::null)).await
}

/// A value's text, where a message only names its file.
pub(super) async fn take(json: Json) -> Result<Json> {
    match BlobReference::read(&json) {
        Some(blob) => {
            let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(blob.path)).await;
            Ok(Json::parse(text.map_err(Error::from)??)?)
        }
        None => Ok(json),
    }
}

fn write_private(path: &std::path::Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(bytes);
    if written.is_err() {
        // Nobody will take half a value.
        let _gone = std::fs::remove_file(path);
    }
    written
}
