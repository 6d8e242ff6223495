//! Going from one thing to another, and back.

use ibid::model::{Id, RunId, StepId};
use ibid::protocol::{Anchor, Folds, List, Row, Show};
use ibid::protocol::{Register, Request, Scope};

use super::model::{Model, Pane, Place, Purpose, Screen, Tab, Which};
use super::steps;
use super::window::Window;

impl Model {
    pub(super) fn here(&self) -> Place {
        Place {
            screen: self.screen.clone(),
            selected: self.main.selected.clone(),
            index: self.main.index,
            filter: self.main.filter.clone(),
            tab: self.tab,
        }
    }

    /// The list of a screen.
    fn list_of(&self, screen: &Screen) -> Option<List> {
        let scope = self.scope_shown();
        Some(match screen {
            Screen::Runs => List::Runs { scope: self.shown_scope.clone() },
            Screen::Run(run) => List::Steps { run: *run, folds: self.folds.clone() },
            Screen::Queue => List::Queue {},
            Screen::Namespaces => List::Namespaces { scope },
            Screen::Keys(namespace) => List::Keys { scope, namespace: namespace.clone() },
            Screen::Key(key) => List::Key { scope, key: key.clone() },
            Screen::Workers | Screen::Daemon => return None,
        })
    }

    /// Shows a screen, with a row of it selected.
    pub(super) fn show(&mut self, screen: Screen, anchor: Anchor, filter: String) {
        // The environment is that of what was shown until now.
        self.remembered.scope = Some(self.scope_shown());
        if matches!(screen, Screen::Run(_)) && screen != self.screen {
            self.folds = Folds::default();
            self.pane = Pane::Tree;
            self.tab = Tab::Tree;
        }
        let list = self.list_of(&screen);
        self.close_window(Which::Log);
        self.close_window(Which::Key);
        self.looked_at = None;
        self.graph = None;
        self.overlay = None;
        self.typing = false;
        self.search.clear();
        self.log_search.clear();
        self.screen = screen;
        match list {
            Some(list) => {
                let at_top = matches!(list, List::Runs { .. }) && anchor == Anchor::First;
                let mut window = Window { filter, at_top, ..Window::over(list) };
                if let Anchor::Row { key, at } = &anchor {
                    window.selected.clone_from(key);
                    window.index = *at;
                }
                self.open_window(Which::Main, window, anchor);
            }
            None => {
                self.close_window(Which::Main);
                if self.screen == Screen::Workers && self.link == super::model::Link::Connected {
                    self.ask_workers();
                }
            }
        }
    }

    /// Goes to a screen; `-` comes back.
    pub(super) fn go(&mut self, screen: Screen, anchor: Anchor) {
        if self.screen == screen && !matches!(anchor, Anchor::Row { .. }) {
            return;
        }
        let here = self.here();
        if self.back.last() != Some(&here) {
            self.back.push(here);
        }
        self.show(screen, anchor, String::new());
    }

    /// Opens a run, with a step selected.
    pub fn open_run(&mut self, run: RunId, step: Option<StepId>) {
        let key = step.unwrap_or_else(|| run.root()).to_string();
        self.last_run = Some(run);
        self.go(Screen::Run(run), Anchor::Row { key, at: 0 });
    }

    pub(super) fn show_runs(&mut self) {
        let anchor = match self.last_run {
            Some(run) if self.on_run() => Anchor::Row { key: run.to_string(), at: 0 },
            _ => Anchor::First,
        };
        self.show(Screen::Runs, anchor, String::new());
    }

    /// One level up; from the runs it leaves.
    pub(super) fn go_back(&mut self) {
        match self.screen.clone() {
            Screen::Runs => self.quit = true,
            Screen::Run(_) if self.tab != Tab::Tree => self.show_tab(Tab::Tree),
            Screen::Run(_) | Screen::Queue | Screen::Namespaces | Screen::Workers | Screen::Daemon => self.show_runs(),
            Screen::Keys(namespace) => {
                self.show(Screen::Namespaces, Anchor::Row { key: namespace, at: 0 }, String::new());
            }
            Screen::Key(_) => match self.back.pop() {
                Some(place) => self.show_place(place),
                None => self.show(Screen::Namespaces, Anchor::First, String::new()),
            },
        }
    }

