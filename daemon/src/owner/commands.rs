//! Shell commands: how a step becomes one, what it writes, and how it ends.

use std::collections::BTreeMap;
use std::path::Path;

use ibid::model::{
    Argument, CommandLine, CommandSetting, ExecutionId, Failure, Id, Json, Parameter, ParameterKind, RegisteredTask,
    ShellTask, Stdin, Stored, TargetKind, TargetSpec, Word,
};
use ibid::protocol::Refused;
use rustix::process::Signal;
use tokio::sync::mpsc;

use super::blobs::keep_result;
use super::{Owner, State, now};
use crate::engine::{self, Assignment, RepositoryKey};
use crate::store::blob_named_by;
use crate::workers::{
    self, CommandEnded, CommandEvent, CommandOrder, Exit, Form, Input, Recorded, Role, Standing, end_command,
    signal_command,
};

/// The repository of an environment's shell tasks.
pub(super) const SHELL: &str = "shell";
/// The repository of commands that were given whole, by program.
pub(super) const EXEC: &str = "exec";

/// A command that runs.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// Its process, once it has one.
    pid: Option<u32>,
    /// It is to end.
    ending: bool,
    /// It was interrupted by everyone who wanted it: what it wrote is nobody's result.
    interrupted: bool,
    /// An end with another code than 0 is a result like any other.
    keep_failures: bool,
}

impl Owner {
    /// The worker that stands for the commands of a repository, if it has any.
    pub(super) fn see_to_commands(&self, state: &mut State, key: &RepositoryKey) {
        let Some(repository) = state.engine.repository(key).filter(|repository| repository.shell.is_some()) else {
            return;
        };
        let generation = repository.generation;
        if state.pools.pool(key).free.is_empty() {
            let number = state.pools.add(key, Role::Commands, generation, now());
            if let Some(worker) = state.pools.workers.get_mut(&number) {
                worker.standing = Standing::Ready;
            }
            state.pools.refresh(number);
        }
    }

    /// Runs a command once its assignment is committed.
    pub(super) fn run_command(&self, state: &mut State, worker: u32, assignment: &Assignment) {
        let execution = assignment.execution;
        let (order, keep_failures) = match self.command_order(state, assignment) {
            Ok(order) => order,
            Err(failure) => {
                state.decide(|engine, t| engine.fail(t, execution, failure));
                self.worker_finished(state, worker, execution);
                return self.wake();
            }
        };
        let Some(own) = self.me.upgrade() else { return };
        state.commands.insert(execution, Running { keep_failures, ..Running::default() });
        let blobs = self.blobs.clone();
        tokio::task::spawn_local(async move {
            own.barrier().await;
            if own.state.borrow().commands.get(&execution).is_none_or(|command| command.ending) {
                own.forget_recording(order.recording);
                return own.command_ended(worker, execution, Ending::Stopped);
            }
            let (sender, mut events) = mpsc::channel(16);
            let recording = order.recording.clone();
            if let Err(error) = workers::start_command(order, blobs, own.inputs.clone(), sender) {
                own.forget_recording(recording);
                let message = format!("there is no thread left to watch it: {error}");
                return own.command_ended(worker, execution, Ending::NotStarted(message));
            }
            while let Some(event) = events.recv().await {
                match event {
                    CommandEvent::Started(pid) => own.command_started(execution, pid),
                    CommandEvent::Output(stream, bytes) => {
                        let mut state = own.state.borrow_mut();
                        if state.engine.is_running(execution) {
                            state.logs.output(execution, stream, now(), &bytes);
                            own.logged.notify_one();
                        }
                    }
                    CommandEvent::Ended(ended) => own.command_ended(worker, execution, Ending::Ended(ended)),
                    CommandEvent::Failed(message) => {
                        own.command_ended(worker, execution, Ending::NotStarted(message));
                    }
                }
            }
            own.forget_recording(recording);
        });
    }

    fn command_started(&self, execution: ExecutionId, pid: u32) {
        let mut state = self.state.borrow_mut();
        let Some(command) = state.commands.get_mut(&execution) else { return };
        command.pid = Some(pid);
        if command.ending {
            end_command(pid);
        }
    }

