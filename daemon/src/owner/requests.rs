//! What each request does.

use ibid::model::{Cache, CallOptions, Id, Json, Parameter, ParameterKind, StepId, TargetSpec};
use ibid::protocol::{
    Attached, CacheChanged, CacheForget, CachePin, CacheUnpin, Cancelled, Done, EnvironmentList, GetResult, Outcome,
    Pong, Refused, Reply, Request, Rerun, Rerunning, Scope, Stats, Submit, Submitted, TargetList, TargetView, UseCache,
    Welcome, WorkerList, WorkerView,
};

use super::blobs::handed_over;
use super::commands::{Computed, EXEC};
use super::{Owner, State, When, arguments, now, views};
use crate::engine::{self, Call, Refusal, Start};
use crate::server::Ticket;
use crate::store::blob_named_by;
use crate::workers::{Role, Standing};

impl Owner {
    pub(super) fn take_request(&self, ticket: &Ticket, request: Request) {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        if !state.published.is_empty() && !request.is_of_worker() {
            self.collect_taken(state);
        }
        let (reply, when) = match request {
            Request::Hello(_) => (Ok(Reply::Hello(self.welcome())), When::Now),
            Request::Ping(_) => (Ok(Reply::Ping(Pong { now: now() })), When::Now),
            Request::Targets(list) => (self.targets(state, &list.scope), When::Now),
            Request::Workers(_) => (Ok(Reply::Workers(WorkerList { workers: workers(state) })), When::Now),
            Request::Environments(_) => {
                let environments = state.engine.environments().map(Into::into).collect();
                (Ok(Reply::Environments(EnvironmentList { environments })), When::Now)
            }
            Request::Stats(_) => return self.tell_stats(ticket.clone()),
            Request::Submit(submit) => return self.submit(state, ticket.clone(), submit),
            Request::Rerun(rerun) => (self.rerun(state, rerun), When::Synced),
            Request::Cancel(cancel) => (self.cancel(state, ticket, cancel.id, cancel.force), When::Synced),
            Request::Result(get) => match self.result(state, ticket, &get) {
                Some(answer) => answer,
                None => return,
            },
            Request::Shutdown(shutdown) => {
                self.begin_stop(state, &shutdown);
                (Ok(Reply::Shutdown(Done {})), When::Now)
            }
            Request::Subscribe(subscribe) => {
                let subscribed = self.subscribe(state, ticket, subscribe);
                self.watch_taken(state);
                (subscribed, When::Now)
            }
            Request::Unsubscribe(unsubscribe) => {
                if let Some(session) = state.sessions.get_mut(&ticket.session) {
                    session.subscriptions.remove(&unsubscribe.subscription);
                }
                (Ok(Reply::Unsubscribe(Done {})), When::Now)
            }
            Request::Register(register) => return self.register(state, ticket, register),
            Request::WorkerAttach(attach) => {
                let attached = self.attach_worker(state, ticket, attach);
                (attached.map(|worker| Reply::WorkerAttach(Attached { worker })), When::Synced)
            }
            Request::WorkerReady(ready) => (self.worker_ready(state, ticket.session, ready), When::Now),
            Request::WorkerFailed(failed) => (self.worker_failed(state, ticket.session, failed), When::Now),
            Request::ExecutionCall(call) => return self.execution_call(state, ticket, call),
            Request::ExecutionWait(wait) => match self.execution_wait(state, ticket, wait) {
                Some(answer) => answer,
                None => return self.wake(),
            },
            Request::ExecutionGiveUp(give_up) => (self.execution_give_up(state, ticket, &give_up), When::Synced),
            Request::ExecutionComplete(complete) => (self.execution_complete(state, ticket, complete), When::Synced),
            Request::ExecutionFail(fail) => (self.execution_fail(state, ticket, fail), When::Synced),
            Request::ExecutionLog(log) => (self.execution_log(state, log), When::Now),
            Request::ExecutionProgress(progress) => (self.execution_progress(state, progress), When::Now),
            Request::ExecutionCheckpoint(checkpoint) => {
                (self.execution_checkpoint(state, ticket, checkpoint), When::Synced)
            }
            Request::Sensors(list) => (self.list_sensors(state, list.scope.as_ref()), When::Now),
            Request::SensorStart(start) => (self.sensor_start(state, start), When::Synced),
            Request::SensorStop(stop) => (self.sensor_stop(state, &stop), When::Synced),
            Request::EnvCreate(create) => (self.env_create(state, create), When::Synced),
            Request::CacheForget(_) | Request::CachePin(_) | Request::CacheUnpin(_) => {
                return self.change_key(ticket.clone(), request);
            }
            Request::Exec(exec) => return self.exec(state, ticket, exec),
            Request::ExecSignal(signal) => (self.exec_signal(state, ticket, &signal), When::Synced),
            request @ (Request::CachePrune(_) | Request::RunsPrune(_)) => return self.prune(ticket.clone(), request),
            Request::BlobPut(put) => return self.blob_put(ticket.clone(), put),
            Request::BlobGet(get) => (self.blob_get(&get), When::Now),
            request @ (Request::Show(_)
            | Request::Runs(_)
            | Request::Steps(_)
            | Request::Queue(_)
            | Request::Executions(_)
            | Request::Links(_)
            | Request::CacheList(_)
            | Request::CacheStats(_)
            | Request::StoreVerify(_)
            | Request::CacheShow(_)
            | Request::Why(_)
            | Request::Explain(_)
            | Request::Rows(_)
            | Request::Compare(_)
            | Request::Predict(_)
            | Request::Logs(_)) => return self.read_elsewhere(ticket.clone(), request),
        };
        self.reply(state, ticket, reply, when);
        self.wake();
    }

