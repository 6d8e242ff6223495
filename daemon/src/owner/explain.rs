//! Why something ran, joined or was taken; and what a start would do.

use ibid::model::{
    Attempt, Cache, Decision, ExecutionId, Id, Link, Miss, State as ExecutionState, Step, StepId, Stored, Trigger,
};
use ibid::protocol::{ExplainedCall, ExplainedStart, Explanation, Fact, Refused, Reply, Submit};

use tokio::sync::oneshot;

use super::commands::Computed;
use super::lists::Answered;
use super::requests::{not_found, read_argument};
use super::{Owner, State, views};
use crate::engine::Explained;

/// How many earlier executions are compared to find the nearest.
const COMPARED_MAX: usize = 1000;

/// How far a root cause is looked for, calls.
const CAUSES_MAX: usize = 16;

/// A value shorter than this is not taken for the result of another call because it is equal.
const GIVEN_MIN_BYTES: usize = 8;

/// Among how many calls of a run the one that gave a value is looked for.
const GIVERS_MAX: usize = 5000;

/// How many earlier runs are looked through for one with the same arguments.
const RUNS_SEARCHED_MAX: usize = 2000;

impl Owner {
    pub(super) async fn why(&self, id: Id) -> Answered {
        self.known(&mut self.state.borrow_mut(), id)?;
        let run = self.run_of(id)?;
        let step = self.state.borrow_mut().decide(|engine, t| engine.step(t, id.step()));
        let Some(step) = step else { return Err(not_found(&self.state.borrow(), id)) };
        let execution = match id {
            Id::Execution(execution) => execution,
            _ => step.newest(),
        };
        let Some(attempt) = step.attempt(execution.attempt).cloned() else {
            return Err(not_found(&self.state.borrow(), id));
        };
        let mut facts = Facts::default();
        let mut causes = Vec::new();
        let deferred = attempt.state() == ExecutionState::Deferred;
        let mut would_hit = would_hit(&attempt.decision).filter(|_| !deferred);
        let declared =
            self.state.borrow().engine.target(run.environment, &step.target).map(|(_, spec)| spec.options.cache);
        if attempt.decision == Decision::ByHand && declared.is_some_and(|cache| cache != Cache::Off) {
            would_hit = Some("would be looked up with --use-cache, or when called from another target".to_owned());
        }
        let mut kind = match attempt.state() {
            ExecutionState::Deferred => "superseded".to_owned(),
            _ => attempt.decision.kind().to_owned(),
        };
        let mut sentence = sentence(&step.target, execution, &attempt.decision);
        if attempt.decision == Decision::Miss(Miss::NoMatch) {
            let nearest = self.nearest(run.environment, &step, attempt.sequence).await?;
            if let Some(nearest) = nearest {
                let told = {
                    let state = self.state.borrow();
                    compare(&state, run.environment, &step, &nearest)
                };
                if let Some(other_kind) = told.kind {
                    kind = other_kind;
                }
                sentence = format!("{execution} ran because {}.", told.because);
                would_hit = Some(told.would_hit);
                facts.add_id("nearest", nearest.id.to_string(), Id::Step(nearest.id));
                for (name, text) in told.differences {
                    facts.add(&name, text);
                }
                let (chain, hint) = self.root_cause(run.environment, &step, &nearest).await?;
                would_hit = hint.or(would_hit);
                causes = chain;
            } else {
                sentence = format!("{execution} ran because nothing was remembered in {} yet.", step.namespace());
            }
        }
        self.tell_what_followed(run.environment, &step, &attempt, &mut sentence, &mut facts);
        if step.attempts.len() > 1 && attempt.trigger != Trigger::Rerun {
            let newest = step.newest();
            if newest != execution {
                facts.add_id("newest attempt", newest.to_string(), Id::Execution(newest));
            }
        }
        facts.add("target", step.target.clone());
        if let Some(identity) = &step.identity {
            facts.add("namespace", step.namespace());
            if let Some(version) = &step.options.cache_version {
                facts.add("version", version.clone());
            }
            facts.add("key", identity.hex());
            if let Some(own) = &step.options.cache_key {
                facts.add("own key", own.clone());
            }
        }
        facts.add("cache", cache_in_words(step.options.cache));
        facts.add("arguments", views::short_arguments(&step));
        if let Decision::Hit { source, .. } = attempt.decision
            && let Some(changed) = self.changed_since(run.environment, &step, source)
        {
            sentence.push_str(&format!(" But {changed}."));
            facts.add("warning", changed);
        }
        Ok(Reply::Why(Explanation {
            execution,
            kind,
            sentence,
            facts: facts.all,
            would_hit,
            causes,
            decision: attempt.decision,
        }))
    }

