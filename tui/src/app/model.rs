//! What the screens show: a copy of what the daemon said last, and where the user is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ibid::model::{ExecutionId, Id, RunId, StepId};
use ibid::protocol::{
    Comparison, EnvironmentView, Explanation, Folds, Head, List, Predicted, Request, Row, RunView, Scope, Shown, Stats,
    StepView, TreeGroup, WorkerView,
};

use super::form::Form;
use super::keymap::Keymap;
use super::remembered::Remembered;
use super::sensors::SensorBoard;
use super::window::Window;
use crate::widgets::style::Colours;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Screen {
    Runs,
    Run(RunId),
    Queue,
    Namespaces,
    /// The keys of a namespace.
    Keys(String),
    /// One key, or a step that has it.
    Key(String),
    Workers,
    Daemon,
}

/// Which part of the run screen has the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pane {
    Tree,
    Inspector,
    Log,
}

/// What the run screen shows of the selected step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    /// The tree with its times, the step, its log.
    Tree,
    /// The log alone.
    Log,
    /// The key: all that ran, joined and took it.
    Key,
    /// What it depends on and what depends on it.
    Graph,
}

/// Which window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Which {
    /// The list of the screen.
    Main,
    /// The log of the selected step.
    Log,
    /// The key of the selected step.
    Key,
}

/// A place to come back to.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub screen: Screen,
    pub selected: String,
    pub index: u64,
    pub filter: String,
    pub tab: Tab,
}

/// Times beside the lines of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Times {
    #[default]
    OfDay,
    SinceStart,
    None,
}

/// Something that can be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Undo {
    Forget(Scope, String),
    Pin(Scope, String),
    Unpin(Scope, String),
    Filter(Screen, String),
}

/// Something in front of the screen.
#[derive(Debug, Clone)]
pub enum Overlay {
    Help {
        typed: String,
        selected: usize,
    },
    Explain {
        explanation: Box<Explanation>,
        scroll: u16,
    },
    Compare {
        comparison: Box<Comparison>,
        scroll: u16,
        /// Whether what is equal is shown, too.
        all: bool,
    },
    /// What a re-run of this step would be.
    Rerun {
        step: StepId,
        predicted: Option<Predicted>,
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
    /// A project and environment to show; the first line stands for all.
    Environments {
        environments: Vec<EnvironmentView>,
        selected: usize,
    },
    /// Actions to choose from by what is typed.
    Palette {
        typed: String,
        selected: usize,
    },
    /// What is kept running, and what could be.
    Sensors(Box<SensorBoard>),
    /// A workflow to start.
    Start(Box<Form>),
}

/// Why a request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    Rows(Which),
    Stats,
    Unsubscribe,
    Why,
    Nearest,
    Rerun,
    Predict,
    Cancel,
    Waiters,
    Graph,
    Workers,
    Compare,
    Forget,
    Pin,
    Unpin,
    PutBack,
    Targets,
    Environments,
    Check,
    Start,
    Sensors,
    SensorsAgain,
    SensorChanged,
    DemoRegister,
    /// A run of which the root is wanted, to start it again.
    Root,
    /// The same, to edit its arguments first.
    RootToEdit,
    /// The parameters of its workflow.
    Parameters,
    /// Who waits for what is to be cancelled.
    CancelCheck,
}

/// Everything.
pub struct Model {
    pub link: Link,
    pub stats: Option<Stats>,
    pub screen: Screen,
    pub tab: Tab,
    pub pane: Pane,
    pub main: Window,
    pub log: Window,
    pub key: Window,
    pub last_run: Option<RunId>,
    pub folds: Folds,
    /// The step whose log, key and graph are shown.
    pub looked_at: Option<StepId>,
    pub graph: Option<Box<Shown>>,
    pub graph_selected: usize,
    pub workers: Vec<WorkerView>,
    pub workers_known: bool,
    /// The runs of which environment are listed; of all if absent.
    pub shown_scope: Option<Scope>,
    pub marked: Vec<Id>,
    pub undo: Vec<Undo>,
    /// What requests that are under way do, by number, for undoing it.
    pub changing: BTreeMap<u64, Undo>,
    /// A run that is to be started again, once the parameters of its workflow are known; and whether its
    /// arguments are edited before.
    pub starting: Option<(Box<Shown>, bool)>,
    pub back: Vec<Place>,
    pub overlay: Option<Overlay>,
    /// Whether a filter or a search is being typed, and what is searched for in the list and the log.
    pub typing: bool,
    pub search: String,
    pub log_search: String,
    pub wrap: bool,
    pub times: Times,
    /// Keys of a chord typed so far.
    pub chord: String,
    pub keymap: Keymap,
    pub status: String,
    /// The time that what is shown is of: it stands still while the daemon is away.
    pub now: i64,
    /// The time.
    pub clock: i64,
    pub size: (u16, u16),
    pub ascii: bool,
    pub colour: Colours,
    pub mouse: bool,
    /// A text for the terminal's clipboard.
    pub clipboard: Option<String>,
    pub quit: bool,
    pub suspend: bool,
    /// What the user asked for has come: it is drawn at once, not with what changes by itself.
    pub urgent: bool,
    /// The execution whose log is to be shown as a plain stream.
    pub stream: Option<ExecutionId>,
    /// What was asked, by number.
    pub asked: BTreeMap<u64, Purpose>,
    pub next_request: u64,
    /// Subscriptions by number.
    pub subscriptions: BTreeMap<u64, Purpose>,
    /// Requests to send.
    pub outgoing: Vec<(u64, Request)>,
    /// What is kept between two starts.
    pub remembered: Remembered,
    /// The project and environment that were named at the start.
    pub scope: Scope,
    pub data: PathBuf,
}

