//! Requests, and what they are answered with.

use serde::{Deserialize, Serialize};

use super::views::{AttemptView, EnvironmentView, QueueGroup, RunView, SensorView, StepView, TargetView, WorkerView};
use crate::model::{
    Environment, ExecutionId, Failure, Id, Json, Millis, Parameter, RunId, ShellTask, State, StepId, Timestamp,
};

/// Project and environment; both are `default` where nothing is said.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    /// The project.
    pub project: String,
    /// The environment within the project.
    pub environment: String,
}

impl Default for Scope {
    fn default() -> Self {
        Self { project: "default".to_owned(), environment: "default".to_owned() }
    }
}

messages! {
    /// Who speaks.
    Hello {
        /// The program, e.g. `ibid 0.1.0`.
        client: String,
    }
    /// Who answers.
    Welcome {
        /// The daemon's version.
        version: String,
        /// The version of the postcard protocol.
        protocol: u16,
        /// The daemon's process.
        pid: u32,
        /// Changes with each start of the daemon.
        epoch: u64,
        /// Its data directory.
        data_dir: String,
        /// Where files for `blob.put` are written.
        spool: String,
    }
    /// Whether anyone is there.
    Ping {}
    /// Somebody is.
    Pong {
        /// The daemon's clock, ms since 1970.
        now: Timestamp,
    }
    /// It was done.
    Done {}
    /// Makes the targets of modules and of a project file known.
    Register {
        /// Where to; created if it does not exist.
        #[serde(default)]
        scope: Scope,
        /// Python modules to import.
        #[serde(default)]
        modules: Vec<String>,
        /// Working directory, first on the module path; of shell tasks the project's.
        directory: String,
        /// Python interpreter, an absolute path.
        #[serde(default)]
        interpreter: String,
        /// Shell tasks, in place of all that were registered from the same directory.
        #[serde(default)]
        tasks: Option<Vec<ShellTask>>,
        /// Environment variables for the workers.
        #[serde(default)]
        variables: Vec<(String, String)>,
        /// How many executions run at once in each; the default is the number of processors, at least 4, and of a
        /// program 64.
        #[serde(default)]
        concurrency: Option<u32>,
        /// Whether executors may be forked from a warm process.
        #[serde(default = "yes")]
        fork: bool,
        /// Programs that host a repository of their file's name themselves; absolute paths.
        #[serde(default)]
        programs: Vec<String>,
    }
    /// What was registered.
    Registered {
        /// The targets, by repository.
        targets: Vec<TargetView>,
        /// What is worth knowing, e.g. that a module cannot be forked.
        notes: Vec<String>,
    }
    /// Asks for the targets that an environment sees.
    ListTargets {
        /// Which environment.
        #[serde(default)]
        scope: Scope,
    }
    /// Targets.
    TargetList {
        /// By repository and name.
        targets: Vec<TargetView>,
    }
    /// Starts a workflow by hand.
    Submit {
        /// Where.
        #[serde(default)]
        scope: Scope,
        /// `repository/name`
        target: String,
        /// By position.
        #[serde(default)]
        arguments: Vec<Json>,
        /// By name.
        #[serde(default)]
        named: Vec<(String, Json)>,
        /// Lets it hit and be hit: at any age, or up to one.
        #[serde(default)]
        use_cache: Option<UseCache>,
        /// The key, for a target with a key function of its own.
        #[serde(default)]
        cache_key: Option<String>,
        /// The same key, target and arguments within a day give the same run.
        #[serde(default)]
        idempotency_key: Option<String>,
        /// A resend with the same token gives the same run.
        #[serde(default)]
        token: Option<String>,
        /// The execution on whose behalf it is started, if it comes from inside one.
        #[serde(default)]
        caller: Option<ExecutionId>,
    }
    /// A run was started.
    Submitted {
        /// Its id; of a call from inside an execution that took or joined a result, the caller's run.
        run: RunId,
        /// The step whose result is the start's.
        step: StepId,
        /// Whether it existed already.
        repeated: bool,
    }
    /// Waits for the outcome of a run, step or execution.
    GetResult {
        /// What.
        id: Id,
        /// Whether to wait until it has ended.
        #[serde(default = "yes")]
        wait: bool,
        /// The execution on whose behalf it is asked, whose slot is free meanwhile.
        #[serde(default)]
        caller: Option<ExecutionId>,
    }
    /// How something came out; the state says whether it has.
    Outcome {
        /// Its state.
        state: State,
        /// The value, if it has one.
        #[serde(default)]
        value: Option<Json>,
        /// The error, if it ended badly.
        #[serde(default)]
        error: Option<Failure>,
        /// The execution that really made it; of something unfinished its newest attempt.
        #[serde(default)]
        execution: Option<ExecutionId>,
    }
    /// Asks for one thing in full.
    Show {
        /// Which.
        id: Id,
    }
    /// One thing in full.
    Shown {
        /// The run.
        run: RunView,
        /// The step; of a run, its root.
        step: StepView,
        /// The execution; of a step, its newest.
        execution: AttemptView,
        /// The calls that it made itself.
        children: Vec<StepView>,
        /// Who joined or took its result.
        borrowers: Vec<ExecutionId>,
    }
    /// Asks for runs, newest first.
    ListRuns {
        /// Of which environment; `None` for all.
        #[serde(default)]
        scope: Option<Scope>,
        /// Only with this state of the root.
        #[serde(default)]
        state: Option<State>,
        /// Only targets that contain this text.
        #[serde(default)]
        target: Option<String>,
        /// Only created at or after this time.
        #[serde(default)]
        since: Option<Timestamp>,
        /// At most this many; 50 if absent, 1000 at most.
        #[serde(default)]
        limit: Option<u32>,
        /// Where the last page ended.
        #[serde(default)]
        cursor: Option<RunId>,
    }
    /// Runs.
    RunList {
        /// Newest first.
        runs: Vec<RunView>,
        /// Pass it as `cursor` for the next page.
        next: Option<RunId>,
    }
    /// Asks for the steps of a run.
    ListSteps {
        /// Which run.
        run: RunId,
        /// At most this many; 1000 if absent, 10000 at most.
        #[serde(default)]
        limit: Option<u32>,
        /// From this number on.
        #[serde(default)]
        from: Option<u32>,
    }
    /// Steps.
    StepList {
        /// By number.
        steps: Vec<StepView>,
        /// Pass it as `from` for the next page.
        next: Option<u32>,
    }
    /// Asks for executions, newest first.
    ListExecutions {
        /// Of which environment; `None` for all.
        #[serde(default)]
        scope: Option<Scope>,
        /// Only in this state.
        #[serde(default)]
        state: Option<State>,
        /// Only of targets that contain this text.
        #[serde(default)]
        target: Option<String>,
        /// Only of runs that were created at or after this time.
        #[serde(default)]
        since: Option<Timestamp>,
        /// At most this many; 50 if absent, 1000 at most.
        #[serde(default)]
        limit: Option<u32>,
        /// Where the last page ended.
        #[serde(default)]
        cursor: Option<ExecutionId>,
    }
    /// Executions.
    ExecutionList {
        /// By run, step and attempt, newest first.
        executions: Vec<ExecutionLine>,
        /// Pass it as `cursor` for the next page.
        next: Option<ExecutionId>,
    }
    /// One execution in a list.
    ExecutionLine {
        /// Which.
        id: ExecutionId,
        /// `repository/name`
        target: String,
        /// Where it stands.
        state: State,
        /// Why it executed, linked or hit: the kind.
        decision_kind: String,
        /// When it was created, ms since 1970.
        created: Timestamp,
        /// When it ended.
        ended: Option<Timestamp>,
        /// How long it ran, ms.
        duration: Option<Millis>,
    }
    /// Asks for executions that others are linked to now.
    ListLinks {
        /// At most this many; 200 if absent.
        #[serde(default)]
        limit: Option<u32>,
    }
    /// Executions that others are linked to now.
    LinkList {
        /// By run and step.
        links: Vec<LinkGroup>,
    }
    /// One execution and its followers.
    LinkGroup {
        /// The one that does the work.
        leader: ExecutionId,
        /// `repository/name`
        target: String,
        /// Where it stands.
        state: State,
        /// Those that take its outcome, the first thousand.
        followers: Vec<ExecutionId>,
        /// How many those are.
        count: u32,
    }
    /// Asks for what waits.
    ListQueue {
        /// At most this many groups; 200 if absent.
        #[serde(default)]
        limit: Option<u32>,
    }
    /// What waits.
    QueueList {
        /// One for each key, so that many who wait for one execution are one line.
        groups: Vec<QueueGroup>,
    }
    /// Forces a step to run again.
    Rerun {
        /// A run means its step 1.
        id: Id,
        /// Whether everything that it calls is forced, too.
        #[serde(default)]
        below: bool,
    }
    /// It runs again.
    Rerunning {
        /// The new attempt.
        execution: ExecutionId,
    }
    /// Cancels a run, step or execution.
    Cancel {
        /// Which.
        id: Id,
        /// Whoever else wants it.
        #[serde(default)]
        force: bool,
    }
    /// What a cancel came to.
    Cancelled {
        /// Steps that ended.
        stopped: Vec<StepId>,
        /// Steps that go on because others want them.
        kept: Vec<StepId>,
    }
    /// Asks for what an execution wrote.
    GetLogs {
        /// A run means all its executions in order of their lines.
        id: Id,
        /// From this line on.
        #[serde(default)]
        from: Option<u64>,
        /// Only lines that contain this text, in any case of letters.
        #[serde(default)]
        contains: Option<String>,
    }
    /// What an execution wrote.
    LogLines {
        /// The execution that did the work, whose log this is.
        execution: ExecutionId,
        /// Lines that were dropped because the log was over its limit.
        dropped: u64,
        /// The lines.
        lines: Vec<LogLine>,
    }
    /// One line.
    LogLine {
        /// When, ms since 1970.
        at: Timestamp,
        /// `stdout`, `stderr`, `debug`, `info`, `warning` or `error`.
        level: String,
        /// The text.
        text: String,
        /// Named values.
        #[serde(default)]
        values: Vec<(String, Json)>,
        /// Who wrote it.
        #[serde(default)]
        execution: Option<ExecutionId>,
    }
    /// Asks for worker processes.
    ListWorkers {}
    /// Worker processes.
    WorkerList {
        /// By number.
        workers: Vec<WorkerView>,
    }
    /// Asks for environments.
    ListEnvironments {}
    /// Environments.
    EnvironmentList {
        /// By project and name.
        environments: Vec<EnvironmentView>,
    }
    /// Asks for sensors.
    ListSensors {
        /// Of which environment; `None` for all.
        #[serde(default)]
        scope: Option<Scope>,
    }
    /// Sensors.
    SensorList {
        /// Every instance that was ever started, by target.
        sensors: Vec<SensorView>,
        /// The sensors that can be started.
        available: Vec<AvailableSensor>,
    }
    /// A sensor that can be started.
    AvailableSensor {
        /// Where.
        scope: Scope,
        /// `repository/name`
        target: String,
        /// What it can be started with.
        parameters: Vec<Parameter>,
    }
    /// Starts a sensor.
    SensorStart {
        /// Where.
        #[serde(default)]
        scope: Scope,
        /// `repository/name`
        target: String,
        /// By position.
        #[serde(default)]
        arguments: Vec<Json>,
        /// By name.
        #[serde(default)]
        named: Vec<(String, Json)>,
        /// With these arguments, whatever checkpoint there is.
        #[serde(default)]
        fresh: bool,
    }
    /// A sensor is kept running.
    SensorStarted {
        /// The run of its executions.
        run: RunId,
        /// Whether it was running already.
        already: bool,
        /// Whether it goes on from a checkpoint.
        resumed: bool,
    }
    /// Stops all instances of a sensor, for good.
    SensorStop {
        /// Where.
        #[serde(default)]
        scope: Scope,
        /// `repository/name`
        target: String,
    }
    /// What was stopped.
    SensorStopped {
        /// The runs of the instances.
        stopped: Vec<RunId>,
    }
    /// Creates an environment, or gives one another base.
    EnvCreate {
        /// Which.
        #[serde(default)]
        scope: Scope,
        /// The environment that look-ups fall through to; absent leaves it as it is.
        #[serde(default)]
        base: Option<String>,
    }
    /// The environment as it is now.
    EnvCreated {
        /// It.
        environment: EnvironmentView,
        /// Whether it is new.
        created: bool,
    }
    /// Hands over a large value: a file in the spool directory.
    BlobPut {
        /// Its name there, which begins with `value-`.
        name: String,
    }
    /// Asks where a large value is.
    BlobGet {
        /// blake3 of its text, in hexadecimal.
        hash: String,
    }
    /// A large value.
    Blob {
        /// blake3 of its text, in hexadecimal.
        hash: String,
        /// Bytes of its text.
        size: u64,
        /// The file that holds it; it is only read.
        path: String,
    }
}

fn yes() -> bool {
    true
}

/// Opting in to the cache for a start by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UseCache {
    /// As the target declares.
    AsDeclared,
    /// Up to this age, ms.
    MaxAge(Millis),
}

impl LogLine {
    /// Whether its text or one of its values contains a text, in any case of letters.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.text.to_lowercase().contains(&text)
            || self.values.iter().any(|(name, value)| format!("{name}={value}").to_lowercase().contains(&text))
    }
}

impl Submit {
    /// A plain start without arguments.
    #[must_use]
    pub fn new(scope: Scope, target: impl Into<String>) -> Self {
        Self {
            scope,
            target: target.into(),
            arguments: Vec::new(),
            named: Vec::new(),
            use_cache: None,
            cache_key: None,
            idempotency_key: None,
            token: None,
            caller: None,
        }
    }
}

impl From<&Environment> for EnvironmentView {
    fn from(environment: &Environment) -> Self {
        Self {
            project: environment.project.clone(),
            environment: environment.name.clone(),
            base: environment.base.clone(),
        }
    }
}
