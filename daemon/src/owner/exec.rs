//! `exec`: a command that was given whole becomes a step.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use ibid::model::{
    Cache, CallOptions, CommandSetting, ExecutionId, Id, Json, Link, Parameter, ParameterKind, Repository, Shell,
    State as Standing, Stdin, StepId, Stored, TargetKind, TargetSpec, Timestamp, Word,
};
use ibid::protocol::{Exec, ExecSignal, ExecSignalled, ExecStarted, Outcome, Refused, Reply, UseCache};

use ibid::blocking::{PUBLISHED_MAX_BYTES, Place, PublishedResult, Taken, clear_published};

use super::commands::EXEC;
use super::requests::{keep_argument, refused};
use super::{Owner, State, When, views};
use crate::engine::{Call, Changes, Start, Turn};
use crate::server::Ticket;

/// How many results are published at once.
const PUBLISHED_AT_ONCE: usize = 10_000;

/// How often notes are looked for while somebody watches.
const COLLECT_EVERY: Duration = Duration::from_millis(500);

impl Owner {
    /// Runs a command. Its input files are read on another thread first.
    pub(super) fn exec(&self, state: &mut State, ticket: &Ticket, exec: Exec) {
        if exec.inputs.is_empty() {
            return self.exec_with(state, ticket, exec, Json::null());
        }
        let Some(own) = self.me.upgrade() else { return };
        let (ticket, inputs) = (ticket.clone(), self.inputs.clone());
        let (directory, patterns) = (exec.directory.clone(), exec.inputs.clone());
        tokio::task::spawn_local(async move {
            let digest = move || inputs.digest(Path::new(directory.as_os()), &patterns);
            let digested = tokio::task::spawn_blocking(digest).await;
            let mut state = own.state.borrow_mut();
            if !state.sessions.contains_key(&ticket.session) {
                // Whoever asked has gone meanwhile.
                return;
            }
            match digested {
                Ok(Ok(digests)) => own.exec_with(&mut state, &ticket, exec, digests),
                Ok(Err(message)) => own.reply(&mut state, &ticket, Err(Refused::new("inputs", message)), When::Now),
                Err(_) => {
                    let refused = Refused::new("internal", "reading the inputs failed in an unforeseen way");
                    own.reply(&mut state, &ticket, Err(refused), When::Now);
                }
            }
        });
    }

    fn exec_with(&self, state: &mut State, ticket: &Ticket, exec: Exec, inputs: Json) {
        let place = PublishedResult::place(self.blobs.spool(), &exec);
        let started = self.start_exec(state, exec, inputs, None);
        let started = started.and_then(|step| self.exec_started(state, ticket, step, place));
        let (reply, when) = match started {
            Ok((started, when)) => (Ok(Reply::Exec(started)), when),
            Err(refused) => (Err(refused), When::Now),
        };
        self.reply(state, ticket, reply, when);
        self.wake();
    }

    /// What an earlier daemon published is published no more, once it is known who took it.
    pub(super) fn begin_publishing(&self) {
        self.collect_taken(&mut self.state.borrow_mut());
        if let Err(error) = clear_published(self.blobs.spool()) {
            eprintln!("ibidd: cannot publish results of commands, which makes their hits slower: {error}");
        }
    }

    /// Notes who has taken published results since this was last done.
    pub(super) fn collect_taken(&self, state: &mut State) {
        // A daemon that stops takes no starts, and so no notes of them: the next one does.
        if state.stopping || !Taken::any(self.blobs.spool()) {
            return;
        }
        let notes = Taken::collect(self.blobs.spool()).unwrap_or_else(|error| {
            eprintln!("ibidd: cannot read who has taken results of commands: {error}");
            Vec::new()
        });
        for Taken { at, source, exec } in notes {
            // Where it has been forgotten or pruned meanwhile there is nothing left to note.
            let _gone = self.start_exec(state, exec, Json::null(), Some((source, at)));
        }
        self.wake();
    }

    /// Looks for notes from time to time where something is published and somebody watches.
    pub(super) fn watch_taken(&self, state: &mut State) {
        if state.collecting || !state.is_watched_publishing() {
            return;
        }
        let Some(own) = self.me.upgrade() else { return };
        state.collecting = true;
        tokio::task::spawn_local(async move { own.collect_while_watched().await });
    }

