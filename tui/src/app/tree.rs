//! A run's steps as a tree: who called whom.

use std::collections::{BTreeMap, BTreeSet};

use ibid::model::{Id, State, StepId, Trigger};
use ibid::protocol::{ArgumentView, StepView, length_in_words};

use crate::output::clean;

/// One line of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub step: StepId,
    /// The branches before it, e.g. `│ ├`.
    pub branches: String,
    /// How deep it is; the root is 0.
    pub depth: usize,
    /// Whether others are called by it.
    pub has_children: bool,
}

/// The lines of the tree, callers before what they called, in order of submission. What is below a
/// folded step is left out.
pub fn rows(steps: &BTreeMap<StepId, StepView>, folded: &BTreeSet<StepId>) -> Vec<Row> {
    let mut children: BTreeMap<StepId, Vec<StepId>> = BTreeMap::new();
    let mut roots = Vec::new();
    for (id, step) in steps {
        match step.caller.filter(|caller| steps.contains_key(&caller.step)) {
            Some(caller) => children.entry(caller.step).or_default().push(*id),
            None => roots.push(*id),
        }
    }
    let mut rows = Vec::with_capacity(steps.len());
    // The stack holds what is still to be shown, the next on top, with whether it is the last of its kind.
    let mut stack: Vec<(StepId, Vec<bool>, bool)> = roots.into_iter().rev().map(|id| (id, Vec::new(), true)).collect();
    while let Some((id, above, last)) = stack.pop() {
        let below = children.get(&id);
        let depth = above.len();
        let mut branches = String::new();
        for more in above.iter().skip(1) {
            branches.push_str(if *more { "│ " } else { "  " });
        }
        if depth > 0 {
            branches.push(if last { '└' } else { '├' });
        }
        rows.push(Row { step: id, branches, depth, has_children: below.is_some() });
        if let Some(below) = below.filter(|_| !folded.contains(&id)) {
            let mut inner = above;
            inner.push(!last);
            let count = below.len();
            for (index, child) in below.iter().enumerate().rev() {
                stack.push((*child, inner.clone(), index + 1 == count));
            }
        }
    }
    rows
}

/// The glyph of a state; shape says where it stands.
pub const fn glyph(state: State, ascii: bool) -> &'static str {
    match (state, ascii) {
        (State::Queued, false) => "∘",
        (State::Queued, true) => ".",
        (State::Linked, false) => "↪",
        (State::Linked, true) => "&",
        (State::Running, false) => "▸",
        (State::Running, true) | (State::Spawned, true) => ">",
        (State::Spawned, false) => "▹",
        (State::Cached, _) => "=",
        (State::Succeeded, false) => "✓",
        (State::Succeeded, true) => "v",
        (State::Failed | State::TimedOut, false) => "✗",
        (State::Failed | State::TimedOut, true) => "x",
        (State::Cancelled, false) => "⊘",
        (State::Cancelled, true) => "-",
        (State::Abandoned, _) => "?",
    }
}

/// The state that counts for the eye: a called workflow that is over shows how its run ended.
pub fn shown_state(step: &StepView) -> State {
    let Some(attempt) = step.newest() else { return step.state };
    if step.state == State::Spawned && attempt.ended.is_some() {
        return match attempt.detail.rsplit(' ').next() {
            Some("succeeded" | "cached") => State::Succeeded,
            Some("cancelled") => State::Cancelled,
            Some("abandoned") => State::Abandoned,
            _ => State::Failed,
        };
    }
    step.state
}

/// The name of a target without its repository.
pub fn short_target(target: &str) -> &str {
    target.rsplit_once('/').map_or(target, |(_, name)| name)
}

/// Arguments on one line, at most `limit` characters.
pub fn short_arguments(arguments: &[ArgumentView], limit: usize) -> String {
    let texts: Vec<String> = arguments
        .iter()
        .map(|argument| match &argument.value.value {
            Some(json) => clean(json.as_str()),
            None => format!("({})", ibid::protocol::size_in_words(argument.value.size)),
        })
        .collect();
    shorten(&texts.join(" "), limit)
}

/// The start of a text, with an ellipsis where something is missing.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit.saturating_sub(1)).chain(['…']).collect()
}

/// By whose work a step has its outcome: `ran`, `= R12:3.1`, `↪ R39:4.1`, or why it waits.
pub fn via(step: &StepView) -> String {
    let Some(attempt) = step.newest() else { return String::new() };
    let begun = step.attempts.iter().rposition(|attempt| attempt.trigger != Trigger::Retry).unwrap_or(0);
    let mut tries = String::new();
    if step.attempts.get(begun).is_some_and(|attempt| attempt.trigger == Trigger::Rerun) {
        tries.push_str(" again");
    }
    if begun + 1 < step.attempts.len() {
        tries.push_str(&format!(" try {}/{}", step.attempts.len() - begun, step.options.retries.limit + 1));
    }
    match step.state {
        State::Cached => attempt.source.map_or_else(|| "=".to_owned(), |source| format!("= {source}")),
        State::Linked => attempt.leader.map_or_else(|| "↪".to_owned(), |leader| format!("↪ {leader}")),
        State::Spawned => attempt.run.map_or_else(|| "run".to_owned(), |run| format!("run {run}")),
        State::Queued => attempt.detail.clone(),
        State::Failed | State::TimedOut | State::Abandoned | State::Cancelled => match attempt.leader {
            Some(leader) => format!("↪ {leader}"),
            None => {
                attempt.error.as_ref().map_or_else(|| "ran".to_owned(), |error| clean(short_kind(&error.kind))) + &tries
            }
        },
        State::Running if attempt.withdrawn => "cancelled here".to_owned(),
        State::Succeeded if attempt.withdrawn => "ran for others".to_owned(),
        State::Running | State::Succeeded => format!("ran{tries}"),
    }
}

/// The name of an error's type without its module.
pub fn short_kind(kind: &str) -> &str {
    kind.rsplit('.').next().unwrap_or(kind)
}

/// The time column: own run time, the age of a taken result, the wait of a linked one.
pub fn time(step: &StepView, now: i64) -> String {
    let Some(attempt) = step.newest() else { return String::new() };
    let since = |then: i64| length_in_words((now - then).max(0).cast_unsigned());
    match step.state {
        State::Cached => match &attempt.decision {
            ibid::model::Decision::Hit { age, .. } => format!("{} old", length_in_words(*age)),
            _ => "joined".to_owned(),
        },
        State::Linked => format!("{}+", since(attempt.created)),
        State::Running => attempt.started.map_or_else(String::new, |started| format!("{}+", since(started))),
        State::Spawned => match attempt.ended {
            Some(ended) => length_in_words((ended - attempt.created).max(0).cast_unsigned()),
            None => format!("{}+", since(attempt.created)),
        },
        State::Queued => String::new(),
        _ => attempt.duration.map_or_else(String::new, length_in_words),
    }
}

/// Where `gf` leads from a step: to the execution whose work it is.
pub fn source(step: &StepView) -> Option<Id> {
    let attempt = step.newest()?;
    match (attempt.source.or(attempt.leader), attempt.run) {
        (Some(execution), _) => Some(Id::Execution(execution)),
        (None, Some(run)) => Some(Id::Run(run)),
        (None, None) => None,
    }
}
