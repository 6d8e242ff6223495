//! Processes: how they are started, what they write, and how their end is noticed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ibid::model::{Failure, Repository, Timestamp};
use ibid::protocol::{Fork, Notice, Order, Outgoing, WorkerReady};
use tokio::sync::oneshot;

use super::working::Arriving;
use super::{Owner, State, now, unasked};
use crate::engine::RepositoryKey;
use crate::workers::{self, Exit, Output, Readers, Role, Stamp, Standing, Stream};

/// The longest wait before another try to start workers that keep failing, ms.
const START_BACKOFF_MAX: Timestamp = 10_000;

/// So often in a row a process is started that does not come up.
const STARTS_MAX: u32 = 3;

/// How long a forked executor may take until it attaches.
const FORK_PATIENCE: Duration = Duration::from_secs(10);

/// How long a killed worker's cause may take to arrive from its template.
const CAUSE_PATIENCE: Duration = Duration::from_millis(40);

impl Owner {
    fn process_variables(&self, token: &str, repository: &Repository, role: &str) -> Vec<(&'static str, String)> {
        vec![
            ("IBID_SOCKET", self.settings.socket.display().to_string()),
            ("IBID_DATA_DIR", self.settings.data.display().to_string()),
            ("IBID_WORKER_TOKEN", token.to_owned()),
            ("IBID_WORKER_ROLE", role.to_owned()),
            ("IBID_WORKER_MODULE", repository.launch.as_ref().map(|launch| launch.module.clone()).unwrap_or_default()),
            ("IBID_WORKER_REPOSITORY", repository.name.clone()),
        ]
    }

    pub(super) fn spool(&self, name: &str) -> PathBuf {
        self.settings.data.join("spool").join(name)
    }

    /// Starts a process that imports the module and can be forked from. `imported` is told how that went.
    pub(super) fn start_template(
        &self,
        state: &mut State,
        repository: &Repository,
        imported: Option<oneshot::Sender<Result<WorkerReady, Failure>>>,
    ) {
        let key = (repository.environment, repository.name.clone());
        let number = state.pools.add(&key, Role::Template, repository.generation, now());
        if imported.is_none() {
            state.pools.pool(&key).template = Some(number);
        }
        self.launch(state, repository, number, "template", &[], imported);
    }

    /// Starts an executor that imports the module itself.
    pub(super) fn start_fresh(&self, state: &mut State, repository: &Repository) {
        let key = (repository.environment, repository.name.clone());
        let number = state.pools.add(&key, Role::Executor, repository.generation, now());
        state.pools.pool(&key).starting.insert(number);
        let Some([stdout, stderr]) = self.open_outputs(state, number) else { return };
        let own = [
            ("IBID_WORKER_STDOUT", stdout),
            ("IBID_WORKER_STDERR", stderr),
            ("IBID_WORKER_NUMBER", number.to_string()),
        ];
        self.launch(state, repository, number, "executor", &own, None);
    }

    /// Starts the program that hosts a repository itself. `imported` is told what it declares.
    pub(super) fn start_program(
        &self,
        state: &mut State,
        repository: &Repository,
        imported: Option<oneshot::Sender<Result<WorkerReady, Failure>>>,
    ) -> u32 {
        let key = (repository.environment, repository.name.clone());
        let number = state.pools.add(&key, Role::Program, repository.generation, now());
        state.pools.pool(&key).starting.insert(number);
        let Some([stdout, stderr]) = self.open_outputs(state, number) else { return number };
        let own = [("IBID_WORKER_STDOUT", stdout), ("IBID_WORKER_STDERR", stderr)];
        // Looked at before: a change in between has it started once more.
        let file = repository.launch.as_ref().and_then(|launch| Stamp::at(Path::new(&launch.program)));
        if let Some(worker) = state.pools.workers.get_mut(&number) {
            worker.program = file;
        }
        self.launch(state, repository, number, "program", &own, imported);
        number
    }