    /// Looks for notes while somebody watches; they do not wake the daemon.
    async fn collect_while_watched(&self) {
        let mut interval = tokio::time::interval(COLLECT_EVERY);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let mut state = self.state.borrow_mut();
            self.collect_taken(&mut state);
            if !state.is_watched_publishing() {
                state.collecting = false;
                return;
            }
        }
    }

    fn start_exec(
        &self,
        state: &mut State,
        exec: Exec,
        inputs: Json,
        taken: Option<(ExecutionId, Timestamp)>,
    ) -> Result<StepId, Refused> {
        if state.stopping && exec.caller.is_none() {
            return Err(Refused::new(
                "stopping",
                "the daemon is stopping and takes no new commands; try again in a moment",
            ));
        }
        check(&exec)?;
        let environment = self.exec_environment(state, &exec)?;
        let target = exec_target(state, environment, &exec.command[0]);
        let no_form = |error: serde_json::Error| Refused::new("bad_request", error.to_string());
        let variable = |name: &String| {
            let wanted = name.as_bytes();
            exec.variables.iter().rev().find(|(known, _)| known.0 == wanted).map(|(_, value)| value)
        };
        let named: BTreeMap<&String, Option<&Word>> =
            exec.key_variables.iter().map(|name| (name, variable(name))).collect();
        let named = if named.is_empty() { Json::null() } else { Json::from_serialize(&named).map_err(no_form)? };
        let stdin = exec.stdin_value.clone().unwrap_or_else(Json::null);
        let values = [
            Json::from_serialize(&exec.command).map_err(no_form)?,
            Json::from_serialize(&exec.directory).map_err(no_form)?,
            named,
            inputs,
            stdin,
        ];
        let mut arguments = Vec::with_capacity(values.len());
        for value in values {
            arguments.push(keep_argument(state, value)?);
        }
        let options = CallOptions {
            cache: match exec.cache {
                None => Cache::Off,
                Some(UseCache::AsDeclared) => Cache::On,
                Some(UseCache::MaxAge(age)) => Cache::MaxAge(age),
            },
            cache_key: exec.key.clone(),
            cache_namespace: exec.namespace.clone(),
            // Where failures count as results they are nobody else's.
            cache_version: exec.cache_failures.then(|| "failures".to_owned()),
            ..CallOptions::default()
        };
        let setting = CommandSetting {
            variables: exec.variables,
            umask: exec.umask,
            stdin: exec.stdin,
            keep_failures: exec.cache_failures,
            inputs: exec.inputs,
        };
        let source = taken.and_then(|(source, _)| state.decide(|engine, t| engine.step(t, source.step)));
        let command = match source.and_then(|source| source.command) {
            // Whoever took a published result did not say how it would have run it.
            Some(command) => command,
            None => self.keep_setting(state, Json::from_serialize(&setting).map_err(no_form)?)?,
        };
        match exec.caller {
            Some(caller) => {
                let call = Call { target, arguments, options, group: None, command: Some(command) };
                let called = state.decide(|engine, t| engine.call(t, caller, vec![call])).map_err(refused)?;
                let called = called.into_iter().next();
                called.map(|called| called.step).ok_or_else(|| Refused::new("internal", "the call was not made"))
            }
            None => {
                let start = Start {
                    environment,
                    target,
                    arguments,
                    options,
                    token: exec.token,
                    idempotency_key: None,
                    command: Some(command),
                    taken: taken.map(|(source, _)| source),
                };
                let at = taken.map(|(_, at)| at);
                let started = state.decide(|engine, t| engine.start(Turn { now: at.unwrap_or(t.now), ..t }, start));
                started.map(|started| started.run.root()).map_err(refused)
            }
        }
    }

    /// How a command is run is nearly always as the last one from the same shell: then it is kept already.
    fn keep_setting(&self, state: &mut State, setting: Json) -> Result<Stored, Refused> {
        // While something is pruned every use must be seen.
        let last = state.last_setting.as_ref().filter(|_| state.pruning.is_none());
        if let Some((_, kept)) = last.filter(|(text, _)| *text == setting) {
            return Ok(kept.clone());
        }
        let kept = keep_argument(state, setting.clone())?.value;
        state.last_setting = state.pruning.is_none().then(|| (setting, kept.clone()));
        Ok(kept)
    }

    fn exec_started(
        &self,
        state: &mut State,
        ticket: &Ticket,
        step: StepId,
        published: Option<Place>,
    ) -> Result<(ExecStarted, When), Refused> {
        let outcome = state.decide(|engine, t| engine.outcome(t, step));
        if let Some(outcome) = outcome {
            // Nothing was promised that is not on disk, unless the result itself is not yet.
            let when = if super::executions::is_pending(state, &outcome) { When::Synced } else { When::Now };
            let outcome: Outcome = views::outcome(state, &outcome);
            if let Some(place) = published.filter(|_| when == When::Now) {
                publish(state, step, &outcome, place);
                self.watch_taken(state);
            }
            return Ok((ExecStarted { run: step.run, step, outcome: Some(outcome), recording: None }, when));
        }
        let live = state.engine.live_step(step);
        let execution = live.map_or_else(|| step.attempt(1), ibid::model::Step::newest);
        let link = live.and_then(|step| step.attempts.last()?.link);
        if let Some(session) = state.sessions.get_mut(&ticket.session) {
            session.commands.insert(execution);
        }
        let writing = match link {
            Some(Link::Leader(leader)) => leader,
            _ => execution,
        };
        let recording = self.recording(writing);
        if writing == execution {
            // Whoever is told its name can open it before the command begins.
            let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&recording);
            made.map_err(|error| Refused::new("internal", format!("cannot write {}: {error}", recording.display())))?;
        }
        let recording = recording.exists().then(|| recording.display().to_string());
        Ok((ExecStarted { run: step.run, step, outcome: None, recording }, When::Synced))
    }

    fn exec_environment(&self, state: &mut State, exec: &Exec) -> Result<u32, Refused> {
        if let Some(caller) = exec.caller
            && let Some(run) = state.engine.active_run(caller.step.run)
        {
            return Ok(run.environment);
        }
        let usual = exec.scope == ibid::protocol::Scope::default();
        if exec.create || usual {
            return Ok(state.engine.create_environment(&exec.scope.project, &exec.scope.environment));
        }
        self.environment(state, &exec.scope)
    }

    /// Hands a signal on, or withdraws from a command that others want, too.
    pub(super) fn exec_signal(
        &self,
        state: &mut State,
        ticket: &Ticket,
        signal: &ExecSignal,
    ) -> Result<Reply, Refused> {
        let step = signal.step;
        let newest = state.engine.live_step(step).map(ibid::model::Step::newest);
        let own = state
            .sessions
            .get(&ticket.session)
            .and_then(|session| session.commands.iter().find(|own| Some(**own) == newest).copied());
        let Some(own) = own else {
            let message = format!("{step} is no command that was started on this connection and still runs");
            return Err(Refused::new("not_running", message));
        };
        let running = state.engine.live_step(step).filter(|step| step.state() == Standing::Running);
        let execution = running.map(ibid::model::Step::newest);
        let alone = execution.is_some_and(|execution| state.engine.follower_count(execution) == 0);
        if let Some(execution) = execution.filter(|_| alone)
            && self.interrupt_command(state, execution, signal.signal)
        {
            return Ok(Reply::ExecSignal(ExecSignalled { delivered: true }));
        }
        if let Some(session) = state.sessions.get_mut(&ticket.session) {
            session.commands.remove(&own);
        }
        self.withdraw(state, own, "its caller was interrupted");
        Ok(Reply::ExecSignal(ExecSignalled { delivered: false }))
    }

    /// Its client does not want a command any more.
    pub(super) fn withdraw(&self, state: &mut State, execution: ExecutionId, why: &str) {
        let step = execution.step;
        // One that was run again since is somebody else's.
        if state.engine.live_step(step).is_some_and(|step| step.newest() == execution) {
            // It may have ended meanwhile, which is as well.
            let _ended = state.decide(|engine, t| engine.cancel(t, Id::Step(step), false, why));
        }
    }
}

