//! Linear mode: the same data as lines, for screen readers, simple terminals and pipes. Asked for with a
//! word a line on standard input; what is followed is told as it changes, in sentences.

use std::collections::HashMap;
use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;

use ibid::model::{RunId, State};
use ibid::protocol::{
    Anchor, Event, EventBody, Folds, GetLogs, GetRows, GetStats, Head, List, ListWorkers, Notice, Outgoing, Request,
    Row, Rows, RunView, StepView, Subscribe, Topic, Why, length_in_words, size_in_words,
};

use crate::app::arguments;
use crate::app::listings;
use crate::app::steps;
use crate::commands::log_line;
use crate::context::{Context, Failure, Outcome};
use crate::output::{self, ago, clean, counts_in_words};

/// Rows of a list that are told at once.
const ROWS: u32 = 50;

const HELP: &str = "words: runs · run R12 · queue · cache [NAMESPACE] · key KEY-OR-ID · workers · daemon · \
                    why ID · log ID · follow R12 · help · quit\n";

/// Tells the daemon's state and the newest runs, then answers what is asked on standard input.
pub fn run(context: &Context) -> Outcome {
    let asks = std::io::stdin().is_terminal();
    tell_daemon(context)?;
    tell_runs(context)?;
    if asks {
        output::print(HELP)?;
    }
    let mut line = String::new();
    loop {
        if asks {
            output::print("ibid> ")?;
        }
        line.clear();
        let read = std::io::stdin().lock().read_line(&mut line);
        if read.map_or(true, |bytes| bytes == 0) {
            return Ok(ExitCode::SUCCESS);
        }
        let mut words = line.split_whitespace();
        let answered = match (words.next(), words.next()) {
            (None, _) => continue,
            (Some("quit" | "q" | "exit"), _) => return Ok(ExitCode::SUCCESS),
            (Some(word), argument) => answer(context, word, argument),
        };
        // What went wrong with one question does not end the conversation.
        if let Err(failure) = answered {
            output::print(&format!("{}\n", output::clean_lines(&failure.message)))?;
        }
    }
}

fn answer(context: &Context, word: &str, argument: Option<&str>) -> Result<(), Failure> {
    let needed = || argument.ok_or_else(|| Failure::usage(format!("'{word}' needs to know of what, e.g. {word} R12")));
    match word {
        "runs" | "1" => tell_runs(context),
        "run" | "2" => tell_run(context, run_id(needed()?)?),
        "queue" | "3" => tell(context, List::Queue {}),
        "cache" | "4" => tell(
            context,
            match argument {
                Some(namespace) => List::Keys { scope: context.scope.clone(), namespace: namespace.to_owned() },
                None => List::Namespaces { scope: context.scope.clone() },
            },
        ),
        "key" => tell(context, List::Key { scope: context.scope.clone(), key: needed()?.to_owned() }),
        "workers" | "5" => tell_workers(context),
        "daemon" | "6" => tell_daemon(context),
        "why" => {
            let explanation = context.ask(Why { id: arguments::id(needed()?)? })?;
            let mut text = format!("{}\n", clean(&explanation.sentence));
            for cause in &explanation.causes {
                text.push_str(&format!("{} {}\n", clean(&cause.name), clean(&cause.text)));
            }
            if let Some(would) = &explanation.would_hit {
                text.push_str(&format!("{}\n", clean(would)));
            }
            output::print(&text)
        }
        "log" => {
            let log = context.ask(GetLogs { id: arguments::id(needed()?)?, from: None, contains: None })?;
            let lines: String = log.lines.iter().map(|line| format!("{}\n", log_line(line))).collect();
            output::print(&format!("log of {}, {} lines\n{lines}", log.execution, log.lines.len()))
        }
        "follow" => follow(context, run_id(needed()?)?),
        "help" | "?" => output::print(HELP),
        other => Err(Failure::usage(format!("'{other}' is not known here. {}", HELP.trim_end()))),
    }
}

fn run_id(text: &str) -> Result<RunId, Failure> {
    Ok(arguments::id(text)?.run())
}

fn ask(context: &Context, list: List) -> Result<Rows, Failure> {
    context.ask(GetRows {
        list,
        filter: String::new(),
        sort: None,
        reverse: false,
        anchor: Anchor::First,
        before: 0,
        after: ROWS - 1,
    })
}