    fn launch(
        &self,
        state: &mut State,
        repository: &Repository,
        number: u32,
        role: &str,
        more: &[(&'static str, String)],
        imported: Option<oneshot::Sender<Result<WorkerReady, Failure>>>,
    ) {
        let Some(launch) = &repository.launch else { return };
        let token = format!("{number}-{}", self.started);
        let mut own = self.process_variables(&token, repository, role);
        own.extend(more.iter().cloned());
        let log_path = self.spool(&format!("w{number}.log"));
        let started = File::create(&log_path)
            .map_err(|error| format!("cannot write {}: {error}", log_path.display()))
            .and_then(|log| workers::start_host(launch, &self.package, log, &own).map_err(|error| error.to_string()));
        match started {
            Ok(child) => {
                let pid = child.id();
                if let Some(worker) = state.pools.workers.get_mut(&number) {
                    worker.pid = Some(pid);
                }
                state.templates.insert(token, Arriving { worker: number, imported });
                self.watch(number, pid);
            }
            Err(message) => {
                if let Some(imported) = imported {
                    // A registration that has gone away needs no answer.
                    let _gone = imported.send(Err(Failure::new("StartError", message)));
                } else {
                    eprintln!("ibidd: {message}");
                    let key = (repository.environment, repository.name.clone());
                    self.cannot_start(state, &key, Failure::new("StartError", message));
                }
                state.pools.withdraw(number);
                state.pools.workers.remove(&number);
            }
        }
    }

    /// A process could not be started, or ended before it was ready: another is tried a little later. After a few
    /// times what waits for it fails, and says why.
    fn cannot_start(&self, state: &mut State, key: &RepositoryKey, failure: Failure) {
        self.start_failed(state, key);
        if state.pools.pool(key).failures >= STARTS_MAX {
            state.pools.pool(key).failures = 0;
            let message = format!("{} cannot be started, tried {STARTS_MAX} times: {}", key.1, failure.message);
            // As in an account of any error, what went wrong comes last.
            let told = failure.traceback.as_ref().map(|told| format!("{told}\n{}: {message}", failure.kind));
            state.decide(|engine, t| engine.fail_due(t, key, &Failure { message, traceback: told, ..failure }));
            self.wake();
        }
    }

    pub(super) fn start_failed(&self, state: &mut State, key: &RepositoryKey) {
        let pool = state.pools.pool(key);
        pool.failures += 1;
        let wait = (100 << pool.failures.min(7)).min(START_BACKOFF_MAX);
        pool.not_before = now() + wait;
        if let Some(own) = self.me.upgrade() {
            tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_millis(wait.cast_unsigned() + 1)).await;
                own.wake();
            });
        }
    }

    fn open_outputs(&self, state: &mut State, number: u32) -> Option<[String; 2]> {
        let paths = [self.spool(&format!("w{number}.out")), self.spool(&format!("w{number}.err"))];
        for path in &paths {
            // Left by a daemon that was killed.
            let _gone = std::fs::remove_file(path);
        }
        let opened = workers::open_output(&paths[0]).and_then(|out| Ok([out, workers::open_output(&paths[1])?]));
        match opened {
            Ok(outputs) => {
                let outputs = Rc::new(outputs);
                let readers = self.read_outputs(number, &outputs);
                if let Some(worker) = state.pools.workers.get_mut(&number) {
                    worker.outputs = Some(outputs);
                    worker.readers = Some(readers);
                }
                Some(paths.map(|path| path.display().to_string()))
            }
            Err(error) => {
                eprintln!("ibidd: cannot make FIFOs in {}: {error}", self.spool("").display());
                self.give_up_starting(state, number);
                None
            }
        }
    }

    pub(super) fn fork(&self, state: &mut State, key: &RepositoryKey, template: u32) {
        let Some(worker) = state.pools.workers.get(&template) else { return };
        let (Standing::Ready, Some(session), generation) = (worker.standing, worker.session, worker.generation) else {
            return;
        };
        let number = state.pools.add(key, Role::Executor, generation, now());
        state.pools.pool(key).starting.insert(number);
        let Some([stdout, stderr]) = self.open_outputs(state, number) else { return };
        let order = Order::Fork(Fork { worker: number, stdout, stderr });
        state.send(&unasked(session), Outgoing::Notice(Notice::Order(order)));
        let own = self.me.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(FORK_PATIENCE).await;
            if let Some(own) = own.upgrade() {
                let mut state = own.state.borrow_mut();
                let arrived = state
                    .pools
                    .workers
                    .get(&number)
                    .is_none_or(|worker| worker.session.is_some() || worker.pid.is_some());
                if !arrived {
                    own.give_up_starting(&mut state, number);
                }
            }
        });
    }

    /// A process that was to start never will: another is tried, a little later.
    pub(super) fn give_up_starting(&self, state: &mut State, number: u32) {
        state.pools.withdraw(number);
        if let Some(worker) = state.pools.workers.remove(&number) {
            self.start_failed(state, &worker.key);
        }
    }

    /// Reads what an executor writes for as long as it lives.
    fn read_outputs(&self, number: u32, outputs: &Rc<[Output; 2]>) -> Readers {
        let readers = [(0, Stream::Out), (1, Stream::Err)].map(|(index, stream)| {
            let (own, outputs) = (self.me.clone(), outputs.clone());
            let reading = tokio::task::spawn_local(async move {
                while outputs[index].readable().await.is_ok() {
                    let Some(owner) = own.upgrade() else { return };
                    let read = |buffer: &mut [u8]| outputs[index].try_read(buffer);
                    owner.take_output(&mut owner.state.borrow_mut(), number, stream, 1, read);
                    tokio::task::yield_now().await;
                }
            });
            reading.abort_handle()
        });
        Readers::new(readers)
    }

    pub(super) fn watch(&self, number: u32, pid: u32) {
        self.started_worker.notify_one();
        let Some(own) = self.me.upgrade() else { return };
        tokio::task::spawn_local(async move {
            let mut exit = workers::wait_for_exit(pid).await;
            if exit == Exit::Unknown {
                // Its template is its parent and may tell how it ended.
                tokio::time::sleep(CAUSE_PATIENCE).await;
                exit = own.told_exit(pid).unwrap_or(exit);
            }
            own.worker_gone(number, exit);
        });
    }

    fn told_exit(&self, pid: u32) -> Option<Exit> {
        let path = self.spool(&format!("exit-{pid}"));
        let text = std::fs::read_to_string(&path).ok()?;
        // It is read once.
        let _gone = std::fs::remove_file(&path);
        let status: i32 = text.trim().parse().ok()?;
        Some(if status < 0 { Exit::Signal(-status) } else { Exit::Code(status) })
    }

    fn worker_gone(&self, number: u32, exit: Exit) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let running: Vec<_> = match state.pools.workers.get(&number) {
            // The newest first: they are lost themselves, not withdrawn by their callers.
            Some(worker) => worker.executions.iter().rev().copied().collect(),
            None => return,
        };
        for execution in running {
            self.finish_output(state, number, execution);
            state.decide(|engine, t| engine.abandon(t, execution, &exit.to_string()));
        }
        state.pools.withdraw(number);
        let log = self.spool(&format!("w{number}.log"));
        let failure = || {
            let told = std::fs::read_to_string(&log).unwrap_or_default();
            let told: String = told.trim().chars().rev().take(2000).collect::<Vec<_>>().into_iter().rev().collect();
            let mut failure = Failure::new("StartError", format!("it ended before it said what it declares: {exit}"));
            failure.traceback = Some(told).filter(|told| !told.is_empty());
            failure
        };
        if let Some(imported) = self.take_importing(state, number) {
            // A registration that has gone away needs no answer.
            let _gone = imported.send(Err(failure()));
        } else if let Some(worker) = state.pools.workers.get(&number)
            && worker.standing == Standing::Starting
        {
            let key = worker.key.clone();
            self.cannot_start(state, &key, failure());
        }
        state.templates.retain(|_, arriving| arriving.worker != number);
        let gone = state.pools.workers.remove(&number);
        if let Some(template) = gone.filter(|worker| worker.role == Role::Template) {
            // What it was asked to fork will not come.
            let forks = state.pools.workers.values().filter(|worker| {
                worker.key == template.key
                    && worker.generation == template.generation
                    && worker.pid.is_none()
                    && worker.session.is_none()
            });
            let forks: Vec<_> = forks.map(|worker| worker.number).collect();
            for fork in forks {
                state.pools.withdraw(fork);
                state.pools.workers.remove(&fork);
            }
        }
        // It exists only for processes that the daemon started itself.
        let _gone = std::fs::remove_file(log);
        self.wake();
    }
}
