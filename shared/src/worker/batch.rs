//! Calls that were made in one message, and what became of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::context::Context;
use super::error::refused;
use super::{Error, Result};
use crate::model::{Failure, State, StepId};
use crate::protocol::{CallSpec, CalledView, ExecutionCall, Outcome};

/// So many other calls are asked for with one that is waited for: whoever awaits one after the other finds them
/// answered.
const ASKED_ALONG: usize = 64;

/// So many messages are looked through for them.
const LOOKED_THROUGH: usize = 256;

/// While results that nobody has taken yet fill more, no others are asked for, bytes.
const KEPT_MAX: usize = 1024 * 1024;

/// Calls made in one message, and what the daemon has answered.
#[derive(Debug)]
pub(super) struct Batch {
    answer: Mutex<Option<Result<Vec<CalledView>, Failure>>>,
    answered: Notify,
    /// Whether somebody has asked what became of it.
    asked: AtomicBool,
    /// Among these it is.
    open: Arc<Open>,
    /// Results that nobody has taken yet, bytes.
    kept: AtomicUsize,
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.open.kept.fetch_sub(*self.kept.get_mut(), Ordering::Relaxed);
    }
}

impl Batch {
    /// Makes the calls.
    pub(super) fn begin(context: &Arc<Context>, calls: Vec<CallSpec>) -> Arc<Self> {
        let batch = Arc::new(Self {
            answer: Mutex::default(),
            answered: Notify::new(),
            asked: AtomicBool::new(false),
            open: context.open.clone(),
            kept: AtomicUsize::new(0),
        });
        context.remember(&batch);
        let own = batch.clone();
        let call = ExecutionCall { execution: context.execution, calls, wait: false };
        let begun = context.client.begin_then(call, move |answer| {
            own.answer(answer.map(|list| list.calls).map_err(refused));
        });
        if let Err(error) = begun {
            batch.answer(Err(refused(error)));
        }
        batch
    }

    fn answer(&self, answer: Result<Vec<CalledView>>) {
        let bytes = answer.iter().flatten().map(|call| length(&call.outcome)).sum();
        self.count(|kept| kept.fetch_add(bytes, Ordering::Relaxed));
        *self.lock() = Some(answer.map_err(|error| error.failure()));
        self.answered.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<Vec<CalledView>, Failure>>> {
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The step of one call.
    pub(super) async fn step(&self, place: usize) -> Result<StepId> {
        self.with_call(place, |call| call.step).await
    }

    /// The outcome of one call, whose only handle asks and is gone then.
    pub(super) async fn outcome(self: &Arc<Self>, context: &Context, place: usize) -> Result<Outcome> {
        let (step, known) = self
            .with_call(place, |call| {
                let known = has_ended(&call.outcome);
                (call.step, known.then(|| std::mem::replace(&mut call.outcome, TAKEN)))
            })
            .await?;
        match known {
            Some(outcome) => {
                self.count(|kept| kept.fetch_sub(length(&outcome), Ordering::Relaxed));
                Ok(outcome)
            }
            None => self.wait(context, step, place).await,
        }
    }

    async fn with_call<T>(&self, place: usize, take: impl Fn(&mut CalledView) -> T) -> Result<T> {
        self.asked.store(true, Ordering::Relaxed);
        loop {
            let answered = self.answered.notified();
            match &mut *self.lock() {
                Some(Ok(calls)) => return calls.get_mut(place).map(take).ok_or_else(nothing),
                Some(Err(failure)) => return Err(Error::new(&failure.kind, failure.message.clone())),
                None => {}
            }
            answered.await;
        }
    }

    /// Waits for one of the calls; results that others have by then are known from then on.
    async fn wait(self: &Arc<Self>, context: &Context, step: StepId, place: usize) -> Result<Outcome> {
        let asking = context.open.asking();
        let others = asking.as_ref().map_or_else(Vec::new, |asking| asking.others(self, place));
        let also = others.iter().map(|other| other.step).collect();
        let waited = context.wait_and_ask(step, None, also).await?;
        let mut others = others.into_iter();
        for ended in waited.also {
            // They come in the order in which they were asked for.
            if let Some(other) = others.find(|other| other.step == ended.step) {
                other.batch.note(other.place, ended.outcome);
            }
        }
        self.note(place, TAKEN);
        waited.outcome.ok_or_else(nothing)
    }

    /// Keeps how a call came out, unless that was handed out already: two waits can bring the same.
    fn note(&self, place: usize, outcome: Outcome) {
        if let Some(Ok(calls)) = &mut *self.lock()
            && let Some(call) = calls.get_mut(place)
            && !is_taken(&call.outcome)
        {
            self.count(|kept| kept.fetch_add(length(&outcome), Ordering::Relaxed));
            let before = std::mem::replace(&mut call.outcome, outcome);
            self.count(|kept| kept.fetch_sub(length(&before), Ordering::Relaxed));
        }
    }

    fn count(&self, change: impl Fn(&AtomicUsize) -> usize) {
        change(&self.kept);
        change(&self.open.kept);
    }

    /// The first calls from a place on that are not known to have ended; `None` where all have, or will never be
    /// made.
    fn open_from(self: &Arc<Self>, from: usize, most: usize) -> Option<Vec<Other>> {
        let answer = self.lock();
        let Some(answered) = &*answer else { return Some(Vec::new()) };
        let calls = answered.as_ref().ok()?;
        let open = calls.iter().enumerate().skip(from).filter(|(_, call)| !has_ended(&call.outcome));
        let open = open.map(|(place, call)| Other { batch: self.clone(), place, step: call.step });
        let open: Vec<Other> = open.take(most).collect();
        (!open.is_empty()).then_some(open)
    }

    /// Whether there is nothing more to hear of it.
    pub(super) fn is_settled(&self) -> bool {
        match &*self.lock() {
            Some(Ok(_)) => true,
            Some(Err(_)) => self.asked.load(Ordering::Relaxed),
            None => false,
        }
    }

    /// Waits for the answer. Where the calls were refused and nobody has asked, that is an error.
    pub(super) async fn settle(&self) -> Result<()> {
        if self.asked.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.step(0).await.map(|_| ())
    }
}

/// A call that is asked for with another.
struct Other {
    batch: Arc<Batch>,
    place: usize,
    step: StepId,
}

/// The calls of an execution that may not have ended.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// In the order in which they were made.
    batches: Mutex<VecDeque<Weak<Batch>>>,
    /// Results that nobody has taken yet, bytes.
    kept: AtomicUsize,
    /// Whether one wait asks for others; one at a time does, or all would ask for the same.
    asking: AtomicBool,
}

impl Open {
    pub(super) fn add(&self, batch: &Arc<Batch>) {
        let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
        if batches.len() == batches.capacity() {
            // Where nobody waits nobody else takes out what is gone.
            batches.retain(|batch| batch.strong_count() > 0);
            let left = batches.len();
            batches.reserve(left + 1);
        }
        batches.push_back(Arc::downgrade(batch));
    }