    pub(super) fn where_i_was(&mut self) {
        match self.back.pop() {
            Some(place) => self.show_place(place),
            None => self.status = "there is nowhere to go back to".to_owned(),
        }
    }

    fn show_place(&mut self, place: Place) {
        let anchor = match place.selected.is_empty() {
            true => Anchor::First,
            false => Anchor::Row { key: place.selected, at: place.index },
        };
        self.show(place.screen, anchor, place.filter);
        self.tab = place.tab;
    }

    pub(super) fn show_tab(&mut self, tab: Tab) {
        if !self.on_run() {
            return;
        }
        self.tab = tab;
        self.look_at_selected();
        for which in [Which::Main, Which::Log, Which::Key] {
            self.show_selected(which);
        }
    }

    pub(super) fn next_tab(&mut self, back: bool) {
        const TABS: [Tab; 4] = [Tab::Tree, Tab::Log, Tab::Key, Tab::Graph];
        let at = TABS.iter().position(|tab| *tab == self.tab).unwrap_or(0);
        self.show_tab(TABS[(at + if back { 3 } else { 1 }) % 4]);
    }

    /// Opens what is selected.
    pub(super) fn open_selected(&mut self) {
        if self.on_run() && self.tab == Tab::Graph {
            let lines = super::graph::lines(self);
            if let Some(id) = lines.get(self.graph_selected).and_then(|line| line.id) {
                self.open_id(id);
            }
            return;
        }
        if self.focus() == Which::Key {
            if let Some(Row::Execution(row)) = self.key.selected_row() {
                let step = row.execution.step;
                self.open_run(step.run, Some(step));
            }
            return;
        }
        if self.screen == Screen::Workers {
            let rows = super::listings::plain_rows(self);
            let at = usize::try_from(self.main.index).unwrap_or(usize::MAX);
            if let Some(id) = rows.get(at).and_then(|row| row.id) {
                self.open_id(id);
            }
            return;
        }
        if self.focus() == Which::Log {
            return;
        }
        match self.main.selected_row().cloned() {
            Some(Row::Run(run)) => self.open_run(run.id, None),
            Some(Row::Queue(group)) => self.open_id(Id::Execution(group.execution)),
            Some(Row::Namespace(space)) => self.go(Screen::Keys(space.namespace), Anchor::First),
            Some(Row::Key(row)) => self.go(Screen::Key(row.line.key), Anchor::First),
            Some(Row::Execution(row)) => self.open_id(Id::Execution(row.execution)),
            Some(Row::Group(group)) => self.fold(group.unfolded),
            Some(Row::Step(row)) => {
                let folded = self.folds.steps.contains(&row.step.id);
                match row.step.newest().and_then(|attempt| attempt.run) {
                    Some(run) => self.open_run(run, None),
                    None if folded => self.fold(false),
                    None if row.has_children => self.fold(true),
                    None => self.pane = Pane::Inspector,
                }
            }
            _ if self.screen == Screen::Runs && self.main.known && self.main.all == 0 => self.start_demo(),
            _ => {}
        }
    }

    pub(super) fn open_id(&mut self, id: Id) {
        match id {
            Id::Run(run) => self.open_run(run, None),
            Id::Step(step) => self.open_run(step.run, Some(step)),
            Id::Execution(execution) => self.open_run(execution.step.run, Some(execution.step)),
        }
    }

    /// The id of what is selected, for explaining, running again and cancelling.
    pub fn selected_id(&self) -> Option<Id> {
        if self.on_run() && self.tab == Tab::Graph {
            return super::graph::lines(self).get(self.graph_selected)?.id;
        }
        if self.screen == Screen::Workers {
            return super::listings::plain_rows(self).get(usize::try_from(self.main.index).ok()?)?.id;
        }
        let window = if self.focus() == Which::Key { &self.key } else { &self.main };
        match window.selected_row()? {
            Row::Run(run) => Some(Id::Run(run.id)),
            Row::Step(row) => Some(Id::Step(row.step.id)),
            Row::Queue(group) => Some(Id::Execution(group.execution)),
            Row::Key(row) => Some(Id::Execution(row.line.execution)),
            Row::Execution(row) => Some(Id::Execution(row.execution)),
            _ => None,
        }
    }

