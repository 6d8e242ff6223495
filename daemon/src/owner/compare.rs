//! What differs between two executions: what decides a look-up, and what came of it.

use ibid::model::{Attempt, ExecutionId, Id, Link, Step, Stored};
use ibid::protocol::{ComparedPart, Comparison, Refused, length_in_words, size_in_words};
use serde_json::Value;

use super::Owner;
use super::requests::not_found;
use crate::store::{StoreError, View};
use crate::workers::DROPPED;

/// Values longer than this are compared by their hash only, bytes.
const VALUE_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// How many places within a value are named at most.
const CHANGES_MAX: usize = 200;

/// How much of a value is shown, characters.
const SHOWN: usize = 60;

/// One side.
struct Side {
    execution: ExecutionId,
    environment: String,
    names: Vec<String>,
    step: Step,
    attempt: Attempt,
    /// The step and attempt that made the result.
    result: Option<Stored>,
}

impl Owner {
    pub(super) async fn compare(&self, one: Id, other: Id) -> Result<Comparison, Refused> {
        let (one, other) = (self.side(one)?, self.side(other)?);
        let (a, b) = (one.execution, other.execution);
        let parts = self.read(move |view| parts(view, &one, &other)).await?;
        Ok(Comparison { one: a, other: b, parts })
    }

    fn side(&self, id: Id) -> Result<Side, Refused> {
        self.known(&mut self.state.borrow_mut(), id)?;
        let run = self.run_of(id)?;
        let mut guard = self.state.borrow_mut();
        let state = &mut *guard;
        let missing = || Refused::new("not_found", format!("there is no {id}"));
        let Some(step) = state.decide(|engine, t| engine.step(t, id.step())) else { return Err(not_found(state, id)) };
        let execution = match id {
            Id::Execution(execution) => execution,
            _ => step.newest(),
        };
        let attempt = step.attempt(execution.attempt).cloned().ok_or_else(missing)?;
        let made = match attempt.link {
            Some(Link::Source(source)) => {
                let step = state.decide(|engine, t| engine.step(t, source.step));
                step.and_then(|step| step.attempt(source.attempt)?.result.clone())
            }
            _ => attempt.result.clone(),
        };
        let environment = state.engine.environment_by_number(run.environment);
        let environment = environment.map(|found| format!("{}/{}", found.project, found.name)).unwrap_or_default();
        let names = state
            .engine
            .target(run.environment, &step.target)
            .map(|(_, spec)| spec.parameters.iter().map(|parameter| parameter.name.clone()).collect())
            .unwrap_or_default();
        Ok(Side { execution, environment, names, step, attempt, result: made })
    }
}

fn parts(view: &View, one: &Side, other: &Side) -> Result<Vec<ComparedPart>, StoreError> {
    let mut parts = Vec::new();
    let mut plain = |name: &str, in_key: bool, a: String, b: String| {
        parts.push(ComparedPart {
            name: name.to_owned(),
            equal: a == b,
            in_key,
            one: a,
            other: b,
            changes: Vec::new(),
        });
    };
    let none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    plain("target", false, one.step.target.clone(), other.step.target.clone());
    plain("environment", true, one.environment.clone(), other.environment.clone());
    plain("namespace", true, one.step.namespace(), other.step.namespace());
    plain("version", true, none(&one.step.options.cache_version), none(&other.step.options.cache_version));
    let age = |side: &Side| match side.step.options.cache {
        ibid::model::Cache::Off => "off".to_owned(),
        ibid::model::Cache::On => "any age".to_owned(),
        ibid::model::Cache::MaxAge(age) => format!("at most {}", length_in_words(age)),
    };
    plain("cache", false, age(one), age(other));
    let own_key = one.step.options.cache_key.is_some() || other.step.options.cache_key.is_some();
    if own_key {
        plain("own key", true, none(&one.step.options.cache_key), none(&other.step.options.cache_key));
    }
    let count = one.step.arguments.len().max(other.step.arguments.len());
    for position in 0..count {
        let name = one.names.get(position).or_else(|| other.names.get(position));
        let name = name.cloned().unwrap_or_else(|| position.to_string());
        let value = |side: &Side| side.step.arguments.get(position).map(|argument| argument.value.clone());
        parts.push(compared(view, &format!("argument {name}"), !own_key, value(one).as_ref(), value(other).as_ref())?);
    }
    let mut plain = |name: &str, a: String, b: String| {
        let equal = a == b;
        parts.push(ComparedPart { name: name.to_owned(), equal, in_key: false, one: a, other: b, changes: Vec::new() });
    };
    let key = |side: &Side| side.step.identity.as_ref().map_or_else(|| "none".to_owned(), |found| found.short());
    plain("key", key(one), key(other));
    plain("state", one.attempt.state().name().to_owned(), other.attempt.state().name().to_owned());
    plain("why", one.attempt.decision.kind().to_owned(), other.attempt.decision.kind().to_owned());
    let time = |side: &Side| side.attempt.duration().map_or_else(|| "none of its own".to_owned(), length_in_words);
    plain("time", time(one), time(other));
    let error = |side: &Side| {
        let failure = side.attempt.failure.as_ref();
        failure.map_or_else(|| "none".to_owned(), |failure| format!("{}: {}", failure.kind, failure.message))
    };
    plain("error", error(one), error(other));
    parts.push(compared(view, "result", false, one.result.as_ref(), other.result.as_ref())?);
    parts.push(logs(view, one.execution, other.execution)?);
    Ok(parts)
}