    fn command_ended(&self, worker: u32, execution: ExecutionId, ending: Ending) {
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        let command = state.commands.remove(&execution).unwrap_or_default();
        if state.engine.is_running(execution) {
            self.finish_output(state, worker, execution);
            let of_no_key = matches!(&ending, Ending::Ended(ended) if ended.inputs_changed);
            match self.outcome_of_command(state, execution, &command, ending) {
                Ok(Some(result)) => {
                    state.decide(|engine, t| engine.complete(t, execution, result));
                    if of_no_key {
                        state.decide(|engine, t| engine.disown(t, execution));
                    }
                }
                Ok(None) => {
                    // Refused only where it has ended by itself meanwhile.
                    let _ended =
                        state.decide(|engine, t| engine.cancel(t, Id::Step(execution.step), true, "interrupted"));
                }
                Err(failure) => {
                    state.decide(|engine, t| engine.fail(t, execution, failure));
                }
            }
        }
        self.worker_finished(state, worker, execution);
        self.wake();
    }

    /// Its result; nothing where it was interrupted.
    fn outcome_of_command(
        &self,
        state: &mut State,
        execution: ExecutionId,
        command: &Running,
        ending: Ending,
    ) -> Result<Option<Stored>, Failure> {
        let (exit, recorded) = match ending {
            Ending::Ended(CommandEnded { exit, recorded, .. }) => (exit, recorded),
            Ending::NotStarted(message) => return Err(Failure::new("StartError", message)),
            Ending::Stopped => return Ok(None),
        };
        if command.interrupted {
            return Ok(None);
        }
        match exit {
            Exit::Code(0) => {}
            Exit::Code(_) if command.keep_failures => {}
            Exit::Code(code) => {
                let original = Json::from_serialize(&BTreeMap::from([("exit_code", code)])).ok();
                let message = format!("it exited with code {code}; 'ibid logs {execution}' shows what it wrote");
                return Err(Failure { original, ..Failure::new("ExitCode", message) });
            }
            Exit::Signal(signal) => {
                let original = Json::from_serialize(&BTreeMap::from([("signal", signal)])).ok();
                return Err(Failure { original, ..Failure::new("Signal", exit.to_string()) });
            }
            Exit::Unknown => return Err(Failure::new("Signal", exit.to_string())),
        }
        let recorded = recorded.map_err(|message| Failure::new("OutputError", message))?;
        let value = match recorded {
            Recorded::Unkept => return Err(Failure::new("OutputError", "what it wrote was not kept")),
            Recorded::Small(json) => json,
            Recorded::Large(hash, record) => {
                let size = record.size;
                state.handed_over.insert(hash, record);
                let gone = || Failure::new("OutputError", "what it wrote could not be kept: its file is gone");
                self.blobs.named(&hash, size).ok_or_else(gone)?
            }
        };
        keep_result(state, value)
            .map(Some)
            .map_err(|error| Failure::new("OutputError", format!("what it wrote cannot be kept: {error}")))
    }

    /// Stops a command whose execution is over.
    pub(super) fn stop_command(&self, state: &mut State, execution: ExecutionId) {
        if let Some(command) = state.commands.get_mut(&execution) {
            command.ending = true;
            if let Some(pid) = command.pid {
                end_command(pid);
            }
        }
    }

    /// Kills all commands: the daemon ends.
    pub(super) fn kill_commands(state: &State) {
        for pid in state.commands.values().filter_map(|command| command.pid) {
            workers::kill_group(pid);
        }
    }

    /// Sends a signal to a command that nobody but its client wants; says whether it did.
    pub(super) fn interrupt_command(&self, state: &mut State, execution: ExecutionId, signal: i32) -> bool {
        let Some(command) = state.commands.get_mut(&execution) else { return false };
        let Some(signal) = Signal::from_named_raw(signal) else { return false };
        command.interrupted = true;
        match command.pid {
            Some(pid) => signal_command(pid, signal),
            None => command.ending = true,
        }
        // Whoever calls the same from now on does not want half of it.
        state.engine.step_back(execution);
        true
    }