    /// The right to ask for others, unless somebody has it.
    fn asking(&self) -> Option<Asking<'_>> {
        let room = self.kept.load(Ordering::Relaxed) < KEPT_MAX;
        (room && !self.asking.swap(true, Ordering::Acquire)).then_some(Asking(self))
    }
}

/// The right to ask for others with a wait.
pub(super) struct Asking<'a>(&'a Open);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.store(false, Ordering::Release);
    }
}

impl Asking<'_> {
    /// Those that are likely to be waited for next: what follows in the same message, then the oldest.
    fn others(&self, own: &Arc<Batch>, place: usize) -> Vec<Other> {
        let mut others = own.open_from(place + 1, ASKED_ALONG).unwrap_or_default();
        let mut batches = self.0.batches.lock().unwrap_or_else(PoisonError::into_inner);
        let mut at = 0;
        for _ in 0..LOOKED_THROUGH {
            if others.len() == ASKED_ALONG || at == batches.len() {
                break;
            }
            let open = match batches[at].upgrade() {
                Some(batch) if Arc::ptr_eq(&batch, own) => Some(Vec::new()),
                Some(batch) => batch.open_from(0, ASKED_ALONG - others.len()),
                None => None,
            };
            match open {
                Some(open) => {
                    others.extend(open);
                    at += 1;
                }
                None => drop(batches.remove(at)),
            }
        }
        others
    }
}

/// In place of an outcome that was handed out.
const TAKEN: Outcome = Outcome { state: State::Succeeded, value: None, error: None, execution: None };

fn is_taken(outcome: &Outcome) -> bool {
    outcome.state == State::Succeeded && outcome.value.is_none()
}

fn length(outcome: &Outcome) -> usize {
    outcome.value.as_ref().map_or(0, |value| value.as_str().len())
}

fn has_ended(outcome: &Outcome) -> bool {
    outcome.value.is_some() || outcome.error.is_some() || outcome.state == State::Succeeded
}

pub(super) fn nothing() -> Error {
    Error::message("the daemon said nothing of a call")
}