    /// Why an argument is not what it was: where it is the result of another call, why that one's differs,
    /// and so on to the first that was not caused by another. Also what would have made it a hit there.
    async fn root_cause(
        &self,
        environment: u32,
        step: &Step,
        nearest: &Step,
    ) -> Result<(Vec<Fact>, Option<String>), Refused> {
        let mut causes = Facts::default();
        let mut hint = None;
        let (mut step, mut nearest) = (step.clone(), nearest.clone());
        for _ in 0..CAUSES_MAX {
            let Some((name, own, other)) = self.differing_reference(environment, &step, &nearest).await? else { break };
            let (made, before) = (self.doing_the_work(Id::Step(own)), self.doing_the_work(Id::Step(other)));
            let by = if made.step == own { String::new() } else { format!(", which has that of {made}") };
            causes.add_id(
                &format!("argument {name}"),
                format!("is the result of {own}{by}; in {} it was that of {before}", nearest.id),
                Id::Execution(made),
            );
            let producer = self.state.borrow_mut().decide(|engine, t| engine.step(t, made.step));
            let Some(producer) = producer else { break };
            let Some(attempt) = producer.attempt(made.attempt).cloned() else { break };
            let mut told = sentence(&producer.target, made, &attempt.decision);
            if attempt.decision != Decision::Miss(Miss::NoMatch) {
                hint = would_hit(&attempt.decision).map(|hint| format!("{hint}, for {}", producer.target));
                causes.add_id("because", told, Id::Execution(made));
                break;
            }
            let Some(closest) = self.nearest(environment, &producer, attempt.sequence).await? else {
                causes.add_id("because", told, Id::Execution(made));
                break;
            };
            let compared = compare(&self.state.borrow(), environment, &producer, &closest);
            told = format!("{made} ran because {}.", compared.because);
            hint = Some(format!("{}, for {}", compared.would_hit, producer.target));
            causes.add_id("because", told, Id::Execution(made));
            (step, nearest) = (producer, closest);
        }
        Ok((causes.all, hint))
    }

    /// The first argument that differs and is the result of another call: its name, that call, and the one
    /// whose result it was before. A caller may pass a result on as a plain value: then the call that gave
    /// just this value is the one.
    async fn differing_reference(
        &self,
        environment: u32,
        step: &Step,
        nearest: &Step,
    ) -> Result<Option<(String, StepId, StepId)>, Refused> {
        for (position, (own, other)) in step.arguments.iter().zip(&nearest.arguments).enumerate() {
            if argument_digest(own) == argument_digest(other) && own.references == other.references {
                continue;
            }
            let mut pairs: Vec<_> = own.references.iter().copied().zip(other.references.iter().copied()).collect();
            if pairs.is_empty()
                && let (Some(one), Some(before)) =
                    (self.giver(step, &own.value).await?, self.giver(nearest, &other.value).await?)
            {
                pairs.push((one, before));
            }
            for (one, before) in pairs {
                if self.doing_the_work(Id::Step(one)) != self.doing_the_work(Id::Step(before)) {
                    let state = self.state.borrow();
                    let spec = state.engine.target(environment, &step.target).map(|(_, spec)| spec);
                    let name = spec.and_then(|spec| Some(spec.parameters.get(position)?.name.clone()));
                    return Ok(Some((name.unwrap_or_else(|| position.to_string()), one, before)));
                }
            }
        }
        Ok(None)
    }

