//! Starts by hand and calls from inside executions.

use ibid::model::{
    Argument, Attempt, CallOptions, Counts, Decision, ExecutionId, Link, Memoised, Miss, Run, RunId, State, Step,
    StepId, Stored, TargetKind, Timestamp, Transition, Trigger,
};

use super::lookup::{Found, Query, decision};
use super::{
    ActiveRun, Borrowed, Engine, LiveStep, Outcome, Refusal, StartRecord, Success, Turn, request_digest, tally,
};

/// How long an idempotency key is remembered, milliseconds.
const IDEMPOTENCY_WINDOW: Timestamp = 24 * 60 * 60 * 1000;

/// A start by hand.
#[derive(Debug, Clone)]
pub struct Start {
    /// Number of the environment.
    pub environment: u32,
    /// `repository/name` of a workflow.
    pub target: String,
    /// In the order of the signature, defaults applied.
    pub arguments: Vec<Argument>,
    /// As declared, with caching off unless it was asked for.
    pub options: CallOptions,
    /// A resend with the same token is answered with the first run.
    pub token: Option<String>,
    /// Within a day the same key gives the same run, or a conflict.
    pub idempotency_key: Option<String>,
    /// How a command that was given whole is run.
    pub command: Option<Stored>,
    /// The result of this execution has been taken already, where it had been published.
    pub taken: Option<ExecutionId>,
}

/// What a start made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The run.
    pub run: RunId,
    /// Whether it existed before.
    pub repeated: bool,
}

/// A call from inside an execution.
#[derive(Debug, Clone)]
pub struct Call {
    /// `repository/name`
    pub target: String,
    /// In the order of the signature, defaults applied.
    pub arguments: Vec<Argument>,
    /// As the caller evaluated them.
    pub options: CallOptions,
    /// The group that it is shown in.
    pub group: Option<String>,
    /// How a command that was given whole is run.
    pub command: Option<Stored>,
}

/// What became of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// The new step; the one that was there, where a memo answers the call.
    pub step: StepId,
    /// Its state.
    pub state: State,
    /// How it came out, if it has already.
    pub outcome: Option<Outcome>,
    /// Whether real work was queued for it, which must be on disk first.
    pub durable: bool,
}

/// A step about to be made.
struct New {
    id: StepId,
    environment: u32,
    target: String,
    kind: TargetKind,
    arguments: Vec<Argument>,
    options: CallOptions,
    caller: Option<ExecutionId>,
    group: Option<String>,
    trigger: Trigger,
    command: Option<Stored>,
}

impl Engine {
    /// Starts a workflow by hand.
    ///
    /// # Errors
    /// Where there is no such workflow, or the idempotency key belongs to something else.
    pub fn start(&mut self, t: Turn<'_>, start: Start) -> Result<Started, Refusal> {
        let Some((_, spec)) = self.target(start.environment, &start.target) else {
            return Err(Refusal::UnknownTarget(start.target));
        };
        let kind = spec.kind;
        if !kind.starts_by_hand() {
            return Err(not_a_workflow(&start.target, kind));
        }
        let token = start.token.as_ref().map(|token| format!("token {token}"));
        let key = start.idempotency_key.as_ref().map(|key| format!("key {} {key}", start.environment));
        let request = request_digest(&start.target, &start.arguments);
        if let Some(earlier) = token.as_ref().and_then(|token| self.earlier_start(t, token)) {
            return Ok(Started { run: earlier.run, repeated: true });
        }
        if let Some(earlier) = key.as_ref().and_then(|key| self.earlier_start(t, key))
            && t.now - earlier.at < IDEMPOTENCY_WINDOW
        {
            if earlier.request != request {
                let key = start.idempotency_key.unwrap_or_default();
                return Err(Refusal::Conflict { key, run: earlier.run });
            }
            return Ok(Started { run: earlier.run, repeated: true });
        }
        let is_command = start.command.is_some();
        let published = match start.taken {
            Some(source) => Some(self.published(t, &start, source).ok_or(Refusal::NothingRemembered)?),
            None => None,
        };
        let run = self.open_run(t, start.environment, &start.target, None);
        if let Some(active) = self.runs.get_mut(&run) {
            active.run.token = start.token;
            active.run.idempotency_key = start.idempotency_key;
        }
        for key in [token, key].into_iter().flatten() {
            self.recent.starts.insert(key, StartRecord { run, at: t.now, request });
        }
        let new = New {
            id: run.root(),
            environment: start.environment,
            target: start.target,
            kind,
            arguments: start.arguments,
            options: start.options,
            caller: None,
            group: None,
            trigger: Trigger::Hand,
            command: start.command,
        };
        self.insert(t, new, None, published);
        // A command's hit is told by what it wrote, not by the run's number: nothing is promised.
        let taken = self.step_in_memory(run.root()).is_some_and(|step| step.state() == State::Cached);
        self.recent.rest.durable |= !(is_command && taken);
        self.settle(t);
        Ok(Started { run, repeated: false })
    }

