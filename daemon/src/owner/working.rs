//! Work to workers: which get what, how many there must be, and which may go.

use std::path::Path;
use std::time::Duration;

use ibid::model::{ExecutionId, Failure, Repository, TargetSpec};
use ibid::protocol::{
    Done, Notice, Order, Outgoing, Refused, Reply, Stop, StopExecution, WorkerAttach, WorkerFailed, WorkerReady,
};
use tokio::sync::oneshot;

use super::commands::{EXEC, SHELL};
use super::starting::check_declared;
use super::{Owner, State, now, unasked};
use crate::engine::RepositoryKey;
use crate::server::{SessionId, Ticket};
use crate::workers::{self, Output, Role, Stamp, Standing, Stream};

/// Free executors kept ready while a repository is at work: a fork takes longer than a small task.
const SPARES: usize = 2;

/// An executor is replaced after this many executions, so that what user code leaks does not pile up.
const EXECUTIONS_MAX: u64 = 10_000;

/// How long a program that has nothing to do may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// A process that was started and has not attached yet.
pub(super) struct Arriving {
    pub(super) worker: u32,
    /// Told how its import went, while a registration waits for that.
    pub(super) imported: Option<oneshot::Sender<Result<WorkerReady, Failure>>>,
}

impl Owner {
    /// Gives due executions to free workers, and sees that there are enough of them.
    pub(super) fn hand_out_work(&self, state: &mut State) {
        let wanting: Vec<RepositoryKey> = state.engine.wanting().cloned().collect();
        for key in wanting {
            self.see_to_commands(state, &key);
            self.replace_rebuilt(state, &key);
            while let Some(number) = state.pools.least_busy(&key) {
                let Some(worker) = state.pools.workers.get(&number) else { break };
                let (role, session) = (worker.role, worker.session);
                if session.is_none() && role != Role::Commands {
                    break;
                }
                let Some(assignment) = state.decide(|engine, t| engine.assign(t, &key, number)) else { break };
                if let Some(worker) = state.pools.workers.get_mut(&number) {
                    worker.executions.insert(assignment.execution);
                }
                state.pools.refresh(number);
                match session {
                    Some(session) => self.send_assignment(state, number, session, assignment),
                    None => self.run_command(state, number, &assignment),
                }
            }
            self.see_to_workers(state, &key);
        }
    }

    /// Starts as many processes as the due work can use, within the limits.
    fn see_to_workers(&self, state: &mut State, key: &RepositoryKey) {
        let Some(repository) = state.engine.repository(key).filter(|repository| repository.launch.is_some()).cloned()
        else {
            return;
        };
        let startable = state.engine.startable(key);
        if startable == 0 {
            return;
        }
        if repository.launch.as_ref().is_some_and(ibid::model::Launch::is_own_program) {
            self.see_to_program(state, key, &repository);
            return;
        }
        let room = self.settings.processes.saturating_sub(state.pools.executors(key));
        let wanted = startable + SPARES;
        let pool = state.pools.pool(key);
        if pool.not_before > now() {
            return;
        }
        let missing = wanted.saturating_sub(pool.free.len() + pool.starting.len()).min(room);
        let stuck = room == 0 && pool.free.is_empty() && pool.starting.is_empty();
        let may_fork = repository.launch.as_ref().is_some_and(|launch| launch.fork);
        let (template, fresh) = (pool.template, pool.unforkable.is_some() || !may_fork);
        if stuck {
            self.relieve(state, key);
            return;
        }
        for _ in 0..missing {
            if state.pools.pool(key).not_before > now() {
                return;
            }
            if fresh {
                self.start_fresh(state, &repository);
            } else if let Some(template) = template {
                self.fork(state, key, template);
            } else {
                self.start_template(state, &repository, None);
                return;
            }
        }
    }

    /// A program that was built anew, and has nothing to do, makes room for what it is now.
    fn replace_rebuilt(&self, state: &mut State, key: &RepositoryKey) {
        let launch = state.engine.repository(key).and_then(|repository| repository.launch.as_ref());
        let Some(launch) = launch.filter(|launch| launch.is_own_program()) else { return };
        let Some(pool) = state.pools.pools.get(key) else { return };
        let mut idle = pool.free.iter().filter_map(|number| state.pools.workers.get(number));
        let idle = idle.find(|worker| worker.executions.is_empty() && worker.program.is_some());
        let Some((number, then)) = idle.map(|worker| (worker.number, worker.program)) else { return };
        // One that is not there is being built.
        if Stamp::at(Path::new(&launch.program)).is_some_and(|now| Some(now) != then) {
            self.dismiss(state, number);
        }
    }

