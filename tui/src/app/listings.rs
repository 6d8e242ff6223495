//! Rows of the screens that are one list each, as cells.

use ibid::model::{Id, State};
use ibid::protocol::{
    Head, KeySummary, NamespaceView, QueueGroup, Row, Scope, Stats, WorkerView, length_in_words, size_in_words,
};

use super::model::{Model, Screen};
use super::steps::short_target;
use crate::output::{ago_shortly, clean, clock, moment};

/// Lines below a key's executions that say what it is doing now, with their border.
pub const SUMMARY_LINES: u16 = 6;

/// A row as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cells {
    pub state: Option<State>,
    pub cells: Vec<String>,
    /// What `enter` opens, where it is not the row's own.
    pub id: Option<Id>,
}

impl Cells {
    const fn new(state: Option<State>, cells: Vec<String>) -> Self {
        Self { state, cells, id: None }
    }
}

/// The rows of the screens that the daemon keeps no window for.
pub fn plain_rows(model: &Model) -> Vec<Cells> {
    match model.screen {
        Screen::Workers => model.workers.iter().map(worker).collect(),
        Screen::Daemon => model.stats.as_ref().map(daemon).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// The title above a list, and the headings of its columns.
pub fn title(model: &Model) -> (String, &'static [&'static str]) {
    let window = &model.main;
    let count = if window.total == window.all {
        window.total.to_string()
    } else {
        format!("{} of {}", window.total, window.all)
    };
    let Scope { project, environment } = model.scope_shown();
    match &model.screen {
        Screen::Queue => (
            format!("queue · {count} · one line a call, however many wait"),
            &["execution", "call", "since", "for", "why"],
        ),
        Screen::Namespaces => (
            format!("cache · {project}/{environment} · {count} namespaces"),
            &["namespace", "made", "failed", "hits", "joined", "saved", "size", "used"],
        ),
        Screen::Keys(namespace) => (
            format!("cache · {project}/{environment} · {} · {count} keys", clean(namespace)),
            &["key", "call", "newest", "runs", "hits", "saved", "size", "used", ""],
        ),
        Screen::Key(_) => (key_title(model, &count), &["execution", "run", "time", "when", "for this key"]),
        Screen::Workers => (
            format!("workers · {}", model.workers.len()),
            &["worker", "role", "state", "repository", "pid", "done", "executes"],
        ),
        Screen::Daemon => ("daemon".to_owned(), &["what", ""]),
        Screen::Runs | Screen::Run(_) => (String::new(), &[]),
    }
}

fn key_title(model: &Model, count: &str) -> String {
    match &model.main.head {
        Head::Key(summary) => format!("{} · {count}", key_name(summary)),
        _ => format!("key · {count}"),
    }
}

/// The columns that go first where there is no room for all, by their headings.
pub const DISPENSABLE: [&str; 5] = ["size", "saved", "runs", "joined", "role"];

/// The columns whose cells stand at the right.
pub const NUMBERS: [&str; 9] = ["made", "failed", "hits", "joined", "saved", "size", "runs", "done", "time"];

/// A key with what it stands for.
pub fn key_name(summary: &KeySummary) -> String {
    let key: String = summary.key.chars().take(8).collect();
    let version = summary.version.as_ref().map_or_else(String::new, |version| format!(" v{version}"));
    clean(&format!("k:{key} {}{version}({})", short_target(&summary.target), summary.arguments))
}

/// What a key is doing now, in sentences.
pub fn summary(summary: &KeySummary, now: i64) -> Vec<String> {
    let mut lines = Vec::new();
    lines.push(match (summary.usable, summary.completed) {
        (Some(usable), Some(completed)) => {
            let age = length_in_words((now - completed).max(0).cast_unsigned());
            format!("{usable} made the result, {age} old: whoever accepts that age takes it")
        }
        _ if summary.forgotten => "its results were forgotten by hand: the next call runs".to_owned(),
        _ => "there is no result that could be taken: the next call runs".to_owned(),
    });
    if let Some(leader) = summary.unfinished {
        lines.push(match summary.followers {
            0 => format!("{leader} is on it now; a call that comes joins it"),
            1 => format!("{leader} is on it now, and another waits for it: one execution for 2"),
            count => format!("{leader} is on it now, and {count} others wait for it: one execution for {}", count + 1),
        });
    }
    lines.push(format!("namespace {}", clean(&summary.namespace)));
    match (summary.pinned, summary.forgotten && summary.usable.is_some()) {
        (true, _) => lines.push("pinned: pruning leaves it".to_owned()),
        (_, true) => lines.push("an older result was forgotten by hand".to_owned()),
        _ => {}
    }
    lines
}

/// A row of a window as cells.
pub fn cells(row: &Row, now: i64) -> Cells {
    match row {
        Row::Queue(group) => queue(group, now),
        Row::Namespace(space) => namespace(space, now),
        Row::Key(row) => {
            let mark = match (row.pinned, row.forgotten) {
                (true, _) => "pinned",
                (_, true) => "forgotten",
                _ => "",
            };
            Cells::new(
                Some(row.line.state),
                vec![
                    row.line.key.chars().take(8).collect(),
                    call(&row.line.target, &row.line.arguments),
                    row.line.execution.to_string(),
                    row.executed.to_string(),
                    row.hits.to_string(),
                    length_in_words(row.saved),
                    size_in_words(row.size),
                    ago_shortly(row.used, now),
                    mark.to_owned(),
                ],
            )
        }
        Row::Execution(row) => Cells::new(
            Some(row.state),
            vec![
                row.execution.to_string(),
                clean(short_target(&row.run)),
                row.duration.map_or_else(String::new, length_in_words),
                clock(row.created).chars().take(8).collect(),
                clean(&row.note),
            ],
        ),
        other => Cells::new(None, vec![other.key()]),
    }
}

fn call(target: &str, arguments: &str) -> String {
    clean(format!("{} {arguments}", short_target(target)).trim_end())
}

/// A namespace with its figures.
pub fn namespace(space: &NamespaceView, now: i64) -> Cells {
    Cells::new(
        None,
        vec![
            clean(&space.namespace),
            space.executed.to_string(),
            space.failed.to_string(),
            space.hits.to_string(),
            space.links.to_string(),
            length_in_words(space.saved),
            size_in_words(space.bytes),
            ago_shortly(space.last_used, now),
        ],
    )
}

fn queue(group: &QueueGroup, now: i64) -> Cells {
    let many = if group.followers > 0 { format!("1 for {}", group.followers + 1) } else { String::new() };
    let since = length_in_words((now - group.since).max(0).cast_unsigned());
    Cells::new(
        Some(group.state),
        vec![group.execution.to_string(), call(&group.target, &group.arguments), since, many, clean(&group.reason)],
    )
}

/// So many executions of a worker are named.
const RUNS_SHOWN: usize = 5;

/// A worker process.
pub fn worker(worker: &WorkerView) -> Cells {
    let mut runs: Vec<_> = worker.executions.iter().take(RUNS_SHOWN).map(ToString::to_string).collect();
    if worker.executions.len() > RUNS_SHOWN {
        runs.push(format!("and {} more", worker.executions.len() - RUNS_SHOWN));
    }
    Cells {
        state: None,
        cells: vec![
            format!("w-{}", worker.worker),
            worker.role.clone(),
            worker.state.clone(),
            clean(&worker.repository),
            worker.pid.map_or_else(String::new, |pid| pid.to_string()),
            worker.finished.to_string(),
            runs.join(" "),
        ],
        id: worker.executions.first().map(|id| Id::Execution(*id)),
    }
}

fn daemon(stats: &Stats) -> Vec<Cells> {
    let row = |name: &str, value: String| Cells::new(None, vec![name.to_owned(), value]);
    let calls = stats.borrowed + stats.executed;
    let percent = (stats.borrowed * 100).checked_div(calls).map_or_else(String::new, |hit| format!(" ({hit}%)"));
    vec![
        row("version", stats.version.clone()),
        row("process", stats.pid.to_string()),
        row("started", format!("{}, took {}", moment(stats.started), length_in_words(stats.start_took))),
        row("data", clean(&stats.data_dir)),
        row("socket", clean(&stats.socket)),
        row("store", format!("{} on disk, {} commits", size_in_words(stats.disk_bytes), stats.turns)),
        row("memory", size_in_words(stats.memory_bytes)),
        row("targets", stats.targets.to_string()),
        row("runs", stats.runs.to_string()),
        row("now", format!("{} running, {} queued, {} linked", stats.running, stats.queued, stats.linked)),
        row("executed", stats.executed.to_string()),
        row("reused", format!("{}{percent}", stats.borrowed)),
        row("saved", length_in_words(stats.saved)),
        row("state", if stats.stopping { "stopping" } else { "serving" }.to_owned()),
    ]
}