    /// A result that a start of this identity could take when it was published, if it is still there.
    fn published(&self, t: Turn<'_>, start: &Start, source: ExecutionId) -> Option<Success> {
        let identity = self.identify(t, start.environment, &start.target, &start.options, &start.arguments).ok()??;
        let environments = self.chain(start.environment).into_iter();
        let entries = environments.filter_map(|environment| self.entry(t, environment, &identity.digest));
        entries.flat_map(|entry| entry.successes).find(|success| success.execution == source)
    }

    fn earlier_start(&self, t: Turn<'_>, key: &str) -> Option<StartRecord> {
        let known = self.recent.starts.get(key).cloned().or_else(|| t.past.start(key));
        // Its run may have been pruned.
        known.filter(|start| self.run(t, start.run).is_some())
    }

    /// Makes calls on behalf of a running execution, in order, and says what became of each.
    ///
    /// # Errors
    /// Where the caller is not running or a target is unknown; then none of them is made.
    pub fn call(&mut self, t: Turn<'_>, caller: ExecutionId, calls: Vec<Call>) -> Result<Vec<Called>, Refusal> {
        if !self.is_running(caller) {
            return Err(Refusal::NotRunning(caller));
        }
        let run = caller.step.run;
        let environment = self.environment_of(run);
        let mut kinds = Vec::with_capacity(calls.len());
        for call in &calls {
            let Some((_, spec)) = self.target(environment, &call.target) else {
                return Err(Refusal::UnknownTarget(call.target.clone()));
            };
            if spec.kind == TargetKind::Sensor {
                return Err(Refusal::SensorCalled(call.target.clone()));
            }
            kinds.push(spec.kind);
        }
        let mut called = Vec::with_capacity(calls.len());
        for (call, kind) in calls.into_iter().zip(kinds) {
            let memo = self.memo_key(t, run, &call);
            if let Some(step) = memo.and_then(|key| self.memo_hit(t, caller, &key)) {
                let state = self.step(t, step).map_or(State::Queued, |step| step.state());
                called.push(Called { step, state, outcome: self.outcome(t, step), durable: false });
                continue;
            }
            let id = self.next_step(run);
            let new = New {
                id,
                environment,
                target: call.target,
                kind,
                arguments: call.arguments,
                options: call.options,
                caller: Some(caller),
                group: call.group,
                trigger: Trigger::Call,
                command: call.command,
            };
            self.insert(t, new, memo, None);
            let state = self.step_in_memory(id).map_or(State::Queued, Step::state);
            let outcome = self.outcome(t, id);
            let durable = matches!(state, State::Queued | State::Spawned);
            self.recent.rest.durable |= durable;
            called.push(Called { step: id, state, outcome, durable });
        }
        self.settle(t);
        Ok(called)
    }