    /// Forgets, puts back, pins or unpins what is remembered under a key.
    fn change_key(&self, ticket: Ticket, request: Request) {
        let Some(own) = self.me.upgrade() else { return };
        tokio::task::spawn_local(async move {
            let (scope, key) = match &request {
                Request::CacheForget(CacheForget { scope, key, .. })
                | Request::CachePin(CachePin { scope, key })
                | Request::CacheUnpin(CacheUnpin { scope, key }) => (scope, key),
                _ => return,
            };
            own.barrier().await;
            let found = own.step_of_key(scope, key).await;
            let mut guard = own.state.borrow_mut();
            let state = &mut *guard;
            let reply = found.and_then(|(environment, step)| {
                let Some(identity) = step.identity else {
                    return Err(Refused::new("not_found", format!("{} has no key: caching was off for it", step.id)));
                };
                let changed = state.decide(|engine, t| match request {
                    Request::CacheForget(CacheForget { undo: true, .. }) => {
                        Ok(engine.put_back(t, environment, &identity.digest))
                    }
                    Request::CacheForget(_) => Ok(engine.forget(t, environment, &identity.digest)),
                    Request::CachePin(_) => engine.pin(t, environment, &identity.digest, true).map(usize::from),
                    _ => engine.pin(t, environment, &identity.digest, false).map(usize::from),
                });
                let changed = u32::try_from(changed.map_err(refused)?).unwrap_or(u32::MAX);
                Ok(CacheChanged { key: identity.hex(), changed })
            });
            let reply = reply.map(match request {
                Request::CacheForget(_) => Reply::CacheForget,
                Request::CachePin(_) => Reply::CachePin,
                _ => Reply::CacheUnpin,
            });
            own.reply(state, &ticket, reply, When::Synced);
            own.wake();
        });
    }

    fn welcome(&self) -> Welcome {
        Welcome {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: ibid::protocol::PROTOCOL_VERSION,
            pid: std::process::id(),
            epoch: self.started.cast_unsigned(),
            data_dir: self.settings.data.display().to_string(),
            spool: self.blobs.spool().display().to_string(),
        }
    }

