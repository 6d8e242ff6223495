//! Reads that may be long: on another thread, over a snapshot of everything committed.

use std::collections::{BTreeMap, BTreeSet};

use ibid::model::{ExecutionId, Id, Link, Run, RunId, Step, StepId};
use ibid::protocol::{
    AttemptView, CacheList, CacheStats, ExecutionLine, ExecutionList, KeyLine, KeyView, LinkGroup, LinkList, LogLine,
    LogLines, NamespaceView, QueueGroup, QueueList, Refused, Reply, Request, RunList, Shown, StepList, StepView,
};

use super::requests::not_found;
use super::{Owner, When, views};
use crate::server::Ticket;
use crate::store::{NamespaceStats, StoreError, View};
use crate::workers::DROPPED;

/// How many borrowers and children are listed at most.
const RELATED_MAX: usize = 1000;

/// Lines beyond this are left out of a reply, oldest first, bytes: it must fit into a message.
const LOG_REPLY_MAX_BYTES: usize = 8 * 1024 * 1024;

pub(super) type Answered = Result<Reply, Refused>;

impl Owner {
    /// Answers a request that reads, when everything decided before it is committed.
    pub(super) fn read_elsewhere(&self, ticket: Ticket, request: Request) {
        let Some(own) = self.me.upgrade() else { return };
        tokio::task::spawn_local(async move {
            own.barrier().await;
            let reply = match request {
                Request::Show(show) => own.show(show.id).await,
                Request::Runs(list) => own.list_runs(list).await,
                Request::Steps(list) => own.list_steps(list).await,
                Request::Queue(list) => Ok(own.queue(list.limit)),
                Request::Executions(list) => own.list_executions(list).await,
                Request::Links(list) => Ok(own.links(list.limit)),
                Request::CacheList(list) => own.cache_list(list).await,
                Request::CacheStats(get) => own.cache_stats(&get.scope).await,
                Request::StoreVerify(_) => own.read(|view| Ok(view.verify().report)).await.map(Reply::StoreVerify),
                Request::CacheShow(show) => own.cache_show(&show.scope, &show.key).await,
                Request::Why(why) => own.why(why.id).await,
                Request::Explain(explain) => own.explain(explain.start).await,
                Request::Rows(get) => own.rows(&get).await.map(Reply::Rows),
                Request::Predict(predict) => own.predict(predict.id).await.map(Reply::Predict),
                Request::Compare(compare) => own.compare(compare.one, compare.other).await.map(Reply::Compare),
                Request::Logs(get) => own.logs(get.id, get.from, get.contains).await,
                other => Err(Refused::new("internal", format!("{} does not only read", other.method()))),
            };
            let mut state = own.state.borrow_mut();
            own.reply(&mut state, &ticket, reply, When::Now);
        });
    }