    /// Whether an execution has been assigned and is not over.
    #[must_use]
    pub fn is_running(&self, execution: ExecutionId) -> bool {
        let step = self.steps.get(&execution.step);
        let attempt = step.and_then(|live| live.step.attempt(execution.attempt));
        attempt.is_some_and(|attempt| attempt.state() == State::Running)
    }

    pub(super) fn open_run(&mut self, t: Turn<'_>, environment: u32, target: &str, caller: Option<StepId>) -> RunId {
        self.next_run = self.next_run.max(1);
        let id = RunId(self.next_run);
        self.next_run += 1;
        let run = Run {
            id,
            environment,
            target: target.to_owned(),
            created: t.now,
            begun: t.now,
            caller,
            state: State::Queued,
            ended: None,
            counts: Counts::default(),
            token: None,
            idempotency_key: None,
        };
        self.runs.insert(id, Box::new(ActiveRun::new(run, 2)));
        self.recent.touched_runs.insert(id);
        id
    }

    fn next_step(&mut self, run: RunId) -> StepId {
        let number = self.runs.get_mut(&run).map_or(u32::MAX, |active| {
            active.next_step += 1;
            active.next_step - 1
        });
        StepId { run, step: number }
    }

    /// Decides a new step and puts it where it belongs.
    /// A published result has been taken already, so that nothing is left to decide.
    fn insert(&mut self, t: Turn<'_>, new: New, memo: Option<[u8; 32]>, published: Option<Success>) {
        let fresh = new.caller.and_then(|caller| self.attempt(caller)?.fresh);
        let (older, burst, due) = self.deferral(t, new.environment, &new.target, &new.options);
        let (identity, unstable) = match self.identify(t, new.environment, &new.target, &new.options, &new.arguments) {
            Ok(identity) => (identity, None),
            Err(argument) => (None, Some(argument)),
        };
        // With a defer key the look-up comes when the call is due.
        let found = identity.as_ref().filter(|_| burst.is_none() || due <= t.now).map(|identity| {
            let query = Query {
                environment: new.environment,
                identity: &identity.digest,
                max_age: new.options.cache.max_age(),
                caller: new.caller,
                newer_than: fresh,
                again: None,
            };
            match published {
                Some(success) => {
                    let age = t.now.saturating_sub(success.completed).max(0).cast_unsigned();
                    Found::Result(success, age)
                }
                None => self.look_up(t, &query),
            }
        });
        let decision = match (&found, unstable, new.trigger) {
            (Some(Found::Nothing(_)), ..) if fresh.is_some() => Decision::Forced,
            (Some(found), ..) => decision(found),
            (None, ..) if identity.is_some() => Decision::Deferring,
            (None, Some(argument), _) => Decision::NoStableDigest { argument },
            (None, None, Trigger::Hand) => Decision::ByHand,
            (None, None, _) => Decision::Off,
        };
        let (state, link) = match &found {
            Some(Found::Result(success, _)) => (State::Cached, Some(Link::Source(success.execution))),
            Some(Found::Unfinished(leader)) => (State::Linked, Some(Link::Leader(*leader))),
            _ if new.kind == TargetKind::Workflow && new.caller.is_some() => (State::Spawned, None),
            _ => (State::Queued, None),
        };
        let first = Transition { at: t.now, state, cause: String::new() };
        let attempt = Attempt { link, fresh, ..Attempt::new(self.take_sequence(), new.trigger, decision, first, due) };
        let id = new.id;
        let environment = new.environment;
        let step = Step {
            id,
            target: new.target,
            kind: new.kind,
            arguments: new.arguments,
            options: new.options,
            identity,
            caller: new.caller,
            group: new.group,
            memo: memo.map(|key| Memoised { key, hits: 0, callers: Vec::new() }),
            burst,
            retries_used: 0,
            attempts: vec![attempt],
            command: new.command,
        };
        self.count_new(id, &step);
        if let Some(key) = memo {
            self.memoise(id, key);
        }
        if let Some(Found::Result(success, _)) = found {
            let borrower = (id.attempt(1), environment, step.namespace());
            self.borrow(success.execution, borrower, success.duration, false);
            self.finish_at_once(step);
            for older in older {
                self.supersede(t, older, id);
            }
            return;
        }
        let execution = id.attempt(1);
        let spawn = (state == State::Spawned).then(|| step.clone());
        self.add_live(step);
        self.nodes.insert(execution, Box::default());
        match found {
            Some(Found::Unfinished(leader)) => self.follow(t, execution, leader),
            _ => match spawn {
                Some(step) => self.spawn(t, execution, step),
                None => self.enqueue(t, execution),
            },
        }
        for older in older {
            self.supersede(t, older, id);
        }
        self.watch_references(t, id);
    }