    fn figures(&self, state: &State, disk_bytes: u64) -> Stats {
        let mut stats = Stats {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: self.started,
            start_took: self.start_took.get(),
            data_dir: self.settings.data.display().to_string(),
            socket: self.settings.socket.display().to_string(),
            runs: state.engine.last_run(),
            queued: 0,
            running: 0,
            linked: 0,
            leaders: u32::try_from(state.engine.leaders()).unwrap_or(u32::MAX),
            targets: 0,
            borrowed: state.last.borrowed,
            executed: state.last.executed,
            saved: state.last.saved,
            disk_bytes,
            memory_bytes: resident_bytes(),
            turns: state.last.turn,
            stopping: state.stopping,
        };
        for run in state.engine.active_runs() {
            stats.queued += run.counts.queued;
            stats.running += run.counts.running;
            stats.linked += run.counts.linked;
        }
        let targets: usize = state.engine.repositories().map(|repository| repository.targets.len()).sum();
        stats.targets = u32::try_from(targets).unwrap_or(u32::MAX);
        stats
    }

    fn tell_stats(&self, ticket: Ticket) {
        let Some(own) = self.me.upgrade() else { return };
        tokio::task::spawn_local(async move {
            let stats = own.stats().await.map(Reply::Stats);
            own.reply(&mut own.state.borrow_mut(), &ticket, stats, When::Now);
        });
    }

    pub(super) async fn stats(&self) -> Result<Stats, Refused> {
        let disk_bytes = self.disk_bytes().await?;
        Ok(self.figures(&self.state.borrow(), disk_bytes))
    }

    /// Bytes on the disk, counted on another thread: there may be many files.
    pub(super) async fn disk_bytes(&self) -> Result<u64, Refused> {
        let store = self.state.borrow().past.store().clone();
        let counted = tokio::task::spawn_blocking(move || store.disk_bytes()).await;
        counted.map_err(|error| Refused::new("internal", format!("the files could not be counted: {error}")))
    }

    pub(super) fn environment(&self, state: &State, scope: &Scope) -> Result<u32, Refused> {
        if let Some(environment) = state.engine.environment(&scope.project, &scope.environment) {
            return Ok(environment.number);
        }
        let known: Vec<_> =
            state.engine.environments().map(|known| format!("{}/{}", known.project, known.name)).collect();
        let hint = if known.is_empty() {
            "nothing is registered yet: 'ibid register MODULE' makes a module's targets known".to_owned()
        } else {
            format!("there are {}; -p and -e choose one", known.join(", "))
        };
        let message = format!("there is no environment '{}' in project '{}'; {hint}", scope.environment, scope.project);
        Err(Refused::new("not_found", message))
    }

    fn targets(&self, state: &State, scope: &Scope) -> Result<Reply, Refused> {
        let environment = match self.environment(state, scope) {
            Ok(environment) => environment,
            // An empty daemon has nothing to list, which is no error.
            Err(_) if state.engine.environments().next().is_none() => {
                return Ok(Reply::Targets(TargetList { targets: Vec::new() }));
            }
            Err(refused) => return Err(refused),
        };
        Ok(Reply::Targets(TargetList { targets: target_views(state, environment) }))
    }

    /// Finds a workflow and binds the arguments of a start to it.
    pub(super) fn prepare(
        &self,
        state: &State,
        submit: &Submit,
        computed: &Computed,
    ) -> Result<(u32, CallOptions, Vec<Json>), Refused> {
        let environment = self.environment(state, &submit.scope)?;
        let Some((_, spec)) = state.engine.target(environment, &submit.target) else {
            return Err(unknown_target(state, environment, &submit.target));
        };
        if !spec.kind.starts_by_hand() {
            return Err(refused(engine::not_a_workflow(&submit.target, spec.kind)));
        }
        let declared = declared(spec);
        let mut bound =
            arguments::bind(&submit.target, declared, submit.arguments.clone(), submit.named.clone(), |json| {
                self.whole(json)
            })
            .map_err(|message| Refused::new("bad_request", message))?;
        computed.add_to(spec, &submit.target, &mut bound)?;
        let mut options = spec.options.clone();
        match submit.use_cache {
            None if submit.cache_key.is_some() => {
                return Err(Refused::new("bad_request", "a cache key has a meaning only together with --use-cache"));
            }
            None => options.cache = Cache::Off,
            Some(choice) => {
                if spec.own_key && submit.cache_key.is_none() {
                    let message = format!(
                        "{} has a key function of its own, which only a caller in its language can evaluate: \
                         give the key with --cache-key",
                        submit.target
                    );
                    return Err(Refused::new("bad_request", message));
                }
                options.cache_key = submit.cache_key.clone();
                options.cache = match (choice, spec.options.cache) {
                    (UseCache::MaxAge(age), _) => Cache::MaxAge(age),
                    (UseCache::AsDeclared, Cache::Off) => Cache::On,
                    (UseCache::AsDeclared, declared) => declared,
                };
            }
        }
        Ok((environment, options, bound))
    }

