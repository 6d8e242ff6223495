//! The screens that are one list each: queue, cache, workers, daemon.

use ibid::model::{Id, State};
use ibid::protocol::{
    KeyLine, ListCache, ListQueue, ListWorkers, NamespaceView, QueueGroup, Reply, Request, Scope, Stats, WorkerView,
    length_in_words, size_in_words,
};

use super::model::{Filter, Model, Purpose, Screen};
use super::tree;
use crate::output::{ago, clean, moment};

/// Which list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    Queue,
    Cache,
    Workers,
    Daemon,
}

/// What `enter` does on a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opens {
    Nothing,
    Step(Id),
    Namespace(String),
}

/// A row as it is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it is, over every change of the list.
    pub key: String,
    pub state: Option<State>,
    pub cells: Vec<String>,
    pub opens: Opens,
}

/// What the daemon said last of each.
#[derive(Debug, Default)]
pub struct Listings {
    pub queue: Vec<QueueGroup>,
    pub namespaces: Vec<NamespaceView>,
    /// The namespace that is looked into, and its keys.
    pub namespace: Option<String>,
    pub keys: Vec<KeyLine>,
    pub workers: Vec<WorkerView>,
    /// The key of the selected row.
    pub selected: String,
    pub offset: usize,
    /// Whether the list has come since the screen was opened.
    pub known: bool,
}

impl Model {
    /// Opens a list.
    pub fn show_listing(&mut self, listing: Listing) {
        if self.screen == Screen::List(listing) {
            return;
        }
        self.push_here();
        self.leave_run();
        self.screen = Screen::List(listing);
        self.listings.known = listing == Listing::Daemon;
        self.listings.namespace = None;
        self.listings.selected.clear();
        self.listings.offset = 0;
        self.ask_listing();
    }

    /// Asks for the list that is shown; answers to what was asked before do not count any more.
    pub fn ask_listing(&mut self) {
        let Screen::List(listing) = self.screen else { return };
        let request = match listing {
            Listing::Queue => Request::Queue(ListQueue { limit: None }),
            Listing::Cache => Request::CacheList(ListCache {
                scope: self.scope_shown(),
                namespace: self.listings.namespace.clone(),
                limit: Some(1000),
            }),
            Listing::Workers => Request::Workers(ListWorkers {}),
            Listing::Daemon => return,
        };
        self.ask(Purpose::Listing, request);
    }

    /// A list has come.
    pub fn take_listing(&mut self, reply: Reply) {
        match reply {
            Reply::Queue(list) => self.listings.queue = list.groups,
            Reply::CacheList(list) => {
                self.listings.namespaces = list.namespaces;
                self.listings.keys = list.keys;
            }
            Reply::Workers(list) => self.listings.workers = list.workers,
            _ => return,
        }
        self.listings.known = true;
        self.show_selected();
    }

    /// The project and environment that the cache is shown of: those of the run that was looked at last.
    pub fn scope_shown(&self) -> Scope {
        let run = self.last_run.or(self.selected_run).and_then(|id| self.runs.get(&id));
        run.map_or_else(
            || self.scope.clone(),
            |run| Scope { project: run.project.clone(), environment: run.environment.clone() },
        )
    }

    /// The rows of the list that is shown, filtered.
    pub fn listed(&self) -> Vec<Row> {
        let Screen::List(listing) = self.screen else { return Vec::new() };
        let rows = match listing {
            Listing::Queue => self.listings.queue.iter().map(queue_row).collect(),
            Listing::Cache if self.listings.namespace.is_some() => self.listings.keys.iter().map(key_row).collect(),
            Listing::Cache => self.listings.namespaces.iter().map(namespace_row).collect(),
            Listing::Workers => self.listings.workers.iter().map(worker_row).collect(),
            Listing::Daemon => self.stats.as_ref().map(daemon_rows).unwrap_or_default(),
        };
        let filter = Filter::parse(&self.filter);
        let matches = |row: &Row| filter.holds(row.state.unwrap_or(State::Succeeded), &row.cells.join(" "));
        let mut rows: Vec<Row> = rows;
        rows.retain(matches);
        rows
    }