    /// One process is enough for a program that takes many executions at once.
    fn see_to_program(&self, state: &mut State, key: &RepositoryKey, repository: &Repository) {
        let there = state.pools.workers.values().any(|worker| {
            &worker.key == key && worker.generation == repository.generation && worker.standing != Standing::Leaving
        });
        if !there && state.pools.pool(key).not_before <= now() {
            self.start_program(state, repository, None);
        }
    }

    /// All processes wait for other calls and none may be added: the newest call fails.
    fn relieve(&self, state: &mut State, key: &RepositoryKey) {
        let others_can_move = state.engine.wanting().any(|other| other != key);
        let none_is_free = state
            .pools
            .workers
            .values()
            .filter(|worker| worker.role == Role::Executor && &worker.key == key)
            .all(|worker| !worker.executions.is_empty());
        if state.engine.all_wait() && !others_can_move && none_is_free && state.engine.next_due().is_none() {
            let limit = self.settings.processes;
            state.decide(|engine, t| engine.give_up_newest(t, key, limit));
        }
    }

    /// Moves up to `rounds` buffers from an output to the log of what the worker runs.
    pub(super) fn take_output(
        &self,
        state: &mut State,
        number: u32,
        stream: Stream,
        rounds: usize,
        read: impl Fn(&mut [u8]) -> Option<usize>,
    ) {
        let Some(worker) = state.pools.workers.get(&number) else { return };
        // Of several that one process runs at once it is taken for that of the last that does not wait.
        let busy = |execution: &&ExecutionId| state.engine.waiting_on(**execution).is_empty();
        let execution = match worker.executions.len() {
            0 | 1 => worker.executions.first().copied(),
            _ => worker.executions.iter().rev().find(busy).or(worker.executions.last()).copied(),
        };
        // Made once: to clear it for each execution would take longer than the rest of its end.
        let mut buffer = std::mem::take(&mut state.output_buffer);
        buffer.resize(64 * 1024, 0);
        for _ in 0..rounds {
            let Some(read) = read(&mut buffer) else { break };
            // Between executions nobody is there to own what is written.
            if let Some(execution) = execution {
                state.logs.output(execution, stream, now(), &buffer[..read]);
                self.logged.notify_one();
            }
        }
        state.output_buffer = buffer;
    }

    /// An execution ends: what it has written belongs to it.
    pub(super) fn finish_output(&self, state: &mut State, number: u32, execution: ExecutionId) {
        self.drain_output(state, number);
        let chunks = state.logs.finish(execution, now());
        state.log_chunks.extend(chunks);
    }

    /// Moves what a worker has written so far to the log of what it runs.
    pub(super) fn drain_output(&self, state: &mut State, number: u32) {
        if let Some(outputs) = state.pools.workers.get(&number).and_then(|worker| worker.outputs.clone()) {
            self.take_output(state, number, Stream::Out, 64, |buffer| outputs[0].read_now(buffer));
            self.take_output(state, number, Stream::Err, 64, |buffer| outputs[1].read_now(buffer));
        }
    }

    /// A worker has reported the end of an execution and can take another.
    pub(super) fn worker_finished(&self, state: &mut State, number: u32, execution: ExecutionId) {
        let Some(worker) = state.pools.workers.get_mut(&number) else { return };
        worker.executions.remove(&execution);
        worker.finished += 1;
        worker.idle_since = now();
        let old =
            state.engine.repository(&worker.key).is_none_or(|repository| repository.generation != worker.generation);
        let leaving = worker.standing == Standing::Leaving;
        let worn_out = match worker.role {
            Role::Executor => worker.finished >= EXECUTIONS_MAX || old || leaving,
            Role::Program => old || leaving,
            Role::Template | Role::External | Role::Commands => false,
        };
        if worn_out {
            self.dismiss(state, number);
        }
        state.pools.refresh(number);
    }

    /// A worker takes no more work and ends when it has finished.
    fn dismiss(&self, state: &mut State, number: u32) {
        state.pools.withdraw(number);
        let Some(worker) = state.pools.workers.get_mut(&number) else { return };
        worker.standing = Standing::Leaving;
        // What it was given may still wait for its commit, and must come before the end; it is told
        // when it has finished.
        let (role, pid) = (worker.role, worker.pid);
        if let Some(session) = worker.session.filter(|_| worker.executions.is_empty()) {
            state.send(&unasked(session), Outgoing::Notice(Notice::Order(Order::Stop(Stop {}))));
            if let (Role::Program, Some(pid)) = (role, pid) {
                self.kill_unless_ended(number, pid);
            }
        }
    }

