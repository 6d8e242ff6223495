//! Turns: gather, decide, commit, and only then tell.

use std::rc::Rc;
use std::time::Duration;

use ibid::protocol::{Outgoing, Reply};
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Held, Owner, State, now, views};
use crate::engine::Effect;
use crate::store::{Batch, Committed, Unpacked};

/// How often log lines of running executions are written.
const LOG_INTERVAL: Duration = Duration::from_millis(100);

/// Starts the tasks that close turns, tell what was committed, and watch the clock.
pub(super) fn run(owner: &Rc<Owner>, mut committed: UnboundedReceiver<Committed>) {
    let own = owner.clone();
    tokio::task::spawn_local(async move {
        loop {
            own.decided.notified().await;
            // Let every connection that is ready be heard first: they share the commit.
            tokio::task::yield_now().await;
            own.close_turn();
        }
    });
    let own = owner.clone();
    tokio::task::spawn_local(async move {
        while let Some(done) = committed.recv().await {
            own.committed(done);
        }
    });
    let own = owner.clone();
    tokio::task::spawn_local(async move {
        loop {
            let due = own.state.borrow().engine.next_due();
            let wait = due.map(|due| Duration::from_millis((due - now()).clamp(0, 60_000).cast_unsigned()));
            tokio::select! {
                () = own.rescheduled.notified() => {}
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {
                    own.state.borrow_mut().decide(|engine, t| engine.tick(t));
                    own.wake();
                }
            }
        }
    });
    let own = owner.clone();
    tokio::task::spawn_local(async move {
        loop {
            own.logged.notified().await;
            tokio::time::sleep(LOG_INTERVAL).await;
            let mut state = own.state.borrow_mut();
            let chunks = state.logs.take();
            state.log_chunks.extend(chunks);
            own.wake();
        }
    });
}

impl Owner {
    /// Closes the open turn unless a commit is in flight; then it is closed when that is done.
    pub(super) fn close_turn(&self) {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        if state.in_flight {
            return;
        }
        if let Some(error) = state.past.take_failure() {
            self.fail(error);
            return;
        }
        self.hand_out_work(state);
        self.take_effects(state);
        self.rescheduled.notify_one();
        let nothing = state.values.is_empty()
            && state.handed_over.is_empty()
            && state.log_chunks.is_empty()
            && state.removed.is_empty();
        if nothing && !state.engine.has_changes() {
            // Everything decided was committed before: whoever waits for that can hear it.
            let held = std::mem::take(&mut state.held);
            state.let_go(held);
            self.roomy.notify_waiters();
            return;
        }
        if let Some(error) = state.past.take_failure() {
            self.fail(error);
            return;
        }
        state.forget_progress();
        let changes = state.engine.drain();
        state.take_back_published(&changes);
        let stats = state.past.count(&changes, now());
        state.touched.note(&changes, &state.log_chunks);
        let entries = changes.entries.clone();
        let rest = Unpacked {
            values: std::mem::take(&mut state.values),
            blobs: std::mem::take(&mut state.handed_over).into_iter().collect(),
            logs: std::mem::take(&mut state.log_chunks),
            stats,
            removed: std::mem::take(&mut state.removed),
        };
        if let Some(since) = &mut state.pruning {
            since.note(&changes, &rest);
        }
        if let Some(error) = state.past.take_failure() {
            self.fail(error);
            return;
        }
        let (batch, record) = Batch::pack(&state.last, changes, rest);
        state.last = record;
        state.past.cover(&batch);
        state.past.remember_entries(&entries);
        state.flying = std::mem::take(&mut state.held);
        self.roomy.notify_waiters();
        state.in_flight = true;
        if !state.writer.commit(batch) {
            self.stop.notify_one();
        }
    }

    fn committed(&self, done: Committed) {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        if let Err(error) = done.result {
            self.fail(error);
            return;
        }
        state.past.uncover(&done.batch);
        state.in_flight = false;
        let flying = std::mem::take(&mut state.flying);
        state.let_go(flying);
        self.mark_subscriptions(state);
        drop(guard);
        self.close_turn();
    }

    /// The store cannot be trusted any more: nothing further is decided or told.
    fn fail(&self, error: crate::store::StoreError) {
        self.failure.borrow_mut().get_or_insert(error);
        self.stop.notify_one();
    }

    /// Turns what the engine says into messages, held until the turn is committed.
    pub(super) fn take_effects(&self, state: &mut State) {
        for effect in state.engine.take_effects() {
            match effect {
                Effect::Answer { token, outcome, .. } => self.answer_execution(state, token, &outcome),
                Effect::Stop { execution, worker } => self.stop_execution(state, execution, worker),
                Effect::Ended { step } => {
                    let Some(waiting) = state.waits.remove(&step) else { continue };
                    let outcome = state.decide(|engine, t| engine.outcome(t, step));
                    let Some(outcome) = outcome else {
                        // It is decided by another now: what it stands for is run again.
                        let deciding = state.decide(|engine, t| engine.deciding(t, step));
                        state.waits.entry(deciding).or_default().extend(waiting);
                        continue;
                    };
                    let reply = Reply::Result(views::outcome(state, &outcome));
                    for ticket in waiting {
                        state.held.push(Held::Send(ticket, Outgoing::Reply(0, Ok(reply.clone()))));
                    }
                }
            }
        }
    }
}

impl State {
    fn let_go(&self, held: Vec<Held>) {
        for held in held {
            match held {
                Held::Send(ticket, message) => self.send(&ticket, message),
                Held::Wake(waiting) => {
                    // Whoever waited may have given up.
                    let _gone = waiting.send(());
                }
            }
        }
    }
}