    /// A called workflow gets a run of its own, whose root carries the identity and really runs.
    pub(super) fn spawn(&mut self, t: Turn<'_>, execution: ExecutionId, step: Step) {
        let environment = self.environment_of(execution.step.run);
        let run = self.open_run(t, environment, &step.target, Some(execution.step));
        let Some(attempt) = self.attempt_mut(execution) else { return };
        attempt.link = Some(Link::Run(run));
        let (trigger, decision, due, fresh) = (attempt.trigger, attempt.decision.clone(), attempt.due, attempt.fresh);
        let (identity, burst) = (step.identity, step.burst);
        let root = Step { identity, burst, ..root(run, step.target, step.arguments, step.options) };
        self.insert_step(t, root, trigger, decision, due, fresh);
    }

    /// Adds a step of which a first attempt is queued.
    pub(super) fn insert_step(
        &mut self,
        t: Turn<'_>,
        mut step: Step,
        trigger: Trigger,
        decision: Decision,
        due: Timestamp,
        fresh: Option<u64>,
    ) {
        let first = Transition { at: t.now, state: State::Queued, cause: String::new() };
        let attempt = Attempt::new(self.take_sequence(), trigger, decision, first, due);
        step.attempts.push(Attempt { fresh, ..attempt });
        let id = step.id;
        self.count_new(id, &step);
        self.add_live(step);
        self.nodes.insert(id.attempt(1), Box::default());
        self.enqueue(t, id.attempt(1));
        self.watch_references(t, id);
    }

    fn count_new(&mut self, id: StepId, step: &Step) {
        if let Some(active) = self.runs.get_mut(&id.run) {
            active.run.counts.steps += 1;
            tally::add(&mut active.run.counts, tally::category(step));
            if id.step == 1 {
                active.run.state = step.state();
                active.run.ended = step.attempts.last().and_then(Attempt::ended);
                self.recent.touched_runs.insert(id.run);
            }
        }
    }

    /// Notes that an execution took another's result, and what that saved.
    pub(super) fn borrow(
        &mut self,
        source: ExecutionId,
        (borrower, environment, namespace): (ExecutionId, u32, String),
        saved: u64,
        joined: bool,
    ) {
        if let Some(active) = self.runs.get_mut(&borrower.step.run) {
            active.run.counts.saved = active.run.counts.saved.saturating_add(saved);
            self.recent.touched_runs.insert(borrower.step.run);
        }
        self.recent.rest.borrowed.push(Borrowed { source, borrower, environment, namespace, saved, joined });
    }

    /// Who borrows: an execution, its environment and its namespace.
    pub(super) fn borrower(&self, execution: ExecutionId) -> (ExecutionId, u32, String) {
        let namespace = self.steps.get(&execution.step).map(|live| live.step.namespace()).unwrap_or_default();
        (execution, self.environment_of(execution.step.run), namespace)
    }