/// Lays an answer down where clients look before they ask.
fn publish(state: &mut State, step: StepId, outcome: &Outcome, place: Place) {
    let taken = state.decide(|engine, t| engine.step(t, step));
    let Some(identity) = taken.and_then(|step| step.identity) else { return };
    let (Some(value), Some(source)) = (&outcome.value, outcome.execution) else { return };
    // One that only wins where a newer is too old is not everybody's answer.
    let environment = state.decide(|engine, t| engine.run(t, step.run)).map_or(0, |run| run.environment);
    if state.decide(|engine, t| engine.latest(t, environment, &identity.digest)) != Some(source) {
        return;
    }
    let made = state.decide(|engine, t| engine.step(t, source.step));
    let completed = made.and_then(|step| step.attempt(source.attempt)?.ended());
    let known = state.published.get(&identity.digest).is_some_and(|places| places.contains(&place));
    if known || value.as_str().len() > PUBLISHED_MAX_BYTES || state.published.len() >= PUBLISHED_AT_ONCE {
        return;
    }
    if let Some(completed) = completed
        && (PublishedResult { source, completed, value: value.clone() }).write(&place).is_ok()
    {
        state.published.entry(identity.digest).or_default().insert(place);
    }
}

impl State {
    fn is_watched_publishing(&self) -> bool {
        !self.published.is_empty() && self.sessions.values().any(|session| !session.subscriptions.is_empty())
    }

