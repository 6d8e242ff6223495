//! Calls of tasks, and handles on their results.

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::{Error as _, SerializeStruct as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::batch::{Batch, nothing};
use super::context::{Context, current, current_group, wait_for};
use super::error::refused;
use super::host::note_outside;
use super::{Error, Result, Target, values};
use crate::model::{Cache, CallOptions, Defer, Json, Memo, Retries, StepId};
use crate::protocol::{CallSpec, Cancel, ExecutionCall};

/// A future that tasks are made of.
pub type Task<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// Runs the function itself, outside of any execution.
type Local<T> = Box<dyn FnOnce() -> Task<T> + Send>;

/// A call that has not been made yet. Awaiting it makes it and waits for the result, which frees the caller's
/// slot meanwhile; [`submit`](Self::submit) makes it and returns at once.
///
/// Its options are those of the attribute, and can be changed for this one call:
///
/// ```
/// # #[ibid::task(cache)] async fn price(product: u64) -> ibid::Result<f64> { Ok(product as f64) }
/// # async fn example() -> ibid::Result<()> {
/// use std::time::Duration;
///
/// let now = price(7).no_cache().retries(3).timeout(Duration::from_secs(10)).await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a call is made when it is awaited or submitted"]
pub struct Call<T> {
    stage: Stage<T>,
}

enum Stage<T> {
    New(Box<New<T>>),
    Waiting(Task<T>),
    Over,
}

struct New<T> {
    target: &'static Target,
    /// Looked at only where it is called: outside of an execution they are not sent anywhere.
    arguments: Result<Vec<Json>>,
    options: CallOptions,
    local: Local<T>,
}

impl<T> std::fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.stage {
            Stage::New(new) => write!(f, "<call of {}>", new.target.full_name()),
            Stage::Waiting(_) | Stage::Over => write!(f, "<call that was made>"),
        }
    }
}

impl<T: DeserializeOwned + Send + 'static> Call<T> {
    /// For the attributes: a call of a target, or why there is none.
    #[doc(hidden)]
    pub fn new(
        target: &'static Target,
        arguments: Result<Vec<Json>>,
        options: CallOptions,
        local: impl FnOnce() -> Task<T> + Send + 'static,
    ) -> Self {
        Self { stage: Stage::New(Box::new(New { target, arguments, options, local: Box::new(local) })) }
    }

    fn change(mut self, change: impl FnOnce(&mut CallOptions)) -> Self {
        if let Stage::New(new) = &mut self.stage {
            change(&mut new.options);
        }
        self
    }

    /// Takes no earlier result and joins no call that is being made.
    pub fn no_cache(self) -> Self {
        self.change(|options| options.cache = Cache::Off)
    }

    /// Takes an earlier result of any age, or joins a call that is being made.
    pub fn cache(self) -> Self {
        self.change(|options| options.cache = Cache::On)
    }

    /// Takes an earlier result that is at most this old, or joins a call that is being made.
    pub fn cache_for(self, age: Duration) -> Self {
        self.change(|options| options.cache = Cache::MaxAge(millis(age)))
    }

    /// Tries so often again after a failure, at once.
    pub fn retries(self, limit: u32) -> Self {
        self.change(|options| options.retries.limit = limit)
    }

    /// Tries so often again after a failure, with waits that grow from the first to the last.
    pub fn retries_after(self, limit: u32, first: Duration, last: Duration) -> Self {
        let retries = Retries { limit, delay_min: millis(first), delay_max: millis(last) };
        self.change(|options| options.retries = retries)
    }

    /// Starts no earlier than this after the call.
    pub fn delay(self, delay: Duration) -> Self {
        self.change(|options| options.delay = millis(delay))
    }

    /// An attempt may take no longer, waiting included.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.change(|options| options.timeout = Some(millis(timeout)))
    }

    /// Lets a newer call take the place of this one while it is queued; `max_wait` after the first of them at
    /// the latest one of them starts.
    pub fn defer(self, max_wait: Option<Duration>) -> Self {
        self.change(|options| options.defer = Some(Defer { key: None, max_wait: max_wait.map(millis) }))
    }

    /// Whether an earlier call of the same run with the same arguments answers this one.
    pub fn memo(self, memo: bool) -> Self {
        self.change(|options| options.memo = if memo { Memo::Arguments } else { Memo::Off })
    }

    /// Makes the call and returns at once. Outside of an execution the function runs when the handle is awaited,
    /// or, where it is not async, right now.
    pub fn submit(self) -> Execution<T> {
        let new = match self.stage {
            Stage::New(new) => new,
            Stage::Waiting(_) | Stage::Over => return Execution::over(Err(Error::message("it was made already"))),
        };
        let Some(context) = current() else {
            note_outside(new.target);
            let future = (new.local)();
            return if new.target.is_async { Execution::local(future) } else { Execution::over(wait_for(future)) };
        };
        let group = current_group();
        if new.has_large() {
            // Its files must be handed over before.
            let spec = wait_for(new.spec(&context, group));
            return spec.map_or_else(|error| Execution::over(Err(error)), |spec| begin_one(&context, spec));
        }
        new.plain_spec(group).map_or_else(|error| Execution::over(Err(error)), |spec| begin_one(&context, spec))
    }

    /// Makes the call and waits, in code that is not async.
    ///
    /// # Errors
    /// Where the call fails.
    pub fn wait(self) -> Result<T> {
        wait_for(self)
    }
}