fn tell_runs(context: &Context) -> Result<(), Failure> {
    let scope = context.scope_named.then(|| context.scope.clone());
    tell(context, List::Runs { scope })
}

fn tell_run(context: &Context, run: RunId) -> Result<(), Failure> {
    tell(context, List::Steps { run, folds: Folds::default() })
}

fn tell(context: &Context, list: List) -> Result<(), Failure> {
    let kind = match &list {
        List::Runs { .. } => "runs",
        List::Steps { .. } => "rows",
        List::Queue {} => "calls wait or are waited for",
        List::Namespaces { .. } => "namespaces",
        List::Keys { .. } => "keys",
        List::Key { .. } => "executions",
        List::Log { .. } => "lines",
    };
    let rows = ask(context, list)?;
    let now = output::now();
    let mut text = String::new();
    match &rows.head {
        Head::Run { run, .. } => text.push_str(&format!("{}\n", run_sentence(run, now))),
        Head::Key(summary) => {
            text.push_str(&format!("{}\n", listings::key_name(summary)));
            for line in listings::summary(summary, now) {
                text.push_str(&format!("{line}\n"));
            }
        }
        _ => {}
    }
    text.push_str(&format!("{} {kind}\n", rows.total));
    for row in &rows.rows {
        text.push_str(&format!("{}\n", sentence(row, now)));
    }
    let shown = rows.rows.len() as u64;
    if rows.total > shown {
        text.push_str(&format!("and {} more\n", rows.total - shown));
    }
    output::print(&text)
}

fn tell_workers(context: &Context) -> Result<(), Failure> {
    let list = context.ask(ListWorkers {})?;
    let mut text = format!("{} workers\n", list.workers.len());
    for worker in &list.workers {
        let runs: Vec<_> = worker.executions.iter().map(ToString::to_string).collect();
        let runs = if runs.is_empty() { String::new() } else { format!(", runs {}", runs.join(" ")) };
        let pid = worker.pid.map_or_else(String::new, |pid| format!(", process {pid}"));
        text.push_str(&format!(
            "worker w-{}, {}, {}, of {}{pid}, {} done{runs}\n",
            worker.worker,
            worker.role,
            worker.state,
            clean(&worker.repository),
            worker.finished
        ));
    }
    output::print(&text)
}

fn tell_daemon(context: &Context) -> Result<(), Failure> {
    let stats = context.ask(GetStats {})?;
    output::print(&format!(
        "daemon {}, process {}, {} running, {} queued, {} linked to {}, {} executed, {} reused, saved {}, {} on disk\n",
        stats.version,
        stats.pid,
        stats.running,
        stats.queued,
        stats.linked,
        stats.leaders,
        stats.executed,
        stats.borrowed,
        length_in_words(stats.saved),
        size_in_words(stats.disk_bytes),
    ))
}

/// A row as a sentence.
fn sentence(row: &Row, now: i64) -> String {
    match row {
        Row::Run(run) => run_sentence(run, now),
        Row::Step(row) => step_sentence(&row.step, now),
        Row::Group(group) => {
            let states: Vec<_> =
                group.states.iter().map(|(state, count)| format!("{count} {}", state.name())).collect();
            format!("group {} from {}, {} calls: {}", clean(&group.name), group.first, group.calls, states.join(", "))
        }
        Row::Queue(group) => {
            let many = match group.followers {
                0 => String::new(),
                count => format!(", one execution for {}", count + 1),
            };
            let since = length_in_words((now - group.since).max(0).cast_unsigned());
            let call = format!("{} {}", steps::short_target(&group.target), group.arguments);
            format!(
                "{} {}, {} for {since}, {}{many}",
                group.execution,
                clean(call.trim_end()),
                group.state.name(),
                clean(&group.reason)
            )
        }
        Row::Namespace(space) => format!(
            "{}, {} executed, {} failed, {} hits, {} joined, saved {}, {}, used {}",
            clean(&space.namespace),
            space.executed,
            space.failed,
            space.hits,
            space.links,
            length_in_words(space.saved),
            size_in_words(space.bytes),
            ago(space.last_used)
        ),
        Row::Key(row) => {
            let call = format!("{} {}", steps::short_target(&row.line.target), row.line.arguments);
            format!(
                "key {}, {}, newest {} {}, {} executed, {} hits, saved {}, used {}{}{}",
                row.line.key.chars().take(12).collect::<String>(),
                clean(call.trim_end()),
                row.line.execution,
                row.line.state.name(),
                row.executed,
                row.hits,
                length_in_words(row.saved),
                ago(row.used),
                if row.pinned { ", pinned" } else { "" },
                if row.forgotten { ", forgotten" } else { "" },
            )
        }
        Row::Execution(row) => {
            let took = row.duration.map_or_else(String::new, |took| format!(", took {}", length_in_words(took)));
            format!("{} {}{took}, {}", row.execution, row.state.name(), clean(&row.note))
        }
        Row::Line(line) => log_line(&line.line),
        Row::Same(key) => key.clone(),
    }
}

