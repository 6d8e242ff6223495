//! The five conditions of a hit, and which candidate wins.

use ibid::model::{
    Argument, Cache, CallOptions, Decision, ExecutionId, Identity, Link, Millis, Miss, RunId, State, StepId, Stored,
    default_namespace,
};

use super::identity::{self, Known};
use super::{Engine, Success, Turn};

/// What a look-up found.
#[derive(Debug)]
pub(super) enum Found {
    /// A finished result, and its age.
    Result(Success, Millis),
    /// An unfinished execution to join.
    Unfinished(ExecutionId),
    /// Nothing, and why.
    Nothing(Miss),
}

/// Who asks, and with what limits.
pub(super) struct Query<'a> {
    pub environment: u32,
    pub identity: &'a [u8; 32],
    pub max_age: Option<Millis>,
    /// The execution on whose behalf a call is made: its callers are no candidates.
    pub caller: Option<ExecutionId>,
    /// Only what was created after this place in the order counts.
    pub newer_than: Option<u64>,
    /// Set when a queued execution is looked up again: itself, which is no candidate either.
    pub again: Option<(ExecutionId, u64)>,
}

/// What would happen to a call, without making it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The verdict.
    pub decision: Decision,
    /// The identity, where it has one.
    pub identity: Option<Identity>,
}

impl Engine {
    pub(super) fn look_up(&self, t: Turn<'_>, query: &Query<'_>) -> Found {
        let mut best: Option<(u64, Found)> = None;
        let mut own_ancestor = None;
        let mut too_old: Option<(u64, Miss)> = None;
        let mut last_bad = None;
        let mut forgotten: Option<Miss> = None;
        let chain = self.chain(query.environment);
        for &environment in &chain {
            for (sequence, execution) in self.candidates(environment, query.identity).rev() {
                if query.newer_than.is_some_and(|than| sequence < than) {
                    break;
                }
                if !self.may_join(t, query, sequence, execution, &mut own_ancestor) {
                    continue;
                }
                if best.as_ref().is_none_or(|(other, _)| *other < sequence) {
                    best = Some((sequence, Found::Unfinished(execution)));
                }
                break;
            }
            let Some(entry) = self.entry(t, environment, query.identity) else { continue };
            last_bad = last_bad.or(entry.last_bad);
            if let Some((at, success)) = entry.forgotten.last() {
                forgotten.get_or_insert(Miss::Forgotten { execution: success.execution, at: *at });
            }
            for success in entry.successes {
                if query.newer_than.is_some_and(|than| success.sequence < than) {
                    continue;
                }
                let age = t.now.saturating_sub(success.completed).max(0).cast_unsigned();
                if let Some(max_age) = query.max_age
                    && (max_age == 0 || age > max_age)
                {
                    if too_old.as_ref().is_none_or(|(other, _)| *other < success.sequence) {
                        too_old = Some((success.sequence, Miss::TooOld { source: success.execution, age, max_age }));
                    }
                } else if best.as_ref().is_none_or(|(other, _)| *other < success.sequence) {
                    best = Some((success.sequence, Found::Result(success, age)));
                }
            }
        }
        if let Some((_, found)) = best {
            return found;
        }
        Found::Nothing(if let Some(execution) = own_ancestor {
            Miss::OwnAncestor { execution }
        } else if let Some((_, miss)) = too_old {
            miss
        } else if let Some(miss) = forgotten {
            miss
        } else if let Some(execution) = last_bad {
            Miss::LastFailed { execution }
        } else {
            self.elsewhere(t, query, &chain).unwrap_or(Miss::NoMatch)
        })
    }

    /// The finished execution that a call of an identity would take at any age.
    #[must_use]
    pub fn latest(&self, t: Turn<'_>, environment: u32, identity: &[u8; 32]) -> Option<ExecutionId> {
        let query = Query { environment, identity, max_age: None, caller: None, newer_than: None, again: None };
        match self.look_up(t, &query) {
            Found::Result(success, _) => Some(success.execution),
            _ => None,
        }
    }

    fn may_join(
        &self,
        t: Turn<'_>,
        query: &Query<'_>,
        sequence: u64,
        execution: ExecutionId,
        own_ancestor: &mut Option<ExecutionId>,
    ) -> bool {
        if let Some((asking, own_sequence)) = query.again {
            let running = self
                .step_in_memory(execution.step)
                .and_then(|step| step.attempt(execution.attempt))
                .is_some_and(|attempt| attempt.state() == State::Running);
            if execution == asking || !(sequence < own_sequence || running) || self.waits_for(execution, asking) {
                return false;
            }
        }
        if query.caller.is_some_and(|caller| self.is_ancestor(t, execution.step, caller)) {
            own_ancestor.get_or_insert(execution);
            return false;
        }
        true
    }

    /// Whether a step stands in the chain of callers of an execution, across spawned runs.
    pub(super) fn is_ancestor(&self, t: Turn<'_>, step: StepId, caller: ExecutionId) -> bool {
        let mut current = Some(caller.step);
        while let Some(id) = current {
            if id == step {
                return true;
            }
            let calling = match self.step_in_memory(id) {
                Some(step) => step.caller,
                None => t.past.step(id).and_then(|step| step.caller),
            };
            current = match calling {
                Some(caller) => Some(caller.step),
                None if id.step == 1 => self.caller_of_run(t, id.run),
                None => None,
            };
        }
        false
    }

