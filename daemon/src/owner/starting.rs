//! Registering modules, and stopping the daemon.

use std::time::Duration;

use ibid::model::{CommandLine, Failure, Launch, Parameter, RegisteredTask, Repository, Shell, ShellTask};
use ibid::protocol::{Refused, Register, Registered, Reply, Scope, Shutdown, TargetView, WorkerReady};
use tokio::sync::oneshot;

use super::commands::{SHELL, spec_of};
use super::requests::target_views;
use super::working::{check_names, check_targets};
use super::{Owner, State, When};
use crate::server::Ticket;
use crate::workers::{Role, Standing};

/// How many executions of a program run at once where nothing is said: most are futures, and one that waits
/// for the network costs nothing.
const PROGRAM_CONCURRENCY: u32 = 64;

impl Owner {
    /// Imports modules in new processes and, when that has worked, makes their targets known.
    pub(super) fn register(&self, state: &mut State, ticket: &Ticket, register: Register) {
        if state.stopping {
            let refused = Refused::new("stopping", "the daemon is stopping; try again in a moment");
            return self.reply(state, ticket, Err(refused), When::Now);
        }
        let Some(own) = self.me.upgrade() else { return };
        let ticket = ticket.clone();
        tokio::task::spawn_local(async move {
            let registered = own.import_all(register).await;
            let mut state = own.state.borrow_mut();
            own.reply(&mut state, &ticket, registered.map(Reply::Register), When::Synced);
            own.wake();
        });
    }

    async fn import_all(&self, register: Register) -> Result<Registered, Refused> {
        if register.modules.is_empty() && register.programs.is_empty() && register.tasks.is_none() {
            return Err(Refused::new(
                "bad_request",
                "neither a module nor a program was named: 'ibid register my.tasks'",
            ));
        }
        if register.concurrency == Some(0) {
            return Err(Refused::new("bad_request", "a concurrency of 0 would run nothing: give 1 or more"));
        }
        check_tasks(register.tasks.as_deref().unwrap_or_default())?;
        if !register.modules.is_empty() && register.interpreter.is_empty() {
            return Err(Refused::new(
                "bad_request",
                "'interpreter' must be the path of a Python to import modules with",
            ));
        }
        let mut hosts: Vec<_> = register.modules.iter().map(|module| provisional(&register, module)).collect();
        for program in &register.programs {
            hosts.push(of_program(&register, program)?);
        }
        let mut imported = Vec::new();
        let mut programs = Vec::new();
        for repository in hosts {
            match self.import(&register, repository, &mut programs).await {
                Ok(one) => imported.push(one),
                Err(refused) => {
                    let mut state = self.state.borrow_mut();
                    programs.iter().for_each(|number| self.program_registered(&mut state, *number, false));
                    return Err(refused);
                }
            }
        }
        let mut registered = self.record(imported);
        {
            let mut state = self.state.borrow_mut();
            programs.iter().for_each(|number| self.program_registered(&mut state, *number, true));
        }
        if let Some(tasks) = register.tasks {
            registered.targets.extend(self.record_tasks(
                &register.scope,
                &register.directory,
                &register.variables,
                tasks,
            )?);
        }
        Ok(registered)
    }

    /// Starts what hosts a repository, and hears what it declares. `programs` gets the process, of a program.
    async fn import(
        &self,
        register: &Register,
        repository: Repository,
        programs: &mut Vec<u32>,
    ) -> Result<(Repository, WorkerReady), Refused> {
        let name = repository.name.clone();
        let (sender, receiver) = oneshot::channel();
        let environment = {
            let mut state = self.state.borrow_mut();
            let environment = state.engine.create_environment(&register.scope.project, &register.scope.environment);
            let key = (environment, name.clone());
            let generation = state.engine.repository(&key).map_or(1, |known| known.generation + 1);
            let repository = Repository { environment, generation, ..repository.clone() };
            if repository.launch.as_ref().is_some_and(Launch::is_own_program) {
                programs.push(self.start_program(&mut state, &repository, Some(sender)));
            } else {
                self.start_template(&mut state, &repository, Some(sender));
            }
            environment
        };
        let ready = receiver.await.map_err(|_| Refused::new("internal", "the import was given up"))?;
        let ready = ready.map_err(|failure| import_refused(&name, &failure))?;
        check_declared(&name, &ready)?;
        Ok((Repository { environment, ..repository }, ready))
    }