/// Calls in one message while many are made: their results, each under the size of a file, fit into one answer.
const AT_ONCE: usize = 200;

/// Bytes of arguments in one message while many are made.
const BYTES_AT_ONCE: usize = 1024 * 1024;

/// Makes many calls, in as few messages as can be.
#[doc(hidden)]
pub fn submit_all<T: DeserializeOwned + Send + 'static>(calls: impl Iterator<Item = Call<T>>) -> Vec<Execution<T>> {
    let Some(context) = current() else { return calls.map(Call::submit).collect() };
    let group = current_group();
    let mut made = Vec::new();
    let (mut waiting, mut bytes) = (Vec::new(), 0);
    for call in calls {
        match call.stage {
            Stage::New(new) if new.arguments.is_ok() && !new.has_large() => match new.plain_spec(group.clone()) {
                Ok(spec) => {
                    bytes += spec.arguments.iter().map(|argument| argument.as_str().len()).sum::<usize>();
                    waiting.push(spec);
                    if waiting.len() == AT_ONCE || bytes > BYTES_AT_ONCE {
                        made.extend(begin_all(&context, std::mem::take(&mut waiting)));
                        bytes = 0;
                    }
                }
                Err(error) => made.push(Execution::over(Err(error))),
            },
            stage => {
                made.extend(begin_all(&context, std::mem::take(&mut waiting)));
                bytes = 0;
                made.push(Call { stage }.submit());
            }
        }
    }
    made.extend(begin_all(&context, waiting));
    made
}

fn begin_one<T>(context: &Arc<Context>, spec: CallSpec) -> Execution<T> {
    Execution::of_batch(context, &Batch::begin(context, vec![spec]), 0)
}

fn begin_all<T>(context: &Arc<Context>, specs: Vec<CallSpec>) -> Vec<Execution<T>> {
    let count = specs.len();
    if count == 0 {
        return Vec::new();
    }
    let batch = Batch::begin(context, specs);
    (0..count).map(|place| Execution::of_batch(context, &batch, place)).collect()
}

fn is_large(json: &Json) -> bool {
    json.as_str().len() as u64 >= crate::model::BLOB_MIN_BYTES
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl<T> New<T> {
    fn has_large(&self) -> bool {
        self.arguments.as_ref().is_ok_and(|arguments| arguments.iter().any(is_large))
    }

    fn plain_spec(self: Box<Self>, group: Option<String>) -> Result<CallSpec> {
        Ok(CallSpec { target: self.target.full_name(), arguments: self.arguments?, options: self.options, group })
    }

    async fn spec(self: Box<Self>, context: &Context, group: Option<String>) -> Result<CallSpec> {
        let mut spec = self.plain_spec(group)?;
        for argument in &mut spec.arguments {
            *argument = context.hand_over(std::mem::replace(argument, Json::null())).await?;
        }
        Ok(spec)
    }
}

impl<T: DeserializeOwned + Send + 'static> Future for Call<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        if matches!(self.stage, Stage::New(_)) {
            let future: Task<T> = match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::New(new) => match current() {
                    None => {
                        note_outside(new.target);
                        (new.local)()
                    }
                    Some(inside) => Box::pin(call_and_wait(inside, new, current_group())),
                },
                Stage::Waiting(future) => future,
                Stage::Over => Box::pin(std::future::ready(Err(Error::message("it was awaited already")))),
            };
            self.stage = Stage::Waiting(future);
        }
        let Stage::Waiting(future) = &mut self.stage else {
            return Poll::Ready(Err(Error::message("the call was awaited already")));
        };
        let polled = future.as_mut().poll(context);
        if polled.is_ready() {
            self.stage = Stage::Over;
        }
        polled
    }
}

async fn call_and_wait<T: DeserializeOwned>(
    context: Arc<Context>,
    new: Box<New<T>>,
    group: Option<String>,
) -> Result<T> {
    let spec = new.spec(&context, group).await?;
    let call = ExecutionCall { execution: context.execution, calls: vec![spec], wait: true };
    let called = context.client.wait(context.execution, call).await.map_err(refused)?;
    let called = called.calls.into_iter().next().ok_or_else(nothing)?;
    values::decode(&context.value_of(called.outcome).await?)
}

/// A call that was made: a handle on its result.
///
/// Awaiting it gives the result. It can be passed to other tasks as an argument, and returned as a result; in
/// both it stands for the call, and counts by the value that the call leads to.
pub struct Execution<T> {
    source: Source,
    value: PhantomData<fn() -> T>,
    local: Mutex<Option<LocalResult<T>>>,
}

enum LocalResult<T> {
    Running(Task<T>),
    Over(Result<T>),
}