    fn submit(&self, state: &mut State, ticket: Ticket, submit: Submit) {
        let environment = match self.environment(state, &submit.scope) {
            Ok(environment) => environment,
            Err(refused) => return self.reply(state, &ticket, Err(refused), When::Now),
        };
        let target = submit.target.clone();
        self.work_out(state, environment, [target].into_iter(), move |own, state, computed| {
            let reply = computed.and_then(|computed| own.submit_with(state, submit, &computed)).map(Reply::Submit);
            own.reply(state, &ticket, reply, When::Synced);
            own.wake();
        });
    }

    fn submit_with(&self, state: &mut State, submit: Submit, computed: &Computed) -> Result<Submitted, Refused> {
        if state.stopping && submit.caller.is_none() {
            return Err(Refused::new(
                "stopping",
                "the daemon is stopping and takes no new starts; try again in a moment",
            ));
        }
        let (environment, options, bound) = self.prepare(state, &submit, computed)?;
        let mut values = Vec::with_capacity(bound.len());
        for json in bound {
            values.push(keep_argument(state, json)?);
        }
        if let Some(caller) = submit.caller {
            // Started inside an execution: a call of it, with the target's own settings.
            let call = Call { target: submit.target, arguments: values, options, group: None, command: None };
            let called = state.decide(|engine, t| engine.call(t, caller, vec![call])).map_err(refused)?;
            let Some(called) = called.into_iter().next() else {
                return Err(Refused::new("internal", "the call was not made"));
            };
            return Ok(Submitted { run: called.step.run, step: called.step, repeated: false });
        }
        let start = Start {
            environment,
            target: submit.target,
            arguments: values,
            options,
            token: submit.token,
            idempotency_key: submit.idempotency_key,
            command: None,
            taken: None,
        };
        let started = state.decide(|engine, t| engine.start(t, start)).map_err(refused)?;
        Ok(Submitted { run: started.run, step: started.run.root(), repeated: started.repeated })
    }

    fn rerun(&self, state: &mut State, Rerun { id, below }: Rerun) -> Result<Reply, Refused> {
        if state.stopping {
            return Err(Refused::new("stopping", "the daemon is stopping and takes no re-runs; try again in a moment"));
        }
        self.known(state, id)?;
        let execution = state.decide(|engine, t| engine.rerun(t, id.step(), below)).map_err(refused)?;
        Ok(Reply::Rerun(Rerunning { execution }))
    }

    fn cancel(&self, state: &mut State, ticket: &Ticket, id: Id, force: bool) -> Result<Reply, Refused> {
        self.known(state, id)?;
        // An execution that was answered with another's step by memo gives up its own interest only.
        let worker = state.sessions.get(&ticket.session).and_then(|session| session.worker);
        let executions = worker.and_then(|number| state.pools.workers.get(&number)).map(|worker| &worker.executions);
        let asking =
            executions.into_iter().flatten().copied().find(|caller| state.engine.is_memo_caller(*caller, id.step()));
        if let Some(caller) = asking.filter(|_| !force) {
            state.decide(|engine, t| engine.forget_memo(t, caller, id.step()));
            return Ok(Reply::Cancel(Cancelled { stopped: Vec::new(), kept: vec![id.step()] }));
        }
        let cancelled = state.decide(|engine, t| engine.cancel(t, id, force, "by hand")).map_err(refused)?;
        Ok(Reply::Cancel(Cancelled { stopped: cancelled.stopped, kept: cancelled.kept }))
    }