    fn caller_of_run(&self, t: Turn<'_>, id: RunId) -> Option<StepId> {
        match self.active_run(id).or_else(|| self.recent.quiet.get(&id)) {
            Some(run) => run.caller,
            None => t.past.run(id)?.caller,
        }
    }

    /// The spawned call that started the run of which this step is the root.
    pub(super) fn spawned_by(&self, t: Turn<'_>, root: StepId) -> Option<ExecutionId> {
        if root.step != 1 {
            return None;
        }
        let spawn = self.caller_of_run(t, root.run)?;
        let step = self.step_in_memory(spawn)?;
        let attempt = (1u32..).zip(&step.attempts).find(|(_, attempt)| attempt.link == Some(Link::Run(root.run)))?;
        Some(spawn.attempt(attempt.0))
    }

    /// A result in an environment of the project that this one does not look into.
    fn elsewhere(&self, t: Turn<'_>, query: &Query<'_>, chain: &[u32]) -> Option<Miss> {
        let project = self.project(query.environment);
        let others =
            self.environments.values().filter(|other| other.project == project && !chain.contains(&other.number));
        others.into_iter().find_map(|other| {
            let entry = self.entry(t, other.number, query.identity)?;
            let success = entry.successes.first()?;
            Some(Miss::OtherEnvironment { execution: success.execution, environment: other.name.clone() })
        })
    }

    /// The identity of a call; `Ok(None)` with caching off.
    pub(super) fn identify(
        &self,
        t: Turn<'_>,
        environment: u32,
        target: &str,
        options: &CallOptions,
        arguments: &[Argument],
    ) -> Result<Option<Identity>, u32> {
        if options.cache == Cache::Off {
            return Ok(None);
        }
        let settled = std::cell::Cell::new(true);
        let default;
        let namespace = match &options.cache_namespace {
            Some(namespace) => namespace,
            None => {
                default = default_namespace(target);
                &default
            }
        };
        let known = |reference| {
            let known = self.known(t, reference);
            if matches!(known, Known::Producer(_)) {
                settled.set(false);
            }
            known
        };
        let digest = identity::of_call(self.project(environment), namespace, options, arguments, known)?;
        Ok(Some(Identity { digest, settled: settled.get() || options.cache_key.is_some() }))
    }

    /// What a reference leads to: a value's digest, or the step that will really produce it.
    fn known(&self, t: Turn<'_>, mut id: StepId) -> Known {
        // Every round goes to another step: leader, source or spawned root.
        loop {
            let Some(step) = self.step(t, id) else { return Known::Producer(id) };
            let Some(attempt) = step.attempts.last() else { return Known::Producer(id) };
            match (attempt.state(), &attempt.link) {
                (State::Succeeded, _) => {
                    return Known::Value(known_value(attempt.result.as_ref(), step.newest()));
                }
                (State::Cached, Some(Link::Source(source))) => {
                    let made = self.step(t, source.step);
                    let result = made.as_ref().and_then(|made| made.attempt(source.attempt)?.result.as_ref());
                    return Known::Value(known_value(result, *source));
                }
                (State::Linked, Some(Link::Leader(leader))) => id = leader.step,
                (State::Spawned, Some(Link::Run(run))) => id = run.root(),
                (State::Deferred, Some(Link::Successor(successor))) => id = successor.step,
                _ => return Known::Producer(id),
            }
        }
    }

    /// What would happen to a call now; changes nothing.
    #[must_use]
    pub fn explain(
        &self,
        t: Turn<'_>,
        environment: u32,
        target: &str,
        options: &CallOptions,
        arguments: &[Argument],
    ) -> Explained {
        match self.identify(t, environment, target, options, arguments) {
            Err(argument) => Explained { decision: Decision::NoStableDigest { argument }, identity: None },
            Ok(None) => Explained { decision: Decision::Off, identity: None },
            Ok(Some(identity)) => {
                let query = Query {
                    environment,
                    identity: &identity.digest,
                    max_age: options.cache.max_age(),
                    caller: None,
                    newer_than: None,
                    again: None,
                };
                let decision = decision(&self.look_up(t, &query));
                Explained { decision, identity: Some(identity) }
            }
        }
    }
}

/// A value without a stable digest is known by the execution that made it.
fn known_value(result: Option<&Stored>, execution: ExecutionId) -> [u8; 32] {
    let digest = result.and_then(identity::result_digest);
    digest.unwrap_or_else(|| *blake3::hash(format!("result of {execution}").as_bytes()).as_bytes())
}

pub(super) fn decision(found: &Found) -> Decision {
    match found {
        Found::Result(success, age) => {
            Decision::Hit { source: success.execution, age: *age, duration: success.duration }
        }
        Found::Unfinished(leader) => Decision::Linked { leader: *leader },
        Found::Nothing(miss) => Decision::Miss(miss.clone()),
    }
}