    /// Reads from a snapshot on another thread.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&View) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refused> {
        let store = self.state.borrow().past.store().clone();
        let read = tokio::task::spawn_blocking(move || read(&store.view())).await;
        match read {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Refused::new("store", error.to_string())),
            Err(error) => Err(Refused::new("internal", format!("the read did not end: {error}"))),
        }
    }

    /// The environment of a run, and the run.
    pub(super) fn run_of(&self, id: Id) -> Result<Run, Refused> {
        let mut state = self.state.borrow_mut();
        let run = state.decide(|engine, t| engine.run(t, id.run()));
        run.ok_or_else(|| not_found(&state, id))
    }

    async fn show(&self, id: Id) -> Answered {
        self.known(&mut self.state.borrow_mut(), id)?;
        let run = self.run_of(id)?;
        let target = id.step();
        let steps = self.steps_of(target.run, 0, 100_000).await?;
        let borrowers = self.read(move |view| view.borrowers(target, RELATED_MAX)).await?;
        let children: Vec<_> = steps
            .values()
            .filter(|step| step.id == target || step.caller.is_some_and(|caller| caller.step == target))
            .take(RELATED_MAX)
            .cloned()
            .collect();
        let views = self.step_views(run.environment, children).await?;
        let (own, children): (Vec<_>, Vec<_>) = views.into_iter().partition(|view| view.id == target);
        let state = self.state.borrow();
        let Some(step) = own.into_iter().next() else { return Err(not_found(&state, id)) };
        let wanted = match id {
            Id::Execution(execution) => step.attempts.iter().find(|attempt| attempt.id == execution),
            _ => step.attempts.last(),
        };
        let Some(execution) = wanted.cloned() else { return Err(not_found(&state, id)) };
        let run = views::run(&state, &run);
        Ok(Reply::Show(Shown { run, step, execution, children, borrowers }))
    }

    /// The steps of a run from a number on, as they are now: what ends while the store is read is missed
    /// neither among the finished ones nor among the live ones.
    pub(super) async fn steps_of(
        &self,
        run: RunId,
        from: u32,
        limit: usize,
    ) -> Result<BTreeMap<StepId, Step>, Refused> {
        let live = |own: &Self| -> BTreeSet<StepId> {
            own.state.borrow().engine.live_steps_of(run).map(|step| step.id).collect()
        };
        let before = live(self);
        let finished = self.read(move |view| view.steps(run, from, limit)).await?;
        let mut steps: BTreeMap<_, _> = finished.into_iter().map(|step| (step.id, step)).collect();
        let changing: BTreeSet<StepId> = before.into_iter().chain(live(self)).collect();
        let mut state = self.state.borrow_mut();
        for id in changing {
            let step = state.decide(|engine, t| engine.step(t, id));
            steps.extend(step.map(|step| (id, step)));
        }
        Ok(steps)
    }

    /// Steps as they are shown, with the values of the results that they took.
    pub(super) async fn step_views(&self, environment: u32, steps: Vec<Step>) -> Result<Vec<StepView>, Refused> {
        let sources: BTreeSet<ExecutionId> = steps
            .iter()
            .flat_map(|step| &step.attempts)
            .filter_map(|attempt| match attempt.link {
                Some(Link::Source(source)) => Some(source),
                _ => None,
            })
            .collect();
        let results = self
            .read(move |view| {
                let mut results = views::Results::new();
                for source in sources {
                    let step = view.step(source.step)?;
                    let result = step.and_then(|step| step.attempt(source.attempt)?.result.clone());
                    results.extend(result.map(|result| (source, result)));
                }
                Ok(results)
            })
            .await?;
        let state = self.state.borrow();
        Ok(steps.iter().map(|step| views::step(&state, environment, step, &results)).collect())
    }

    pub(super) async fn list_runs(&self, list: ibid::protocol::ListRuns) -> Answered {
        let limit = usize::try_from(list.limit.unwrap_or(50).clamp(1, 1000)).unwrap_or(50);
        let environment = match &list.scope {
            Some(scope) => Some(self.environment(&self.state.borrow(), scope)?),
            None => None,
        };
        let accept = move |run: &Run| {
            environment.is_none_or(|environment| run.environment == environment)
                && list.state.is_none_or(|state| run.state == state)
                && list.target.as_ref().is_none_or(|target| run.target.contains(target.as_str()))
                && list.since.is_none_or(|since| run.created >= since)
        };
        let before = list.cursor;
        let active: Vec<Run> = {
            let state = self.state.borrow();
            let below = |run: &&Run| before.is_none_or(|before| run.id < before);
            state.engine.active_runs().rev().filter(below).filter(|run| accept(run)).take(limit + 1).cloned().collect()
        };
        let page = self.read(move |view| view.runs(before, limit + 1, accept)).await?;
        // A run that is active again has an old record, too.
        let mut runs: BTreeMap<RunId, Run> = page
            .items
            .into_iter()
            .filter(|run| self.state.borrow().engine.active_run(run.id).is_none())
            .map(|run| (run.id, run))
            .collect();
        runs.extend(active.into_iter().map(|run| (run.id, run)));
        let more = runs.len() > limit;
        let state = self.state.borrow();
        let runs: Vec<_> = runs.values().rev().take(limit).map(|run| views::run(&state, run)).collect();
        let next = more.then(|| runs.last().map(|run| run.id)).flatten();
        Ok(Reply::Runs(RunList { runs, next }))
    }

    pub(super) async fn list_steps(&self, list: ibid::protocol::ListSteps) -> Answered {
        let run = self.run_of(Id::Run(list.run))?;
        let limit = usize::try_from(list.limit.unwrap_or(1000).clamp(1, 10_000)).unwrap_or(1000);
        let from = list.from.unwrap_or(0);
        let (id, environment) = (run.id, run.environment);
        let steps = self.steps_of(id, from, limit + 1).await?;
        let mut steps: Vec<_> = steps.into_values().filter(|step| step.id.step >= from).collect();
        let next = (steps.len() > limit).then(|| steps[limit].id.step);
        steps.truncate(limit);
        let steps = self.step_views(environment, steps).await?;
        Ok(Reply::Steps(StepList { steps, next }))
    }

    async fn list_executions(&self, list: ibid::protocol::ListExecutions) -> Answered {
        let limit = usize::try_from(list.limit.unwrap_or(50).clamp(1, 1000)).unwrap_or(50);
        let mut executions: Vec<ExecutionLine> = Vec::new();
        // The run of the cursor may have more.
        let mut before = list.cursor.map(|cursor| RunId(cursor.step.run.0.saturating_add(1)));
        loop {
            let runs = ibid::protocol::ListRuns {
                scope: list.scope.clone(),
                state: None,
                target: None,
                since: list.since,
                limit: Some(20),
                cursor: before,
            };
            let Reply::Runs(page) = self.list_runs(runs).await? else {
                return Err(Refused::new("internal", "runs could not be listed"));
            };
            for run in &page.runs {
                for step in self.steps_of(run.id, 0, 100_000).await?.values().rev() {
                    if list.target.as_ref().is_some_and(|target| !step.target.contains(target.as_str())) {
                        continue;
                    }
                    let attempts: Vec<_> = (1u32..).zip(&step.attempts).collect();
                    for (number, attempt) in attempts.into_iter().rev() {
                        let id = step.id.attempt(number);
                        let wanted = list.cursor.is_none_or(|cursor| id < cursor)
                            && list.state.is_none_or(|state| attempt.state() == state);
                        if !wanted {
                            continue;
                        }
                        if executions.len() == limit {
                            let next = executions.last().map(|last| last.id);
                            return Ok(Reply::Executions(ExecutionList { executions, next }));
                        }
                        executions.push(ExecutionLine {
                            id,
                            target: step.target.clone(),
                            state: attempt.state(),
                            decision_kind: attempt.decision.kind().to_owned(),
                            created: attempt.created(),
                            ended: attempt.ended(),
                            duration: attempt.duration(),
                        });
                    }
                }
            }
            before = page.next;
            if before.is_none() {
                return Ok(Reply::Executions(ExecutionList { executions, next: None }));
            }
        }
    }

    fn links(&self, limit: Option<u32>) -> Reply {
        let limit = usize::try_from(limit.unwrap_or(200)).unwrap_or(200);
        let state = self.state.borrow();
        let leading = state.engine.live_steps().filter_map(|step| {
            let leader = step.newest();
            let count = state.engine.follower_count(leader);
            (count > 0).then(|| LinkGroup {
                leader,
                target: step.target.clone(),
                state: step.state(),
                followers: state.engine.followers(leader).into_iter().take(RELATED_MAX).collect(),
                count,
            })
        });
        Reply::Links(LinkList { links: leading.take(limit).collect() })
    }

    fn queue(&self, limit: Option<u32>) -> Reply {
        let limit = usize::try_from(limit.unwrap_or(200)).unwrap_or(200);
        let state = self.state.borrow();
        let mut groups = Vec::new();
        for step in state.engine.live_steps() {
            let Some(attempt) = step.attempts.last() else { continue };
            let newest = step.newest();
            let followers = u32::try_from(state.engine.followers(newest).len()).unwrap_or(u32::MAX);
            let queued = attempt.state() == ibid::model::State::Queued;
            if !queued && followers == 0 {
                continue;
            }
            let reason = if queued {
                views::waiting_reason(&state, step, step.newest(), attempt)
            } else {
                format!("{followers} wait for this one execution")
            };
            groups.push(QueueGroup {
                reason,
                execution: newest,
                target: step.target.clone(),
                arguments: views::short_arguments(step),
                state: attempt.state(),
                since: attempt.created(),
                followers,
            });
            if groups.len() == limit {
                break;
            }
        }
        Reply::Queue(QueueList { groups })
    }

    async fn cache_list(&self, list: ibid::protocol::ListCache) -> Answered {
        let environment = self.environment(&self.state.borrow(), &list.scope)?;
        let limit = usize::try_from(list.limit.unwrap_or(100).clamp(1, 10_000)).unwrap_or(100);
        let Some(namespace) = list.namespace else {
            let mut all = self.read(move |view| view.namespaces(environment)).await?;
            all.sort_by(|a, b| b.last_used.cmp(&a.last_used).then_with(|| a.name.cmp(&b.name)));
            let namespaces = all.iter().take(limit).map(namespace_view).collect();
            return Ok(Reply::CacheList(CacheList { namespaces, keys: Vec::new() }));
        };
        let steps = self
            .read(move |view| {
                let mut seen = BTreeSet::new();
                let mut keys = Vec::new();
                for line in view.history(environment, &namespace, 20 * limit)? {
                    if !seen.insert(line.key) {
                        continue;
                    }
                    if let Some(step) = view.step(line.execution.step)? {
                        keys.push((line.execution, step));
                    }
                    if keys.len() == limit {
                        break;
                    }
                }
                Ok(keys)
            })
            .await?;
        let keys = steps.iter().filter_map(|(execution, step)| key_line(*execution, step)).collect();
        Ok(Reply::CacheList(CacheList { namespaces: Vec::new(), keys }))
    }

    async fn cache_stats(&self, scope: &ibid::protocol::Scope) -> Answered {
        let environment = self.environment(&self.state.borrow(), scope)?;
        let all = self.read(move |view| view.namespaces(environment)).await?;
        let mut total = NamespaceStats::default();
        for one in &all {
            total.executed += one.executed;
            total.failed += one.failed;
            total.hits += one.hits;
            total.links += one.links;
            total.saved = total.saved.saturating_add(one.saved);
            total.bytes += one.bytes;
            total.last_used = total.last_used.max(one.last_used);
        }
        let calls = total.executed + total.failed + total.hits + total.links;
        let hit_percent = (calls > 0).then(|| u32::try_from((total.hits + total.links) * 100 / calls).unwrap_or(100));
        let disk_bytes = self.disk_bytes().await?;
        Ok(Reply::CacheStats(CacheStats { total: namespace_view(&total), hit_percent, disk_bytes }))
    }

    async fn cache_show(&self, scope: &ibid::protocol::Scope, key: &str) -> Answered {
        let (environment, step) = self.step_of_key(scope, key).await?;
        let Some(identity) = step.identity.clone() else {
            return Err(Refused::new("not_found", format!("{} has no key: caching was off for it", step.id)));
        };
        let (namespace, version) = (step.namespace(), step.options.cache_version.clone());
        let digest = identity.digest;
        let history = self.history_of_key(environment, &namespace, &digest).await?;
        let (usable, executions, borrowers) = self
            .read(move |view| {
                let usable = view.entry(environment, &digest)?.unwrap_or_default();
                let mut steps = BTreeMap::new();
                let mut borrowers = Vec::new();
                for line in history {
                    if steps.contains_key(&line.execution.step) {
                        continue;
                    }
                    if let Some(step) = view.step(line.execution.step)? {
                        borrowers.extend(view.borrowers(step.id, RELATED_MAX)?);
                        steps.insert(step.id, step);
                    }
                }
                Ok((usable, steps, borrowers))
            })
            .await?;
        let views = self.step_views(environment, executions.into_values().collect()).await?;
        let mut attempts: Vec<AttemptView> = views.into_iter().flat_map(|view| view.attempts).collect();
        attempts.sort_by_key(|attempt| std::cmp::Reverse(attempt.id));
        let mut can_win = usable.successes;
        can_win.sort_by_key(|success| std::cmp::Reverse(success.sequence));
        let usable = can_win
            .iter()
            .filter_map(|success| attempts.iter().find(|attempt| attempt.id == success.execution).cloned())
            .collect();
        let key = identity.hex();
        Ok(Reply::CacheShow(KeyView { key, namespace, version, usable, executions: attempts, borrowers }))
    }

    async fn logs(&self, id: Id, from: Option<u64>, contains: Option<String>) -> Answered {
        self.known(&mut self.state.borrow_mut(), id)?;
        let executions = match id {
            Id::Run(run) => {
                let steps = self.steps_of(run, 0, 100_000).await?;
                steps.values().flat_map(|step| (1..=step.newest().attempt).map(|n| step.id.attempt(n))).collect()
            }
            _ => vec![self.doing_the_work(id)],
        };
        let whose = executions.first().copied().unwrap_or_else(|| id.step().attempt(1));
        let contains = contains.unwrap_or_default();
        let (mut lines, dropped) = self
            .read(move |view| {
                let mut lines = Vec::new();
                let mut dropped = 0;
                for execution in executions {
                    let chunks = view.logs(execution, 0)?;
                    dropped += unpack(execution, chunks.into_iter().flat_map(|chunk| chunk.lines), &mut lines);
                }
                if !contains.is_empty() {
                    lines.retain(|line: &LogLine| line.contains(&contains));
                }
                Ok((lines, dropped))
            })
            .await?;
        if matches!(id, Id::Run(_)) {
            lines = in_order_of_time(lines);
        }
        let mut room = LOG_REPLY_MAX_BYTES;
        let fits = lines.iter().rev().take_while(|line| {
            room = room.saturating_sub(line.text.len() + 64);
            room > 0
        });
        let over = lines.len() - fits.count();
        lines.drain(..over);
        let dropped = dropped + over as u64;
        let skip = usize::try_from(from.unwrap_or(0)).unwrap_or(usize::MAX).min(lines.len());
        lines.drain(..skip);
        Ok(Reply::Logs(LogLines { execution: whose, dropped, lines }))
    }

    /// The execution whose work this one's outcome is: its leader, source, or own run's root.
    pub(super) fn doing_the_work(&self, id: Id) -> ExecutionId {
        let mut state = self.state.borrow_mut();
        let newest = state.decide(|engine, t| engine.step(t, id.step())).map(|step| step.newest());
        let mut execution = match id {
            Id::Execution(execution) => execution,
            _ => newest.unwrap_or_else(|| id.step().attempt(1)),
        };
        for _ in 0..100 {
            let step = state.decide(|engine, t| engine.step(t, execution.step));
            let link = step.and_then(|step| step.attempt(execution.attempt)?.link);
            execution = match link {
                Some(Link::Leader(other) | Link::Source(other) | Link::Successor(other)) => other,
                Some(Link::Run(run)) => {
                    let root = state.decide(|engine, t| engine.step(t, run.root()));
                    root.map_or_else(|| run.root().attempt(1), |root| root.newest())
                }
                None => return execution,
            };
        }
        execution
    }
}

