//! What running executions ask for, and how they end.

use std::time::Duration;

use ibid::model::{ExecutionId, Json, State as ExecutionState, StepId, TargetKind, Wait};
use ibid::protocol::{
    CallSpec, CalledList, CalledView, Done, Execute, ExecutionCall, ExecutionComplete, ExecutionFail, ExecutionGiveUp,
    ExecutionLog, ExecutionWait, Notice, Order, Outcome, Outgoing, Refused, Reply, Waited,
};

use super::blobs::keep_result;
use super::commands::{Computed, is_command};
use super::requests::{keep_argument, refused, unfinished};
use super::{Held, Owner, State, When, unasked, views};
use crate::engine::{self, Assignment, Call};
use crate::server::Ticket;
use crate::store::LogLine;

/// Who is to be told when an execution's wait is over, and in which form.
pub(super) struct Answer {
    ticket: Ticket,
    waiter: ExecutionId,
    form: Form,
    /// What is waited for.
    step: StepId,
    /// Calls whose results are told with it, if they have any by then.
    also: Vec<StepId>,
}

/// So many others are looked at when a wait ends.
const ALSO_MAX: usize = 256;

/// Results that go along with another fill no more of an answer, bytes.
const ALSO_MAX_BYTES: usize = 256 * 1024;

/// The request that a wait belongs to.
#[derive(Clone, Copy)]
enum Form {
    Wait,
    Call,
    Result,
}

impl Owner {
    pub(super) fn execution_call(&self, state: &mut State, ticket: &Ticket, call: ExecutionCall) {
        let environment = state.engine.active_run(call.execution.step.run).map_or(0, |run| run.environment);
        let commands = call.calls.iter().map(|spec| spec.target.clone()).filter(|target| is_command(target));
        let commands: Vec<String> = commands.collect();
        let ticket = ticket.clone();
        self.work_out(state, environment, commands.into_iter(), move |own, state, computed| {
            let answer = match computed {
                Ok(computed) => own.call_with(state, &ticket, call, &computed),
                Err(refused) => Some((Err(refused), When::Now)),
            };
            if let Some((reply, when)) = answer {
                own.reply(state, &ticket, reply, when);
            }
            own.wake();
        });
    }

    fn call_with(
        &self,
        state: &mut State,
        ticket: &Ticket,
        call: ExecutionCall,
        computed: &Computed,
    ) -> Option<(Result<Reply, Refused>, When)> {
        let caller = call.execution;
        if let Err(refused) = owns(state, ticket, caller) {
            return Some((Err(refused), When::Now));
        }
        let calls = match calls_of(state, caller, call.calls, computed) {
            Ok(calls) => calls,
            Err(refused) => return Some((Err(refused), When::Now)),
        };
        let called = match state.decide(|engine, t| engine.call(t, caller, calls)) {
            Ok(called) => called,
            Err(refusal) => return Some((Err(refused(refusal)), When::Now)),
        };
        if call.wait
            && let [only] = called.as_slice()
            && only.outcome.is_none()
        {
            let (ticket, step) = (ticket.clone(), only.step);
            let answer = Answer { ticket, waiter: caller, form: Form::Call, step, also: Vec::new() };
            return self.wait_for(state, answer, None);
        }
        let mut when = When::Now;
        let calls = called
            .into_iter()
            .map(|called| {
                let pending = called.outcome.as_ref().is_some_and(|outcome| is_pending(state, outcome));
                if called.durable || pending {
                    when = When::Synced;
                }
                let outcome = match &called.outcome {
                    Some(outcome) => views::outcome(state, outcome),
                    None => Outcome { state: called.state, value: None, error: None, execution: None },
                };
                CalledView { step: called.step, outcome }
            })
            .collect();
        Some((Ok(Reply::ExecutionCall(CalledList { calls })), when))
    }

    pub(super) fn execution_wait(
        &self,
        state: &mut State,
        ticket: &Ticket,
        wait: ExecutionWait,
    ) -> Option<(Result<Reply, Refused>, When)> {
        if let Err(refused) = owns(state, ticket, wait.execution) {
            return Some((Err(refused), When::Now));
        }
        if wait.timeout == Some(0) {
            let outcome = state.decide(|engine, t| engine.outcome(t, wait.step));
            let outcome = outcome.map(|outcome| views::outcome(state, &outcome));
            return Some((Ok(Reply::ExecutionWait(Waited { outcome, also: Vec::new() })), When::Synced));
        }
        let (ticket, step, mut also) = (ticket.clone(), wait.step, wait.also);
        also.truncate(ALSO_MAX);
        let answer = Answer { ticket, waiter: wait.execution, form: Form::Wait, step, also };
        self.wait_for(state, answer, wait.timeout)
    }

    /// A program that an execution started waits on its behalf.
    pub(super) fn wait_as(
        &self,
        state: &mut State,
        ticket: &Ticket,
        caller: ExecutionId,
        step: StepId,
    ) -> Option<(Result<Reply, Refused>, When)> {
        let ticket = ticket.clone();
        let answer = Answer { ticket, waiter: caller, form: Form::Result, step, also: Vec::new() };
        self.wait_for(state, answer, None)
    }