    /// The call of the same caller, made before, that gave just this value. Short values say little.
    async fn giver(&self, step: &Step, value: &Stored) -> Result<Option<StepId>, Refused> {
        if matches!(value, Stored::Inline(json) if json.as_str().len() < GIVEN_MIN_BYTES) {
            return Ok(None);
        }
        let (id, caller, value) = (step.id, step.caller, value.clone());
        self.read(move |view| {
            for other in view.steps(id.run, 0, GIVERS_MAX)? {
                if other.id >= id {
                    break;
                }
                if other.caller != caller {
                    continue;
                }
                let Some(attempt) = other.attempts.last() else { continue };
                let made = match attempt.link {
                    Some(Link::Source(source)) => {
                        view.step(source.step)?.and_then(|step| step.attempt(source.attempt)?.result.clone())
                    }
                    _ => attempt.result.clone(),
                };
                if made.is_some_and(|made| same_value(&made, &value)) {
                    return Ok(Some(other.id));
                }
            }
            Ok(None)
        })
        .await
    }

    /// What came of the verdict: from where a result was taken, who took its place, whom it answered.
    fn tell_what_followed(
        &self,
        environment: u32,
        step: &Step,
        attempt: &Attempt,
        sentence: &mut String,
        facts: &mut Facts,
    ) {
        let state = self.state.borrow();
        if let Some(Link::Source(other) | Link::Leader(other)) = attempt.link
            && let Some(name) = views::other_environment(&state, environment, other)
        {
            sentence.push_str(&format!(" It is in the base environment '{name}'."));
            facts.add_id("environment of the source", name, Id::Execution(other));
        }
        if let (ExecutionState::Deferred, Some(Link::Successor(newer))) = (attempt.state(), attempt.link) {
            *sentence = format!(
                "It did not run: {newer}, a newer call of {} with the same defer key, took its place while it was \
                 queued, and its result counts for both.",
                step.target
            );
            facts.add_id("replaced by", newer.to_string(), Id::Execution(newer));
        }
        if let Decision::Retry { after } = attempt.decision {
            let failure = step.attempt(after.attempt).and_then(|attempt| attempt.failure.as_ref());
            let why = failure.map_or_else(String::new, |failure| format!(": {}", failure.message));
            facts.add_id("retry after", format!("{after}{why}"), Id::Execution(after));
        }
        for blocking in state.engine.blocked_by(step.newest()) {
            facts.add_id("waits for", blocking.to_string(), Id::Step(blocking));
        }
        if let Some(memo) = step.memo.as_ref().filter(|memo| memo.hits > 0) {
            let callers: Vec<_> = memo.callers.iter().take(8).map(ToString::to_string).collect();
            let calls = if memo.hits == 1 { "call" } else { "calls" };
            sentence.push_str(&format!(" As a memo it has answered {} later {calls} of its run.", memo.hits));
            facts.add("memo", format!("{} later {calls}, made by {}", memo.hits, callers.join(" ")));
        }
    }

    /// Says so if the target's code is no longer what made a result.
    fn changed_since(&self, environment: u32, step: &Step, source: ExecutionId) -> Option<String> {
        let mut state = self.state.borrow_mut();
        let made = state.decide(|engine, t| engine.step(t, source.step))?;
        let then = made.attempt(source.attempt)?.source.clone()?;
        let (_, spec) = state.engine.target(environment, &step.target)?;
        let changed = made.target == step.target && spec.source.as_ref().is_some_and(|now| *now != then);
        changed.then(|| format!("the code of {} has changed since; set cache_version or re-run", step.target))
    }

    /// The earlier execution of the namespace that has most parts in common, newest first.
    async fn nearest(&self, environment: u32, step: &Step, before: u64) -> Result<Option<Step>, Refused> {
        let namespace = step.namespace();
        let own = step.id;
        let wanted: Vec<_> = step.arguments.iter().map(argument_digest).collect();
        let version = step.options.cache_version.clone();
        self.read(move |view| {
            let mut best: Option<(usize, Step)> = None;
            for line in view.history(environment, &namespace, COMPARED_MAX)? {
                let Some(other) = view.step(line.execution.step)? else { continue };
                let earlier = other.attempt(line.execution.attempt).is_some_and(|attempt| attempt.sequence < before);
                if other.id == own || !earlier {
                    continue;
                }
                let mut equal = wanted.iter().zip(&other.arguments).filter(|(a, b)| **a == argument_digest(b)).count();
                equal += usize::from(other.options.cache_version == version);
                if best.as_ref().is_none_or(|(most, _)| equal > *most) {
                    best = Some((equal, other));
                }
            }
            Ok(best.map(|(_, step)| step))
        })
        .await
    }

