//! `cache.prune` and `runs.prune`: a look over the whole store on another thread, then the removal in small
//! turns, so that work goes on meanwhile.

use std::collections::BTreeSet;

use ibid::model::{ExecutionId, RunId, StepId};
use ibid::protocol::{CachePrune, Prune, Pruned, Refused, Reply, Request, RunsPrune};

use super::lists::Answered;
use super::{Owner, State, When, now};
use crate::engine::Changes;
use crate::server::Ticket;
use crate::store::{Criteria, Plan, Space, Unpacked};

/// A value that was handed over is used soon, or never, ms.
const CLAIMED_WITHIN: i64 = 10 * 60 * 1000;

/// How many things are removed in one turn.
const AT_ONCE: usize = 500;

/// What has come into use since the store was looked over: it stays.
#[derive(Debug, Default)]
pub(super) struct Since {
    borrowed: BTreeSet<ExecutionId>,
    runs: BTreeSet<RunId>,
    values: BTreeSet<[u8; 32]>,
}

impl Since {
    /// Notes what a turn uses.
    pub(super) fn note(&mut self, changes: &Changes, rest: &Unpacked) {
        self.borrowed.extend(changes.borrowed.iter().map(|borrowed| borrowed.source));
        self.runs.extend(changes.active.iter().map(|run| run.id));
        self.values.extend(rest.values.iter().map(|(hash, _)| *hash));
        self.values.extend(rest.blobs.iter().map(|(hash, _)| *hash));
    }
}

/// What to prune.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Results,
    Runs,
}

impl Owner {
    pub(super) fn prune(&self, ticket: Ticket, request: Request) {
        let Some(own) = self.me.upgrade() else { return };
        tokio::task::spawn_local(async move {
            let reply = match request {
                Request::CachePrune(CachePrune(prune)) => {
                    own.prune_as_said(What::Results, prune).await.map(Reply::CachePrune)
                }
                Request::RunsPrune(RunsPrune(prune)) => {
                    own.prune_as_said(What::Runs, prune).await.map(Reply::RunsPrune)
                }
                other => Answered::Err(Refused::new("internal", format!("{} prunes nothing", other.method()))),
            };
            own.reply(&mut own.state.borrow_mut(), &ticket, reply, When::Synced);
            own.wake();
        });
    }

    async fn prune_as_said(&self, what: What, prune: Prune) -> Result<Pruned, Refused> {
        let Prune { scope, namespace, older_than, max_size, keep_latest, dry_run } = prune;
        if older_than.is_none() && max_size.is_none() && keep_latest.is_none() {
            let message = "say what may go: by age (older_than), size (max_size) or number (keep_latest)";
            return Err(Refused::new("bad_request", message));
        }
        let environment = match &scope {
            Some(scope) => Some(self.environment(&self.state.borrow(), scope)?),
            None => None,
        };
        let unclaimed = {
            let state = self.state.borrow();
            let recent = now() - CLAIMED_WITHIN;
            let mut unclaimed = state.unclaimed.borrow_mut();
            unclaimed.retain(|_, at| *at > recent);
            unclaimed.keys().copied().collect()
        };
        let criteria = Criteria {
            unclaimed,
            environment,
            namespace,
            before: older_than.map(|age| now().saturating_sub_unsigned(age)),
            max_size,
            keep_latest: keep_latest.map(|keep| usize::try_from(keep).unwrap_or(usize::MAX)),
        };
        if self.state.borrow().pruning.is_some() {
            return Err(Refused::new("conflict", "another pruning is under way; try again when it has ended"));
        }
        {
            let mut state = self.state.borrow_mut();
            state.pruning = Some(Since::default());
            state.last_setting = None;
        }
        let pruned = self.prune_by(what, criteria, dry_run).await;
        self.state.borrow_mut().pruning = None;
        pruned
    }