    /// The headings of its columns, and the title above.
    pub fn listing_title(&self, listing: Listing, rows: usize) -> (String, &'static [&'static str]) {
        match listing {
            Listing::Queue => (
                format!("queue · {rows} · one line a call, however many wait for it"),
                &["execution", "call", "since", "for", "why"],
            ),
            Listing::Cache => {
                let Scope { project, environment } = self.scope_shown();
                match &self.listings.namespace {
                    Some(namespace) => (
                        format!("cache · {project}/{environment} · {} · {rows} newest", clean(namespace)),
                        &["execution", "key", "call", "took", "made"],
                    ),
                    None => (
                        format!("cache · {project}/{environment} · {rows} namespaces"),
                        &["namespace", "made", "failed", "hits", "joined", "saved", "size", "used"],
                    ),
                }
            }
            Listing::Workers => {
                (format!("workers · {rows}"), &["worker", "role", "state", "repository", "pid", "done", "runs"])
            }
            Listing::Daemon => ("daemon".to_owned(), &["what", ""]),
        }
    }

    /// Where the selected row is.
    pub fn listing_place(&self, rows: &[Row]) -> usize {
        rows.iter().position(|row| row.key == self.listings.selected).unwrap_or(0)
    }

    /// Moves the selection of the list.
    pub fn move_in_listing(&mut self, by: isize) {
        let rows = self.listed();
        let at = self.listing_place(&rows).saturating_add_signed(by).min(rows.len().saturating_sub(1));
        if let Some(row) = rows.get(at) {
            self.listings.selected.clone_from(&row.key);
        }
    }

    /// Opens what the selected row is about.
    pub fn open_listed(&mut self) {
        let rows = self.listed();
        let Some(row) = rows.get(self.listing_place(&rows)) else { return };
        match row.opens.clone() {
            Opens::Nothing => {}
            Opens::Step(id) => {
                let step = id.step();
                self.open_run(step.run, Some(step));
            }
            Opens::Namespace(name) => {
                self.listings.namespace = Some(name);
                self.listings.keys.clear();
                self.listings.known = false;
                self.listings.selected.clear();
                self.filter.clear();
                self.ask_listing();
            }
        }
    }

    /// Leaves the keys of a namespace for all namespaces. Says whether it was there.
    pub fn leave_namespace(&mut self) -> bool {
        if self.screen != Screen::List(Listing::Cache) {
            return false;
        }
        let Some(name) = self.listings.namespace.take() else { return false };
        self.listings.selected = name;
        self.ask_listing();
        true
    }

    /// The id of the selected row, for explaining, running again and cancelling.
    pub fn listed_id(&self) -> Option<Id> {
        let rows = self.listed();
        match &rows.get(self.listing_place(&rows))?.opens {
            Opens::Step(id) => Some(*id),
            _ => None,
        }
    }
}

fn call(target: &str, arguments: &str) -> String {
    clean(format!("{} {arguments}", tree::short_target(target)).trim_end())
}

fn queue_row(group: &QueueGroup) -> Row {
    let now = crate::output::now();
    let id = group.execution.to_string();
    let many = if group.followers > 0 { format!("1 for {}", group.followers + 1) } else { String::new() };
    let since = length_in_words((now - group.since).max(0).cast_unsigned());
    Row {
        key: id.clone(),
        state: Some(group.state),
        cells: vec![id, call(&group.target, &group.arguments), since, many, clean(&group.reason)],
        opens: Opens::Step(Id::Execution(group.execution)),
    }
}

/// A namespace with its figures.
pub fn namespace_row(space: &NamespaceView) -> Row {
    Row {
        key: space.namespace.clone(),
        state: None,
        cells: vec![
            clean(&space.namespace),
            space.executed.to_string(),
            space.failed.to_string(),
            space.hits.to_string(),
            space.links.to_string(),
            length_in_words(space.saved),
            size_in_words(space.bytes),
            ago(space.last_used),
        ],
        opens: Opens::Namespace(space.namespace.clone()),
    }
}

fn key_row(line: &KeyLine) -> Row {
    let id = line.execution.to_string();
    Row {
        key: id.clone(),
        state: Some(line.state),
        cells: vec![
            id,
            line.key.chars().take(8).collect(),
            call(&line.target, &line.arguments),
            line.duration.map_or_else(String::new, length_in_words),
            ago(line.created),
        ],
        opens: Opens::Step(Id::Execution(line.execution)),
    }
}

/// A worker process.
pub fn worker_row(worker: &WorkerView) -> Row {
    let runs: Vec<_> = worker.executions.iter().map(ToString::to_string).collect();
    Row {
        key: worker.worker.to_string(),
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
        opens: worker.executions.first().map_or(Opens::Nothing, |id| Opens::Step(Id::Execution(*id))),
    }
}

fn daemon_rows(stats: &Stats) -> Vec<Row> {
    let row = |name: &str, value: String| Row {
        key: name.to_owned(),
        state: None,
        cells: vec![name.to_owned(), value],
        opens: Opens::Nothing,
    };
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