/// A value of both, and where within it they differ.
fn compared(
    view: &View,
    name: &str,
    in_key: bool,
    one: Option<&Stored>,
    other: Option<&Stored>,
) -> Result<ComparedPart, StoreError> {
    let (a, b) = (text(view, one)?, text(view, other)?);
    let shown = |text: &Option<String>, stored: Option<&Stored>| match (text, stored) {
        (Some(text), _) if text.chars().count() > SHOWN => {
            let start: String = text.chars().take(SHOWN).collect();
            format!("{start}… {}", size_in_words(text.len() as u64))
        }
        (Some(text), _) => text.clone(),
        (None, Some(Stored::Kept { hash, size, .. })) => {
            format!(
                "{} blake3 {}",
                size_in_words(*size),
                blake3::Hash::from(*hash).to_hex().get(..8).unwrap_or_default()
            )
        }
        (None, Some(Stored::Inline(json))) => json.to_string(),
        (None, None) => "none".to_owned(),
    };
    let equal = match (one, other) {
        (Some(Stored::Kept { hash: a, .. }), Some(Stored::Kept { hash: b, .. })) => a == b,
        _ => a == b,
    };
    let mut changes = Vec::new();
    if !equal && let (Some(a), Some(b)) = (&a, &b) {
        match (serde_json::from_str::<Value>(a), serde_json::from_str::<Value>(b)) {
            (Ok(a), Ok(b)) => differences(&a, &b, &mut changes),
            _ => changes.push("neither is JSON that can be looked into".to_owned()),
        }
    }
    let name = name.to_owned();
    Ok(ComparedPart { name, equal, in_key, one: shown(&a, one), other: shown(&b, other), changes })
}

/// The text of a value, unless it is too long.
fn text(view: &View, value: Option<&Stored>) -> Result<Option<String>, StoreError> {
    match value {
        Some(Stored::Inline(json)) => Ok(Some(json.to_string())),
        Some(Stored::Kept { size, .. }) if *size > VALUE_MAX_BYTES => Ok(None),
        Some(kept @ Stored::Kept { .. }) => Ok(view.whole(kept)?.map(|json| json.to_string())),
        None => Ok(None),
    }
}

/// Where two values differ: a path, and what is at it in the one (`-`) and the other (`+`).
fn differences(one: &Value, other: &Value, changes: &mut Vec<String>) {
    let mut stack = vec![(String::new(), one, other)];
    while let Some((path, a, b)) = stack.pop() {
        if changes.len() >= CHANGES_MAX {
            changes.push("… and more".to_owned());
            return;
        }
        if a == b {
            continue;
        }
        match (a, b) {
            (Value::Object(a), Value::Object(b)) => {
                let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
                names.sort_unstable();
                names.dedup();
                for name in names.into_iter().rev() {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    stack.push((path, a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null)));
                }
            }
            (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
                for (at, (a, b)) in a.iter().zip(b).enumerate().rev() {
                    stack.push((format!("{path}[{at}]"), a, b));
                }
            }
            (Value::Array(a), Value::Array(b)) => {
                // Of lists of different length what the one has more often than the other.
                changes.push(format!("{path} {} → {} items", a.len(), b.len()));
                let rest = |from: &[Value], without: &[Value], sign: char, changes: &mut Vec<String>| {
                    for item in from.iter().filter(|item| !without.contains(item)).take(20) {
                        changes.push(format!("{path} {sign} {}", short(item)));
                    }
                };
                if a.len().saturating_mul(b.len()) <= 1_000_000 {
                    rest(a, b, '-', changes);
                    rest(b, a, '+', changes);
                }
            }
            (Value::String(a), Value::String(b)) if a.contains('\n') || b.contains('\n') => lines(&path, a, b, changes),
            (a, b) => {
                changes.push(format!("{path} - {}", short(a)));
                changes.push(format!("{path} + {}", short(b)));
            }
        }
    }
}