    /// A connection has ended: what was waited for on it is not waited for any more.
    pub(super) fn forget_waits(&self, state: &mut State, session: u64) {
        let gone: Vec<_> = state
            .answers
            .iter()
            .filter(|(_, answer)| answer.ticket.session == session)
            .map(|(token, answer)| (*token, answer.waiter))
            .collect();
        for (token, waiter) in gone {
            state.answers.remove(&token);
            state.decide(|engine, t| engine.remove_wait(t, waiter, token));
        }
    }

    fn wait_for(
        &self,
        state: &mut State,
        answer: Answer,
        timeout: Option<u64>,
    ) -> Option<(Result<Reply, Refused>, When)> {
        let token = state.next_token;
        state.next_token += 1;
        match state.decide(|engine, t| engine.wait(t, answer.waiter, token, answer.step)) {
            Err(refusal) => Some((Err(refused(refusal)), When::Now)),
            Ok(Some(outcome)) => {
                let when = if is_pending(state, &outcome) { When::Synced } else { When::Now };
                Some((Ok(reply(state, &answer, &outcome, when)), when))
            }
            Ok(None) => {
                state.answers.insert(token, answer);
                if let (Some(timeout), Some(own)) = (timeout, self.me.upgrade()) {
                    tokio::task::spawn_local(async move {
                        tokio::time::sleep(Duration::from_millis(timeout)).await;
                        own.give_up(&mut own.state.borrow_mut(), token);
                    });
                }
                None
            }
        }
    }

    pub(super) fn execution_give_up(
        &self,
        state: &mut State,
        ticket: &Ticket,
        give_up: &ExecutionGiveUp,
    ) -> Result<Reply, Refused> {
        owns(state, ticket, give_up.execution)?;
        let asked = |answer: &Answer| {
            let here = answer.waiter == give_up.execution && answer.ticket.session == ticket.session;
            here && answer.ticket.id.is(&give_up.request)
        };
        // It may have been answered meanwhile.
        if let Some(token) = state.answers.iter().find(|(_, answer)| asked(answer)).map(|(token, _)| *token) {
            self.give_up(state, token);
        }
        Ok(Reply::ExecutionGiveUp(Done {}))
    }

    /// Ends a wait with what is known by now.
    fn give_up(&self, state: &mut State, token: u64) {
        let Some(answer) = state.answers.remove(&token) else { return };
        state.decide(|engine, t| engine.remove_wait(t, answer.waiter, token));
        let reply = match answer.form {
            Form::Wait => Reply::ExecutionWait(Waited { outcome: None, also: Vec::new() }),
            Form::Call => {
                let called = CalledView { step: answer.step, outcome: unfinished(state, answer.step) };
                Reply::ExecutionCall(CalledList { calls: vec![called] })
            }
            Form::Result => Reply::Result(unfinished(state, answer.step)),
        };
        self.reply(state, &answer.ticket, Ok(reply), When::Synced);
        self.wake();
    }

    /// The engine has an outcome for an execution that waits.
    pub(super) fn answer_execution(&self, state: &mut State, token: u64, outcome: &engine::Outcome) {
        let Some(answer) = state.answers.remove(&token) else { return };
        let reply = reply(state, &answer, outcome, When::Synced);
        state.held.push(Held::Send(answer.ticket, Outgoing::Reply(0, Ok(reply))));
    }

    pub(super) fn execution_complete(
        &self,
        state: &mut State,
        ticket: &Ticket,
        complete: ExecutionComplete,
    ) -> Result<Reply, Refused> {
        let execution = complete.execution;
        let worker = owns(state, ticket, execution)?;
        let result = match keep_result(state, complete.result) {
            Ok(kept) => kept,
            Err(error) => {
                let failure = ibid::model::Failure::new("ValueError", format!("the result cannot be kept: {error}"));
                self.finish_output(state, worker, execution);
                state.decide(|engine, t| engine.fail(t, execution, failure));
                self.worker_finished(state, worker, execution);
                return Err(error);
            }
        };
        self.finish_output(state, worker, execution);
        state.decide(|engine, t| engine.complete(t, execution, result));
        self.worker_finished(state, worker, execution);
        Ok(Reply::ExecutionComplete(Done {}))
    }

    pub(super) fn execution_fail(
        &self,
        state: &mut State,
        ticket: &Ticket,
        fail: ExecutionFail,
    ) -> Result<Reply, Refused> {
        let worker = owns(state, ticket, fail.execution)?;
        self.finish_output(state, worker, fail.execution);
        state.decide(|engine, t| engine.fail(t, fail.execution, fail.error));
        self.worker_finished(state, worker, fail.execution);
        Ok(Reply::ExecutionFail(Done {}))
    }

