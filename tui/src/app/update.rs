//! How the model changes by keys.

use ibid::model::{ExecutionId, Id, RunId, StepId};
use ibid::protocol::{Cancel, Register, Request, Rerun, Scope, Show, Submit, Subscribe, Topic, Why};

use super::actions::{self, Action, Match};
use super::listings::Listing;
use super::model::{Looked, Model, Overlay, Pane, Place, Purpose, Screen};
use super::tree;

impl Model {
    pub(super) fn push_here(&mut self) {
        self.back.push(self.here());
    }

    /// Ends what only the screen of a run needs.
    pub(super) fn leave_run(&mut self) {
        self.end_subscriptions(Purpose::Run);
        self.end_subscriptions(Purpose::Log);
        self.filter.clear();
    }

    fn here(&self) -> Place {
        Place { screen: self.screen, run: self.selected_run, step: self.looked.selected }
    }

    /// Opens a run, with a step selected.
    pub fn open_run(&mut self, run: RunId, step: Option<StepId>) {
        self.back.push(self.here());
        self.show_run(run, step);
    }

    pub(super) fn show_run(&mut self, run: RunId, step: Option<StepId>) {
        self.filter.clear();
        self.overlay = None;
        if self.screen == Screen::Run(run) {
            if let Some(step) = step {
                self.looked.select(Some((step, false)));
            }
            self.reveal_selected();
            self.show_selected();
            self.follow_log(false);
            return;
        }
        self.end_subscriptions(Purpose::Run);
        self.end_subscriptions(Purpose::Log);
        self.log_wanted = None;
        self.screen = Screen::Run(run);
        self.last_run = Some(run);
        self.looked = Looked { selected: step.or(Some(run.root())), ..Looked::default() };
        self.pane = Pane::Tree;
        self.ask(Purpose::Run, Request::Subscribe(Subscribe { topic: Topic::Run { run } }));
    }

    fn show_runs(&mut self) {
        self.leave_run();
        self.screen = Screen::Runs;
        if let Some(run) = self.last_run.filter(|run| self.runs.contains_key(run)) {
            self.selected_run = Some(run);
            self.at_top = self.listed_runs().first().is_some_and(|first| first.id == run);
        }
        self.show_selected();
    }

    /// A key was pressed, written as in the registry of actions: `j`, `enter`, `^d`.
    pub fn press(&mut self, key: &str) {
        if self.typing {
            self.type_filter(key);
            return;
        }
        if self.overlay.is_some() && self.press_overlay(key) {
            return;
        }
        let mut keys = std::mem::take(&mut self.chord);
        keys.push_str(key);
        match actions::find(&keys, matches!(self.screen, Screen::Run(_))) {
            Match::Action(action) => {
                self.status.clear();
                self.act(action);
            }
            Match::Partial => self.chord = keys,
            Match::None => {}
        }
    }

    fn type_filter(&mut self, key: &str) {
        match key {
            "enter" => self.typing = false,
            "esc" => {
                self.typing = false;
                self.filter.clear();
            }
            "backspace" => {
                self.filter.pop();
            }
            "space" => self.filter.push(' '),
            key if key.chars().count() == 1 => self.filter.push_str(key),
            _ => {}
        }
        self.keep_selection_listed();
    }

    /// Says whether the overlay has taken the key.
    fn press_overlay(&mut self, key: &str) -> bool {
        let Some(overlay) = self.overlay.take() else { return false };
        match (overlay, key) {
            (_, "^c") => {
                self.quit = true;
            }
            (_, "^z") => self.suspend = true,
            (Overlay::Sensors(board), key) if board.typing.is_some() || !matches!(key, "esc" | "q" | "S") => {
                self.press_board(board, key);
            }
            (Overlay::Palette { typed, selected }, key) if key != "esc" => self.press_palette(typed, selected, key),
            (_, "esc" | "q") => {}
            (Overlay::Sensors(_), "S") => {}
            (Overlay::Help { scroll }, "j" | "down") => {
                self.overlay = Some(Overlay::Help { scroll: scroll.saturating_add(1) })
            }
            (Overlay::Help { scroll }, "k" | "up") => {
                self.overlay = Some(Overlay::Help { scroll: scroll.saturating_sub(1) })
            }
            (Overlay::Explain { explanation, scroll }, "j" | "down") => {
                self.overlay = Some(Overlay::Explain { explanation, scroll: scroll.saturating_add(1) });
            }
            (Overlay::Explain { explanation, scroll }, "k" | "up") => {
                self.overlay = Some(Overlay::Explain { explanation, scroll: scroll.saturating_sub(1) });
            }
            (Overlay::Explain { .. }, "e") | (Overlay::Help { .. }, "?") => {}
            (Overlay::Rerun { step }, "f") => self.ask(Purpose::Rerun, Request::Rerun(Rerun { id: Id::Step(step) })),
            (Overlay::Rerun { step }, "n") => self.start_again(step.run),
            (Overlay::Cancel { id, .. }, "m") => {
                self.ask(Purpose::Cancel, Request::Cancel(Cancel { id, force: false }))
            }
            (Overlay::Cancel { id, .. }, "a") => self.ask(Purpose::Cancel, Request::Cancel(Cancel { id, force: true })),
            (Overlay::Choose { title, ids, selected }, "j" | "down") => {
                let selected = (selected + 1).min(ids.len().saturating_sub(1));
                self.overlay = Some(Overlay::Choose { title, ids, selected });
            }
            (Overlay::Choose { title, ids, selected }, "k" | "up") => {
                self.overlay = Some(Overlay::Choose { title, ids, selected: selected.saturating_sub(1) });
            }
            (Overlay::Choose { ids, selected, .. }, "enter") => {
                if let Some(id) = ids.get(selected) {
                    self.open_run(id.step.run, Some(id.step));
                }
            }
            (other, _) => {
                self.overlay = Some(other);
            }
        }
        true
    }