    /// Where the recording of an execution's command grows.
    pub(super) fn recording(&self, execution: ExecutionId) -> std::path::PathBuf {
        let ExecutionId { step, attempt } = execution;
        self.spool(&format!("value-command-{}-{}-{attempt}", step.run, step.step))
    }

    /// Removes a recording after a while: who was just told its name may be about to open it.
    fn forget_recording(&self, path: std::path::PathBuf) {
        tokio::task::spawn_local(async move {
            tokio::time::sleep(std::time::Duration::from_secs(30)).await;
            // A large one has become a value's file.
            let _gone = std::fs::remove_file(path);
        });
    }

    fn command_order(&self, state: &mut State, assignment: &Assignment) -> Result<(CommandOrder, bool), Failure> {
        let wrong = |message: String| Failure::new("ValueError", message);
        let recording = self.recording(assignment.execution);
        let (mut order, keep_failures) = match &assignment.command {
            Some(setting) => {
                let gone = || Failure::new("Pruned", "how this command was run has been pruned; run it again");
                let text = state.text(setting).and_then(|text| self.whole(text).ok()).ok_or_else(gone)?;
                let setting: CommandSetting = text.read().map_err(|error| wrong(error.to_string()))?;
                let argument = |state: &State, at: usize| {
                    assignment.arguments.get(at).and_then(|argument| state.text(&argument.value)).ok_or_else(gone)
                };
                let words = self.whole(argument(state, 0)?).map_err(wrong)?;
                let input = match setting.stdin {
                    Stdin::Empty => Input::Empty,
                    Stdin::Argument => {
                        let value = argument(state, 4)?;
                        match blob_named_by(&value) {
                            Some(hash) => Input::ValueFile(self.blobs.path(&hash)),
                            None => Input::Value(value),
                        }
                    }
                    Stdin::File { .. } if assignment.again || assignment.execution.attempt > 1 => {
                        let message = "it read what its caller's standard input gave, which is gone: run it again \
                                       from there, or with --cache, which keeps the input";
                        return Err(Failure::new("InputError", message));
                    }
                    Stdin::File { path, offset } => Input::File(path, offset),
                };
                let inputs = match setting.inputs.is_empty() {
                    true => None,
                    false => Some((setting.inputs, self.whole(argument(state, 3)?).map_err(wrong)?)),
                };
                let order = CommandOrder {
                    words: words.read().map_err(|error| wrong(error.to_string()))?,
                    directory: argument(state, 1)?.read().map_err(|error| wrong(error.to_string()))?,
                    variables: setting.variables,
                    umask: Some(setting.umask),
                    input,
                    form: Form::Command,
                    recording,
                    keep_failures: setting.keep_failures,
                    inputs,
                };
                (order, setting.keep_failures)
            }
            None => {
                let task = shell_task(state, assignment)?;
                let mut values = Vec::new();
                for (parameter, argument) in task.task.parameters.iter().zip(&assignment.arguments) {
                    values.push((parameter.name.as_str(), self.word_of(state, &parameter.name, argument)?));
                }
                let digests = assignment.arguments.get(task.task.parameters.len());
                let digests = digests.and_then(|argument| state.text(&argument.value));
                let inputs =
                    digests.filter(|_| !task.task.inputs.is_empty()).map(|digests| (task.task.inputs.clone(), digests));
                let order = CommandOrder {
                    words: words_of(&task, &values).map_err(wrong)?,
                    directory: Word::from(task.task.directory.as_str()),
                    variables: task
                        .variables
                        .iter()
                        .map(|(name, value)| (Word::from(name.as_str()), Word::from(value.as_str())))
                        .collect(),
                    umask: None,
                    input: Input::Empty,
                    form: Form::Text,
                    recording,
                    keep_failures: false,
                    inputs,
                };
                (order, false)
            }
        };
        order.variables.retain(|(name, _)| !matches!(name.0.as_slice(), b"IBID_EXECUTION"));
        for (name, value) in [
            ("IBID_EXECUTION", assignment.execution.to_string()),
            ("IBID_SOCKET", self.settings.socket.display().to_string()),
            ("IBID_DATA_DIR", self.settings.data.display().to_string()),
        ] {
            order.variables.push((Word::from(name), Word::from(value.as_str())));
        }
        Ok((order, keep_failures))
    }