    pub(super) fn execution_log(&self, state: &mut State, log: ExecutionLog) -> Result<Reply, Refused> {
        if !state.engine.is_running(log.execution) {
            return Err(Refused::new("not_running", format!("{} is not running, so it cannot log", log.execution)));
        }
        let worker =
            state.engine.live_step(log.execution.step).and_then(|step| step.attempt(log.execution.attempt)?.worker);
        if let Some(worker) = worker {
            // What was written before the message comes before it.
            self.drain_output(state, worker);
        }
        for line in log.lines {
            let line = LogLine { at: line.at, level: line.level, text: line.text, values: line.values };
            state.logs.message(log.execution, line);
        }
        self.logged.notify_one();
        Ok(Reply::ExecutionLog(Done {}))
    }

    /// Sends an assignment to its worker once it is committed.
    pub(super) fn send_assignment(&self, state: &mut State, worker: u32, session: u64, assignment: Assignment) {
        let execution = assignment.execution;
        let texts: Option<Vec<Json>> =
            assignment.arguments.iter().map(|argument| state.text(&argument.value)).collect();
        let Some(arguments) = texts else {
            let gone = ibid::model::Failure::new("Pruned", "the arguments of this call were pruned; call it again");
            state.decide(|engine, t| engine.fail(t, execution, gone));
            self.worker_finished(state, worker, execution);
            return;
        };
        let target = assignment.target.rsplit_once('/').map_or(assignment.target.as_str(), |(_, name)| name).to_owned();
        let order = Order::Execute(Execute { execution, target, arguments });
        state.held.push(Held::Send(unasked(session), Outgoing::Notice(Notice::Order(order))));
    }
}

/// Calls as the engine wants them.
fn calls_of(
    state: &mut State,
    caller: ExecutionId,
    specs: Vec<CallSpec>,
    computed: &Computed,
) -> Result<Vec<Call>, Refused> {
    let environment = state.engine.active_run(caller.step.run).map_or(0, |run| run.environment);
    let mut calls = Vec::with_capacity(specs.len());
    for CallSpec { target, arguments: mut given, mut options, group } in specs {
        if let Some((_, spec)) = state.engine.target(environment, &target)
            && spec.kind == TargetKind::Shell
        {
            computed.add_to(spec, &target, &mut given)?;
            // Its command line holds values, so the calls that its arguments refer to come first.
            options.wait = Wait::All;
        }
        let arguments: Result<Vec<_>, _> = given.into_iter().map(|json| keep_argument(state, json)).collect();
        calls.push(Call { target, arguments: arguments?, options, group, command: None });
    }
    Ok(calls)
}

/// What a wait is answered with.
fn reply(state: &mut State, answer: &Answer, outcome: &engine::Outcome, when: When) -> Reply {
    let outcome = views::outcome(state, outcome);
    match answer.form {
        Form::Call => Reply::ExecutionCall(CalledList { calls: vec![CalledView { step: answer.step, outcome }] }),
        Form::Wait => {
            let also = results_of(state, &answer.also, when);
            Reply::ExecutionWait(Waited { outcome: Some(outcome), also })
        }
        Form::Result => Reply::Result(outcome),
    }
}

/// The results that some calls have, as far as one answer holds them and may say so when it leaves. Failures are
/// left for whoever asks: until then somebody may have run the call again.
fn results_of(state: &mut State, steps: &[StepId], when: When) -> Vec<CalledView> {
    let mut ended = Vec::new();
    let mut bytes = 0;
    for step in steps {
        let outcome = state.decide(|engine, t| engine.outcome(t, *step));
        let Some(outcome @ engine::Outcome::Value { .. }) = outcome else { continue };
        if when == When::Now && is_pending(state, &outcome) {
            continue;
        }
        let outcome = views::outcome(state, &outcome);
        bytes += outcome.value.as_ref().map_or(0, |value| value.as_str().len());
        if bytes > ALSO_MAX_BYTES {
            break;
        }
        ended.push(CalledView { step: *step, outcome });
    }
    ended
}

/// Whether an outcome rests on something that is not committed yet.
pub(super) fn is_pending(state: &State, outcome: &engine::Outcome) -> bool {
    let (engine::Outcome::Value { execution, .. } | engine::Outcome::Bad { execution, .. }) = outcome;
    state.in_flight && state.past.is_pending(execution.step)
        || state.engine.finished_this_turn(execution.step)
        || state.engine.live_step(execution.step).is_some()
}

/// The worker on this connection, if the execution was assigned to it.
pub(super) fn owns(state: &State, ticket: &Ticket, execution: ExecutionId) -> Result<u32, Refused> {
    let worker = state.sessions.get(&ticket.session).and_then(|session| session.worker);
    let worker = worker.and_then(|number| state.pools.workers.get(&number));
    match worker.filter(|worker| worker.executions.contains(&execution)) {
        Some(worker) => Ok(worker.number),
        None => {
            let live = state.engine.live_step(execution.step).and_then(|step| step.attempt(execution.attempt));
            let message = match live.map(ibid::model::Attempt::state) {
                Some(ExecutionState::Running) => format!("{execution} was assigned to another worker"),
                _ => format!("{execution} is not running"),
            };
            Err(Refused::new("not_running", message))
        }
    }
}