    pub(super) fn act(&mut self, action: Action) {
        let half = isize::try_from(self.page() / 2).unwrap_or(1).max(1);
        match action {
            Action::Down => self.move_by(1),
            Action::Up => self.move_by(-1),
            Action::HalfPageDown => self.move_by(half),
            Action::HalfPageUp => self.move_by(-half),
            Action::Top => self.move_by(isize::MIN / 2),
            Action::Bottom => self.move_by(isize::MAX / 2),
            Action::Fold => self.fold(true),
            Action::Unfold => self.fold(false),
            Action::Open => self.open_selected(),
            Action::Close => {
                self.filter.clear();
                self.keep_selection_listed();
            }
            Action::Back => match self.screen {
                Screen::Runs => self.quit = true,
                Screen::Run(_) => self.show_runs(),
                Screen::List(_) => {
                    if !self.leave_namespace() {
                        self.show_runs();
                    }
                }
            },
            Action::Quit => self.quit = true,
            Action::Suspend => self.suspend = true,
            Action::Pane => {
                self.pane = match self.pane {
                    Pane::Tree => Pane::Inspector,
                    Pane::Inspector => Pane::Log,
                    Pane::Log => Pane::Tree,
                };
            }
            Action::ScreenRuns => {
                if self.screen != Screen::Runs {
                    self.back.push(self.here());
                    self.show_runs();
                }
            }
            Action::ScreenRun => match (self.screen, self.last_run.or(self.selected_run)) {
                (Screen::Run(_), _) => {}
                (_, Some(run)) => self.open_run(run, None),
                (_, None) => self.status = "no run to look at yet".to_owned(),
            },
            Action::ScreenQueue => self.show_listing(Listing::Queue),
            Action::ScreenCache => self.show_listing(Listing::Cache),
            Action::ScreenWorkers => self.show_listing(Listing::Workers),
            Action::ScreenDaemon => self.show_listing(Listing::Daemon),
            Action::WhereIWas => match self.back.pop() {
                Some(Place { screen: Screen::Run(run), step, .. }) => self.show_run(run, step),
                Some(Place { screen: Screen::List(listing), .. }) => {
                    self.show_listing(listing);
                    // Going back is not going on.
                    self.back.pop();
                }
                Some(Place { screen: Screen::Runs, run, .. }) => {
                    self.show_runs();
                    self.selected_run = run.or(self.selected_run);
                    self.show_selected();
                }
                None => self.status = "there is nowhere to go back to".to_owned(),
            },
            Action::Filter => self.typing = true,
            Action::NextFailure => self.go_to_failure(true),
            Action::PreviousFailure => self.go_to_failure(false),
            Action::GoSource => match self.selected_step().and_then(tree::source) {
                Some(Id::Execution(execution)) => self.open_run(execution.step.run, Some(execution.step)),
                Some(Id::Run(run)) => self.open_run(run, None),
                _ => self.status = "this is its own work: there is no source to go to".to_owned(),
            },
            Action::GoWaiters => {
                if let Some(step) = self.looked.selected.filter(|_| !self.looked.on_group) {
                    self.ask(Purpose::Waiters, Request::Show(Show { id: Id::Step(step) }));
                }
            }
            Action::GoCaller => self.go_to_caller(),
            Action::Explain => {
                if let Some(id) = self.selected_id() {
                    self.ask(Purpose::Why, Request::Why(Why { id }));
                }
            }
            Action::Rerun => {
                if let Some(id) = self.selected_id() {
                    self.overlay = Some(Overlay::Rerun { step: id.step() });
                }
            }
            Action::Cancel => self.cancel_selected(),
            Action::Sensors => self.ask_sensors(),
            Action::Palette => self.overlay = Some(Overlay::Palette { typed: String::new(), selected: 0 }),
            Action::CopyId | Action::CopyKey | Action::CopyArguments | Action::CopyResult | Action::CopyCommand => {
                self.copy(action)
            }
            Action::Help => self.overlay = Some(Overlay::Help { scroll: 0 }),
        }
    }