/// Lines of several executions, each of which stays in its own order: the clocks that lines carry are
/// those of whoever noted them.
fn in_order_of_time(lines: Vec<LogLine>) -> Vec<LogLine> {
    let mut latest = (None, i64::MIN);
    let mut placed: Vec<(i64, LogLine)> = Vec::with_capacity(lines.len());
    for line in lines {
        latest = (line.execution, if latest.0 == line.execution { latest.1.max(line.at) } else { line.at });
        placed.push((latest.1, line));
    }
    placed.sort_by_key(|(at, _)| *at);
    placed.into_iter().map(|(_, line)| line).collect()
}

/// Lines as they are sent, and how many had been dropped before them.
pub(super) fn unpack(
    execution: ExecutionId,
    stored: impl Iterator<Item = crate::store::LogLine>,
    lines: &mut Vec<LogLine>,
) -> u64 {
    let mut dropped = 0;
    for line in stored {
        if line.level == DROPPED {
            dropped = line.text.parse().unwrap_or(dropped);
        } else {
            lines.push(LogLine {
                at: line.at,
                level: line.level,
                text: line.text,
                values: line.values,
                execution: Some(execution),
            });
        }
    }
    dropped
}

pub(super) fn key_line(execution: ExecutionId, step: &Step) -> Option<KeyLine> {
    let attempt = step.attempt(execution.attempt)?;
    Some(KeyLine {
        key: step.identity.as_ref()?.hex(),
        execution,
        state: attempt.state(),
        target: step.target.clone(),
        arguments: views::short_arguments(step),
        created: attempt.created(),
        duration: attempt.duration(),
    })
}

pub(super) fn namespace_view(stats: &NamespaceStats) -> NamespaceView {
    NamespaceView {
        namespace: stats.name.clone(),
        executed: stats.executed,
        failed: stats.failed,
        hits: stats.hits,
        links: stats.links,
        saved: stats.saved,
        bytes: stats.bytes,
        last_used: stats.last_used,
    }
}