/// Where the result of a call is to be had.
#[derive(Clone)]
enum Source {
    /// Here: it ran outside of any execution, or cannot be made.
    Here,
    /// With the daemon, one of several calls made in one message.
    Batch { context: Arc<Context>, batch: Arc<Batch>, place: usize },
    /// With the daemon, by its id.
    Known { id: StepId },
}

impl<T> std::fmt::Debug for Execution<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.source {
            Source::Here => write!(f, "<Execution local>"),
            Source::Batch { place, .. } => write!(f, "<Execution {place} of a message>"),
            Source::Known { id } => write!(f, "<Execution {id}>"),
        }
    }
}

impl<T> Execution<T> {
    fn over(result: Result<T>) -> Self {
        let local = Mutex::new(Some(LocalResult::Over(result)));
        Self { source: Source::Here, value: PhantomData, local }
    }

    fn local(future: Task<T>) -> Self {
        let local = Mutex::new(Some(LocalResult::Running(future)));
        Self { source: Source::Here, value: PhantomData, local }
    }

    fn of(source: Source) -> Self {
        Self { source, value: PhantomData, local: Mutex::new(None) }
    }

    fn of_batch(context: &Arc<Context>, batch: &Arc<Batch>, place: usize) -> Self {
        Self::of(Source::Batch { context: context.clone(), batch: batch.clone(), place })
    }

    /// The id of the call, e.g. `R12:3`.
    ///
    /// # Errors
    /// Where the call was refused, and outside of an execution, where there is none.
    pub async fn id(&self) -> Result<StepId> {
        match &self.source {
            Source::Here => Err(Error::message("it ran outside of an execution, so it has no id")),
            Source::Batch { batch, place, .. } => batch.step(*place).await,
            Source::Known { id } => Ok(*id),
        }
    }

    /// Withdraws the interest in the result. The work stops if nobody else wants it.
    ///
    /// # Errors
    /// Where the daemon cannot be told.
    pub async fn cancel(self) -> Result<()> {
        let Some(context) = current() else { return Ok(()) };
        if matches!(self.source, Source::Here) {
            return Ok(());
        }
        let id = self.id().await?.into();
        match context.client.call(Cancel { id, force: false }).await.map_err(refused) {
            Err(error) if error.kind() == "already_ended" => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

impl<T: DeserializeOwned> Execution<T> {
    /// The result if it is there within a time, else the handle again. With a time of zero it only asks.
    ///
    /// # Errors
    /// Where the call has failed.
    pub async fn poll_for(self, at_most: Duration) -> Result<std::result::Result<T, Self>> {
        if matches!(self.source, Source::Here) {
            return self.get().await.map(Ok);
        }
        let (context, step) = (require()?, self.id().await?);
        match context.wait(step, Some(millis(at_most))).await? {
            Some(outcome) => values::decode(&context.value_of(outcome).await?).map(Ok),
            None => Ok(Err(self)),
        }
    }

    /// Waits for the result in code that is not async.
    ///
    /// # Errors
    /// Where the call has failed.
    pub fn wait(self) -> Result<T> {
        wait_for(self.get())
    }

    async fn get(self) -> Result<T> {
        let (context, outcome) = match &self.source {
            Source::Here => {
                let local = self.local.lock().unwrap_or_else(PoisonError::into_inner).take();
                return match local {
                    Some(LocalResult::Running(future)) => future.await,
                    Some(LocalResult::Over(result)) => result,
                    None => Err(nothing()),
                };
            }
            Source::Batch { context, batch, place } => {
                let outcome = batch.outcome(context, *place).await?;
                (context.clone(), outcome)
            }
            Source::Known { id } => {
                let context = require()?;
                let outcome = context.wait(*id, None).await?.ok_or_else(nothing)?;
                (context, outcome)
            }
        };
        values::decode(&context.value_of(outcome).await?)
    }
}

fn require() -> Result<Arc<Context>> {
    current().ok_or_else(|| Error::message("a call belongs to a run: its result can be had only inside an execution"))
}

impl<T: DeserializeOwned + Send + 'static> IntoFuture for Execution<T> {
    type Output = Result<T>;
    type IntoFuture = Task<T>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.get())
    }
}

/// How references to calls are written in every language.
#[derive(Deserialize)]
struct Reference {
    #[serde(rename = "$type")]
    kind: String,
    id: String,
}

impl<T> Serialize for Execution<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The id comes with the answer to the call, which is on its way.
        let id = wait_for(self.id()).map_err(S::Error::custom)?;
        let mut reference = serializer.serialize_struct("Execution", 2)?;
        reference.serialize_field("$type", "execution")?;
        reference.serialize_field("id", &id.to_string())?;
        reference.end()
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Execution<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        if let Ok(reference) = serde_json::from_str::<Reference>(raw.get())
            && reference.kind == "execution"
        {
            let id = reference.id.parse::<crate::model::Id>().map_err(D::Error::custom)?;
            let crate::model::Id::Step(id) = id else { return Err(D::Error::custom("not the id of a call")) };
            return Ok(Self::of(Source::Known { id }));
        }
        // A result that stood for a call was resolved on its way here.
        let json = Json::parse(raw.get()).map_err(D::Error::custom)?;
        Ok(Self::over(values::decode(&json)))
    }
}
