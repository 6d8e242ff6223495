//! Records as they are shown.

use std::collections::BTreeMap;

use ibid::model::{Attempt, Decision, ExecutionId, Json, Link, Run, State as ExecutionState, Step, Stored, Trigger};
use ibid::protocol::{ArgumentView, AttemptView, Outcome, RunView, StepView, ValueView};

use super::{State, now};
use crate::engine;

/// An outcome with its value's text.
pub(super) fn outcome(state: &State, outcome: &engine::Outcome) -> Outcome {
    match outcome {
        engine::Outcome::Value { value, execution } => match state.text(value) {
            Some(text) => Outcome {
                state: ExecutionState::Succeeded,
                value: Some(text),
                error: None,
                execution: Some(*execution),
            },
            None => Outcome {
                state: ExecutionState::Failed,
                value: None,
                error: Some(ibid::model::Failure::new(
                    "Pruned",
                    format!("the result of {execution} was pruned; run it again with 'ibid rerun {execution}'"),
                )),
                execution: Some(*execution),
            },
        },
        engine::Outcome::Bad { state, failure, execution } => {
            Outcome { state: *state, value: None, error: Some(failure.clone()), execution: Some(*execution) }
        }
    }
}

pub(super) fn run(state: &State, run: &Run) -> RunView {
    let environment = state.engine.environment_by_number(run.environment);
    RunView {
        id: run.id,
        project: environment.map(|environment| environment.project.clone()).unwrap_or_default(),
        environment: environment.map(|environment| environment.name.clone()).unwrap_or_default(),
        target: run.target.clone(),
        state: run.state,
        created: run.created,
        begun: run.begun,
        ended: run.ended,
        caller: run.caller,
        counts: run.counts,
    }
}

pub(super) fn value(value: &Stored) -> ValueView {
    match value {
        Stored::Inline(json) => ValueView { value: Some(json.clone()), size: json.as_str().len() as u64 },
        Stored::Kept { size, .. } => ValueView { value: None, size: *size },
    }
}

/// The values that borrowed results stand for, by the execution that made them.
pub(super) type Results = BTreeMap<ExecutionId, Stored>;

pub(super) fn step(state: &State, environment: u32, step: &Step, results: &Results) -> StepView {
    let names: Vec<String> = state
        .engine
        .target(environment, &step.target)
        .map(|(_, spec)| spec.parameters.iter().map(|parameter| parameter.name.clone()).collect())
        .unwrap_or_default();
    let arguments = step
        .arguments
        .iter()
        .enumerate()
        // What was not given to a command says nothing.
        .filter(|(_, argument)| step.command.is_none() || !is_null(&argument.value))
        .map(|(position, argument)| ArgumentView {
            name: names.get(position).cloned().unwrap_or_else(|| position.to_string()),
            value: value(&argument.value),
        })
        .collect();
    let attempts = (1u32..)
        .zip(&step.attempts)
        .map(|(number, attempt)| attempt_view(state, environment, step, step.id.attempt(number), attempt, results))
        .collect();
    StepView {
        id: step.id,
        target: step.target.clone(),
        kind: step.kind,
        state: step.state(),
        arguments,
        options: step.options.clone(),
        namespace: step.namespace(),
        key: step.identity.as_ref().map(ibid::model::Identity::hex),
        caller: step.caller,
        group: step.group.clone(),
        memo_hits: step.memo.as_ref().map_or(0, |memo| memo.hits),
        memo_callers: step.memo.as_ref().map(|memo| memo.callers.clone()).unwrap_or_default(),
        attempts,
    }
}

fn attempt_view(
    state: &State,
    environment: u32,
    step: &Step,
    id: ExecutionId,
    attempt: &Attempt,
    results: &Results,
) -> AttemptView {
    let source = match attempt.link {
        Some(Link::Source(source)) => Some(source),
        _ => None,
    };
    let leader = match (attempt.link, &attempt.decision) {
        (Some(Link::Leader(leader)), _) => Some(leader),
        (Some(Link::Source(_)), Decision::Linked { leader }) => Some(*leader),
        _ => None,
    };
    let run = match attempt.link {
        Some(Link::Run(run)) => Some(run),
        _ => None,
    };
    let successor = match attempt.link {
        Some(Link::Successor(successor)) => Some(successor),
        _ => None,
    };
    let progress = state.progress.get(&id);
    let result = attempt.result.as_ref().or_else(|| results.get(&source?));
    AttemptView {
        id,
        state: attempt.state(),
        detail: detail(state, step, id, attempt),
        trigger: attempt.trigger,
        decision_kind: attempt.decision.kind().to_owned(),
        decision: attempt.decision.clone(),
        leader,
        source,
        source_environment: source.or(leader).and_then(|source| other_environment(state, environment, source)),
        run,
        successor,
        created: attempt.created(),
        due: attempt.due,
        started: attempt.entered(ExecutionState::Running),
        ended: attempt.ended(),
        duration: attempt.duration(),
        transitions: attempt.transitions.clone(),
        result: result.map(value),
        error: attempt.failure.clone(),
        worker: attempt.worker,
        followers: state.engine.followers(id),
        superseded: state.engine.superseded(id),
        waiting_on: state.engine.waiting_on(id),
        blocked_by: state.engine.blocked_by(id),
        progress: progress.map(super::progress::Progress::counters).unwrap_or_default(),
        metrics: progress.map(super::progress::Progress::metrics).unwrap_or_default(),
        withdrawn: attempt.withdrawn,
    }
}

