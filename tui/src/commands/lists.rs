//! `targets`, `runs`, `queue`, `workers`.

use std::process::ExitCode;

use ibid::model::{Cache, Id, ParameterKind, State};
use ibid::protocol::{ListQueue, ListRuns, ListTargets, ListWorkers, TargetView, length_in_words};

use crate::app::arguments;
use crate::app::listings;
use crate::cli;
use crate::context::{Context, Failure, NOT_FOUND, Outcome};
use crate::output::{self, ago, clean, table};

/// What a list can be filtered by.
pub struct Facts {
    /// As the first column has it.
    pub key: String,
    pub state: String,
    pub target: String,
    /// `None` where the list has no times.
    pub since: Option<i64>,
}

/// The part of a list that was asked for, and the place where the next one begins.
pub fn page<T>(
    items: Vec<T>,
    list: &cli::List,
    facts: impl Fn(&T) -> Facts,
) -> Result<(Vec<T>, Option<String>), Failure> {
    let since = list.since.as_deref().map(arguments::age).transpose()?;
    let since = since.map(|age| output::now().saturating_sub_unsigned(age));
    if since.is_some() && items.iter().any(|item| facts(item).since.is_none()) {
        return Err(Failure::usage("this list has no times: --since has no meaning for it"));
    }
    if let Some(cursor) = &list.cursor
        && !items.iter().any(|item| facts(item).key == *cursor)
    {
        let message =
            format!("'{cursor}' is not in the list: --cursor takes what the first column of its last line says");
        return Err(Failure { code: NOT_FOUND, kind: "not_found".to_owned(), message });
    }
    let after = items.iter().position(|item| Some(facts(item).key) == list.cursor).map_or(0, |at| at + 1);
    let wanted = |item: &T| {
        let facts = facts(item);
        list.state.as_ref().is_none_or(|state| facts.state == *state)
            && list.target.as_ref().is_none_or(|target| facts.target.contains(target.as_str()))
            && since.is_none_or(|since| facts.since.is_some_and(|at| at >= since))
    };
    let mut shown: Vec<T> = items.into_iter().skip(after).filter(wanted).collect();
    let limit = usize::try_from(list.limit.max(1)).unwrap_or(usize::MAX);
    let more = shown.len() > limit;
    shown.truncate(limit);
    let next = shown.last().filter(|_| more).map(|last| facts(last).key);
    Ok((shown, next))
}

/// Says under a table that there is more.
pub fn more(command: &str, next: Option<&str>) -> String {
    next.map_or_else(String::new, |next| format!("… more: ibid {command} --cursor {}\n", clean(next)))
}

