//! The five conditions of a hit, by looking at every execution there ever was.

use ibid::model::{Attempt, ExecutionId, Link, State, Step, StepId};

use crate::world::World;

/// What a call must come to.
#[derive(Debug, PartialEq, Eq)]
pub enum Expected {
    Hit(ExecutionId),
    Linked(ExecutionId),
    Run,
}

/// Looks through all executions: same environment or a base of it, caching on, same call, not a
/// bad ending, young enough; the one created last wins.
pub fn look_up(
    world: &World,
    environment: u32,
    target: &str,
    value: u8,
    max_age: Option<u64>,
    caller: Option<ExecutionId>,
) -> Expected {
    let chain: &[u32] = if environment == 2 { &[2, 1] } else { &[environment] };
    let text = value.to_string();
    let mut best: Option<(u64, Expected)> = None;
    for step in world.steps().values() {
        let Some(run) = world.run_of(step.id.run) else { continue };
        let same_call = step.target == target
            && matches!(&step.arguments[0].value, ibid::model::Stored::Inline(json) if json.as_str() == text);
        if !chain.contains(&run.environment) || step.identity.is_none() || !same_call {
            continue;
        }
        for (number, attempt) in (1u32..).zip(&step.attempts) {
            let execution = step.id.attempt(number);
            let candidate = match attempt.state() {
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