    async fn computed_for(&self, start: &Submit) -> Result<Computed, Refused> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state.borrow_mut();
            let environment = self.environment(&state, &start.scope)?;
            self.work_out(&mut state, environment, [start.target.clone()].into_iter(), move |_, _, computed| {
                // Whoever asked may have gone.
                let _gone = sender.send(computed);
            });
        }
        receiver.await.map_err(|_| Refused::new("internal", "the inputs were not worked out"))?
    }

    pub(super) async fn explain(&self, start: Submit) -> Answered {
        let computed = self.computed_for(&start).await?;
        let (environment, options, bound) = self.prepare(&self.state.borrow(), &start, &computed)?;
        let mut arguments = Vec::with_capacity(bound.len());
        for json in bound {
            arguments.push(read_argument(&self.state.borrow(), json)?.0);
        }
        let mut calls = Vec::new();
        let explained = self
            .state
            .borrow_mut()
            .decide(|engine, t| engine.explain(t, environment, &start.target, &options, &arguments));
        let texts: Vec<_> = arguments.iter().map(|argument| text_of(&argument.value)).collect();
        let by_hand = options.cache == Cache::Off;
        calls.push(ExplainedCall {
            target: start.target.clone(),
            arguments: texts.join(", "),
            kind: if by_hand { "by_hand".to_owned() } else { explained.decision.kind().to_owned() },
            sentence: if by_hand {
                format!("{} would run: it is started by hand, so no caller evaluates its cache settings.", start.target)
            } else {
                would(&start.target, &explained)
            },
            step: None,
        });
        let target = start.target.clone();
        let wanted: Vec<_> = arguments.iter().map(argument_digest).collect();
        let like = self
            .read(move |view| {
                let page = view.runs(None, RUNS_SEARCHED_MAX, |run| {
                    run.environment == environment && run.target == target && run.state == ExecutionState::Succeeded
                })?;
                for run in page.items {
                    let Some(root) = view.step(run.id.root())? else { continue };
                    if root.arguments.iter().map(argument_digest).collect::<Vec<_>>() == wanted {
                        let steps = view.steps(run.id, 2, 1000)?;
                        return Ok(Some((run.id, steps)));
                    }
                }
                Ok(None)
            })
            .await?;
        let Some((like, steps)) = like else {
            return Ok(Reply::Explain(ExplainedStart { like: None, calls }));
        };
        for step in steps.into_iter().filter(|step| step.caller.is_some_and(|caller| caller.step == like.root())) {
            calls.push(self.explain_call(environment, step));
        }
        Ok(Reply::Explain(ExplainedStart { like: Some(like), calls }))
    }

    fn explain_call(&self, environment: u32, step: Step) -> ExplainedCall {
        let explained = self
            .state
            .borrow_mut()
            .decide(|engine, t| engine.explain(t, environment, &step.target, &step.options, &step.arguments));
        let mut sentence = would(&step.target, &explained);
        if let Decision::Hit { source, .. } = explained.decision
            && let Some(changed) = self.changed_since(environment, &step, source)
        {
            sentence.push_str(&format!(" But {changed}."));
        }
        ExplainedCall {
            target: step.target.clone(),
            arguments: views::short_arguments(&step),
            kind: explained.decision.kind().to_owned(),
            sentence,
            step: Some(step.id),
        }
    }
}

#[derive(Default)]
struct Facts {
    all: Vec<Fact>,
}

impl Facts {
    fn add(&mut self, name: &str, text: String) {
        self.all.push(Fact { name: name.to_owned(), text, id: None });
    }

    fn add_id(&mut self, name: &str, text: String, id: Id) {
        self.all.push(Fact { name: name.to_owned(), text, id: Some(id) });
    }
}