    /// Refuses an id that names nothing.
    pub(super) fn known(&self, state: &mut State, id: Id) -> Result<(), Refused> {
        let step = state.decide(|engine, t| engine.step(t, id.step()));
        let exists = step.is_some_and(|step| match id {
            Id::Execution(execution) => step.attempt(execution.attempt).is_some(),
            _ => true,
        });
        if exists { Ok(()) } else { Err(not_found(state, id)) }
    }

    fn result(&self, state: &mut State, ticket: &Ticket, get: &GetResult) -> Option<(Result<Reply, Refused>, When)> {
        if let Err(refused) = self.known(state, get.id) {
            return Some((Err(refused), When::Now));
        }
        let id: StepId = get.id.step();
        let newest = state.decide(|engine, t| engine.step(t, id)).map(|step| step.newest());
        let outcome = match get.id {
            Id::Execution(execution) if Some(execution) != newest => {
                state.decide(|engine, t| engine.outcome_of(t, execution))
            }
            _ => state.decide(|engine, t| engine.outcome(t, id)),
        };
        if let Some(outcome) = outcome {
            return Some((Ok(Reply::Result(views::outcome(state, &outcome))), When::Synced));
        }
        if get.wait
            && let Some(caller) = get.caller
            && state.engine.is_running(caller)
        {
            return self.wait_as(state, ticket, caller, id);
        }
        if get.wait {
            let deciding = state.decide(|engine, t| engine.deciding(t, id));
            state.waits.entry(deciding).or_default().push(ticket.clone());
            return None;
        }
        Some((Ok(Reply::Result(unfinished(state, id))), When::Synced))
    }
}

/// What is known of a call that has not ended.
pub(super) fn unfinished(state: &mut State, id: StepId) -> Outcome {
    let step = state.decide(|engine, t| engine.step(t, id));
    Outcome {
        state: step.as_ref().map_or(ibid::model::State::Queued, ibid::model::Step::state),
        value: None,
        error: None,
        execution: step.as_ref().map(ibid::model::Step::newest),
    }
}

/// An argument as the engine wants it; a large text is kept with the next commit.
pub(super) fn keep_argument(state: &mut State, json: Json) -> Result<ibid::model::Argument, Refused> {
    let (argument, text) = read_argument(state, json)?;
    keep_text(state, &argument.value, text);
    Ok(argument)
}

/// An argument and the text to keep with it.
pub(super) fn read_argument(state: &State, json: Json) -> Result<(ibid::model::Argument, Option<Json>), Refused> {
    if let Some(hash) = blob_named_by(&json) {
        let (value, references) = handed_over(state, hash)?;
        return Ok((ibid::model::Argument { value, references }, None));
    }
    engine::argument(json).map_err(|error| Refused::new("bad_request", error.to_string()))
}

pub(super) fn keep_text(state: &mut State, value: &ibid::model::Stored, text: Option<Json>) {
    if let (ibid::model::Stored::Kept { hash, .. }, Some(text)) = (value, text) {
        state.values.push((*hash, text));
    }
}

pub(super) fn refused(refusal: Refusal) -> Refused {
    let kind = match &refusal {
        Refusal::UnknownTarget(_) => "unknown_target",
        Refusal::NotAWorkflow(..) | Refusal::SensorCalled(_) => "not_a_workflow",
        Refusal::NotASensor(..) | Refusal::NoSensor(_) => "not_a_sensor",
        Refusal::UnknownEnvironment(..) | Refusal::NothingRemembered => "not_found",
        Refusal::BaseCircle(..) => "conflict",
        Refusal::UnknownStep(_) | Refusal::Unknown(_) => "not_found",
        Refusal::Unfinished(..) => "unfinished",
        Refusal::AlreadyEnded(_) => "already_ended",
        Refusal::NotRunning(_) => "not_running",
        Refusal::Deadlock { .. } => "deadlock",
        Refusal::Conflict { .. } => "conflict",
    };
    Refused::new(kind, refusal.to_string())
}

