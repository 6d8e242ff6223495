//! What the screens show: a copy of what the daemon said last, and where the user is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ibid::model::{ExecutionId, Id, RunId, State, StepId};
use ibid::protocol::{Explanation, LogLine, Request, RunView, Scope, Stats, StepView};

use super::listings::{Listing, Listings};
use super::sensors::SensorBoard;
use super::tree;

/// Log lines that are held; older ones are in the daemon.
pub const LOG_LINES_MAX: usize = 20_000;

/// Runs that are held.
pub const RUNS_MAX: usize = 1000;

/// How the connection is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    Connecting,
    Connected,
    /// Since when (ms since 1970), and why.
    Lost(i64, String),
    /// It will not get better by waiting.
    Wrong(String),
}

/// Which screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Screen {
    Runs,
    Run(RunId),
    List(Listing),
}

/// Which part of the run screen has the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pane {
    Tree,
    Inspector,
    Log,
}

/// A place to come back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub screen: Screen,
    pub run: Option<RunId>,
    pub step: Option<StepId>,
}

/// Something in front of the screen.
#[derive(Debug, Clone)]
pub enum Overlay {
    Help {
        scroll: u16,
    },
    Explain {
        explanation: Box<Explanation>,
        scroll: u16,
    },
    /// What a re-run of this step would be.
    Rerun {
        step: StepId,
    },
    /// A cancel that concerns others: how many wait.
    Cancel {
        id: Id,
        others: usize,
    },
    /// Executions to choose from.
    Choose {
        title: String,
        ids: Vec<ExecutionId>,
        selected: usize,
    },
    /// Actions to choose from by what is typed.
    Palette {
        typed: String,
        selected: usize,
    },
    /// What is kept running, and what could be.
    Sensors(Box<SensorBoard>),
}

/// A run that is looked at.
#[derive(Debug, Default)]
pub struct Looked {
    pub run: Option<RunView>,
    pub steps: BTreeMap<StepId, StepView>,
    pub folds: tree::Folds,
    /// The selected step; where a group is selected its first.
    pub selected: Option<StepId>,
    /// Whether the group is selected rather than its first step.
    pub on_group: bool,
    pub offset: usize,
    /// The lines of the tree, in order; made anew when the steps change.
    pub rows: Vec<tree::Row>,
    /// Whose log is shown, and its lines.
    pub log_of: Option<ExecutionId>,
    pub log: Vec<LogLine>,
    pub log_dropped: u64,
    /// Lines scrolled up from the end; 0 follows.
    pub log_back: usize,
}

impl Looked {
    /// The line that is selected.
    pub fn key(&self) -> Option<tree::RowKey> {
        Some((self.selected?, self.on_group))
    }

    pub fn select(&mut self, key: Option<tree::RowKey>) {
        self.selected = key.map(|(step, _)| step);
        self.on_group = key.is_some_and(|(_, group)| group);
    }
}

/// Why a request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    Runs,
    Run,
    Log,
    Stats,
    Unsubscribe,
    Why,
    Rerun,
    Cancel,
    Waiters,
    Listing,
    Sensors,
    SensorsAgain,
    SensorChanged,
    DemoRegister,
    DemoStart,
    Again,
}

/// Everything.
pub struct Model {
    pub link: Link,
    pub stats: Option<Stats>,
    pub runs: BTreeMap<RunId, RunView>,
    pub runs_known: bool,
    pub selected_run: Option<RunId>,
    pub runs_offset: usize,
    /// The list was left at its top: the newest run stays selected.
    pub at_top: bool,
    pub new_above: usize,
    pub screen: Screen,
    pub last_run: Option<RunId>,
    pub pane: Pane,
    pub looked: Looked,
    pub listings: Listings,
    pub back: Vec<Place>,
    pub overlay: Option<Overlay>,
    /// The filter, and whether it is being typed.
    pub filter: String,
    pub typing: bool,
    /// Keys of a chord typed so far.
    pub chord: String,
    pub status: String,
    pub now: i64,
    pub size: (u16, u16),
    pub ascii: bool,
    pub colour: bool,
    /// A text for the terminal's clipboard.
    pub clipboard: Option<String>,
    pub quit: bool,
    pub suspend: bool,
    /// What was asked, by number.
    pub asked: BTreeMap<u64, Purpose>,
    pub next_request: u64,
    /// Subscriptions by number.
    pub subscriptions: BTreeMap<u64, Purpose>,
    /// Requests to send.
    pub outgoing: Vec<(u64, Request)>,
    /// The newest subscription of each kind, by request: an older one that is granted late is ended.
    pub newest: BTreeMap<Purpose, u64>,
    /// The step whose log was asked for last.
    pub log_wanted: Option<StepId>,
    /// The project and environment that were named at the start.
    pub scope: Scope,
    pub interpreter: Option<PathBuf>,
    pub data: PathBuf,
    pub variables: Vec<(String, String)>,
}