    async fn prune_by(&self, what: What, criteria: Criteria, dry_run: bool) -> Result<Pruned, Refused> {
        self.barrier().await;
        let disk_before = self.disk_bytes().await?;
        let plan = self
            .read(move |view| match what {
                What::Results => view.plan_cache(&criteria),
                What::Runs => view.plan_runs(&criteria),
            })
            .await?;
        let count = |number: usize| number as u64;
        let mut pruned = Pruned {
            dry_run,
            results: count(plan.results.len()),
            runs: count(plan.runs.len()),
            steps: count(plan.steps.len()),
            values: count(plan.values.len()),
            bytes: plan.bytes,
            disk_before,
            disk_after: disk_before,
        };
        if dry_run {
            return Ok(pruned);
        }
        pruned.results = count(self.remove_results(&plan.results).await);
        let (runs, steps) = self.remove_runs(&plan).await;
        (pruned.runs, pruned.steps) = (count(runs), count(steps));
        pruned.values = count(self.remove_values(&plan.values).await);
        let store = self.state.borrow().past.store().clone();
        let compacted = tokio::task::spawn_blocking(move || store.compact()).await;
        if let Ok(Err(error)) = compacted {
            return Err(Refused::new("store", format!("what was pruned is gone, but its space is not back: {error}")));
        }
        pruned.disk_after = self.disk_bytes().await?;
        Ok(pruned)
    }

    async fn remove_results(&self, results: &[ExecutionId]) -> usize {
        let mut removed = 0;
        for some in results.chunks(AT_ONCE) {
            {
                let mut state = self.state.borrow_mut();
                let just: BTreeSet<ExecutionId> = state.engine.just_borrowed().collect();
                let since = state.pruning.as_ref().map(|since| &since.borrowed);
                let free = |execution: &&ExecutionId| {
                    !just.contains(*execution) && since.is_none_or(|since| !since.contains(*execution))
                };
                let some: Vec<_> = some.iter().filter(free).copied().collect();
                removed += state.decide(|engine, t| engine.prune(t, &some));
            }
            self.wake();
            self.barrier().await;
        }
        removed
    }

    /// Removes runs whole, each in one turn; says how many of them, and of their steps.
    async fn remove_runs(&self, plan: &Plan) -> (usize, usize) {
        let mut steps = plan.steps.iter().copied().peekable();
        let mut records: std::collections::BTreeMap<RunId, Vec<(Space, Vec<u8>)>> = std::collections::BTreeMap::new();
        for (run, space, key) in &plan.records {
            records.entry(*run).or_default().push((*space, key.clone()));
        }
        let (mut runs, mut removed_steps) = (0, 0);
        if plan.runs.is_empty() {
            return (0, 0);
        }
        for run in &plan.runs {
            let mut of_run: Vec<StepId> = Vec::new();
            while let Some(step) = steps.next_if(|step| step.run == *run) {
                of_run.push(step);
            }
            {
                let mut state = self.state.borrow_mut();
                let again = state.pruning.as_ref().is_some_and(|since| since.runs.contains(run));
                if again || state.engine.active_run(*run).is_some() {
                    continue;
                }
                runs += 1;
                removed_steps += of_run.len();
                state.removed.extend(records.remove(run).unwrap_or_default());
                state.removed.extend(of_run.into_iter().map(|step| (Space::Steps, step.key().to_vec())));
                if state.removed.len() < AT_ONCE {
                    continue;
                }
            }
            self.wake();
            self.barrier().await;
        }
        for some in plan.lists.chunks(AT_ONCE) {
            let gone = some.iter().map(|key| (Space::History, key.clone()));
            self.state.borrow_mut().removed.extend(gone);
            self.wake();
            self.barrier().await;
        }
        self.wake();
        self.barrier().await;
        // Lists for people name executions that are gone: they are made anew from what is there.
        self.state.borrow_mut().windows = super::windows::Windows::default();
        (runs, removed_steps)
    }

    async fn remove_values(&self, values: &[([u8; 32], u64)]) -> usize {
        let mut removed = 0;
        for some in values.chunks(AT_ONCE) {
            let mut gone = Vec::new();
            {
                let mut state = self.state.borrow_mut();
                for (hash, _) in some {
                    if !state.is_in_use(hash) {
                        state.removed.push((Space::Values, hash.to_vec()));
                        state.removed.push((Space::Values, [b"b".as_slice(), hash].concat()));
                        gone.push(*hash);
                    }
                }
            }
            self.wake();
            self.barrier().await;
            let state = self.state.borrow();
            for hash in gone {
                // The same value may have come again while the records were removed.
                if !state.is_in_use(&hash) {
                    self.blobs.remove(&hash);
                    removed += 1;
                }
            }
        }
        removed
    }
}

impl State {
    /// Whether a value has come into use since the store was looked over.
    fn is_in_use(&self, hash: &[u8; 32]) -> bool {
        self.pruning.as_ref().is_some_and(|since| since.values.contains(hash))
            || self.values.iter().any(|(known, _)| known == hash)
            || self.handed_over.contains_key(hash)
            || self.unclaimed.borrow().contains_key(hash)
    }
}