    /// An argument as a word of a command line: texts as they are, everything else as JSON. Of a call it is
    /// the result.
    fn word_of(&self, state: &mut State, name: &str, argument: &Argument) -> Result<String, Failure> {
        let value = match argument.references.as_slice() {
            [only] if is_reference(state, argument) => {
                let outcome = state.decide(|engine, t| engine.outcome(t, *only));
                match outcome {
                    Some(engine::Outcome::Value { value, .. }) => value,
                    _ => {
                        return Err(Failure::new(
                            "ArgumentError",
                            format!("the call that '{name}' refers to, {only}, has no result"),
                        ));
                    }
                }
            }
            _ => argument.value.clone(),
        };
        let gone = || Failure::new("Pruned", "the arguments of this call were pruned; call it again");
        let text = state.text(&value).ok_or_else(gone)?;
        let text = self.whole(text).map_err(|message| Failure::new("ArgumentError", format!("'{name}': {message}")))?;
        let word = text.read::<String>().unwrap_or_else(|_| text.as_str().to_owned());
        if word.contains('\0') {
            return Err(Failure::new(
                "ArgumentError",
                format!("'{name}' has a zero byte, which no command line can hold"),
            ));
        }
        Ok(word)
    }

    /// What the daemon works out of calls of shell tasks, before they are decided: the content of inputs,
    /// which is read on another thread, and variables. Without shell tasks among the targets `done` is
    /// called at once.
    pub(super) fn work_out(
        &self,
        state: &mut State,
        environment: u32,
        targets: impl Iterator<Item = String>,
        done: impl FnOnce(&Self, &mut State, Result<Computed, Refused>) + 'static,
    ) {
        let tasks: BTreeMap<String, RegisteredTask> =
            targets.filter_map(|target| Some((target.clone(), task_of(state, environment, &target)?))).collect();
        if tasks.values().all(|task| task.task.inputs.is_empty()) {
            return done(self, state, compute(&tasks, &self.inputs));
        }
        let Some(own) = self.me.upgrade() else { return };
        let inputs = self.inputs.clone();
        tokio::task::spawn_local(async move {
            let computed = tokio::task::spawn_blocking(move || compute(&tasks, &inputs)).await;
            let failed = |_| Refused::new("internal", "reading the inputs failed in an unforeseen way");
            let computed = computed.map_err(failed).and_then(|computed| computed);
            done(&own, &mut own.state.borrow_mut(), computed);
        });
    }
}

/// What the daemon has worked out of calls, by target: it follows what the caller gave.
#[derive(Debug, Default)]
pub(super) struct Computed(BTreeMap<String, Vec<Json>>);

impl Computed {
    /// Adds what belongs to a call of a target.
    ///
    /// # Errors
    /// Where the caller gave too much or too little.
    pub(super) fn add_to(&self, spec: &TargetSpec, target: &str, arguments: &mut Vec<Json>) -> Result<(), Refused> {
        if spec.kind != TargetKind::Shell {
            return Ok(());
        }
        let Some(computed) = self.0.get(target) else {
            return Err(Refused::new(
                "bad_request",
                format!("{target} is a command of 'ibid exec', which only that runs"),
            ));
        };
        let declared = spec.parameters.len() - computed.len();
        if arguments.len() != declared {
            let names: Vec<_> = spec.parameters[..declared].iter().map(|parameter| parameter.name.as_str()).collect();
            let message = format!("{target} got {} argument(s); it is {target}({})", arguments.len(), names.join(", "));
            return Err(Refused::new("bad_request", message));
        }
        arguments.extend(computed.iter().cloned());
        Ok(())
    }
}

fn compute(tasks: &BTreeMap<String, RegisteredTask>, inputs: &workers::Inputs) -> Result<Computed, Refused> {
    let mut all = Computed::default();
    for (target, RegisteredTask { task, variables, .. }) in tasks {
        let mut computed = Vec::new();
        if !task.inputs.is_empty() {
            let digests = inputs.digest(Path::new(&task.directory), &task.inputs);
            computed.push(digests.map_err(|message| Refused::new("inputs", format!("{target}: {message}")))?);
        }
        if !task.variables.is_empty() {
            let value = |name: &String| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value);
            let values: BTreeMap<_, _> = task.variables.iter().map(|name| (name, value(name))).collect();
            computed.push(Json::from_serialize(&values).unwrap_or_else(|_| Json::null()));
        }
        all.0.insert(target.clone(), computed);
    }
    Ok(all)
}