/// The verdict in one sentence.
fn sentence(target: &str, execution: ExecutionId, decision: &Decision) -> String {
    let length = views::length;
    match decision {
        Decision::Hit { source, age, duration } => format!(
            "{execution} took the result of {source}, which was {} old; that saved {}.",
            length(*age),
            length(*duration)
        ),
        Decision::Linked { leader } => {
            format!("{execution} joined {leader}, which was already on the same call, and shares its outcome.")
        }
        Decision::Off => format!("{execution} ran because caching is off for {target}."),
        Decision::ByHand => {
            format!("{execution} ran because it was started by hand, so no caller evaluated its cache settings.")
        }
        Decision::Forced => format!("{execution} ran because it was forced by a re-run, which ignores the cache."),
        Decision::Retry { after } => format!("{execution} ran because {after} had ended badly; retries never look up."),
        Decision::NoStableDigest { argument } => format!(
            "{execution} ran because argument {argument} has no digest that stays the same between processes, \
             so it cannot be compared."
        ),
        Decision::WouldWaitForItself { leader } => {
            format!("{execution} ran because, joined to {leader} or replaced by it, it would have waited for itself.")
        }
        Decision::Deferring => {
            format!("{execution} is put off, as it has a defer key; it is looked up when it is due.")
        }
        Decision::Restarted { after } => {
            format!("{execution} was started because a sensor is kept running and {after} had ended.")
        }
        Decision::Miss(miss) => format!("{execution} ran because {}.", miss_in_words(miss)),
    }
}

fn miss_in_words(miss: &Miss) -> String {
    let length = views::length;
    match miss {
        Miss::NoMatch => "no earlier call has its namespace, version and key".to_owned(),
        Miss::TooOld { source, age, max_age } => {
            format!("the result of {source} was {} old and at most {} is accepted", length(*age), length(*max_age))
        }
        Miss::LastFailed { execution } => {
            format!("the last execution of the same call, {execution}, did not succeed, and failures are not reused")
        }
        Miss::OtherEnvironment { execution, environment } => format!(
            "the only result, of {execution}, is in the environment '{environment}', which this one does not look into"
        ),
        Miss::Forgotten { execution, .. } => {
            format!("the result of {execution} was taken out of the cache by hand (forget)")
        }
        Miss::OwnAncestor { execution } => {
            format!("the only candidate, {execution}, is one of its own callers, which waits for it")
        }
    }
}

/// What would have made it a hit.
fn would_hit(decision: &Decision) -> Option<String> {
    let hint = match decision {
        Decision::Miss(Miss::TooOld { age, .. }) => format!("would hit with cache={}", age_setting(*age)),
        Decision::Miss(Miss::LastFailed { execution }) => format!("would hit if {execution} had succeeded"),
        Decision::Miss(Miss::OtherEnvironment { environment, .. }) => {
            format!("would hit if '{environment}' were this environment or a base of it")
        }
        Decision::Miss(Miss::Forgotten { execution, .. }) => {
            format!("would hit if the result of {execution} were put back ('ibid cache forget {execution} --undo')")
        }
        Decision::Miss(Miss::NoMatch) => "would hit after one successful execution".to_owned(),
        Decision::Off => "would be looked up with cache=True".to_owned(),
        Decision::ByHand => "would be looked up with --use-cache".to_owned(),
        Decision::NoStableDigest { .. } => "would be looked up with a cache_key of its own".to_owned(),
        _ => return None,
    };
    Some(hint)
}

/// The smallest setting, in a unit people use, that accepts a result of this age.
fn age_setting(age: u64) -> String {
    match age {
        0..60_000 => format!("{}s", age / 1000 + 1),
        60_000..3_600_000 => format!("{}m", age / 60_000 + 1),
        3_600_000..172_800_000 => format!("{}h", age / 3_600_000 + 1),
        _ => format!("{}d", age / 86_400_000 + 1),
    }
}

