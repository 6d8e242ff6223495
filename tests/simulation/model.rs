//! The five conditions of a hit, by looking at every execution there ever was.

use ibid::model::{Attempt, CallOptions, Decision, ExecutionId, Link, Memo, State, Step, StepId, Trigger};

use crate::world::World;

/// What a call must come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Expected {
    Hit(ExecutionId),
    Linked(ExecutionId),
    Run,
}

/// A call, as far as it matters to whether it is the same as another.
pub struct Call<'a> {
    pub environment: u32,
    pub target: &'a str,
    pub value: u8,
    pub own_key: bool,
}

impl Call<'_> {
    fn is(&self, step: &Step) -> bool {
        let text = self.value.to_string();
        step.target == self.target
            && step.options.cache_key.is_some() == self.own_key
            && matches!(&step.arguments[0].value, ibid::model::Stored::Inline(json) if json.as_str() == text)
    }
}

/// Looks through all executions: same environment or a base of it, caching on, same call, not a
/// bad ending, young enough, not queued where a newer call could replace it; the one created last wins.
pub fn look_up(world: &World, call: &Call<'_>, max_age: Option<u64>, caller: Option<ExecutionId>) -> Expected {
    let based = world.engine.environment_by_number(2).is_some_and(|environment| environment.base.is_some());
    let chain: &[u32] = if call.environment == 2 && based { &[2, 1] } else { &[call.environment] };
    let mut best: Option<(u64, Expected)> = None;
    for step in world.steps().values() {
        let Some(run) = world.run_of(step.id.run) else { continue };
        if !chain.contains(&run.environment) || step.identity.is_none() || !call.is(step) {
            continue;
        }
        for (number, attempt) in (1u32..).zip(&step.attempts) {
            let execution = step.id.attempt(number);
            let candidate = match attempt.state() {
                State::Queued if replaceable(step, attempt) => continue,
                State::Queued | State::Running => {
                    if caller.is_some_and(|caller| is_caller(world, step.id, caller)) {
                        continue;
                    }
                    Expected::Linked(execution)
                }
                State::Succeeded => {
                    let age = u64::try_from(world.now - attempt.ended().unwrap_or(0)).unwrap_or(0);
                    if max_age.is_some_and(|limit| limit == 0 || age > limit) {
                        continue;
                    }
                    Expected::Hit(execution)
                }
                _ => continue,
            };
            if best.as_ref().is_none_or(|(sequence, _)| *sequence < attempt.sequence) {
                best = Some((attempt.sequence, candidate));
            }
        }
    }
    best.map_or(Expected::Run, |(_, expected)| expected)
}

/// Whether a newer call takes the place of a queued attempt.
fn replaceable(step: &Step, attempt: &Attempt) -> bool {
    step.options.defer.is_some()
        && attempt.trigger != Trigger::Rerun
        && !matches!(attempt.decision, Decision::Forced | Decision::WouldWaitForItself { .. })
}

/// The queued executions whose place a call takes. A called workflow has its own in the root of its run.
pub fn replaced(world: &World, environment: u32, target: &str, options: &CallOptions) -> Vec<ExecutionId> {
    let mut found = Vec::new();
    if options.defer.is_none() {
        return found;
    }
    for step in world.engine.live_steps().filter(|step| step.target == target) {
        let here = world.run_of(step.id.run).is_some_and(|run| run.environment == environment);
        for (number, attempt) in (1u32..).zip(&step.attempts) {
            if here && attempt.state() == State::Queued && replaceable(step, attempt) {
                found.push(step.id.attempt(number));
            }
        }
    }
    found
}

/// Whether a call with a defer key is not due at once: its delay has not passed, nor the time that the
/// first of the burst may be put off.
pub fn is_put_off(world: &World, options: &CallOptions, older: &[ExecutionId]) -> bool {
    let Some(defer) = &options.defer else { return false };
    let steps = world.steps();
    let began = older.iter().filter_map(|execution| {
        let step = steps.get(&execution.step)?;
        let attempt = step.attempt(execution.attempt)?;
        if attempt.trigger == Trigger::Retry { Some(attempt.created()) } else { step.burst }
    });
    let began = began.min().unwrap_or(world.now).min(world.now);
    let within = |wait: u64| began.saturating_add_unsigned(wait) > world.now;
    options.delay > 0 && defer.max_wait.is_none_or(within)
}

/// The step of the caller's run that answers a call by memo, if one does.
pub fn memo(world: &World, call: &Call<'_>, options: &CallOptions, caller: ExecutionId) -> Option<StepId> {
    let steps = world.steps();
    let run = caller.step.run;
    let default = steps.get(&run.root()).is_some_and(|root| root.options.memo == Memo::Arguments);
    let wanted = |options: &CallOptions| match options.memo {
        Memo::Arguments => true,
        Memo::Inherit => default,
        Memo::Off | Memo::Key(_) => false,
    };
    if !wanted(options) {
        return None;
    }
    let found = steps.values().rev().find(|step| {
        let attempt = &step.attempts[step.attempts.len() - 1];
        let answers = match attempt.state() {
            State::Queued | State::Running | State::Linked | State::Succeeded | State::Cached => true,
            State::Spawned => matches!(attempt.resolved, None | Some(State::Succeeded)),
            _ => false,
        };
        step.id.run == run
            && step.id.step > 1
            && step.target == call.target
            && step.arguments.len() == 1
            && matches!(&step.arguments[0].value, ibid::model::Stored::Inline(json) if json.as_str() == call.value.to_string())
            && wanted(&step.options)
            && answers
            && !is_caller(world, step.id, caller)
    });
    found.map(|step| step.id)
}

/// Whether a step is the caller, or its caller's caller, and so on across spawned runs.
fn is_caller(world: &World, step: StepId, caller: ExecutionId) -> bool {
    let steps = world.steps();
    let mut current = Some(caller.step);
    while let Some(id) = current {
        if id == step {
            return true;
        }
        let Some(calling): Option<&Step> = steps.get(&id) else { return false };
        current = match calling.caller {
            Some(caller) => Some(caller.step),
            None => world.run_of(id.run).filter(|_| id.step == 1).and_then(|run| run.caller),
        };
    }
    false
}

/// Compares what came of a call with what had to.
pub fn compare(expected: &Expected, attempt: &Attempt, what: &str) -> Result<(), String> {
    let first = attempt.transitions.first().map(|transition| transition.state);
    let undone = matches!(attempt.decision, ibid::model::Decision::WouldWaitForItself { .. });
    let fine = match expected {
        Expected::Hit(source) => first == Some(State::Cached) && attempt.link == Some(Link::Source(*source)),
        Expected::Linked(leader) => {
            first == Some(State::Linked) && (undone || attempt.link == Some(Link::Leader(*leader)))
        }
        Expected::Run => matches!(first, Some(State::Queued | State::Spawned)),
    };
    if fine { Ok(()) } else { Err(format!("{what}: expected {expected:?}, got {attempt:?}")) }
}