    /// Tasks may block every thread of a program: one that does not end when it is told to is killed.
    fn kill_unless_ended(&self, number: u32, pid: u32) {
        let own = self.me.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(STOP_PATIENCE).await;
            let alive = own.upgrade().is_some_and(|own| own.state.borrow().pools.workers.contains_key(&number));
            if alive {
                workers::kill_group(pid);
            }
        });
    }

    /// New code was registered: processes that run the old take no further work.
    pub(super) fn dismiss_older(&self, state: &mut State, key: &RepositoryKey, generation: u64) {
        let older: Vec<_> = state
            .pools
            .workers
            .values()
            .filter(|worker| &worker.key == key && worker.role != Role::External && worker.generation < generation)
            .map(|worker| worker.number)
            .collect();
        for number in older {
            self.dismiss(state, number);
        }
    }

    /// Stops workers that have had nothing to do for a while.
    pub(super) fn dismiss_idle(&self) {
        let mut state = self.state.borrow_mut();
        let idle = i64::try_from(self.settings.worker_idle.as_millis()).unwrap_or(i64::MAX);
        let before = now() - idle;
        let busy: std::collections::BTreeSet<RepositoryKey> = state
            .pools
            .workers
            .values()
            .filter(|worker| !worker.executions.is_empty() || worker.idle_since > before)
            .map(|worker| worker.key.clone())
            .collect();
        let idle: Vec<_> = state
            .pools
            .workers
            .values()
            .filter(|worker| {
                let ready = worker.standing == Standing::Ready;
                let unused = ready && worker.executions.is_empty() && worker.idle_since <= before;
                match worker.role {
                    Role::Executor | Role::Program => unused,
                    Role::Template => unused && !busy.contains(&worker.key),
                    Role::External | Role::Commands => false,
                }
            })
            .map(|worker| worker.number)
            .collect();
        for number in idle {
            self.dismiss(&mut state, number);
        }
    }

    pub(super) fn attach_worker(
        &self,
        state: &mut State,
        ticket: &Ticket,
        attach: WorkerAttach,
    ) -> Result<u32, Refused> {
        let number = match (&attach.token, attach.worker, attach.hosts) {
            (Some(token), None, _) => {
                let arriving = state.templates.get(token).map(|arriving| arriving.worker);
                // A program that a worker has started inherits its token.
                let is_free =
                    |number: &u32| state.pools.workers.get(number).is_some_and(|known| known.session.is_none());
                arriving.filter(is_free).ok_or_else(unknown_worker)?
            }
            (Some(token), Some(number), _) => {
                let known = state.pools.workers.get(&number).is_some_and(|worker| worker.session.is_none());
                if !known || !token.ends_with(&format!("-{}", self.started)) {
                    return Err(unknown_worker());
                }
                number
            }
            (None, _, Some(hosts)) => {
                check_names(&hosts.repository, &hosts.targets)?;
                let environment = state.engine.create_environment(&hosts.scope.project, &hosts.scope.environment);
                let repository = Repository {
                    environment,
                    name: hosts.repository.clone(),
                    targets: hosts.targets,
                    concurrency: hosts.concurrency.max(1),
                    launch: None,
                    generation: 0,
                    shell: None,
                };
                let generation = state.engine.register(repository);
                let key = (environment, hosts.repository);
                let number = state.pools.add(&key, Role::External, generation, now());
                if let Some(worker) = state.pools.workers.get_mut(&number) {
                    worker.standing = Standing::Ready;
                }
                number
            }
            (None, _, None) => {
                let message = "a worker attaches with the token that the daemon gave it, or says what it hosts";
                return Err(Refused::new("bad_request", message));
            }
        };
        if let Some(session) = state.sessions.get_mut(&ticket.session) {
            session.worker = Some(number);
        }
        let mut ready = None;
        if let Some(worker) = state.pools.workers.get_mut(&number) {
            worker.session = Some(ticket.session);
            let forked = worker.pid.is_none() && attach.worker.is_some();
            worker.pid = attach.pid.or(worker.pid);
            if forked {
                worker.standing = Standing::Ready;
                ready = worker.pid;
            }
            worker.idle_since = now();
        }
        if let Some(pid) = ready {
            self.executor_arrived(state, number);
            self.watch(number, pid);
        }
        state.pools.refresh(number);
        Ok(number)
    }

    /// A program was built anew since it was registered: what it declares now is what can be called.
    fn note_changes(&self, state: &mut State, number: u32, ready: &WorkerReady) {
        let Some(worker) = state.pools.workers.get(&number) else { return };
        let Some(known) = state.engine.repository(&worker.key) else { return };
        let is_newest = known.generation == worker.generation;
        if !is_newest || known.targets == ready.targets || check_declared(&known.name, ready).is_err() {
            return;
        }
        let generation = state.engine.register(Repository { targets: ready.targets.clone(), ..known.clone() });
        if let Some(worker) = state.pools.workers.get_mut(&number) {
            worker.generation = generation;
        }
    }

    /// What a program declares is recorded, or refused: it takes work, or ends.
    pub(super) fn program_registered(&self, state: &mut State, number: u32, recorded: bool) {
        if state.pools.workers.get(&number).is_none_or(|worker| worker.session.is_none()) {
            // It has ended already.
            return;
        }
        if recorded {
            if let Some(worker) = state.pools.workers.get_mut(&number) {
                worker.standing = Standing::Ready;
            }
            self.executor_arrived(state, number);
            state.pools.refresh(number);
        } else {
            self.dismiss(state, number);
        }
    }

    fn executor_arrived(&self, state: &mut State, number: u32) {
        let Some(worker) = state.pools.workers.get(&number) else { return };
        if let Some(outputs) = &worker.outputs {
            outputs.iter().for_each(Output::forget_name);
        }
        let (key, generation) = (worker.key.clone(), worker.generation);
        let pool = state.pools.pool(&key);
        pool.starting.remove(&number);
        pool.failures = 0;
        if state.engine.repository(&key).is_none_or(|repository| repository.generation != generation) {
            self.dismiss(state, number);
        }
    }

    pub(super) fn worker_ready(
        &self,
        state: &mut State,
        session: SessionId,
        ready: WorkerReady,
    ) -> Result<Reply, Refused> {
        let number = state.sessions.get(&session).and_then(|session| session.worker).ok_or_else(unknown_worker)?;
        let Some(worker) = state.pools.workers.get_mut(&number) else { return Err(unknown_worker()) };
        if worker.standing == Standing::Starting {
            worker.standing = Standing::Ready;
        }
        worker.idle_since = now();
        let (role, key) = (worker.role, worker.key.clone());
        state.pools.pool(&key).failures = 0;
        let imported = self.take_importing(state, number);
        if role == Role::Program && imported.is_some() {
            // It takes work once what it declares is recorded.
            if let Some(worker) = state.pools.workers.get_mut(&number) {
                worker.standing = Standing::Starting;
            }
        } else if matches!(role, Role::Executor | Role::Program) {
            if role == Role::Program {
                self.note_changes(state, number, &ready);
            }
            self.executor_arrived(state, number);
        } else if ready.unforkable.is_some() {
            state.pools.pool(&key).unforkable.clone_from(&ready.unforkable);
        }
        if let Some(imported) = imported {
            // A registration that has gone away needs no answer.
            let _gone = imported.send(Ok(ready));
        }
        state.pools.refresh(number);
        Ok(Reply::WorkerReady(Done {}))
    }

    pub(super) fn worker_failed(
        &self,
        state: &mut State,
        session: SessionId,
        failed: WorkerFailed,
    ) -> Result<Reply, Refused> {
        let number = state.sessions.get(&session).and_then(|session| session.worker).ok_or_else(unknown_worker)?;
        match self.take_importing(state, number) {
            Some(imported) => {
                // A registration that has gone away needs no answer.
                let _gone = imported.send(Err(failed.error));
            }
            None => {
                eprintln!("ibidd: w-{number} could not import its module: {}", failed.error.message);
                self.fail_waiting_work(state, number, failed.error);
            }
        }
        Ok(Reply::WorkerFailed(Done {}))
    }

    /// The module that was registered can be imported no longer: what waits for it fails and says why.
    fn fail_waiting_work(&self, state: &mut State, number: u32, error: Failure) {
        let Some(key) = state.pools.workers.get(&number).map(|worker| worker.key.clone()) else { return };
        let failure = Failure {
            kind: "ImportError".to_owned(),
            message: format!("{} cannot be imported any more: {}: {}", key.1, error.kind, error.message),
            ..error
        };
        state.decide(|engine, t| engine.fail_due(t, &key, &failure));
        self.start_failed(state, &key);
    }

    pub(super) fn take_importing(
        &self,
        state: &mut State,
        number: u32,
    ) -> Option<oneshot::Sender<Result<WorkerReady, Failure>>> {
        state.templates.values_mut().find(|arriving| arriving.worker == number)?.imported.take()
    }

    pub(super) fn worker_disconnected(&self, state: &mut State, number: u32) {
        let Some(worker) = state.pools.workers.get_mut(&number) else { return };
        worker.session = None;
        state.pools.withdraw(number);
        let Some(worker) = state.pools.workers.get(&number) else { return };
        match (worker.role, worker.pid) {
            (Role::External, _) | (_, None) => {
                let running: Vec<_> = worker.executions.iter().copied().collect();
                for execution in running {
                    self.finish_output(state, number, execution);
                    state.decide(|engine, t| engine.abandon(t, execution, "its worker closed the connection"));
                }
                state.pools.workers.remove(&number);
                self.wake();
            }
            // A process that has closed its connection has no way to go on; its end is watched.
            (_, Some(pid)) => {
                if let Some(worker) = state.pools.workers.get_mut(&number) {
                    worker.standing = Standing::Leaving;
                }
                let own = self.me.clone();
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    let alive = own.upgrade().is_some_and(|own| own.state.borrow().pools.workers.contains_key(&number));
                    if alive {
                        workers::kill_group(pid);
                    }
                });
            }
        }
    }

    /// An execution was cancelled or timed out: its process is killed. One that runs others, too, is told,
    /// and its result is refused if it comes.
    pub(super) fn stop_execution(&self, state: &mut State, execution: ExecutionId, number: u32) {
        self.finish_output(state, number, execution);
        let Some(worker) = state.pools.workers.get_mut(&number) else { return };
        worker.executions.remove(&execution);
        if worker.role == Role::Commands {
            state.pools.refresh(number);
            return self.stop_command(state, execution);
        }
        if matches!(worker.role, Role::Program | Role::External) {
            if let Some(session) = worker.session {
                let order = Order::Cancel(StopExecution { execution });
                state.send(&unasked(session), Outgoing::Notice(Notice::Order(order)));
            }
            // One that was to end when it had finished ends now, if this was its last.
            self.worker_finished(state, number, execution);
            return;
        }
        worker.standing = Standing::Leaving;
        let pid = worker.pid;
        state.pools.withdraw(number);
        if let Some(pid) = pid {
            workers::kill_group(pid);
        }
    }

    /// Kills every process that the daemon started.
    pub(super) fn kill_workers(&self) {
        let state = self.state.borrow();
        Self::kill_commands(&state);
        for worker in state.pools.workers.values().filter(|worker| worker.role != Role::External) {
            if let Some(pid) = worker.pid {
                workers::kill_group(pid);
            }
        }
    }
}