    /// Takes back what was published about identities of which something has changed in the open turn.
    pub(super) fn take_back_published(&mut self, changes: &Changes) {
        if self.published.is_empty() {
            return;
        }
        let live = changes.live.iter().filter_map(|step| step.identity.as_ref()).map(|identity| identity.digest);
        let changed: Vec<_> = live.chain(changes.entries.iter().map(|((_, identity), _)| *identity)).collect();
        let places: Vec<_> = if changes.environments.is_empty() {
            changed.iter().filter_map(|identity| self.published.remove(identity)).flatten().collect()
        } else {
            std::mem::take(&mut self.published).into_values().flatten().collect()
        };
        places.iter().for_each(Place::clear);
    }
}

fn check(exec: &Exec) -> Result<(), Refused> {
    let bad = |message: &str| Err(Refused::new("bad_request", message));
    if exec.command.first().is_none_or(|program| program.0.is_empty()) {
        return bad("no command was given: 'ibid exec --cache -- make site'");
    }
    if !exec.directory.0.starts_with(b"/") {
        return bad("the directory of a command must be absolute");
    }
    if exec.command.iter().chain([&exec.directory]).any(|word| word.0.contains(&0)) {
        return bad("a command cannot have a zero byte in its words");
    }
    match (&exec.stdin, &exec.stdin_value, exec.cache) {
        (Stdin::Argument, None, _) | (Stdin::Empty | Stdin::File { .. }, Some(_), _) => {
            bad("'stdin_value' goes with 'stdin' as \"argument\", and the other way round")
        }
        (Stdin::File { .. }, _, Some(_)) => bad("what is cached cannot read a file: give its text as 'stdin_value'"),
        _ if exec.cache.is_none() && (exec.key.is_some() || !exec.inputs.is_empty() || exec.cache_failures) => {
            bad("a key, inputs and failures that are kept have a meaning only together with 'cache'")
        }
        _ => Ok(()),
    }
}

/// The target that a program is, made known where it is new.
fn exec_target(state: &mut State, environment: u32, program: &Word) -> String {
    let text = program.text();
    let name = text.rsplit('/').next().unwrap_or_default();
    let name: String =
        name.chars().map(|c| if c.is_control() || c.is_whitespace() { '_' } else { c }).take(60).collect();
    let name = if name.is_empty() { "_".to_owned() } else { name };
    let target = format!("{EXEC}/{name}");
    if state.engine.target(environment, &target).is_none() {
        let key = (environment, EXEC.to_owned());
        let mut repository = state.engine.repository(&key).cloned().unwrap_or_else(|| Repository {
            environment,
            name: EXEC.to_owned(),
            targets: Vec::new(),
            concurrency: u32::MAX,
            launch: None,
            generation: 0,
            shell: Some(Shell::default()),
        });
        let parameter = |name: &str| Parameter { name: name.to_owned(), kind: ParameterKind::Computed, default: None };
        repository.targets.push(TargetSpec {
            name,
            kind: TargetKind::Shell,
            parameters: ["command", "directory", "environment", "inputs", "stdin"].map(parameter).into(),
            options: CallOptions::default(),
            own_key: false,
            doc: None,
            source: None,
        });
        state.engine.register(repository);
    }
    target
}