    /// The same, and if there is none it is said why.
    pub(super) fn selected_or_said(&mut self) -> Option<Id> {
        let id = self.selected_id();
        if id.is_none() {
            self.status = if self.selected_group().is_some() {
                "this is a group: l unfolds it, then select one of its calls".to_owned()
            } else {
                "nothing is selected that this could be done with".to_owned()
            };
        }
        id
    }

    pub(super) fn go_to_source(&mut self) {
        let window = if self.focus() == Which::Key { &self.key } else { &self.main };
        let source = match window.selected_row() {
            Some(Row::Execution(row)) => row.link.map(Id::Execution),
            Some(Row::Step(row)) => steps::source(&row.step),
            _ => None,
        };
        match source {
            Some(id) => self.open_id(id),
            None => self.status = "this is its own work: there is no source to go to".to_owned(),
        }
    }

    pub(super) fn go_to_caller(&mut self) {
        let Some(step) = self.selected_step() else { return };
        let caller = step.caller.map(|caller| caller.step);
        let of_run = self.run().and_then(|run| run.caller);
        match caller.or(of_run.filter(|_| step.id.step == 1)) {
            Some(caller) => self.open_run(caller.run, Some(caller)),
            None => self.status = "it was started by hand: there is no caller".to_owned(),
        }
    }

    pub(super) fn ask_waiters(&mut self) {
        if let Some(id) = self.selected_or_said() {
            self.ask(Purpose::Waiters, Request::Show(Show { id }));
        }
    }

    /// To all that ran, joined and took the selected key.
    pub(super) fn go_to_key(&mut self) {
        let key = match self.main.selected_row() {
            Some(Row::Step(row)) => row.step.key.is_some().then(|| row.step.id.to_string()),
            Some(Row::Key(row)) => Some(row.line.key.clone()),
            Some(Row::Queue(group)) => Some(group.execution.to_string()),
            _ => None,
        };
        match key {
            Some(key) => self.go(Screen::Key(key), Anchor::First),
            None => self.status = "it has no key: caching is off for it".to_owned(),
        }
    }

    pub(super) fn ask_environments(&mut self) {
        let request = Request::Environments(ibid::protocol::ListEnvironments {});
        self.ask(Purpose::Environments, request);
    }

    /// Shows one environment, or all.
    pub(super) fn switch_environment(&mut self, scope: Option<Scope>) {
        self.status = match &scope {
            Some(scope) => format!("showing {}/{}", scope.project, scope.environment),
            None => "showing all projects and environments".to_owned(),
        };
        self.shown_scope = scope;
        let screen = match &self.screen {
            Screen::Keys(_) | Screen::Key(_) => Screen::Namespaces,
            Screen::Run(_) => Screen::Runs,
            other => other.clone(),
        };
        let status = std::mem::take(&mut self.status);
        self.show(screen, Anchor::First, String::new());
        self.status = status;
    }

    pub(super) fn start_demo(&mut self) {
        let Some(interpreter) = crate::commands::interpreter(&self.data) else {
            self.status = "no Python interpreter was found: the demo needs python3 on the path".to_owned();
            return;
        };
        self.status = "registering the demo…".to_owned();
        let register = Register {
            scope: Scope { project: "demo".to_owned(), environment: "default".to_owned() },
            modules: vec!["ibid.demo".to_owned()],
            directory: self.data.display().to_string(),
            interpreter: interpreter.display().to_string(),
            variables: crate::commands::own_variables(),
            concurrency: None,
            fork: true,
            programs: Vec::new(),
            tasks: None,
        };
        self.ask(Purpose::DemoRegister, Request::Register(register));
    }
}
