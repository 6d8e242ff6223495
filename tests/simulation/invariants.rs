//! What must hold between any two things that happen.
//!
//! 1. A leader is a real, unfinished execution: chains never form.
//! 2. Every follower is known to its leader, and the other way round.
//! 3. Nobody waits for itself, directly or through others.
//! 4. A running execution occupies a slot unless it waits.
//! 5. A run's counts are those of its steps.
//! 6. A spawned call and the root of its run know each other.
//! 7. A deferred call and the newer one in its place know each other, until that one has ended.
//! 8. A queued execution that waits for calls waits only for unfinished ones.
//! 9. An execution is given to a worker once, whatever a crash loses (`World::give`).
//! 10. A sensor that was started has exactly one unfinished execution, and one that was stopped none.

use std::collections::{BTreeMap, BTreeSet};

use ibid::model::{Counts, ExecutionId, Link, State};
use ibid_daemon::engine::count_step;

use crate::world::{REPOSITORY, World};

/// Checks all of them.
pub fn check(world: &World) -> Result<(), String> {
    check_live(world)?;
    let steps = world.steps();
    for run in world.engine.active_runs() {
        let mut counts = Counts { saved: run.counts.saved, ..Counts::default() };
        for step in steps.values().filter(|step| step.id.run == run.id) {
            count_step(&mut counts, step);
        }
        if counts != run.counts {
            return Err(format!("{} counts {:?}, its steps are {counts:?}", run.id, run.counts));
        }
    }
    Ok(())
}

/// Checks those that concern unfinished steps only: quick however much has happened before.
pub fn check_live(world: &World) -> Result<(), String> {
    let mut edges: BTreeMap<ExecutionId, Vec<ExecutionId>> = BTreeMap::new();
    let mut busy = 0;
    let mut active = BTreeSet::new();
    for step in world.engine.live_steps() {
        for (number, attempt) in (1u32..).zip(&step.attempts) {
            let execution = step.id.attempt(number);
            if attempt.is_over() {
                continue;
            }
            for follower in world.engine.followers(execution) {
                let link = world.step(follower.step).and_then(|step| step.attempt(follower.attempt)?.link);
                if link != Some(Link::Leader(execution)) {
                    return Err(format!("{execution} leads {follower}, which is linked to {link:?}"));
                }
            }
            match (attempt.state(), attempt.link) {
                (State::Linked, Some(Link::Leader(leader))) => {
                    let leading = world.step(leader.step).and_then(|step| step.attempt(leader.attempt));
                    if !leading.is_some_and(|leading| matches!(leading.state(), State::Queued | State::Running)) {
                        return Err(format!(
                            "{execution} is linked to {leader}, which is {:?}",
                            leading.map(|l| l.state())
                        ));
                    }
                    if !world.engine.followers(leader).contains(&execution) {
                        return Err(format!("{leader} does not know its follower {execution}"));
                    }
                    edges.entry(execution).or_default().push(leader);
                }
                (State::Linked, link) => return Err(format!("{execution} is linked to nobody: {link:?}")),
                (State::Deferred, Some(Link::Successor(successor))) => {
                    if !world.engine.superseded(successor).contains(&execution) {
                        return Err(format!("{successor} does not know that it replaced {execution}"));
                    }
                    edges.entry(execution).or_default().push(successor);
                }
                (State::Deferred, link) => return Err(format!("{execution} was replaced by nobody: {link:?}")),
                (State::Queued, _) => {
                    for blocking in world.engine.blocked_by(execution) {
                        let Some(step) = world.engine.live_step(blocking) else {
                            return Err(format!("{execution} waits for {blocking}, which has ended"));
                        };
                        let open = (1u32..).zip(&step.attempts).find(|(_, attempt)| !attempt.is_over());
                        edges.entry(execution).or_default().extend(open.map(|(number, _)| blocking.attempt(number)));
                    }
                }
                (State::Spawned, Some(Link::Run(run))) => {
                    let Some(root) = world.step(run.root()) else { return Err(format!("{run} has no root")) };
                    let open = (1u32..).zip(&root.attempts).find(|(_, attempt)| !attempt.is_over());
                    let Some((number, _)) = open else {
                        return Err(format!("{execution} waits for {run}, whose root is over"));
                    };
                    edges.entry(execution).or_default().push(root.id.attempt(number));
                }
                (State::Running, _) => {
                    let waits = world.engine.waiting_on(execution);
                    if waits.is_empty() && !world.engine.runs_sensor(execution) {
                        busy += 1;
                        active.insert(execution);
                    }
                    edges.entry(execution).or_default().extend(waits);
                }
                _ => {}
            }
        }
    }
    acyclic(&edges)?;
    let free: u32 =
        [1, 3].iter().map(|environment| world.engine.free_slots(&(*environment, REPOSITORY.to_owned()))).sum();
    // Resuming goes before the limit, so more can be busy than there are slots, never fewer slots free than that leaves.
    let least = (2 * World::concurrency()).saturating_sub(busy);
    if free < least {
        return Err(format!("{busy} executions are busy ({active:?}) and only {free} slots are free: one has leaked"));
    }
    for sensor in world.engine.sensors() {
        let open = world
            .engine
            .live_step(sensor.run.root())
            .map_or(0, |step| step.attempts.iter().filter(|attempt| !attempt.is_over()).count());
        let wanted = usize::from(sensor.stopped.is_none());
        if open != wanted {
            return Err(format!("the sensor of {} has {open} unfinished executions instead of {wanted}", sensor.run));
        }
    }
    Ok(())
}

fn acyclic(edges: &BTreeMap<ExecutionId, Vec<ExecutionId>>) -> Result<(), String> {
    let mut done = BTreeSet::new();
    for start in edges.keys() {
        let mut path = vec![(*start, 0)];
        let mut on_path = BTreeSet::from([*start]);
        while let Some((node, index)) = path.last_mut() {
            let next = edges.get(node).and_then(|targets| targets.get(*index)).copied();
            *index += 1;
            match next {
                Some(next) if on_path.contains(&next) => return Err(format!("{next} waits for itself")),
                Some(next) if !done.contains(&next) => {
                    on_path.insert(next);
                    path.push((next, 0));
                }
                Some(_) => {}
                None => {
                    let node = *node;
                    on_path.remove(&node);
                    done.insert(node);
                    path.pop();
                }
            }
        }
    }
    Ok(())
}
