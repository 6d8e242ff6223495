//! Steps in words and glyphs.

use ibid::model::{Id, State, Trigger};
use ibid::protocol::{ArgumentView, StepView, length_in_words};

use crate::output::clean;

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
        (State::Deferred, false) => "↷",
        (State::Deferred, true) => "^",
    }
}

/// The state that counts for the eye: a called workflow that is over shows how its run ended, and so
/// does a replaced call where that is bad.
pub fn shown_state(step: &StepView) -> State {
    let Some(attempt) = step.newest() else { return step.state };
    if step.state == State::Deferred && attempt.ended.is_some() && attempt.detail.ends_with("failed") {
        return State::Failed;
    }
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
    // Of a command only its words: the rest is the same for all.
    if let [command, directory, ..] = arguments
        && (command.name.as_str(), directory.name.as_str()) == ("command", "directory")
        && let Some(typed) = command.value.value.as_ref().and_then(ibid::protocol::command_in_words)
    {
        return shorten(&clean(&typed), limit);
    }
    let texts: Vec<String> = arguments
        .iter()
        .map(|argument| match &argument.value.value {
            Some(json) => clean(&ibid::protocol::value_in_words(json)),
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
        State::Deferred => attempt.successor.map_or_else(|| "↷".to_owned(), |newer| format!("↷ {newer}")),
        State::Queued => attempt.detail.clone(),
        State::Failed | State::TimedOut | State::Abandoned | State::Cancelled => match attempt.leader {
            Some(leader) => format!("↪ {leader}"),
            None => {
                let word = match (step.state, attempt.worker) {
                    (State::Abandoned, Some(worker)) => format!("lost w-{worker}"),
                    (State::TimedOut, _) => "timed out".to_owned(),
                    (state, _) => state.name().to_owned(),
                };
                let is_told = step.state == State::Failed;
                let kind = attempt.error.as_ref().filter(|_| is_told).map(|error| clean(short_kind(&error.kind)));
                kind.unwrap_or(word) + &tries
            }
        },
        State::Running if attempt.withdrawn => "cancelled here".to_owned(),
        State::Succeeded if attempt.withdrawn => "ran for others".to_owned(),
        State::Running | State::Succeeded => format!("ran{tries}"),
    }
}

/// How far an execution has come, e.g. `pages 30/120 25%`, with its figures behind.
pub fn progress(step: &StepView) -> Option<String> {
    let attempt = step.newest()?;
    let counters = attempt.progress.iter().map(|counter| {
        let label = if counter.label.is_empty() { String::new() } else { format!("{} ", clean(&counter.label)) };
        match counter.total {
            Some(total) if total > 0.0 => {
                let percent = (counter.done / total * 100.0).clamp(0.0, 100.0);
                format!("{label}{}/{} {percent:.0}%", figure(counter.done), figure(total))
            }
            _ => format!("{label}{}", figure(counter.done)),
        }
    });
    let metrics = attempt.metrics.iter().map(|(name, value)| format!("{}={}", clean(name), figure(*value)));
    let text = counters.chain(metrics).collect::<Vec<_>>().join("  ");
    (!text.is_empty()).then_some(text)
}

/// A figure with as many digits as people read.
fn figure(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        return format!("{value:.0}");
    }
    if (0.001..1e6).contains(&value.abs()) { format!("{value:.4}") } else { format!("{value:.3e}") }
}

/// The part of its work that an execution has done, where it says of how much: 0 to 1.
pub fn part_done(step: &StepView) -> Option<f64> {
    let counter = step.newest()?.progress.iter().find(|counter| counter.total.is_some_and(|total| total > 0.0))?;
    Some((counter.done / counter.total?).clamp(0.0, 1.0))
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
        State::Deferred => String::new(),
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
    match (attempt.source.or(attempt.leader).or(attempt.successor), attempt.run) {
        (Some(execution), _) => Some(Id::Execution(execution)),
        (None, Some(run)) => Some(Id::Run(run)),
        (None, None) => None,
    }
}

/// How many calls are in which state, e.g. `✓3 =5 ↪3 ▸1`.
pub fn counts(states: &[(State, u32)], ascii: bool) -> String {
    let part = |(state, count): &(State, u32)| format!("{}{count}", glyph(*state, ascii));
    states.iter().map(part).collect::<Vec<_>>().join(" ")
}

/// The state that matters most among several.
pub fn weightiest(states: &[(State, u32)]) -> State {
    const BY_WEIGHT: [State; 8] = [
        State::Failed,
        State::TimedOut,
        State::Abandoned,
        State::Running,
        State::Spawned,
        State::Linked,
        State::Queued,
        State::Cancelled,
    ];
    let has = |state: &State| states.iter().any(|(known, _)| known == state);
    BY_WEIGHT.into_iter().find(has).unwrap_or(State::Succeeded)
}