    /// Puts shell tasks in place of those that were registered from the same directory.
    fn record_tasks(
        &self,
        scope: &Scope,
        project: &str,
        variables: &[(String, String)],
        tasks: Vec<ShellTask>,
    ) -> Result<Vec<TargetView>, Refused> {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        let known = state.engine.environment(&scope.project, &scope.environment).map(|known| known.number);
        let key = (known.unwrap_or(0), SHELL.to_owned());
        let repository = known.and_then(|_| state.engine.repository(&key)).cloned();
        if repository.is_none() && tasks.is_empty() {
            return Ok(Vec::new());
        }
        let environment = state.engine.create_environment(&scope.project, &scope.environment);
        let mut kept = repository.and_then(|repository| repository.shell).unwrap_or_default().tasks;
        kept.retain(|known| known.project != project && !tasks.iter().any(|task| task.name == known.task.name));
        kept.extend(tasks.into_iter().map(|task| RegisteredTask {
            task,
            project: project.to_owned(),
            variables: variables.to_vec(),
        }));
        kept.sort_by(|a, b| a.task.name.cmp(&b.task.name));
        state.engine.register(Repository {
            environment,
            name: SHELL.to_owned(),
            targets: kept.iter().map(|known| spec_of(&known.task)).collect(),
            concurrency: usual_concurrency(),
            launch: None,
            generation: 0,
            shell: Some(Shell { tasks: kept }),
        });
        let views = target_views(state, environment);
        Ok(views.into_iter().filter(|view| view.target.starts_with("shell/")).collect())
    }

    /// Everything was imported: from now on calls run this code.
    fn record(&self, imported: Vec<(Repository, WorkerReady)>) -> Registered {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        let mut registered = Registered { targets: Vec::new(), notes: Vec::new() };
        let mut names = Vec::new();
        for (mut repository, ready) in imported {
            let key = (repository.environment, repository.name.clone());
            repository.targets = ready.targets;
            let generation = state.engine.register(repository);
            self.dismiss_older(state, &key, generation);
            state.decide(|engine, t| engine.renew_sensors(t, Some(&key)));
            let template = state
                .pools
                .workers
                .values()
                .rev()
                .find(|worker| {
                    worker.role == Role::Template
                        && worker.standing == Standing::Ready
                        && worker.key == key
                        && worker.generation == generation
                })
                .map(|worker| worker.number);
            let pool = state.pools.pool(&key);
            pool.template = template;
            pool.failures = 0;
            pool.not_before = 0;
            if let Some(reason) = &ready.unforkable {
                registered.notes.push(format!("{}: {reason}; its executors start afresh, which is slower", key.1));
            }
            pool.unforkable = ready.unforkable;
            names.push(key);
        }
        for (environment, name) in names {
            let of_this = target_views(state, environment)
                .into_iter()
                .filter(|view| view.target.rsplit_once('/').is_some_and(|(repository, _)| repository == name));
            registered.targets.extend(of_this);
        }
        registered
    }

    /// Refuses new starts, lets running work end for a while, then ends the daemon.
    pub(super) fn begin_stop(&self, state: &mut State, shutdown: &Shutdown) {
        let patience = match (shutdown.now, shutdown.drain) {
            (true, _) => Duration::ZERO,
            (false, Some(drain)) => Duration::from_millis(drain),
            (false, None) => self.settings.drain,
        };
        if state.stopping && !shutdown.now {
            return;
        }
        state.stopping = true;
        state.engine.drain_work();
        // They never end by themselves, and what they start would not run any more.
        state.decide(|engine, t| engine.interrupt_sensors(t, "the daemon is stopping"));
        let Some(own) = self.me.upgrade() else { return };
        tokio::task::spawn_local(async move {
            let deadline = tokio::time::Instant::now() + patience;
            while own.is_working() && tokio::time::Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            own.end().await;
        });
    }

    /// Begins to stop, as a signal asks.
    pub fn stop_on_signal(&self, now: bool) {
        self.begin_stop(&mut self.state.borrow_mut(), &Shutdown { now, drain: None });
        self.wake();
    }

    fn is_working(&self) -> bool {
        self.state.borrow().engine.active_runs().any(|run| run.counts.running > 0)
    }

    /// Abandons what still runs, commits, and lets the process end.
    async fn end(&self) {
        {
            let mut guard = self.state.borrow_mut();
            let state = &mut *guard;
            let running: Vec<_> = state
                .engine
                .live_steps()
                .filter(|step| step.state() == ibid::model::State::Running)
                .map(ibid::model::Step::newest)
                .collect();
            for execution in running {
                state.decide(|engine, t| engine.abandon(t, execution, "the daemon was stopped while it ran"));
            }
        }
        self.barrier().await;
        self.kill_workers();
        for session in self.state.borrow().sessions.values() {
            session.outbox.close();
        }
        // What was said last is on its way; the connections end after it.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.stop.notify_one();
    }