pub fn targets(context: &Context, list: &cli::List) -> Outcome {
    let all = context.ask(ListTargets { scope: context.scope.clone() })?.targets;
    let none = all.is_empty();
    let (targets, next) = page(all, list, |target| Facts {
        key: target.target.clone(),
        state: target.kind.name().to_owned(),
        target: target.target.clone(),
        since: None,
    })?;
    if context.json {
        return output::json(&targets);
    }
    if none {
        output::print("nothing is registered yet: 'ibid register MODULE' makes a module's targets known\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&format!("{}{}", target_table(&targets), more("targets", next.as_deref())))?;
    Ok(ExitCode::SUCCESS)
}

pub fn target_table(targets: &[TargetView]) -> String {
    let rows: Vec<_> = targets
        .iter()
        .map(|target| {
            vec![
                clean(&target.target),
                target.kind.name().to_owned(),
                clean(&signature(target)),
                cache_in_words(target.options.cache),
                clean(target.doc.as_deref().unwrap_or_default()),
            ]
        })
        .collect();
    table(&["TARGET", "KIND", "ARGUMENTS", "CACHE", "ABOUT"], &rows)
}

fn signature(target: &TargetView) -> String {
    let parameters: Vec<_> = target
        .parameters
        .iter()
        .map(|parameter| {
            let stars = match parameter.kind {
                ParameterKind::VarPositional => "*",
                ParameterKind::VarKeyword => "**",
                _ => "",
            };
            match &parameter.default {
                Some(default) => format!("{}={default}", parameter.name),
                None => format!("{stars}{}", parameter.name),
            }
        })
        .collect();
    format!("({})", parameters.join(", "))
}

pub fn cache_in_words(cache: Cache) -> String {
    match cache {
        Cache::Off => "off".to_owned(),
        Cache::On => "on".to_owned(),
        Cache::MaxAge(age) => length_in_words(age),
    }
}

pub fn runs(context: &Context, list: &cli::List) -> Outcome {
    let state = match &list.state {
        None => None,
        Some(name) => Some(State::ALL.into_iter().find(|state| state.name() == name).ok_or_else(|| {
            let names: Vec<_> = State::ALL.iter().map(|state| state.name()).collect();
            Failure::usage(format!("'{name}' is no state; the states are {}", names.join(", ")))
        })?),
    };
    let since = match &list.since {
        None => None,
        Some(text) => Some(output::now() - i64::try_from(arguments::age(text)?).unwrap_or(i64::MAX)),
    };
    let cursor = match &list.cursor {
        None => None,
        Some(text) => match arguments::id(text)? {
            Id::Run(run) => Some(run),
            _ => return Err(Failure::usage("--cursor takes a run, e.g. R12")),
        },
    };
    let limit = if list.limit == 0 { 50 } else { list.limit };
    let all = context.ask(ListRuns {
        scope: context.scope_named.then(|| context.scope.clone()),
        state,
        target: list.target.clone(),
        since,
        limit: Some(limit),
        cursor,
    })?;
    if context.json {
        return output::json(&all);
    }
    if all.runs.is_empty() {
        output::print("no runs\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = all
        .runs
        .iter()
        .map(|run| {
            let lasted = match run.ended {
                Some(ended) => length_in_words((ended - run.begun).max(0).cast_unsigned()),
                None => format!("{}+", length_in_words((output::now() - run.begun).max(0).cast_unsigned())),
            };
            vec![
                run.id.to_string(),
                output::state(run.state),
                clean(&run.target),
                lasted,
                ago(run.created),
                output::counts_in_words(run),
            ]
        })
        .collect();
    let mut text = table(&["RUN", "STATE", "TARGET", "TIME", "STARTED", "STEPS"], &rows);
    if let Some(next) = all.next {
        text.push_str(&format!("… more: ibid runs --cursor {next}\n"));
    }
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

pub fn queue(context: &Context, list: &cli::List) -> Outcome {
    let all = context.ask(ListQueue { limit: Some(u32::MAX) })?.groups;
    let none = all.is_empty();
    let (groups, next) = page(all, list, |group| Facts {
        key: group.execution.to_string(),
        state: group.state.name().to_owned(),
        target: group.target.clone(),
        since: Some(group.since),
    })?;
    if context.json {
        return output::json(&groups);
    }
    if none {
        output::print("nothing waits\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = groups
        .iter()
        .map(|group| {
            let followers =
                if group.followers > 0 { format!("1 runs for {}", group.followers + 1) } else { String::new() };
            vec![
                group.execution.to_string(),
                output::state(group.state),
                format!("{} {}", clean(&group.target), clean(&group.arguments)),
                length_in_words((output::now() - group.since).max(0).cast_unsigned()),
                followers,
                clean(&group.reason),
            ]
        })
        .collect();
    let text = table(&["EXECUTION", "STATE", "CALL", "SINCE", "FOR", "WHY"], &rows);
    output::print(&format!("{text}{}", more("queue", next.as_deref())))?;
    Ok(ExitCode::SUCCESS)
}

pub fn workers(context: &Context, list: &cli::List) -> Outcome {
    let all = context.ask(ListWorkers {})?.workers;
    let none = all.is_empty();
    let (workers, next) = page(all, list, |worker| Facts {
        key: format!("w-{}", worker.worker),
        state: worker.state.clone(),
        target: worker.repository.clone(),
        since: Some(worker.started),
    })?;
    if context.json {
        return output::json(&workers);
    }
    if none {
        output::print("no workers; they are started when there is work\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = workers.iter().map(|worker| listings::worker(worker).cells).collect();
    let text = table(&["WORKER", "ROLE", "STATE", "REPOSITORY", "PID", "DONE", "RUNS"], &rows);
    output::print(&format!("{text}{}", more("workers", next.as_deref())))?;
    Ok(ExitCode::SUCCESS)
}