    pub(super) fn selected_id(&mut self) -> Option<Id> {
        match self.screen {
            Screen::Runs => self.selected_run.map(Id::Run),
            Screen::List(_) => self.listed_id(),
            Screen::Run(_) if self.looked.on_group => {
                self.status = "this is a group: l unfolds it, then select one of its calls".to_owned();
                None
            }
            Screen::Run(_) => self.looked.selected.map(Id::Step),
        }
    }

    fn go_to_caller(&mut self) {
        let Some(step) = self.selected_step() else { return };
        let caller = step.caller.map(|caller| caller.step);
        let of_run = self.looked.run.as_ref().and_then(|run| run.caller);
        match caller.or(of_run.filter(|_| step.id.step == 1)) {
            Some(caller) => self.open_run(caller.run, Some(caller)),
            None => self.status = "it was started by hand: there is no caller".to_owned(),
        }
    }

    fn cancel_selected(&mut self) {
        let Some(id) = self.selected_id() else { return };
        let others = match self.screen {
            Screen::Runs | Screen::List(_) => 0,
            Screen::Run(_) => {
                self.selected_step().and_then(|step| step.newest()).map_or(0, |attempt| attempt.followers.len())
            }
        };
        if others > 0 {
            self.overlay = Some(Overlay::Cancel { id, others });
        } else {
            self.ask(Purpose::Cancel, Request::Cancel(Cancel { id, force: false }));
        }
    }

    fn start_again(&mut self, run: RunId) {
        let view = self.looked.run.as_ref().filter(|view| view.id == run).or_else(|| self.runs.get(&run));
        let root = self.looked.steps.get(&run.root());
        let (Some(view), Some(root)) = (view.cloned(), root) else {
            self.status = "open the run first: its arguments are not loaded".to_owned();
            return;
        };
        let values: Option<Vec<_>> = root.arguments.iter().map(|argument| argument.value.value.clone()).collect();
        let Some(arguments) = values else {
            self.status = "its arguments are too large to send again from here".to_owned();
            return;
        };
        let scope = Scope { project: view.project, environment: view.environment };
        let submit = Submit { arguments, ..Submit::new(scope, view.target) };
        self.ask(Purpose::Again, Request::Submit(submit));
    }

    fn open_selected(&mut self) {
        match self.screen {
            Screen::Runs => match self.selected_run {
                Some(run) => self.open_run(run, None),
                None if self.runs_known && self.runs.is_empty() => self.start_demo(),
                None => {}
            },
            Screen::List(_) => self.open_listed(),
            Screen::Run(_) if self.looked.on_group => {
                let unfolded = self.looked.selected.is_some_and(|first| self.looked.folds.groups.contains(&first));
                self.fold(unfolded);
            }
            Screen::Run(_) => {
                let Some(step) = self.selected_step() else { return };
                let run = step.newest().and_then(|attempt| attempt.run);
                let (id, folded) = (step.id, self.looked.folds.steps.contains(&step.id));
                match run {
                    Some(run) => self.open_run(run, None),
                    None if folded => self.fold(false),
                    None => {
                        let leaf = self.looked.rows.iter().any(|row| row.key() == (id, false) && !row.has_children);
                        if leaf {
                            self.pane = Pane::Inspector;
                        } else {
                            self.fold(true);
                        }
                    }
                }
            }
        }
    }

    fn start_demo(&mut self) {
        let Some(interpreter) = self.interpreter.clone() else {
            self.status = "no Python interpreter was found: the demo needs python3 on the path".to_owned();
            return;
        };
        self.status = "registering the demo…".to_owned();
        let register = Register {
            scope: Scope { project: "demo".to_owned(), environment: "default".to_owned() },
            modules: vec!["ibid.demo".to_owned()],
            directory: self.data.display().to_string(),
            interpreter: interpreter.display().to_string(),
            variables: self.variables.clone(),
            concurrency: None,
            fork: true,
        };
        self.ask(Purpose::DemoRegister, Request::Register(register));
    }
}

/// The executions that the log pane is about, for its title.
pub fn log_title(model: &Model) -> String {
    if model.looked.on_group {
        return "log: select one call of the group".to_owned();
    }
    let selected = model.looked.selected;
    let of: Option<ExecutionId> = model.looked.log_of;
    match (of, selected) {
        (Some(of), Some(selected)) if of.step != selected => {
            format!("log of {of}, the execution doing the work for {selected}")
        }
        (Some(of), _) => format!("log of {of}"),
        (None, Some(selected)) => format!("log of {selected}"),
        (None, None) => "log".to_owned(),
    }
}