pub(super) fn not_found(state: &State, id: Id) -> Refused {
    let last = state.engine.last_run();
    let steps = state.engine.active_run(id.run()).map(|run| run.counts.steps);
    let steps = steps.or_else(|| crate::engine::Lookup::run(&state.past, id.run()).map(|run| run.counts.steps));
    let hint = match (steps, last) {
        (Some(steps), _) => format!("{} has {steps} step(s)", id.run()),
        (None, 0) => "nothing has run yet".to_owned(),
        (None, last) => format!("the newest run is R{last}"),
    };
    Refused::new("not_found", format!("there is no {id}; {hint}"))
}

pub(super) fn unknown_target(state: &State, environment: u32, target: &str) -> Refused {
    let known: Vec<_> = state
        .engine
        .targets(environment)
        .into_iter()
        .map(|(repository, spec)| format!("{}/{}", repository.name, spec.name))
        .collect();
    let close = known
        .iter()
        .map(|name| (strsim::jaro_winkler(name, target).max(name_match(name, target)), name))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = match close {
        Some((_, name)) => format!("did you mean '{name}'?"),
        None if known.is_empty() => {
            "nothing is registered yet: 'ibid register MODULE' makes a module's targets known".to_owned()
        }
        None => "'ibid targets' lists what is registered".to_owned(),
    };
    Refused::new("unknown_target", format!("there is no target '{target}'; {hint}"))
}

/// What callers of a target give.
fn declared(spec: &TargetSpec) -> &[Parameter] {
    let given = spec.parameters.iter().position(|parameter| parameter.kind == ParameterKind::Computed);
    &spec.parameters[..given.unwrap_or(spec.parameters.len())]
}

/// A name without its repository is close to the target of that name.
fn name_match(known: &str, given: &str) -> f64 {
    let last = |text: &str| text.rsplit('/').next().unwrap_or_default().to_owned();
    strsim::jaro_winkler(&last(known), &last(given)) * 0.99
}

pub(super) fn target_views(state: &State, environment: u32) -> Vec<TargetView> {
    let mut views: Vec<_> = state
        .engine
        .targets(environment)
        .into_iter()
        .filter(|(repository, _)| repository.name != EXEC)
        .map(|(repository, spec)| TargetView {
            target: format!("{}/{}", repository.name, spec.name),
            kind: spec.kind,
            parameters: declared(spec).to_vec(),
            options: spec.options.clone(),
            own_key: spec.own_key,
            doc: spec.doc.clone(),
            environment: state
                .engine
                .environment_by_number(repository.environment)
                .map(|environment| environment.name.clone())
                .unwrap_or_default(),
        })
        .collect();
    views.sort_by(|a, b| a.target.cmp(&b.target));
    views
}

fn workers(state: &State) -> Vec<WorkerView> {
    let waiting = |execution| !state.engine.waiting_on(execution).is_empty();
    state
        .pools
        .workers
        .values()
        .map(|worker| WorkerView {
            worker: worker.number,
            repository: worker.key.1.clone(),
            role: worker.role.name().to_owned(),
            pid: worker.pid,
            state: match worker.standing {
                Standing::Starting => "starting",
                Standing::Leaving => "leaving",
                Standing::Ready if worker.executions.is_empty() && worker.role == Role::Template => "ready",
                Standing::Ready if worker.executions.is_empty() => "idle",
                Standing::Ready if worker.executions.iter().all(|execution| waiting(*execution)) => "waiting",
                Standing::Ready => "busy",
            }
            .to_owned(),
            executions: worker.executions.iter().copied().collect(),
            finished: worker.finished,
            started: worker.started,
        })
        .collect()
}

/// Resident memory of this process, bytes; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}