fn run_sentence(run: &RunView, now: i64) -> String {
    let lasted = (run.ended.unwrap_or(now) - run.begun).max(0).cast_unsigned();
    let how = if run.ended.is_some() { "in" } else { "for" };
    format!(
        "{} {} {} {how} {}, {}, started {}",
        run.id,
        clean(&run.target),
        run.state.name(),
        length_in_words(lasted),
        counts_in_words(run),
        ago(run.created)
    )
}

fn step_sentence(step: &StepView, now: i64) -> String {
    let name =
        format!("{} {} {}", step.id, steps::short_target(&step.target), steps::short_arguments(&step.arguments, 60));
    let name = clean(name.trim_end());
    let Some(attempt) = step.newest() else { return name };
    let since = |then: i64| length_in_words((now - then).max(0).cast_unsigned());
    let how = match (step.state, attempt.leader, attempt.source) {
        (State::Linked, Some(leader), _) => format!("linked to {leader}, waiting {}", since(attempt.created)),
        (State::Cached, _, Some(source)) => format!("cached, the result of {source}, {}", steps::time(step, now)),
        (State::Running, ..) => {
            format!("running for {}", since(attempt.started.unwrap_or(attempt.created)))
        }
        (state, ..) => {
            let took = attempt.duration.map_or_else(String::new, |took| format!(" in {}", length_in_words(took)));
            format!("{}{took}", state.name())
        }
    };
    let detail = match (step.state, attempt.detail.is_empty()) {
        (State::Linked | State::Cached, _) | (_, true) => String::new(),
        (_, false) => format!(", {}", clean(&attempt.detail)),
    };
    let led = match attempt.followers.len() {
        0 => String::new(),
        1 => ", 1 other waits for it".to_owned(),
        count => format!(", {count} others wait for it"),
    };
    format!("{name} {how}{detail}{led}")
}

/// Tells what changes in a run until it has ended.
fn follow(context: &Context, run: RunId) -> Result<(), Failure> {
    let (sender, mut listener) = context.connect()?.split();
    let get = GetRows {
        list: List::Steps { run, folds: Folds { all_groups: true, ..Folds::default() } },
        filter: String::new(),
        sort: None,
        reverse: false,
        anchor: Anchor::First,
        before: 0,
        after: 1999,
    };
    sender.send(1, Request::Subscribe(Subscribe { topic: Topic::Rows(get) }))?;
    let mut told: HashMap<String, (State, usize)> = HashMap::new();
    loop {
        match listener.receive()? {
            Outgoing::Notice(Notice::Event(Event { body: EventBody::Rows(rows), .. })) => {
                let now = output::now();
                for row in &rows.rows {
                    let Some(step) = row.step() else { continue };
                    let state = (step.state, step.attempts.len());
                    if told.insert(row.key(), state) != Some(state) {
                        output::print(&format!("{}\n", sentence(row, now)))?;
                    }
                }
                if let Head::Run { run, .. } = &rows.head
                    && run.ended.is_some()
                {
                    return output::print(&format!("{}\n", run_sentence(run, now)));
                }
            }
            Outgoing::Notice(Notice::Event(Event { body: EventBody::Refused(refused), .. }))
            | Outgoing::Reply(_, Err(refused)) => return Err(ibid::blocking::ClientError::from(refused).into()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ibid::model::Id;

    #[test]
    fn an_id_of_a_step_means_its_run_where_a_run_is_asked_for() {
        assert_eq!(run_id("R12:3").unwrap(), RunId(12));
        assert_eq!(arguments::id("R12:3").unwrap(), Id::Step(ibid::model::StepId { run: RunId(12), step: 3 }));
        assert!(run_id("twelve").is_err());
    }
}