    /// Stops idle workers from time to time; returns when the daemon has stopped.
    pub async fn tend(&self) {
        let interval = (self.settings.worker_idle / 2).clamp(Duration::from_millis(50), Duration::from_secs(30));
        loop {
            let any = !self.state.borrow().pools.workers.is_empty();
            if any {
                tokio::time::sleep(interval).await;
                self.dismiss_idle();
            } else {
                // Nothing to tend: sleep until something is decided costs no wake-ups.
                self.started_worker.notified().await;
            }
        }
    }
}

fn provisional(register: &Register, module: &str) -> Repository {
    let concurrency = register.concurrency.unwrap_or_else(usual_concurrency);
    Repository {
        environment: 0,
        name: module.to_owned(),
        targets: Vec::new(),
        concurrency: concurrency.max(1),
        launch: Some(Launch {
            module: module.to_owned(),
            program: register.interpreter.clone(),
            directory: register.directory.clone(),
            variables: register.variables.clone(),
            fork: register.fork,
        }),
        generation: 0,
        shell: None,
    }
}

/// The repository of a program: it has the name of its file.
fn of_program(register: &Register, program: &str) -> Result<Repository, Refused> {
    let path = std::path::Path::new(program);
    let name = path.file_name().and_then(std::ffi::OsStr::to_str).filter(|_| path.is_absolute());
    let Some(name) = name else {
        let message = format!("'{}' is no absolute path of a program", program.escape_debug());
        return Err(Refused::new("bad_request", message));
    };
    let mut repository = provisional(register, name);
    repository.concurrency = register.concurrency.unwrap_or(PROGRAM_CONCURRENCY);
    if let Some(launch) = &mut repository.launch {
        (launch.module, launch.program) = (String::new(), program.to_owned());
    }
    Ok(repository)
}

/// Refuses what declares nothing, or something that has no name.
pub(super) fn check_declared(name: &str, ready: &WorkerReady) -> Result<(), Refused> {
    check_names(name, &ready.targets)?;
    if ready.targets.is_empty() {
        let message = format!(
            "{name} was started but declares no targets: decorate functions with @task or @workflow from ibid \
             (in Rust: #[ibid::task] or #[ibid::workflow])"
        );
        return Err(Refused::new("no_targets", message));
    }
    Ok(())
}

/// How many executions of a repository run at once where nothing is said.
fn usual_concurrency() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u32::try_from(processors.max(4)).unwrap_or(4)
}

/// Refuses tasks that could not run.
fn check_tasks(tasks: &[ShellTask]) -> Result<(), Refused> {
    let specs: Vec<_> = tasks.iter().map(spec_of).collect();
    check_targets(SHELL, &specs)?;
    for task in tasks {
        let bad = |what: &str| Err(Refused::new("bad_request", format!("the task '{}' {what}", task.name)));
        match task.run.read() {
            Ok(CommandLine::Words(words)) if words.first().is_none_or(String::is_empty) => {
                return bad("runs nothing: 'run' is a list of words or one line for the shell");
            }
            Ok(CommandLine::Shell(line)) if line.trim().is_empty() => return bad("runs an empty line"),
            Ok(CommandLine::Shell(line)) if quotes_a_parameter(&line, task) => {
                return bad(
                    "has a parameter within quotes in 'run': write {name} without them, it is quoted when it is filled in",
                );
            }
            Ok(_) => {}
            Err(_) => return bad("has no 'run' that is a list of words or one line for the shell"),
        }
        if !task.directory.starts_with('/') {
            return bad("has a directory that is not absolute");
        }
    }
    Ok(())
}

/// Whether the place of a parameter stands within quotes, where its own would end them.
fn quotes_a_parameter(line: &str, task: &ShellTask) -> bool {
    let mut quote = None;
    let mut characters = line.char_indices();
    while let Some((at, character)) = characters.next() {
        match (character, quote) {
            ('\\', None | Some('"')) => {
                characters.next();
            }
            ('\'' | '"', None) => quote = Some(character),
            (_, Some(open)) if open == character => quote = None,
            ('{', Some(_)) => {
                let named = |parameter: &Parameter| line[at + 1..].starts_with(&format!("{}}}", parameter.name));
                if !line[..at].ends_with('$') && task.parameters.iter().any(named) {
                    return true;
                }
            }
            _ => {}
        }
    }
    false
}

fn import_refused(module: &str, failure: &Failure) -> Refused {
    let verb = if failure.kind == "StartError" { "started" } else { "imported" };
    let mut message = format!("{module} could not be {verb}: {}: {}", failure.kind, failure.message);
    if let Some(traceback) = &failure.traceback {
        message.push('\n');
        message.push_str(traceback.trim_end());
    }
    Refused::new("import_failed", message)
}