/// The name of the environment that an execution is in, where that is not the one from which it is seen.
pub(super) fn other_environment(state: &State, environment: u32, execution: ExecutionId) -> Option<String> {
    // Results are taken from the environment itself and its bases only.
    state.engine.environment_by_number(environment)?.base.as_ref()?;
    let run = state.engine.active_run(execution.step.run).cloned();
    let run = run.or_else(|| crate::engine::Lookup::run(&state.past, execution.step.run))?;
    let other = (run.environment != environment).then_some(run.environment)?;
    Some(state.engine.environment_by_number(other)?.name.clone())
}

/// What the state means just now, in a few words.
pub(super) fn detail(state: &State, step: &Step, id: ExecutionId, attempt: &Attempt) -> String {
    match (attempt.state(), attempt.link) {
        (ExecutionState::Queued, _) => waiting_reason(state, step, id, attempt),
        (ExecutionState::Deferred, Some(Link::Successor(successor))) => match attempt.resolved {
            Some(ended) => format!("replaced by {successor}, which {}", engine::ending_in_words(ended)),
            None => format!("replaced by {successor}, a newer call"),
        },
        (ExecutionState::Linked, Some(Link::Leader(leader))) => format!("joined {leader}"),
        (ExecutionState::Cached, Some(Link::Source(source))) => match attempt.decision {
            Decision::Hit { age, .. } => format!("took the result of {source}, {} old", length(age)),
            _ => format!("joined {source} and took its result"),
        },
        (ExecutionState::Spawned, Some(Link::Run(run))) => match attempt.resolved {
            Some(ended) => format!("{run} {}", ended.name()),
            None => format!("{run} is under way"),
        },
        (ExecutionState::Running, _) => {
            let waits = state.engine.waiting_on(id);
            let place = attempt.worker.map_or_else(String::new, |worker| format!("on w-{worker}"));
            let kept = if attempt.withdrawn {
                let wanted = state.engine.followers(id).len() + state.engine.superseded(id).len();
                format!("; cancelled here, still leading {wanted}")
            } else {
                String::new()
            };
            match waits.as_slice() {
                [] => format!("{place}{kept}"),
                [only] => format!("waits for {only}{kept}"),
                [first, rest @ ..] => format!("waits for {first} and {} more{kept}", rest.len()),
            }
        }
        (ended, _) if ended.is_bad() => attempt.failure.as_ref().map_or_else(
            || ended.name().to_owned(),
            |failure| format!("{}: {}", failure.kind, first_line(&failure.message)),
        ),
        _ => String::new(),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// Why a queued execution does not run yet.
pub(super) fn waiting_reason(state: &State, step: &Step, id: ExecutionId, attempt: &Attempt) -> String {
    let wait = attempt.due - now();
    if wait > 0 {
        let wait = length(wait.cast_unsigned());
        return match attempt.trigger {
            Trigger::Retry => format!("retry in {wait}"),
            Trigger::Restart => format!("starts again in {wait}"),
            _ if attempt.decision == Decision::Deferring => {
                format!("due in {wait} unless a newer call takes its place")
            }
            _ => format!("due in {wait}"),
        };
    }
    if state.stopping && step.caller.is_none() {
        return "the daemon is stopping; it goes on after the next start".to_owned();
    }
    match state.engine.blocked_by(id).as_slice() {
        [] => {}
        [only] => return format!("waits for {only} to end"),
        [first, rest @ ..] => return format!("waits for {first} and {} more to end", rest.len()),
    }
    let environment = state.engine.active_run(step.id.run).map_or(0, |run| run.environment);
    match state.engine.target(environment, &step.target) {
        None => format!("{} is not registered any more", step.target),
        Some((key, _)) => {
            let busy = state.engine.free_slots(&key) == 0;
            let limit = state.engine.repository(&key).map_or(0, |repository| repository.concurrency);
            let hosted = state.engine.repository(&key).is_some_and(|repository| repository.launch.is_some());
            let attached = state.pools.workers.values().any(|worker| worker.key == key && worker.session.is_some());
            if busy {
                format!("all {limit} slots of {} are busy", key.1)
            } else if !hosted && !attached {
                format!("no worker for {} is attached", key.1)
            } else {
                "a worker is starting".to_owned()
            }
        }
    }
}

/// A length of time as people say it.
pub(super) fn length(millis: u64) -> String {
    ibid::protocol::length_in_words(millis)
}

/// Arguments on one short line.
pub(super) fn short_arguments(step: &Step) -> String {
    match step.arguments.first().map(|argument| &argument.value) {
        Some(Stored::Inline(json)) if step.command.is_some() => {
            ibid::protocol::command_in_words(json).unwrap_or_default()
        }
        _ => short_values(&step.arguments),
    }
}

fn is_null(value: &Stored) -> bool {
    matches!(value, Stored::Inline(json) if json.as_str() == "null")
}

pub(super) fn short_values(arguments: &[ibid::model::Argument]) -> String {
    let texts: Vec<String> = arguments
        .iter()
        .map(|argument| match &argument.value {
            Stored::Inline(json) => shorten(json, 40),
            Stored::Kept { size, .. } => format!("({size} bytes)"),
        })
        .collect();
    texts.join(", ")
}

fn shorten(json: &Json, limit: usize) -> String {
    let text = ibid::protocol::value_in_words(json);
    if text.chars().count() <= limit {
        return text;
    }
    text.chars().take(limit - 1).chain(['…']).collect()
}