fn unknown_worker() -> Refused {
    Refused::new("unknown_worker", "this daemon did not start that worker; workers of an earlier daemon must end")
}

fn plain(name: &str) -> bool {
    !name.is_empty() && name.len() <= 200 && !name.chars().any(|c| c.is_control() || c.is_whitespace())
}

/// Refuses names that could not be typed or would be ambiguous.
pub(super) fn check_names(repository: &str, targets: &[TargetSpec]) -> Result<(), Refused> {
    if matches!(repository, SHELL | EXEC) {
        let message = format!("'{repository}' is the name of the daemon's own repository of commands: choose another");
        return Err(Refused::new("bad_request", message));
    }
    if !plain(repository) {
        let message = format!(
            "'{}' is no name for a repository: it must be 1 to 200 characters without spaces",
            repository.escape_debug()
        );
        return Err(Refused::new("bad_request", message));
    }
    check_targets(repository, targets)
}

pub(super) fn check_targets(repository: &str, targets: &[TargetSpec]) -> Result<(), Refused> {
    let mut seen = std::collections::BTreeSet::new();
    for target in targets {
        if !plain(&target.name) || target.name.contains('/') {
            let message = format!(
                "'{}' is no name for a target: it must be 1 to 200 characters without spaces or '/'",
                target.name.escape_debug()
            );
            return Err(Refused::new("bad_request", message));
        }
        if !seen.insert(&target.name) {
            return Err(Refused::new(
                "bad_request",
                format!(
                    "{repository} declares two targets named '{}': give one of them another name, name = \"…\"",
                    target.name
                ),
            ));
        }
    }
    Ok(())
}