impl Model {
    pub fn new(size: (u16, u16), now: i64) -> Self {
        Self {
            link: Link::Connecting,
            stats: None,
            runs: BTreeMap::new(),
            runs_known: false,
            selected_run: None,
            runs_offset: 0,
            at_top: true,
            new_above: 0,
            screen: Screen::Runs,
            last_run: None,
            pane: Pane::Tree,
            looked: Looked::default(),
            listings: Listings::default(),
            back: Vec::new(),
            overlay: None,
            filter: String::new(),
            typing: false,
            chord: String::new(),
            status: String::new(),
            now,
            size,
            ascii: false,
            colour: true,
            clipboard: None,
            quit: false,
            suspend: false,
            asked: BTreeMap::new(),
            next_request: 1,
            subscriptions: BTreeMap::new(),
            outgoing: Vec::new(),
            newest: BTreeMap::new(),
            log_wanted: None,
            scope: Scope::default(),
            interpreter: None,
            data: PathBuf::new(),
            variables: Vec::new(),
        }
    }

    /// The runs as they are listed: newest first, filtered.
    pub fn listed_runs(&self) -> Vec<&RunView> {
        let filter = Filter::parse(if self.screen == Screen::Runs { &self.filter } else { "" });
        self.runs.values().rev().filter(|run| filter.run(run)).collect()
    }

    /// The lines of the tree that match the filter.
    pub fn listed_rows(&self) -> Vec<&tree::Row> {
        let filter = Filter::parse(if matches!(self.screen, Screen::Run(_)) { &self.filter } else { "" });
        let matches = |id: &StepId| self.looked.steps.get(id).is_some_and(|step| filter.step(step));
        let listed = |row: &&tree::Row| match &row.group {
            Some(group) => group.steps.iter().any(matches),
            None => matches(&row.step),
        };
        self.looked.rows.iter().filter(listed).collect()
    }

    /// The step that is selected on the run screen.
    pub fn selected_step(&self) -> Option<&StepView> {
        self.looked.steps.get(&self.looked.selected.filter(|_| !self.looked.on_group)?)
    }

    /// The group that is selected on the run screen.
    pub fn selected_group(&self) -> Option<&tree::Group> {
        let key = self.looked.key()?;
        self.looked.rows.iter().find(|row| row.key() == key)?.group.as_ref()
    }

    /// Whether the screen is too narrow for panes side by side.
    pub const fn narrow(&self) -> bool {
        self.size.0 < 100
    }

    /// Rows of the list on the screen, at least one.
    pub fn page(&self) -> usize {
        usize::from(self.size.1.saturating_sub(8)).max(1)
    }

    pub fn rebuild_rows(&mut self) {
        self.looked.rows = tree::rows(&self.looked.steps, &self.looked.folds);
        let known = self.looked.selected.is_some_and(|id| self.looked.steps.contains_key(&id));
        if !known {
            self.looked.select(self.looked.rows.first().map(tree::Row::key));
        }
        self.reveal_selected();
    }

    /// Unfolds the group that hides the selected step.
    pub fn reveal_selected(&mut self) {
        let Some((step, false)) = self.looked.key() else { return };
        let hiding = self.looked.rows.iter().find_map(|row| {
            let group = row.group.as_ref()?;
            group.steps.contains(&step).then_some(row.step)
        });
        if let Some(first) = hiding.filter(|first| !self.looked.folds.groups.contains(first)) {
            self.looked.folds.groups.insert(first);
            self.looked.rows = tree::rows(&self.looked.steps, &self.looked.folds);
        }
    }
}

/// What a filter asks for: words that must occur, and `state:NAME`.
pub struct Filter<'a> {
    words: Vec<&'a str>,
    state: Option<&'a str>,
}

impl<'a> Filter<'a> {
    pub fn parse(text: &'a str) -> Self {
        let mut filter = Self { words: Vec::new(), state: None };
        for word in text.split_whitespace() {
            match word.strip_prefix("state:") {
                Some(state) => filter.state = Some(state),
                None => filter.words.push(word),
            }
        }
        filter
    }

    pub fn holds(&self, state: State, text: &str) -> bool {
        let text = text.to_lowercase();
        self.state.is_none_or(|wanted| state.name().starts_with(wanted))
            && self.words.iter().all(|word| text.contains(&word.to_lowercase()))
    }

    fn run(&self, run: &RunView) -> bool {
        self.holds(run.state, &format!("{} {} {}", run.id, run.target, run.environment))
    }

    fn step(&self, step: &StepView) -> bool {
        self.holds(step.state, &format!("{} {} {}", step.id, step.target, tree::short_arguments(&step.arguments, 200)))
    }
}
