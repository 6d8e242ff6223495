//! `targets`, `runs`, `queue`, `workers`.

use std::process::ExitCode;

use ibid::model::{Cache, Id, ParameterKind, State};
use ibid::protocol::{ListQueue, ListRuns, ListTargets, ListWorkers, TargetView, length_in_words};

use crate::app::arguments;
use crate::app::listings;
use crate::cli;
use crate::context::{Context, Failure, Outcome};
use crate::output::{self, ago, clean, table};

pub fn targets(context: &Context) -> Outcome {
    let list = context.ask(ListTargets { scope: context.scope.clone() })?;
    if context.json {
        return output::json(&list.targets);
    }
    if list.targets.is_empty() {
        output::print("nothing is registered yet: 'ibid register MODULE' makes a module's targets known\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    output::print(&target_table(&list.targets))?;
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

pub fn runs(context: &Context, list: &cli::ListRuns) -> Outcome {
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
        text.push_str(&format!("… older ones: ibid runs --cursor {next}\n"));
    }
    output::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

pub fn queue(context: &Context) -> Outcome {
    let queue = context.ask(ListQueue { limit: None })?;
    if context.json {
        return output::json(&queue.groups);
    }
    if queue.groups.is_empty() {
        output::print("nothing waits\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = queue
        .groups
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
    output::print(&table(&["EXECUTION", "STATE", "CALL", "SINCE", "FOR", "WHY"], &rows))?;
    Ok(ExitCode::SUCCESS)
}

pub fn workers(context: &Context) -> Outcome {
    let list = context.ask(ListWorkers {})?;
    if context.json {
        return output::json(&list.workers);
    }
    if list.workers.is_empty() {
        output::print("no workers; they are started when there is work\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<_> = list.workers.iter().map(|worker| listings::worker(worker).cells).collect();
    output::print(&table(&["WORKER", "ROLE", "STATE", "REPOSITORY", "PID", "DONE", "RUNS"], &rows))?;
    Ok(ExitCode::SUCCESS)
}