    pub(super) fn add_live(&mut self, step: Step) {
        let id = step.id;
        if let Some(active) = self.runs.get_mut(&id.run) {
            active.live.insert(id.step);
        }
        if let Some(caller) = step.caller
            && let Some(calling) = self.steps.get_mut(&caller.step)
        {
            calling.children.insert(id);
        }
        let category = tally::category(&step);
        let live = LiveStep { step, children: std::collections::BTreeSet::new(), unknown: 0, category };
        self.steps.insert(id, Box::new(live));
        self.recent.touched_steps.insert(id);
    }

    fn finish_at_once(&mut self, step: Step) {
        let run = step.id.run;
        self.recent.finished.insert(step.id, step);
        self.retire_run_if_quiet(run);
    }

    pub(super) fn attempt_mut(&mut self, execution: ExecutionId) -> Option<&mut Attempt> {
        let live = self.steps.get_mut(&execution.step)?;
        let index = usize::try_from(execution.attempt).ok()?.checked_sub(1)?;
        self.recent.touched_steps.insert(execution.step);
        live.step.attempts.get_mut(index)
    }

    pub(super) fn attempt(&self, execution: ExecutionId) -> Option<&Attempt> {
        self.steps.get(&execution.step)?.step.attempt(execution.attempt)
    }

    pub(super) fn transition(&mut self, t: Turn<'_>, execution: ExecutionId, state: State, cause: impl Into<String>) {
        if let Some(attempt) = self.attempt_mut(execution) {
            attempt.transitions.push(Transition { at: t.now, state, cause: cause.into() });
        }
        self.touch(execution.step);
    }

    /// Joins a leader; undone at once if it would make somebody wait for itself.
    pub(super) fn follow(&mut self, t: Turn<'_>, follower: ExecutionId, leader: ExecutionId) {
        if let Some(node) = self.nodes.get_mut(&leader) {
            node.followers.insert(follower);
        }
        let due = self.attempt(follower).map_or(t.now, |attempt| attempt.due);
        self.pull_forward(t, leader, due);
        self.break_circle(t, follower, leader);
    }

    /// Lets a queued execution take or join what a look-up found.
    pub(super) fn take_found(&mut self, t: Turn<'_>, execution: ExecutionId, found: Found, when: &str) {
        self.unindex(execution);
        let decision = decision(&found);
        match found {
            Found::Nothing(_) => {}
            Found::Result(success, _) => {
                let source = success.execution;
                if let Some(attempt) = self.attempt_mut(execution) {
                    attempt.link = Some(Link::Source(source));
                    attempt.decision = decision;
                }
                self.borrow(source, self.borrower(execution), success.duration, false);
                self.transition(t, execution, State::Cached, format!("{source} had finished {when}"));
                self.over(execution);
            }
            Found::Unfinished(leader) => {
                if let Some(attempt) = self.attempt_mut(execution) {
                    attempt.link = Some(Link::Leader(leader));
                    attempt.decision = decision;
                }
                self.transition(t, execution, State::Linked, format!("{leader} was already on it {when}"));
                self.follow(t, execution, leader);
            }
        }
    }

    /// A miss as it is remembered where nothing was looked up.
    pub(super) const fn no_match() -> Decision {
        Decision::Miss(Miss::NoMatch)
    }
}

/// Why a task or sensor is not started like a workflow.
#[must_use]
pub fn not_a_workflow(target: &str, kind: TargetKind) -> Refusal {
    let hint = match kind {
        TargetKind::Sensor => "start it with 'ibid sensor start'",
        _ => "tasks are called by other targets",
    };
    Refusal::NotAWorkflow(target.to_owned(), kind.name(), hint)
}

/// The first step of a run, without an attempt yet.
pub(super) const fn root(run: RunId, target: String, arguments: Vec<Argument>, options: CallOptions) -> Step {
    Step {
        id: run.root(),
        target,
        kind: TargetKind::Workflow,
        arguments,
        options,
        identity: None,
        caller: None,
        group: None,
        memo: None,
        burst: None,
        retries_used: 0,
        attempts: Vec::new(),
        command: None,
    }
}