/// What would happen to a call, in one sentence.
fn would(target: &str, explained: &Explained) -> String {
    let length = views::length;
    match &explained.decision {
        Decision::Hit { source, age, duration } => {
            format!("{target} would take the result of {source}, {} old, and save {}.", length(*age), length(*duration))
        }
        Decision::Linked { leader } => format!("{target} would join {leader}, which is already on the same call."),
        Decision::Off => format!("{target} would run: caching is off for it."),
        Decision::NoStableDigest { argument } => {
            format!("{target} would run: argument {argument} has no digest that stays the same between processes.")
        }
        Decision::Miss(miss) => {
            let hint = would_hit(&explained.decision).map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("{target} would run, because {}{hint}.", miss_in_words(miss))
        }
        _ => format!("{target} would run."),
    }
}

fn cache_in_words(cache: Cache) -> String {
    match cache {
        Cache::Off => "off".to_owned(),
        Cache::On => "on, any age".to_owned(),
        Cache::MaxAge(age) => format!("on, at most {}", views::length(age)),
    }
}

fn argument_digest(argument: &ibid::model::Argument) -> [u8; 32] {
    match &argument.value {
        Stored::Inline(json) => *blake3::hash(json.as_str().as_bytes()).as_bytes(),
        Stored::Kept { hash, .. } => *hash,
    }
}

fn same_value(one: &Stored, other: &Stored) -> bool {
    match (one, other) {
        (Stored::Inline(one), Stored::Inline(other)) => one.as_str() == other.as_str(),
        (Stored::Kept { hash: one, .. }, Stored::Kept { hash: other, .. }) => one == other,
        _ => false,
    }
}

fn text_of(value: &Stored) -> String {
    match value {
        Stored::Inline(json) => json.as_str().chars().take(60).collect(),
        Stored::Kept { size, .. } => format!("({size} bytes)"),
    }
}

struct Comparison {
    kind: Option<String>,
    because: String,
    would_hit: String,
    differences: Vec<(String, String)>,
}

/// Which parts of two calls of one namespace differ.
fn compare(state: &State, environment: u32, step: &Step, nearest: &Step) -> Comparison {
    let mut differences = Vec::new();
    let (own, other) = (&step.options.cache_version, &nearest.options.cache_version);
    if own != other {
        let shown = |version: &Option<String>| version.clone().unwrap_or_else(|| "none".to_owned());
        differences.push(("version".to_owned(), format!("{} → {}", shown(other), shown(own))));
    }
    if let (Some(own), Some(other)) = (&step.options.cache_key, &nearest.options.cache_key) {
        if own != other {
            differences.push(("own key".to_owned(), format!("{other} → {own}")));
        }
    } else {
        let names: Vec<String> = state
            .engine
            .target(environment, &step.target)
            .map(|(_, spec)| spec.parameters.iter().map(|parameter| parameter.name.clone()).collect())
            .unwrap_or_default();
        for (position, (own, other)) in step.arguments.iter().zip(&nearest.arguments).enumerate() {
            if argument_digest(own) != argument_digest(other) {
                let name = names.get(position).cloned().unwrap_or_else(|| position.to_string());
                differences.push((name, format!("{} → {}", text_of(&other.value), text_of(&own.value))));
            }
        }
        if step.arguments.len() != nearest.arguments.len() {
            let counts = format!("{} → {}", nearest.arguments.len(), step.arguments.len());
            differences.push(("number of arguments".to_owned(), counts));
        }
    }
    let id: StepId = nearest.id;
    let only_version = differences.len() == 1 && own != other;
    let because = match differences.as_slice() {
        [] => format!("it refers to other results than the nearest earlier call, {id}"),
        [(name, change)] if only_version => {
            format!("its {name} differs from that of the nearest earlier call, {id}: {change}")
        }
        [(name, change)] => {
            format!("its argument {name} differs from that of the nearest earlier call, {id}: {change}")
        }
        many => {
            let names: Vec<_> = many.iter().map(|(name, _)| name.as_str()).collect();
            format!("{} differ from those of the nearest earlier call, {id}", names.join(", "))
        }
    };
    let names: Vec<_> = differences.iter().map(|(name, _)| name.as_str()).collect();
    let would_hit = match names.as_slice() {
        [] => format!("would hit if it referred to the same results as {id}"),
        names => format!("would hit if {} were as in {id}", names.join(" and ")),
    };
    Comparison { kind: only_version.then(|| "other_version".to_owned()), because, would_hit, differences }
}