impl Model {
    pub fn new(size: (u16, u16), now: i64) -> Self {
        Self {
            link: Link::Connecting,
            stats: None,
            screen: Screen::Runs,
            tab: Tab::Tree,
            pane: Pane::Tree,
            main: Window { at_top: true, ..Window::over(List::Runs { scope: None }) },
            log: Window::default(),
            key: Window::default(),
            last_run: None,
            folds: Folds::default(),
            looked_at: None,
            graph: None,
            graph_selected: 0,
            workers: Vec::new(),
            workers_known: false,
            shown_scope: None,
            marked: Vec::new(),
            undo: Vec::new(),
            changing: BTreeMap::new(),
            starting: None,
            back: Vec::new(),
            overlay: None,
            typing: false,
            search: String::new(),
            log_search: String::new(),
            wrap: false,
            times: Times::default(),
            chord: String::new(),
            keymap: Keymap::default(),
            status: String::new(),
            now,
            clock: now,
            size,
            ascii: false,
            colour: Colours::default(),
            mouse: false,
            clipboard: None,
            quit: false,
            suspend: false,
            urgent: false,
            stream: None,
            asked: BTreeMap::new(),
            next_request: 1,
            subscriptions: BTreeMap::new(),
            outgoing: Vec::new(),
            remembered: Remembered::default(),
            scope: Scope::default(),
            data: PathBuf::new(),
        }
    }

    pub const fn window(&self, which: Which) -> &Window {
        match which {
            Which::Main => &self.main,
            Which::Log => &self.log,
            Which::Key => &self.key,
        }
    }

    pub const fn window_mut(&mut self, which: Which) -> &mut Window {
        match which {
            Which::Main => &mut self.main,
            Which::Log => &mut self.log,
            Which::Key => &mut self.key,
        }
    }

    pub const fn on_run(&self) -> bool {
        matches!(self.screen, Screen::Run(_))
    }

    /// The window that has the keys.
    pub const fn focus(&self) -> Which {
        if !self.on_run() {
            return Which::Main;
        }
        match (self.tab, self.pane) {
            (Tab::Log, _) | (Tab::Tree, Pane::Log) => Which::Log,
            (Tab::Key, _) => Which::Key,
            _ => Which::Main,
        }
    }

    /// The run that is looked at.
    pub const fn run(&self) -> Option<&RunView> {
        match &self.main.head {
            Head::Run { run, .. } => Some(run),
            _ => None,
        }
    }

    /// The step that is selected on the run screen.
    pub fn selected_step(&self) -> Option<&StepView> {
        self.main.selected_row()?.step()
    }

    /// The group that is selected on the run screen.
    pub fn selected_group(&self) -> Option<&TreeGroup> {
        match self.main.selected_row()? {
            Row::Group(group) => Some(group),
            _ => None,
        }
    }

    pub fn selected_run(&self) -> Option<&RunView> {
        match self.main.selected_row()? {
            Row::Run(run) => Some(run),
            _ => None,
        }
    }

    /// What stands for something that is left out.
    pub const fn ellipsis(&self) -> &'static str {
        if self.ascii { "~" } else { "…" }
    }

    /// Whether the screen is too narrow for panes side by side.
    pub const fn narrow(&self) -> bool {
        self.size.0 < 100
    }

    /// Whether the run screen shows one pane at a time.
    pub const fn one_pane(&self) -> bool {
        self.narrow() || self.size.1 < 18
    }

    /// How many lines the log pane below the tree has, with its border.
    pub fn log_height(&self) -> u16 {
        (self.size.1.saturating_sub(4) / 4).max(5)
    }

    /// How many lines the header has, and the footer; on a very low screen one each.
    pub const fn edge(&self) -> u16 {
        if self.size.1 < 10 { 1 } else { 2 }
    }

    /// Rows that a window has on the screen, at least one.
    pub fn page(&self, which: Which) -> u64 {
        // Without header, footer and border.
        let body = self.size.1.saturating_sub(2 * self.edge() + 2);
        let rows = match which {
            Which::Main if self.on_run() && self.one_pane() => body - 1.min(body),
            Which::Main if self.on_run() => body.saturating_sub(self.log_height() + 1),
            Which::Log if self.tab == Tab::Tree && !self.one_pane() => self.log_height().saturating_sub(2),
            Which::Log => body,
            Which::Key => body.saturating_sub(1 + super::listings::SUMMARY_LINES),
            Which::Main if matches!(self.screen, Screen::Key(_)) => {
                body.saturating_sub(1 + super::listings::SUMMARY_LINES)
            }
            Which::Main => body.saturating_sub(1),
        };
        u64::from(rows).max(1)
    }

    /// The project and environment that the cache is shown of: what was chosen, else those of the run
    /// that was looked at last, else those named at the start.
    pub fn scope_shown(&self) -> Scope {
        if let Some(scope) = &self.shown_scope {
            return scope.clone();
        }
        let run = self.run().or_else(|| self.selected_run());
        run.map_or_else(
            || self.remembered.scope.clone().unwrap_or_else(|| self.scope.clone()),
            |run| Scope { project: run.project.clone(), environment: run.environment.clone() },
        )
    }
}