/// What a task's target is like: the daemon's own parameters follow the declared ones.
pub(super) fn spec_of(task: &ShellTask) -> TargetSpec {
    let mut parameters = task.parameters.clone();
    let computed = [("inputs", !task.inputs.is_empty()), ("environment", !task.variables.is_empty())];
    for (name, _) in computed.into_iter().filter(|(_, wanted)| *wanted) {
        parameters.push(Parameter { name: name.to_owned(), kind: ParameterKind::Computed, default: None });
    }
    TargetSpec {
        name: task.name.clone(),
        kind: TargetKind::Shell,
        parameters,
        options: task.options.clone(),
        own_key: false,
        doc: task.doc.clone(),
        source: Some(blake3::hash(task.run.as_str().as_bytes()).to_hex()[..16].to_owned()),
    }
}

/// How a command came out for the one who watched it.
enum Ending {
    Ended(CommandEnded),
    NotStarted(String),
    /// Before it began.
    Stopped,
}

fn is_reference(state: &State, argument: &Argument) -> bool {
    state.text(&argument.value).is_some_and(|text| text.as_str().starts_with("{\"$type\":\"execution\""))
}

fn shell_task(state: &State, assignment: &Assignment) -> Result<RegisteredTask, Failure> {
    let environment = state.engine.active_run(assignment.execution.step.run).map(|run| run.environment);
    let known = environment.and_then(|environment| task_of(state, environment, &assignment.target));
    known.ok_or_else(|| {
        let message = format!("there is no shell task {} any more; register its ibid.toml again", assignment.target);
        Failure::new("LookupError", message)
    })
}

/// Whether a target is one of the daemon's own repositories of commands.
pub(super) fn is_command(target: &str) -> bool {
    target.split_once('/').is_some_and(|(repository, _)| matches!(repository, SHELL | EXEC))
}

/// The shell task that a target is, seen from an environment.
pub(super) fn task_of(state: &State, environment: u32, target: &str) -> Option<RegisteredTask> {
    let (key, spec) = state.engine.target(environment, target)?;
    let shell = state.engine.repository(&key)?.shell.as_ref()?;
    shell.tasks.iter().find(|task| task.task.name == spec.name).cloned()
}

/// The words of a task's command line, its parameters filled in.
fn words_of(task: &RegisteredTask, values: &[(&str, String)]) -> Result<Vec<Word>, String> {
    let line: CommandLine = task.task.run.read().map_err(|error| format!("what it runs is not right: {error}"))?;
    Ok(match line {
        CommandLine::Words(words) => {
            words.iter().map(|word| Word(fill(word, values, str::to_owned).into_bytes())).collect()
        }
        CommandLine::Shell(line) => {
            vec![Word::from("sh"), Word::from("-c"), Word(fill(&line, values, quoted).into_bytes())]
        }
    })
}

/// Puts values in the places of their names in braces, unless a dollar sign stands before.
fn fill(text: &str, values: &[(&str, String)], form: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let named = from[1..].split_once('}').and_then(|(name, after)| {
            let (_, value) = values.iter().find(|(known, _)| *known == name)?;
            Some((value, after))
        });
        match named.filter(|_| !before.ends_with('$')) {
            Some((value, after)) => {
                out.push_str(&form(value));
                rest = after;
            }
            None => {
                out.push('{');
                rest = &from[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// A text as one word of a shell's line, whatever it holds.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_take_the_places_of_their_names_and_nothing_else_does() {
        let values = [("a", "1 2".to_owned()), ("b", "it's".to_owned())];
        assert_eq!(fill("x{a}y{b}", &values, str::to_owned), "x1 2yit's");
        assert_eq!(fill("{a} ${a} {c} {", &values, str::to_owned), "1 2 ${a} {c} {");
        assert_eq!(fill("echo {b} | awk '{print}'", &values, quoted), "echo 'it'\\''s' | awk '{print}'");
    }
}