/// Lines that only one of two texts has.
fn lines(path: &str, one: &str, other: &str, changes: &mut Vec<String>) {
    let only = |text: &str, without: &str, sign: char, changes: &mut Vec<String>| {
        let known: std::collections::BTreeSet<&str> = without.lines().collect();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !known.contains(line)).take(20) {
            let line: String = line.chars().take(SHOWN * 2).collect();
            changes.push(format!("{path} line {} {sign} {line}", number + 1));
        }
    };
    only(one, other, '-', changes);
    only(other, one, '+', changes);
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN - 1).chain(['…']).collect() }
}

/// The logs of both, side by side as they are read: how many lines, and the first that differ. Times are
/// not compared.
fn logs(view: &View, one: ExecutionId, other: ExecutionId) -> Result<ComparedPart, StoreError> {
    let (mut a, mut b) = (lines_of(view, one), lines_of(view, other));
    let (mut counts, mut number, mut changes) = ((0_u64, 0_u64), 0_u64, Vec::new());
    loop {
        let (left, right) = (a.next().transpose()?, b.next().transpose()?);
        if left.is_none() && right.is_none() {
            break;
        }
        number += 1;
        counts = (counts.0 + u64::from(left.is_some()), counts.1 + u64::from(right.is_some()));
        if left != right && changes.len() < 10 {
            let shown = |line: &str| line.chars().take(SHOWN * 2).collect::<String>();
            changes.extend(left.map(|line| format!("line {number} - {}", shown(&line))));
            changes.extend(right.map(|line| format!("line {number} + {}", shown(&line))));
        }
    }
    Ok(ComparedPart {
        name: "log".to_owned(),
        equal: changes.is_empty(),
        in_key: false,
        one: format!("{} lines", counts.0),
        other: format!("{} lines", counts.1),
        changes,
    })
}

/// The lines of a log with their levels, read piece by piece.
fn lines_of(view: &View, execution: ExecutionId) -> impl Iterator<Item = Result<String, StoreError>> {
    view.log_pieces(execution, 0, false).flat_map(|piece| match piece {
        Ok(piece) => {
            let lines = piece.lines.into_iter().filter(|line| line.level != DROPPED);
            lines.map(|line| Ok(format!("{} {}", line.level, line.text))).collect::<Vec<_>>()
        }
        Err(error) => vec![Err(error)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(one: &str, other: &str) -> Vec<String> {
        let mut found = Vec::new();
        differences(&serde_json::from_str(one).unwrap(), &serde_json::from_str(other).unwrap(), &mut found);
        found
    }

    #[test]
    fn values_are_compared_place_by_place() {
        assert_eq!(changes(r#"{"a": [1, 2], "b": "x"}"#, r#"{"a": [1, 3], "b": "x"}"#), ["a[1] - 2", "a[1] + 3"]);
        assert_eq!(changes(r#"{"a": 1}"#, r#"{"b": 1}"#), ["a - 1", "a + null", "b - null", "b + 1"]);
        assert_eq!(changes("[1, 2, 3]", "[1, 3]"), [" 3 → 2 items", " - 2"]);
        assert_eq!(changes(r#""a\nb\nc""#, r#""a\nX\nc""#), [" line 2 - b", " line 2 + X"]);
    }

    #[test]
    fn of_many_differences_the_first_are_named() {
        let list = |start: u32| serde_json::to_string(&(start..start + 1000).collect::<Vec<_>>()).unwrap();
        let found = changes(&list(0), &list(1));
        assert!(found.len() <= CHANGES_MAX + 2 && found.last().is_some_and(|last| last == "… and more"));
    }
}
